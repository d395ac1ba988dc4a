//! The whole supervisor tree: every child, its place, its bounds.
//!
//! ```text
//! NodeSupervisor
//! ├── StorageSupervisor      embedded_postgres (only with an embedded database)
//! ├── CommerceSupervisor     fiscal_allocator
//! ├── FederationSupervisor   relay.{peer}, one a peer · reconciler
//! ├── ProjectionSupervisor   projector.{sale,debt,stock,product,customer,cash,store} · outbox_pump · orphan_healer
//! └── IngestSupervisor       sync_ingest.{0,1}
//! ```
//! Stopping goes backwards: ingest ends first, then the pump, then the projectors it asks, then the relays. Never here: what an
//! actor does.

use crate::Deps;
use crate::fiscal_allocator::FiscalAllocator;
use crate::handles::{ChildRef, Tree};
use crate::keeper::Keeper;
use crate::orphan_healer::OrphanHealer;
use crate::outbox_pump::OutboxPump;
use crate::projector::{Projector, Suspects};
use crate::reconciler::{self, Partner, Reconciler, Sink};
use crate::relay::{OnClosed, Relay, RelayHandle, RelayView, Wire};
use crate::supervisor::{ChildSpec, Place, Policy, Root};
use crate::sync_ingest::{Ingest, SyncIngest, Wakes};
use actix_rt::{Arbiter, ArbiterHandle};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use velox_protocol::catalogue::Entity;
use velox_store::Leases;
use velox_store::embedded::EmbeddedPostgres;

/// Writers of pushes: one caps big batches at one core.
const WRITERS: usize = 2;
/// Messages that may wait for a writer: all tills of a large shop at once.
const WRITER_MAILBOX: usize = 1_024;
/// The pump waits for projectors: where one hangs, it must not be taken for the one that does.
const PUMP_PATIENCE: u32 = 2;
/// What goes through whole logs gives a sign of life at each portion, which may hold many statements and requests.
const PORTION_PATIENCE: u32 = 5;
/// Wake-ups that may wait for the pump; one more is dropped, the poll looks anyway.
const PUMP_MAILBOX: usize = 256;

/// Requests that may wait for the allocator: all tills of a large shop at once, thrice.
const ALLOCATOR_MAILBOX: usize = 1_024;

/// Wake-ups that may wait for a relay; one more is dropped, it looks by itself anyway.
const RELAY_MAILBOX: usize = 64;

/// A running tree, with the handles that the outside uses.
pub struct Node {
    root: Root,
    /// The way into ingest.
    pub ingest: Ingest,
    /// The pump, to be woken by hand.
    pub pump: ChildRef<OutboxPump>,
    /// The relays, one a peer, in the configured order.
    pub relays: Vec<RelayHandle>,
    /// Looks for missing rows.
    pub healer: ChildRef<OrphanHealer>,
    /// Compares logs with peers.
    pub reconciler: ChildRef<Reconciler>,
    /// Hands out fiscal numbers.
    pub fiscal: ChildRef<FiscalAllocator>,
    threads: Vec<Arbiter>,
}

impl Node {
    /// Starts the tree; inside an actix system.
    pub fn start(
        deps: &Deps,
        postgres: Option<Arc<EmbeddedPostgres>>,
        wires: &[Wire],
        leases: &Leases,
    ) -> Self {
        let here = Arbiter::current();
        let told: Told = Arc::default();
        let (mut federation, relays) = relays(deps, &here, wires, &told);
        let creditors = relays.iter().filter(|relay| matches!(relay.wire, Wire::V1(_)));
        let creditors: Vec<ChildRef<Relay>> = creditors.map(|relay| relay.relay.clone()).collect();
        let (projection, pump, healer) = projection(deps, &here, &creditors);
        let threads: Vec<Arbiter> = (0..WRITERS).map(|_| Arbiter::new()).collect();
        let wakes = Wakes { pump: pump.clone(), relays: relays.iter().map(|r| r.relay.clone()).collect() };
        let (ingest_spec, ingest) = ingest(deps, &here, &threads, &wakes);
        let (spec, reconciler) = reconciler(deps, &here, leases, &relays, Sink::Node(ingest.clone()));
        federation.push(spec);
        // Cannot be set already: it was made above.
        let _ = told.set(reconciler.clone());
        let mut groups = Vec::new();
        if let Some(postgres) = postgres {
            groups.push(storage(deps, &here, postgres));
        }
        let place = Place::On(here.clone());
        let (commerce, fiscal) = commerce(deps, &here);
        groups.push(commerce);
        groups.push(ChildSpec::supervisor("FederationSupervisor", place, Policy::default(), federation));
        groups.push(projection);
        groups.push(ingest_spec);
        let root = Root::start("NodeSupervisor", Policy::default(), groups);
        Node { root, ingest, pump, relays, healer, reconciler, fiscal, threads }
    }

    /// The tree, live.
    pub fn tree(&self) -> Tree {
        self.root.tree()
    }

    /// Resolves with the reason when the root gives up: the process has to end.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        self.root.failed()
    }

    /// Finishes what is in flight and stops, children in reverse order.
    pub async fn stop(&self, drain: Duration) {
        self.root.stop(drain).await;
        for thread in &self.threads {
            thread.stop();
        }
    }
}

fn storage(deps: &Deps, here: &ArbiterHandle, postgres: Arc<EmbeddedPostgres>) -> ChildSpec {
    let (keeper, _) =
        ChildSpec::worker("embedded_postgres", Place::On(here.clone()), &deps.faults, move |me, _| {
            Ok(Keeper::new(me, postgres.clone()))
        });
    let keeper = keeper.hang_limit(deps.settings.hang_limit);
    ChildSpec::supervisor("StorageSupervisor", Place::On(here.clone()), Policy::default(), vec![keeper])
}

