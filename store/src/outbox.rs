//! The outbox: entries are claimed by state with SKIP LOCKED, never by a cursor over a sequence.
//!
//! A projection entry is deleted (or marked 'processed', where they are kept) in the transaction that projects
//! its event. Never here: what a projection writes (see [`crate::projections`]).

use crate::{Error, Store};
use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::clock::VectorClock;

/// The channel on which pods wake each other; the payload names the entities that have work.
const OUTBOX_CHANNEL: &str = "velox_outbox";

/// Longest wait between two attempts at one entry.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// How often and how soon a failed entry is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts until the entry is dead.
    pub max_retries: i32,
    /// Wait after the first failure; doubled after each further one.
    pub base: Duration,
}

impl RetryPolicy {
    /// The wait after the `failures`-th failure.
    pub fn wait(&self, failures: i32) -> Duration {
        let doublings = u32::try_from(failures.clamp(1, 20) - 1).unwrap_or(0);
        self.base.saturating_mul(1 << doublings).min(MAX_BACKOFF)
    }
}

/// A claimed entry with its event.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The shop.
    pub store_id: Uuid,
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Its payload's version.
    pub version: i32,
    /// The writing till.
    pub device_id: String,
    /// The till's counter.
    pub seq: Option<i64>,
    /// The till's time.
    pub created_at: DateTime<Utc>,
    /// The envelope's request id.
    pub request_id: Option<String>,
    /// Who acted.
    pub actor_user_id: Option<String>,
    /// The sent clock.
    pub vector_clock: Option<Json<VectorClock>>,
    /// The payload, as received.
    pub payload: String,
    /// When the event came.
    pub queued_at: DateTime<Utc>,
    /// Failures so far.
    pub retry_count: i32,
    /// Trace context of the request that brought it.
    pub trace_parent: Option<String>,
    /// Whether other forms of the event are known; this is the one that came first.
    pub has_forms: bool,
}

/// Entries of one entity, locked by an open transaction and already taken out of the queue in it.
///
/// Dropped without [`Claim::project`], everything is as before.
#[derive(Debug)]
pub struct Claim {
    pub(crate) transaction: Transaction<'static, Postgres>,
    pub(crate) pool: PgPool,
    /// The claimed entries.
    pub entries: Vec<Entry>,
}

/// What was done of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxDone {
    /// Entries that are done.
    pub done: i64,
    /// Attempts that failed.
    pub failed: i64,
    /// From queued to done, of all that are done together.
    pub total_ms: i64,
}

/// How many entries stand where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxCounts {
    /// 'projection' or 'federation-relay'
    pub target: String,
    /// 'pending' or 'dead'
    pub status: String,
    /// How many.
    pub count: i64,
}

impl Store {
    /// Claims up to `limit` due entries of an entity; `None`: nothing is due. `keep`: entries stay as 'processed'.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.outbox.claim", level = "debug", skip_all, fields(entity))]
    pub async fn claim_projection(
        &self,
        entity: &str,
        limit: i64,
        keep: bool,
    ) -> Result<Option<Claim>, Error> {
        let mut transaction = self.projection.begin().await?;
        let claimed = if keep {
            claim_keeping(&mut transaction, entity, limit).await
        } else {
            claim_deleting(&mut transaction, entity, limit).await
        };
        if claimed.as_ref().is_err_and(Error::is_read_only) {
            drop(transaction);
            self.renew_sessions(&self.projection).await;
            return claimed.map(|_| None);
        }
        let entries = claimed?;
        Ok((!entries.is_empty()).then(|| Claim { transaction, pool: self.projection.clone(), entries }))
    }

    /// Claims one entry, if it is still pending and nobody else has it.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.claim_one", level = "debug", skip_all)]
    pub async fn claim_one(
        &self,
        store_id: Uuid,
        event_id: &str,
        keep: bool,
    ) -> Result<Option<Claim>, Error> {
        self.claim_events(store_id, &[event_id.to_owned()], keep).await
    }

