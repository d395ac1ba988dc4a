//! Shapes of v1's sync calls, with what Velox adds. Fields are added, never renamed or removed.

use crate::clock::VectorClock;
use crate::event::{Rejection, Warning};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Most events of one push.
pub const MAX_PUSH_EVENTS: usize = 2_000;

/// The body of `POST /sync/push`; its events are read one by one, so that a fault of one is its own.
#[derive(Debug, Deserialize)]
pub struct PushBody<'a> {
    /// The store, a UUID.
    pub store_id: String,
    /// The till.
    pub device_id: String,
    /// The till's software.
    #[serde(default, deserialize_with = "lenient")]
    pub client_version: Option<String>,
    /// Extensions that the client understands, such as `conflicts`.
    #[serde(default, deserialize_with = "lenient")]
    pub accepts: Option<Vec<String>>,
    /// The events, as sent.
    #[serde(borrow)]
    pub events: Vec<&'a RawValue>,
}

/// A field that the push can do without: of another kind it counts as absent, since a till gives up the events of
/// a push that is refused.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// An accepted event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Accepted {
    /// The event.
    pub event_id: String,
    /// The till's counter, as sent.
    pub seq: Option<i64>,
    /// Hex SHA-256 of the payload that stands here under the id; told to peers alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_hash: Option<String>,
}

/// An event that a person has to decide; only for clients that accept conflicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[expect(missing_docs, reason = "the fields of v1's answer")]
pub struct Conflicted {
    pub event_id: String,
    pub seq: Option<i64>,
    pub conflict_id: uuid::Uuid,
    pub reason: String,
    pub requires_manual_review: bool,
    pub conflicting_with: Vec<String>,
}

/// The answer to a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PushAnswer {
    /// In push order, duplicates among them.
    pub accepted: Vec<Accepted>,
    /// Refused for good.
    pub rejected: Vec<Rejection>,
    /// For a person to decide.
    pub conflicted: Vec<Conflicted>,
    /// Of `accepted` those that were known already.
    pub duplicates: Vec<String>,
    /// Remarks.
    pub warnings: Vec<Warning>,
    /// The node's time, ms since 1970.
    pub server_time: i64,
    /// Greatest accepted seq of this push, else 0.
    pub last_processed_seq: i64,
    /// Device -> counter, what the till has seen: the merge of the clocks of this push's accepted events and of those
    /// that it has acknowledged by pulling.
    #[schema(value_type = std::collections::BTreeMap<String, i64>)]
    pub server_vector_clock: VectorClock,
    /// Hex SHA-256 of `dev:n|dev:n`, sorted.
    pub causal_digest: String,
}

/// One event of a pull.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[expect(missing_docs, reason = "the fields of v1's answer")]
pub struct PulledEvent {
    pub event_id: String,
    pub store_id: uuid::Uuid,
    pub device_id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub seq: Option<i64>,
    pub version: i32,
    /// ms since 1970
    pub created_at: i64,
    /// ms since 1970
    pub received_at: i64,
    pub actor: PulledActor,
    #[schema(value_type = Object)]
    pub payload: Box<RawValue>,
    #[schema(value_type = Option<std::collections::BTreeMap<String, i64>>)]
    pub vector_clock: Option<VectorClock>,
}

/// Who acted.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[expect(missing_docs, reason = "the fields of v1's answer")]
pub struct PulledActor {
    pub user_id: Option<String>,
    pub role: Option<String>,
}

/// The answer to a pull.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct PullAnswer {
    /// Ordered by (received_at, event_id).
    pub events: Vec<PulledEvent>,
    /// Where to go on: the next `last_checkpoint`.
    pub last_server_time: i64,
    /// Where to go on: the next `cursor_event_id`.
    pub last_server_event_id: String,
    /// Where to go on: the next opaque `cursor`.
    pub next_cursor: String,
    /// Whether more is there already.
    pub has_more: bool,
}

/// The answer of `GET /sync/status`.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[expect(missing_docs, reason = "the fields of v1's answer")]
pub struct SyncStatus {
    pub store_id: uuid::Uuid,
    pub device_id: String,
    pub last_synced_at: Option<i64>,
    pub last_event_seq: i64,
    pub pending_events_count: i64,
    pub last_sync_duration_ms: Option<i64>,
    pub last_sync_error: Option<String>,
}
