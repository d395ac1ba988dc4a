//! The supervisor tree of a node and its actors, which message each other and work on the store.
//!
//! Never here: SQL, an HTTP server, decisions about events (see `velox_protocol`).
//!
//! To add an actor: 1. a module with the struct, its [`message::Worker`], its messages and their
//! [`message::TracedHandler`]s, 2. a child in [`tree`], 3. its name in the docs of the architecture. Messages
//! are wake-ups; what must not be lost is a row.

pub mod breaker;
pub mod fault;
pub mod fiscal_allocator;
pub mod handles;
pub mod keeper;
pub mod message;
pub mod metrics;
pub mod orphan_healer;
pub mod outbox_pump;
pub mod peer;
pub mod projector;
pub mod reconciler;
pub mod relay;
#[cfg(feature = "sabotage")]
pub mod sabotage;
pub mod supervisor;
pub mod sync_ingest;
pub mod trace;
pub mod tree;
pub mod triage;

use breaker::BreakerPolicy;
use fault::Faults;
use metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;
use velox_protocol::time::Clock;
use velox_store::{RetryPolicy, Store};

/// What actors work with; cheap to clone.
#[derive(Clone)]
pub struct Deps {
    /// The database.
    pub store: Store,
    /// The present time.
    pub clock: Arc<dyn Clock>,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// Injected faults.
    pub faults: Faults,
    /// Tells this process from the other pods of the node.
    pub pod: u64,
    /// What is configured.
    pub settings: Settings,
}

/// The part of the configuration that actors read.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Safety net of the outbox: how often it is looked at without being woken.
    pub outbox_poll: Duration,
    /// Failed projections.
    pub projection_retry: RetryPolicy,
    /// Events that a peer refuses.
    pub relay_retry: RetryPolicy,
    /// Peers' circuit breakers.
    pub breaker: BreakerPolicy,
    /// How often missing rows are looked for.
    pub heal_interval: Duration,
    /// How often logs are compared without a reason.
    pub reconcile_interval: Duration,
    /// Life of a lease.
    pub lease_ttl: Duration,
    /// How long done entries are kept; zero: not at all.
    pub outbox_retention: Duration,
    /// After so long without a sign of life an actor hangs.
    pub hang_limit: Duration,
    /// The promise that is broken on purpose.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<sabotage::Sabotage>,
}
