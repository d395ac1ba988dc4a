//! Orphans: events whose rows are missing in the read tables, whatever their status says, and how one is healed.
//!
//! What is missing is looked for in the tables themselves: an entry that says 'processed' proves nothing. Never here:
//! when somebody looks, and what a projection writes (see [`crate::projections`]).

use crate::outbox::RetryPolicy;
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use std::time::Duration;
use uuid::Uuid;

/// Younger entries are on their way.
const ON_ITS_WAY: Duration = Duration::from_secs(10);
/// How far back rows are looked for.
const LOOKED_AT: Duration = Duration::from_hours(7 * 24);

/// Events that one look goes through: a second's work or less, so that it stays far below a statement's limit.
const PORTION: i64 = 50_000;

/// Why an event that was projected without a complaint is not healed.
pub(crate) const STILL_MISSING: &str = "it was projected, and its rows are missing all the same";

/// An event whose rows are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Since when it is 'failed', where it is.
    pub failed_since: Option<DateTime<Utc>>,
}

/// What was found in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Events that were looked at.
    pub checked: u64,
    /// The first of those without rows: the failed ones last.
    pub orphans: Vec<Orphan>,
    /// The arrival behind which the next look begins; `None`: the end was reached.
    pub next: Option<DateTime<Utc>>,
}

/// What became of an orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healed {
    /// Its rows are there.
    Healed,
    /// They are not, with the reason.
    Failed(String),
    /// Somebody else has it at this moment.
    Busy,
}

impl Store {
    /// Stores that events have come for in the last seven days.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.orphans.active_stores", level = "debug", skip_all)]
    pub async fn active_stores(&self) -> Result<Vec<Uuid>, Error> {
        let stores = sqlx::query_scalar!(
            "SELECT s.store_id FROM stores s WHERE EXISTS (SELECT 1 FROM events e
                 WHERE e.store_id = s.store_id AND e.received_at > now() - make_interval(secs => $1))
             ORDER BY s.store_id",
            LOOKED_AT.as_secs_f64()
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(stores)
    }

