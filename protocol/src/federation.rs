//! Shapes of the calls between native nodes. Fields are added, never renamed or removed.
//!
//! Never here: v1's calls between nodes, signatures, sending.

use crate::clock::VectorClock;
use crate::event::uuid_of;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// Most events of one relay request.
pub const MAX_RELAYED: usize = 200;
/// Longest id of a node.
pub const MAX_NODE_ID: usize = 128;

/// Who a node is and which database it has: told with every relay, every answer to one, and every probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The node.
    pub node_id: String,
    /// Tells its database from an earlier state of itself.
    pub incarnation: Uuid,
}

impl NodeIdentity {
    /// As a peer tells it; `None`: it tells nothing, or what cannot be kept.
    pub fn told(node_id: Option<&str>, incarnation: Option<&str>) -> Option<Self> {
        let node_id = node_id.filter(|id| !id.is_empty() && id.len() <= MAX_NODE_ID && !id.contains('\0'))?;
        Some(NodeIdentity { node_id: node_id.to_owned(), incarnation: uuid_of(incarnation?)? })
    }
}

/// The body of `POST /sync/federation/relay`; its events are read one by one, so that a fault of one is its own.
#[derive(Debug, Deserialize)]
pub struct RelayBody<'a> {
    /// The sending node.
    #[serde(default)]
    pub node_id: Option<String>,
    /// Of its database.
    #[serde(default)]
    pub incarnation: Option<String>,
    /// The store of events that name none.
    #[serde(default)]
    pub store_id: Option<String>,
    /// The device of events that name none.
    #[serde(default)]
    pub device_id: Option<String>,
    /// See [`RelayedEvent`].
    #[serde(borrow)]
    pub events: Vec<&'a RawValue>,
}

/// What a relayed event says beside its envelope.
#[derive(Debug, Default, Deserialize)]
pub struct RelayedHead {
    /// The shop.
    #[serde(default)]
    pub store_id: Option<String>,
    /// The writing till.
    #[serde(default)]
    pub device_id: Option<String>,
    /// The node that took it from its till.
    #[serde(default)]
    pub origin_node: Option<String>,
    /// W3C trace context under which it is sent.
    #[serde(default)]
    pub trace_parent: Option<String>,
}

/// An event on its way to a peer: the envelope of a push, with its store, device and origin.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the fields of the envelope")]
pub struct RelayedEvent<'a> {
    pub store_id: Uuid,
    pub device_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_parent: Option<&'a str>,
    pub event_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    #[serde(rename = "type")]
    pub event_type: &'a str,
    pub version: i32,
    /// ms since 1970
    pub created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<RelayedActor<'a>>,
    pub payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector_clock: Option<&'a VectorClock>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub causal_dependencies: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causal_digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_payload_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
}

/// Who acted.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the fields of the envelope")]
pub struct RelayedActor<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'a str>,
}

/// What a sender reads of the answer to a relay: that of a push. Without both lists it is no answer.
#[derive(Debug, Deserialize)]
pub struct RelayAnswer {
    /// Stored now or before.
    pub accepted: Vec<AcceptedThere>,
    /// Refused.
    pub rejected: Vec<RefusedThere>,
    /// Of `accepted` those that were known; v1 lists them apart.
    #[serde(default)]
    pub duplicates: Vec<String>,
    /// Stored, for a person to decide; v1 alone.
    #[serde(default)]
    pub conflicted: Vec<AcceptedThere>,
    /// The node that answers.
    #[serde(default)]
    pub node_id: Option<String>,
    /// Of its database.
    #[serde(default)]
    pub incarnation: Option<String>,
}

/// An event that the peer has.
#[derive(Debug, Deserialize)]
pub struct AcceptedThere {
    /// Which.
    pub event_id: String,
    /// Hex SHA-256 of its payload, as the peer has it.
    #[serde(default)]
    pub payload_hash: Option<String>,
}

/// An event that the peer refuses.
#[derive(Debug, Deserialize)]
pub struct RefusedThere {
    /// Which.
    pub event_id: String,
    /// Upper case.
    #[serde(default)]
    pub code: String,
    /// For a person.
    #[serde(default)]
    pub message: String,
}

/// The answer of `GET /sync/federation/probe`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Probe {
    /// The node that answers.
    pub node_id: String,
    /// Tells its database from an earlier state of itself.
    pub incarnation: Uuid,
    /// Of the program.
    pub version: String,
    /// The newest migration of its database.
    pub schema_version: i64,
    /// Its time, ms since 1970.
    pub time: i64,
    /// Whether it would take events now.
    pub ready: bool,
}
