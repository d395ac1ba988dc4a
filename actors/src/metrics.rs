//! What a node counts and measures: one struct, whose doc comments are the help texts.
//!
//! Labels are bounded: entities, outcomes, codes, routes; never a device or a store.
//!
//! To add a metric: 1. a field with its doc comment, 2. its registration in [`Metrics::new`].

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `new`, `duplicate`, `rejected`, … as the metric says.
    pub outcome: String,
}

/// The entity of a projector.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfEntity {
    /// `sale`, `debt`, …
    pub entity: String,
}

/// Route and status of an answered request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answered {
    /// The route's pattern, `unknown` for none.
    pub route: String,
    /// The status code.
    pub status: u16,
}

/// An actor of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfActor {
    /// Its name.
    pub actor: String,
}

/// An outbox queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfQueue {
    /// `projection` or `federation-relay`
    pub target: String,
    /// `pending` or `dead`
    pub status: String,
}

/// All metrics of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Events of pushes, by outcome: new, duplicate, other_content, rejected.
    pub ingest_events: Family<Outcome, Counter>,
    /// Transactions that stored pushes.
    pub ingest_commits: Counter,
    /// Pushes in a transaction.
    pub ingest_group_pushes: Histogram,
    /// Seconds a group took from its start to its commit.
    pub ingest_commit_seconds: Histogram,
    /// Warnings in answers to pushes, by code.
    pub push_warnings: Family<Outcome, Counter>,
    /// Events whose hash was wrong.
    pub hash_mismatches: Counter,
    /// Projected events, by entity.
    pub projected_events: Family<OfEntity, Counter>,
    /// Failed attempts at a projection, by entity.
    pub projection_failures: Family<OfEntity, Counter>,
    /// Seconds from an event's arrival to its rows.
    pub projection_lag_seconds: Histogram,
    /// Events for peers, by outcome: accepted, refused; and exchanges that failed.
    pub relayed_events: Family<Outcome, Counter>,
    /// Changes of peers' circuit breakers, by the state that it changed to.
    pub breaker_changes: Family<Outcome, Counter>,
    /// Reconciliations that ended because their lease had become another's.
    pub fenced_writes: Counter,
    /// Answered HTTP requests, by route and status.
    pub http_requests: Family<Answered, Counter>,
    /// Outbox entries, by target and status; read at the scrape.
    pub outbox_entries: Family<OfQueue, Gauge>,
    /// Restarts of an actor since the start; read at the scrape.
    pub actor_restarts: Family<OfActor, Gauge>,
    /// Messages in an actor's mailbox; read at the scrape.
    pub actor_mailbox: Family<OfActor, Gauge>,
}

/// From a tenth of a millisecond to about half a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 19))
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("velox");
        macro_rules! register {
            ($name:ident, $metric:expr, $help:literal) => {{
                let metric = $metric;
                registry.register(stringify!($name), $help, metric.clone());
                metric
            }};
        }
        let ingest_events = register!(
            ingest_events,
            Family::default(),
            "Events of pushes by outcome: new, duplicate, other_content, rejected"
        );
        let ingest_commits = register!(ingest_commits, Counter::default(), "Transactions that stored pushes");
        let ingest_group_pushes = register!(
            ingest_group_pushes,
            Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            "Pushes in a transaction"
        );
        let ingest_commit_seconds =
            register!(ingest_commit_seconds, seconds(), "Seconds a group took from its start to its commit");
        let push_warnings =
            register!(push_warnings, Family::default(), "Warnings in answers to pushes by code");
        let hash_mismatches = register!(hash_mismatches, Counter::default(), "Events whose hash was wrong");
        let projected_events = register!(projected_events, Family::default(), "Projected events by entity");
        let projection_failures =
            register!(projection_failures, Family::default(), "Failed attempts at a projection by entity");
        let projection_lag_seconds =
            register!(projection_lag_seconds, seconds(), "Seconds from an event's arrival to its rows");
        let relayed_events = register!(
            relayed_events,
            Family::default(),
            "Events for peers by outcome: accepted, refused, not_sent, failed"
        );
        let breaker_changes = register!(
            breaker_changes,
            Family::default(),
            "Changes of peers' circuit breakers by the state changed to"
        );
        let fenced_writes = register!(
            fenced_writes,
            Counter::default(),
            "Reconciliations that ended because their lease had become another's"
        );
        let http_requests =
            register!(http_requests, Family::default(), "Answered HTTP requests by route and status");
        let outbox_entries =
            register!(outbox_entries, Family::default(), "Outbox entries by target and status");
        let actor_restarts =
            register!(actor_restarts, Family::default(), "Restarts of an actor since the start");
        let actor_mailbox = register!(actor_mailbox, Family::default(), "Messages in an actor's mailbox");
        Metrics {
            registry,
            ingest_events,
            ingest_commits,
            ingest_group_pushes,
            ingest_commit_seconds,
            push_warnings,
            hash_mismatches,
            projected_events,
            projection_failures,
            projection_lag_seconds,
            relayed_events,
            breaker_changes,
            fenced_writes,
            http_requests,
            outbox_entries,
            actor_restarts,
            actor_mailbox,
        }
    }

    pub(crate) fn relayed(&self, outcome: &str, count: u64) {
        if count > 0 {
            self.relayed_events.get_or_create(&Outcome { outcome: outcome.to_owned() }).inc_by(count);
        }
    }

    /// The OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let written = encode(&mut text, &self.registry);
        debug_assert!(written.is_ok());
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
