//! The trail of one event: who wrote it, what became of it here, to whom it went.
//!
//! Never here: anything that changes it.

use crate::reads::{millis, optional_millis};
use crate::{Error, Store};
use chrono::{DateTime, Duration, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;
use velox_protocol::clock::VectorClock;

/// An event that waits for longer is shown as old (01).
const OLD_AFTER: Duration = Duration::hours(24);
/// Most forms, deliveries and devices that are shown, the newest: whoever looks at one event reads no more.
const SHOWN: i64 = 100;

/// All that this node knows of an event, in the form that counts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EventTrail {
    /// The shop.
    pub store_id: Uuid,
    /// The event.
    pub event_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The till that wrote it.
    pub device_id: String,
    /// The till's own counter.
    pub seq: Option<i64>,
    /// Of the payload's schema.
    pub version: i32,
    /// The till's time.
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
    /// When it came here.
    #[serde(serialize_with = "millis")]
    pub received_at: DateTime<Utc>,
    /// Who acted.
    pub actor: TrailActor,
    /// As it was received.
    #[schema(value_type = Object)]
    pub payload: Json<Box<RawValue>>,
    /// Hex SHA-256 of the canonical payload.
    pub payload_hash: String,
    /// As it was sent, without what is no counter.
    #[schema(value_type = Option<std::collections::BTreeMap<String, i64>>)]
    pub vector_clock: Option<Json<VectorClock>>,
    /// Ids of events that the till saw before.
    #[schema(value_type = Vec<String>)]
    pub causal_dependencies: Json<Vec<String>>,
    /// The envelope's.
    pub request_id: Option<String>,
    /// The node that it came from; `null`: a till, or this node itself.
    pub origin_node: Option<String>,
    /// W3C trace context of the request that brought it.
    pub trace_parent: Option<String>,
    /// What became of it in the read tables.
    pub projection: ProjectionTrail,
    /// Its queue entries that are still there.
    pub outbox: Vec<OutboxTrail>,
    /// All forms that were met, where there are several: of the first arrival first.
    pub variants: Vec<VariantTrail>,
    /// Batches for peers that it was in, the newest first.
    pub deliveries: Vec<Delivery>,
    /// Other devices that were given it or what came after it.
    pub pulled_by: Vec<String>,
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields of the envelope")]
pub struct TrailActor {
    pub user_id: Option<String>,
    pub role: Option<String>,
}

/// What became of an event in the read tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProjectionTrail {
    /// `pending`, `waiting`, `absorbed`, `skipped`, `failed` or `processed`
    pub status: String,
    /// What a waiting one needs.
    pub waiting_for: Option<WaitingFor>,
    /// The event that stands in its place.
    pub absorbed_by: Option<String>,
    /// Why it failed or was skipped; of a pending one why the last attempt failed.
    pub error: Option<String>,
    /// Since when it is so; `null`: as soon as it could be.
    #[serde(serialize_with = "optional_millis")]
    pub since: Option<DateTime<Utc>>,
    /// Failed attempts.
    pub attempts: i32,
    /// It waits for over 24 hours.
    pub old: bool,
}

/// What an event waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WaitingFor {
    /// `sale` or `debt`
    pub kind: &'static str,
    /// Its id.
    pub id: String,
}

/// A queue entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutboxTrail {
    /// `projection` or `federation-relay`
    pub target: String,
    /// Of a relay: to whom.
    pub peer: String,
    /// `pending`, `dead` or `processed`
    pub status: String,
    /// Failures so far.
    pub retry_count: i32,
    /// The last one.
    pub error: Option<String>,
    /// When it was queued.
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
    /// Not before; `null`: at once.
    #[serde(serialize_with = "optional_millis")]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it was done.
    #[serde(serialize_with = "optional_millis")]
    pub processed_at: Option<DateTime<Utc>>,
}

/// One form of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields of the event")]
pub struct VariantTrail {
    pub device_id: String,
    pub seq: Option<i64>,
    #[serde(rename = "type")]
    pub event_type: String,
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
    #[serde(serialize_with = "millis")]
    pub received_at: DateTime<Utc>,
    pub payload_hash: String,
    /// It is the one that counts.
    pub effective: bool,
}

