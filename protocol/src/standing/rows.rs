//! The rows that standing events make, in the words of the tables (08), amounts rounded as columns show them.

use super::Linked;
use crate::decimal::Column;
use crate::payload::{
    LedgerEntry, Money, Payment, Sale, SaleLine, SeriesDeclaration, StockMove, StoreDeclaration,
};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use uuid::Uuid;

/// All rows of a set of events, by their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// `sales` with `sale_items`
    pub sales: BTreeMap<Uuid, SaleRow>,
    /// `debts`
    pub debts: BTreeMap<Uuid, DebtRow>,
    /// `debt_payments`
    pub payments: BTreeMap<Uuid, PaymentRow>,
    /// `cash_ledger_entries`
    pub ledger: BTreeMap<Uuid, LedgerRow>,
    /// `stock_movements`, whose sums are `warehouse_stock`
    pub movements: BTreeMap<Uuid, MovementRow>,
    /// What is declared in `stores`: the store of the events, if it is
    pub stores: BTreeMap<Uuid, DeclaredStore>,
    /// `fiscal_series`
    pub series: BTreeMap<Uuid, SeriesRow>,
    /// `event_exceptions`, by event id
    pub exceptions: BTreeMap<String, Exception>,
}

/// Why an event makes no row of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exception {
    /// For an event that bears this id.
    Waiting(String),
    /// By the event with this id.
    Absorbed(String),
}

/// The currency in which a debt is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Currency {
    Plain,
    Usd,
    Bs,
}

/// A standing sale.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of `sales`, as the table page lists them")]
pub struct SaleRow {
    pub device_id: String,
    pub session_id: Option<Uuid>,
    pub customer_id: Option<Uuid>,
    pub warehouse_id: Option<Uuid>,
    pub currency: Option<String>,
    pub exchange_rate: Option<Decimal>,
    pub total: Option<Decimal>,
    pub total_bs: Option<Decimal>,
    pub total_usd: Option<Decimal>,
    pub payment_method: Option<String>,
    pub series_id: Option<Uuid>,
    pub invoice_number: Option<String>,
    pub fiscal_number: Option<String>,
    pub sold_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub created_by: Option<String>,
    pub note: Option<String>,
    pub event_id: String,
    pub void: Option<VoidMark>,
    pub items: Vec<ItemRow>,
}

/// The void that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidMark {
    /// When, by the till's clock.
    pub voided_at: DateTime<Utc>,
    /// By whom.
    pub voided_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The SaleVoided.
    pub event_id: String,
}

/// One line of a sale; its number is its place.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of `sale_items`, as the table page lists them")]
pub struct ItemRow {
    pub product_id: Uuid,
    pub variant_id: Option<Uuid>,
    pub name: Option<String>,
    pub qty: Decimal,
    pub unit_price: Option<Decimal>,
    pub unit_price_bs: Option<Decimal>,
    pub unit_price_usd: Option<Decimal>,
    pub discount_bs: Option<Decimal>,
    pub discount_usd: Option<Decimal>,
}

/// `debts.status`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebtStatus {
    /// Nothing paid.
    Pending,
    /// Something paid.
    Partial,
    /// At most a cent is left.
    Paid,
    /// Its sale was voided.
    Cancelled,
}

impl DebtStatus {
    /// As in the table.
    pub const fn name(self) -> &'static str {
        match self {
            DebtStatus::Pending => "pending",
            DebtStatus::Partial => "partial",
            DebtStatus::Paid => "paid",
            DebtStatus::Cancelled => "cancelled",
        }
    }

    /// The reverse of [`DebtStatus::name`].
    pub fn of_name(name: &str) -> Option<Self> {
        [DebtStatus::Pending, DebtStatus::Partial, DebtStatus::Paid, DebtStatus::Cancelled]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// A standing debt.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of `debts`, as the table page lists them")]
pub struct DebtRow {
    pub customer_id: Option<Uuid>,
    pub sale_id: Option<Uuid>,
    pub total_amount: Decimal,
    pub remaining_amount: Decimal,
    pub amount_bs: Option<Decimal>,
    pub amount_usd: Option<Decimal>,
    pub overpaid_amount: Decimal,
    pub status: DebtStatus,
    pub currency: Option<String>,
    pub derived: bool,
    pub notes: Option<String>,
    pub due_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub created_by: Option<String>,
    pub updated_at: DateTime<Utc>,
    pub event_id: Option<String>,
}

/// A standing payment.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of `debt_payments`, as the table page lists them")]
pub struct PaymentRow {
    pub debt_id: Uuid,
    pub amount: Decimal,
    pub amount_bs: Option<Decimal>,
    pub amount_usd: Option<Decimal>,
    pub payment_method: String,
    pub reference: Option<String>,
    pub paid_at: DateTime<Utc>,
    pub paid_by: Option<String>,
    pub notes: Option<String>,
    pub event_id: String,
}

/// A standing ledger entry.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of `cash_ledger_entries`, as the table page lists them")]
pub struct LedgerRow {
    pub session_id: Option<Uuid>,
    pub entry_type: String,
    pub amount: Option<Decimal>,
    pub amount_bs: Option<Decimal>,
    pub amount_usd: Option<Decimal>,
    pub currency: Option<String>,
    pub reason: Option<String>,
    pub created_at: DateTime<Utc>,
    pub event_id: String,
}

/// What the standing declaration says of its store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of `stores` that come from events")]
pub struct DeclaredStore {
    pub home_node: String,
    pub default_warehouse_id: Option<Uuid>,
    pub declared_by: String,
}

/// A declared fiscal series.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of `fiscal_series`")]
pub struct SeriesRow {
    pub name: Option<String>,
    pub prefix: Option<String>,
    pub next_number: i64,
    pub owner_node: Option<String>,
    pub declared_by: String,
}

/// What a stock figure is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StockKey {
    /// The product.
    pub product_id: Uuid,
    /// Its variant; the nil UUID: none.
    pub variant_id: Uuid,
    /// The warehouse; the store's id: the default one.
    pub warehouse_id: Uuid,
}

