//! The queue of events for peers: claimed with a lock that runs out and a token, sent outside any transaction, then
//! marked as the peer named them.
//!
//! A crash in between sends again, which counts once. Never here: how a peer is spoken to, or when.

use crate::outbox::RetryPolicy;
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use sqlx::types::Json;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::clock::VectorClock;

/// A peer that every new event of its stores is queued for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayTarget {
    /// The peer's name.
    pub name: String,
    /// Stores served with it; `None`: all.
    pub stores: Option<Vec<Uuid>>,
}

/// Peers by column, a row a peer and store; without a store: all of them.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    pub(crate) peer: Vec<String>,
    pub(crate) store_id: Vec<Option<Uuid>>,
}

impl Relays {
    pub(crate) fn to(targets: &[RelayTarget]) -> Self {
        let mut relays = Relays::default();
        for target in targets {
            let stores: Vec<Option<Uuid>> = match &target.stores {
                None => vec![None],
                Some(stores) => stores.iter().copied().map(Some).collect(),
            };
            relays.peer.extend(stores.iter().map(|_| target.name.clone()));
            relays.store_id.extend(stores);
        }
        relays
    }
}

/// Everything of one form of an event that a peer needs to store it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of `events`")]
pub struct FormRow {
    pub device_id: String,
    pub seq: Option<i64>,
    pub event_type: String,
    pub version: i32,
    pub created_at: DateTime<Utc>,
    pub payload: String,
    pub payload_hash: Vec<u8>,
    pub sent_hash: Option<Vec<u8>>,
    pub delta_payload: Option<String>,
    pub vector_clock: Option<Json<VectorClock>>,
    pub causal_dependencies: Option<Json<Vec<String>>>,
    pub causal_digest: Option<String>,
    pub request_id: Option<String>,
    pub actor_user_id: Option<String>,
    pub actor_role: Option<String>,
    pub origin_node: Option<String>,
    /// Whether it counts although it is not the one that came first.
    pub effective: bool,
}

/// An event for a peer, with all its forms: usually one.
#[derive(Debug, Clone)]
pub struct RelayEntry {
    /// The shop.
    pub store_id: Uuid,
    /// The event.
    pub event_id: String,
    /// Refusals so far.
    pub retry_count: i32,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// Trace context of the request that brought the event.
    pub trace_parent: Option<String>,
    /// The one that came first, then the others.
    pub forms: Vec<FormRow>,
}

impl RelayEntry {
    /// The form that counts.
    pub fn effective(&self) -> Option<&FormRow> {
        self.forms.iter().find(|form| form.effective).or(self.forms.first())
    }
}

/// Entries that are ours for a while.
#[derive(Debug, Clone)]
pub struct RelayClaim {
    /// The peer.
    pub peer: String,
    /// Marks the entries as this claim's.
    pub token: Uuid,
    /// In (priority, created_at) order.
    pub entries: Vec<RelayEntry>,
}

/// An event that the peer has refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The shop.
    pub store_id: Uuid,
    /// The event.
    pub event_id: String,
    /// In the peer's words.
    pub error: String,
    /// This refusal included.
    pub failures: i32,
}

/// How many entries of a peer stand where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelayCounts {
    /// To be sent.
    pub pending: i64,
    /// Refused for good.
    pub dead: i64,
}

struct Row {
    store_id: Uuid,
    event_id: String,
    retry_count: i32,
    queued_at: DateTime<Utc>,
    trace_parent: Option<String>,
    device_id: String,
    seq: Option<i64>,
    event_type: String,
    version: i32,
    created_at: DateTime<Utc>,
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
    origin_node: Option<String>,
    effective: bool,
}

impl Row {
    fn split(self) -> (RelayEntry, FormRow) {
        let entry = RelayEntry {
            store_id: self.store_id,
            event_id: self.event_id,
            retry_count: self.retry_count,
            queued_at: self.queued_at,
            trace_parent: self.trace_parent,
            forms: Vec::new(),
        };
        let form = FormRow {
            device_id: self.device_id,
            seq: self.seq,
            event_type: self.event_type,
            version: self.version,
            created_at: self.created_at,
            payload: self.payload,
            payload_hash: self.payload_hash,
            sent_hash: self.sent_hash,
            delta_payload: self.delta_payload,
            vector_clock: self.vector_clock,
            causal_dependencies: self.causal_dependencies,
            causal_digest: self.causal_digest,
            request_id: self.request_id,
            actor_user_id: self.actor_user_id,
            actor_role: self.actor_role,
            origin_node: self.origin_node,
            effective: self.effective,
        };
        (entry, form)
    }
}