fn commerce(deps: &Deps, here: &ArbiterHandle) -> (ChildSpec, ChildRef<FiscalAllocator>) {
    let for_it = deps.clone();
    let (spec, fiscal) =
        ChildSpec::worker("fiscal_allocator", Place::On(here.clone()), &deps.faults, move |me, _| {
            Ok(FiscalAllocator::new(me, for_it.clone()))
        });
    let spec = spec.mailbox(ALLOCATOR_MAILBOX).hang_limit(deps.settings.hang_limit);
    let group =
        ChildSpec::supervisor("CommerceSupervisor", Place::On(here.clone()), Policy::default(), vec![spec]);
    (group, fiscal)
}

fn projection(
    deps: &Deps,
    here: &ArbiterHandle,
    creditors: &[ChildRef<Relay>],
) -> (ChildSpec, ChildRef<OutboxPump>, ChildRef<OrphanHealer>) {
    let limit = deps.settings.hang_limit;
    let mut children = Vec::new();
    let mut projectors: BTreeMap<Entity, ChildRef<Projector>> = BTreeMap::new();
    for entity in Entity::ALL {
        let (deps, suspects) = (deps.clone(), Suspects::default());
        let faults = deps.faults.clone();
        let name = format!("projector.{}", entity.name());
        let (spec, projector) = ChildSpec::worker(&name, Place::On(here.clone()), &faults, move |me, _| {
            Ok(Projector::new(me, deps.clone(), entity, suspects.clone()))
        });
        children.push(spec.hang_limit(limit));
        projectors.insert(entity, projector);
    }
    let (for_pump, creditors) = (deps.clone(), creditors.to_vec());
    let (spec, pump) =
        ChildSpec::worker("outbox_pump", Place::On(here.clone()), &deps.faults, move |me, _| {
            Ok(OutboxPump::new(me, for_pump.clone(), projectors.clone(), creditors.clone()))
        });
    children.push(spec.mailbox(PUMP_MAILBOX).hang_limit(limit * PUMP_PATIENCE));
    let for_healer = deps.clone();
    let (spec, healer) =
        ChildSpec::worker("orphan_healer", Place::On(here.clone()), &deps.faults, move |me, _| {
            Ok(OrphanHealer::new(me, for_healer.clone()))
        });
    children.push(spec.hang_limit(limit * PORTION_PATIENCE));
    let group =
        ChildSpec::supervisor("ProjectionSupervisor", Place::On(here.clone()), Policy::default(), children);
    (group, pump, healer)
}

/// Relays tell the reconciler, which is made after them, since it needs them and the writers that wake them.
type Told = Arc<OnceLock<ChildRef<Reconciler>>>;

fn relays(
    deps: &Deps,
    here: &ArbiterHandle,
    wires: &[Wire],
    told: &Told,
) -> (Vec<ChildSpec>, Vec<RelayHandle>) {
    let told = told.clone();
    let on_closed: OnClosed = Arc::new(move |peer| {
        if let Some(reconciler) = told.get() {
            reconciler::tell(reconciler, peer);
        }
    });
    let relay = |wire: &Wire| {
        let view = Arc::new(RelayView::default());
        let name = format!("relay.{}", wire.peer().name);
        let (for_relay, on_closed) = (deps.clone(), on_closed.clone());
        let (its_wire, its_view) = (wire.clone(), view.clone());
        let (spec, relay) = ChildSpec::worker(&name, Place::On(here.clone()), &deps.faults, move |me, _| {
            let (wire, view) = (its_wire.clone(), its_view.clone());
            Ok(Relay::new(me, for_relay.clone(), wire, view, on_closed.clone()))
        });
        let handle = RelayHandle { relay, view, wire: wire.clone() };
        (spec.mailbox(RELAY_MAILBOX).hang_limit(deps.settings.hang_limit), handle)
    };
    wires.iter().map(relay).unzip()
}

fn reconciler(
    deps: &Deps,
    here: &ArbiterHandle,
    leases: &Leases,
    relays: &[RelayHandle],
    sink: Sink,
) -> (ChildSpec, ChildRef<Reconciler>) {
    let partner = |handle: &RelayHandle| Partner { wire: handle.wire.clone(), relay: Some(handle.clone()) };
    let partners: Vec<Partner> = relays.iter().map(partner).collect();
    let (for_it, leases) = (deps.clone(), leases.clone());
    let (spec, reconciler) =
        ChildSpec::worker("reconciler", Place::On(here.clone()), &deps.faults, move |me, _| {
            Ok(Reconciler::new(me, for_it.clone(), leases.clone(), partners.clone(), sink.clone()))
        });
    (spec.hang_limit(deps.settings.hang_limit * PORTION_PATIENCE), reconciler)
}

/// A writer has a thread that outlives it: database connections die with the thread that made them, and those
/// are shared.
fn ingest(deps: &Deps, here: &ArbiterHandle, threads: &[Arbiter], wakes: &Wakes) -> (ChildSpec, Ingest) {
    let (children, writers) = threads
        .iter()
        .enumerate()
        .map(|(shard, thread)| {
            let (for_writer, wakes) = (deps.clone(), wakes.clone());
            let (name, place) = (format!("sync_ingest.{shard}"), Place::On(thread.handle()));
            let (spec, writer) = ChildSpec::worker(&name, place, &deps.faults, move |me, _| {
                Ok(SyncIngest::new(me, for_writer.clone(), wakes.clone()))
            });
            (spec.mailbox(WRITER_MAILBOX).hang_limit(deps.settings.hang_limit), writer)
        })
        .unzip();
    let group =
        ChildSpec::supervisor("IngestSupervisor", Place::On(here.clone()), Policy::default(), children);
    (group, Ingest::new(writers))
}
