//! What a till reads of the log, in order of arrival and without gaps.
//!
//! Each event is given in the form that counts. Where that is not the one that came first, the event stands at the
//! arrival of that form, so that a till that has gone past it is given it again.
//!
//! An event's `received_at` is a time within the transaction that stored it, so one that commits late has an
//! early time. A page therefore ends before the start of every transaction that may still store events: those
//! of ingest connections, and any other that has written something. Projectors never store events, and
//! transactions of other databases do not matter.

use crate::{Error, PROJECTION_APPLICATION, PullPosition, Store};
use chrono::{DateTime, Utc};
use sqlx::types::Json;
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::api::{PulledActor, PulledEvent};
use velox_protocol::clock::VectorClock;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The shop.
    pub store_id: Uuid,
    /// After this one; `None`: from the beginning.
    pub after: Option<PullPosition>,
    /// The asking device, whose own events are left out.
    pub without_device: Option<String>,
    /// Types that are left out.
    pub without_types: Vec<String>,
    /// Most events of the page.
    pub limit: i64,
}

/// A page of the log.
#[derive(Debug)]
pub struct Pulled {
    /// Its events.
    pub events: Vec<PulledEvent>,
    /// Where the next page begins: after this one. The asked position where the page is empty.
    pub end: Option<PullPosition>,
    /// Whether more is there already.
    pub has_more: bool,
}

struct Row {
    event_id: String,
    device_id: String,
    event_type: String,
    seq: Option<i64>,
    version: i32,
    created_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    actor_user_id: Option<String>,
    actor_role: Option<String>,
    payload: Json<Box<serde_json::value::RawValue>>,
    vector_clock: Option<Json<VectorClock>>,
}

/// Times are kept to the millisecond: what was acknowledged before the call lies in an earlier one than the
/// bound only if one has passed.
const ONE_TICK: Duration = Duration::from_millis(1);

impl Store {
    /// Reads a page of a store's log.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.events.pull", level = "debug", skip_all)]
    pub async fn pull(&self, request: &PullRequest) -> Result<Pulled, Error> {
        tokio::time::sleep(ONE_TICK).await;
        let bound = self.settled_until().await?;
        let (after, after_id) = match &request.after {
            Some(position) => (position.received_at, position.event_id.as_str()),
            None => (DateTime::<Utc>::MIN_UTC.max(DateTime::UNIX_EPOCH), ""),
        };
        let mut rows = sqlx::query_as!(
            Row,
            r#"SELECT event_id AS "event_id!", device_id AS "device_id!", type AS "event_type!", seq,
                   version AS "version!", created_at AS "created_at!", received_at AS "received_at!", actor_user_id,
                   actor_role, payload AS "payload!: Json<Box<serde_json::value::RawValue>>",
                   vector_clock AS "vector_clock: Json<VectorClock>"
               FROM ((
                   SELECT e.event_id, e.device_id, e.type, e.seq, e.version, e.created_at, e.received_at,
                       e.actor_user_id, e.actor_role, e.payload, e.vector_clock
                   FROM events e
                   WHERE e.store_id = $1 AND (e.received_at, e.event_id) > ($2, $3::text COLLATE "C")
                     AND e.received_at < $4 AND ($5::text IS NULL OR e.device_id <> $5)
                     AND NOT (e.type = ANY($6::text[]))
                     AND NOT EXISTS (SELECT 1 FROM event_variants v
                         WHERE v.store_id = e.store_id AND v.event_id = e.event_id AND v.effective OFFSET 0)
                   ORDER BY e.received_at, e.event_id LIMIT $7
               ) UNION ALL (
                   SELECT v.event_id, v.device_id, v.type, v.seq, v.version, v.created_at, v.received_at,
                       v.actor_user_id, v.actor_role, v.payload, v.vector_clock
                   FROM event_variants v
                   WHERE v.effective AND v.store_id = $1 AND (v.received_at, v.event_id) > ($2, $3::text COLLATE "C")
                     AND v.received_at < $4 AND ($5::text IS NULL OR v.device_id <> $5)
                     AND NOT (v.type = ANY($6::text[]))
                   ORDER BY v.received_at, v.event_id LIMIT $7
               )) AS log
               ORDER BY received_at, event_id LIMIT $7"#,
            request.store_id,
            after,
            after_id,
            bound,
            request.without_device,
            &request.without_types,
            request.limit + 1,
        )
        .fetch_all(&self.pool)
        .await?;
        let has_more = rows.len() as i64 > request.limit;
        rows.truncate(usize::try_from(request.limit).unwrap_or(0));
        let end = rows
            .last()
            .map(|row| PullPosition { received_at: row.received_at, event_id: row.event_id.clone() })
            .or_else(|| request.after.clone());
        let events = rows.into_iter().map(|row| row.into_event(request.store_id)).collect();
        Ok(Pulled { events, end, has_more })
    }

    /// The time before which nothing will appear any more, cut to the millisecond.
    pub(crate) async fn settled_until(&self) -> Result<DateTime<Utc>, Error> {
        let bound = sqlx::query_scalar!(
            r#"SELECT date_trunc('milliseconds', least(statement_timestamp(), (
                   SELECT min(xact_start) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
                     AND application_name <> $1
                     AND (backend_xid IS NOT NULL OR application_name = $2)))) AS "bound!""#,
            PROJECTION_APPLICATION,
            crate::INGEST_APPLICATION
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(bound)
    }
}

impl Row {
    fn into_event(self, store_id: Uuid) -> PulledEvent {
        PulledEvent {
            event_id: self.event_id,
            store_id,
            device_id: self.device_id,
            event_type: self.event_type,
            seq: self.seq,
            version: self.version,
            created_at: self.created_at.timestamp_millis(),
            received_at: self.received_at.timestamp_millis(),
            actor: PulledActor { user_id: self.actor_user_id, role: self.actor_role },
            payload: self.payload.0,
            vector_clock: self.vector_clock.map(|json| json.0),
        }
    }
}
