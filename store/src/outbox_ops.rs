//! The outbox for operators: pages of its entries, the dead put back into the queue, and figures.
//!
//! Never here: claims, failures and retries (see `crate::outbox`, `crate::relay`), events queued anew whether or not
//! they have an entry (see `crate::projections`, `crate::relay_queue`).

use crate::projections::requeue_projection_in;
use crate::reads::{Listed, Page, PageRequest, millis, optional_millis};
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use std::collections::BTreeSet;
use utoipa::ToSchema;
use uuid::Uuid;

/// Dead entries that one statement puts back.
const REQUEUE_ROWS: i64 = 2_000;

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxStatus {
    /// It waits for its turn.
    Pending,
    /// It has failed too often and is left alone.
    Dead,
    /// It is done; kept only where a retention is set.
    Processed,
}

impl OutboxStatus {
    /// As the column has it.
    pub fn name(self) -> &'static str {
        match self {
            OutboxStatus::Pending => "pending",
            OutboxStatus::Dead => "dead",
            OutboxStatus::Processed => "processed",
        }
    }

    /// The status of this name.
    pub fn of(name: &str) -> Option<Self> {
        [OutboxStatus::Pending, OutboxStatus::Dead, OutboxStatus::Processed]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// Which queue an entry is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxTarget {
    /// Its event is projected.
    Projection,
    /// Its event is sent to a peer.
    FederationRelay,
}

impl OutboxTarget {
    /// As the column has it.
    pub fn name(self) -> &'static str {
        match self {
            OutboxTarget::Projection => "projection",
            OutboxTarget::FederationRelay => "federation-relay",
        }
    }

    /// The target of this name.
    pub fn of(name: &str) -> Option<Self> {
        [OutboxTarget::Projection, OutboxTarget::FederationRelay]
            .into_iter()
            .find(|target| target.name() == name)
    }
}

/// Which entries are wanted; the default is all.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutboxFilter {
    /// Of this status alone.
    pub status: Option<OutboxStatus>,
    /// Of this queue alone.
    pub target: Option<OutboxTarget>,
}

/// An entry's place among those of its store. Serialises as `[event id, target, peer]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "(String, String, String)", try_from = "(String, String, String)")]
pub struct OutboxKey {
    /// The event.
    pub event_id: String,
    /// The queue.
    pub target: String,
    /// The peer; empty for a projection.
    pub peer: String,
}

impl From<OutboxKey> for (String, String, String) {
    fn from(key: OutboxKey) -> Self {
        (key.event_id, key.target, key.peer)
    }
}

impl TryFrom<(String, String, String)> for OutboxKey {
    type Error = &'static str;

    fn try_from((event_id, target, peer): (String, String, String)) -> Result<Self, Self::Error> {
        if [&event_id, &target, &peer].iter().any(|text| text.contains('\0')) {
            return Err("a text that no row has");
        }
        Ok(OutboxKey { event_id, target, peer })
    }
}

/// An entry of the outbox.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `outbox_entries`")]
pub struct OutboxRow {
    /// By which it is requeued.
    pub id: i64,
    pub store_id: Uuid,
    pub event_id: String,
    pub event_type: String,
    /// `projection` or `federation-relay`
    pub target: String,
    /// Empty for a projection.
    pub peer: String,
    /// Whose work a projection is: the part after `projector.` in an actor's name. Empty for a relay.
    pub entity: String,
    /// `pending`, `dead` or, where done entries are kept, `processed`
    pub status: String,
    pub priority: i16,
    /// Of the last attempt.
    pub error: Option<String>,
    pub retry_count: i32,
    #[serde(serialize_with = "optional_millis")]
    pub next_attempt_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
    #[serde(serialize_with = "optional_millis")]
    pub processed_at: Option<DateTime<Utc>>,
}

impl Listed for OutboxRow {
    type Key = OutboxKey;

    fn key(&self) -> OutboxKey {
        OutboxKey { event_id: self.event_id.clone(), target: self.target.clone(), peer: self.peer.clone() }
    }
}

/// What was put back into the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requeued {
    /// Entries whose event is projected again.
    pub projections: u64,
    /// Entries that are sent again.
    pub relays: u64,
    /// To whom.
    pub peers: BTreeSet<String>,
}

