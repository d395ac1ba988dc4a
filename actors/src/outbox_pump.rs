//! OutboxPump: tells projectors when there is work. Woken after a commit, by a notification of another pod, and
//! by its poll, which is the safety net: a lost wake-up costs one period, never data.

use crate::Deps;
use crate::handles::{ChildRef, Identity};
use crate::message::{Traced, TracedHandler, Worker, answer};
use crate::projector::{Project, Projected, Projector};
use crate::relay::{AskDebts, Relay};
use crate::supervised;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Message, ResponseActFuture, WrapFuture};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use velox_protocol::catalogue::Entity;
use velox_store::OutboxDone;

/// Longest time a projector may take for a batch.
const BATCH_LIMIT: Duration = Duration::from_secs(120);
/// Wait after a projector that was away or had no database.
const PAUSE: Duration = Duration::from_millis(500);
/// Wait before a projector that was woken again during its batch goes on: tills keep pushing, and what gathers
/// meanwhile is projected for the price of one. A push that comes alone never waits.
const GATHER: Duration = Duration::from_millis(20);
/// How often kept entries are cleaned up.
const CLEAN_UP: Duration = Duration::from_secs(3_600);

/// These entities may have work.
#[derive(Debug, Clone)]
pub struct Wake {
    /// Which.
    pub entities: BTreeSet<Entity>,
}

impl Message for Wake {
    type Result = ();
}

/// Look for work in the database.
#[derive(Debug, Clone, Copy)]
struct Poll;

impl Message for Poll {
    type Result = ();
}

#[derive(Debug, Default)]
struct Lane {
    running: bool,
    again: bool,
}

/// Drives the projectors.
pub struct OutboxPump {
    me: Identity,
    deps: Deps,
    projectors: BTreeMap<Entity, ChildRef<Projector>>,
    /// Relays whose peers may know debts that no event bears.
    creditors: Vec<ChildRef<Relay>>,
    lanes: BTreeMap<Entity, Lane>,
    stats: OutboxDone,
    requeued: bool,
    draining: bool,
}

impl OutboxPump {
    /// A pump over these projectors. `creditors`: relays that ask their peers for the debts that payments wait for.
    pub fn new(
        me: &Identity,
        deps: Deps,
        projectors: BTreeMap<Entity, ChildRef<Projector>>,
        creditors: Vec<ChildRef<Relay>>,
    ) -> Self {
        let lanes = projectors.keys().map(|entity| (*entity, Lane::default())).collect();
        OutboxPump {
            me: me.clone(),
            deps,
            projectors,
            creditors,
            lanes,
            stats: OutboxDone::default(),
            requeued: false,
            draining: false,
        }
    }

    fn wake(&mut self, entity: Entity, ctx: &mut Context<Self>) {
        let (Some(lane), Some(projector)) = (self.lanes.get_mut(&entity), self.projectors.get(&entity))
        else {
            return;
        };
        if self.draining || lane.running {
            lane.again = true;
            return;
        }
        *lane = Lane { running: true, again: false };
        let projector = projector.clone();
        let busy = self.me.stats().begin();
        let ask = async move { projector.ask(Project, BATCH_LIMIT).await };
        ctx.spawn(ask.into_actor(self).map(move |answer, me, ctx| {
            busy.done();
            // The projector is away: it has rolled back, and what it held is pending.
            let projected = answer.unwrap_or(Projected { unavailable: true, ..Projected::default() });
            me.on_projected(entity, projected, ctx);
        }));
    }

    fn on_projected(&mut self, entity: Entity, projected: Projected, ctx: &mut Context<Self>) {
        self.stats.done += projected.done as i64;
        self.stats.failed += projected.failed as i64;
        self.stats.total_ms += projected.total_ms;
        for relay in self.creditors.iter().filter(|_| projected.awaits_debt) {
            // Full or restarting: it asks by itself a little later.
            let _ = relay.try_tell(AskDebts);
        }
        let Some(lane) = self.lanes.get_mut(&entity) else {
            return;
        };
        lane.running = false;
        if let Some(wait) = projected.retry_in {
            ctx.run_later(wait, move |me, ctx| me.wake(entity, ctx));
        }
        if projected.unavailable {
            ctx.run_later(PAUSE, move |me, ctx| me.wake(entity, ctx));
        } else if projected.more {
            self.wake(entity, ctx);
        } else if lane.again {
            lane.running = true;
            ctx.run_later(GATHER, move |me, ctx| {
                if let Some(lane) = me.lanes.get_mut(&entity) {
                    lane.running = false;
                }
                me.wake(entity, ctx);
            });
        }
    }

