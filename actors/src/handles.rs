//! What the rest of the node holds of an actor: a handle that outlives its restarts, and the figures kept about it.
//!
//! Never here: an actor's address given away (it dies with one incarnation, and every clone of it adds a slot to the
//! mailbox's bound), and decisions about restarts (`supervisor`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Addr, Context, Message, dev::SendError};
use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

use crate::{
    fault::Faults,
    message::{Traced, TracedHandler},
};

/// Longest text kept as an actor's last error, in bytes: a panic may quote a whole payload.
pub const MAX_ERROR_LEN: usize = 1_000;

/// Why a message brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Not sent: the actor is being (re)started or is stopped. Safe to send again.
    #[error("the actor is restarting")]
    Restarting,
    /// Not sent: the actor's mailbox is full. Safe to send again, later.
    #[error("the actor's mailbox is full")]
    Full,
    /// Sent, and the actor died or threw the message away: the work may or may not have been done.
    #[error("the actor was lost before it answered")]
    Lost,
    /// Sent, and no answer within the limit: the work may still be done.
    #[error("the actor did not answer in time")]
    Timeout,
}

/// A stable handle to a child of a supervisor. Clones are cheap and all follow the child through its restarts.
pub struct ChildRef<A: Actor> {
    slot: Arc<Slot<A>>,
}

/// The place that a child's incarnations occupy one after the other.
pub(crate) struct Slot<A: Actor> {
    addr: ArcSwapOption<Addr<A>>,
    generation: watch::Sender<u64>,
    stats: Arc<ActorStats>,
}

/// What an actor knows of itself: handed to its factory at each start, to be kept in the actor.
#[derive(Debug, Clone)]
pub struct Identity {
    stats: Arc<ActorStats>,
    faults: Faults,
}

/// Whether a node of the tree supervises or works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Restarts its children, does nothing else.
    Supervisor,
    /// Does the work.
    Worker,
}

/// Where a child stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Told to start, not yet there.
    Starting,
    /// Takes messages.
    Running,
    /// Died; waits for its back-off to pass.
    Restarting,
    /// Ended on purpose, or with its supervisor.
    Stopped,
    /// A supervisor that gave up.
    Failed,
}

/// The live figures of one child. Shared by all its incarnations, so restarts do not reset them.
#[derive(Debug)]
pub struct ActorStats {
    name: Arc<str>,
    kind: Kind,
    children: Vec<Arc<ActorStats>>,
    state: AtomicU8,
    starts: AtomicU64,
    queued: AtomicUsize,
    jobs: Mutex<Jobs>,
    handled: AtomicU64,
    last_error: ArcSwapOption<String>,
    idle: Notify,
}

/// The pieces of work under way, with the last sign of life of each.
#[derive(Debug, Default)]
struct Jobs {
    begun: u64,
    /// The last one of an earlier life, which may be left behind on a blocked thread.
    of_before: u64,
    under_way: BTreeMap<u64, Instant>,
}

/// A piece of work under way. Counts as handled when it is [`done`](InFlight::done), as given up when dropped.
#[derive(Debug)]
#[must_use = "the work counts as ended when this is dropped"]
pub struct InFlight {
    stats: Arc<ActorStats>,
    job: u64,
}

/// A message that waits in a mailbox; dropping it takes it off the count, whoever drops it.
#[derive(Debug)]
pub(crate) struct Queued(Arc<ActorStats>);

/// One node of the tree as `GET /admin/actors` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorNode {
    /// Unique in the tree; the same in spans, faults and metrics.
    pub name: String,
    /// Supervisor or worker.
    pub kind: Kind,
    /// Where it stands in its life.
    pub state: State,
    /// Messages sent and not yet begun.
    pub mailbox: usize,
    /// Messages (or pieces of own work) carried to their end since the node started.
    pub handled: u64,
    /// Starts after the first.
    pub restarts: u64,
    /// Text of the last failure, kept after a successful restart.
    pub last_error: Option<String>,
    /// In start order; empty for workers.
    pub children: Vec<ActorNode>,
}

/// The whole live tree, readable without asking any actor. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Tree(Arc<ActorStats>);

impl<A: Actor> Clone for ChildRef<A> {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> ChildRef<A> {
    pub(crate) fn new(slot: Arc<Slot<A>>) -> Self {
        Self { slot }
    }

