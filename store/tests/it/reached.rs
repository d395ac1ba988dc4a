//! Which situations a history has reached: read off its events and off the tables that the model makes of them.

use crate::story::Told;
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use velox_protocol::V1_NODE_DEVICE;
use velox_protocol::clock::VectorClock;
use velox_protocol::conflict::conflicts;
use velox_protocol::crdt::register::{Registers, Stamp};
use velox_protocol::fold::{Fold, Mark, Tables};
use velox_protocol::payload::{FieldWrites, Payload, Sale};

/// All that a run has to reach.
pub(crate) const ALL: &[&str] = &[
    "standing sale",
    "standing void",
    "standing debt",
    "standing payment",
    "standing entry",
    "standing movement",
    "standing store",
    "standing series",
    "absorbed sale",
    "absorbed void",
    "absorbed debt",
    "absorbed payment",
    "absorbed entry",
    "absorbed movement",
    "absorbed store",
    "absorbed series",
    "waiting void",
    "waiting payment",
    "derived debt pending",
    "derived debt partial",
    "derived debt paid",
    "derived debt cancelled",
    "stated debt pending",
    "stated debt partial",
    "stated debt paid",
    "stated debt cancelled",
    "debt overpaid",
    "debt in bolívares, partly paid",
    "payment of a debt under another id",
    "debt of a till before that of v1's node",
    "debt of v1's node before the derived one",
    "debt of a till before the derived one",
    "two lines of one product",
    "variant",
    "warehouse",
    "negative stock",
    "stock of nothing",
    "movement that lost some of its items",
    "sale absorbed by one that shares no id",
    "sale absorbed by a lent request",
    "entry of an absorbed sale",
    "void by an absorbed id",
    "known to the other",
    "concurrent",
    "equal clocks",
    "equal clocks of two tills",
    "equal times",
    "seq beside another counter",
    "known though later",
    "years ahead and lost",
    "circle of three",
    "null is written",
    "null wins",
    "last writer wins",
    "session opened twice",
    "price open",
    "price decided by time",
    "price closed by who knew both",
    "decisions that contradict",
    "two forms",
    "forms of two types",
    "form that moves to another entity",
    "form without meaning counts",
    "form without meaning does not count",
    "skipped",
    "failed",
];

/// A store's history as it counts.
struct Reader<'a> {
    store: Uuid,
    told: &'a [Told],
    /// The form that counts of each event.
    effective: BTreeMap<&'a str, &'a Told>,
    tables: Tables,
    found: BTreeSet<&'static str>,
}

pub(crate) fn fold<'a>(store: Uuid, told: impl IntoIterator<Item = &'a Told>) -> Tables {
    let mut fold = Fold::new(store);
    told.into_iter().for_each(|told| fold.add(&told.event));
    fold.tables()
}

/// Which of [`ALL`] the events of a store have reached.
pub(crate) fn situations(store: Uuid, told: &[Told]) -> BTreeSet<&'static str> {
    let mut effective: BTreeMap<&str, &Told> = BTreeMap::new();
    for one in told {
        let counts = effective.entry(&one.event.event_id).or_insert(one);
        if one.event.form() < counts.event.form() {
            *counts = one;
        }
    }
    let tables = fold(store, told);
    let mut reader = Reader { store, told, effective, tables, found: BTreeSet::new() };
    reader.events();
    reader.forms();
    reader.debts();
    reader.sales();
    reader.stock();
    reader.clocks();
    reader.fields();
    reader.found
}

fn sale(told: &Told) -> Option<&Sale> {
    if let Some(Payload::Sale(sale)) = &told.meaning { Some(sale) } else { None }
}

fn writes(told: &Told) -> Option<&FieldWrites> {
    match &told.meaning {
        Some(Payload::Product(writes) | Payload::Customer(writes) | Payload::Session(writes)) => Some(writes),
        _ => None,
    }
}

fn clock(told: &Told) -> VectorClock {
    let event = &told.event;
    event.vector_clock.clone().unwrap_or_default().of_event(&event.device_id, event.seq, event.created_at)
}

