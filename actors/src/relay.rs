//! Relay: one a peer. Sends the events that wait for it, through its breaker, and marks what the peer names.
//!
//! One exchange at a time, so that what comes first in the queue is there first. A peer's outage costs an entry
//! nothing: only the peer's own refusal of an event spends its retries. Never here: how a peer is spoken to (see
//! [`crate::peer`]), or what is queued for it.

mod debts;
mod step;
mod view;

use crate::Deps;
use crate::breaker::{Admission, Breaker, BreakerState, Exchange};
use crate::handles::{ChildRef, Identity};
use crate::message::{Traced, TracedHandler, Worker, answer};
use crate::peer::{Failure, Peer};
use crate::supervised;
use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Message, ResponseActFuture, SpawnHandle, WrapFuture,
};
use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use velox_store::OutboxDone;

use debts::AskedDebts;
pub use step::Wire;
use step::{Delivery, Done, Step};
pub use view::{RelayStatus, RelayView};

/// Wait after this node's own database failed.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two trials with nothing to send.
const TRIAL_PERIOD: Duration = Duration::from_secs(1);
/// Wait after the first failure while the breaker is closed, and the longest one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Nonces are kept for twice the time in which a request is taken: a peer's clock may be ahead by as much.
const NONCES_KEPT: Duration = Duration::from_secs(1_200);
/// How often what was done is added up.
const STATS: Duration = Duration::from_secs(3);
/// How often old deliveries are cleaned up.
const CLEAN_UP: Duration = Duration::from_secs(3_600);
/// How often is noted that it goes well: for people, who need no more.
const CONTACT_NOTED: Duration = Duration::from_secs(5);
/// How often is looked whether this node is still who it was.
const OWN_IDENTITY: Duration = Duration::from_secs(60);

/// There may be events for the peer.
#[derive(Debug, Clone, Copy)]
pub struct WakeRelay;

impl Message for WakeRelay {
    type Result = ();
}

/// Payments may wait for debts that a v1 peer knows.
#[derive(Debug, Clone, Copy)]
pub struct AskDebts;

impl Message for AskDebts {
    type Result = ();
}

/// Who is told that a breaker has closed.
pub type OnClosed = Arc<dyn Fn(&Arc<Peer>) + Send + Sync>;

/// The way to a relay, with what it shows.
#[derive(Clone)]
pub struct RelayHandle {
    /// The actor.
    pub relay: ChildRef<Relay>,
    /// How it goes; outlives its restarts.
    pub view: Arc<RelayView>,
    /// How its peer is spoken to.
    pub wire: Wire,
}

/// Sends one peer its events.
pub struct Relay {
    me: Identity,
    deps: Deps,
    wire: Wire,
    view: Arc<RelayView>,
    on_closed: OnClosed,
    breaker: Breaker,
    /// The breaker's state of before a restart has been read.
    restored: bool,
    running: bool,
    again: bool,
    draining: bool,
    /// Who the peer is is being noted.
    noting: bool,
    /// When it was last noted that it goes well.
    noted_at: Option<Instant>,
    delivery: Delivery,
    debts: AskedDebts,
    backoff: ExponentialBackoff,
    timer: Option<SpawnHandle>,
}

impl Relay {
    /// A relay over this wire.
    pub fn new(me: &Identity, deps: Deps, wire: Wire, view: Arc<RelayView>, on_closed: OnClosed) -> Self {
        let delivery = Delivery::new(wire.batch());
        let delivery = if wire.own().is_some() { delivery.greeting() } else { delivery };
        Relay {
            me: me.clone(),
            breaker: Breaker::new(deps.settings.breaker),
            deps,
            wire,
            view,
            on_closed,
            restored: false,
            running: false,
            again: false,
            draining: false,
            noting: false,
            noted_at: None,
            delivery,
            debts: AskedDebts::default(),
            backoff: first_backoff(),
            timer: None,
        }
    }

    fn peer(&self) -> &Arc<Peer> {
        self.wire.peer()
    }

