//! What request handlers share.

use crate::federation::Federation;
use crate::http::auth::Auth;
use crate::http::body::IngestGate;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use velox_actors::fault::Faults;
use velox_actors::fiscal_allocator::FiscalAllocator;
use velox_actors::handles::{ChildRef, Tree};
use velox_actors::metrics::Metrics;
use velox_actors::orphan_healer::{Healing, OrphanHealer};
use velox_actors::outbox_pump::{OutboxPump, Wake};
use velox_actors::peer::OwnIdentity;
use velox_actors::relay::WakeRelay;
use velox_actors::sync_ingest::Ingest;
use velox_protocol::catalogue;
use velox_protocol::time::Clock;
use velox_store::Store;

/// One node, as its handlers see it. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The database.
    pub store: Store,
    /// The way into the log.
    pub ingest: Ingest,
    /// Who federates with this node.
    pub federation: Arc<Federation>,
    /// To be woken after an event of the node itself.
    pub pump: ChildRef<OutboxPump>,
    /// Makes missing rows anew.
    pub healer: ChildRef<OrphanHealer>,
    /// How missing rows are made anew.
    pub healing: Healing,
    /// Hands out fiscal numbers.
    pub fiscal: ChildRef<FiscalAllocator>,
    /// How long a fiscal range may be used.
    pub fiscal_ttl: Duration,
    /// The supervisor tree.
    pub tree: Tree,
    /// Injected faults.
    pub faults: Faults,
    /// Who may call.
    pub auth: actix_web::web::Data<Auth>,
    /// Room for bodies.
    pub gate: IngestGate,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The present time.
    pub clock: Arc<dyn Clock>,
    /// This node.
    pub own: OwnIdentity,
    /// Origins that browsers may call from.
    pub cors_origins: Arc<[String]>,
    /// Set when the node shuts down: not ready any more.
    pub draining: Arc<AtomicBool>,
}

impl AppState {
    /// Whether the node is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Has an event that the node has written projected and relayed now. Lost, it costs one poll period.
    pub fn wake(&self, event_type: &str) {
        for handle in &self.federation.relays {
            if let Err(error) = handle.relay.try_tell(WakeRelay) {
                tracing::debug!(%error, "a relay was not woken");
            }
        }
        let entities = BTreeSet::from([catalogue::entity(event_type)]);
        if let Err(error) = self.pump.try_tell(Wake { entities }) {
            tracing::debug!(%error, "the pump was not woken");
        }
    }
}
