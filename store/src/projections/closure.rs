//! The connected set around new events: what is already projected and meets them by some id.

use super::{linked, read};
use crate::Error;
use crate::outbox::Entry;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::payload::Link;
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
    ]
    .into_iter()
    .find(|known| *known as i16 == kind)
    .map(K::space)
}

/// The projected events, by store, that are connected to the new ones; the new ones too if they are projected.
pub(super) async fn load(
    connection: &mut PgConnection,
    new: &BTreeMap<Uuid, Vec<(Linked, Vec<Link>)>>,
) -> Result<BTreeMap<Uuid, Vec<Linked>>, Error> {
    let mut found: BTreeMap<Uuid, Vec<Linked>> = BTreeMap::new();
    let mut loaded: HashSet<(Uuid, String)> = HashSet::new();
    let mut asked: Wanted = HashMap::new();
    let mut frontier: Wanted = HashMap::new();
    for (store_id, events) in new {
        for (_, links) in events {
            extend(&mut frontier, &asked, *store_id, links);
        }
    }
    while !frontier.is_empty() {
        let events = linked_events(connection, &frontier, &mut loaded).await?;
        for (id, spaces) in frontier.drain() {
            asked.entry(id).or_default().extend(spaces);
        }
        for entry in load_events(connection, &events).await? {
            // A projected event had a meaning when it was projected, and its payload does not change.
            let Ok(Some(payload)) = read(&entry) else { continue };
            let links = payload.links(entry.store_id, entry.request_id.as_deref());
            extend(&mut frontier, &asked, entry.store_id, &links);
            found.entry(entry.store_id).or_default().push(linked(&entry, payload));
        }
    }
    Ok(found)
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

async fn load_events(connection: &mut PgConnection, events: &[(Uuid, String)]) -> Result<Vec<Entry>, Error> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let stores: Vec<Uuid> = events.iter().map(|(store, _)| *store).collect();
    let ids: Vec<&str> = events.iter().map(|(_, id)| id.as_str()).collect();
    let rows = sqlx::query_as!(
        Entry,
        r#"SELECT e.store_id, e.event_id, e.type AS event_type, e.version, e.device_id, e.seq, e.created_at,
               e.request_id, e.actor_user_id, e.vector_clock AS "vector_clock: Json<VectorClock>",
               e.payload::text AS "payload!", e.received_at AS queued_at, 0 AS "retry_count!", e.trace_parent
           FROM unnest($1::uuid[], $2::text[]) AS k(store_id, event_id) JOIN events e USING (store_id, event_id)"#,
        &stores,
        &ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Remembers the ids of events that are projected now.
pub(super) async fn save(
    connection: &mut PgConnection,
    new: &BTreeMap<Uuid, Vec<(Linked, Vec<Link>)>>,
) -> Result<(), Error> {
    let rows: Vec<(Uuid, &Linked, &Link)> = new
        .iter()
        .flat_map(|(store, events)| events.iter().map(move |(event, links)| (*store, event, links)))
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