/// Entries of one queue that stand alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutboxBacklog {
    /// `projection` or `federation-relay`
    pub target: String,
    /// Empty for projections.
    pub peer: String,
    /// `pending`, `dead` or, where done entries are kept, `processed`
    pub status: String,
    /// How many.
    pub count: i64,
    /// The age of the oldest.
    pub oldest_seconds: i64,
}

/// What was done for one queue, in all stores together.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OutboxWork {
    /// `projection` or `federation-relay`
    pub target: String,
    /// Empty for projections.
    pub peer: String,
    /// Entries done in the last five minutes.
    pub done_5m: i64,
    /// Attempts that failed in them.
    pub failed_5m: i64,
    /// Mean time of an entry that was done in them.
    pub avg_ms_5m: Option<f64>,
    /// Entries done in the last 24 hours.
    pub done_24h: i64,
    /// Attempts that failed in them.
    pub failed_24h: i64,
    /// Mean time of an entry that was done in them.
    pub avg_ms_24h: Option<f64>,
}

/// How it stands with the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OutboxStats {
    /// Entries by queue and status: of one store, or of all.
    pub entries: Vec<OutboxBacklog>,
    /// What was done lately, in all stores together.
    pub work: Vec<OutboxWork>,
    /// The age of the oldest pending entry.
    pub oldest_pending_seconds: Option<i64>,
}

impl OutboxStats {
    /// Dead entries, of one queue or of all.
    pub fn dead(&self, target: Option<OutboxTarget>) -> i64 {
        let dead = self.entries.iter().filter(|row| row.status == OutboxStatus::Dead.name());
        dead.filter(|row| target.is_none_or(|target| target.name() == row.target)).map(|row| row.count).sum()
    }
}

