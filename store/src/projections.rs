//! From claimed entries to rows of the read tables, in the claiming transaction.
//!
//! A batch is read once and written once: one statement a table, whatever its size. Never here: what stands
//! (see `velox_protocol::standing`), or when a projection is tried again.

mod audit;
mod closure;
mod declared;
mod diff;
mod entities;
mod exceptions;
mod forms;
mod possible;
mod registers;
mod standing;
mod stock;
mod write;

use crate::outbox::{Claim, Entry};
use crate::{Error, Store};
use audit::Audit;
pub(crate) use closure::load_events;
use exceptions::Noted;
use forms::Formed;
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use velox_protocol::catalogue;
use velox_protocol::clock::Key;
use velox_protocol::json::Json;
use velox_protocol::payload::Payload;
use velox_protocol::standing::Linked;

/// What a batch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchReport {
    /// Entries that are done.
    pub done: usize,
    /// Of those the ones whose event makes no row and never will as it is.
    pub failed: Vec<ProjectionFailure>,
    /// Whether a payment waits for its debt now that did not before.
    pub awaits_debt: bool,
}

/// An event whose meaning is unclear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionFailure {
    /// The shop.
    pub store_id: Uuid,
    /// The event.
    pub event_id: String,
    /// Why.
    pub reason: String,
}

/// Classes of advisory locks: two pods that project events of one store in one family take turns.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(crate) enum Family {
    Linked = 0x5645_0001,
    Product = 0x5645_0002,
    Customer = 0x5645_0003,
    Session = 0x5645_0004,
}

impl Family {
    /// In the order in which they are taken.
    pub(crate) const ALL: [Family; 4] = [Family::Linked, Family::Product, Family::Customer, Family::Session];
}

/// Whether a projection takes turns with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    /// With all that project the same stores.
    Taken,
    /// It writes into tables that nobody else sees, or holds the lock already.
    None,
}

/// A batch, sorted by what its events make.
#[derive(Default)]
struct Sorted {
    linked: BTreeMap<Uuid, standing::Batch>,
    products: entities::Batch,
    customers: entities::Batch,
    sessions: entities::Batch,
    noted: Vec<Noted>,
}

/// What a batch did, and what it has to tell the conflict audit after its commit.
#[derive(Debug, Default)]
pub(crate) struct Done {
    failed: Vec<ProjectionFailure>,
    audit: Audit,
    awaits_debt: bool,
}

impl Done {
    /// Events whose meaning is unclear, with the reason.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.failed.iter().map(|failure| (failure.event_id.as_str(), failure.reason.as_str()))
    }
}

impl Claim {
    /// Projects all entries and commits.
    ///
    /// # Errors
    /// The database's; then nothing is written and the entries are pending as before.
    #[tracing::instrument(name = "db.project", level = "debug", skip_all, fields(entries = self.entries.len()))]
    pub async fn project(mut self) -> Result<BatchReport, Error> {
        let count = self.entries.len();
        let done = project(&mut self.transaction, self.entries, Locks::Taken).await?;
        self.transaction.commit().await?;
        done.audit.log(&self.pool).await;
        Ok(BatchReport { done: count, failed: done.failed, awaits_debt: done.awaits_debt })
    }
}

/// Projects events, each in the form that counts.
pub(crate) async fn project(
    connection: &mut PgConnection,
    entries: Vec<Entry>,
    locks: Locks,
) -> Result<Done, Error> {
    let sorted = sort(forms::of(connection, entries).await?);
    let mut done =
        Done { failed: sorted.noted.iter().filter_map(Noted::failure).collect(), ..Done::default() };
    let audit = &mut done.audit;
    // Exceptions are written under this lock too, whatever the event: a rebuild compares them.
    let noted = sorted.noted.iter().map(Noted::store_id);
    let stores: BTreeSet<Uuid> = sorted.linked.keys().copied().chain(noted).collect();
    if locks == Locks::Taken && !stores.is_empty() {
        lock(connection, Family::Linked, stores).await?;
    }
    if !sorted.linked.is_empty() {
        let projected = standing::project(connection, &sorted.linked).await?;
        audit.met = projected.met;
        done.awaits_debt = projected.awaits_debt;
    }
    if !sorted.products.is_empty() {
        if locks == Locks::Taken {
            lock(connection, Family::Product, sorted.products.stores()).await?;
        }
        registers::products(connection, &sorted.products, audit).await?;
    }
    if !sorted.customers.is_empty() {
        if locks == Locks::Taken {
            lock(connection, Family::Customer, sorted.customers.stores()).await?;
        }
        registers::customers(connection, &sorted.customers, audit).await?;
    }
    if !sorted.sessions.is_empty() {
        if locks == Locks::Taken {
            lock(connection, Family::Session, sorted.sessions.stores()).await?;
        }
        registers::sessions(connection, &sorted.sessions, audit).await?;
    }
    exceptions::note(connection, &sorted.noted).await?;
    Ok(done)
}

