//! Which events are meant where somebody has them projected or sent again.
//!
//! Never here: queueing them (see `crate::outbox`, `crate::projections`, `crate::relay`).

use crate::{Error, Store, TimeRange};
use chrono::{DateTime, Utc};
use uuid::Uuid;
use velox_protocol::event::uuid_of;

/// A debt that a payment waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Awaited {
    /// The shop.
    pub store_id: Uuid,
    /// The debt, as the payment names it.
    pub debt_id: Uuid,
}

impl Store {
    /// Of these ids those that events bear.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.known_events", level = "debug", skip_all)]
    pub async fn known_events(&self, store_id: Uuid, event_ids: &[String]) -> Result<Vec<String>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT event_id FROM events WHERE store_id = $1 AND event_id = ANY($2)",
            store_id,
            event_ids
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids)
    }

    /// Events of these types whose own time lies in a stretch of it: at most `limit`, the oldest first.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.events_of", level = "debug", skip_all)]
    pub async fn events_of(
        &self,
        store_id: Uuid,
        types: &[String],
        range: TimeRange,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        let ids = sqlx::query_scalar!(
            r#"SELECT event_id AS "event_id!" FROM effective_events
               WHERE store_id = $1 AND type = ANY($2) AND created_at >= $3 AND created_at < $4
               ORDER BY created_at, event_id LIMIT $5"#,
            store_id,
            types,
            range.from,
            range.until,
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids)
    }

    /// Events of these types that have come since then, but not from this peer: id, type and device.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.events_since", level = "debug", skip_all)]
    pub async fn events_since(
        &self,
        store_id: Uuid,
        types: &[&str],
        since: DateTime<Utc>,
        not_from: &str,
    ) -> Result<Vec<(String, String, String)>, Error> {
        let rows = sqlx::query!(
            "SELECT event_id, type AS event_type, device_id FROM events
             WHERE store_id = $1 AND type = ANY($2) AND received_at >= $3 AND from_peer IS DISTINCT FROM $4
             ORDER BY received_at, event_id",
            store_id,
            types as &[&str],
            since,
            not_from
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.event_id, row.event_type, row.device_id)).collect())
    }

    /// Debts that payments have waited for, for a month at most: the latest first. `stores`: `None` for all.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.awaited_debts", level = "debug", skip_all)]
    pub async fn awaited_debts(&self, stores: Option<&[Uuid]>, limit: u32) -> Result<Vec<Awaited>, Error> {
        let rows = sqlx::query!(
            r#"SELECT x.store_id, x.reason AS "reason!" FROM event_exceptions x JOIN effective_events e USING (store_id, event_id)
               WHERE x.status = 'waiting' AND x.reason IS NOT NULL AND x.since > now() - interval '30 days'
                 AND e.type IN ('DebtPaymentRecorded', 'DebtPaymentAdded')
                 AND ($1::uuid[] IS NULL OR x.store_id = ANY($1))
               GROUP BY x.store_id, x.reason ORDER BY max(x.since) DESC LIMIT $2"#,
            stores,
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        let awaited =
            |(store_id, reason): (Uuid, String)| Some(Awaited { store_id, debt_id: uuid_of(&reason)? });
        Ok(rows.into_iter().filter_map(|row| awaited((row.store_id, row.reason))).collect())
    }
}