    /// Does what the breaker admits, unless something is under way.
    fn drive(&mut self, ctx: &mut Context<Self>) {
        if self.draining || self.running {
            self.again = true;
            return;
        }
        self.again = false;
        let before = self.breaker.state().name();
        let admission = self.breaker.admit(Instant::now());
        if self.breaker.state().name() != before {
            self.changed(before, "its time is over", ctx);
        }
        let step = match admission {
            Admission::NotBefore(until) => return self.later(until - Instant::now(), ctx),
            Admission::All if self.delivery.wants_trial => Step::Check,
            // One event that the peer fails at must not hold the breaker open.
            Admission::Trial if self.delivery.wants_trial || self.delivery.has_suspects() => Step::Trial,
            Admission::Trial | Admission::All => Step::Deliver,
        };
        self.perform(step, ctx);
    }

    fn perform(&mut self, step: Step, ctx: &mut Context<Self>) {
        self.running = true;
        let busy = self.me.stats().begin();
        let work = step.run(self.deps.clone(), self.wire.clone(), self.view.clone(), self.delivery.clone());
        ctx.spawn(work.into_actor(self).map(move |done, me, ctx| {
            busy.done();
            me.running = false;
            me.settle(done, ctx);
            me.note_identity(ctx);
        }));
    }

    fn settle(&mut self, done: Done, ctx: &mut Context<Self>) {
        match done {
            Done::Nothing => self.idle(ctx),
            Done::Delivered { more, taken } => {
                self.delivery.went_well(&taken);
                self.record(Exchange::Success, "", ctx);
                let half_open = self.breaker.state().name() == "HALF_OPEN";
                if more || half_open || self.again || self.delivery.is_cautious() {
                    self.drive(ctx);
                }
            }
            Done::Tried => {
                self.delivery.tried();
                self.record(Exchange::Success, "", ctx);
                match self.breaker.state().name() {
                    "CLOSED" => self.drive(ctx),
                    _ => self.later(TRIAL_PERIOD, ctx),
                }
            }
            Done::Answers => {
                self.delivery.tried();
                self.later(self.backoff.current_interval, ctx);
            }
            Done::PutAside => self.drive(ctx),
            Done::PutOff(suspect) => {
                self.delivery.puts_off(suspect);
                self.drive(ctx);
            }
            Done::TooLarge => {
                self.delivery.halve();
                self.drive(ctx);
            }
            Done::Failed { failure, suspect } => self.failed(&failure, suspect, ctx),
            Done::Unavailable(error) => {
                self.me.stats().note_error(&error);
                tracing::warn!(peer = self.peer().name, error, "the relay waits for the database");
                self.later(PAUSE, ctx);
            }
        }
    }

    /// Nothing is due. A half-open breaker closes all the same.
    fn idle(&mut self, ctx: &mut Context<Self>) {
        if self.breaker.state().name() == "HALF_OPEN" {
            self.delivery.wants_trial = true;
        }
        if self.again || self.delivery.wants_trial {
            self.drive(ctx);
        }
    }

    fn failed(&mut self, failure: &Failure, suspect: Option<step::Suspect>, ctx: &mut Context<Self>) {
        self.me.stats().note_error(failure);
        tracing::debug!(peer = self.peer().name, %failure, "an exchange with the peer failed");
        self.view.failed(failure, self.deps.clock.now());
        let answered = !matches!(failure, Failure::Unreachable(_) | Failure::Timeout);
        self.note_contact(Some((failure.to_string(), answered)), ctx);
        let was_delivery = !self.delivery.wants_trial;
        self.delivery.went_badly(failure, suspect);
        self.record(Exchange::Failure, &failure.to_string(), ctx);
        let wait = match (failure.retry_after(), self.breaker.state()) {
            (Some(asked), _) => asked,
            // The breaker knows how long.
            (None, BreakerState::Open { .. }) => Duration::ZERO,
            // Whether the peer or the request is at fault is found out at once.
            (None, _) if was_delivery => Duration::ZERO,
            (None, _) => self.backoff.next_backoff().unwrap_or(LONGEST_WAIT),
        };
        self.later(wait, ctx);
    }

