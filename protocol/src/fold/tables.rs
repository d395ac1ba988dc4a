//! What a fold gives: the read tables (08) of one store, by id.

use crate::standing::{
    DebtRow, DeclaredStore, LedgerRow, MovementRow, PaymentRow, SaleRow, SeriesRow, StockKey,
};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use uuid::Uuid;

/// All rows of one store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tables {
    /// `sales` with `sale_items`
    pub sales: BTreeMap<Uuid, SaleRow>,
    /// `debts`
    pub debts: BTreeMap<Uuid, DebtRow>,
    /// `debt_payments`
    pub payments: BTreeMap<Uuid, PaymentRow>,
    /// `cash_ledger_entries`
    pub ledger: BTreeMap<Uuid, LedgerRow>,
    /// `stock_movements`
    pub movements: BTreeMap<Uuid, MovementRow>,
    /// `warehouse_stock`
    pub stock: BTreeMap<StockKey, Decimal>,
    /// `products`
    pub products: BTreeMap<Uuid, ProductRow>,
    /// `customers`
    pub customers: BTreeMap<Uuid, CustomerRow>,
    /// `cash_sessions`
    pub sessions: BTreeMap<Uuid, SessionRow>,
    /// What is declared in `stores`: the one store, if it is
    pub stores: BTreeMap<Uuid, DeclaredStore>,
    /// `fiscal_series`
    pub series: BTreeMap<Uuid, SeriesRow>,
    /// `open_conflicts`
    pub conflicts: BTreeMap<Uuid, ConflictRow>,
    /// `event_exceptions`, by event id
    pub exceptions: BTreeMap<String, Mark>,
}

/// Why an event makes no row of its own, or not all that it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// For an event that bears this id.
    Waiting(String),
    /// By the event with this id.
    Absorbed(String),
    /// This version does not project its type.
    Skipped,
    /// Its payload has no clear meaning, for this reason.
    Failed(String),
}

/// A product.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of `products`, as the table page lists them")]
pub struct ProductRow {
    pub name: Option<String>,
    pub category: Option<String>,
    pub sku: Option<String>,
    pub barcode: Option<String>,
    pub price: Option<Decimal>,
    pub price_bs: Option<Decimal>,
    pub price_usd: Option<Decimal>,
    pub cost_bs: Option<Decimal>,
    pub cost_usd: Option<Decimal>,
    pub track_inventory: Option<bool>,
    pub is_active: Option<bool>,
    pub low_stock_threshold: Option<Decimal>,
    /// Key -> JSON text as received.
    pub attributes: BTreeMap<String, String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A customer.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of `customers`, as the table page lists them")]
pub struct CustomerRow {
    pub name: Option<String>,
    pub document_id: Option<String>,
    pub phone: Option<String>,
    pub email: Option<String>,
    pub address: Option<String>,
    pub credit_limit: Option<Decimal>,
    pub notes: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A cash session.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the columns of `cash_sessions`, as the table page lists them")]
pub struct SessionRow {
    pub register_id: Option<String>,
    pub opened_at: Option<DateTime<Utc>>,
    pub opened_by: Option<String>,
    pub opening_amount: Option<Decimal>,
    pub opening_amount_bs: Option<Decimal>,
    pub opening_amount_usd: Option<Decimal>,
    pub closed_at: Option<DateTime<Utc>>,
    pub closed_by: Option<String>,
    pub closing_amount: Option<Decimal>,
    /// JSON text as received.
    pub expected: Option<String>,
    /// JSON text as received.
    pub counted: Option<String>,
    pub notes: Option<String>,
    pub opened_event_id: Option<String>,
    pub closed_event_id: Option<String>,
}

/// A concurrent edit that a person has to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictRow {
    /// The product.
    pub entity_id: Uuid,
    /// `price`, over all currencies.
    pub field: String,
    /// The last of the versions.
    pub winner_event_id: String,
    /// By key.
    pub versions: Vec<PriceVersion>,
}

/// One side of a conflict: an event and what it says of the prices in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceVersion {
    /// The event.
    pub event_id: String,
    /// Its device.
    pub device_id: String,
    /// The device's time.
    pub created_at: DateTime<Utc>,
    /// Field -> value, as JSON text.
    pub values: BTreeMap<String, String>,
}