    /// Sends without waiting: the right way for wake-ups. Fails with `Restarting` or `Full`, never blocks.
    pub fn try_tell<M>(&self, msg: M) -> Result<(), AskError>
    where
        A: TracedHandler<M> + actix::Handler<Traced<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.send(msg, None)
    }

    /// Sends and waits at most `limit` for the answer. The work goes on when the asker gives up.
    pub async fn ask<M>(&self, msg: M, limit: Duration) -> Result<M::Result, AskError>
    where
        A: TracedHandler<M> + actix::Handler<Traced<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let (reply, answer) = oneshot::channel();
        self.send(msg, Some(reply))?;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|_| AskError::Lost),
            Err(_) => Err(AskError::Timeout),
        }
    }

    /// Whether a message sent now would reach a living actor.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.slot.addr.load().as_ref().is_some_and(|addr| addr.connected())
    }

    /// Number of the newest incarnation that came up, from 1; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        *self.slot.generation.borrow()
    }

    /// Waits until the actor is up; false when `limit` passed first.
    pub async fn ready(&self, limit: Duration) -> bool {
        self.ready_since(0, limit).await
    }

    /// Waits until incarnation number `generation` or a later one is up; false when `limit` passed first.
    pub async fn ready_since(&self, generation: u64, limit: Duration) -> bool {
        let mut starts = self.slot.generation.subscribe();
        let up = async {
            while *starts.borrow_and_update() < generation || !self.is_up() {
                // Cannot fail: the sender lives in the slot that self holds.
                if starts.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(limit, up).await.unwrap_or(false)
    }

    /// The child's figures.
    #[must_use]
    pub fn stats(&self) -> &Arc<ActorStats> {
        &self.slot.stats
    }

    fn send<M>(&self, msg: M, reply: Option<oneshot::Sender<M::Result>>) -> Result<(), AskError>
    where
        A: TracedHandler<M> + actix::Handler<Traced<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let addr = self.slot.addr.load();
        let addr = addr.as_ref().ok_or(AskError::Restarting)?;
        // try_send through the one shared address is the only way that keeps the mailbox's bound.
        addr.try_send(Traced::addressed(msg, reply, Queued::new(&self.slot.stats))).map_err(|refused| {
            match refused {
                SendError::Full(_) => AskError::Full,
                SendError::Closed(_) => AskError::Restarting,
            }
        })
    }
}

impl<A: Actor> Slot<A> {
    pub(crate) fn new(stats: Arc<ActorStats>) -> Self {
        Self { addr: ArcSwapOption::empty(), generation: watch::Sender::new(0), stats }
    }

    pub(crate) fn fill(&self, addr: Arc<Addr<A>>) {
        self.addr.store(Some(addr));
        self.stats.set_state(State::Running);
        self.generation.send_modify(|n| *n += 1);
    }

    /// Empties the slot if `addr` still fills it: a late end must not hide its successor.
    pub(crate) fn leave(&self, addr: &Arc<Addr<A>>) {
        self.addr.compare_and_swap(&Some(addr.clone()), None);
    }

    pub(crate) fn empty(&self) -> Option<Arc<Addr<A>>> {
        self.addr.swap(None)
    }
}

impl Identity {
    pub(crate) fn new(stats: Arc<ActorStats>, faults: Faults) -> Self {
        Self { stats, faults }
    }

    /// The actor's name, unique in the tree.
    #[must_use]
    pub fn name(&self) -> &str {
        self.stats.name()
    }

    /// The actor's figures.
    #[must_use]
    pub fn stats(&self) -> &Arc<ActorStats> {
        &self.stats
    }

    /// The registry to ask for injected faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl ActorStats {
    pub(crate) fn new(name: &str, kind: Kind, children: Vec<Arc<ActorStats>>) -> Self {
        Self {
            name: name.into(),
            kind,
            children,
            state: AtomicU8::new(State::Starting as u8),
            starts: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            jobs: Mutex::default(),
            handled: AtomicU64::new(0),
            last_error: ArcSwapOption::empty(),
            idle: Notify::new(),
        }
    }

