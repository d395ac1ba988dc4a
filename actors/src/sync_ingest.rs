//! SyncIngest: stores pushes in groups, so that a hundred tills that push one sale each share an fsync.
//!
//! The one actor whose message carries data; the till keeps them until the answer. The transaction belongs to
//! the actor, so a client that hangs up cancels nothing. What a shop should be told of a push is told after its
//! answer. Never here: judging events (see `velox_protocol`).

mod notices;

use crate::Deps;
use crate::handles::{AskError, ChildRef, Identity};
use crate::message::{TracedHandler, Worker, answer};
use crate::metrics::Outcome;
use crate::outbox_pump::{OutboxPump, Wake};
use crate::relay::{Relay, WakeRelay};
use crate::supervised;
use crate::trace;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Message, ResponseActFuture, WrapFuture};
use notices::Notice;
use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};
use velox_protocol::catalogue::{self, Entity};
use velox_protocol::event::Event;
use velox_store::{Error, IngestOutcome, Ingested, NewPush, PushOutcome};

/// Most events of one transaction: beyond it a group gains nothing and its memory grows.
const GROUP_EVENTS: usize = 2_000;
/// Attempts at a group that met another transaction.
const CONFLICT_ATTEMPTS: u32 = 5;
/// Longest wait for an answer; the till repeats then.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Other pods are told of work at most this often: every notification is a transaction of its own.
const NOTIFY_PERIOD: Duration = Duration::from_millis(50);
/// Notices that wait while the database takes those before them: beyond it only the log has them.
const UNTOLD_NOTICES: usize = 200;
/// Most pushes of a group that the span of its writing links to.
const LINKED_PUSHES: usize = 50;

/// Why a push was not answered with outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Nothing was stored, or the outcome is unknown: the same push may come again.
    #[error("the push was not stored or its outcome is unknown")]
    Unavailable,
    /// Too much is under way.
    #[error("too many pushes are under way")]
    Overloaded,
    /// The lease under which it was sent was given to somebody else.
    #[error("the lease of the push has another holder")]
    Fenced,
}

/// A push to be stored.
pub struct Push {
    /// Its events.
    pub push: NewPush,
    /// The request's share of the node's memory, given back when the push is done.
    pub permit: Box<dyn Any + Send>,
}

impl Message for Push {
    type Result = Result<PushOutcome, IngestError>;
}

/// Who has work after a commit.
#[derive(Clone)]
pub struct Wakes {
    /// Projects.
    pub pump: ChildRef<OutboxPump>,
    /// Send to peers.
    pub relays: Vec<ChildRef<Relay>>,
}

/// One of the writers.
pub struct SyncIngest {
    me: Identity,
    deps: Deps,
    wakes: Wakes,
    waiting: VecDeque<Waiting>,
    writing: bool,
    notified: Option<Instant>,
    unannounced: BTreeSet<Entity>,
    telling: bool,
    untold: Vec<Notice>,
}

/// Who waits for an outcome, and what is given back with it.
type Asker = (oneshot::Sender<Result<PushOutcome, IngestError>>, Box<dyn Any + Send>);

struct Waiting {
    push: NewPush,
    answer: oneshot::Sender<Result<PushOutcome, IngestError>>,
    /// The push's own.
    span: Span,
    _permit: Box<dyn Any + Send>,
}

impl SyncIngest {
    /// A writer that wakes these after each commit.
    pub fn new(me: &Identity, deps: Deps, wakes: Wakes) -> Self {
        SyncIngest {
            me: me.clone(),
            deps,
            wakes,
            waiting: VecDeque::new(),
            writing: false,
            notified: None,
            unannounced: BTreeSet::new(),
            telling: false,
            untold: Vec::new(),
        }
    }

