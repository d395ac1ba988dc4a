//! Products, customers and cash sessions as sets of registers: what a batch merges, what is made anew from all
//! events of an entity, and which conflicts that opens and closes.
//!
//! A batch costs one read and one write a table. An entity is made anew from its events where one of them is
//! projected again or in another form, or where its row is gone.

use super::audit::{Audit, Closed, Met};
use super::{closure, forms, read};
use crate::Error;
use crate::outbox::Entry;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;
use velox_protocol::clock::{Key, VectorClock};
use velox_protocol::conflict::{self, Conflict, PRICE, conflict_id};
use velox_protocol::crdt::register::{Registers, Stamp};
use velox_protocol::payload::{FieldWrites, LinkKind, Payload};

/// An entity of one kind: its store and its id.
pub(super) type EntityKey = (Uuid, Uuid);

/// What is to be projected of one kind of entity.
#[derive(Default)]
pub(super) struct Batch {
    /// Events that write.
    pub(super) writes: Vec<(Entry, FieldWrites)>,
    /// Entities that another form of an event of the batch has written.
    pub(super) formerly: BTreeSet<EntityKey>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.formerly.is_empty()
    }

    pub(super) fn stores(&self) -> BTreeSet<Uuid> {
        self.keys().into_iter().map(|(store, _)| store).collect()
    }

    /// All entities of the batch.
    pub(super) fn keys(&self) -> BTreeSet<EntityKey> {
        let written = self.writes.iter().map(|(entry, writes)| (entry.store_id, writes.entity_id));
        written.chain(self.formerly.iter().copied()).collect()
    }
}

/// A kind of entity.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// How its events are linked to it.
    pub(super) link: LinkKind,
    /// Its name in conflicts.
    pub(super) name: &'static str,
    /// What an event writes, if it is one of this kind.
    pub(super) writes: fn(&Entry, Payload) -> Option<FieldWrites>,
}

/// An entity's registers and the smallest time of its events.
pub(super) struct State {
    pub(super) created_at: DateTime<Utc>,
    pub(super) registers: Registers,
}

pub(super) type States = BTreeMap<EntityKey, State>;

/// What is read back of the stored entities.
pub(super) struct Stored {
    pub(super) store_id: Uuid,
    pub(super) id: Uuid,
    pub(super) created_at: Option<DateTime<Utc>>,
    pub(super) registers: Json<Registers>,
}

/// Entities as they are now.
pub(super) struct Merged {
    /// To be written.
    pub(super) states: States,
    /// Without an event: to be removed.
    pub(super) gone: Vec<EntityKey>,
}

/// Merges a batch into what is stored, and keeps its conflicts.
pub(super) async fn merge(
    connection: &mut PgConnection,
    kind: Kind,
    batch: &Batch,
    stored: Vec<Stored>,
    audit: &mut Audit,
) -> Result<Merged, Error> {
    let fresh = save_links(connection, kind, batch).await?;
    let mut before: States = stored
        .into_iter()
        .map(|row| {
            let created_at = row.created_at.unwrap_or(DateTime::<Utc>::MAX_UTC);
            ((row.store_id, row.id), State { created_at, registers: row.registers.0 })
        })
        .collect();
    let mut anew = batch.formerly.clone();
    for (entry, writes) in &batch.writes {
        let key = (entry.store_id, writes.entity_id);
        // A row that is gone has lost what others wrote.
        let is_whole = match fresh.get(&(entry.store_id, entry.event_id.clone())) {
            Some(Earlier::None) => true,
            Some(Earlier::Some) => before.contains_key(&key),
            None => false,
        };
        if !is_whole {
            anew.insert(key);
        }
    }
    let mut merged = Merged { states: all_events(connection, kind, &anew).await?, gone: Vec::new() };
    merged.gone.extend(anew.iter().filter(|key| !merged.states.contains_key(key)));
    let mut changes = Changes::default();
    for (entry, writes) in &batch.writes {
        let key = (entry.store_id, writes.entity_id);
        if anew.contains(&key) {
            continue;
        }
        let state = merged.states.entry(key).or_insert_with(|| {
            before.remove(&key).map_or_else(
                || State { created_at: entry.created_at, registers: Registers::default() },
                |state| {
                    changes.had(key, &state.registers);
                    state
                },
            )
        });
        state.write(entry, writes);
    }
    changes.keep(connection, kind, &merged, &anew, audit).await?;
    Ok(merged)
}

