//! The same event id again: a duplicate, or other content. Never here: keeping it (see [`super::variants`]).

use super::variants::Variant;
use super::{NewEvent, NewPush};
use crate::{Error, Store};
use sqlx::types::Json;
use std::collections::HashMap;
use uuid::Uuid;
use velox_protocol::catalogue::Entity;
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

/// What came first under ids that were sent again.
#[derive(Default)]
pub(super) struct Known {
    pub(super) contents: HashMap<(Uuid, String), Content>,
    /// The projectors that have work because another form counts now.
    pub(super) requeued: std::collections::BTreeSet<Entity>,
}

/// The columns of a stored event that its form consists of.
pub(super) struct ComparedForm {
    pub(super) store_id: Uuid,
    pub(super) event_id: String,
    pub(super) device_id: String,
    pub(super) seq: Option<i64>,
    pub(super) event_type: String,
    pub(super) version: i32,
    pub(super) payload_hash: Vec<u8>,
    pub(super) created_at: chrono::DateTime<chrono::Utc>,
    pub(super) vector_clock: Option<Json<VectorClock>>,
    pub(super) request_id: Option<String>,
}

impl ComparedForm {
    /// An event of this form; all else of it is empty.
    pub(super) fn event(&self) -> Result<Event, Error> {
        let payload_hash = self.payload_hash.as_slice().try_into().map_err(|_| Error::Inconsistent {
            table: "events",
            what: "payload_hash is no SHA-256".into(),
        })?;
        Ok(Event {
            store_id: self.store_id,
            event_id: self.event_id.clone(),
            device_id: self.device_id.clone(),
            seq: self.seq,
            event_type: self.event_type.clone(),
            version: self.version,
            created_at: self.created_at,
            payload: String::new(),
            payload_hash,
            sent_hash: None,
            delta_payload: None,
            vector_clock: self.vector_clock.clone().map(|json| json.0),
            causal_dependencies: Vec::new(),
            request_id: self.request_id.clone(),
            causal_digest: None,
            actor_user_id: None,
            actor_role: None,
        })
    }
}

impl Store {
    /// Reads what is stored under known ids, and keeps every other form that was sent.
    pub(super) async fn compare_known(&self, repeated: &[(&NewPush, &NewEvent)]) -> Result<Known, Error> {
        let stores: Vec<Uuid> = repeated.iter().map(|(_, new)| new.event.store_id).collect();
        let ids: Vec<&str> = repeated.iter().map(|(_, new)| new.event.event_id.as_str()).collect();
        let rows = sqlx::query_as!(
            ComparedForm,
            r#"SELECT e.store_id, e.event_id, e.device_id, e.seq, e.type AS event_type, e.version, e.payload_hash,
                   e.created_at, e.vector_clock AS "vector_clock: Json<VectorClock>", e.request_id
               FROM events e
               JOIN (SELECT DISTINCT * FROM unnest($1::uuid[], $2::text[])) AS k(store_id, event_id)
                 USING (store_id, event_id)"#,
            &stores,
            &ids as &[&str],
        )
        .fetch_all(&self.pool)
        .await?;
        let mut known = Known::default();
        for row in rows {
            let form_hash = row.event()?.form_hash();
            known.contents.insert(
                (row.store_id, row.event_id),
                Content { event_type: row.event_type, payload_hash: row.payload_hash, form_hash },
            );
        }
        let variants = repeated.iter().filter_map(|(push, new)| {
            let content = known.contents.get(&(new.event.store_id, new.event.event_id.clone()))?;
            let form = new.event.form();
            (content.form_hash != form.hash).then_some(Variant { push, new, form })
        });
        known.requeued = self.keep_variants(variants.collect()).await?;
        Ok(known)
    }
}
