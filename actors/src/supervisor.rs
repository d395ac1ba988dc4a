//! One-for-one supervision that survives what actix's own does not: panics, in handlers, at start, while stopping and
//! while being dropped; factories that fail; arbiters that die; handlers that hang.
//!
//! A supervisor is an actor and can be the child of another. A child that ends for whatever reason gets a fresh
//! incarnation after a back-off; one that ends too often takes its supervisor down with it, which *its* supervisor
//! restarts, up to the root, whose failure is the process's to act on. Never here: which actors there are (`tree`),
//! what they do, and any retry of work; a failure outside the process is waited out by the actor that met it.

mod incarnation;
mod spec;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use actix::{Actor, ActorFutureExt, Arbiter, AsyncContext, Context, Handler, ResponseActFuture, WrapFuture};
use backoff::{ExponentialBackoffBuilder, backoff::Backoff};
use futures_util::{
    FutureExt,
    future::{AbortHandle, BoxFuture, Shared},
};
use tokio::time::Instant;

pub use self::incarnation::Exit;
pub use self::spec::{ChildSpec, DEFAULT_MAILBOX, DEFAULT_STOP_LIMIT, Made, Place};
use self::{incarnation::Escalated, spec::ABORT_LIMIT};
use crate::{
    handles::{Identity, State, Tree},
    message::{self, Drain, Worker},
};

/// How often a supervisor looks for hung children.
const WATCH_PERIOD: Duration = Duration::from_millis(250);

/// Doublings after which the back-off stays at its maximum, whatever the policy's numbers.
const MAX_DOUBLINGS: u32 = 16;

/// When a supervisor restarts a child, and when it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Intensity: one restart more than this in `within` is an escalation.
    pub max_restarts: usize,
    /// Period of the intensity, and the length of a run that makes a child count as healthy again.
    pub within: Duration,
    /// Wait before the first restart.
    pub backoff_min: Duration,
    /// Longest wait before a restart.
    pub backoff_max: Duration,
}

/// The supervising actor. Made by [`ChildSpec::supervisor`] and [`Root::start`] only.
pub struct Supervisor {
    identity: Identity,
    policy: Policy,
    children: Vec<Child>,
    ends: VecDeque<Instant>,
    stopping: bool,
}

/// A child as its supervisor sees it.
struct Child {
    spec: ChildSpec,
    abort: Option<AbortHandle>,
    // Counts launches, so that a report of an incarnation that was given up is not taken for its successor's.
    launch: u64,
    // Deaths in a row without a healthy run between them.
    streak: u32,
    started: Instant,
    hung_since: Option<Instant>,
}

/// The running tree. Dropping it stops nothing: call [`stop`](Root::stop).
#[must_use = "an escalation to the root has to be watched with `failed`"]
pub struct Root {
    spec: ChildSpec,
    abort: AbortHandle,
    exit: Shared<BoxFuture<'static, Exit>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_restarts: 5,
            within: Duration::from_secs(60),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
        }
    }
}

impl Policy {
    /// Wait before the restart after `streak` deaths in a row. The one place that knows the `backoff` crate.
    fn restart_delay(&self, streak: u32) -> Duration {
        let mut delays = ExponentialBackoffBuilder::new()
            .with_initial_interval(self.backoff_min)
            .with_max_interval(self.backoff_max)
            .with_multiplier(2.0)
            .with_max_elapsed_time(None)
            .build();
        let delay = (0..streak.clamp(1, MAX_DOUBLINGS))
            .fold(self.backoff_min, |last, _| delays.next_backoff().unwrap_or(last));
        // Jitter goes both ways from the interval; the maximum is meant as one.
        delay.min(self.backoff_max)
    }
}

impl Root {
    /// Starts the tree on the current arbiter.
    ///
    /// # Panics
    /// Outside of an actix system.
    pub fn start(name: &str, policy: Policy, children: Vec<ChildSpec>) -> Self {
        let place = Place::On(Arbiter::current());
        let spec = ChildSpec::supervisor(name, place, policy, children);
        let (abort, exit) = spec.launch();
        Self { spec, abort, exit: exit.shared() }
    }

    /// The live tree, for whoever shows it.
    #[must_use]
    pub fn tree(&self) -> Tree {
        Tree::new(self.spec.stats.clone())
    }

    /// Resolves with the reason when the root gave up; never after a [`stop`](Root::stop).
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let exit = self.exit.clone();
        async move {
            match exit.await {
                Exit::Normal | Exit::Aborted => std::future::pending().await,
                failure => failure.to_string(),
            }
        }
    }

    /// Stops everything in reverse start order, each child after it finished what it had begun; what is not done
    /// after `drain` is cut off.
    pub async fn stop(&self, drain: Duration) {
        self.spec.clone().stop(Some(self.abort.clone()), drain).await;
    }
}

impl Supervisor {
    fn new(identity: Identity, policy: Policy, specs: &[ChildSpec]) -> Self {
        let children = specs.iter().cloned().map(Child::new).collect();
        Self { identity, policy, children, ends: VecDeque::new(), stopping: false }
    }

    fn launch(&mut self, index: usize, ctx: &mut Context<Self>) {
        if self.stopping {
            return;
        }
        let child = &mut self.children[index];
        let (abort, exit) = child.spec.launch();
        let launch = child.launched(abort);
        let report = move |exit, me: &mut Self, ctx: &mut Context<Self>| me.on_exit(index, launch, exit, ctx);
        ctx.spawn(exit.into_actor(self).map(report));
    }

