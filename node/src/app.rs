//! What request handlers share.

use crate::http::auth::Auth;
use crate::http::body::IngestGate;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use velox_actors::fault::Faults;
use velox_actors::handles::Tree;
use velox_actors::metrics::Metrics;
use velox_actors::sync_ingest::Ingest;
use velox_protocol::time::Clock;
use velox_store::Store;

/// One node, as its handlers see it. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The database.
    pub store: Store,
    /// The way into the log.
    pub ingest: Ingest,
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
    pub node_id: Arc<str>,
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
}
