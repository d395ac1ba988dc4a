//! The statements that store a group's events or other forms of them: a column an array.

use super::{NewEvent, NewPush};
use crate::Error;
use crate::relay::Relays;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use std::collections::BTreeSet;
use uuid::Uuid;

/// A group's rows, by column.
#[derive(Default)]
pub(super) struct Columns<'a> {
    store_id: Vec<Uuid>,
    event_id: Vec<&'a str>,
    device_id: Vec<&'a str>,
    seq: Vec<Option<i64>>,
    event_type: Vec<&'a str>,
    version: Vec<i32>,
    payload: Vec<&'a str>,
    payload_hash: Vec<&'a [u8]>,
    sent_hash: Vec<Option<&'a [u8]>>,
    delta_payload: Vec<Option<&'a str>>,
    vector_clock: Vec<Option<String>>,
    causal_dependencies: Vec<Option<String>>,
    causal_digest: Vec<Option<&'a str>>,
    request_id: Vec<Option<&'a str>>,
    actor_user_id: Vec<Option<&'a str>>,
    actor_role: Vec<Option<&'a str>>,
    created_at: Vec<DateTime<Utc>>,
    origin_node: Vec<Option<&'a str>>,
    from_peer: Vec<Option<&'a str>>,
    trace_parent: Vec<Option<&'a str>>,
    links: Links<'a>,
}

/// Ids of the group's events that absorb: a smaller event under one of them absorbs the new one.
#[derive(Default)]
struct Links<'a> {
    store_id: Vec<Uuid>,
    id: Vec<Uuid>,
    kind: Vec<i16>,
    event_id: Vec<&'a str>,
    device_id: Vec<&'a str>,
    created_at: Vec<DateTime<Utc>>,
}

/// Tills that push, each once: what they have acknowledged is read along.
#[derive(Default)]
pub(super) struct Pushing<'a> {
    pub(super) store_id: Vec<Uuid>,
    pub(super) device_id: Vec<&'a str>,
}

/// Seqs of the group's events, a row an unbroken run of one device: who else bears them is read along.
#[derive(Default)]
pub(super) struct Runs<'a> {
    store_id: Vec<Uuid>,
    device_id: Vec<&'a str>,
    low: Vec<i64>,
    high: Vec<i64>,
}

