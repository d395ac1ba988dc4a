//! Reconciler: compares logs with peers on its period, after a breaker has closed, and when asked; under a lease.
//!
//! What a peer lacks goes into the outbox, what this node lacks is fetched and goes through SyncIngest; nothing is ever
//! removed. Never here: how logs are compared (see `velox_store` and `velox_protocol::reconcile`).

mod run;

use crate::Deps;
use crate::handles::Identity;
use crate::message::{Traced, TracedHandler, Worker, answer};
use crate::peer::Peer;
use crate::supervised;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Message, ResponseActFuture, WrapFuture};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;
use velox_protocol::reconciled::Reconciled;
use velox_store::{Leases, Store};

pub use run::{Alive, Partner, Sink, reconcile};
pub(crate) use run::{EVENTS_PATH, RECONCILE_PATH};

/// Rows of a store that are counted anew in a period: a small shop's month.
const RECOUNTED_ROWS: u64 = 20_000;
/// After a restore each start begins with a comparison for so long: the first may end before its peers are back.
const LATELY: Duration = Duration::from_secs(24 * 3_600);
/// Wait after this node's own database failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Reconcile now.
#[derive(Debug, Clone, Default)]
pub struct Reconcile {
    /// This store; `None`: all that this node knows.
    pub store_id: Option<Uuid>,
    /// With this peer; `None`: with each that serves the store.
    pub peer: Option<String>,
    /// Only report.
    pub dry_run: bool,
    /// The peer was away: what a v1 node lists nowhere is sent to it again.
    pub after_outage: bool,
}

impl Message for Reconcile {
    type Result = Result<Vec<Reconciled>, String>;
}

/// A peer can be reached again.
#[derive(Debug, Clone)]
pub struct PeerIsBack {
    /// Its name.
    pub peer: String,
}

impl Message for PeerIsBack {
    type Result = ();
}

/// Time for another round.
#[derive(Debug, Clone, Copy)]
struct Tick;

impl Message for Tick {
    type Result = ();
}

/// Closes what relays have missed.
pub struct Reconciler {
    me: Identity,
    deps: Deps,
    leases: Leases,
    partners: Vec<Partner>,
    sink: Sink,
    /// Peers that wait for their round; `None`: all.
    due: BTreeSet<Option<String>>,
    running: bool,
    /// True once the node ends.
    ending: watch::Sender<bool>,
}

impl Reconciler {
    /// A reconciler with these peers.
    pub fn new(me: &Identity, deps: Deps, leases: Leases, partners: Vec<Partner>, sink: Sink) -> Self {
        let (due, ending) = (BTreeSet::new(), watch::Sender::new(false));
        Reconciler { me: me.clone(), deps, leases, partners, sink, due, running: false, ending }
    }

    /// One round after the other, so that two reasons at once cost one.
    fn next_round(&mut self, ctx: &mut Context<Self>) {
        if self.running || *self.ending.borrow() {
            return;
        }
        let Some(peer) = self.due.pop_first() else { return };
        if peer.is_none() {
            self.due.clear();
        }
        self.running = true;
        let busy = self.me.stats().begin();
        let after_outage = peer.is_some();
        let work = self.work(Reconcile { peer, after_outage, ..Reconcile::default() });
        ctx.spawn(work.into_actor(self).map(|done, me, ctx| {
            busy.done();
            me.running = false;
            if let Err(error) = done {
                me.me.stats().note_error(&error);
                tracing::warn!(error, "a round of reconciliation was not begun");
            }
            me.next_round(ctx);
        }));
    }

    /// A database that was restored lately lacks what its peers know: nobody waits for the period then.
    fn after_restore(&self, ctx: &mut Context<Self>) {
        let store = self.deps.store.clone();
        let look = async move { store.was_restored(LATELY).await };
        ctx.spawn(look.into_actor(self).map(|restored, me, ctx| match restored {
            Ok(false) => {}
            Ok(true) => {
                let peers = me.partners.iter().map(|partner| Some(partner.wire.peer().name.clone()));
                me.due.extend(peers);
                me.next_round(ctx);
            }
            Err(error) => {
                tracing::warn!(%error, "whether the database was restored could not be read");
                ctx.run_later(PAUSE, |me, ctx| me.after_restore(ctx));
            }
        }));
    }

    fn work(&self, wanted: Reconcile) -> impl Future<Output = Result<Vec<Reconciled>, String>> + use<> {
        let (deps, leases, sink) = (self.deps.clone(), self.leases.clone(), self.sink.clone());
        let (partners, ending) = (self.partners.clone(), self.ending.subscribe());
        let alive = self.me.stats().signs_of_life();
        async move { reconcile(&deps, &leases, &partners, &sink, &wanted, ending, &alive).await }
    }
}

supervised!(Reconciler);

impl Actor for Reconciler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.deps.settings.reconcile_interval, |_, ctx| ctx.notify(Traced::new(Tick)));
        self.after_restore(ctx);
    }
}

impl Worker for Reconciler {
    fn identity(&self) -> &Identity {
        &self.me
    }

    fn drain(&mut self, _: Duration, _: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        // What is under way ends before its next write, and gives its lease back.
        self.ending.send_replace(true);
        answer(())
    }
}

impl TracedHandler<Tick> for Reconciler {
    const SPAN: &'static str = "reconciler.tick";

    fn receive(&mut self, _: Tick, ctx: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        // Before the round, which is a piece of work of its own.
        let alive = self.me.stats().signs_of_life();
        self.due.insert(None);
        self.next_round(ctx);
        let store = self.deps.store.clone();
        Box::pin(async move { tend(&store, &alive).await }.into_actor(self))
    }
}

impl TracedHandler<PeerIsBack> for Reconciler {
    const SPAN: &'static str = "reconciler.peer_is_back";

    fn receive(&mut self, msg: PeerIsBack, ctx: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        self.due.insert(Some(msg.peer));
        self.next_round(ctx);
        answer(())
    }
}

impl TracedHandler<Reconcile> for Reconciler {
    const SPAN: &'static str = "reconciler.reconcile";

    fn receive(
        &mut self,
        msg: Reconcile,
        _: &mut Context<Self>,
    ) -> ResponseActFuture<Self, <Reconcile as Message>::Result> {
        Box::pin(self.work(msg).into_actor(self))
    }

    fn injected(fault: crate::fault::InjectedFault) -> Option<<Reconcile as Message>::Result> {
        Some(Err(fault.to_string()))
    }
}

/// Folds what writers have noted into digests, also where there is no peer, and recounts some of them in their turn.
async fn tend(store: &Store, alive: Alive<'_>) {
    let tended = async {
        store.fold_all_digests().await?;
        for shop in store.stores().await? {
            alive();
            let recounted = store.recount_oldest(shop.store_id, RECOUNTED_ROWS).await?;
            if !recounted.mended.is_empty() {
                let (store_id, days) = (shop.store_id, recounted.mended.len());
                tracing::warn!(%store_id, days, "digests of the event log did not fit and were mended");
            }
        }
        Ok::<(), velox_store::Error>(())
    };
    if let Err(error) = tended.await {
        tracing::warn!(%error, "digests of the event log were not tended");
    }
}

/// Tells the reconciler that a breaker has closed; lost, it costs one period.
pub(crate) fn tell(reconciler: &crate::handles::ChildRef<Reconciler>, peer: &Arc<Peer>) {
    if let Err(error) = reconciler.try_tell(PeerIsBack { peer: peer.name.clone() }) {
        tracing::debug!(%error, peer = peer.name, "the reconciler was not told that a peer is back");
    }
}