impl Reader<'_> {
    fn note(&mut self, what: &'static str, reached: bool) {
        assert!(ALL.contains(&what), "{what} is not listed");
        if reached {
            self.found.insert(what);
        }
    }

    fn events(&mut self) {
        let kinds = ["sale", "void", "debt", "payment", "entry", "movement", "store", "series"];
        let marked: Vec<(usize, &str)> = self
            .effective
            .values()
            .filter_map(|told| {
                let kind = match told.meaning.as_ref()? {
                    Payload::Sale(_) => 0,
                    Payload::Void(_) => 1,
                    Payload::Debt(_) => 2,
                    Payload::Payment(_) => 3,
                    Payload::Ledger(_) => 4,
                    Payload::Stock(_) => 5,
                    Payload::Store(_) => 6,
                    Payload::Series(_) => 7,
                    _ => return None,
                };
                Some((
                    kind,
                    match self.tables.exceptions.get(&told.event.event_id) {
                        Some(Mark::Absorbed(_)) => "absorbed",
                        Some(Mark::Waiting(_)) => "waiting",
                        _ => "standing",
                    },
                ))
            })
            .collect();
        for (kind, mark) in marked {
            let name = format!("{mark} {}", kinds[kind]);
            let listed = ALL.iter().find(|listed| **listed == name).expect("a listed one");
            self.found.insert(listed);
        }
        for mark in self.tables.exceptions.clone().values() {
            self.note("skipped", *mark == Mark::Skipped);
            self.note("failed", matches!(mark, Mark::Failed(_)));
        }
    }

    fn forms(&mut self) {
        for counts in self.effective.clone().values() {
            let form = counts.event.form();
            let same_id = self.told.iter().filter(|told| told.event.event_id == counts.event.event_id);
            for other in same_id.filter(|told| told.event.form() != form) {
                self.note("two forms", true);
                self.note("forms of two types", other.event.event_type != counts.event.event_type);
                let entity = |told| writes(told).map(|writes| writes.entity_id);
                self.note(
                    "form that moves to another entity",
                    entity(other).is_some() && entity(other) != entity(counts),
                );
                self.note("form without meaning counts", counts.meaning.is_none() && other.meaning.is_some());
                self.note(
                    "form without meaning does not count",
                    counts.meaning.is_some() && other.meaning.is_none(),
                );
            }
        }
    }

    fn debts(&mut self) {
        let tables = self.tables.clone();
        for debt in tables.debts.values() {
            let name =
                format!("{} debt {}", if debt.derived { "derived" } else { "stated" }, debt.status.name());
            let listed = ALL.iter().find(|listed| **listed == name).expect("a listed one");
            self.found.insert(listed);
            self.note("debt overpaid", debt.overpaid_amount > Decimal::ZERO);
            let bolivares = debt.currency.as_deref() == Some("BS");
            self.note("debt in bolívares, partly paid", bolivares && debt.status.name() == "partial");
            let Some(event) = &debt.event_id else { continue };
            let of_node = self.effective[event.as_str()].event.device_id == V1_NODE_DEVICE;
            let on_credit = debt.sale_id.and_then(|sale| tables.sales.get(&sale)).is_some_and(|row| {
                sale(self.effective[row.event_id.as_str()])
                    .is_some_and(|sale| sale.is_fiao() && sale.customer_id.is_some())
            });
            self.note("debt of v1's node before the derived one", of_node && on_credit);
            self.note("debt of a till before the derived one", !of_node && on_credit);
        }
        for told in self.effective.clone().values() {
            let (Some(payload), mark) = (&told.meaning, tables.exceptions.get(&told.event.event_id)) else {
                continue;
            };
            match (payload, mark) {
                (Payload::Debt(_), Some(Mark::Absorbed(by))) => {
                    let by = &self.effective[by.as_str()].event;
                    let earlier = told.event.key() < by.key();
                    let nodes = told.event.device_id == V1_NODE_DEVICE && by.device_id != V1_NODE_DEVICE;
                    self.note("debt of a till before that of v1's node", nodes && earlier);
                }
                (Payload::Payment(payment), None) => {
                    let row = tables.payments.get(&payment.payment_id);
                    let other = row.is_some_and(|row| row.debt_id != payment.debt_id);
                    self.note("payment of a debt under another id", other);
                }
                _ => {}
            }
        }
    }

    fn sales(&mut self) {
        let ledger = |told: &&Told| !matches!(told.meaning, Some(Payload::Ledger(_)));
        let without_ledger = fold(self.store, self.effective.values().copied().filter(ledger));
        let ids = |told: &Told| -> BTreeSet<(u8, Uuid)> {
            let request = told.event.request_id.as_deref();
            let links = told.meaning.iter().flat_map(|payload| payload.links(self.store, request));
            links.map(|link| (link.kind.space(), link.id)).collect()
        };
        let mut found = Vec::new();
        for told in self.effective.values() {
            let mark = self.tables.exceptions.get(&told.event.event_id);
            match (&told.meaning, mark) {
                (Some(Payload::Sale(_)), Some(Mark::Absorbed(by))) => {
                    let apart = ids(told).is_disjoint(&ids(self.effective[by.as_str()]));
                    let lent = !without_ledger.exceptions.contains_key(&told.event.event_id);
                    found.push(("sale absorbed by one that shares no id", apart && !lent));
                    found.push(("sale absorbed by a lent request", lent));
                }
                (Some(Payload::Ledger(_)), Some(Mark::Absorbed(by))) => {
                    let by_sale = sale(self.effective[by.as_str()]).is_some();
                    found.push(("entry of an absorbed sale", by_sale));
                }
                _ => {}
            }
        }
        for (id, row) in &self.tables.sales {
            if let Some(void) = &row.void
                && let Some(Payload::Void(says)) = &self.effective[void.event_id.as_str()].meaning
            {
                found.push(("void by an absorbed id", says.sale_id != *id));
            }
            let products: BTreeSet<_> =
                row.items.iter().map(|item| (item.product_id, item.variant_id)).collect();
            found.push(("two lines of one product", products.len() < row.items.len()));
        }
        for (what, reached) in found {
            self.note(what, reached);
        }
    }

    fn stock(&mut self) {
        for (key, stock) in self.tables.stock.clone() {
            self.note("variant", !key.variant_id.is_nil());
            self.note("warehouse", key.warehouse_id != self.store);
            self.note("negative stock", stock < Decimal::ZERO);
            self.note("stock of nothing", stock == Decimal::ZERO);
        }
        let rows = |event: &str| self.tables.movements.values().filter(|row| row.event_id == event).count();
        let some = self.effective.iter().any(|(event, told)| match &told.meaning {
            Some(Payload::Stock(stock)) => (1..stock.moves.len()).contains(&rows(event)),
            _ => false,
        });
        self.note("movement that lost some of its items", some);
    }

    fn clocks(&mut self) {
        let all: Vec<(&Told, VectorClock, Uuid)> = self
            .effective
            .values()
            .filter_map(|told| Some((*told, clock(told), writes(told)?.entity_id)))
            .collect();
        for (one, clock, entity) in &all {
            let event = &one.event;
            let sent = event.vector_clock.as_ref().and_then(|clock| clock.0.get(&event.device_id));
            let other_counter =
                event.seq.is_some_and(|seq| seq >= 1 && sent.is_some_and(|sent| *sent != seq));
            self.note("seq beside another counter", other_counter);
            for (other, others_clock, _) in
                all.iter().filter(|(other, _, of)| of == entity && one.event != other.event)
            {
                let known = clock.is_before(others_clock);
                let concurrent = !known && !others_clock.is_before(clock);
                let later = one.event.created_at > other.event.created_at;
                let two_tills = event.device_id != other.event.device_id;
                self.note("known to the other", known);
                self.note("known though later", known && later);
                self.note(
                    "years ahead and lost",
                    known && later && event.created_at.timestamp() > 4_000_000_000,
                );
                self.note("concurrent", concurrent);
                self.note("equal clocks", clock == others_clock);
                self.note("equal clocks of two tills", clock == others_clock && two_tills);
                self.note("equal times", event.created_at == other.event.created_at);
                // One is known to the other, which is earlier; a third knows neither and lies between them.
                let circle = all.iter().any(|(third, thirds, of)| {
                    let apart = |clock: &VectorClock| !thirds.is_before(clock) && !clock.is_before(thirds);
                    let between =
                        other.event.key() < third.event.key() && third.event.key() < one.event.key();
                    of == entity && apart(clock) && apart(others_clock) && between
                });
                self.note("circle of three", known && circle);
            }
        }
    }

    fn fields(&mut self) {
        let mut entities: BTreeMap<(&str, Uuid), Registers> = BTreeMap::new();
        for told in self.effective.values() {
            let Some(writes) = writes(told) else { continue };
            let kind = match told.meaning {
                Some(Payload::Product(_)) => "product",
                Some(Payload::Customer(_)) => "customer",
                _ => "session",
            };
            let stamp = Stamp { key: told.event.key(), clock: clock(told) };
            entities.entry((kind, writes.entity_id)).or_default().write(&stamp, &writes.fields);
        }
        let nulls = self.effective.values().filter_map(|told| writes(told)).flat_map(|writes| &writes.fields);
        let null = nulls.into_iter().any(|(_, value)| value == "null");
        self.note("null is written", null);
        for ((kind, _), registers) in &entities {
            let null = registers
                .fields()
                .any(|field| registers.value(field).is_some_and(|(value, _)| value == "null"));
            self.note("null wins", null);
            self.note("session opened twice", *kind == "session" && registers.versions("opened").count() > 1);
            for conflict in conflicts(registers) {
                let price = *kind == "product" && conflict.field == "price";
                self.note("last writer wins", !price && *kind != "session");
                self.note("price decided by time", price && !conflict.is_open);
            }
        }
        let decides = |told: &Told| told.event.payload.contains("resolves");
        let decisions: Vec<&str> =
            self.effective.iter().filter(|(_, told)| decides(told)).map(|(event, _)| *event).collect();
        for conflict in self.tables.conflicts.clone().values() {
            self.note("price open", true);
            let decided =
                conflict.versions.iter().filter(|side| decisions.contains(&side.event_id.as_str())).count();
            self.note("decisions that contradict", decided > 1);
        }
        for decision in decisions {
            let others = self.effective.values().copied().filter(|told| told.event.event_id != decision);
            let without = fold(self.store, others);
            let closed = without.conflicts.keys().any(|id| !self.tables.conflicts.contains_key(id));
            self.note("price closed by who knew both", closed);
        }
    }
}