/// Rows of one event come one after the other.
fn grouped(rows: Vec<Row>) -> Vec<RelayEntry> {
    let mut entries: Vec<RelayEntry> = Vec::new();
    for row in rows {
        let (entry, form) = row.split();
        match entries.last_mut() {
            Some(last) if (last.store_id, &last.event_id) == (entry.store_id, &entry.event_id) => {
                last.forms.push(form);
            }
            _ => entries.push(RelayEntry { forms: vec![form], ..entry }),
        }
    }
    entries
}

impl Store {
    /// Claims up to `limit` due entries for a peer until `lock` has passed.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.relay.claim", level = "debug", skip_all, fields(peer))]
    pub async fn claim_relay(
        &self,
        peer: &str,
        token: Uuid,
        limit: i64,
        lock: Duration,
    ) -> Result<RelayClaim, Error> {
        let claimed = sqlx::query_as!(
            Row,
            r#"WITH claimed AS (
                   UPDATE outbox_entries SET locked_until = now() + make_interval(secs => $4), claim_token = $3
                   WHERE ctid = ANY(ARRAY(
                       SELECT ctid FROM outbox_entries
                       WHERE target = 'federation-relay' AND entity = '' AND peer = $1 AND status = 'pending'
                         AND (next_attempt_at IS NULL OR next_attempt_at <= now())
                         AND (locked_until IS NULL OR locked_until <= now())
                       ORDER BY priority, created_at LIMIT $2 FOR UPDATE SKIP LOCKED))
                   RETURNING store_id, event_id, priority, retry_count, created_at AS queued_at, trace_parent
               )
               SELECT c.store_id AS "store_id!", c.event_id AS "event_id!", c.retry_count AS "retry_count!",
                   c.queued_at AS "queued_at!", c.trace_parent, f.device_id AS "device_id!", f.seq,
                   f.type AS "event_type!", f.version AS "version!", f.created_at AS "created_at!",
                   f.payload::text AS "payload!", f.payload_hash AS "payload_hash!", f.sent_hash,
                   f.delta_payload::text, f.vector_clock AS "vector_clock: Json<VectorClock>",
                   f.causal_dependencies AS "causal_dependencies: Json<Vec<String>>", f.causal_digest, f.request_id,
                   f.actor_user_id, f.actor_role, f.origin_node, f.effective AS "effective!"
               FROM claimed c CROSS JOIN LATERAL (
                   SELECT 0 AS place, device_id, seq, type, version, created_at, payload, payload_hash, sent_hash,
                       delta_payload, vector_clock, causal_dependencies, causal_digest, request_id, actor_user_id,
                       actor_role, origin_node, false AS effective
                   FROM events e WHERE e.store_id = c.store_id AND e.event_id = c.event_id
                   UNION ALL
                   SELECT 1, device_id, seq, type, version, created_at, payload, payload_hash, sent_hash,
                       delta_payload, vector_clock, causal_dependencies, causal_digest, request_id, actor_user_id,
                       actor_role, origin_node, effective
                   FROM event_variants v WHERE v.store_id = c.store_id AND v.event_id = c.event_id) AS f
               ORDER BY c.priority, c.queued_at, c.store_id, c.event_id, f.place"#,
            peer,
            limit,
            token,
            lock.as_secs_f64()
        )
        .fetch_all(&self.relay)
        .await;
        let claimed = claimed.map_err(Error::from);
        if claimed.as_ref().is_err_and(Error::is_read_only) {
            self.renew_sessions(&self.relay).await;
        }
        Ok(RelayClaim { peer: peer.to_owned(), token, entries: grouped(claimed?) })
    }

    /// Events with all their forms, for a peer that asks for them; those that are not here are left out.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.relay.events_for_peer", level = "debug", skip_all)]
    pub async fn events_for_peer(
        &self,
        store_id: Uuid,
        event_ids: &[String],
    ) -> Result<Vec<RelayEntry>, Error> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT store_id AS "store_id!", event_id AS "event_id!", 0 AS "retry_count!",
                   received_at AS "queued_at!", trace_parent, device_id AS "device_id!", seq, type AS "event_type!",
                   version AS "version!", created_at AS "created_at!", payload::text AS "payload!",
                   payload_hash AS "payload_hash!", sent_hash, delta_payload::text,
                   vector_clock AS "vector_clock: Json<VectorClock>",
                   causal_dependencies AS "causal_dependencies: Json<Vec<String>>", causal_digest, request_id,
                   actor_user_id, actor_role, origin_node, effective AS "effective!"
               FROM (
                   SELECT 0 AS place, store_id, event_id, received_at, trace_parent, device_id, seq, type, version,
                       created_at, payload, payload_hash, sent_hash, delta_payload, vector_clock,
                       causal_dependencies, causal_digest, request_id, actor_user_id, actor_role, origin_node,
                       false AS effective
                   FROM events WHERE store_id = $1 AND event_id = ANY($2)
                   UNION ALL
                   SELECT 1, store_id, event_id, received_at, trace_parent, device_id, seq, type, version,
                       created_at, payload, payload_hash, sent_hash, delta_payload, vector_clock,
                       causal_dependencies, causal_digest, request_id, actor_user_id, actor_role, origin_node,
                       effective
                   FROM event_variants WHERE store_id = $1 AND event_id = ANY($2)) AS forms
               ORDER BY event_id, place"#,
            store_id,
            event_ids
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(grouped(rows))
    }

    /// Marks entries of a claim as delivered: removes them (or keeps them as 'processed') and writes down when.
    /// `hashes`: by event id, as the peer told them. `reason`: why they are done without having been sent.
    ///
    /// # Errors
    /// The database's; the events are sent again then.
    #[tracing::instrument(name = "db.relay.finish", level = "debug", skip_all, fields(peer = claim.peer))]
    pub async fn finish_relay(
        &self,
        claim: &RelayClaim,
        delivered: &[(Uuid, String)],
        hashes: &HashMap<String, String>,
        sent_at: DateTime<Utc>,
        reason: Option<&str>,
        keep: bool,
    ) -> Result<u64, Error> {
        if delivered.is_empty() {
            return Ok(0);
        }
        let (stores, ids): (Vec<Uuid>, Vec<&str>) = delivered.iter().map(|(s, e)| (*s, e.as_str())).unzip();
        let told: Vec<Option<&str>> = ids.iter().map(|id| hashes.get(*id).map(String::as_str)).collect();
        let marked = sqlx::query_scalar!(
            r#"WITH named AS (
                   SELECT * FROM unnest($3::uuid[], $4::text[], $5::text[]) WITH ORDINALITY
                       AS n(store_id, event_id, hash, place)
               ), gone AS (
                   DELETE FROM outbox_entries o USING named n
                   WHERE NOT $8 AND o.store_id = n.store_id AND o.event_id = n.event_id
                     AND o.target = 'federation-relay' AND o.peer = $1 AND o.claim_token = $2
                   RETURNING o.store_id, o.event_id, n.hash, n.place
               ), kept AS (
                   UPDATE outbox_entries o
                   SET status = 'processed', processed_at = now(), error = NULL, locked_until = NULL, claim_token = NULL
                   FROM named n
                   WHERE $8 AND o.store_id = n.store_id AND o.event_id = n.event_id
                     AND o.target = 'federation-relay' AND o.peer = $1 AND o.claim_token = $2
                   RETURNING o.store_id, o.event_id, n.hash, n.place
               ), done AS (
                   SELECT * FROM gone UNION ALL SELECT * FROM kept
               ), noted AS (
                   INSERT INTO relay_deliveries (store_id, peer, sent_at, acknowledged_at, reason, event_ids, peer_hashes)
                   SELECT store_id, $1, $6, CASE WHEN $7::text IS NULL THEN now() END, $7,
                       array_agg(event_id ORDER BY place), array_agg(hash ORDER BY place)
                   FROM done GROUP BY store_id
               )
               SELECT count(*) AS "count!" FROM done"#,
            claim.peer,
            claim.token,
            &stores,
            &ids as &[&str],
            &told as &[Option<&str>],
            sent_at,
            reason,
            keep
        )
        .fetch_one(&self.relay)
        .await?;
        Ok(u64::try_from(marked).unwrap_or(0))
    }

    /// Counts refusals of a claim's events; at the last one an entry is dead. Answers the dead ones.
    ///
    /// # Errors
    /// The database's; the events are sent again then.
    #[tracing::instrument(name = "db.relay.refuse", level = "debug", skip_all, fields(peer = claim.peer))]
    pub async fn refuse_relay(
        &self,
        claim: &RelayClaim,
        refusals: &[Refusal],
        policy: RetryPolicy,
    ) -> Result<Vec<(Uuid, String)>, Error> {
        if refusals.is_empty() {
            return Ok(Vec::new());
        }
        let waits: Vec<f64> = refusals.iter().map(|r| policy.wait(r.failures).as_secs_f64()).collect();
        let rows = sqlx::query!(
            r#"UPDATE outbox_entries o SET retry_count = r.failures, error = r.error, locked_until = NULL,
                   claim_token = NULL, status = CASE WHEN r.failures >= $7::int4 THEN 'dead' ELSE 'pending' END,
                   next_attempt_at = now() + make_interval(secs => r.wait)
               FROM unnest($3::uuid[], $4::text[], $5::text[], $6::int4[], $8::float8[])
                   AS r(store_id, event_id, error, failures, wait)
               WHERE o.store_id = r.store_id AND o.event_id = r.event_id AND o.target = 'federation-relay'
                 AND o.peer = $1 AND o.claim_token = $2
               RETURNING o.store_id, o.event_id, o.status"#,
            claim.peer,
            claim.token,
            &refusals.iter().map(|r| r.store_id).collect::<Vec<_>>(),
            &refusals.iter().map(|r| r.event_id.as_str()).collect::<Vec<_>>() as &[&str],
            &refusals.iter().map(|r| r.error.as_str()).collect::<Vec<_>>() as &[&str],
            &refusals.iter().map(|r| r.failures).collect::<Vec<_>>(),
            policy.max_retries,
            &waits
        )
        .fetch_all(&self.relay)
        .await?;
        let dead = rows.into_iter().filter(|row| row.status == "dead");
        Ok(dead.map(|row| (row.store_id, row.event_id)).collect())
    }

    /// Gives entries of a claim back as they were: nothing of them is spent.
    ///
    /// # Errors
    /// The database's; the lock runs out by itself.
    #[tracing::instrument(name = "db.relay.release", level = "debug", skip_all, fields(peer = claim.peer))]
    pub async fn release_relay(&self, claim: &RelayClaim, entries: &[(Uuid, String)]) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let (stores, ids): (Vec<Uuid>, Vec<&str>) = entries.iter().map(|(s, e)| (*s, e.as_str())).unzip();
        sqlx::query!(
            "UPDATE outbox_entries o SET locked_until = NULL, claim_token = NULL
             FROM unnest($3::uuid[], $4::text[]) AS r(store_id, event_id)
             WHERE o.store_id = r.store_id AND o.event_id = r.event_id AND o.target = 'federation-relay'
               AND o.peer = $1 AND o.claim_token = $2",
            claim.peer,
            claim.token,
            &stores,
            &ids as &[&str]
        )
        .execute(&self.relay)
        .await?;
        Ok(())
    }

    /// How many events wait for a peer, and how many are dead.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.relay.counts", level = "debug", skip_all, fields(peer))]
    pub async fn relay_counts(&self, peer: &str) -> Result<RelayCounts, Error> {
        let counts = sqlx::query_as!(
            RelayCounts,
            r#"SELECT count(*) FILTER (WHERE status = 'pending') AS "pending!",
                   count(*) FILTER (WHERE status = 'dead') AS "dead!"
               FROM outbox_entries
               WHERE target = 'federation-relay' AND peer = $1 AND status IN ('pending', 'dead')"#,
            peer
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(counts)
    }

    /// Removes what is known of deliveries older than a week.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.relay.clean", level = "debug", skip_all)]
    pub async fn clean_deliveries(&self) -> Result<u64, Error> {
        let removed = sqlx::query!("DELETE FROM relay_deliveries WHERE sent_at < now() - interval '7 days'")
            .execute(&self.pool)
            .await?;
        Ok(removed.rows_affected())
    }
}