    /// Takes whatever waits, up to the bound, and writes it. A lone push never waits for company.
    fn write_next(&mut self, ctx: &mut Context<Self>) {
        if self.writing || self.waiting.is_empty() {
            return;
        }
        let mut group = Vec::new();
        let mut events = 0;
        while let Some(next) = self.waiting.front() {
            events += next.push.events.len();
            // One that is fenced off takes nobody with it, and nobody else waits for a lease.
            let alone = next.push.fence.is_some();
            if (alone || events > GROUP_EVENTS) && !group.is_empty() {
                break;
            }
            group.extend(self.waiting.pop_front());
            if alone {
                break;
            }
        }
        self.writing = true;
        let span = self.writing_span(&group);
        let (pushes, askers): (Vec<NewPush>, Vec<Asker>) =
            group.into_iter().map(|w| (w.push, (w.answer, w._permit))).unzip();
        #[cfg(feature = "sabotage")]
        let askers = answered_too_early(&self.deps, &pushes, askers);
        let deps = self.deps.clone();
        let write = async move {
            let Written { outcomes, requeued } = write_group(&deps, &pushes).await;
            let mut work = stored_entities(&pushes, &outcomes);
            work.extend(requeued);
            let notices = notices::of_group(&pushes, &outcomes);
            for ((asker, _), outcome) in askers.into_iter().zip(outcomes) {
                // A client that hung up needs no answer; its events are stored all the same.
                let _ = asker.send(outcome);
            }
            (work, notices)
        };
        ctx.spawn(write.instrument(span).into_actor(self).map(|(work, notices), me, ctx| {
            me.writing = false;
            me.announce(work, ctx);
            me.tell(notices, ctx);
            me.write_next(ctx);
        }));
    }

    /// The spans of what a peer sent, under the traces of the tills.
    fn take_over(&self, push: &mut NewPush) -> trace::BatchSpans {
        let peer = push.from_peer.clone();
        let work = trace::Work {
            name: <Self as TracedHandler<Push>>::SPAN,
            kind: "internal",
            whole: None,
            actor: self.me.name(),
            peer: peer.as_deref(),
            now: self.deps.clock.now(),
        };
        trace::take_over(&work, push)
    }

    /// A group is written once: under its first push, with links to the others.
    fn writing_span(&self, group: &[Waiting]) -> Span {
        let Some((first, others)) = group.split_first() else {
            return Span::none();
        };
        let (actor, pushes) = (self.me.name(), group.len());
        let span = tracing::debug_span!(parent: &first.span, "sync_ingest.write", actor.name = actor, pushes);
        if !span.is_disabled() {
            for other in others.iter().take(LINKED_PUSHES) {
                span.follows_from(other.span.id());
            }
        }
        span
    }

    /// Tells shops of what was met, one after the other. Nobody waits for it, and no push is undone by it.
    fn tell(&mut self, notices: Vec<Notice>, ctx: &mut Context<Self>) {
        let room = UNTOLD_NOTICES.saturating_sub(self.untold.len());
        if notices.len() > room {
            tracing::warn!(left_out = notices.len() - room, "more was met than shops can be told of");
        }
        self.untold.extend(notices.into_iter().take(room));
        if self.telling || self.untold.is_empty() {
            return;
        }
        self.telling = true;
        let (store, notices) = (self.deps.store.clone(), std::mem::take(&mut self.untold));
        let tell = async move {
            for Notice { store_id, notification } in notices {
                if let Err(error) = store.raise_notification(store_id, &notification).await {
                    let kind = notification.kind;
                    tracing::warn!(error = &error as &dyn std::error::Error, kind, "a shop was not told");
                }
            }
        };
        ctx.spawn(tell.into_actor(self).map(|(), me, ctx| {
            me.telling = false;
            me.tell(Vec::new(), ctx);
        }));
    }

    fn announce(&mut self, stored: BTreeSet<Entity>, ctx: &mut Context<Self>) {
        if stored.is_empty() {
            return;
        }
        // Full or restarting: they look by themselves then. Relays first: most of their time is the network's.
        for relay in &self.wakes.relays {
            let _ = relay.try_tell(WakeRelay);
        }
        let _ = self.wakes.pump.try_tell(Wake { entities: stored.clone() });
        self.unannounced.extend(stored);
        match self.notified {
            Some(_) => {}
            None => {
                self.notified = Some(Instant::now());
                ctx.run_later(NOTIFY_PERIOD, |me, ctx| me.notify(ctx));
            }
        }
    }