impl State {
    fn write(&mut self, entry: &Entry, writes: &FieldWrites) {
        self.created_at = self.created_at.min(entry.created_at);
        self.registers.write(&stamp(entry), &writes.fields);
    }
}

fn stamp(entry: &Entry) -> Stamp {
    let sent = entry.vector_clock.as_ref().map(|json| json.0.clone()).unwrap_or_default();
    Stamp {
        key: Key {
            created_at: entry.created_at,
            device_id: entry.device_id.clone(),
            event_id: entry.event_id.clone(),
        },
        clock: VectorClock::of_event(&sent, &entry.device_id, entry.seq, entry.created_at),
    }
}

/// Whether other events were known to write an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Earlier {
    None,
    Some,
}

/// Remembers which entity the events write; answers those that were not known to, each with what was known of its
/// entity. The statement does not see its own rows.
async fn save_links(
    connection: &mut PgConnection,
    kind: Kind,
    batch: &Batch,
) -> Result<HashMap<(Uuid, String), Earlier>, Error> {
    if batch.writes.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query!(
        r#"WITH fresh AS (
               INSERT INTO links (store_id, id, kind, event_id)
               SELECT store_id, id, $4, event_id
               FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS n(store_id, id, event_id)
               ON CONFLICT DO NOTHING RETURNING store_id, id, event_id
           )
           SELECT store_id AS "store_id!", event_id AS "event_id!", EXISTS (
               SELECT 1 FROM links l WHERE l.store_id = f.store_id AND l.id = f.id AND l.kind = $4) AS "earlier!"
           FROM fresh f"#,
        &batch.writes.iter().map(|(entry, _)| entry.store_id).collect::<Vec<_>>(),
        &batch.writes.iter().map(|(_, writes)| writes.entity_id).collect::<Vec<_>>(),
        &batch.writes.iter().map(|(entry, _)| entry.event_id.as_str()).collect::<Vec<_>>() as &[&str],
        kind.link as i16
    )
    .fetch_all(connection)
    .await?;
    let earlier = |is: bool| if is { Earlier::Some } else { Earlier::None };
    Ok(rows.into_iter().map(|row| ((row.store_id, row.event_id), earlier(row.earlier))).collect())
}

struct LinkedEvent {
    key: EntityKey,
    event_id: String,
}

async fn linked(
    connection: &mut PgConnection,
    kind: Kind,
    keys: &BTreeSet<EntityKey>,
) -> Result<Vec<LinkedEvent>, Error> {
    let (stores, ids): (Vec<Uuid>, Vec<Uuid>) = keys.iter().copied().unzip();
    let rows = sqlx::query!(
        "SELECT l.store_id, l.id, l.event_id
         FROM unnest($1::uuid[], $2::uuid[]) AS k(store_id, id) JOIN links l USING (store_id, id) WHERE l.kind = $3",
        &stores,
        &ids,
        kind.link as i16
    )
    .fetch_all(connection)
    .await?;
    let event = |(store, id, event_id)| LinkedEvent { key: (store, id), event_id };
    Ok(rows.into_iter().map(|row| event((row.store_id, row.id, row.event_id))).collect())
}

/// Entities, made anew from all their events in the forms that count.
async fn all_events(
    connection: &mut PgConnection,
    kind: Kind,
    keys: &BTreeSet<EntityKey>,
) -> Result<States, Error> {
    if keys.is_empty() {
        return Ok(States::new());
    }
    let events: Vec<(Uuid, String)> = linked(connection, kind, keys)
        .await?
        .into_iter()
        .map(|event| (event.key.0, event.event_id))
        .collect();
    let entries = closure::load_events(connection, &events).await?;
    let mut states = States::new();
    for formed in forms::of(connection, entries).await? {
        let entry = formed.entry;
        // A link may be that of a form which does not count any more.
        let writes = read(&entry).ok().flatten().and_then(|payload| (kind.writes)(&entry, payload));
        let Some(writes) = writes else { continue };
        let key = (entry.store_id, writes.entity_id);
        if keys.contains(&key) {
            let new = || State { created_at: entry.created_at, registers: Registers::default() };
            states.entry(key).or_insert_with(new).write(&entry, &writes);
        }
    }
    Ok(states)
}

/// Conflicts that were there before a batch, by entity.
#[derive(Default)]
struct Changes {
    before: BTreeMap<EntityKey, Vec<Conflict>>,
}

impl Changes {
    fn had(&mut self, key: EntityKey, registers: &Registers) {
        let conflicts = conflict::conflicts(registers);
        if !conflicts.is_empty() {
            self.before.insert(key, conflicts);
        }
    }

