//! What a peer that cannot be asked is likely to lack: what waits for it, and what came since it last answered and was
//! not acknowledged by it.

use crate::{Error, Store};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::triage::{EXAMPLES, Kind, Missing};

/// What is known here of a peer that may be away.
#[derive(Debug, Clone, Default)]
pub struct AwayPeer {
    /// When it last answered as it should.
    pub last_success_at: Option<DateTime<Utc>>,
    /// Events that have not reached it, as far as is known; by the name of the kind.
    pub waiting: BTreeMap<String, Missing>,
}

impl Store {
    /// What has not reached a peer, as far as this node knows by itself: entries may be lost, so that also counts what
    /// came here after the peer's last answer, not from the peer, and is in no delivery that it acknowledged.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.triage.waiting", level = "debug", skip_all, fields(peer))]
    pub async fn waiting_for_peer(&self, store_id: Uuid, peer: &str) -> Result<AwayPeer, Error> {
        let rows = sqlx::query!(
            r#"WITH seen AS (
                   SELECT coalesce(max(last_success_at), '-infinity') AS at FROM peers_seen WHERE peer = $2
               ), known AS MATERIALIZED (
                   SELECT unnest(event_ids) AS event_id FROM relay_deliveries WHERE store_id = $1 AND peer = $2
               ), lacking AS (
                   SELECT event_id FROM outbox_entries
                   WHERE store_id = $1 AND target = 'federation-relay' AND peer = $2 AND status IN ('pending', 'dead')
                   UNION
                   SELECT e.event_id FROM events e
                   WHERE e.store_id = $1 AND e.received_at > (SELECT at FROM seen) AND e.from_peer IS DISTINCT FROM $2
                     AND NOT EXISTS (SELECT 1 FROM known k WHERE k.event_id = e.event_id)
               )
               SELECT e.type AS "event_type!", count(*) AS "count!", min(e.received_at) AS "since!",
                   (array_agg(e.event_id ORDER BY e.received_at))[1:$3] AS "sample!"
               FROM lacking l JOIN events e ON e.store_id = $1 AND e.event_id = l.event_id
               GROUP BY e.type"#,
            store_id,
            peer,
            i32::try_from(EXAMPLES).unwrap_or(1)
        )
        .fetch_all(&self.pool)
        .await?;
        let last_success_at =
            sqlx::query_scalar!("SELECT last_success_at FROM peers_seen WHERE peer = $1", peer)
                .fetch_optional(&self.pool)
                .await?
                .flatten();
        let mut waiting: BTreeMap<String, Missing> = BTreeMap::new();
        for row in rows {
            let of_kind = waiting.entry(Kind::of(&row.event_type).name().to_owned()).or_default();
            of_kind.count += u64::try_from(row.count).unwrap_or(0);
            of_kind.since = Some(of_kind.since.map_or(row.since, |since| since.min(row.since)));
            of_kind.sample.extend(row.sample);
            of_kind.sample.truncate(EXAMPLES);
        }
        Ok(AwayPeer { last_success_at, waiting })
    }

    /// When the first of these events came here.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.triage.first_received", level = "debug", skip_all)]
    pub async fn first_received(
        &self,
        store_id: Uuid,
        event_ids: &[String],
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let first = sqlx::query_scalar!(
            "SELECT min(received_at) FROM events WHERE store_id = $1 AND event_id = ANY($2)",
            store_id,
            event_ids
        );
        Ok(first.fetch_one(&self.pool).await?)
    }
}
