//! The event log: groups of pushes in one transaction, other contents of known ids, devices' positions.
//!
//! `events` is insert-only. Never here: what an event means.

mod columns;
mod known;

use crate::{Error, Store};
use columns::Columns;
use sqlx::PgConnection;
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;
use velox_protocol::catalogue;
use velox_protocol::event::Event;
use velox_protocol::payload::Link;

/// An event to be stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// What is stored.
    pub event: Event,
    /// The ids by which it meets others.
    pub links: Vec<Link>,
}

/// What one request brings.
#[derive(Debug, Clone, Default)]
pub struct NewPush {
    /// Its events, in the sender's order.
    pub events: Vec<NewEvent>,
    /// W3C trace context of the request, kept with the outbox entries.
    pub trace_parent: Option<String>,
    /// The peer that it came from; `None`: a till.
    pub origin_node: Option<String>,
}

/// What became of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestOutcome {
    /// Stored now.
    New {
        /// A smaller event bears one of its ids already.
        absorbed: bool,
    },
    /// Stored before, with the same type and payload.
    Duplicate,
    /// Its id is known with other content, which is kept apart.
    OtherContent,
}

/// What became of a push's events, in their order.
pub type PushOutcome = Vec<IngestOutcome>;

type Id<'a> = (Uuid, &'a str);

impl Store {
    /// Stores a group of pushes in one transaction: events and their outbox entries together or not at all.
    ///
    /// Answers after the commit with fsync. One statement, one round trip; a second one only for ids that are
    /// known already.
    ///
    /// # Errors
    /// [`Error::Data`] where a row is refused (try the pushes apart); with every other error the outcome is
    /// unknown, and a repeat is told duplicate.
    #[tracing::instrument(name = "db.events.ingest", level = "debug", skip_all, fields(pushes = pushes.len()))]
    pub async fn ingest(&self, pushes: &[NewPush]) -> Result<Vec<PushOutcome>, Error> {
        let mut first: BTreeMap<Id<'_>, (&NewPush, &NewEvent)> = BTreeMap::new();
        for push in pushes {
            for new in &push.events {
                first.entry((new.event.store_id, &new.event.event_id)).or_insert((push, new));
            }
        }
        if first.is_empty() {
            return Ok(pushes.iter().map(|_| Vec::new()).collect());
        }
        let inserted = self.insert_events(first.values().copied()).await;
        if inserted.as_ref().is_err_and(Error::is_read_only) {
            self.renew_sessions(&self.ingest).await;
        }
        let inserted = inserted?;
        let repeated: Vec<(&NewPush, &NewEvent)> = pushes
            .iter()
            .flat_map(|push| push.events.iter().map(move |new| (push, new)))
            .filter(|(_, new)| {
                let id = (new.event.store_id, new.event.event_id.as_str());
                !inserted.new.contains(&(id.0, id.1.to_owned())) || !std::ptr::eq(first[&id].1, *new)
            })
            .collect();
        let known = if repeated.is_empty() { HashMap::new() } else { self.compare_known(&repeated).await? };
        Ok(pushes
            .iter()
            .map(|push| push.events.iter().map(|new| outcome(new, &first, &inserted, &known)).collect())
            .collect())
    }

    async fn insert_events<'a>(
        &self,
        events: impl Iterator<Item = (&'a NewPush, &'a NewEvent)>,
    ) -> Result<Inserted, Error> {
        let mut columns = Columns::default();
        let mut types: BTreeMap<&str, (i16, &str)> = BTreeMap::new();
        for (push, new) in events {
            columns.add(push, new);
            let name = new.event.event_type.as_str();
            types.insert(name, (catalogue::priority(name), catalogue::entity(name).name()));
        }
        let type_names: Vec<&str> = types.keys().copied().collect();
        let priorities: Vec<i16> = types.values().map(|t| t.0).collect();
        let entities: Vec<&str> = types.values().map(|t| t.1).collect();
        let rows = columns::insert(&self.ingest, &columns, &type_names, &priorities, &entities).await?;
        let mut inserted = Inserted::default();
        for row in rows {
            let id = (row.store_id, row.event_id);
            if row.absorbed {
                inserted.absorbed.insert(id)
            } else {
                inserted.new.insert(id)
            };
        }
        Ok(inserted)
    }

    /// The greatest seq that a device has pushed, and when its last event came.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.last_seq", level = "debug", skip_all)]
    pub async fn last_seq(
        &self,
        store_id: Uuid,
        device_id: &str,
    ) -> Result<Option<(i64, chrono::DateTime<chrono::Utc>)>, Error> {
        let row = sqlx::query!(
            "SELECT coalesce(seq, 0) AS \"seq!\", received_at FROM events
             WHERE store_id = $1 AND device_id = $2 ORDER BY seq DESC NULLS LAST LIMIT 1",
            store_id,
            device_id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| (row.seq, row.received_at)))
    }
}

#[derive(Default)]
struct Inserted {
    new: HashSet<(Uuid, String)>,
    absorbed: HashSet<(Uuid, String)>,
}

fn outcome(
    new: &NewEvent,
    first: &BTreeMap<Id<'_>, (&NewPush, &NewEvent)>,
    inserted: &Inserted,
    known: &HashMap<(Uuid, String), known::Content>,
) -> IngestOutcome {
    let id = (new.event.store_id, new.event.event_id.clone());
    if inserted.new.contains(&id) && std::ptr::eq(first[&(id.0, id.1.as_str())].1, new) {
        return IngestOutcome::New { absorbed: inserted.absorbed.contains(&id) };
    }
    // What was not inserted is there: the insert has met it, committed.
    let same = known.get(&id).is_some_and(|content| content.is_of(&new.event));
    if same { IngestOutcome::Duplicate } else { IngestOutcome::OtherContent }
}

/// Stores one event with its outbox entry in the caller's transaction; whether its id was free.
pub(crate) async fn insert_one(
    connection: &mut PgConnection,
    push: &NewPush,
    new: &NewEvent,
) -> Result<bool, Error> {
    let mut columns = Columns::default();
    columns.add(push, new);
    let name = new.event.event_type.as_str();
    let (priority, entity) = (catalogue::priority(name), catalogue::entity(name).name());
    let rows = columns::insert(connection, &columns, &[name], &[priority], &[entity]).await?;
    Ok(rows.iter().any(|row| !row.absorbed))
}