    /// The actor's name, unique in the tree.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the actor stands in its life.
    #[must_use]
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            x if x == State::Starting as u8 => State::Starting,
            x if x == State::Running as u8 => State::Running,
            x if x == State::Restarting as u8 => State::Restarting,
            x if x == State::Stopped as u8 => State::Stopped,
            _ => State::Failed,
        }
    }

    /// Pieces of work under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.jobs().under_way.len()
    }

    /// Marks the begin of a piece of work. The message envelope does this for messages; an actor that works on its
    /// own timer does it itself, so that a drain waits for it and a watchdog sees it hang.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        let mut jobs = self.jobs();
        jobs.begun += 1;
        let job = jobs.begun;
        jobs.under_way.insert(job, Instant::now());
        InFlight { stats: self.clone(), job }
    }

    /// Gives signs of life of the piece of work that was begun last, as a handler's own is at its beginning: for work
    /// that takes longer than anything may that hangs.
    pub fn signs_of_life(self: &Arc<Self>) -> impl Fn() + Send + Sync + use<> {
        let (stats, job) = (self.clone(), self.jobs().begun);
        move || {
            if let Some(seen) = stats.jobs().under_way.get_mut(&job) {
                *seen = Instant::now();
            }
        }
    }

    /// Notes a failure that the actor survived (deaths are noted by its supervisor).
    pub fn note_error(&self, error: impl std::fmt::Display) {
        let mut text = error.to_string();
        if text.len() > MAX_ERROR_LEN {
            let cut = (0..=MAX_ERROR_LEN).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(cut);
        }
        self.last_error.store(Some(Arc::new(text)));
    }

    /// Waits until no work is under way.
    pub async fn idle(&self) {
        loop {
            // Made before the count is read: an end in between then wakes it.
            let changed = self.idle.notified();
            if self.in_flight() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// The figures of this actor and of all below it.
    #[must_use]
    pub fn snapshot(&self) -> ActorNode {
        ActorNode {
            name: self.name().to_owned(),
            kind: self.kind,
            state: self.state(),
            mailbox: self.queued.load(Ordering::Acquire),
            handled: self.handled.load(Ordering::Acquire),
            restarts: self.starts.load(Ordering::Acquire).saturating_sub(1),
            last_error: self.last_error.load().as_deref().cloned(),
            children: self.children.iter().map(|child| child.snapshot()).collect(),
        }
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    pub(crate) fn note_start(&self) {
        let mut jobs = self.jobs();
        jobs.of_before = jobs.begun;
        drop(jobs);
        self.starts.fetch_add(1, Ordering::AcqRel);
        self.set_state(State::Starting);
    }

    /// The oldest sign of life among the pieces of work under way; `None` while there is none to get stuck in.
    pub(crate) fn oldest_sign(&self) -> Option<Instant> {
        let jobs = self.jobs();
        jobs.under_way.range(jobs.of_before + 1..).map(|(_, seen)| *seen).min()
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // Whole after each line that holds it.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    /// The work came to its end, good or bad.
    pub fn done(self) {
        self.stats.handled.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let is_last = {
            let mut jobs = self.stats.jobs();
            jobs.under_way.remove(&self.job);
            jobs.under_way.is_empty()
        };
        if is_last {
            self.stats.idle.notify_waiters();
        }
    }
}

impl Queued {
    fn new(stats: &Arc<ActorStats>) -> Self {
        stats.queued.fetch_add(1, Ordering::AcqRel);
        Self(stats.clone())
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Tree {
    pub(crate) fn new(root: Arc<ActorStats>) -> Self {
        Self(root)
    }

    /// The tree as it stands now.
    #[must_use]
    pub fn snapshot(&self) -> ActorNode {
        self.0.snapshot()
    }

    /// Names of the actors, supervisors too, that do not run now; empty when the node is ready.
    #[must_use]
    pub fn down(&self) -> Vec<String> {
        let down = |stats: &&ActorStats| stats.state() != State::Running;
        self.all().into_iter().filter(down).map(|stats| stats.name().to_owned()).collect()
    }

    /// Whether an actor of that name is in the tree.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.all().iter().any(|stats| stats.name() == name)
    }

    fn all(&self) -> Vec<&ActorStats> {
        let mut all: Vec<&ActorStats> = vec![&self.0];
        let mut next = 0;
        while let Some(stats) = all.get(next).copied() {
            all.extend(stats.children.iter().map(AsRef::as_ref));
            next += 1;
        }
        all
    }
}
