//! Sales with what hangs on them by themselves (rules 3, 4 and 7): items, voids, movements.

use super::stands::Standing;
use super::{Mark, Said, Tables};
use crate::clock::Key;
use crate::decimal::Column;
use crate::payload::{LedgerEntry, Sale, Void, link_id};
use crate::standing::{MovementRow, SaleRow, StockKey, VoidMark};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// What links two sales.
#[derive(PartialEq, Eq, Hash)]
enum SaleLink {
    Sale(Uuid),
    Request(Uuid),
}

/// The sales of a store by Key, which of them stand, and which are voided by what.
pub(super) struct Sales<'a> {
    sales: &'a [Said<'a, Sale>],
    standing: Standing<SaleLink>,
    voids: HashMap<usize, &'a Said<'a, Void>>,
}

impl<'a> Sales<'a> {
    pub(super) fn of(
        sales: &'a [Said<'a, Sale>],
        voids: &'a [Said<'a, Void>],
        ledger: &[Said<'a, LedgerEntry>],
    ) -> Self {
        let lent = lent_requests(ledger);
        let ids = sales.iter().map(|Said { event, says: sale, .. }| {
            let requests = [&event.request_id, &sale.request_id].into_iter().flatten();
            let own = requests.map(|request| link_id(request));
            let lent = lent.get(&sale.sale_id).into_iter().flatten().copied();
            own.chain(lent).map(SaleLink::Request).chain([SaleLink::Sale(sale.sale_id)]).collect()
        });
        let mut sales = Sales { sales, standing: Standing::of(ids), voids: HashMap::new() };
        // Rule 4: "the SaleVoided with the smallest Key that names (by 3) the sale".
        for void in voids {
            if let Some(sale) = sales.meant(void.says.sale_id) {
                sales.voids.entry(sale).or_insert(void);
            }
        }
        sales
    }

    /// The standing sale that a sale id means; `None`: no SaleCreated bears it.
    pub(super) fn meant(&self, sale_id: Uuid) -> Option<usize> {
        self.standing.meant(&SaleLink::Sale(sale_id))
    }

    /// The sale that stands in the place of an absorbed one.
    pub(super) fn absorber(&self, sale_id: Uuid) -> Option<&Said<'a, Sale>> {
        let smallest = self.standing.smallest(&SaleLink::Sale(sale_id))?;
        self.standing.is_absorbed(smallest).then(|| self.get(self.standing.stand(smallest)))
    }

    pub(super) fn get(&self, sale: usize) -> &Said<'a, Sale> {
        &self.sales[sale]
    }

    /// The void of a standing sale.
    pub(super) fn void(&self, sale: usize) -> Option<&Said<'a, Void>> {
        self.voids.get(&sale).copied()
    }

    /// All that stand, with their places.
    pub(super) fn standing(&self) -> impl Iterator<Item = (usize, &Said<'a, Sale>)> {
        self.sales.iter().enumerate().filter(|(place, _)| !self.standing.is_absorbed(*place))
    }

    pub(super) fn write(&self, store_id: Uuid, voids: &[Said<'_, Void>], tables: &mut Tables) {
        for (place, sale) in self.sales.iter().enumerate() {
            if self.standing.is_absorbed(place) {
                let stands = self.get(self.standing.stand(place));
                tables.exceptions.insert(sale.event_id(), Mark::Absorbed(stands.event_id()));
                continue;
            }
            let mark = self.void(place).map(|void| VoidMark {
                voided_at: void.says.voided_at.unwrap_or(void.event.key.created_at),
                voided_by: void.says.voided_by.clone().or_else(|| void.event.actor.clone()),
                reason: void.says.reason.clone(),
                event_id: void.event_id(),
            });
            tables.sales.insert(sale.says.sale_id, SaleRow::new(sale.event, sale.says, mark));
            self.write_movements(store_id, place, tables);
        }
        // Rule 4: "A void before its sale waits …; further voids of it are absorbed."
        for void in voids {
            let counts = self.meant(void.says.sale_id).and_then(|sale| self.void(sale));
            let mark = match counts {
                None => Mark::Waiting(void.says.sale_id.to_string()),
                Some(first) if first.event.key == void.event.key => continue,
                Some(first) => Mark::Absorbed(first.event_id()),
            };
            tables.exceptions.insert(void.event_id(), mark);
        }
    }

    /// Rule 7: "one movement per (sale, product, variant, warehouse) with −Σ qty of its lines"; rule 4: "its
    /// movements are reversed once".
    fn write_movements(&self, store_id: Uuid, place: usize, tables: &mut Tables) {
        let sale = self.get(place);
        let sale_id = sale.says.sale_id;
        let mut sold: BTreeMap<StockKey, Decimal> = BTreeMap::new();
        for line in &sale.says.lines {
            let key = StockKey {
                product_id: line.product_id,
                variant_id: line.variant_id.unwrap_or(Uuid::nil()),
                warehouse_id: sale.says.warehouse_id.unwrap_or(store_id),
            };
            let qty = sold.entry(key).or_default();
            *qty = qty.saturating_add(line.qty);
        }
        for (key, qty) in sold {
            let StockKey { product_id, variant_id, warehouse_id } = key;
            let mut write = |kind: &'static str, qty_delta, event: &Key| {
                let name = format!("{kind}:{sale_id}:{product_id}:{variant_id}:{warehouse_id}");
                let row = MovementRow {
                    key,
                    kind,
                    qty_delta,
                    event_id: event.event_id.clone(),
                    sale_id: Some(sale_id),
                    created_at: event.created_at,
                };
                tables.movements.insert(Uuid::new_v5(&store_id, name.as_bytes()), row);
            };
            let qty_delta = Column::Quantity.saturate(-qty);
            write("sale", qty_delta, &sale.event.key);
            if let Some(void) = self.void(place) {
                write("void", -qty_delta, &void.event.key);
            }
        }
    }
}

/// Rule 3: "the `request_id` and `metadata.sale_request_id` of every CashLedgerEntryCreated of type 'sale'
/// (absorbed or not …) for the sale `metadata.sale_id`, else `entry_id`".
fn lent_requests(ledger: &[Said<'_, LedgerEntry>]) -> HashMap<Uuid, Vec<Uuid>> {
    let mut lent: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
    for Said { says: entry, .. } in ledger {
        if let Some(sale_id) = entry.sale() {
            let requests = [&entry.request_id, &entry.sale_request_id].into_iter().flatten();
            lent.entry(sale_id).or_default().extend(requests.map(|request| link_id(request)));
        }
    }
    lent
}
