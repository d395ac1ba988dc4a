//! The event log: groups of pushes in one transaction, other contents of known ids, devices' last seqs.
//!
//! `events` is insert-only. Never here: what an event means.

mod columns;
mod known;
mod variants;

use crate::lease::{Fence, check_fence};
use crate::relay::Relays;
use crate::{Error, Store, acknowledged};
use columns::{Columns, Pushing, Runs};
use known::Known;
use sqlx::{PgConnection, PgExecutor};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use uuid::Uuid;
use velox_protocol::V1_NODE_DEVICE;
use velox_protocol::catalogue::{self, Entity};
use velox_protocol::clock::VectorClock;
use velox_protocol::event::Event;
use velox_protocol::payload::Link;

/// An event to be stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// What is stored.
    pub event: Event,
    /// The ids by which it meets others.
    pub links: Vec<Link>,
    /// What a node says of an event that it relays; `None`: a till's, or one of this node.
    pub hop: Option<Hop>,
}

/// What a node says of an event that it relays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hop {
    /// The node that took it from its till.
    pub origin_node: Option<String>,
    /// W3C trace context under which it was sent.
    pub trace_parent: Option<String>,
}

/// What one request brings.
#[derive(Debug, Clone, Default)]
pub struct NewPush {
    /// Its events, in the sender's order.
    pub events: Vec<NewEvent>,
    /// W3C trace context of the request, kept with the outbox entries.
    pub trace_parent: Option<String>,
    /// The name of the peer that it came from, to which it is not relayed; `None`: a till.
    pub from_peer: Option<String>,
    /// The lease under which it is written; `None`: under none, as all that a till pushes.
    pub fence: Option<Fence>,
}

/// What became of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestOutcome {
    /// Stored now.
    New {
        /// A smaller event bears one of its ids already.
        absorbed: bool,
        /// Another event of its device bears the same seq: two tills may use one identity.
        collides: bool,
    },
    /// Stored before, with the same type and payload; another form of it is kept apart.
    Duplicate,
    /// Its id is known with another type or payload; this one is kept apart. Whether that is a refusal hangs on the
    /// sender: for a till it is, between nodes it is none.
    OtherContent,
}

/// What became of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushOutcome {
    /// Of its events, in their order.
    pub events: Vec<IngestOutcome>,
    /// What its till has acknowledged by pulling; empty for a push of a node.
    pub acknowledged: VectorClock,
}

/// What became of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Its pushes, in their order.
    pub pushes: Vec<PushOutcome>,
    /// Whose events are to be projected anew, since another form of them counts now.
    pub requeued: BTreeSet<Entity>,
}

impl Ingested {
    /// The outcomes of all events, push by push.
    pub fn outcomes(&self) -> impl Iterator<Item = IngestOutcome> + '_ {
        self.pushes.iter().flat_map(|push| &push.events).copied()
    }
}

type Id<'a> = (Uuid, &'a str);