impl Store {
    /// A page of a store's entries, by event id, target and peer.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.outbox.list", level = "debug", skip_all)]
    pub async fn read_outbox(
        &self,
        store_id: Uuid,
        filter: OutboxFilter,
        page: PageRequest<OutboxKey>,
    ) -> Result<Page<OutboxRow>, Error> {
        let after = page.after.clone().unwrap_or_default();
        let rows = sqlx::query_as!(
            OutboxRow,
            "SELECT id, store_id, event_id, event_type, target, peer, entity, status, priority, error, retry_count,
                 next_attempt_at, created_at, processed_at
             FROM outbox_entries
             WHERE store_id = $1 AND (event_id, target, peer) > ($2, $3, $4)
               AND ($5::text IS NULL OR status = $5) AND ($6::text IS NULL OR target = $6)
             ORDER BY event_id, target, peer LIMIT $7",
            store_id,
            after.event_id,
            after.target,
            after.peer,
            filter.status.map(OutboxStatus::name),
            filter.target.map(OutboxTarget::name),
            page.rows()
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(page.page(rows))
    }

    /// Puts dead entries of a store back into the queue as if they had never been tried, those of `ids` or all; an event
    /// whose projection had failed is pending then. Ids of entries that are not dead, or of another store, are passed
    /// over.
    ///
    /// # Errors
    /// The database's; nothing is queued then, or where the answer to the commit is lost all of it.
    #[tracing::instrument(name = "db.outbox.requeue", level = "debug", skip_all)]
    pub async fn requeue_dead(&self, store_id: Uuid, ids: Option<&[i64]>) -> Result<Requeued, Error> {
        let mut requeued = Requeued::default();
        let mut transaction = self.pool.begin().await?;
        let mut after = OutboxKey::default();
        loop {
            let batch = lock_dead(&mut transaction, store_id, ids, &after).await?;
            let Some(last) = batch.last() else {
                break;
            };
            after = last.clone();
            let (projections, relays): (Vec<OutboxKey>, Vec<OutboxKey>) =
                batch.into_iter().partition(|key| key.target == OutboxTarget::Projection.name());
            let events: Vec<String> = projections.into_iter().map(|key| key.event_id).collect();
            requeued.projections += requeue_projection_in(&mut transaction, store_id, &events).await?;
            requeued.relays += requeue_relays(&mut transaction, store_id, &relays).await?;
            requeued.peers.extend(relays.into_iter().map(|key| key.peer));
        }
        transaction.commit().await?;
        Ok(requeued)
    }

    /// How it stands with the outbox of a store, or of all; the work done is that of all.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.outbox.stats", level = "debug", skip_all)]
    pub async fn outbox_stats(&self, store_id: Option<Uuid>) -> Result<OutboxStats, Error> {
        let entries = sqlx::query_as!(
            OutboxBacklog,
            r#"SELECT target, peer, status, count(*) AS "count!",
                   greatest(extract(epoch FROM now() - min(created_at)), 0)::int8 AS "oldest_seconds!"
               FROM outbox_entries WHERE $1::uuid IS NULL OR store_id = $1
               GROUP BY target, peer, status ORDER BY target, peer, status"#,
            store_id
        )
        .fetch_all(&self.pool)
        .await?;
        let work = sqlx::query_as!(
            OutboxWork,
            r#"SELECT target, peer,
                   coalesce(sum(done) FILTER (WHERE fresh), 0)::int8 AS "done_5m!",
                   coalesce(sum(failed) FILTER (WHERE fresh), 0)::int8 AS "failed_5m!",
                   round(sum(total_ms) FILTER (WHERE fresh) / nullif(sum(done) FILTER (WHERE fresh), 0), 1)::float8
                       AS avg_ms_5m,
                   sum(done)::int8 AS "done_24h!", sum(failed)::int8 AS "failed_24h!",
                   round(sum(total_ms) / nullif(sum(done), 0), 1)::float8 AS avg_ms_24h
               FROM (SELECT *, minute > now() - interval '5 minutes' AS fresh FROM outbox_stats
                     WHERE minute > now() - interval '24 hours') AS lately
               GROUP BY target, peer ORDER BY target, peer"#
        )
        .fetch_all(&self.pool)
        .await?;
        let pending = entries.iter().filter(|row| row.status == OutboxStatus::Pending.name());
        let oldest_pending_seconds = pending.map(|row| row.oldest_seconds).max();
        Ok(OutboxStats { entries, work, oldest_pending_seconds })
    }
}

/// The next dead entries behind a key, locked in one order, so that two who requeue do not wait for each other.
async fn lock_dead(
    connection: &mut PgConnection,
    store_id: Uuid,
    ids: Option<&[i64]>,
    after: &OutboxKey,
) -> Result<Vec<OutboxKey>, Error> {
    let keys = sqlx::query_as!(
        OutboxKey,
        "SELECT event_id, target, peer FROM outbox_entries
         WHERE store_id = $1 AND status = 'dead' AND ($2::int8[] IS NULL OR id = ANY($2))
           AND (event_id, target, peer) > ($3, $4, $5)
         ORDER BY event_id, target, peer LIMIT $6 FOR UPDATE",
        store_id,
        ids,
        after.event_id,
        after.target,
        after.peer,
        REQUEUE_ROWS
    )
    .fetch_all(connection)
    .await?;
    Ok(keys)
}

async fn requeue_relays(
    connection: &mut PgConnection,
    store_id: Uuid,
    keys: &[OutboxKey],
) -> Result<u64, Error> {
    if keys.is_empty() {
        return Ok(0);
    }
    let queued = sqlx::query!(
        "UPDATE outbox_entries o SET status = 'pending', retry_count = 0, error = NULL, next_attempt_at = NULL,
             locked_until = NULL, claim_token = NULL
         FROM unnest($2::text[], $3::text[]) AS k(event_id, peer)
         WHERE o.store_id = $1 AND o.event_id = k.event_id AND o.target = 'federation-relay' AND o.peer = k.peer
           AND o.status = 'dead'",
        store_id,
        &keys.iter().map(|key| key.event_id.as_str()).collect::<Vec<_>>() as &[&str],
        &keys.iter().map(|key| key.peer.as_str()).collect::<Vec<_>>() as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(queued.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_and_one_with_nul_is_refused() {
        let key = OutboxKey { event_id: "a".into(), target: "projection".into(), peer: String::new() };
        let text = serde_json::to_string(&key).expect("JSON");
        assert_eq!(text, r#"["a","projection",""]"#);
        assert_eq!(serde_json::from_str::<OutboxKey>(&text).expect("a key"), key);
        assert!(serde_json::from_str::<OutboxKey>(r#"["a\u0000","projection",""]"#).is_err());
    }

    #[test]
    fn names_are_those_of_the_columns() {
        for name in ["pending", "dead", "processed"] {
            assert_eq!(OutboxStatus::of(name).map(OutboxStatus::name), Some(name));
        }
        for name in ["projection", "federation-relay"] {
            assert_eq!(OutboxTarget::of(name).map(OutboxTarget::name), Some(name));
        }
        assert_eq!((OutboxStatus::of("done"), OutboxTarget::of("relay")), (None, None));
    }
}
