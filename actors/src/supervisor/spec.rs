//! What a supervisor has to know of a child in order to start it, and to stop it, any number of times.
//!
//! Never here: when it does so.

use std::{sync::Arc, time::Duration};

use actix::{Arbiter, Context, Handler};
use actix_rt::ArbiterHandle;
use futures_util::{
    FutureExt,
    future::{AbortHandle, BoxFuture},
};
use tokio::time::timeout;

use super::{
    Policy, Supervisor,
    incarnation::{Exit, Host, Life},
};
use crate::{
    fault::Faults,
    handles::{ActorStats, ChildRef, Identity, Kind, Slot, State},
    message::{Drain, Worker},
};

/// Messages an actor's mailbox holds unless its spec says otherwise. Messages are wake-ups, so a few suffice.
pub const DEFAULT_MAILBOX: usize = 64;

/// How long a worker may drain unless its spec says otherwise: a quarter of the node's whole 20 s, so that one that
/// hangs does not use up the time of its siblings.
pub const DEFAULT_STOP_LIMIT: Duration = Duration::from_secs(5);

/// How long an aborted child gets to vanish before it is taken for stuck in a call that blocks its thread.
pub(super) const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// Where a child runs.
#[derive(Debug, Clone)]
pub enum Place {
    /// On a given arbiter, together with others: for actors that talk to each other much.
    On(ArbiterHandle),
    /// On a thread of its own, a new one each start.
    OwnThread,
}

/// What a factory gives back: the actor, or why it cannot be made (which counts as a death).
pub type Made<A> = Result<A, Box<dyn std::error::Error + Send + Sync>>;

/// How to run one child. Built once, kept by clones over all restarts of the child and of its supervisors.
#[derive(Clone)]
pub struct ChildSpec {
    pub(super) stats: Arc<ActorStats>,
    place: Place,
    mailbox: usize,
    stop_limit: Option<Duration>,
    pub(super) hang_limit: Option<Duration>,
    pub(super) life: Arc<dyn Life>,
}

impl ChildSpec {
    /// A worker. `make` builds a fresh actor at every start; an error or a panic in it counts as a death.
    pub fn worker<A, F>(name: &str, place: Place, faults: &Faults, make: F) -> (Self, ChildRef<A>)
    where
        A: Worker + Handler<Drain>,
        F: Fn(&Identity, &mut Context<A>) -> Made<A> + Send + Sync + 'static,
    {
        let stats = Arc::new(ActorStats::new(name, Kind::Worker, Vec::new()));
        let (spec, child) = Self::new(stats, place, faults.clone(), make);
        (Self { stop_limit: Some(DEFAULT_STOP_LIMIT), ..spec }, child)
    }

    /// A supervisor of `children`, which it starts in this order and stops in the reverse.
    #[must_use]
    pub fn supervisor(name: &str, place: Place, policy: Policy, children: Vec<ChildSpec>) -> Self {
        let below = children.iter().map(|child| child.stats.clone()).collect();
        let stats = Arc::new(ActorStats::new(name, Kind::Supervisor, below));
        let make = move |me: &Identity, _: &mut Context<Supervisor>| {
            Ok(Supervisor::new(me.clone(), policy, &children))
        };
        Self::new(stats, place, Faults::disabled(), make).0
    }

    /// Sets how many messages may wait ([`DEFAULT_MAILBOX`]); actix admits one more.
    #[must_use]
    pub fn mailbox(self, messages: usize) -> Self {
        Self { mailbox: messages, ..self }
    }

    /// Sets how long the child may drain at shutdown ([`DEFAULT_STOP_LIMIT`]; a supervisor: all that is left).
    #[must_use]
    pub fn stop_limit(self, limit: Duration) -> Self {
        Self { stop_limit: Some(limit), ..self }
    }

    /// Has the child restarted when a piece of its work gives no sign of life for `limit`, whatever else it does
    /// meanwhile. Off by default: only the actor's author knows how long its longest piece of work may take. An actor
    /// that blocks its thread is only seen by a supervisor on another one.
    #[must_use]
    pub fn hang_limit(self, limit: Duration) -> Self {
        Self { hang_limit: Some(limit), ..self }
    }

    fn new<A, F>(stats: Arc<ActorStats>, place: Place, faults: Faults, make: F) -> (Self, ChildRef<A>)
    where
        A: Worker + Handler<Drain>,
        F: Fn(&Identity, &mut Context<A>) -> Made<A> + Send + Sync + 'static,
    {
        let slot = Arc::new(Slot::new(stats.clone()));
        let life = Arc::new(Host::new(slot.clone(), Identity::new(stats.clone(), faults), make));
        let spec = Self { stats, place, mailbox: DEFAULT_MAILBOX, stop_limit: None, hang_limit: None, life };
        (spec, ChildRef::new(slot))
    }

    pub(super) fn launch(&self) -> (AbortHandle, BoxFuture<'static, Exit>) {
        self.stats.note_start();
        let own = match &self.place {
            Place::On(arbiter) => return self.life.clone().launch(arbiter, false, self.mailbox),
            Place::OwnThread => Arbiter::try_new(),
        };
        match own {
            Ok(own) => self.life.clone().launch(&own.handle(), true, self.mailbox),
            Err(error) => {
                let exit = Exit::Failed(format!("no thread: {error}"));
                (AbortHandle::new_pair().0, std::future::ready(exit).boxed())
            }
        }
    }

    /// Drains, else aborts the child; returns once it is gone, or stuck in a call that blocks its thread.
    pub(super) async fn stop(self, abort: Option<AbortHandle>, left: Duration) {
        let limit = self.stop_limit.map_or(left, |limit| limit.min(left));
        let drained = self.life.drain(limit) && timeout(limit, self.life.gone()).await.is_ok();
        if !drained {
            if let Some(abort) = abort {
                tracing::warn!(actor.name = self.stats.name(), ?limit, "child did not drain, aborting it");
                abort.abort();
            }
            if timeout(ABORT_LIMIT, self.life.gone()).await.is_err() {
                tracing::error!(actor.name = self.stats.name(), "child blocks its thread, leaving it behind");
            }
        }
        self.stats.set_state(State::Stopped);
    }
}
