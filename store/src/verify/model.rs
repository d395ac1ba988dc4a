//! The tables beside the model: a fold over the event log, a second implementation of the convergence rules.

use crate::{Error, Store, stored};
use futures_util::TryStreamExt as _;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::BTreeSet;
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::event::Event;
use velox_protocol::fold::{Fold, Tables};

impl Store {
    /// The stores that have events; only the asked one, if one is asked for.
    pub(crate) async fn stores_with_events(&self, store_id: Option<Uuid>) -> Result<Vec<Uuid>, Error> {
        if let Some(store_id) = store_id {
            return Ok(vec![store_id]);
        }
        // A loose index scan: one step a store, whatever the number of its events.
        let stores = sqlx::query_scalar!(
            r#"WITH RECURSIVE s AS (
                   (SELECT store_id FROM events ORDER BY store_id LIMIT 1)
                   UNION ALL
                   SELECT (SELECT e.store_id FROM events e WHERE e.store_id > s.store_id ORDER BY e.store_id LIMIT 1)
                   FROM s WHERE s.store_id IS NOT NULL
               )
               SELECT store_id AS "store_id!" FROM s WHERE store_id IS NOT NULL"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(stores)
    }

    /// Each row of a store's tables that is not what its projected events make, of one moment. Holds the store's
    /// rows twice in memory.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn differences_from_model(&self, store_id: Uuid) -> Result<Vec<String>, Error> {
        let mut transaction = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        sqlx::query!("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await?;
        let found = stored::tables(&mut transaction, store_id).await?;
        let mut different = differences(&mut transaction, store_id, &found, Forms::All).await?;
        if !different.is_empty() {
            // Where a form has come that counts and is not projected yet, the rows are still those of before.
            let before = differences(&mut transaction, store_id, &found, Forms::Projected).await?;
            let rows: BTreeSet<&str> = before.iter().map(|difference| row(difference)).collect();
            different.retain(|difference| rows.contains(row(difference)));
        }
        transaction.commit().await?;
        Ok(different)
    }

    /// The read tables of a store, for tests.
    ///
    /// # Errors
    /// The database's.
    #[cfg(any(test, feature = "testing"))]
    #[tracing::instrument(name = "db.tables", level = "debug", skip_all)]
    pub async fn tables(&self, store_id: Uuid) -> Result<Tables, Error> {
        let mut connection = self.pool.acquire().await?;
        stored::tables(&mut connection, store_id).await
    }
}

/// Which forms of an event are looked at.
#[derive(Clone, Copy, PartialEq)]
enum Forms {
    All,
    /// Of events on their way the first one alone.
    Projected,
}

/// Which row a difference is about.
fn row(difference: &str) -> &str {
    difference.split_once(": ").map_or(difference, |(row, _)| row)
}

/// Rows that are not as the events make them.
async fn differences(
    connection: &mut PgConnection,
    store_id: Uuid,
    found: &Tables,
    forms: Forms,
) -> Result<Vec<String>, Error> {
    let mut fold = Fold::new(store_id);
    fold_events(connection, store_id, forms, &mut fold).await?;
    let mut expected = fold.tables();
    let mut found = found.clone();
    // What died has its error as its reason, and what is on its way may still have an old one.
    for event in unsettled(connection, store_id).await? {
        expected.exceptions.remove(&event);
        found.exceptions.remove(&event);
    }
    Ok(found.differences(&expected))
}

/// Adds the forms of the events that have been projected: an entry that is as old as its event has not been worked
/// off yet, and a dead one never was.
async fn fold_events(
    connection: &mut PgConnection,
    store_id: Uuid,
    forms: Forms,
    fold: &mut Fold,
) -> Result<(), Error> {
    let mut rows = sqlx::query!(
        r#"SELECT e.event_id AS "event_id!", e.device_id AS "device_id!", e.seq, e.type AS "event_type!",
               e.version AS "version!", e.payload::text AS "payload!", e.payload_hash AS "payload_hash!",
               e.vector_clock AS "vector_clock: Json<VectorClock>", e.request_id, e.actor_user_id,
               e.created_at AS "created_at!"
           FROM (SELECT store_id, event_id, device_id, seq, type, version, payload, payload_hash, vector_clock,
                     request_id, actor_user_id, created_at
                 FROM events WHERE store_id = $1
                 UNION ALL
                 SELECT store_id, event_id, device_id, seq, type, version, payload, payload_hash, vector_clock,
                     request_id, actor_user_id, created_at
                 FROM event_variants v WHERE store_id = $1 AND ($2 OR NOT EXISTS (SELECT 1 FROM outbox_entries o
                     WHERE o.store_id = v.store_id AND o.event_id = v.event_id AND o.target = 'projection'
                       AND o.status = 'pending'))) e
           WHERE NOT EXISTS (SELECT 1 FROM outbox_entries o JOIN events f USING (store_id, event_id)
               WHERE o.store_id = e.store_id AND o.event_id = e.event_id AND o.target = 'projection'
                 AND o.status IN ('pending', 'dead') AND o.created_at = f.received_at)"#,
        store_id,
        forms == Forms::All
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        fold.add(&Event {
            event_id: row.event_id,
            device_id: row.device_id,
            seq: row.seq,
            event_type: row.event_type,
            version: row.version,
            created_at: row.created_at,
            payload: row.payload,
            payload_hash: row.payload_hash.try_into().map_err(|_| Error::Inconsistent {
                table: "events",
                what: "payload_hash is no SHA-256".to_owned(),
            })?,
            vector_clock: row.vector_clock.map(|json| json.0),
            request_id: row.request_id,
            actor_user_id: row.actor_user_id,
            store_id,
            // Nothing of a row is made of these.
            sent_hash: None,
            delta_payload: None,
            causal_dependencies: Vec::new(),
            causal_digest: None,
            actor_role: None,
        });
    }
    Ok(())
}

async fn unsettled(connection: &mut PgConnection, store_id: Uuid) -> Result<BTreeSet<String>, Error> {
    let events = sqlx::query_scalar!(
        "SELECT event_id FROM outbox_entries
         WHERE store_id = $1 AND target = 'projection' AND status IN ('pending', 'dead')",
        store_id
    )
    .fetch_all(connection)
    .await?;
    Ok(events.into_iter().collect())
}