    /// Events of the last seven days without their rows, at most `limit`, among the first 50,000 that have arrived after
    /// `after`. Those that wait, are absorbed or skipped
    /// have none and miss none; those that are pending for less than ten seconds are on their way. `with_failed`: also
    /// those that are known to fail.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.orphans.find", level = "debug", skip_all)]
    pub async fn orphans(
        &self,
        store_id: Uuid,
        with_failed: bool,
        limit: u32,
        after: Option<DateTime<Utc>>,
    ) -> Result<Orphans, Error> {
        let bounds = sqlx::query!(
            r#"SELECT b.low AS "low!", (SELECT e.received_at FROM events e
                   WHERE e.store_id = $1 AND e.received_at > b.low
                   ORDER BY e.received_at OFFSET $4 LIMIT 1) AS high
               FROM (SELECT greatest(now() - make_interval(secs => $2), $3::timestamptz) AS low) AS b"#,
            store_id,
            LOOKED_AT.as_secs_f64(),
            after,
            PORTION - 1
        )
        .fetch_one(&self.pool)
        .await?;
        let rows = sqlx::query!(
            r#"WITH looked_at AS MATERIALIZED (
                   SELECT e.event_id FROM events e LEFT JOIN event_exceptions x USING (store_id, event_id)
                   WHERE e.store_id = $1 AND e.received_at > $2 AND e.received_at <= coalesce($6::timestamptz, 'infinity')
                     AND (x.status IS NULL OR (x.status = 'failed' AND $3))
               ), missing AS (
                   SELECT g.event_id, g.type, g.failed_since, g.received_at FROM event_gaps g
                   WHERE g.store_id = $1 AND g.received_at > $2 AND g.received_at <= coalesce($6::timestamptz, 'infinity')
                     AND (g.failed_since IS NULL OR $3)
                     AND NOT EXISTS (SELECT 1 FROM outbox_entries o
                         WHERE o.store_id = g.store_id AND o.event_id = g.event_id AND o.target = 'projection'
                           AND o.peer = '' AND o.status = 'pending'
                           AND o.created_at > now() - make_interval(secs => $4))
                   ORDER BY g.failed_since IS NOT NULL, g.failed_since, g.received_at, g.event_id LIMIT $5
               )
               SELECT (SELECT count(*) FROM looked_at) AS "checked!", m.event_id AS "event_id?",
                   m.type AS "event_type?", m.failed_since AS "failed_since?"
               FROM (SELECT 1) AS one LEFT JOIN missing m ON true
               ORDER BY m.failed_since IS NOT NULL, m.failed_since, m.received_at, m.event_id"#,
            store_id,
            bounds.low,
            with_failed,
            ON_ITS_WAY.as_secs_f64(),
            i64::from(limit),
            bounds.high
        )
        .fetch_all(&self.pool)
        .await?;
        let checked = rows.first().map_or(0, |row| row.checked);
        let orphans = rows.into_iter().filter_map(|row| {
            Some(Orphan {
                event_id: row.event_id?,
                event_type: row.event_type?,
                failed_since: row.failed_since,
            })
        });
        Ok(Orphans {
            checked: u64::try_from(checked).unwrap_or(0),
            orphans: orphans.collect(),
            next: bounds.high,
        })
    }

    /// Projects an orphan anew, at once. One that fails is 'failed' with its reason, as it may have been before.
    ///
    /// # Errors
    /// The database's, where it is not the event's fault; the event is pending then.
    #[tracing::instrument(name = "db.orphans.heal", level = "debug", skip_all)]
    pub async fn heal_orphan(
        &self,
        store_id: Uuid,
        orphan: &Orphan,
        policy: RetryPolicy,
        keep: bool,
    ) -> Result<Healed, Error> {
        let event_id = orphan.event_id.as_str();
        let queued = self.requeue_projection(store_id, std::slice::from_ref(&orphan.event_id)).await? == 1;
        let Some(claim) = self.claim_one(store_id, event_id, keep).await? else {
            return Ok(Healed::Busy);
        };
        // What had its entry tried keeps its retries; what had none left, or none at all, has had its try now.
        let failures =
            if queued { policy.max_retries } else { claim.entries.first().map_or(0, |e| e.retry_count) + 1 };
        let reason = match claim.project().await {
            Ok(report) => report.failed.into_iter().next().map(|failure| failure.reason),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                let reason = error.describe();
                self.fail_projection(store_id, event_id, failures, &reason, policy).await?;
                Some(reason)
            }
        };
        let reason = match reason {
            Some(reason) => reason,
            None if self.has_gap(store_id, event_id).await? => {
                self.note_still_missing(store_id, event_id).await?;
                STILL_MISSING.to_owned()
            }
            None => return Ok(Healed::Healed),
        };
        // It has failed for as long as it did before.
        if let Some(since) = orphan.failed_since {
            sqlx::query!(
                "UPDATE event_exceptions SET since = $3
                 WHERE store_id = $1 AND event_id = $2 AND status = 'failed'",
                store_id,
                event_id,
                since
            )
            .execute(&self.pool)
            .await?;
        }
        Ok(Healed::Failed(reason))
    }

    /// A projection that ends well and leaves no row would be tried in vain every minute.
    async fn note_still_missing(&self, store_id: Uuid, event_id: &str) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO event_exceptions (store_id, event_id, status, reason, attempts) VALUES ($1, $2, 'failed', $3, 1)
             ON CONFLICT (store_id, event_id) DO UPDATE
             SET status = 'failed', reason = EXCLUDED.reason, attempts = event_exceptions.attempts + 1",
            store_id,
            event_id,
            STILL_MISSING
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn has_gap(&self, store_id: Uuid, event_id: &str) -> Result<bool, Error> {
        let missing = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM event_gaps WHERE store_id = $1 AND event_id = $2) AS "missing!""#,
            store_id,
            event_id
        );
        Ok(missing.fetch_one(&self.pool).await?)
    }
}