impl Store {
    /// Stores a group of pushes in one transaction: events and their outbox entries together or not at all.
    ///
    /// Answers after the commit with fsync. One statement, one round trip; more only for ids that are known
    /// already.
    ///
    /// Pushes with a fence are stored in a transaction that checks it first, and whatever else they bring to the log
    /// too. A group is fenced off as one, so that such a push is better given alone, or with others of its fence.
    ///
    /// # Errors
    /// [`Error::Fenced`] where a lease was given to somebody else: nothing is stored, or where that happened on the way
    /// what was new, without the other forms of known events. [`Error::Data`] where a row is refused (try the pushes apart); with every other error the outcome is
    /// unknown, and a repeat is told duplicate.
    #[tracing::instrument(name = "db.events.ingest", level = "debug", skip_all, fields(pushes = pushes.len()))]
    pub async fn ingest(&self, pushes: &[NewPush]) -> Result<Ingested, Error> {
        let mut first: BTreeMap<Id<'_>, (&NewPush, &NewEvent)> = BTreeMap::new();
        for push in pushes {
            for new in &push.events {
                first.entry(id(&new.event)).or_insert((push, new));
            }
        }
        if first.is_empty() {
            return Ok(Ingested {
                pushes: vec![PushOutcome::default(); pushes.len()],
                ..Ingested::default()
            });
        }
        let inserted = self.insert_first(&first, pushes).await;
        if inserted.as_ref().is_err_and(Error::is_read_only) {
            self.renew_sessions(&self.ingest).await;
        }
        let mut group = Group { first, inserted: inserted?, known: Known::default(), seqs: HashSet::new() };
        let repeated: Vec<(&NewPush, &NewEvent)> = pushes
            .iter()
            .flat_map(|push| push.events.iter().map(move |new| (push, new)))
            .filter(|(_, new)| !group.is_new(new))
            .collect();
        if !repeated.is_empty() {
            group.known = self.compare_known(&repeated).await?;
        }
        let mut outcomes = Vec::with_capacity(pushes.len());
        for push in pushes {
            let events = push.events.iter().map(|new| group.outcome(new)).collect();
            outcomes.push(PushOutcome { events, acknowledged: group.acknowledged(push) });
        }
        Ok(Ingested { pushes: outcomes, requeued: group.known.requeued })
    }

    /// Inserts what is new. Without a fence the statement is its own transaction.
    async fn insert_first(
        &self,
        first: &BTreeMap<Id<'_>, (&NewPush, &NewEvent)>,
        pushes: &[NewPush],
    ) -> Result<Inserted, Error> {
        let (events, pushing) = (first.values().copied(), pushing(pushes));
        let fences = fences(pushes);
        if fences.is_empty() {
            return self.insert_events(&self.ingest, events, pushing).await;
        }
        let mut transaction = self.ingest.begin().await?;
        for fence in fences {
            check_fence(&mut transaction, fence).await?;
        }
        let inserted = self.insert_events(&mut *transaction, events, pushing).await?;
        transaction.commit().await?;
        Ok(inserted)
    }