    /// Claims the entries of these events, those that are still pending and that nobody else has.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.claim_events", level = "debug", skip_all)]
    pub async fn claim_events(
        &self,
        store_id: Uuid,
        event_ids: &[String],
        keep: bool,
    ) -> Result<Option<Claim>, Error> {
        let mut transaction = self.projection.begin().await?;
        let entries = sqlx::query_as!(
            Entry,
            r#"WITH one AS (
                   SELECT store_id, event_id, target, peer, retry_count, trace_parent, created_at FROM outbox_entries
                   WHERE store_id = $1 AND event_id = ANY($2) AND target = 'projection' AND peer = ''
                     AND status = 'pending' FOR UPDATE SKIP LOCKED
               ), gone AS (
                   DELETE FROM outbox_entries o USING one
                   WHERE NOT $3 AND o.store_id = one.store_id AND o.event_id = one.event_id
                     AND o.target = one.target AND o.peer = one.peer
               ), kept AS (
                   UPDATE outbox_entries o SET status = 'processed', processed_at = now() FROM one
                   WHERE $3 AND o.store_id = one.store_id AND o.event_id = one.event_id
                     AND o.target = one.target AND o.peer = one.peer
               )
               SELECT e.store_id, e.event_id, e.type AS event_type, e.version, e.device_id, e.seq, e.created_at,
                   e.request_id, e.actor_user_id, e.vector_clock AS "vector_clock: Json<VectorClock>",
                   e.payload::text AS "payload!", one.created_at AS queued_at, one.retry_count, one.trace_parent,
                   EXISTS (SELECT 1 FROM event_variants v
                       WHERE v.store_id = e.store_id AND v.event_id = e.event_id) AS "has_forms!"
               FROM one JOIN events e USING (store_id, event_id)"#,
            store_id,
            event_ids,
            keep
        )
        .fetch_all(&mut *transaction)
        .await?;
        Ok((!entries.is_empty()).then(|| Claim { transaction, pool: self.projection.clone(), entries }))
    }

    /// Counts a failed attempt at a projection entry; at the last one it is dead and its event 'failed'.
    /// `Ok(None)`: the entry is gone; else whether it is dead now.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fail_projection", level = "debug", skip_all)]
    pub async fn fail_projection(
        &self,
        store_id: Uuid,
        event_id: &str,
        failures: i32,
        error: &str,
        policy: RetryPolicy,
    ) -> Result<Option<bool>, Error> {
        let wait = policy.wait(failures).as_secs_f64();
        let status = sqlx::query_scalar!(
            r#"WITH failed AS (
                   UPDATE outbox_entries SET retry_count = $3::int4, error = $4,
                       status = CASE WHEN $3::int4 >= $5::int4 THEN 'dead' ELSE 'pending' END,
                       next_attempt_at = now() + make_interval(secs => $6)
                   WHERE store_id = $1 AND event_id = $2 AND target = 'projection' AND status = 'pending'
                   RETURNING store_id, event_id, status, error, retry_count
               ), noted AS (
                   INSERT INTO event_exceptions (store_id, event_id, status, reason, attempts)
                   SELECT store_id, event_id, 'failed', error, retry_count FROM failed WHERE status = 'dead'
                   ON CONFLICT (store_id, event_id) DO UPDATE
                   SET status = 'failed', reason = EXCLUDED.reason, since = now(), attempts = EXCLUDED.attempts
               )
               SELECT status FROM failed"#,
            store_id,
            event_id,
            failures,
            error,
            policy.max_retries,
            wait
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(status.map(|status| status == "dead"))
    }

    /// The entities that have due projection entries.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.entities_with_work", level = "debug", skip_all)]
    pub async fn entities_with_work(&self) -> Result<Vec<String>, Error> {
        let names: Vec<&str> =
            velox_protocol::catalogue::Entity::ALL.iter().map(|entity| entity.name()).collect();
        let rows = sqlx::query_scalar!(
            r#"SELECT n AS "n!" FROM unnest($1::text[]) AS n WHERE EXISTS (
                   SELECT 1 FROM outbox_entries WHERE target = 'projection' AND entity = n AND peer = ''
                     AND status = 'pending' AND (next_attempt_at IS NULL OR next_attempt_at <= now()))"#,
            &names as &[&str]
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// Tells the other pods that these entities have work.
    ///
    /// # Errors
    /// The database's; a lost notification costs one poll period.
    #[tracing::instrument(name = "db.notify_outbox", level = "debug", skip_all)]
    pub async fn notify_outbox(&self, entities: &str) -> Result<(), Error> {
        sqlx::query!("SELECT pg_notify($1, $2)", OUTBOX_CHANNEL, entities).execute(&self.pool).await?;
        Ok(())
    }

    /// A connection that listens for the notifications of [`Store::notify_outbox`].
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.listen_outbox", level = "debug", skip_all)]
    pub async fn listen_outbox(&self) -> Result<OutboxListener, Error> {
        let mut listener = sqlx::postgres::PgListener::connect_with(&self.pool).await?;
        listener.listen(OUTBOX_CHANNEL).await?;
        Ok(OutboxListener(listener))
    }

    /// Adds what was done since the last call to the statistics of the present minute. `peer` is empty for projections.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.add_outbox_stats", level = "debug", skip_all)]
    pub async fn add_outbox_stats(&self, target: &str, peer: &str, work: OutboxDone) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO outbox_stats (minute, target, peer, done, failed, total_ms)
             VALUES (date_trunc('minute', now()), $1, $2, $3, $4, $5)
             ON CONFLICT (minute, target, peer) DO UPDATE SET done = outbox_stats.done + EXCLUDED.done,
                 failed = outbox_stats.failed + EXCLUDED.failed, total_ms = outbox_stats.total_ms + EXCLUDED.total_ms",
            target,
            peer,
            work.done,
            work.failed,
            work.total_ms
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Removes kept entries that are older than `retention`, and statistics older than a week.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.clean_outbox", level = "debug", skip_all)]
    pub async fn clean_outbox(&self, retention: Duration) -> Result<u64, Error> {
        let removed = sqlx::query!(
            "DELETE FROM outbox_entries WHERE status = 'processed' AND processed_at < now() - make_interval(secs => $1)",
            retention.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        sqlx::query!("DELETE FROM outbox_stats WHERE minute < now() - interval '7 days'")
            .execute(&self.pool)
            .await?;
        Ok(removed.rows_affected())
    }

    /// Entries by target and status.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.outbox_counts", level = "debug", skip_all)]
    pub async fn outbox_counts(&self) -> Result<Vec<OutboxCounts>, Error> {
        let rows = sqlx::query_as!(
            OutboxCounts,
            r#"SELECT target, status, count(*) AS "count!" FROM outbox_entries
               WHERE status IN ('pending', 'dead') GROUP BY target, status"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// Pending projection entries of a device's events.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.pending_of_device", level = "debug", skip_all)]
    pub async fn pending_of_device(&self, store_id: Uuid, device_id: &str) -> Result<i64, Error> {
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM outbox_entries o JOIN events e USING (store_id, event_id)
               WHERE o.store_id = $1 AND e.device_id = $2 AND o.target = 'projection' AND o.status = 'pending'"#,
            store_id,
            device_id
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(count)
    }

    /// Queues skipped events whose type this version projects. At the start of a newer version.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.requeue_skipped", level = "debug", skip_all)]
    pub async fn requeue_skipped(&self) -> Result<u64, Error> {
        use velox_protocol::catalogue::{LATEST_PAYLOAD_VERSION, TYPES};
        let known: Vec<_> = TYPES.iter().filter(|info| info.projected).collect();
        let names: Vec<&str> = known.iter().map(|info| info.name).collect();
        let entities: Vec<&str> = known.iter().map(|info| info.entity.name()).collect();
        let priorities: Vec<i16> = known.iter().map(|info| info.priority).collect();
        let queued = sqlx::query!(
            "WITH known AS (
                 SELECT x.store_id, x.event_id, e.type, t.entity, t.priority
                 FROM event_exceptions x JOIN effective_events e USING (store_id, event_id)
                 JOIN unnest($1::text[], $2::text[], $3::int2[]) AS t(type, entity, priority) ON t.type = e.type
                 WHERE x.status = 'skipped' AND e.version <= $4
             ), cleared AS (
                 DELETE FROM event_exceptions x USING known k
                 WHERE x.store_id = k.store_id AND x.event_id = k.event_id
             )
             INSERT INTO outbox_entries (store_id, event_id, event_type, target, entity, priority, created_at)
             SELECT store_id, event_id, type, 'projection', entity, priority, now() FROM known
             ON CONFLICT (store_id, event_id, target, peer) DO UPDATE
             SET status = 'pending', retry_count = 0, next_attempt_at = NULL, error = NULL, processed_at = NULL
             WHERE outbox_entries.status <> 'pending'",
            &names as &[&str],
            &entities as &[&str],
            &priorities,
            LATEST_PAYLOAD_VERSION
        )
        .execute(&self.pool)
        .await?;
        Ok(queued.rows_affected())
    }

    /// Queues failed events once a program version: the new one may read what the old one could not.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.requeue_failed", level = "debug", skip_all)]
    pub async fn requeue_failed(&self, version: &str) -> Result<u64, Error> {
        let known =
            sqlx::query_scalar!("SELECT projected_by FROM node_identity").fetch_optional(&self.pool).await?;
        if known.flatten().is_some_and(|known| known == version) {
            return Ok(0);
        }
        let failed = sqlx::query!("SELECT store_id, event_id FROM event_exceptions WHERE status = 'failed'")
            .fetch_all(&self.pool)
            .await?;
        let mut by_store: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
        for row in failed {
            by_store.entry(row.store_id).or_default().push(row.event_id);
        }
        let mut queued = 0;
        for (store_id, event_ids) in by_store {
            queued += self.requeue_projection(store_id, &event_ids).await?;
        }
        // Last: what a crash has left is queued at the next start.
        sqlx::query!("UPDATE node_identity SET projected_by = $1", version).execute(&self.pool).await?;
        Ok(queued)
    }
}

