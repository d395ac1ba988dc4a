//! The network between the demo's two nodes: for each direction a TCP proxy that can be cut and healed, on a thread
//! of its own.
//!
//! Never here: any other fault. Those are `velox-chaos`'s, which a node does not contain.

use anyhow::Context as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// A link. Cut, it breaks the connections that are there, and new ones as soon as they are made.
#[derive(Debug)]
pub(super) struct Link {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    /// Dropped, it ends the thread.
    running: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Unknown until the node has started.
    upstream: Option<SocketAddr>,
    cut: bool,
}

impl Link {
    /// A link to nobody yet, on a loopback port of its own.
    pub(super) fn new() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port for a link")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(watch::Sender::new(State::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (running, ended) = oneshot::channel();
        let watched = state.clone();
        let thread = std::thread::Builder::new().name("demo-link".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // Dropped, never sent.
                    _ = ended => {}
                    () = carry(listener, &watched) => {}
                }
            });
        })?;
        Ok(Link { address, state, running: Some(running), thread: Some(thread) })
    }

    /// Where to connect to.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn lead_to(&self, upstream: SocketAddr) {
        self.state.send_modify(|state| state.upstream = Some(upstream));
    }

    pub(super) fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    pub(super) fn heal(&self) {
        self.state.send_modify(|state| state.cut = false);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.state.borrow().cut
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.running = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}

async fn carry(listener: TcpListener, state: &watch::Sender<State>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener that does not block");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of file descriptors, or the client is gone already: the next one may do better.
                if let Ok((client, _)) = accepted {
                    connections.spawn(join(client, state.subscribe()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection until it ends or the link is cut.
async fn join(mut client: TcpStream, mut state: watch::Receiver<State>) {
    let State { upstream, cut } = *state.borrow();
    let mut upstream = match upstream {
        Some(upstream) if !cut => TcpStream::connect(upstream).await.ok(),
        _ => None,
    };
    let broken = match &mut upstream {
        Some(upstream) => tokio::select! {
            _ = state.wait_for(|state| state.cut) => true,
            copied = tokio::io::copy_bidirectional(&mut client, upstream) => copied.is_err(),
        },
        None => true,
    };
    if broken {
        for stream in [Some(&client), upstream.as_ref()].into_iter().flatten() {
            // Of a connection that is gone already.
            let _ = stream.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn echo(listener: &tokio::net::TcpListener) {
        let (mut server, _) = listener.accept().await.expect("a connection");
        let mut byte = [0];
        server.read_exact(&mut byte).await.expect("a byte");
        server.write_all(&byte).await.expect("a client");
        // Until the other side ends it, however it does.
        let _ = server.read(&mut byte).await;
    }

    async fn answered(client: &mut TcpStream) -> std::io::Result<u8> {
        client.write_all(b"x").await?;
        client.read_u8().await
    }

    #[tokio::test]
    async fn a_cut_breaks_what_is_there_and_what_comes_until_the_heal() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let link = Link::new().expect("a link");
        let connect = async || TcpStream::connect(link.address).await.expect("a connection");
        // Broken at once, the client may hear of it while it still connects.
        let is_broken = async || match TcpStream::connect(link.address).await {
            Ok(mut client) => answered(&mut client).await.is_err(),
            Err(_) => true,
        };
        assert!(is_broken().await, "it leads nowhere yet");
        link.lead_to(listener.local_addr().expect("an address"));
        let talk = async {
            let mut client = connect().await;
            assert_eq!(answered(&mut client).await.expect("an answer"), b'x');
            link.cut();
            assert!(client.read_u8().await.is_err(), "it is broken");
        };
        tokio::join!(echo(&listener), talk);
        assert!(link.is_cut() && is_broken().await);
        link.heal();
        let talk = async {
            assert_eq!(answered(&mut connect().await).await.expect("an answer"), b'x');
        };
        tokio::join!(echo(&listener), talk);
    }
}
