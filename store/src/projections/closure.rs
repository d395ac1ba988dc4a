//! The connected set around new events: what is already projected and meets them by some id.

use super::standing::Batch;
use super::{forms, linked, read};
use crate::Error;
use crate::outbox::Entry;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::payload::{Link, LinkKind, Payload};
use velox_protocol::standing::Linked;

/// Which name spaces of an id are looked for.
type Wanted = HashMap<(Uuid, Uuid), HashSet<u8>>;

/// Space of a stored kind, as `velox_protocol::payload::LinkKind` numbers them.
fn space(kind: i16) -> Option<u8> {
    use velox_protocol::payload::LinkKind as K;
    [
        K::SaleId,
        K::SaleRequest,
        K::DebtId,
        K::DebtSale,
        K::PaymentId,
        K::PaymentRequest,
        K::EntryId,
        K::MovementId,
        K::PaymentOfDebt,
        K::VoidOfSale,
        K::LedgerOfSale,
        K::LedgerRequest,
        K::DerivedDebt,
        K::Product,
        K::Customer,
        K::Session,
        K::StoreId,
        K::SeriesId,
    ]
    .into_iter()
    .find(|known| *known as i16 == kind)
    .map(K::space)
}

/// What is already projected around new events.
#[derive(Default)]
pub(super) struct Closure {
    /// The events in the form that counts; the new ones too if they are projected.
    pub(super) events: Vec<Linked>,
    /// Other forms of them, whose rows may stand.
    pub(super) formerly: Vec<Linked>,
}

/// The projected events, by store, that are connected to the new ones.
pub(super) async fn load(
    connection: &mut PgConnection,
    new: &BTreeMap<Uuid, Batch>,
) -> Result<BTreeMap<Uuid, Closure>, Error> {
    let mut found: BTreeMap<Uuid, Closure> = BTreeMap::new();
    let mut loaded: HashSet<(Uuid, String)> = HashSet::new();
    let mut asked: Wanted = HashMap::new();
    let mut frontier: Wanted = HashMap::new();
    for (store_id, batch) in new {
        for links in batch.events.iter().map(|(_, links)| links) {
            extend(&mut frontier, &asked, *store_id, links);
        }
        for event in &batch.formerly {
            extend(&mut frontier, &asked, *store_id, &links(*store_id, event));
        }
    }
    while !frontier.is_empty() {
        let events = linked_events(connection, &frontier, &mut loaded).await?;
        for (id, spaces) in frontier.drain() {
            asked.entry(id).or_default().extend(spaces);
        }
        let entries = load_events(connection, &events).await?;
        for formed in forms::of(connection, entries).await? {
            let store_id = formed.entry.store_id;
            let closure = found.entry(store_id).or_default();
            for (form, payload) in formed.others {
                let event = linked(&form, payload);
                extend(&mut frontier, &asked, store_id, &links(store_id, &event));
                closure.formerly.push(event);
            }
            // A projected event had a meaning when it was projected, and its payload does not change.
            let Ok(Some(payload)) = read(&formed.entry) else { continue };
            let event = linked(&formed.entry, payload);
            extend(&mut frontier, &asked, store_id, &links(store_id, &event));
            closure.events.push(event);
        }
    }
    Ok(found)
}

/// The event's links; with one of its own where it would have none, so that it is known when it comes again.
pub(super) fn links(store_id: Uuid, event: &Linked) -> Vec<Link> {
    let mut links = event.payload.links(store_id, event.request_id.as_deref());
    if let (true, Payload::Stock(stock)) = (links.is_empty(), &event.payload) {
        links.push(Link { kind: LinkKind::MovementId, id: stock.key(store_id, &event.key.event_id, 0) });
    }
    links
}

fn extend(frontier: &mut Wanted, asked: &Wanted, store_id: Uuid, links: &[Link]) {
    for link in links {
        let (id, space) = ((store_id, link.id), link.kind.space());
        if !asked.get(&id).is_some_and(|spaces| spaces.contains(&space)) {
            frontier.entry(id).or_default().insert(space);
        }
    }
}

/// The events that bear or name a wanted id and are not loaded yet.
async fn linked_events(
    connection: &mut PgConnection,
    wanted: &Wanted,
    loaded: &mut HashSet<(Uuid, String)>,
) -> Result<Vec<(Uuid, String)>, Error> {
    let stores: Vec<Uuid> = wanted.keys().map(|(store, _)| *store).collect();
    let ids: Vec<Uuid> = wanted.keys().map(|(_, id)| *id).collect();
    let rows = sqlx::query!(
        "SELECT l.store_id, l.id, l.kind, l.event_id
         FROM unnest($1::uuid[], $2::uuid[]) AS w(store_id, id) JOIN links l USING (store_id, id)",
        &stores,
        &ids
    )
    .fetch_all(connection)
    .await?;
    let mut events = Vec::new();
    for row in rows {
        let met = space(row.kind).is_some_and(|space| wanted[&(row.store_id, row.id)].contains(&space));
        let event = (row.store_id, row.event_id);
        if met && loaded.insert(event.clone()) {
            events.push(event);
        }
    }
    Ok(events)
}

/// The events themselves, each in the form that came first.
pub(crate) async fn load_events(
    connection: &mut PgConnection,
    events: &[(Uuid, String)],
) -> Result<Vec<Entry>, Error> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let stores: Vec<Uuid> = events.iter().map(|(store, _)| *store).collect();
    let ids: Vec<&str> = events.iter().map(|(_, id)| id.as_str()).collect();
    let rows = sqlx::query_as!(
        Entry,
        r#"SELECT e.store_id, e.event_id, e.type AS event_type, e.version, e.device_id, e.seq, e.created_at,
               e.request_id, e.actor_user_id, e.vector_clock AS "vector_clock: Json<VectorClock>",
               e.payload::text AS "payload!", e.received_at AS queued_at, 0 AS "retry_count!", e.trace_parent,
               EXISTS (SELECT 1 FROM event_variants v
                   WHERE v.store_id = e.store_id AND v.event_id = e.event_id) AS "has_forms!"
           FROM unnest($1::uuid[], $2::text[]) AS k(store_id, event_id) JOIN events e USING (store_id, event_id)"#,
        &stores,
        &ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Remembers the ids of events that are projected now.
pub(super) async fn save(connection: &mut PgConnection, new: &BTreeMap<Uuid, Batch>) -> Result<(), Error> {
    let rows: Vec<(Uuid, &Linked, &Link)> = new
        .iter()
        .flat_map(|(store, batch)| batch.events.iter().map(move |(event, links)| (*store, event, links)))
        .flat_map(|(store, event, links)| links.iter().map(move |link| (store, event, link)))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO links (store_id, id, kind, event_id)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::text[])
         ON CONFLICT DO NOTHING",
        &rows.iter().map(|row| row.0).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.2.id).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.2.kind as i16).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.1.key.event_id.as_str()).collect::<Vec<_>>() as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(())
}