    fn listen(&self, ctx: &mut Context<Self>) {
        let store = self.deps.store.clone();
        let pod = self.deps.pod;
        let me = ctx.address();
        let listen = async move {
            let mut listener = store.listen_outbox().await?;
            loop {
                let notified = listener.next().await?;
                let entities =
                    notified.as_deref().map_or_else(|| Entity::ALL.into(), |text| announced(text, pod));
                if !entities.is_empty() {
                    // A full mailbox: the poll looks anyway.
                    let _ = me.try_send(Traced::new(Wake { entities }));
                }
            }
        };
        ctx.spawn(listen.into_actor(self).map(|ended: Result<(), velox_store::Error>, _, ctx| {
            if let Err(error) = ended {
                tracing::warn!(%error, "notifications of other pods are not heard; polling goes on");
            }
            ctx.run_later(PAUSE * 4, |me, ctx| me.listen(ctx));
        }));
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let deps = self.deps.clone();
        let stats = std::mem::take(&mut self.stats);
        let requeue = !self.requeued;
        let busy = self.me.stats().begin();
        let look = async move {
            if requeue {
                let known = deps.store.requeue_skipped().await?;
                let failed = deps.store.requeue_failed(env!("CARGO_PKG_VERSION")).await?;
                if known + failed > 0 {
                    tracing::info!(
                        known,
                        failed,
                        "events that an older version could not project are tried again"
                    );
                }
            }
            if stats.done + stats.failed > 0 {
                deps.store.add_outbox_stats("projection", "", stats).await?;
            }
            deps.store.entities_with_work().await
        };
        ctx.spawn(look.into_actor(self).map(move |found, me, ctx| {
            busy.done();
            match found {
                Ok(names) => {
                    me.requeued = true;
                    for entity in Entity::ALL.into_iter().filter(|e| names.iter().any(|n| n == e.name())) {
                        me.wake(entity, ctx);
                    }
                }
                Err(error) => {
                    me.me.stats().note_error(&error);
                    tracing::warn!(%error, "the outbox could not be looked at");
                }
            }
        }));
    }

    fn clean_up(&self, ctx: &mut Context<Self>) {
        let deps = self.deps.clone();
        let clean = async move {
            match deps.store.clean_outbox(deps.settings.outbox_retention).await {
                Ok(removed) => tracing::debug!(removed, "kept outbox entries were cleaned up"),
                Err(error) => tracing::warn!(%error, "kept outbox entries were not cleaned up"),
            }
        };
        ctx.spawn(clean.into_actor(self));
    }
}

/// The entities of a notification `pod:entity,…`; none where this pod sent it, for it has woken itself.
fn announced(text: &str, pod: u64) -> BTreeSet<Entity> {
    match text.split_once(':') {
        Some((sender, _)) if sender == pod.to_string() => BTreeSet::new(),
        Some((_, names)) => Entity::ALL
            .into_iter()
            .filter(|entity| names.split(',').any(|name| name == entity.name()))
            .collect(),
        None => Entity::ALL.into(),
    }
}

supervised!(OutboxPump);

impl Actor for OutboxPump {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.listen(ctx);
        ctx.notify(Traced::new(Poll));
        ctx.run_interval(self.deps.settings.outbox_poll, |_, ctx| ctx.notify(Traced::new(Poll)));
        ctx.run_interval(CLEAN_UP, |me, ctx| me.clean_up(ctx));
    }
}

impl Worker for OutboxPump {
    fn identity(&self) -> &Identity {
        &self.me
    }

    fn drain(&mut self, _: Duration, _: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        self.draining = true;
        answer(())
    }
}

impl TracedHandler<Wake> for OutboxPump {
    const SPAN: &'static str = "outbox_pump.wake";

    fn receive(&mut self, msg: Wake, ctx: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        for entity in msg.entities {
            self.wake(entity, ctx);
        }
        answer(())
    }
}

impl TracedHandler<Poll> for OutboxPump {
    const SPAN: &'static str = "outbox_pump.poll";

    fn receive(&mut self, _: Poll, ctx: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        self.look(ctx);
        answer(())
    }
}
