//! The ids by which events find each other (01, rule 9).

use super::Payload;
use crate::event::uuid_of;
use uuid::Uuid;

/// In which role an event bears or names an id. The numbers stand in the table `links`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum LinkKind {
    /// SaleCreated bears the sale.
    SaleId = 1,
    /// SaleCreated bears the request.
    SaleRequest = 2,
    /// DebtCreated bears the debt.
    DebtId = 3,
    /// DebtCreated names the sale.
    DebtSale = 4,
    /// A payment bears its id.
    PaymentId = 5,
    /// A payment bears the request.
    PaymentRequest = 6,
    /// A ledger entry bears its id.
    EntryId = 7,
    /// A stock event bears the movement.
    MovementId = 8,
    /// A payment names the debt.
    PaymentOfDebt = 9,
    /// SaleVoided names the sale.
    VoidOfSale = 10,
    /// A ledger entry of type 'sale' names the sale.
    LedgerOfSale = 11,
    /// A ledger entry of type 'sale' gives its sale the request.
    LedgerRequest = 12,
    /// A sale on credit bears the debt that is derived from it.
    DerivedDebt = 13,
    /// An event of a product.
    Product = 14,
    /// An event of a customer.
    Customer = 15,
    /// An event of a cash session.
    Session = 16,
    /// StoreDeclared bears the store.
    StoreId = 17,
    /// FiscalSeriesDeclared bears the series.
    SeriesId = 18,
}

impl LinkKind {
    /// Kinds with one space name the same things, so that equal ids meet.
    pub const fn space(self) -> u8 {
        match self {
            LinkKind::SaleId | LinkKind::DebtSale | LinkKind::VoidOfSale | LinkKind::LedgerOfSale => 0,
            LinkKind::SaleRequest | LinkKind::LedgerRequest => 1,
            LinkKind::DebtId | LinkKind::PaymentOfDebt | LinkKind::DerivedDebt => 2,
            LinkKind::PaymentId => 3,
            LinkKind::PaymentRequest => 4,
            LinkKind::EntryId => 5,
            LinkKind::MovementId => 6,
            LinkKind::Product => 7,
            LinkKind::Customer => 8,
            LinkKind::Session => 9,
            LinkKind::StoreId => 10,
            LinkKind::SeriesId => 11,
        }
    }

    /// Whether of several events with one id of this kind all but the smallest are absorbed.
    pub const fn absorbs(self) -> bool {
        !matches!(
            self,
            LinkKind::DebtSale
                | LinkKind::PaymentOfDebt
                | LinkKind::LedgerOfSale
                | LinkKind::LedgerRequest
                | LinkKind::DerivedDebt
                | LinkKind::Product
                | LinkKind::Customer
                | LinkKind::Session
        )
    }
}

/// An id that an event bears or names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// In which role.
    pub kind: LinkKind,
    /// The id.
    pub id: Uuid,
}

/// An id as a UUID: itself, or the UUIDv5 of a text that is none.
pub fn link_id(text: &str) -> Uuid {
    uuid_of(text).unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()))
}

/// The id of the debt that a standing sale on credit makes by itself (01, rule 5).
pub fn derived_debt_id(store_id: Uuid, sale_id: Uuid) -> Uuid {
    Uuid::new_v5(&store_id, format!("debt:{sale_id}").as_bytes())
}

/// The key of one of several moves that came as `items[]` under one movement's id.
pub fn itemised_key(store_id: Uuid, movement_id: Uuid, index: usize) -> Uuid {
    Uuid::new_v5(&store_id, format!("stock:{movement_id}:{index}").as_bytes())
}

impl Payload {
    /// Every id by which this event meets others. `request_id` is the envelope's.
    pub fn links(&self, store_id: Uuid, request_id: Option<&str>) -> Vec<Link> {
        let mut links = Vec::new();
        let mut add = |kind, id| {
            let link = Link { kind, id };
            if !links.contains(&link) {
                links.push(link);
            }
        };
        match self {
            Payload::Sale(sale) => {
                add(LinkKind::SaleId, sale.sale_id);
                for request in [request_id, sale.request_id.as_deref()].into_iter().flatten() {
                    add(LinkKind::SaleRequest, link_id(request));
                }
                if sale.is_fiao() && sale.customer_id.is_some() {
                    add(LinkKind::DerivedDebt, derived_debt_id(store_id, sale.sale_id));
                }
            }
            Payload::Void(void) => add(LinkKind::VoidOfSale, void.sale_id),
            Payload::Debt(debt) => {
                add(LinkKind::DebtId, debt.debt_id);
                if let Some(sale_id) = debt.sale_id {
                    add(LinkKind::DebtSale, sale_id);
                }
            }
            Payload::Payment(payment) => {
                add(LinkKind::PaymentId, payment.payment_id);
                add(LinkKind::PaymentOfDebt, payment.debt_id);
                for request in [request_id, payment.request_id.as_deref()].into_iter().flatten() {
                    add(LinkKind::PaymentRequest, link_id(request));
                }
            }
            Payload::Stock(stock) => {
                // Distinct by their index: there may be thousands, too many to compare each with each.
                let ids = (0..stock.moves.len()).filter_map(|index| stock.shared_key(store_id, index));
                links.extend(ids.map(|id| Link { kind: LinkKind::MovementId, id }));
            }
            Payload::Ledger(entry) => {
                add(LinkKind::EntryId, entry.entry_id);
                if let Some(sale_id) = entry.sale() {
                    add(LinkKind::LedgerOfSale, sale_id);
                    for request in [&entry.request_id, &entry.sale_request_id].into_iter().flatten() {
                        add(LinkKind::LedgerRequest, link_id(request));
                    }
                }
            }
            Payload::Session(writes) => add(LinkKind::Session, writes.entity_id),
            Payload::Product(writes) => add(LinkKind::Product, writes.entity_id),
            Payload::Customer(writes) => add(LinkKind::Customer, writes.entity_id),
            Payload::Store(_) => add(LinkKind::StoreId, store_id),
            Payload::Series(series) => add(LinkKind::SeriesId, series.series_id),
        }
        links
    }
}

impl super::Stock {
    /// The key of one move that other events may bear too: the movement's id, with the index where itemised.
    pub fn shared_key(&self, store_id: Uuid, index: usize) -> Option<Uuid> {
        let movement_id = self.movement_id?;
        Some(if self.itemised { itemised_key(store_id, movement_id, index) } else { movement_id })
    }

    /// The key of one move, which is its row's id: the shared one, else made from the event's id.
    pub fn key(&self, store_id: Uuid, event_id: &str, index: usize) -> Uuid {
        self.shared_key(store_id, index)
            .unwrap_or_else(|| Uuid::new_v5(&store_id, format!("stock-event:{event_id}:{index}").as_bytes()))
    }
}