    fn record(&mut self, exchange: Exchange, reason: &str, ctx: &mut Context<Self>) {
        if exchange == Exchange::Success {
            self.backoff = first_backoff();
            self.view.succeeded(self.deps.clock.now());
            let now = Instant::now();
            if self.noted_at.is_none_or(|at| now.duration_since(at) > CONTACT_NOTED) {
                self.noted_at = Some(now);
                self.note_contact(None, ctx);
            }
        }
        let before = self.breaker.state().name();
        if self.breaker.record(exchange, Instant::now()) {
            self.changed(before, reason, ctx);
        }
    }

    fn changed(&mut self, before: &str, reason: &str, ctx: &mut Context<Self>) {
        let (state, peer) = (self.breaker.state(), self.peer().clone());
        tracing::warn!(
            peer = peer.name,
            from = before,
            to = state.name(),
            reason,
            "the circuit breaker changed"
        );
        self.view.breaker(state);
        self.deps
            .metrics
            .breaker_changes
            .get_or_create(&crate::metrics::Outcome { outcome: state.name().to_ascii_lowercase() })
            .inc();
        self.keep(ctx);
        if state.name() == "CLOSED" {
            (self.on_closed)(&peer);
            self.ask_debts(ctx);
        }
    }

    /// Notes for all pods, and for after a restart, how it went: well, or with an error and whether it was an answer.
    fn note_contact(&mut self, error: Option<(String, bool)>, ctx: &mut Context<Self>) {
        if error.is_some() {
            self.noted_at = None;
        }
        let (store, name) = (self.deps.store.clone(), self.peer().name.clone());
        let note = async move {
            let noted = match error {
                None => store.note_peer_success(&name).await,
                Some((error, answered)) => store.note_peer_error(&name, &error, answered).await,
            };
            if let Err(error) = noted {
                tracing::debug!(%error, peer = name, "how it went with the peer was not noted");
            }
        };
        ctx.spawn(note.into_actor(self));
    }

    /// Takes note of what the peer says of itself. One whose database was restored lacks what it was sent since, so logs
    /// are compared at once.
    fn note_identity(&mut self, ctx: &mut Context<Self>) {
        let Some(heard) = self.view.unnoted().filter(|_| !self.noting) else { return };
        self.noting = true;
        let (store, name) = (self.deps.store.clone(), self.peer().name.clone());
        let note =
            async move { (store.note_peer_identity(&name, &heard.node_id, heard.incarnation).await, heard) };
        ctx.spawn(note.into_actor(self).map(|(before, heard), me, _| {
            me.noting = false;
            let peer = me.peer().clone();
            match before {
                Ok(Some((node_id, _))) => {
                    let same_node = node_id == heard.node_id;
                    tracing::warn!(
                        peer = peer.name,
                        node_id = heard.node_id,
                        same_node,
                        "the peer has another database than before"
                    );
                    (me.on_closed)(&peer);
                    me.view.noted(heard);
                }
                Ok(None) => me.view.noted(heard),
                // It is told again.
                Err(error) => tracing::warn!(%error, peer = peer.name, "who the peer is was not noted"),
            }
        }));
    }

    /// Another pod may have found that this node's own database was restored.
    fn refresh_own(&self, ctx: &mut Context<Self>) {
        let Some(own) = self.wire.own().cloned() else { return };
        let store = self.deps.store.clone();
        let refresh = async move {
            if let Err(error) = own.refresh(&store).await {
                tracing::debug!(%error, "this node's identity was not read again");
            }
        };
        ctx.spawn(refresh.into_actor(self));
    }

    /// Looks again after a wait; a wake-up does not shorten it.
    fn later(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.running = true;
        self.timer = Some(ctx.run_later(wait, |me, ctx| {
            me.timer = None;
            me.running = false;
            me.drive(ctx);
        }));
    }

