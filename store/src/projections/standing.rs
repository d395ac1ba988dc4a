//! Sales, debts, payments, ledger entries and stock movements: resolve the connected set before and after the
//! batch, write the difference. The common sale, met once, has nothing before it.

use super::diff::Changes;
use super::exceptions::{self, Noted};
use super::{closure, stock, write};
use crate::Error;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::payload::{Link, LinkKind, Payload};
use velox_protocol::standing::{Linked, Rows, resolve};

pub(super) async fn project(
    connection: &mut PgConnection,
    events: BTreeMap<Uuid, Vec<Linked>>,
) -> Result<(), Error> {
    let new: BTreeMap<Uuid, Vec<(Linked, Vec<Link>)>> = events
        .into_iter()
        .map(|(store, events)| {
            let with_links = events.into_iter().map(|event| {
                let links = links(store, &event);
                (event, links)
            });
            (store, with_links.collect())
        })
        .collect();
    let before_events = closure::load(connection, &new).await?;
    let mut before: BTreeMap<Uuid, Rows> = BTreeMap::new();
    let mut after: BTreeMap<Uuid, Rows> = BTreeMap::new();
    for (store, events) in &new {
        let mut all = before_events.get(store).cloned().unwrap_or_default();
        let mut old = resolve(*store, &all);
        all.extend(events.iter().map(|(event, _)| event.clone()));
        let rows = resolve(*store, &all);
        // One that is projected again has its exception written again: it may have been failed in between.
        for (event, _) in events {
            if rows.exceptions.contains_key(&event.key.event_id) {
                old.exceptions.remove(&event.key.event_id);
            }
        }
        before.insert(*store, old);
        after.insert(*store, rows);
    }
    apply(connection, &before, &after).await?;
    closure::save(connection, &new).await
}

/// The event's links; with one of its own where it would have none, so that it is known when it comes again.
fn links(store_id: Uuid, event: &Linked) -> Vec<Link> {
    let mut links = event.payload.links(store_id, event.request_id.as_deref());
    if let (true, Payload::Stock(stock)) = (links.is_empty(), &event.payload) {
        links.push(Link { kind: LinkKind::MovementId, id: stock.key(store_id, &event.key.event_id, 0) });
    }
    links
}

async fn apply(
    connection: &mut PgConnection,
    before: &BTreeMap<Uuid, Rows>,
    after: &BTreeMap<Uuid, Rows>,
) -> Result<(), Error> {
    let (mut sales, mut debts, mut payments) = (Changes::none(), Changes::none(), Changes::none());
    let (mut ledger, mut movements, mut marks) = (Changes::none(), Changes::none(), Changes::none());
    for (store, after) in after {
        let before = &before[store];
        sales.add(*store, &before.sales, &after.sales);
        debts.add(*store, &before.debts, &after.debts);
        payments.add(*store, &before.payments, &after.payments);
        ledger.add(*store, &before.ledger, &after.ledger);
        movements.add(*store, &before.movements, &after.movements);
        marks.add(*store, &before.exceptions, &after.exceptions);
    }
    write::sales(connection, &sales).await?;
    write::debts(connection, &debts).await?;
    write::payments(connection, &payments).await?;
    write::ledger(connection, &ledger).await?;
    stock::movements(connection, before, &movements).await?;
    let noted: Vec<Noted> =
        marks.written.iter().map(|(store, event, exception)| Noted::of(*store, event, exception)).collect();
    exceptions::note(connection, &noted).await?;
    let cleared: Vec<(Uuid, String)> =
        marks.removed.iter().map(|(store, event)| (*store, (*event).clone())).collect();
    exceptions::clear(connection, &cleared).await
}