impl<'a> Runs<'a> {
    pub(super) fn of(seqs: &BTreeSet<(Uuid, &'a str, i64)>) -> Self {
        let mut runs = Runs::default();
        for (store_id, device_id, seq) in seqs {
            let last = (runs.store_id.last(), runs.device_id.last(), runs.high.last_mut());
            match last {
                (Some(store), Some(device), Some(high))
                    if (store, device) == (store_id, device_id) && high.checked_add(1) == Some(*seq) =>
                {
                    *high = *seq;
                }
                _ => {
                    runs.store_id.push(*store_id);
                    runs.device_id.push(device_id);
                    runs.low.push(*seq);
                    runs.high.push(*seq);
                }
            }
        }
        runs
    }
}

/// One answered row.
pub(super) struct Answered {
    pub(super) store_id: Uuid,
    /// The event; of [`ACKNOWLEDGED`] the device.
    pub(super) id: String,
    pub(super) what: i16,
    /// Of [`TAKEN`] the device; of [`ACKNOWLEDGED`] the clock as JSON, none where nothing is acknowledged.
    pub(super) text: Option<String>,
    /// Of [`TAKEN`].
    pub(super) seq: Option<i64>,
}

/// The event is new.
pub(super) const NEW: i16 = 0;
/// A smaller event bears one of the event's ids already.
pub(super) const ABSORBED: i16 = 1;
/// The event was stored before under a seq that the group's events of its device bear.
pub(super) const TAKEN: i16 = 2;
/// What a device has acknowledged.
pub(super) const ACKNOWLEDGED: i16 = 3;

impl<'a> Columns<'a> {
    /// Stores and events, row by row.
    pub(super) fn ids(&self) -> (&[Uuid], &[&'a str]) {
        (&self.store_id, &self.event_id)
    }

    pub(super) fn add(&mut self, push: &'a NewPush, new: &'a NewEvent) {
        let event = &new.event;
        self.store_id.push(event.store_id);
        self.event_id.push(&event.event_id);
        self.device_id.push(&event.device_id);
        self.seq.push(event.seq);
        self.event_type.push(&event.event_type);
        self.version.push(event.version);
        self.payload.push(&event.payload);
        self.payload_hash.push(&event.payload_hash);
        self.sent_hash.push(event.sent_hash.as_ref().map(|hash| hash.as_slice()));
        self.delta_payload.push(event.delta_payload.as_deref());
        self.vector_clock.push(event.vector_clock.as_ref().map(json));
        let dependencies = &event.causal_dependencies;
        self.causal_dependencies.push((!dependencies.is_empty()).then(|| json(dependencies)));
        self.causal_digest.push(event.causal_digest.as_deref());
        self.request_id.push(event.request_id.as_deref());
        self.actor_user_id.push(event.actor_user_id.as_deref());
        self.actor_role.push(event.actor_role.as_deref());
        self.created_at.push(event.created_at);
        let hop = new.hop.as_ref();
        // A v1 node does not say who took an event from its till.
        let origin = hop.and_then(|hop| hop.origin_node.as_ref()).or(push.from_peer.as_ref());
        self.origin_node.push(origin.map(String::as_str));
        self.from_peer.push(push.from_peer.as_deref());
        let trace = hop.and_then(|hop| hop.trace_parent.as_ref()).or(push.trace_parent.as_ref());
        self.trace_parent.push(trace.map(String::as_str));
        for link in new.links.iter().filter(|link| link.kind.absorbs()) {
            self.links.store_id.push(event.store_id);
            self.links.id.push(link.id);
            self.links.kind.push(link.kind as i16);
            self.links.event_id.push(&event.event_id);
            self.links.device_id.push(&event.device_id);
            self.links.created_at.push(event.created_at);
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Maps with text keys and lists of texts always serialise.
    serde_json::to_string(value).unwrap_or_default()
}

/// Inserts what is new with its outbox entries. `received_at` is cut, not rounded: a rounded one could lie in
/// the future of a reader. It is read within the statement, one for all rows, and is not the transaction's start:
/// that is taken before other sessions can see it, so that a pull in between would go past it. Whether an event
/// is absorbed is judged against what is projected so far, and who else bears its seq is read of what was stored
/// before: the statement does not see its own rows. A run is read up to twice its length: a till with a clone bears
/// each of its seqs twice, and one that bears them more often is known by then.
#[expect(clippy::too_many_lines, reason = "one statement of 37 parameters reads best in one piece")]
pub(super) async fn insert(
    executor: impl PgExecutor<'_>,
    c: &Columns<'_>,
    (types, priorities, entities): (&[&str], &[i16], &[&str]),
    runs: &Runs<'_>,
    pushing: &Pushing<'_>,
    relays: &Relays,
) -> Result<Vec<Answered>, Error> {
    let answered = sqlx::query_as!(
        Answered,
        r#"
        WITH new AS (
            INSERT INTO events (store_id, event_id, device_id, seq, type, version, payload, payload_hash, sent_hash,
                delta_payload, vector_clock, causal_dependencies, causal_digest, request_id, actor_user_id,
                actor_role, created_at, origin_node, trace_parent, from_peer, received_at)
            SELECT store_id, event_id, device_id, seq, type, version, payload::json, payload_hash, sent_hash,
                delta_payload::json, vector_clock::jsonb, causal_dependencies::jsonb, causal_digest, request_id,
                actor_user_id, actor_role, created_at, origin_node, trace_parent, from_peer,
                date_trunc('milliseconds', (SELECT clock_timestamp()))
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int8[], $5::text[], $6::int4[], $7::text[],
                $8::bytea[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
                $15::text[], $16::text[], $17::timestamptz[], $18::text[], $19::text[], $35::text[])
                AS e(store_id, event_id, device_id, seq, type, version, payload, payload_hash, sent_hash,
                    delta_payload, vector_clock, causal_dependencies, causal_digest, request_id, actor_user_id,
                    actor_role, created_at, origin_node, trace_parent, from_peer)
            ON CONFLICT DO NOTHING
            RETURNING store_id, event_id, type, received_at, trace_parent, from_peer
        ), queued AS (
            INSERT INTO outbox_entries (store_id, event_id, event_type, target, peer, entity, priority, created_at,
                trace_parent)
            SELECT new.store_id, new.event_id, new.type, 'projection', '', t.entity, t.priority, new.received_at,
                new.trace_parent
            FROM new JOIN unnest($20::text[], $21::int2[], $22::text[]) AS t(type, priority, entity) USING (type)
            UNION ALL
            SELECT new.store_id, new.event_id, new.type, 'federation-relay', p.name, '', t.priority, new.received_at,
                new.trace_parent
            FROM new JOIN unnest($20::text[], $21::int2[]) AS t(type, priority) USING (type)
            JOIN unnest($36::text[], $37::uuid[]) AS p(name, store_id)
                ON (p.store_id IS NULL OR p.store_id = new.store_id) AND p.name IS DISTINCT FROM new.from_peer
        )
        -- Before the new rows are there to be passed over.
        SELECT r.store_id AS "store_id!", e.event_id::text AS "id!", 2::int2 AS "what!", r.device_id AS "text", e.seq AS "seq"
        FROM unnest($29::uuid[], $30::text[], $31::int8[], $32::int8[]) AS r(store_id, device_id, low, high)
        CROSS JOIN LATERAL (SELECT event_id, seq FROM events
            WHERE store_id = r.store_id AND device_id = r.device_id AND seq BETWEEN r.low AND r.high
            LIMIT 2 * (r.high - r.low + 1)) AS e
        UNION ALL
        SELECT store_id, event_id, 0::int2, NULL, NULL FROM new
        UNION ALL
        SELECT n.store_id, n.event_id, 1::int2, NULL, NULL
        FROM unnest($23::uuid[], $24::uuid[], $25::int2[], $26::text[], $27::text[], $28::timestamptz[])
            AS n(store_id, id, kind, event_id, device_id, created_at)
        WHERE EXISTS (SELECT 1 FROM links l
            WHERE l.store_id = n.store_id AND l.id = n.id AND l.kind = n.kind AND EXISTS (SELECT 1 FROM events e
                WHERE e.store_id = l.store_id AND e.event_id = l.event_id
                    AND (e.created_at, e.device_id, e.event_id)
                        < (n.created_at, n.device_id COLLATE "C", n.event_id COLLATE "C")))
        UNION ALL
        SELECT p.store_id, p.device_id, 3::int2, (SELECT d.acknowledged_clock::text FROM devices d
            WHERE d.store_id = p.store_id AND d.device_id = p.device_id AND d.acknowledged_checkpoint IS NOT NULL),
            NULL
        FROM unnest($33::uuid[], $34::text[]) AS p(store_id, device_id)
        "#,
        &c.store_id,
        &c.event_id as &[&str],
        &c.device_id as &[&str],
        &c.seq as &[Option<i64>],
        &c.event_type as &[&str],
        &c.version,
        &c.payload as &[&str],
        &c.payload_hash as &[&[u8]],
        &c.sent_hash as &[Option<&[u8]>],
        &c.delta_payload as &[Option<&str>],
        &c.vector_clock as &[Option<String>],
        &c.causal_dependencies as &[Option<String>],
        &c.causal_digest as &[Option<&str>],
        &c.request_id as &[Option<&str>],
        &c.actor_user_id as &[Option<&str>],
        &c.actor_role as &[Option<&str>],
        &c.created_at,
        &c.origin_node as &[Option<&str>],
        &c.trace_parent as &[Option<&str>],
        types as &[&str],
        priorities,
        entities as &[&str],
        &c.links.store_id,
        &c.links.id,
        &c.links.kind,
        &c.links.event_id as &[&str],
        &c.links.device_id as &[&str],
        &c.links.created_at,
        &runs.store_id,
        &runs.device_id as &[&str],
        &runs.low,
        &runs.high,
        &pushing.store_id,
        &pushing.device_id as &[&str],
        &c.from_peer as &[Option<&str>],
        &relays.peer,
        &relays.store_id as &[Option<Uuid>],
    )
    .fetch_all(executor)
    .await?;
    Ok(answered)
}

/// Keeps other forms of known events beside them; those that are kept already are passed over. `received_at` is
/// that of [`insert`], for the same reason.
pub(super) async fn keep(
    connection: &mut PgConnection,
    c: &Columns<'_>,
    form_hashes: &[&[u8]],
) -> Result<(), Error> {
    sqlx::query!(
        r#"INSERT INTO event_variants (store_id, event_id, device_id, seq, type, version, payload, payload_hash,
               sent_hash, delta_payload, vector_clock, causal_dependencies, causal_digest, request_id, actor_user_id,
               actor_role, created_at, origin_node, trace_parent, from_peer, form_hash, received_at)
           SELECT store_id, event_id, device_id, seq, type, version, payload::json, payload_hash, sent_hash,
               delta_payload::json, vector_clock::jsonb, causal_dependencies::jsonb, causal_digest, request_id,
               actor_user_id, actor_role, created_at, origin_node, trace_parent, from_peer, form_hash,
               date_trunc('milliseconds', (SELECT clock_timestamp()))
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int8[], $5::text[], $6::int4[], $7::text[],
               $8::bytea[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
               $15::text[], $16::text[], $17::timestamptz[], $18::text[], $19::text[], $20::bytea[],
               $21::text[])
               AS v(store_id, event_id, device_id, seq, type, version, payload, payload_hash, sent_hash,
                   delta_payload, vector_clock, causal_dependencies, causal_digest, request_id, actor_user_id,
                   actor_role, created_at, origin_node, trace_parent, form_hash, from_peer)
           ON CONFLICT DO NOTHING"#,
        &c.store_id,
        &c.event_id as &[&str],
        &c.device_id as &[&str],
        &c.seq as &[Option<i64>],
        &c.event_type as &[&str],
        &c.version,
        &c.payload as &[&str],
        &c.payload_hash as &[&[u8]],
        &c.sent_hash as &[Option<&[u8]>],
        &c.delta_payload as &[Option<&str>],
        &c.vector_clock as &[Option<String>],
        &c.causal_dependencies as &[Option<String>],
        &c.causal_digest as &[Option<&str>],
        &c.request_id as &[Option<&str>],
        &c.actor_user_id as &[Option<&str>],
        &c.actor_role as &[Option<&str>],
        &c.created_at,
        &c.origin_node as &[Option<&str>],
        &c.trace_parent as &[Option<&str>],
        form_hashes as &[&[u8]],
        &c.from_peer as &[Option<&str>],
    )
    .execute(connection)
    .await?;
    Ok(())
}