    /// Writes the breaker's state down, for after a restart.
    fn keep(&self, ctx: &mut Context<Self>) {
        let (store, state) = (self.deps.store.clone(), self.breaker.state());
        let name = self.peer().name.clone();
        let keep = async move { step::keep_breaker(&store, &name, state).await };
        ctx.spawn(keep.into_actor(self));
    }

    /// Reads where the breaker stood before a restart, then begins.
    fn restore(&mut self, ctx: &mut Context<Self>) {
        let (store, name) = (self.deps.store.clone(), self.peer().name.clone());
        let policy = self.deps.settings.breaker;
        self.running = true;
        let read = async move { step::kept_breaker(&store, &name, policy).await };
        ctx.spawn(read.into_actor(self).map(|kept, me, ctx| match kept {
            Ok(kept) => {
                me.restored = true;
                me.running = false;
                me.breaker = kept.unwrap_or(me.breaker);
                me.view.breaker(me.breaker.state());
                me.drive(ctx);
                me.ask_debts(ctx);
            }
            Err(error) => {
                tracing::warn!(%error, "the breaker's state could not be read");
                ctx.run_later(PAUSE, Self::restore);
            }
        }));
    }

    /// Adds what was done to the statistics of the minute. Lost, it is missing in a figure.
    fn keep_stats(&self, ctx: &mut Context<Self>) {
        let work = self.view.take_work();
        if work == OutboxDone::default() {
            return;
        }
        let (store, peer) = (self.deps.store.clone(), self.peer().name.clone());
        let keep = async move {
            if let Err(error) = store.add_outbox_stats("federation-relay", &peer, work).await {
                tracing::debug!(%error, peer, "what was relayed was not added up");
            }
        };
        ctx.spawn(keep.into_actor(self));
    }

    fn clean_up(&self, ctx: &mut Context<Self>) {
        let store = self.deps.store.clone();
        let clean = async move {
            let cleaned = async {
                store.clean_deliveries().await?;
                store.clean_nonces(NONCES_KEPT).await
            };
            if let Err(error) = cleaned.await {
                tracing::warn!(%error, "old deliveries and nonces were not cleaned up");
            }
        };
        ctx.spawn(clean.into_actor(self));
    }
}

fn first_backoff() -> ExponentialBackoff {
    ExponentialBackoff {
        current_interval: FIRST_WAIT,
        initial_interval: FIRST_WAIT,
        max_interval: LONGEST_WAIT,
        multiplier: 2.0,
        randomization_factor: 0.2,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    }
}

supervised!(Relay);

impl Actor for Relay {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.restore(ctx);
        ctx.run_interval(self.deps.settings.outbox_poll, |_, ctx| ctx.notify(Traced::new(WakeRelay)));
        ctx.run_interval(STATS, |me, ctx| me.keep_stats(ctx));
        ctx.run_interval(CLEAN_UP, |me, ctx| me.clean_up(ctx));
        ctx.run_interval(OWN_IDENTITY, |me, ctx| me.refresh_own(ctx));
        ctx.run_interval(debts::AGAIN, |me, ctx| me.ask_debts(ctx));
    }
}

impl Worker for Relay {
    fn identity(&self) -> &Identity {
        &self.me
    }

    fn drain(&mut self, _: Duration, ctx: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        self.draining = true;
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        answer(())
    }
}

impl TracedHandler<WakeRelay> for Relay {
    const SPAN: &'static str = "relay.wake";

    fn receive(&mut self, _: WakeRelay, ctx: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        self.note_identity(ctx);
        if self.restored {
            self.drive(ctx);
        }
        answer(())
    }
}

impl TracedHandler<AskDebts> for Relay {
    const SPAN: &'static str = "relay.ask_debts";

    fn receive(&mut self, _: AskDebts, ctx: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        self.ask_debts(ctx);
        answer(())
    }
}