    async fn insert_events<'a>(
        &self,
        executor: impl PgExecutor<'_>,
        events: impl Iterator<Item = (&'a NewPush, &'a NewEvent)>,
        pushing: Pushing<'a>,
    ) -> Result<Inserted, Error> {
        let (mut columns, mut seqs) = (Columns::default(), BTreeSet::new());
        let mut types: BTreeMap<&str, (i16, &str)> = BTreeMap::new();
        for (push, new) in events {
            columns.add(push, new);
            seqs.extend(counted(&new.event));
            let name = new.event.event_type.as_str();
            types.insert(name, (catalogue::priority(name), catalogue::entity(name).name()));
        }
        let type_names: Vec<&str> = types.keys().copied().collect();
        let priorities: Vec<i16> = types.values().map(|t| t.0).collect();
        let entities: Vec<&str> = types.values().map(|t| t.1).collect();
        let types = (type_names.as_slice(), priorities.as_slice(), entities.as_slice());
        let rows =
            columns::insert(executor, &columns, types, &Runs::of(&seqs), &pushing, &self.relays).await?;
        let mut inserted = Inserted::default();
        for row in rows {
            let id = (row.store_id, row.id);
            match row.what {
                columns::ABSORBED => drop(inserted.absorbed.insert(id)),
                columns::TAKEN => {
                    let place = row.text.zip(row.seq).map(|(device, seq)| (id.0, device, seq));
                    inserted.taken.extend(place);
                }
                columns::ACKNOWLEDGED => {
                    inserted
                        .acknowledged
                        .extend(row.text.map(|clock| (id, acknowledged::read_clock(&clock))));
                }
                columns::NEW => drop(inserted.new.insert(id)),
                _ => {}
            }
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
    /// Store, device and seq of events that were there before.
    taken: HashSet<(Uuid, String, i64)>,
    /// By store and device.
    acknowledged: HashMap<(Uuid, String), VectorClock>,
}

/// A group of pushes, written.
struct Group<'a> {
    /// Of the same event sent several times the one that was to be stored.
    first: BTreeMap<Id<'a>, (&'a NewPush, &'a NewEvent)>,
    inserted: Inserted,
    known: Known,
    /// Taken by new events of the group so far, by store and device.
    seqs: HashSet<(Uuid, &'a str, i64)>,
}

impl<'a> Group<'a> {
    fn is_new(&self, new: &NewEvent) -> bool {
        let id = id(&new.event);
        self.inserted.new.contains(&(id.0, id.1.to_owned())) && std::ptr::eq(self.first[&id].1, new)
    }

    /// To be asked in the order of the pushes.
    fn outcome(&mut self, new: &'a NewEvent) -> IngestOutcome {
        let event = &new.event;
        let id = (event.store_id, event.event_id.clone());
        if self.is_new(new) {
            let absorbed = self.inserted.absorbed.contains(&id);
            return IngestOutcome::New { absorbed, collides: self.collides(event) };
        }
        // What was not inserted is there: the insert has met it, committed.
        let same = self.known.contents.get(&id).is_some_and(|content| content.is_of(event));
        if same { IngestOutcome::Duplicate } else { IngestOutcome::OtherContent }
    }

    /// Whether another event, of before or of the group so far, bears a new event's seq.
    fn collides(&mut self, event: &'a Event) -> bool {
        let Some(place) = counted(event) else { return false };
        let is_first = self.seqs.insert(place);
        let (store_id, device_id, seq) = place;
        let taken = &self.inserted.taken;
        !is_first || (!taken.is_empty() && taken.contains(&(store_id, device_id.to_owned(), seq)))
    }

    fn acknowledged(&self, push: &NewPush) -> VectorClock {
        let clock = till(push)
            .and_then(|(store, device)| self.inserted.acknowledged.get(&(store, device.to_owned())));
        clock.cloned().unwrap_or_default()
    }
}

fn id(event: &Event) -> Id<'_> {
    (event.store_id, &event.event_id)
}

/// The place of an event among those of its device, which no other event should have. v1's nodes share one name.
fn counted(event: &Event) -> Option<(Uuid, &str, i64)> {
    let seq = event.seq.filter(|seq| *seq >= 1 && event.device_id != V1_NODE_DEVICE)?;
    Some((event.store_id, &event.device_id, seq))
}

/// The till of a push, which all its events are of; `None` for a push of a node.
fn till(push: &NewPush) -> Option<(Uuid, &str)> {
    let first = push.events.first().filter(|_| push.from_peer.is_none())?;
    Some((first.event.store_id, &first.event.device_id))
}

/// The fences of these pushes, each once, in one order.
fn fences<'a>(pushes: impl IntoIterator<Item = &'a NewPush>) -> BTreeSet<&'a Fence> {
    pushes.into_iter().filter_map(|push| push.fence.as_ref()).collect()
}

fn pushing(pushes: &[NewPush]) -> Pushing<'_> {
    let tills: BTreeSet<(Uuid, &str)> = pushes.iter().filter_map(till).collect();
    let (store_id, device_id) = tills.into_iter().unzip();
    Pushing { store_id, device_id }
}

/// Stores one event with its outbox entry in the caller's transaction; whether its id was free.
pub(crate) async fn insert_one(
    connection: &mut PgConnection,
    push: &NewPush,
    new: &NewEvent,
    relays: &Relays,
) -> Result<bool, Error> {
    let mut columns = Columns::default();
    columns.add(push, new);
    let name = new.event.event_type.as_str();
    let (priority, entity) = (catalogue::priority(name), catalogue::entity(name).name());
    let types = (&[name][..], &[priority][..], &[entity][..]);
    let rows =
        columns::insert(connection, &columns, types, &Runs::default(), &Pushing::default(), relays).await?;
    Ok(rows.iter().any(|row| row.what == columns::NEW))
}