    /// Writes which conflicts are open now, and tells the log what is new.
    async fn keep(
        self,
        connection: &mut PgConnection,
        kind: Kind,
        merged: &Merged,
        anew: &BTreeSet<EntityKey>,
        audit: &mut Audit,
    ) -> Result<(), Error> {
        let (mut opened, mut closed) = (Vec::new(), Vec::new());
        for (key, state) in &merged.states {
            let before = self.before.get(key).map_or(&[][..], Vec::as_slice);
            let now = conflict::conflicts(&state.registers);
            for conflict in now.iter().filter(|conflict| !before.contains(conflict)) {
                audit.met.push(Met::edited(key.0, kind.name, key.1, conflict));
                if conflict.is_open {
                    opened.push((*key, conflict.clone()));
                }
            }
            let was_open = before.iter().any(|conflict| conflict.is_open);
            let is_open = now.iter().any(|conflict| conflict.is_open);
            if (was_open || anew.contains(key)) && !is_open {
                closed.push(*key);
                audit.closed.extend(decided(*key, state));
            }
        }
        closed.extend(&merged.gone);
        // Only prices wait for a person.
        if kind.link == LinkKind::Product {
            open(connection, kind, &opened).await?;
            close(connection, &closed).await?;
        }
        Ok(())
    }
}

/// The price of which event stands now.
fn decided(key: EntityKey, state: &State) -> Option<Closed> {
    let stamps = conflict::PRICE_FIELDS.iter().filter_map(|field| state.registers.value(field));
    let (_, winner) = stamps.max_by_key(|(_, stamp)| &stamp.key)?;
    let winner = winner.key.event_id.clone();
    Some(Closed { store_id: key.0, id: conflict_id(key.0, key.1, PRICE), winner })
}

/// One side of an open conflict, as `open_conflicts.versions` holds it.
fn version(version: &conflict::Version) -> serde_json::Value {
    let value = |text: &String| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let values: BTreeMap<&String, _> =
        version.values.iter().map(|(field, text)| (field, value(text))).collect();
    serde_json::json!({
        "event_id": version.stamp.key.event_id,
        "device_id": version.stamp.key.device_id,
        "created_at": version.stamp.key.created_at.timestamp_millis(),
        "values": values,
    })
}

async fn open(
    connection: &mut PgConnection,
    kind: Kind,
    conflicts: &[(EntityKey, Conflict)],
) -> Result<(), Error> {
    if conflicts.is_empty() {
        return Ok(());
    }
    let texts = conflicts.iter().map(|(_, conflict)| {
        let versions: Vec<_> = conflict.versions.iter().map(version).collect();
        serde_json::Value::from(versions).to_string()
    });
    sqlx::query!(
        "INSERT INTO open_conflicts (store_id, id, entity_type, entity_id, field, winner_event_id, versions, opened_at)
         SELECT store_id, id, $3, entity_id, field, winner, versions::json, opened_at
         FROM unnest($1::uuid[], $2::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])
             AS c(store_id, id, entity_id, field, winner, versions, opened_at)
         ON CONFLICT (store_id, id) DO UPDATE
         SET winner_event_id = EXCLUDED.winner_event_id, versions = EXCLUDED.versions, opened_at = EXCLUDED.opened_at",
        &conflicts.iter().map(|(key, _)| key.0).collect::<Vec<_>>(),
        &conflicts.iter().map(|(key, c)| conflict_id(key.0, key.1, &c.field)).collect::<Vec<_>>(),
        kind.name,
        &conflicts.iter().map(|(key, _)| key.1).collect::<Vec<_>>(),
        &conflicts.iter().map(|(_, c)| c.field.as_str()).collect::<Vec<_>>() as &[&str],
        &conflicts.iter().map(|(_, c)| c.winner().stamp.key.event_id.as_str()).collect::<Vec<_>>() as &[&str],
        &texts.collect::<Vec<_>>(),
        &conflicts.iter().map(|(_, c)| c.winner().stamp.key.created_at).collect::<Vec<_>>()
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn close(connection: &mut PgConnection, keys: &[EntityKey]) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "DELETE FROM open_conflicts c USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
         WHERE c.store_id = k.store_id AND c.id = k.id",
        &keys.iter().map(|key| key.0).collect::<Vec<_>>(),
        &keys.iter().map(|key| conflict_id(key.0, key.1, PRICE)).collect::<Vec<_>>()
    )
    .execute(connection)
    .await?;
    Ok(())
}