    fn on_exit(&mut self, index: usize, launch: u64, exit: Exit, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let child = &mut self.children[index];
        if child.launch != launch {
            return;
        }
        let (stats, life) = (child.spec.stats.clone(), child.spec.life.clone());
        let exit = child.ended(exit, now, self.policy.within);
        life.close();
        if self.stopping {
            if !matches!(exit, Exit::Normal | Exit::Aborted) {
                tracing::warn!(actor.name = stats.name(), reason = %exit, "child ended badly while stopping");
                stats.note_error(&exit);
            }
            stats.set_state(State::Stopped);
            return;
        }
        stats.set_state(State::Restarting);
        stats.note_error(&exit);
        self.ends.push_back(now);
        while self.ends.front().is_some_and(|end| now.duration_since(*end) > self.policy.within) {
            self.ends.pop_front();
        }
        if self.ends.len() > self.policy.max_restarts {
            self.escalate(stats.name(), &exit);
        }
        let delay = self.policy.restart_delay(self.children[index].streak);
        tracing::warn!(actor.name = stats.name(), reason = %exit, ?delay, "child ended, restarting it");
        ctx.run_later(delay, move |me, ctx| me.launch(index, ctx));
    }

    fn escalate(&self, child: &str, exit: &Exit) -> ! {
        let me = self.identity.stats();
        let reason =
            format!("{} ends in {:?}, the last of {child}: {exit}", self.ends.len(), self.policy.within);
        tracing::error!(actor.name = me.name(), %reason, "restarts do not help, giving up");
        me.note_error(&reason);
        me.set_state(State::Failed);
        // Unwinding is the one way out of an actor that skips `stopping` and tells why; no panic hook runs. The
        // children are taken down by `stopped`.
        std::panic::resume_unwind(Box::new(Escalated(reason)));
    }

    fn watch(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        for index in 0..self.children.len() {
            let child = &mut self.children[index];
            if child.hangs(now) && child.give_up_on_hung(now) {
                let launch = child.launch;
                self.on_exit(index, launch, Exit::Hung, ctx);
            }
        }
    }

    /// Cuts all children off, in reverse start order. Twice does no harm.
    fn take_down(&mut self) {
        for child in self.children.iter_mut().rev() {
            if let Some(abort) = child.abort.take() {
                child.spec.life.close();
                abort.abort();
            }
            child.spec.stats.set_state(State::Stopped);
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        for index in 0..self.children.len() {
            self.launch(index, ctx);
        }
        if self.children.iter().any(|child| child.spec.hang_limit.is_some()) {
            ctx.run_interval(WATCH_PERIOD, Self::watch);
        }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.take_down();
    }
}

// For the ends that skip `stopped`: an arbiter that dies before it first ran us.
impl Drop for Supervisor {
    fn drop(&mut self) {
        self.take_down();
    }
}

impl Worker for Supervisor {
    const CHECKS_FAULTS: bool = false;

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn drain(&mut self, within: Duration, _: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        self.stopping = true;
        let until = Instant::now() + within;
        let children: Vec<_> =
            self.children.iter().rev().map(|child| (child.spec.clone(), child.abort.clone())).collect();
        let stop = async move {
            for (spec, abort) in children {
                spec.stop(abort, until.saturating_duration_since(Instant::now())).await;
            }
        };
        Box::pin(stop.into_actor(self))
    }
}

impl Handler<Drain> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: Drain, ctx: &mut Context<Self>) {
        if !self.stopping {
            message::drain(self, msg, ctx);
        }
    }
}

impl Child {
    fn new(spec: ChildSpec) -> Self {
        let now = Instant::now();
        Self { spec, abort: None, launch: 0, streak: 0, started: now, hung_since: None }
    }

    fn launched(&mut self, abort: AbortHandle) -> u64 {
        self.started = Instant::now();
        (self.abort, self.hung_since) = (Some(abort), None);
        self.launch += 1;
        self.launch
    }

    /// Notes the end and says what it really was. From here on the launch's own report counts no more.
    fn ended(&mut self, exit: Exit, now: Instant, healthy: Duration) -> Exit {
        self.abort = None;
        self.launch += 1;
        self.streak =
            if now.duration_since(self.started) > healthy { 1 } else { self.streak.saturating_add(1) };
        if self.hung_since.is_some() { Exit::Hung } else { exit }
    }

    fn hangs(&mut self, now: Instant) -> bool {
        let Some(limit) = self.spec.hang_limit else {
            return false;
        };
        let oldest = self.spec.stats.oldest_sign().filter(|_| self.spec.stats.state() == State::Running);
        let stuck = oldest.is_some_and(|sign| now.duration_since(sign) >= limit);
        self.abort.is_some() && (stuck || self.hung_since.is_some())
    }

    /// Aborts the child; true when that was long ago and it still has not ended, because it blocks its thread.
    fn give_up_on_hung(&mut self, now: Instant) -> bool {
        let since = *self.hung_since.get_or_insert(now);
        if since == now
            && let Some(abort) = &self.abort
        {
            abort.abort();
        }
        now.duration_since(since) > ABORT_LIMIT
    }
}