/// Wakes up when another pod has work.
#[derive(Debug)]
pub struct OutboxListener(sqlx::postgres::PgListener);

impl OutboxListener {
    /// Waits for the next notification and answers its payload; `None`: the connection was lost and is made
    /// anew at the next call, so something may have been missed.
    ///
    /// # Errors
    /// The database's.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        Ok(self.0.try_recv().await?.map(|notification| notification.payload().to_owned()))
    }
}

async fn claim_deleting(
    connection: &mut PgConnection,
    entity: &str,
    limit: i64,
) -> Result<Vec<Entry>, Error> {
    let entries = sqlx::query_as!(
        Entry,
        r#"WITH gone AS (
               DELETE FROM outbox_entries WHERE ctid = ANY(ARRAY(
                   SELECT ctid FROM outbox_entries
                   WHERE target = 'projection' AND entity = $1 AND peer = '' AND status = 'pending'
                     AND (next_attempt_at IS NULL OR next_attempt_at <= now())
                   ORDER BY priority, created_at LIMIT $2 FOR UPDATE SKIP LOCKED))
               RETURNING store_id, event_id, created_at, retry_count, trace_parent
           )
           SELECT e.store_id, e.event_id, e.type AS event_type, e.version, e.device_id, e.seq, e.created_at,
               e.request_id, e.actor_user_id, e.vector_clock AS "vector_clock: Json<VectorClock>",
               e.payload::text AS "payload!", g.created_at AS queued_at, g.retry_count, g.trace_parent,
               EXISTS (SELECT 1 FROM event_variants v
                   WHERE v.store_id = e.store_id AND v.event_id = e.event_id) AS "has_forms!"
           FROM gone g JOIN events e USING (store_id, event_id)"#,
        entity,
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(entries)
}

