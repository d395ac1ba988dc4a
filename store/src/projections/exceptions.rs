//! Why an event makes no row of its own: `event_exceptions`.

use super::ProjectionFailure;
use crate::Error;
use crate::outbox::Entry;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::standing::Exception;

/// An exception to be written.
pub(super) struct Noted {
    store_id: Uuid,
    event_id: String,
    status: &'static str,
    reason: String,
    attempts: i32,
}

impl Noted {
    pub(super) fn skipped(entry: &Entry) -> Self {
        let reason =
            format!("{} version {} is not projected by this version", entry.event_type, entry.version);
        Noted {
            store_id: entry.store_id,
            event_id: entry.event_id.clone(),
            status: "skipped",
            reason,
            attempts: 0,
        }
    }

    pub(super) fn failed(entry: &Entry, reason: String) -> Self {
        Noted {
            store_id: entry.store_id,
            event_id: entry.event_id.clone(),
            status: "failed",
            reason,
            attempts: entry.retry_count + 1,
        }
    }

    pub(super) fn of(store_id: Uuid, event_id: &str, exception: &Exception) -> Self {
        let (status, reason) = match exception {
            Exception::Waiting(id) => ("waiting", id),
            Exception::Absorbed(id) => ("absorbed", id),
        };
        Noted { store_id, event_id: event_id.to_owned(), status, reason: reason.clone(), attempts: 0 }
    }

    pub(super) fn store_id(&self) -> Uuid {
        self.store_id
    }

    pub(super) fn failure(&self) -> Option<ProjectionFailure> {
        (self.status == "failed").then(|| ProjectionFailure {
            store_id: self.store_id,
            event_id: self.event_id.clone(),
            reason: self.reason.clone(),
        })
    }
}

/// Writes exceptions; one that stays as it is keeps its `since`.
pub(super) async fn note(connection: &mut PgConnection, noted: &[Noted]) -> Result<(), Error> {
    if noted.is_empty() {
        return Ok(());
    }
    // One statement cannot touch a row twice.
    let unique: BTreeMap<(Uuid, &str), &Noted> =
        noted.iter().map(|n| ((n.store_id, n.event_id.as_str()), n)).collect();
    let stores: Vec<Uuid> = unique.values().map(|n| n.store_id).collect();
    let events: Vec<&str> = unique.values().map(|n| n.event_id.as_str()).collect();
    let statuses: Vec<&str> = unique.values().map(|n| n.status).collect();
    let reasons: Vec<&str> = unique.values().map(|n| n.reason.as_str()).collect();
    let attempts: Vec<i32> = unique.values().map(|n| n.attempts).collect();
    sqlx::query!(
        "INSERT INTO event_exceptions (store_id, event_id, status, reason, attempts)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int4[])
         ON CONFLICT (store_id, event_id) DO UPDATE
         SET status = EXCLUDED.status, reason = EXCLUDED.reason, attempts = EXCLUDED.attempts,
             since = CASE WHEN event_exceptions.status = EXCLUDED.status THEN event_exceptions.since ELSE now() END",
        &stores,
        &events as &[&str],
        &statuses as &[&str],
        &reasons as &[&str],
        &attempts
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the exceptions of events that make a row now.
pub(super) async fn clear(connection: &mut PgConnection, events: &[(Uuid, String)]) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let stores: Vec<Uuid> = events.iter().map(|(store, _)| *store).collect();
    let ids: Vec<&str> = events.iter().map(|(_, id)| id.as_str()).collect();
    sqlx::query!(
        "DELETE FROM event_exceptions x USING unnest($1::uuid[], $2::text[]) AS k(store_id, event_id)
         WHERE x.store_id = k.store_id AND x.event_id = k.event_id",
        &stores,
        &ids as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(())
}
