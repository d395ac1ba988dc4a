//! The rows that the events of a connected set may have made, in whatever form and order they came.

use super::closure::Closure;
use super::standing::Batch;
use crate::{Error, stored};
use sqlx::PgConnection;
use std::collections::BTreeSet;
use uuid::Uuid;
use velox_protocol::payload::{Payload, derived_debt_id};
use velox_protocol::standing::{Exception, Linked, Rows, StockKey, sale_movements};

/// Ids of rows of one store.
#[derive(Default)]
pub(super) struct Possible {
    sales: BTreeSet<Uuid>,
    debts: BTreeSet<Uuid>,
    payments: BTreeSet<Uuid>,
    ledger: BTreeSet<Uuid>,
    movements: BTreeSet<Uuid>,
    keys: BTreeSet<StockKey>,
    stores: BTreeSet<Uuid>,
    series: BTreeSet<Uuid>,
    events: BTreeSet<String>,
}

impl Possible {
    pub(super) fn of(store_id: Uuid, batch: &Batch, closure: &Closure) -> Self {
        let mut possible = Possible::default();
        let new = batch.events.iter().map(|(event, _)| event);
        for event in new.chain(&batch.formerly).chain(&closure.events) {
            possible.add(store_id, event);
            possible.events.insert(event.key.event_id.clone());
        }
        // Where such an event counts in a form without a meaning, its exception is not ours.
        for event in &closure.formerly {
            possible.add(store_id, event);
        }
        possible
    }

    fn add(&mut self, store_id: Uuid, event: &Linked) {
        match &event.payload {
            Payload::Sale(sale) => {
                self.sales.insert(sale.sale_id);
                self.debts.insert(derived_debt_id(store_id, sale.sale_id));
                for (key, sold, void, _) in sale_movements(store_id, sale) {
                    self.movements.extend([sold, void]);
                    self.keys.insert(key);
                }
            }
            Payload::Void(void) => self.sales.extend([void.sale_id]),
            Payload::Debt(debt) => self.debts.extend([debt.debt_id]),
            Payload::Payment(payment) => {
                self.payments.insert(payment.payment_id);
                self.debts.insert(payment.debt_id);
            }
            Payload::Ledger(entry) => self.ledger.extend([entry.entry_id]),
            Payload::Stock(stock) => {
                for (index, moved) in stock.moves.iter().enumerate() {
                    self.movements.insert(stock.key(store_id, &event.key.event_id, index));
                    self.keys.insert(moved.key(store_id));
                }
            }
            Payload::Store(_) => self.stores.extend([store_id]),
            Payload::Series(series) => self.series.extend([series.series_id]),
            Payload::Session(_) | Payload::Product(_) | Payload::Customer(_) => {}
        }
    }

    /// The sales that they may have made.
    pub(super) fn sales(&self) -> impl Iterator<Item = &Uuid> {
        self.sales.iter()
    }

    /// The stock rows that they may have changed.
    pub(super) fn keys(&self) -> &BTreeSet<StockKey> {
        &self.keys
    }

    /// The rows that stand in the tables.
    pub(super) async fn read(&self, connection: &mut PgConnection, store_id: Uuid) -> Result<Rows, Error> {
        let ids = |set: &BTreeSet<Uuid>| -> Vec<Uuid> { set.iter().copied().collect() };
        let events: Vec<String> = self.events.iter().cloned().collect();
        let exceptions = stored::exceptions(connection, store_id, Some(&events)).await?;
        Ok(Rows {
            sales: stored::sales(connection, store_id, Some(&ids(&self.sales))).await?,
            debts: stored::debts(connection, store_id, Some(&ids(&self.debts))).await?,
            payments: stored::payments(connection, store_id, Some(&ids(&self.payments))).await?,
            ledger: stored::ledger(connection, store_id, Some(&ids(&self.ledger))).await?,
            movements: stored::movements(connection, store_id, Some(&ids(&self.movements))).await?,
            stores: stored::stores(connection, &ids(&self.stores)).await?,
            series: stored::series(connection, store_id, Some(&ids(&self.series))).await?,
            exceptions: exceptions.into_iter().map(|(event, mark)| (event, exception(mark))).collect(),
        })
    }
}

/// One of another status is none of ours: as a wait for nothing it is replaced or cleared.
fn exception((status, reason): (String, String)) -> Exception {
    match status.as_str() {
        "absorbed" => Exception::Absorbed(reason),
        "waiting" => Exception::Waiting(reason),
        _ => Exception::Waiting(String::new()),
    }
}
