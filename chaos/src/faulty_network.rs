//! A network that fails on demand: a TCP proxy as the link from A to B, switched while it runs.
//!
//! A link is what one side's requests and their answers go through; what B asks of A goes through a link of its
//! own. It has three kinds of faults, which work together:
//!
//! - its [`Wire`] is cut, stalled, or carries one way only: whole connections;
//! - its [`Pace`] is slow, each way by itself;
//! - a [`Rule`] does something to single requests: see [`Fault`].
//!
//! HTTP/1.1 goes through message by message, so an answer comes when it is whole. What is no HTTP/1.1, such as
//! PostgreSQL's or Redis's protocol, goes through byte for byte and knows no rules.
//!
//! A link lives on a thread of its own and its handle never waits, so it serves tests on any runtime and programs
//! without one. To add a fault of requests: a variant of [`Fault`] and its name there, what it does in
//! `connection.rs`, and a test in `chaos/tests/it/` in which a client sees it.
//!
//! Never here: TLS, HTTP/2, chance. When a fault happens is the caller's to decide.

mod connection;
mod journal;
mod message;
mod rules;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub use journal::{Passage, Traffic};
pub use rules::{Alteration, Answer, Fault, Rule, RuleId};

use connection::Connection;
use journal::Journal;
use message::Request;
use rules::Rules;

/// Requests that are kept for a replay; the first ones stay.
const KEPT: usize = 1_000;

/// What a link does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    /// Carries everything.
    #[default]
    Whole,
    /// Breaks the connections that are there, and new ones as soon as they are made.
    Cut,
    /// Requests arrive, answers do not. As everything that is held, they go on when the wire carries them again,
    /// unless their client has gone.
    NoAnswers,
    /// Connections are taken, but requests do not arrive; answers to those that had do.
    NoRequests,
    /// Connections are taken and held, and nothing arrives either way.
    Stalled,
}

/// A direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the upstream: requests.
    There,
    /// From the upstream to the client: answers.
    Back,
}

/// How slow a direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// Wait before each message, or each piece of what is no HTTP.
    pub delay: Duration,
    /// Bytes a second of one connection, by a further wait; none: no limit.
    pub bytes_per_second: Option<u32>,
}

/// A link, until it is dropped: then its port is closed and its connections break.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Requests to deliver again.
    replays: mpsc::UnboundedSender<Request>,
    /// Dropped, it ends the thread.
    running: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a link's connections and its handle share.
#[derive(Debug)]
struct Shared {
    /// Asked in this order; the first that takes a connection has it.
    upstreams: Mutex<Vec<SocketAddr>>,
    wire: watch::Sender<Wire>,
    paces: Mutex<[Pace; 2]>,
    rules: Rules,
    journal: Journal,
    kept: Mutex<Vec<Request>>,
    /// One for this, and one a connection that is open.
    open: Arc<()>,
}

impl Link {
    /// A whole link to this address, on a loopback port of its own.
    ///
    /// # Errors
    /// Where no port or no thread is to be had.
    pub fn to(upstream: SocketAddr) -> io::Result<Self> {
        Link::to_any(vec![upstream])
    }

