//! A TCP proxy in front of PostgreSQL that can keep back what the server answers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The proxy; its threads end with the connections and the process.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Whoever sends this hears no more of the server.
    word: Mutex<Option<String>>,
    /// Both ends of each connection.
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
}

impl Proxy {
    /// A proxy in front of this server, such as `127.0.0.1:5432`.
    pub(crate) fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let (shared, server) = (state.clone(), server.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&server).expect("the server");
                shared.join(client, server);
            }
        });
        Proxy { address, state }
    }

    /// The URL of a database behind the proxy.
    pub(crate) fn url(&self, database_url: &str) -> String {
        database_url.replacen(&server_of(database_url), &self.address.to_string(), 1)
    }

    /// From now on a connection that sends this word hears no more of the server, which hears it.
    pub(crate) fn mute_after(&self, word: &str) {
        *self.state.word.lock().expect("a word") = Some(word.to_owned());
    }

    /// Breaks all connections and lets new ones be.
    pub(crate) fn cut(&self) {
        for (client, server) in self.state.open.lock().expect("a list").drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
        *self.state.word.lock().expect("a word") = None;
    }
}

impl State {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
        self.open.lock().expect("a list").push((copy(&client), copy(&server)));
        let muted = Arc::new(AtomicBool::new(false));
        let (from, to, mutes, state) = (copy(&client), copy(&server), muted.clone(), self.clone());
        std::thread::spawn(move || {
            pass(from, to, |bytes| {
                let word = state.word.lock().expect("a word");
                let said = |word: &String| bytes.windows(word.len()).any(|window| window == word.as_bytes());
                if word.as_ref().is_some_and(said) {
                    mutes.store(true, Ordering::SeqCst);
                }
                true
            });
        });
        std::thread::spawn(move || pass(server, client, |_| !muted.load(Ordering::SeqCst)));
    }
}

/// Passes on what may pass until one side ends.
fn pass(mut from: TcpStream, mut to: TcpStream, may_pass: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if may_pass(&buffer[..length]) && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Host and port of a URL.
pub(crate) fn server_of(database_url: &str) -> String {
    let authority = database_url.rsplit_once('@').expect("a user").1;
    authority.split('/').next().expect("a host").to_owned()
}
