//! The model: a store's read tables as one plain function of the *set* of its events (01, convergence rules).
//!
//! A second implementation, from the words of the rules and by the shortest way, so that the incremental one can
//! be compared with it: in tests, and on a live database by `velox verify`. It shares with the other what a
//! payload says ([`crate::payload`]), what comes before what ([`crate::clock`]) and the shape of rows. Never
//! here: SQL, or a call into how `standing`, `crdt` or `conflict` decide. What both did by the same code,
//! no comparison could find.

mod debts;
mod declared;
mod differences;
mod ledger;
mod registers;
mod sales;
mod stands;
mod stock;
mod tables;

pub use tables::{ConflictRow, CustomerRow, Mark, PriceVersion, ProductRow, SessionRow, Tables};

use crate::catalogue;
use crate::clock::VectorClock;
use crate::event::{Event, Form};
use crate::json::Json;
use crate::payload::{
    Debt, FieldWrites, LedgerEntry, Payload, Payment, Sale, SeriesDeclaration, Stock, StoreDeclaration, Void,
};
use crate::standing::Linked;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use uuid::Uuid;

/// Collects a store's events: in any order, with any repetition, several forms of one id among them.
#[derive(Debug, Clone)]
pub struct Fold {
    store_id: Uuid,
    /// The effective form of each event, by its id.
    events: HashMap<String, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    form: Form,
    meaning: Meaning,
}

#[derive(Debug, Clone)]
enum Meaning {
    /// What the event says, and C(e) where that is asked for: of events that write fields.
    Said(Linked, VectorClock),
    Skipped,
    Failed(String),
}

impl Fold {
    /// Nothing has happened yet.
    pub fn new(store_id: Uuid) -> Self {
        Fold { store_id, events: HashMap::new() }
    }

    /// Takes up an event of the store. Its text is not kept.
    pub fn add(&mut self, event: &Event) {
        debug_assert_eq!(event.store_id, self.store_id, "a fold is of one store");
        let form = event.form();
        match self.events.entry(event.event_id.clone()) {
            // "The effective event is the smallest form."
            Entry::Occupied(mut known) if form < known.get().form => {
                known.insert(Known { form, meaning: Meaning::of(event) });
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(new) => drop(new.insert(Known { form, meaning: Meaning::of(event) })),
        }
    }

    /// All that the events make together.
    pub fn tables(&self) -> Tables {
        let mut tables = Tables::default();
        for (event_id, known) in &self.events {
            let mark = match &known.meaning {
                Meaning::Said(..) => continue,
                Meaning::Skipped => Mark::Skipped,
                Meaning::Failed(reason) => Mark::Failed(reason.clone()),
            };
            tables.exceptions.insert(event_id.clone(), mark);
        }
        let kinds = self.kinds();
        registers::products(self.store_id, &kinds.products, &mut tables);
        registers::customers(&kinds.customers, &mut tables);
        registers::sessions(&kinds.sessions, &mut tables);
        let sales = sales::Sales::of(&kinds.sales, &kinds.voids, &kinds.ledger);
        sales.write(self.store_id, &kinds.voids, &mut tables);
        debts::write(self.store_id, &sales, &kinds.debts, &kinds.payments, &mut tables);
        ledger::write(&sales, &kinds.ledger, &mut tables);
        stock::write(self.store_id, &kinds.stock, &mut tables);
        stock::sum(&mut tables);
        declared::write(self.store_id, &kinds.stores, &kinds.series, &mut tables);
        tables
    }

    /// The events by kind, each kind by Key.
    fn kinds(&self) -> Kinds<'_> {
        let mut all: Vec<(&Linked, &VectorClock)> = self
            .events
            .values()
            .filter_map(|known| match &known.meaning {
                Meaning::Said(event, clock) => Some((event, clock)),
                Meaning::Skipped | Meaning::Failed(_) => None,
            })
            .collect();
        all.sort_by_key(|(event, _)| &event.key);
        let mut kinds = Kinds::default();
        for (event, clock) in all {
            match &event.payload {
                Payload::Sale(sale) => kinds.sales.push(Said { event, clock, says: sale }),
                Payload::Void(void) => kinds.voids.push(Said { event, clock, says: void }),
                Payload::Debt(debt) => kinds.debts.push(Said { event, clock, says: debt }),
                Payload::Payment(payment) => kinds.payments.push(Said { event, clock, says: payment }),
                Payload::Stock(stock) => kinds.stock.push(Said { event, clock, says: stock }),
                Payload::Ledger(entry) => kinds.ledger.push(Said { event, clock, says: entry }),
                Payload::Session(writes) => kinds.sessions.push(Said { event, clock, says: writes }),
                Payload::Product(writes) => kinds.products.push(Said { event, clock, says: writes }),
                Payload::Customer(writes) => kinds.customers.push(Said { event, clock, says: writes }),
                Payload::Store(store) => kinds.stores.push(Said { event, clock, says: store }),
                Payload::Series(series) => kinds.series.push(Said { event, clock, says: series }),
            }
        }
        kinds
    }
}

impl Meaning {
    fn of(event: &Event) -> Self {
        if !catalogue::is_projected(&event.event_type, event.version) {
            return Meaning::Skipped;
        }
        let payload = match Json::parse(&event.payload) {
            Ok(json) => Payload::read(&event.event_type, &json),
            Err(error) => Err(error.to_string()),
        };
        let payload = match payload {
            Ok(payload) => payload,
            Err(reason) => return Meaning::Failed(reason),
        };
        let clock = match &payload {
            Payload::Session(_) | Payload::Product(_) | Payload::Customer(_) => {
                let sent = event.vector_clock.clone().unwrap_or_default();
                sent.of_event(&event.device_id, event.seq, event.created_at)
            }
            _ => VectorClock::default(),
        };
        let said = Linked {
            key: event.key(),
            request_id: event.request_id.clone(),
            actor: event.actor_user_id.clone(),
            payload,
        };
        Meaning::Said(said, clock)
    }
}

/// An event and what it says.
struct Said<'a, T> {
    event: &'a Linked,
    clock: &'a VectorClock,
    says: &'a T,
}

impl<T> Said<'_, T> {
    fn event_id(&self) -> String {
        self.event.key.event_id.clone()
    }
}

/// The events of a store that mean something; each list by Key, the smallest first.
#[derive(Default)]
struct Kinds<'a> {
    sales: Vec<Said<'a, Sale>>,
    voids: Vec<Said<'a, Void>>,
    debts: Vec<Said<'a, Debt>>,
    payments: Vec<Said<'a, Payment>>,
    stock: Vec<Said<'a, Stock>>,
    ledger: Vec<Said<'a, LedgerEntry>>,
    sessions: Vec<Said<'a, FieldWrites>>,
    products: Vec<Said<'a, FieldWrites>>,
    customers: Vec<Said<'a, FieldWrites>>,
    stores: Vec<Said<'a, StoreDeclaration>>,
    series: Vec<Said<'a, SeriesDeclaration>>,
}