/// A batch for a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Delivery {
    /// To whom.
    pub peer: String,
    /// When it went out.
    #[serde(serialize_with = "millis")]
    pub sent_at: DateTime<Utc>,
    /// When the peer had it.
    #[serde(serialize_with = "optional_millis")]
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Why it is done without having been sent.
    pub reason: Option<String>,
    /// Hex SHA-256 of its payload as the peer has it; `null`: the peer did not say.
    pub peer_hash: Option<String>,
}

/// What is read of the event and its exception.
struct Row {
    event_type: String,
    device_id: String,
    seq: Option<i64>,
    version: i32,
    created_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    actor_user_id: Option<String>,
    actor_role: Option<String>,
    payload: Json<Box<RawValue>>,
    payload_hash: String,
    vector_clock: Option<Json<VectorClock>>,
    causal_dependencies: Json<Vec<String>>,
    request_id: Option<String>,
    origin_node: Option<String>,
    trace_parent: Option<String>,
    status: Option<String>,
    reason: Option<String>,
    since: Option<DateTime<Utc>>,
    attempts: Option<i32>,
}

impl Store {
    /// The trail of an event; `None`: the store has no such event. `now`: to tell what waits for long.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.custody.trail", level = "debug", skip_all)]
    pub async fn event_trail(
        &self,
        store_id: Uuid,
        event_id: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<EventTrail>, Error> {
        let Some(row) = self.trail_row(store_id, event_id).await? else {
            return Ok(None);
        };
        let outbox = self.trail_outbox(store_id, event_id).await?;
        let variants = self.trail_variants(store_id, event_id).await?;
        let deliveries = self.trail_deliveries(store_id, event_id).await?;
        let pulled_by = self.trail_pulls(store_id, event_id, &row).await?;
        let projection = row.projection(&outbox, now);
        Ok(Some(EventTrail {
            store_id,
            event_id: event_id.to_owned(),
            event_type: row.event_type,
            device_id: row.device_id,
            seq: row.seq,
            version: row.version,
            created_at: row.created_at,
            received_at: row.received_at,
            actor: TrailActor { user_id: row.actor_user_id, role: row.actor_role },
            payload: row.payload,
            payload_hash: row.payload_hash,
            vector_clock: row.vector_clock,
            causal_dependencies: row.causal_dependencies,
            request_id: row.request_id,
            origin_node: row.origin_node,
            trace_parent: row.trace_parent,
            projection,
            outbox,
            variants,
            deliveries,
            pulled_by,
        }))
    }

    async fn trail_row(&self, store_id: Uuid, event_id: &str) -> Result<Option<Row>, Error> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT f.type AS "event_type!", f.device_id AS "device_id!", f.seq, f.version AS "version!",
                   f.created_at AS "created_at!", f.received_at AS "received_at!", f.actor_user_id, f.actor_role,
                   f.payload AS "payload!: Json<Box<RawValue>>", encode(f.payload_hash, 'hex') AS "payload_hash!",
                   f.vector_clock AS "vector_clock: Json<VectorClock>",
                   coalesce(f.causal_dependencies, '[]') AS "causal_dependencies!: Json<Vec<String>>", f.request_id,
                   CASE WHEN f.is_variant THEN v.origin_node ELSE e.origin_node END AS origin_node,
                   CASE WHEN f.is_variant THEN v.trace_parent ELSE e.trace_parent END AS trace_parent,
                   x.status AS "status?", x.reason, x.since AS "since?", x.attempts AS "attempts?"
               FROM effective_events f
               JOIN events e ON e.store_id = f.store_id AND e.event_id = f.event_id
               LEFT JOIN event_variants v
                   ON v.store_id = f.store_id AND v.event_id = f.event_id AND v.effective
               LEFT JOIN event_exceptions x ON x.store_id = f.store_id AND x.event_id = f.event_id
               WHERE f.store_id = $1 AND f.event_id = $2"#,
            store_id,
            event_id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row)
    }

    async fn trail_outbox(&self, store_id: Uuid, event_id: &str) -> Result<Vec<OutboxTrail>, Error> {
        let entries = sqlx::query_as!(
            OutboxTrail,
            "SELECT target, peer, status, retry_count, error, created_at, next_attempt_at, processed_at
             FROM outbox_entries WHERE store_id = $1 AND event_id = $2 ORDER BY target DESC, peer",
            store_id,
            event_id
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(entries)
    }

    async fn trail_variants(&self, store_id: Uuid, event_id: &str) -> Result<Vec<VariantTrail>, Error> {
        let forms = sqlx::query_as!(
            VariantTrail,
            r#"SELECT device_id AS "device_id!", seq, type AS "event_type!", created_at AS "created_at!",
                   received_at AS "received_at!", encode(payload_hash, 'hex') AS "payload_hash!",
                   effective AS "effective!"
               FROM (
                   SELECT 0 AS place, device_id, seq, type, created_at, received_at, payload_hash,
                       NOT EXISTS (SELECT 1 FROM event_variants
                                   WHERE store_id = $1 AND event_id = $2 AND effective) AS effective,
                       ''::bytea AS form_hash
                   FROM events WHERE store_id = $1 AND event_id = $2
                       AND EXISTS (SELECT 1 FROM event_variants WHERE store_id = $1 AND event_id = $2)
                   UNION ALL
                   SELECT 1, device_id, seq, type, created_at, received_at, payload_hash, effective, form_hash
                   FROM event_variants WHERE store_id = $1 AND event_id = $2) AS forms
               ORDER BY place, effective DESC, received_at, form_hash LIMIT $3"#,
            store_id,
            event_id,
            SHOWN
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(forms)
    }

    async fn trail_deliveries(&self, store_id: Uuid, event_id: &str) -> Result<Vec<Delivery>, Error> {
        let deliveries = sqlx::query_as!(
            Delivery,
            "SELECT peer, sent_at, acknowledged_at, reason,
                 peer_hashes[array_position(event_ids, $2::text)] AS peer_hash
             FROM relay_deliveries
             WHERE store_id = $1 AND event_ids @> ARRAY[$2::text] ORDER BY sent_at DESC, id DESC LIMIT $3",
            store_id,
            event_id,
            SHOWN
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(deliveries)
    }

    async fn trail_pulls(&self, store_id: Uuid, event_id: &str, row: &Row) -> Result<Vec<String>, Error> {
        let devices = sqlx::query_scalar!(
            r#"SELECT device_id FROM devices
               WHERE store_id = $1 AND device_id <> $2
                 AND (pull_checkpoint, pull_event_id) >= ($3, $4::text COLLATE "C")
               ORDER BY device_id LIMIT $5"#,
            store_id,
            row.device_id,
            row.received_at,
            event_id,
            SHOWN
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(devices)
    }
}

impl Row {
    fn projection(&self, outbox: &[OutboxTrail], now: DateTime<Utc>) -> ProjectionTrail {
        let entry = outbox.iter().find(|entry| entry.target == "projection");
        let pending = entry.filter(|entry| entry.status == "pending");
        let Some(status) = &self.status else {
            return ProjectionTrail {
                status: if pending.is_some() { "pending" } else { "processed" }.to_owned(),
                waiting_for: None,
                absorbed_by: None,
                error: pending.and_then(|entry| entry.error.clone()),
                since: match pending {
                    Some(entry) => Some(entry.created_at),
                    None => entry.and_then(|entry| entry.processed_at),
                },
                attempts: entry.map_or(0, |entry| entry.retry_count),
                old: false,
            };
        };
        let reason_of = |wanted: &[&str]| self.reason.clone().filter(|_| wanted.contains(&status.as_str()));
        let long_ago = self.since.is_some_and(|since| now - since > OLD_AFTER);
        ProjectionTrail {
            waiting_for: reason_of(&["waiting"]).map(|id| WaitingFor { kind: self.waits_for(), id }),
            absorbed_by: reason_of(&["absorbed"]),
            error: reason_of(&["failed", "skipped"]),
            since: self.since,
            attempts: self.attempts.unwrap_or(0),
            old: status == "waiting" && long_ago,
            status: status.clone(),
        }
    }

    /// Payments wait for their debt, voids for their sale; nothing else waits.
    fn waits_for(&self) -> &'static str {
        if self.event_type == "SaleVoided" { "sale" } else { "debt" }
    }
}
