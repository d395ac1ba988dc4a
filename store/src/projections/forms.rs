//! The forms of an event: the one that counts, and the others, whose rows it replaces.

use super::read;
use crate::Error;
use crate::outbox::Entry;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::payload::Payload;

/// An event in the form that counts, with what its other forms mean.
pub(super) struct Formed {
    /// The form that counts.
    pub(super) entry: Entry,
    /// The other forms, where they mean anything.
    pub(super) others: Vec<(Entry, Payload)>,
}

/// Puts each entry into the form that counts.
pub(super) async fn of(connection: &mut PgConnection, entries: Vec<Entry>) -> Result<Vec<Formed>, Error> {
    let mut variants = load(connection, &entries).await?;
    let formed = entries.into_iter().map(|first| {
        let Some(mut forms) = variants.remove(&(first.store_id, first.event_id.clone())) else {
            return Formed { entry: first, others: Vec::new() };
        };
        let counting = forms.iter().position(|(_, effective)| *effective);
        let (queued_at, retry_count) = (first.queued_at, first.retry_count);
        let entry = match counting {
            Some(place) => {
                let (variant, _) = forms.swap_remove(place);
                let trace_parent = first.trace_parent.clone();
                forms.push((first, false));
                Entry { queued_at, retry_count, trace_parent, ..variant }
            }
            None => first,
        };
        let meanings = forms
            .into_iter()
            .filter_map(|(form, _)| read(&form).ok().flatten().map(|payload| (form, payload)));
        Formed { entry, others: meanings.collect() }
    });
    Ok(formed.collect())
}

type Variants = BTreeMap<(Uuid, String), Vec<(Entry, bool)>>;

/// The forms beside the first one of those entries that have some, and which of them counts.
async fn load(connection: &mut PgConnection, entries: &[Entry]) -> Result<Variants, Error> {
    let (stores, ids): (Vec<Uuid>, Vec<&str>) =
        entries.iter().filter(|e| e.has_forms).map(|e| (e.store_id, e.event_id.as_str())).unzip();
    let mut variants = Variants::new();
    if stores.is_empty() {
        return Ok(variants);
    }
    let rows = sqlx::query!(
        r#"SELECT v.store_id, v.event_id, v.type AS event_type, v.version, v.device_id, v.seq, v.created_at, v.request_id,
               v.actor_user_id, v.vector_clock AS "vector_clock: Json<VectorClock>", v.payload::text AS "payload!",
               v.received_at, v.effective
           FROM (SELECT DISTINCT * FROM unnest($1::uuid[], $2::text[])) AS k(store_id, event_id)
           JOIN event_variants v USING (store_id, event_id)"#,
        &stores,
        &ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let entry = Entry {
            store_id: row.store_id,
            event_id: row.event_id.clone(),
            event_type: row.event_type,
            version: row.version,
            device_id: row.device_id,
            seq: row.seq,
            created_at: row.created_at,
            request_id: row.request_id,
            actor_user_id: row.actor_user_id,
            vector_clock: row.vector_clock,
            payload: row.payload,
            queued_at: row.received_at,
            retry_count: 0,
            trace_parent: None,
            has_forms: true,
        };
        variants.entry((row.store_id, row.event_id)).or_default().push((entry, row.effective));
    }
    Ok(variants)
}
