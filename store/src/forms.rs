//! All forms of given events, with everything that another node needs to store them.
//!
//! Never here: which events those are, and what becomes of them there.

use crate::{Error, Store};
use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::event::Event;

/// One form of an event as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredForm {
    /// The event, byte for byte as it came.
    pub event: Event,
    /// When it came here.
    pub received_at: DateTime<Utc>,
    /// The node that it came from; `None`: a till, or this node itself.
    pub origin_node: Option<String>,
    /// W3C trace context of the request that brought it.
    pub trace_parent: Option<String>,
}

struct Row {
    event_id: String,
    device_id: String,
    seq: Option<i64>,
    event_type: String,
    version: i32,
    payload: String,
    payload_hash: Vec<u8>,
    sent_hash: Option<Vec<u8>>,
    delta_payload: Option<String>,
    vector_clock: Option<Json<VectorClock>>,
    causal_dependencies: Option<Json<Vec<String>>>,
    causal_digest: Option<String>,
    request_id: Option<String>,
    actor_user_id: Option<String>,
    actor_role: Option<String>,
    created_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    origin_node: Option<String>,
    trace_parent: Option<String>,
}

impl Store {
    /// All forms of these events, event by event in the order of their ids, what came first before the others.
    /// Unknown ids are passed over. Payloads are up to 1 MiB each, so the caller bounds how many it asks for.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.forms", level = "debug", skip_all)]
    pub async fn event_forms(&self, store_id: Uuid, event_ids: &[String]) -> Result<Vec<StoredForm>, Error> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT event_id AS "event_id!", device_id AS "device_id!", seq, type AS "event_type!",
                   version AS "version!", payload::text AS "payload!", payload_hash AS "payload_hash!", sent_hash,
                   delta_payload::text AS delta_payload, vector_clock AS "vector_clock: Json<VectorClock>",
                   causal_dependencies AS "causal_dependencies: Json<Vec<String>>", causal_digest, request_id,
                   actor_user_id, actor_role, created_at AS "created_at!", received_at AS "received_at!",
                   origin_node, trace_parent
               FROM (
                   SELECT 0 AS place, ''::bytea AS form_hash, event_id, device_id, seq, type, version, payload,
                       payload_hash, sent_hash, delta_payload, vector_clock, causal_dependencies, causal_digest,
                       request_id, actor_user_id, actor_role, created_at, received_at, origin_node, trace_parent
                   FROM events WHERE store_id = $1 AND event_id = ANY($2)
                   UNION ALL
                   SELECT 1, form_hash, event_id, device_id, seq, type, version, payload,
                       payload_hash, sent_hash, delta_payload, vector_clock, causal_dependencies, causal_digest,
                       request_id, actor_user_id, actor_role, created_at, received_at, origin_node, trace_parent
                   FROM event_variants WHERE store_id = $1 AND event_id = ANY($2)) AS forms
               ORDER BY event_id, place, received_at, form_hash"#,
            store_id,
            event_ids
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(|row| row.form(store_id)).collect()
    }
}

impl Row {
    fn form(self, store_id: Uuid) -> Result<StoredForm, Error> {
        let hash = |column: &'static str, bytes: Vec<u8>| {
            let what = || Error::Inconsistent { table: "events", what: format!("{column} is no SHA-256") };
            <[u8; 32]>::try_from(bytes).map_err(|_| what())
        };
        Ok(StoredForm {
            event: Event {
                store_id,
                event_id: self.event_id,
                device_id: self.device_id,
                seq: self.seq,
                event_type: self.event_type,
                version: self.version,
                created_at: self.created_at,
                payload: self.payload,
                payload_hash: hash("payload_hash", self.payload_hash)?,
                sent_hash: self.sent_hash.map(|bytes| hash("sent_hash", bytes)).transpose()?,
                delta_payload: self.delta_payload,
                vector_clock: self.vector_clock.map(|json| json.0),
                causal_dependencies: self.causal_dependencies.map(|json| json.0).unwrap_or_default(),
                request_id: self.request_id,
                causal_digest: self.causal_digest,
                actor_user_id: self.actor_user_id,
                actor_role: self.actor_role,
            },
            received_at: self.received_at,
            origin_node: self.origin_node,
            trace_parent: self.trace_parent,
        })
    }
}