impl StockMove {
    /// What it moves.
    pub fn key(&self, store_id: Uuid) -> StockKey {
        StockKey {
            product_id: self.product_id,
            variant_id: self.variant_id.unwrap_or_default(),
            warehouse_id: self.warehouse_id.unwrap_or(store_id),
        }
    }
}

/// A standing stock movement.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of `stock_movements`, as the table page lists them")]
pub struct MovementRow {
    pub key: StockKey,
    pub kind: &'static str,
    pub qty_delta: Decimal,
    pub event_id: String,
    pub sale_id: Option<Uuid>,
    pub created_at: DateTime<Utc>,
}

fn amount(value: Option<Decimal>) -> Option<Decimal> {
    value.map(|d| Column::Amount.round(d))
}

impl SaleRow {
    pub(crate) fn new(event: &Linked, sale: &Sale, void: Option<VoidMark>) -> Self {
        SaleRow {
            device_id: event.key.device_id.clone(),
            session_id: sale.session_id,
            customer_id: sale.customer_id,
            warehouse_id: sale.warehouse_id,
            currency: sale.currency.clone(),
            exchange_rate: sale.exchange_rate.map(|d| Column::Rate.round(d)),
            total: amount(sale.total.plain),
            total_bs: amount(sale.total.bs),
            total_usd: amount(sale.total.usd),
            payment_method: sale.payment_method.clone(),
            series_id: sale.series_id,
            invoice_number: sale.invoice_number.clone(),
            fiscal_number: sale.fiscal_number.clone(),
            sold_at: sale.sold_at.unwrap_or(event.key.created_at),
            created_at: event.key.created_at,
            created_by: event.actor.clone(),
            note: sale.note.clone(),
            event_id: event.key.event_id.clone(),
            void,
            items: sale.lines.iter().map(ItemRow::new).collect(),
        }
    }
}

impl ItemRow {
    fn new(line: &SaleLine) -> Self {
        let price = |value: Option<Decimal>| value.map(|d| Column::Price.round(d));
        ItemRow {
            product_id: line.product_id,
            variant_id: line.variant_id,
            name: line.name.clone(),
            qty: Column::Quantity.round(line.qty),
            unit_price: price(line.unit_price.plain),
            unit_price_bs: price(line.unit_price.bs),
            unit_price_usd: price(line.unit_price.usd),
            discount_bs: amount(line.discount.bs),
            discount_usd: amount(line.discount.usd),
        }
    }
}

impl PaymentRow {
    /// `amount` is the plain one if the till sent one, else what counts for the debt.
    pub(crate) fn new(event: &Linked, payment: &Payment, debt_id: Uuid, counted: Decimal) -> Self {
        let Money { plain, bs, usd } = payment.amount;
        PaymentRow {
            debt_id,
            amount: Column::Amount.round(plain.unwrap_or(counted)),
            amount_bs: amount(bs),
            amount_usd: amount(usd),
            payment_method: payment.method.clone(),
            reference: payment.reference.clone(),
            paid_at: payment.paid_at.unwrap_or(event.key.created_at),
            paid_by: event.actor.clone(),
            notes: payment.notes.clone(),
            event_id: event.key.event_id.clone(),
        }
    }
}

impl LedgerRow {
    pub(crate) fn new(event: &Linked, entry: &LedgerEntry) -> Self {
        LedgerRow {
            session_id: entry.session_id,
            entry_type: entry.entry_type.clone(),
            amount: amount(entry.amount.plain),
            amount_bs: amount(entry.amount.bs),
            amount_usd: amount(entry.amount.usd),
            currency: entry.currency.clone(),
            reason: entry.reason.clone(),
            created_at: entry.sold_at.unwrap_or(event.key.created_at),
            event_id: event.key.event_id.clone(),
        }
    }
}

impl DeclaredStore {
    pub(crate) fn new(event: &Linked, store: &StoreDeclaration) -> Self {
        DeclaredStore {
            home_node: store.home_node.clone(),
            default_warehouse_id: store.default_warehouse_id,
            declared_by: event.key.event_id.clone(),
        }
    }
}

impl SeriesRow {
    pub(crate) fn new(event: &Linked, series: &SeriesDeclaration) -> Self {
        SeriesRow {
            name: series.name.clone(),
            prefix: series.prefix.clone(),
            next_number: series.next_number,
            owner_node: series.owner_node.clone(),
            declared_by: event.key.event_id.clone(),
        }
    }
}
