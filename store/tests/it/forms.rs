//! The form of an event that counts, marked from outside: until the ingest does it itself.

use sqlx::types::Json;
use sqlx::{PgPool, Row as _};
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::event::{Event, Form};
use velox_store::{NewPush, Store};

/// A form, and its mark; `None`: of the form that came first.
type Met = (Form, Option<bool>);

/// Marks the smallest form of each event of these pushes, and has the event projected anew where that is another
/// one than before.
pub(crate) async fn mark_forms_until_the_ingest_does(store: &Store, pool: &PgPool, pushes: &[NewPush]) {
    let events = pushes.iter().flat_map(|push| &push.events).map(|new| &new.event);
    let (stores, ids): (Vec<Uuid>, Vec<String>) =
        events.map(|event| (event.store_id, event.event_id.clone())).unzip();
    let mut transaction = pool.begin().await.expect("a transaction");
    let sql = "SELECT pg_advisory_xact_lock(7)";
    sqlx::query(sql).execute(&mut *transaction).await.expect(sql);
    let sql = "WITH k AS (SELECT DISTINCT v.store_id, v.event_id
                   FROM unnest($1::uuid[], $2::text[]) AS n(store_id, event_id) JOIN event_variants v USING (store_id, event_id))
               SELECT store_id, event_id, device_id, seq, type, payload_hash, created_at, vector_clock, request_id,
                   NULL::bool AS effective FROM k JOIN events USING (store_id, event_id)
               UNION ALL SELECT store_id, event_id, device_id, seq, type, payload_hash, created_at, vector_clock,
                   request_id, effective FROM k JOIN event_variants USING (store_id, event_id)";
    let rows = sqlx::query(sql).bind(&stores).bind(&ids).fetch_all(&mut *transaction).await.expect(sql);
    let mut forms: BTreeMap<(Uuid, String), Vec<Met>> = BTreeMap::new();
    for row in rows {
        let id = (row.get("store_id"), row.get("event_id"));
        forms.entry(id).or_default().push((form(&row), row.get("effective")));
    }
    let mut changed: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
    for ((store_id, event_id), forms) in forms {
        let (smallest, marked) = forms.iter().min_by_key(|(form, _)| form).expect("a form");
        let counts = marked.unwrap_or_else(|| forms.iter().all(|(_, marked)| *marked != Some(true)));
        if !counts {
            for (sql, hash) in [
                (
                    "UPDATE event_variants SET effective = false WHERE store_id = $1 AND event_id = $2 AND form_hash <> $3 AND effective",
                    smallest.hash,
                ),
                (
                    "UPDATE event_variants SET effective = true WHERE store_id = $1 AND event_id = $2 AND form_hash = $3",
                    smallest.hash,
                ),
            ] {
                let mark = sqlx::query(sql).bind(store_id).bind(&event_id).bind(hash);
                mark.execute(&mut *transaction).await.expect(sql);
            }
            changed.entry(store_id).or_default().push(event_id);
        }
    }
    transaction.commit().await.expect("a commit");
    for (store_id, events) in changed {
        store.requeue_projection(store_id, &events).await.expect("a requeue");
    }
}

fn form(row: &sqlx::postgres::PgRow) -> Form {
    let event = Event {
        store_id: row.get("store_id"),
        event_id: row.get("event_id"),
        device_id: row.get("device_id"),
        seq: row.get("seq"),
        event_type: row.get("type"),
        version: 1,
        created_at: row.get("created_at"),
        payload: String::new(),
        payload_hash: row.get::<Vec<u8>, _>("payload_hash").try_into().expect("a SHA-256"),
        sent_hash: None,
        delta_payload: None,
        vector_clock: row.get::<Option<Json<VectorClock>>, _>("vector_clock").map(|json| json.0),
        causal_dependencies: Vec::new(),
        request_id: row.get("request_id"),
        causal_digest: None,
        actor_user_id: None,
        actor_role: None,
    };
    event.form()
}