    fn notify(&mut self, ctx: &mut Context<Self>) {
        self.notified = None;
        let names: Vec<&str> =
            std::mem::take(&mut self.unannounced).iter().map(|entity| entity.name()).collect();
        let names = format!("{}:{}", self.deps.pod, names.join(","));
        let store = self.deps.store.clone();
        let notify = async move {
            if let Err(error) = store.notify_outbox(&names).await {
                tracing::debug!(%error, "other pods were not told; they poll");
            }
        };
        ctx.spawn(notify.into_actor(self));
    }
}

supervised!(SyncIngest);

impl Actor for SyncIngest {
    type Context = Context<Self>;
}

impl Worker for SyncIngest {
    fn identity(&self) -> &Identity {
        &self.me
    }
}

impl TracedHandler<Push> for SyncIngest {
    const SPAN: &'static str = "sync_ingest.commit";

    fn receive(
        &mut self,
        mut msg: Push,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, <Push as Message>::Result> {
        if msg.push.events.is_empty() {
            return answer(Ok(PushOutcome::default()));
        }
        let (asker, outcome) = oneshot::channel();
        let spans = self.take_over(&mut msg.push);
        let span = Span::current();
        self.waiting.push_back(Waiting { push: msg.push, answer: asker, span, _permit: msg.permit });
        self.write_next(ctx);
        let told = async move {
            let told = outcome.await.unwrap_or(Err(IngestError::Unavailable));
            if let Err(error) = &told {
                spans.failed(error);
            }
            told
        };
        Box::pin(told.into_actor(self))
    }

    fn injected(_: crate::fault::InjectedFault) -> Option<<Push as Message>::Result> {
        Some(Err(IngestError::Unavailable))
    }
}

/// Answers pushes that are not stored yet, where the node is broken on purpose.
#[cfg(feature = "sabotage")]
fn answered_too_early(deps: &Deps, pushes: &[NewPush], askers: Vec<Asker>) -> Vec<Asker> {
    let answered = pushes.iter().zip(askers).map(|(push, (asker, permit))| {
        let Some(outcome) = deps.settings.told_too_early(push) else { return (asker, permit) };
        let _ = asker.send(Ok(outcome));
        // Whom the true outcome is told to: nobody.
        (oneshot::channel().0, permit)
    });
    answered.collect()
}

/// What became of a group's pushes, each by itself.
#[derive(Default)]
struct Written {
    outcomes: Vec<Result<PushOutcome, IngestError>>,
    requeued: BTreeSet<Entity>,
}

impl Written {
    fn add(&mut self, pushes: usize, ingested: Result<Ingested, Error>) {
        match ingested {
            Ok(ingested) => {
                self.outcomes.extend(ingested.pushes.into_iter().map(Ok));
                self.requeued.extend(ingested.requeued);
            }
            Err(error) => {
                let refusal = refused(error);
                self.outcomes.extend(std::iter::repeat_n(Err(refusal), pushes));
            }
        }
    }
}

/// Writes a group; where its data are refused, push by push, so that one push's fault is its own.
async fn write_group(deps: &Deps, pushes: &[NewPush]) -> Written {
    let mut written = Written::default();
    match write(deps, pushes).await {
        Err(Error::Data(error)) if pushes.len() > 1 => {
            tracing::warn!(%error, pushes = pushes.len(), "a group was refused; its pushes are stored one by one");
            for push in pushes {
                written.add(1, write(deps, std::slice::from_ref(push)).await);
            }
        }
        ingested => written.add(pushes.len(), ingested),
    }
    written
}

fn refused(error: Error) -> IngestError {
    if matches!(error, Error::Fenced) {
        tracing::warn!("a push was not stored: its lease has another holder");
        return IngestError::Fenced;
    }
    tracing::error!(error = &error as &dyn std::error::Error, "a push was not stored");
    IngestError::Unavailable
}

/// One transaction, tried again where it met another one.
async fn write(deps: &Deps, pushes: &[NewPush]) -> Result<Ingested, Error> {
    let mut attempt = 1;
    loop {
        let started = Instant::now();
        match deps.store.ingest(pushes).await {
            Ok(ingested) => {
                let metrics = &deps.metrics;
                metrics.ingest_commits.inc();
                metrics.ingest_group_pushes.observe(pushes.len() as f64);
                metrics.ingest_commit_seconds.observe(started.elapsed().as_secs_f64());
                count(deps, &ingested);
                return Ok(ingested);
            }
            Err(error @ Error::Conflict(_)) if attempt < CONFLICT_ATTEMPTS => {
                tracing::debug!(%error, attempt, "a group met another transaction");
                let jitter = rand::random::<f64>() * 0.02;
                tokio::time::sleep(Duration::from_secs_f64(jitter * f64::from(attempt))).await;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn count(deps: &Deps, ingested: &Ingested) {
    let (mut new, mut duplicate, mut other) = (0, 0, 0);
    for outcome in ingested.outcomes() {
        match outcome {
            IngestOutcome::New { .. } => new += 1,
            IngestOutcome::Duplicate => duplicate += 1,
            IngestOutcome::OtherContent => other += 1,
        }
    }
    for (name, count) in [("new", new), ("duplicate", duplicate), ("other_content", other)] {
        if count > 0 {
            deps.metrics.ingest_events.get_or_create(&Outcome { outcome: name.to_owned() }).inc_by(count);
        }
    }
}

fn stored_entities(pushes: &[NewPush], outcomes: &[Result<PushOutcome, IngestError>]) -> BTreeSet<Entity> {
    told(pushes, outcomes)
        .filter(|(_, outcome)| matches!(outcome, IngestOutcome::New { .. }))
        .map(|(event, _)| catalogue::entity(&event.event_type))
        .collect()
}

/// The events of which something is known, push by push.
fn told<'a>(
    pushes: &'a [NewPush],
    outcomes: &'a [Result<PushOutcome, IngestError>],
) -> impl Iterator<Item = (&'a Event, IngestOutcome)> {
    let stored =
        pushes.iter().zip(outcomes).filter_map(|(push, outcome)| Some((push, outcome.as_ref().ok()?)));
    stored.flat_map(|(push, outcome)| {
        push.events.iter().map(|new| &new.event).zip(outcome.events.iter().copied())
    })
}

/// The way into ingest: the least busy of its writers that are up.
#[derive(Clone)]
pub struct Ingest {
    writers: Arc<Vec<(ChildRef<SyncIngest>, AtomicUsize)>>,
}

/// Counts a push as under way until it is dropped, also when the client hangs up.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ingest {
    /// Over these writers.
    pub fn new(writers: Vec<ChildRef<SyncIngest>>) -> Self {
        Ingest {
            writers: Arc::new(writers.into_iter().map(|writer| (writer, AtomicUsize::new(0))).collect()),
        }
    }

    /// Stores a push and answers after the commit.
    ///
    /// # Errors
    /// [`IngestError`]; the same push may come again, under another lease where that was lost.
    pub async fn push(&self, push: NewPush, permit: Box<dyn Any + Send>) -> Result<PushOutcome, IngestError> {
        // One that is being restarted takes nothing, however little it has to do.
        let busyness = |(writer, load): &&(ChildRef<SyncIngest>, AtomicUsize)| {
            (!writer.is_up(), load.load(Ordering::Relaxed))
        };
        let Some((writer, load)) = self.writers.iter().min_by_key(busyness) else {
            return Err(IngestError::Unavailable);
        };
        load.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay(load);
        match writer.ask(Push { push, permit }, ANSWER_LIMIT).await {
            Ok(outcome) => outcome,
            Err(AskError::Full) => Err(IngestError::Overloaded),
            Err(AskError::Restarting | AskError::Lost | AskError::Timeout) => Err(IngestError::Unavailable),
        }
    }
}
