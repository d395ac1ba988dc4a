//! What stands (01, rules 3 to 7 and 10): from a set of linked events to the rows that they make.
//!
//! A pure function of the set, whatever the order: a projector resolves the small connected set around an
//! event before and after it and writes the difference. Never here: SQL, or how the set was found.

mod absorb;
mod debts;
mod rows;

pub use rows::{
    DebtRow, DebtStatus, DeclaredStore, Exception, ItemRow, LedgerRow, MovementRow, PaymentRow, Rows,
    SaleRow, SeriesRow, StockKey, VoidMark,
};

use crate::clock::Key;
use crate::decimal::Column;
use crate::payload::{LedgerEntry, LinkKind, Payload, Sale, Stock, Void, link_id};
use absorb::Standing;
use rust_decimal::Decimal;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// An event whose payload has a meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Linked {
    /// Its place in the total order.
    pub key: Key,
    /// The envelope's request id.
    pub request_id: Option<String>,
    /// Who acted.
    pub actor: Option<String>,
    /// What it says.
    pub payload: Payload,
}

/// Resolves a set of events of one store. The set must hold every event that is connected to one of it.
pub fn resolve(store_id: Uuid, events: &[Linked]) -> Rows {
    let mut sorted: Vec<&Linked> = events.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    sorted.dedup_by(|a, b| a.key == b.key);
    let mut resolver = Resolver { store_id, rows: Rows::default() };
    let sales = resolver.sales(&sorted);
    resolver.debts(&sorted, &sales);
    resolver.ledger(&sorted, &sales);
    resolver.stock(&sorted);
    resolver.declarations(&sorted);
    resolver.rows
}

/// The sales of the set, and what an id of one means.
struct Sales<'a> {
    events: Vec<(&'a Linked, &'a Sale)>,
    standing: Standing,
    by_id: HashMap<Uuid, usize>,
    voided: HashMap<usize, &'a Linked>,
}

impl Sales<'_> {
    /// The standing sale that a sale id means.
    fn meant(&self, sale_id: Uuid) -> Option<usize> {
        self.by_id.get(&sale_id).map(|first| self.standing.of(*first))
    }

    fn standing(&self) -> impl Iterator<Item = usize> {
        (0..self.events.len()).filter(|i| self.standing.of(*i) == *i)
    }
}

struct Resolver {
    store_id: Uuid,
    rows: Rows,
}

impl Resolver {
    fn absorbed(&mut self, event: &Linked, by: &Linked) {
        self.rows.exceptions.insert(event.key.event_id.clone(), Exception::Absorbed(by.key.event_id.clone()));
    }

    fn waiting(&mut self, event: &Linked, for_id: Uuid) {
        self.rows.exceptions.insert(event.key.event_id.clone(), Exception::Waiting(for_id.to_string()));
    }

    fn sales<'a>(&mut self, sorted: &[&'a Linked]) -> Sales<'a> {
        let lent = lent_requests(sorted);
        let events: Vec<(&Linked, &Sale)> =
            sorted
                .iter()
                .filter_map(|e| {
                    if let Payload::Sale(sale) = &e.payload { Some((*e, sale.as_ref())) } else { None }
                })
                .collect();
        let links: Vec<Vec<(u8, Uuid)>> = events.iter().map(|(e, sale)| sale_links(e, sale, &lent)).collect();
        let standing = Standing::new(&links);
        let mut by_id = HashMap::new();
        for (i, (_, sale)) in events.iter().enumerate() {
            by_id.entry(sale.sale_id).or_insert(i);
        }
        let mut sales = Sales { events, standing, by_id, voided: HashMap::new() };
        self.voids(sorted, &mut sales);
        for i in 0..sales.events.len() {
            let stand = sales.standing.of(i);
            if stand == i {
                self.sale_rows(&sales, i);
            } else {
                self.absorbed(sales.events[i].0, sales.events[stand].0);
            }
        }
        sales
    }

    /// The void with the smallest key that names a sale; the others are absorbed, those without a sale wait.
    fn voids<'a>(&mut self, sorted: &[&'a Linked], sales: &mut Sales<'a>) {
        for event in sorted {
            let Payload::Void(void) = &event.payload else {
                continue;
            };
            match sales.meant(void.sale_id) {
                None => self.waiting(event, void.sale_id),
                Some(sale) => match sales.voided.get(&sale) {
                    Some(first) => self.absorbed(event, first),
                    None => {
                        sales.voided.insert(sale, *event);
                    }
                },
            }
        }
    }

    fn sale_rows(&mut self, sales: &Sales<'_>, i: usize) {
        let (event, sale) = sales.events[i];
        let void = sales.voided.get(&i).and_then(|event| match &event.payload {
            Payload::Void(void) => Some((*event, void)),
            _ => None,
        });
        self.rows.sales.insert(sale.sale_id, SaleRow::new(event, sale, void.map(|(e, v)| void_mark(e, v))));
        let movement = |key, kind: &'static str, qty: Decimal, event: &Linked| MovementRow {
            key,
            kind,
            qty_delta: Column::Quantity.saturate(qty),
            event_id: event.key.event_id.clone(),
            sale_id: Some(sale.sale_id),
            created_at: event.key.created_at,
        };
        for (key, sold, returned, qty) in sale_movements(self.store_id, sale) {
            self.rows.movements.insert(sold, movement(key, "sale", -qty, event));
            if let Some((void_event, _)) = void {
                self.rows.movements.insert(returned, movement(key, "void", qty, void_event));
            }
        }
    }

    fn ledger(&mut self, sorted: &[&Linked], sales: &Sales<'_>) {
        let mut first: HashMap<Uuid, &Linked> = HashMap::new();
        for event in sorted {
            let Payload::Ledger(entry) = &event.payload else {
                continue;
            };
            if let Some(stand) = first.get(&entry.entry_id) {
                self.absorbed(event, stand);
                continue;
            }
            match absorbed_sale(entry, sales) {
                Some(sale) => {
                    let stand = sales.events[sale].0;
                    first.insert(entry.entry_id, stand);
                    self.absorbed(event, stand);
                }
                None => {
                    first.insert(entry.entry_id, event);
                    self.rows.ledger.insert(entry.entry_id, LedgerRow::new(event, entry));
                }
            }
        }
    }

    fn stock(&mut self, sorted: &[&Linked]) {
        let mut first: HashMap<Uuid, &Linked> = HashMap::new();
        for event in sorted {
            let Payload::Stock(stock) = &event.payload else {
                continue;
            };
            let mut smaller = None;
            let mut stands = stock.moves.is_empty();
            for index in 0..stock.moves.len() {
                let id = stock.key(self.store_id, &event.key.event_id, index);
                match first.get(&id) {
                    Some(other) if other.key != event.key => smaller = smaller.or(Some(*other)),
                    _ => {
                        stands = true;
                        first.insert(id, event);
                        self.rows.movements.insert(id, stock_movement(self.store_id, event, stock, index));
                    }
                }
            }
            if let (false, Some(by)) = (stands, smaller) {
                self.absorbed(event, by);
            }
        }
    }

    /// Of several declarations of the store, and of each fiscal series, the one with the smallest key stands.
    fn declarations(&mut self, sorted: &[&Linked]) {
        let mut of_store: Option<&Linked> = None;
        let mut of_series: HashMap<Uuid, &Linked> = HashMap::new();
        for event in sorted {
            match &event.payload {
                Payload::Store(store) => match of_store {
                    Some(stand) => self.absorbed(event, stand),
                    None => {
                        of_store = Some(event);
                        self.rows.stores.insert(self.store_id, DeclaredStore::new(event, store));
                    }
                },
                Payload::Series(series) => match of_series.get(&series.series_id) {
                    Some(stand) => self.absorbed(event, stand),
                    None => {
                        of_series.insert(series.series_id, event);
                        self.rows.series.insert(series.series_id, SeriesRow::new(event, series));
                    }
                },
                _ => {}
            }
        }
    }
}

