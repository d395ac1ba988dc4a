//! Sales, debts, payments, ledger entries, stock movements, declarations: resolve the connected set before and after the
//! batch, write the difference. The common sale, met once, has nothing before it.
//!
//! What stands before is computed from the events, unless an event is projected again or in another form: then it
//! is read from the tables, so that rows that somebody removed come back and those of the old form go.

use super::audit::Met;
use super::closure::{self, Closure};
use super::diff::Changes;
use super::exceptions::{self, Noted};
use super::possible::Possible;
use super::{declared, stock, write};
use crate::Error;
use sqlx::PgConnection;
use std::collections::{BTreeMap, HashSet};
use uuid::Uuid;
use velox_protocol::payload::Link;
use velox_protocol::standing::{Exception, Linked, Rows, resolve};

/// What is to be projected of one store.
#[derive(Default)]
pub(super) struct Batch {
    /// The events with their links.
    pub(super) events: Vec<(Linked, Vec<Link>)>,
    /// Other forms of events of the batch.
    pub(super) formerly: Vec<Linked>,
}

impl Batch {
    pub(super) fn add(&mut self, store_id: Uuid, event: Linked) {
        let links = closure::links(store_id, &event);
        self.events.push((event, links));
    }
}

/// What was met while the rows were made.
pub(super) struct Projected {
    /// Which events were absorbed by which.
    pub(super) met: Vec<Met>,
    /// A payment waits for its debt that did not before.
    pub(super) awaits_debt: bool,
}

pub(super) async fn project(
    connection: &mut PgConnection,
    new: &BTreeMap<Uuid, Batch>,
) -> Result<Projected, Error> {
    let mut closures = closure::load(connection, new).await?;
    let mut before: BTreeMap<Uuid, Rows> = BTreeMap::new();
    let mut after: BTreeMap<Uuid, Rows> = BTreeMap::new();
    let mut again: Vec<(Uuid, Possible)> = Vec::new();
    let (mut met, mut awaits_debt) = (Vec::new(), false);
    for (store, batch) in new {
        let closure = closures.remove(store).unwrap_or_default();
        let known: HashSet<&str> = closure.events.iter().map(|event| event.key.event_id.as_str()).collect();
        let repeated = batch.events.iter().any(|(event, _)| known.contains(event.key.event_id.as_str()));
        let other_forms = !batch.formerly.is_empty() || !closure.formerly.is_empty();
        let stored = if repeated || other_forms {
            let possible = Possible::of(*store, batch, &closure);
            let rows = possible.read(connection, *store).await?;
            again.push((*store, possible));
            Some(rows)
        } else {
            None
        };
        let Closure { events: mut all, .. } = closure;
        let old = stored.unwrap_or_else(|| resolve(*store, &all));
        all.extend(batch.events.iter().map(|(event, _)| event.clone()));
        let rows = resolve(*store, &all);
        met.extend(absorbed(*store, &all, &old, &rows));
        awaits_debt |= rows.payments.values().any(|payment| {
            let waits =
                |rows: &Rows| matches!(rows.exceptions.get(&payment.event_id), Some(Exception::Waiting(_)));
            waits(&rows) && !waits(&old)
        });
        before.insert(*store, old);
        after.insert(*store, rows);
    }
    apply(connection, &before, &after, &again).await?;
    for (store, possible) in &again {
        stock::recount(connection, *store, possible.keys()).await?;
    }
    closure::save(connection, new).await?;
    Ok(Projected { met, awaits_debt })
}

/// The events that are absorbed now and were not before.
fn absorbed(store_id: Uuid, events: &[Linked], before: &Rows, after: &Rows) -> Vec<Met> {
    let fresh = after.exceptions.iter().filter(|(event, now)| before.exceptions.get(*event) != Some(*now));
    fresh
        .filter_map(|(event_id, exception)| {
            let Exception::Absorbed(by) = exception else { return None };
            let event = events.iter().find(|event| event.key.event_id == *event_id)?;
            Some(Met::absorbed(store_id, event, by))
        })
        .collect()
}

async fn apply(
    connection: &mut PgConnection,
    before: &BTreeMap<Uuid, Rows>,
    after: &BTreeMap<Uuid, Rows>,
    again: &[(Uuid, Possible)],
) -> Result<(), Error> {
    let (mut sales, mut debts, mut payments) = (Changes::none(), Changes::none(), Changes::none());
    let (mut ledger, mut movements, mut marks) = (Changes::none(), Changes::none(), Changes::none());
    let (mut stores, mut series) = (Changes::none(), Changes::none());
    for (store, after) in after {
        let before = &before[store];
        sales.add(*store, &before.sales, &after.sales);
        debts.add(*store, &before.debts, &after.debts);
        payments.add(*store, &before.payments, &after.payments);
        ledger.add(*store, &before.ledger, &after.ledger);
        movements.add(*store, &before.movements, &after.movements);
        stores.add(*store, &before.stores, &after.stores);
        series.add(*store, &before.series, &after.series);
        marks.add(*store, &before.exceptions, &after.exceptions);
    }
    // A sale that was lost may have left lines behind.
    for (store, possible) in again {
        let gone = possible
            .sales()
            .filter(|id| !before[store].sales.contains_key(id) && !after[store].sales.contains_key(id));
        sales.removed.extend(gone.map(|id| (*store, id)));
    }
    write::sales(connection, &sales).await?;
    write::debts(connection, &debts).await?;
    write::payments(connection, &payments).await?;
    write::ledger(connection, &ledger).await?;
    stock::movements(connection, before, &movements).await?;
    declared::stores(connection, &stores).await?;
    declared::series(connection, &series).await?;
    let noted: Vec<Noted> =
        marks.written.iter().map(|(store, event, exception)| Noted::of(*store, event, exception)).collect();
    exceptions::note(connection, &noted).await?;
    let cleared: Vec<(Uuid, String)> =
        marks.removed.iter().map(|(store, event)| (*store, (*event).clone())).collect();
    exceptions::clear(connection, &cleared).await
}
