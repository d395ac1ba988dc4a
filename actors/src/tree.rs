//! The whole supervisor tree: every child, its place, its bounds.
//!
//! ```text
//! NodeSupervisor
//! ├── StorageSupervisor      embedded_postgres (only with an embedded database)
//! ├── ProjectionSupervisor   projector.{sale,debt,stock,product,customer,cash,store} · outbox_pump
//! └── IngestSupervisor       sync_ingest.{0,1}
//! ```
//! Stopping goes backwards: ingest ends first, then the pump, then the projectors it asks. Never here: what an
//! actor does.

use crate::Deps;
use crate::handles::{ChildRef, Tree};
use crate::keeper::Keeper;
use crate::outbox_pump::OutboxPump;
use crate::projector::{Projector, Suspects};
use crate::supervisor::{ChildSpec, Place, Policy, Root};
use crate::sync_ingest::{Ingest, SyncIngest};
use actix_rt::{Arbiter, ArbiterHandle};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use velox_protocol::catalogue::Entity;
use velox_store::embedded::EmbeddedPostgres;

/// Writers of pushes: one caps big batches at one core.
const WRITERS: usize = 2;
/// Messages that may wait for a writer: all tills of a large shop at once.
const WRITER_MAILBOX: usize = 1_024;
/// A projector that neither begins nor ends anything for so long hangs: four times a statement's own limit.
const PROJECTOR_HANGS: Duration = Duration::from_secs(120);
/// Wake-ups that may wait for the pump; one more is dropped, the poll looks anyway.
const PUMP_MAILBOX: usize = 256;

/// A running tree, with the handles that the outside uses.
pub struct Node {
    root: Root,
    /// The way into ingest.
    pub ingest: Ingest,
    /// The pump, to be woken by hand.
    pub pump: ChildRef<OutboxPump>,
    threads: Vec<Arbiter>,
}

impl Node {
    /// Starts the tree; inside an actix system.
    pub fn start(deps: &Deps, postgres: Option<Arc<EmbeddedPostgres>>) -> Self {
        let here = Arbiter::current();
        let (projection, pump) = projection(deps, &here);
        let threads: Vec<Arbiter> = (0..WRITERS).map(|_| Arbiter::new()).collect();
        let (ingest_spec, ingest) = ingest(deps, &here, &threads, &pump);
        let mut groups = Vec::new();
        if let Some(postgres) = postgres {
            groups.push(storage(deps, &here, postgres));
        }
        groups.push(projection);
        groups.push(ingest_spec);
        let root = Root::start("NodeSupervisor", Policy::default(), groups);
        Node { root, ingest, pump, threads }
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
    ChildSpec::supervisor("StorageSupervisor", Place::On(here.clone()), Policy::default(), vec![keeper])
}

fn projection(deps: &Deps, here: &ArbiterHandle) -> (ChildSpec, ChildRef<OutboxPump>) {
    let mut children = Vec::new();
    let mut projectors: BTreeMap<Entity, ChildRef<Projector>> = BTreeMap::new();
    for entity in Entity::ALL {
        let (deps, suspects) = (deps.clone(), Suspects::default());
        let faults = deps.faults.clone();
        let name = format!("projector.{}", entity.name());
        let (spec, projector) = ChildSpec::worker(&name, Place::On(here.clone()), &faults, move |me, _| {
            Ok(Projector::new(me, deps.clone(), entity, suspects.clone()))
        });
        children.push(spec.hang_limit(PROJECTOR_HANGS));
        projectors.insert(entity, projector);
    }
    let for_pump = deps.clone();
    let (spec, pump) =
        ChildSpec::worker("outbox_pump", Place::On(here.clone()), &deps.faults, move |me, _| {
            Ok(OutboxPump::new(me, for_pump.clone(), projectors.clone()))
        });
    children.push(spec.mailbox(PUMP_MAILBOX));
    let group =
        ChildSpec::supervisor("ProjectionSupervisor", Place::On(here.clone()), Policy::default(), children);
    (group, pump)
}

/// A writer has a thread that outlives it: database connections die with the thread that made them, and those
/// are shared.
fn ingest(
    deps: &Deps,
    here: &ArbiterHandle,
    threads: &[Arbiter],
    pump: &ChildRef<OutboxPump>,
) -> (ChildSpec, Ingest) {
    let (children, writers) = threads
        .iter()
        .enumerate()
        .map(|(shard, thread)| {
            let (for_writer, pump) = (deps.clone(), pump.clone());
            let (name, place) = (format!("sync_ingest.{shard}"), Place::On(thread.handle()));
            let (spec, writer) = ChildSpec::worker(&name, place, &deps.faults, move |me, _| {
                Ok(SyncIngest::new(me, for_writer.clone(), pump.clone()))
            });
            (spec.mailbox(WRITER_MAILBOX), writer)
        })
        .unzip();
    let group =
        ChildSpec::supervisor("IngestSupervisor", Place::On(here.clone()), Policy::default(), children);
    (group, Ingest::new(writers))
}