/// The request ids that ledger entries of type 'sale' lend their sale: v1's online sales leave theirs only there.
fn lent_requests(sorted: &[&Linked]) -> HashMap<Uuid, Vec<Uuid>> {
    let mut lent: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
    for event in sorted {
        let Payload::Ledger(entry) = &event.payload else {
            continue;
        };
        if let Some(sale_id) = entry.sale() {
            let requests = [&entry.request_id, &entry.sale_request_id];
            lent.entry(sale_id).or_default().extend(requests.into_iter().flatten().map(|r| link_id(r)));
        }
    }
    lent
}

fn sale_links(event: &Linked, sale: &Sale, lent: &HashMap<Uuid, Vec<Uuid>>) -> Vec<(u8, Uuid)> {
    let request = LinkKind::SaleRequest.space();
    let mut links = vec![(LinkKind::SaleId.space(), sale.sale_id)];
    let own = [&event.request_id, &sale.request_id].into_iter().flatten().map(|r| (request, link_id(r)));
    links.extend(own);
    links.extend(lent.get(&sale.sale_id).into_iter().flatten().map(|id| (request, *id)));
    links
}

/// The sale that absorbed an entry's sale, if one did.
fn absorbed_sale(entry: &LedgerEntry, sales: &Sales<'_>) -> Option<usize> {
    let first = *sales.by_id.get(&entry.sale()?)?;
    Some(sales.standing.of(first)).filter(|stand| *stand != first)
}

fn void_mark(event: &Linked, void: &Void) -> VoidMark {
    VoidMark {
        voided_at: void.voided_at.unwrap_or(event.key.created_at),
        voided_by: void.voided_by.clone().or_else(|| event.actor.clone()),
        reason: void.reason.clone(),
        event_id: event.key.event_id.clone(),
    }
}

/// What a sale takes out of the stock, one a product, variant and warehouse: what of, the id of the movement, that of
/// its reversal by a void, and how much.
pub fn sale_movements(store_id: Uuid, sale: &Sale) -> Vec<(StockKey, Uuid, Uuid, Decimal)> {
    let warehouse_id = sale.warehouse_id.unwrap_or(store_id);
    let mut sold: BTreeMap<(Uuid, Uuid), Decimal> = BTreeMap::new();
    for line in &sale.lines {
        let qty = sold.entry((line.product_id, line.variant_id.unwrap_or_default())).or_default();
        *qty = qty.saturating_add(line.qty);
    }
    let movements = sold.into_iter().map(|((product_id, variant_id), qty)| {
        let id = |kind: &str| {
            let name = format!("{kind}:{}:{product_id}:{variant_id}:{warehouse_id}", sale.sale_id);
            Uuid::new_v5(&store_id, name.as_bytes())
        };
        (StockKey { product_id, variant_id, warehouse_id }, id("sale"), id("void"), qty)
    });
    movements.collect()
}

fn stock_movement(store_id: Uuid, event: &Linked, stock: &Stock, index: usize) -> MovementRow {
    let moved = &stock.moves[index];
    MovementRow {
        key: moved.key(store_id),
        kind: stock.kind.name(),
        qty_delta: Column::Quantity.round(moved.qty_delta),
        event_id: event.key.event_id.clone(),
        sale_id: None,
        created_at: event.key.created_at,
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