    /// The same to several pods of one node: a connection goes to the first of them that takes it.
    ///
    /// # Errors
    /// Where no port or no thread is to be had.
    pub fn to_any(upstreams: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstreams: Mutex::new(upstreams),
            wire: watch::Sender::new(Wire::Whole),
            paces: Mutex::default(),
            rules: Rules::default(),
            journal: Journal::default(),
            kept: Mutex::default(),
            open: Arc::default(),
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (replays, asked) = mpsc::unbounded_channel();
        let (running, ended) = oneshot::channel();
        let carried = shared.clone();
        let thread = thread::Builder::new().name(format!("link {}", address.port())).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // Dropped, never sent.
                    _ = ended => {}
                    () = carry(listener, carried, asked) => {}
                }
            });
        })?;
        Ok(Link { address, shared, replays, running: Some(running), thread: Some(thread) })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Leads new connections elsewhere, in this order of preference.
    pub fn lead_to(&self, upstreams: Vec<SocketAddr>) {
        *self.shared.lock_upstreams() = upstreams;
    }

    /// Changes what the wire carries, at once but for the message that is just being written.
    pub fn set(&self, wire: Wire) {
        self.shared.wire.send_replace(wire);
    }

    /// [`Wire::Cut`].
    pub fn cut(&self) {
        self.set(Wire::Cut);
    }

    /// [`Wire::Stalled`].
    pub fn stall(&self) {
        self.set(Wire::Stalled);
    }

    /// A whole wire without rules that is not slow. What [`Fault::Reorder`] still kept back is dropped.
    pub fn heal(&self) {
        self.shared.rules.clear();
        *self.shared.lock_paces() = [Pace::default(); 2];
        self.set(Wire::Whole);
    }

    /// What the wire carries.
    pub fn wire(&self) -> Wire {
        *self.shared.wire.borrow()
    }

    /// Slows a direction down.
    pub fn pace(&self, direction: Direction, pace: Pace) {
        self.shared.lock_paces()[direction as usize] = pace;
    }

    /// A delay of each message in this direction.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.pace(direction, Pace { delay, ..Pace::default() });
    }

    /// Adds a rule; of several that fit a request the first one decides.
    pub fn inject(&self, rule: Rule) -> RuleId {
        self.shared.rules.add(rule)
    }

    /// How many requests a rule has met so far; one that was removed has met none.
    pub fn hits(&self, rule: RuleId) -> u64 {
        self.shared.rules.hits(rule)
    }

    /// Removes a rule, with what it still kept back.
    pub fn remove(&self, rule: RuleId) {
        self.shared.rules.remove(rule);
    }

    /// Sends what [`Fault::Keep`] has kept to the upstream again, in its order. Returns at once: each shows in the log
    /// when it has been answered, as method, path and `replay`.
    pub fn replay(&self) {
        for request in self.shared.lock_kept().iter() {
            // A thread that has died has shown its panic.
            let _ = self.replays.send(request.clone());
        }
    }

    /// The last requests in the order of their coming, 10,000 at most.
    pub fn log(&self) -> Vec<Passage> {
        self.shared.journal.passages()
    }

    /// Everything so far in numbers.
    pub fn traffic(&self) -> Traffic {
        self.shared.journal.traffic()
    }

    /// How many connections of clients are open.
    pub fn open_connections(&self) -> usize {
        Arc::strong_count(&self.shared.open) - 1
    }

    /// Empties the log and sets the numbers to 0.
    pub fn forget(&self) {
        self.shared.journal.clear();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.running = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed where it happened.
            let _ = thread.join();
        }
    }
}

impl Wire {
    fn carries(self, direction: Direction) -> bool {
        match direction {
            Direction::There => matches!(self, Wire::Whole | Wire::NoAnswers),
            Direction::Back => matches!(self, Wire::Whole | Wire::NoRequests),
        }
    }
}

impl Shared {
    /// Returns when so many bytes may go this way.
    async fn admit(&self, direction: Direction, bytes: usize) {
        let pace = self.lock_paces()[direction as usize];
        let mut wait = pace.delay;
        if let Some(rate) = pace.bytes_per_second {
            wait += Duration::from_secs_f64(bytes as f64 / f64::from(rate.max(1)));
        }
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        self.carrying(direction).await;
    }

    /// Returns when the wire carries this way.
    async fn carrying(&self, direction: Direction) {
        let mut wire = self.wire.subscribe();
        // Its sender lives as long as we do.
        let _ = wire.wait_for(|wire| wire.carries(direction)).await;
    }

    /// Returns when the wire is cut.
    async fn cut(&self) {
        let mut wire = self.wire.subscribe();
        let _ = wire.wait_for(|wire| *wire == Wire::Cut).await;
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let upstreams = self.lock_upstreams().clone();
        let mut failed = io::ErrorKind::NotConnected.into();
        for upstream in upstreams {
            match TcpStream::connect(upstream).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn keep(&self, request: &Request) {
        let mut kept = self.lock_kept();
        if kept.len() < KEPT {
            kept.push(request.clone());
        }
    }

    fn lock_upstreams(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_paces(&self) -> MutexGuard<'_, [Pace; 2]> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_kept(&self) -> MutexGuard<'_, Vec<Request>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes connections for ever.
async fn carry(listener: TcpListener, shared: Arc<Shared>, mut replays: mpsc::UnboundedReceiver<Request>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener that does not block");
    let mut connections = JoinSet::new();
    let replayed = shared.clone();
    connections.spawn(async move {
        // One after the other, so that their order holds.
        while let Some(request) = replays.recv().await {
            connection::replay(&replayed, &request).await;
        }
    });
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of file descriptors, or the client is gone already: the next one may do better.
                if let Ok((client, _)) = accepted {
                    shared.journal.connected();
                    connections.spawn(Connection::new(client, shared.clone()).run());
                }
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}