fn sort(entries: Vec<Formed>) -> Sorted {
    let mut sorted = Sorted::default();
    for Formed { entry, others } in entries {
        for (form, payload) in others {
            let store_id = form.store_id;
            let entity = match payload {
                Payload::Product(writes) => Some((&mut sorted.products, writes)),
                Payload::Customer(writes) => Some((&mut sorted.customers, writes)),
                Payload::Session(writes) => Some((&mut sorted.sessions, writes)),
                payload => {
                    sorted.linked.entry(store_id).or_default().formerly.push(linked(&form, payload));
                    None
                }
            };
            if let Some((batch, writes)) = entity {
                batch.formerly.insert((store_id, writes.entity_id));
            }
        }
        match read(&entry) {
            Ok(None) => sorted.noted.push(Noted::skipped(&entry)),
            Err(reason) => sorted.noted.push(Noted::failed(&entry, reason)),
            Ok(Some(Payload::Product(writes))) => sorted.products.writes.push((entry, writes)),
            Ok(Some(Payload::Customer(writes))) => sorted.customers.writes.push((entry, writes)),
            Ok(Some(Payload::Session(writes))) => {
                let writes = registers::signed(&entry, &writes);
                sorted.sessions.writes.push((entry, writes));
            }
            Ok(Some(payload)) => {
                let event = linked(&entry, payload);
                sorted.linked.entry(entry.store_id).or_default().add(entry.store_id, event);
            }
        }
    }
    sorted
}

/// The payload's meaning; `None`: of a type or version that this program does not project.
fn read(entry: &Entry) -> Result<Option<Payload>, String> {
    if !catalogue::is_projected(&entry.event_type, entry.version) {
        return Ok(None);
    }
    let json = Json::parse(&entry.payload).map_err(|error| error.to_string())?;
    Payload::read(&entry.event_type, &json).map(Some)
}

fn linked(entry: &Entry, payload: Payload) -> Linked {
    Linked {
        key: Key {
            created_at: entry.created_at,
            device_id: entry.device_id.clone(),
            event_id: entry.event_id.clone(),
        },
        request_id: entry.request_id.clone(),
        actor: entry.actor_user_id.clone(),
        payload,
    }
}

/// Taken in one order, so that two batches never wait for each other in a circle; released by the commit.
pub(crate) async fn lock(
    connection: &mut PgConnection,
    family: Family,
    stores: BTreeSet<Uuid>,
) -> Result<(), Error> {
    let keys: Vec<i32> = stores
        .into_iter()
        .map(|store| i32::from_be_bytes(store.as_bytes()[12..].try_into().unwrap_or_default()))
        .collect::<BTreeSet<i32>>()
        .into_iter()
        .collect();
    sqlx::query!("SELECT pg_advisory_xact_lock($1, k) FROM unnest($2::int4[]) AS k", family as i32, &keys)
        .execute(connection)
        .await?;
    Ok(())
}

/// Projects an event that the caller's transaction has written, in place of its projector: whoever sees the event
/// sees its rows. The caller holds the lock of its family, and nothing else makes what the event makes: the conflict
/// audit is not told.
pub(crate) async fn project_own(
    connection: &mut PgConnection,
    store_id: Uuid,
    event_id: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM outbox_entries WHERE store_id = $1 AND event_id = $2 AND target = 'projection' AND peer = ''",
        store_id,
        event_id
    )
    .execute(&mut *connection)
    .await?;
    let entries = load_events(connection, &[(store_id, event_id.to_owned())]).await?;
    project(connection, entries, Locks::None).await?;
    Ok(())
}

impl Store {
    /// Puts projection entries of these events into the queue anew; those without an event or with an entry
    /// are passed over. What had failed or was skipped is pending then. Answers how many were queued.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.requeue_projection", level = "debug", skip_all)]
    pub async fn requeue_projection(&self, store_id: Uuid, event_ids: &[String]) -> Result<u64, Error> {
        let mut transaction = self.pool.begin().await?;
        let queued = requeue_projection_in(&mut transaction, store_id, event_ids).await?;
        transaction.commit().await?;
        Ok(queued)
    }
}

/// [`Store::requeue_projection`] within a transaction.
pub(crate) async fn requeue_projection_in(
    connection: &mut PgConnection,
    store_id: Uuid,
    event_ids: &[String],
) -> Result<u64, Error> {
    if event_ids.is_empty() {
        return Ok(0);
    }
    let types: Vec<String> = sqlx::query_scalar!(
        "SELECT DISTINCT type AS \"type!\" FROM effective_events WHERE store_id = $1 AND event_id = ANY($2)",
        store_id,
        event_ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let entities: Vec<&str> = types.iter().map(|name| catalogue::entity(name).name()).collect();
    let priorities: Vec<i16> = types.iter().map(|name| catalogue::priority(name)).collect();
    let queued = sqlx::query_scalar!(
        "INSERT INTO outbox_entries (store_id, event_id, event_type, target, entity, priority, created_at)
         SELECT e.store_id, e.event_id, e.type, 'projection', t.entity, t.priority, now()
         FROM effective_events e
         JOIN unnest($3::text[], $4::text[], $5::int2[]) AS t(type, entity, priority) USING (type)
         WHERE e.store_id = $1 AND e.event_id = ANY($2)
         -- In one order, so that two who queue the same events do not wait for each other.
         ORDER BY e.event_id
         ON CONFLICT (store_id, event_id, target, peer) DO UPDATE
         SET status = 'pending', retry_count = 0, next_attempt_at = NULL, error = NULL, processed_at = NULL,
             -- An entry that is as old as its event says that the event was never projected.
             created_at = CASE WHEN outbox_entries.status = 'processed' THEN EXCLUDED.created_at
                               ELSE outbox_entries.created_at END
         WHERE outbox_entries.status <> 'pending'
         RETURNING event_id",
        store_id,
        event_ids,
        &types,
        &entities as &[&str],
        &priorities
    )
    .fetch_all(&mut *connection)
    .await?;
    // A statement of its own: one that waited for an entry to die does not see the exception of that death.
    sqlx::query!(
        "DELETE FROM event_exceptions
         WHERE store_id = $1 AND event_id = ANY($2) AND status IN ('failed', 'skipped')",
        store_id,
        &queued
    )
    .execute(&mut *connection)
    .await?;
    Ok(queued.len() as u64)
}