async fn claim_keeping(connection: &mut PgConnection, entity: &str, limit: i64) -> Result<Vec<Entry>, Error> {
    let entries = sqlx::query_as!(
        Entry,
        r#"WITH kept AS (
               UPDATE outbox_entries SET status = 'processed', processed_at = now(), error = NULL
               WHERE ctid = ANY(ARRAY(
                   SELECT ctid FROM outbox_entries
                   WHERE target = 'projection' AND entity = $1 AND peer = '' AND status = 'pending'
                     AND (next_attempt_at IS NULL OR next_attempt_at <= now())
                   ORDER BY priority, created_at LIMIT $2 FOR UPDATE SKIP LOCKED))
               RETURNING store_id, event_id, created_at, retry_count, trace_parent
           )
           SELECT e.store_id, e.event_id, e.type AS event_type, e.version, e.device_id, e.seq, e.created_at,
               e.request_id, e.actor_user_id, e.vector_clock AS "vector_clock: Json<VectorClock>",
               e.payload::text AS "payload!", k.created_at AS queued_at, k.retry_count, k.trace_parent,
               EXISTS (SELECT 1 FROM event_variants v
                   WHERE v.store_id = e.store_id AND v.event_id = e.event_id) AS "has_forms!"
           FROM kept k JOIN events e USING (store_id, event_id)"#,
        entity,
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(entries)
}
