//! The same event id again: a duplicate, or other content that is kept beside what came first.

use super::{NewEvent, NewPush};
use crate::{Error, Store};
use std::collections::HashMap;
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::event::Event;

/// What is stored under an id, as far as it tells contents apart.
pub(super) struct Content {
    event_type: String,
    payload_hash: Vec<u8>,
    form_hash: [u8; 32],
}

impl Content {
    /// Same type and payload: a repetition for the sender.
    pub(super) fn is_of(&self, event: &Event) -> bool {
        self.event_type == event.event_type && self.payload_hash == event.payload_hash
    }
}

impl Store {
    /// Reads what is stored under known ids, and keeps every other form that was sent.
    pub(super) async fn compare_known(
        &self,
        repeated: &[(&NewPush, &NewEvent)],
    ) -> Result<HashMap<(Uuid, String), Content>, Error> {
        let stores: Vec<Uuid> = repeated.iter().map(|(_, new)| new.event.store_id).collect();
        let ids: Vec<&str> = repeated.iter().map(|(_, new)| new.event.event_id.as_str()).collect();
        let rows = sqlx::query!(
            r#"SELECT e.store_id, e.event_id, e.device_id, e.seq, e.type AS event_type, e.payload_hash, e.created_at,
                   e.vector_clock AS "vector_clock: sqlx::types::Json<VectorClock>", e.request_id
               FROM events e
               JOIN (SELECT DISTINCT * FROM unnest($1::uuid[], $2::text[])) AS k(store_id, event_id)
                 USING (store_id, event_id)"#,
            &stores,
            &ids as &[&str],
        )
        .fetch_all(&self.pool)
        .await?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in rows {
            let stored = Event {
                store_id: row.store_id,
                event_id: row.event_id.clone(),
                device_id: row.device_id,
                seq: row.seq,
                event_type: row.event_type.clone(),
                payload_hash: as_hash(&row.payload_hash)?,
                created_at: row.created_at,
                vector_clock: row.vector_clock.map(|json| json.0),
                request_id: row.request_id,
                ..without_content(row.store_id)
            };
            let form_hash = stored.form_hash();
            known.insert(
                (row.store_id, row.event_id),
                Content { event_type: row.event_type, payload_hash: row.payload_hash, form_hash },
            );
        }
        for (push, new) in repeated {
            let form_hash = new.event.form_hash();
            let content = known.get(&(new.event.store_id, new.event.event_id.clone()));
            if content.is_some_and(|content| content.form_hash != form_hash) {
                self.keep_variant(push, &new.event, form_hash).await?;
            }
        }
        Ok(known)
    }

    async fn keep_variant(&self, push: &NewPush, event: &Event, form_hash: [u8; 32]) -> Result<(), Error> {
        let dependencies = serde_json::to_value(&event.causal_dependencies).unwrap_or_default();
        let clock = event.vector_clock.as_ref().map(sqlx::types::Json);
        sqlx::query!(
            "INSERT INTO event_variants (store_id, event_id, form_hash, device_id, seq, type, version, payload,
                 payload_hash, sent_hash, delta_payload, vector_clock, causal_dependencies, causal_digest, request_id,
                 actor_user_id, actor_role, created_at, origin_node, trace_parent, received_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::json, $9, $10, $11::text::json, $12, $13, $14, $15, $16,
                 $17, $18, $19, $20, date_trunc('milliseconds', now()))
             ON CONFLICT DO NOTHING",
            event.store_id,
            event.event_id,
            form_hash.as_slice(),
            event.device_id,
            event.seq,
            event.event_type,
            event.version,
            event.payload,
            event.payload_hash.as_slice(),
            event.sent_hash.as_ref().map(|hash| hash.as_slice()),
            event.delta_payload,
            clock as _,
            dependencies,
            event.causal_digest,
            event.request_id,
            event.actor_user_id,
            event.actor_role,
            event.created_at,
            push.origin_node,
            push.trace_parent,
        )
        .execute(&self.ingest)
        .await?;
        Ok(())
    }
}

fn as_hash(bytes: &[u8]) -> Result<[u8; 32], Error> {
    bytes
        .try_into()
        .map_err(|_| Error::Inconsistent { table: "events", what: "payload_hash is no SHA-256".into() })
}

/// The parts of an event that its form does not contain.
fn without_content(store_id: Uuid) -> Event {
    Event {
        store_id,
        event_id: String::new(),
        device_id: String::new(),
        seq: None,
        event_type: String::new(),
        version: 1,
        created_at: chrono::DateTime::UNIX_EPOCH,
        payload: String::new(),
        payload_hash: [0; 32],
        sent_hash: None,
        delta_payload: None,
        vector_clock: None,
        causal_dependencies: Vec::new(),
        request_id: None,
        causal_digest: None,
        actor_user_id: None,
        actor_role: None,
    }
}
