//! What the payloads of projected types say, with their aliases and two currencies.
//!
//! Everything else a payload says stays in its text. Never here: how events of one kind stand to each other.

mod fields;
mod links;
mod read;

pub use links::{Link, LinkKind, derived_debt_id, itemised_key, link_id};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

/// A payload that this version projects.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// SaleCreated
    Sale(Box<Sale>),
    /// SaleVoided
    Void(Void),
    /// DebtCreated
    Debt(Box<Debt>),
    /// DebtPaymentRecorded, DebtPaymentAdded
    Payment(Box<Payment>),
    /// StockReceived, StockAdjusted, StockDeltaApplied
    Stock(Stock),
    /// CashLedgerEntryCreated
    Ledger(Box<LedgerEntry>),
    /// CashSessionOpened, CashSessionClosed: a register 'opened' or 'closed' of the session
    Session(FieldWrites),
    /// ProductCreated, ProductUpdated, ProductDeactivated, PriceChanged
    Product(FieldWrites),
    /// CustomerCreated, CustomerUpdated
    Customer(FieldWrites),
    /// StoreDeclared
    Store(StoreDeclaration),
    /// FiscalSeriesDeclared
    Series(Box<SeriesDeclaration>),
}

/// An amount in two currencies at once, or in one without a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Money {
    /// `x`
    pub plain: Option<Decimal>,
    /// `x_bs`
    pub bs: Option<Decimal>,
    /// `x_usd`
    pub usd: Option<Decimal>,
}

impl Money {
    /// Whether none was given.
    pub fn is_absent(&self) -> bool {
        self.plain.is_none() && self.bs.is_none() && self.usd.is_none()
    }
}

/// SaleCreated.
#[derive(Debug, Clone, PartialEq)]
pub struct Sale {
    /// The sale.
    pub sale_id: Uuid,
    /// The payload's own request id.
    pub request_id: Option<String>,
    /// What was sold.
    pub lines: Vec<SaleLine>,
    /// The totals.
    pub total: Money,
    /// `totals.subtotal_*`, to check the lines against.
    pub subtotal: Money,
    /// The cash session.
    pub session_id: Option<Uuid>,
    /// The customer.
    pub customer_id: Option<Uuid>,
    /// The warehouse; none: the store's default.
    pub warehouse_id: Option<Uuid>,
    /// As sent; `FIAO` makes a debt.
    pub payment_method: Option<String>,
    /// As sent.
    pub currency: Option<String>,
    /// Bolívares a dollar.
    pub exchange_rate: Option<Decimal>,
    /// When it was sold by the till's clock.
    pub sold_at: Option<DateTime<Utc>>,
    /// The fiscal series.
    pub series_id: Option<Uuid>,
    /// Number or text.
    pub invoice_number: Option<String>,
    /// Number or text.
    pub fiscal_number: Option<String>,
    /// Free text.
    pub note: Option<String>,
}

/// One line of a sale.
#[derive(Debug, Clone, PartialEq)]
pub struct SaleLine {
    /// The product.
    pub product_id: Uuid,
    /// Its variant.
    pub variant_id: Option<Uuid>,
    /// Pieces, or the weight of a product that is weighed.
    pub qty: Decimal,
    /// Price of one.
    pub unit_price: Money,
    /// Discount of the line.
    pub discount: Money,
    /// As the till knew it.
    pub name: Option<String>,
}

impl Sale {
    /// A sale on credit: it makes a debt by itself if it names a customer.
    pub fn is_fiao(&self) -> bool {
        self.payment_method.as_deref().is_some_and(|method| method.eq_ignore_ascii_case("FIAO"))
    }

    /// What is odd about a sale that is taken all the same.
    pub fn flaw(&self) -> Option<&'static str> {
        if self.lines.iter().any(|line| line.qty <= Decimal::ZERO) {
            return Some("a quantity is not positive");
        }
        let stated = [self.subtotal, self.total].into_iter().find(|m| !m.is_absent())?;
        let sum = |price: fn(&Money) -> Option<Decimal>| {
            self.lines
                .iter()
                .map(|line| line.qty.checked_mul(price(&line.unit_price)?))
                .try_fold(Decimal::ZERO, |sum, line| sum.checked_add(line?))
        };
        let differs = |stated: Option<Decimal>, sum: Option<Decimal>| match (stated, sum) {
            // Rounding of every line and a tax that v1 adds to some totals stay below this.
            (Some(stated), Some(sum)) => {
                let slack = (sum.abs() / Decimal::from(4)).max(Decimal::ONE);
                stated.checked_sub(sum).is_none_or(|difference| difference.abs() > slack)
            }
            _ => false,
        };
        let off = differs(stated.usd, sum(|p| p.usd))
            || differs(stated.bs, sum(|p| p.bs))
            || differs(stated.plain, sum(|p| p.plain));
        off.then_some("the lines do not add up to the total")
    }
}

/// SaleVoided.
#[derive(Debug, Clone, PartialEq)]
pub struct Void {
    /// The sale that is named.
    pub sale_id: Uuid,
    /// When, by the till's clock.
    pub voided_at: Option<DateTime<Utc>>,
    /// By whom.
    pub voided_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// DebtCreated.
#[derive(Debug, Clone, PartialEq)]
pub struct Debt {
    /// The debt.
    pub debt_id: Uuid,
    /// Who owes.
    pub customer_id: Option<Uuid>,
    /// The sale on credit.
    pub sale_id: Option<Uuid>,
    /// What is owed.
    pub amount: Money,
    /// What was still owed when it was created, in the debt's own currency.
    pub remaining: Money,
    /// As sent.
    pub currency: Option<String>,
    /// When it was made.
    pub created_at: Option<DateTime<Utc>>,
    /// Until when.
    pub due_at: Option<DateTime<Utc>>,
    /// Free text.
    pub notes: Option<String>,
}

/// DebtPaymentRecorded, DebtPaymentAdded.
#[derive(Debug, Clone, PartialEq)]
pub struct Payment {
    /// The payment.
    pub payment_id: Uuid,
    /// The payload's own request id.
    pub request_id: Option<String>,
    /// The debt that is named.
    pub debt_id: Uuid,
    /// How much.
    pub amount: Money,
    /// As sent, or `cash`.
    pub method: String,
    /// When, by the till's clock.
    pub paid_at: Option<DateTime<Utc>>,
    /// Of a transfer.
    pub reference: Option<String>,
    /// Free text.
    pub notes: Option<String>,
}

/// The kind of a stock event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockKind {
    /// StockReceived
    Received,
    /// StockAdjusted
    Adjusted,
    /// StockDeltaApplied
    Delta,
}

impl StockKind {
    /// As in `stock_movements.kind`.
    pub const fn name(self) -> &'static str {
        match self {
            StockKind::Received => "received",
            StockKind::Adjusted => "adjusted",
            StockKind::Delta => "delta",
        }
    }
}

/// StockReceived, StockAdjusted, StockDeltaApplied.
#[derive(Debug, Clone, PartialEq)]
pub struct Stock {
    /// Which of the three.
    pub kind: StockKind,
    /// The key that makes a repetition harmless.
    pub movement_id: Option<Uuid>,
    /// Whether the moves came as `items[]`, so that each has a key of its own.
    pub itemised: bool,
    /// What moved.
    pub moves: Vec<StockMove>,
}

/// One product's move.
#[derive(Debug, Clone, PartialEq)]
pub struct StockMove {
    /// The product.
    pub product_id: Uuid,
    /// Its variant.
    pub variant_id: Option<Uuid>,
    /// The warehouse; none: the store's default.
    pub warehouse_id: Option<Uuid>,
    /// What it adds to the stock.
    pub qty_delta: Decimal,
}

/// CashLedgerEntryCreated.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerEntry {
    /// The entry.
    pub entry_id: Uuid,
    /// The payload's own request id.
    pub request_id: Option<String>,
    /// `sale`, `income`, …
    pub entry_type: String,
    /// How much.
    pub amount: Money,
    /// As sent.
    pub currency: Option<String>,
    /// The cash session.
    pub session_id: Option<Uuid>,
    /// When, by the till's clock.
    pub sold_at: Option<DateTime<Utc>>,
    /// Why.
    pub reason: Option<String>,
    /// `metadata.sale_id`
    pub sale_id: Option<Uuid>,
    /// `metadata.sale_request_id`
    pub sale_request_id: Option<String>,
}

impl LedgerEntry {
    /// The sale that an entry of type 'sale' belongs to: `metadata.sale_id`, else its own id.
    pub fn sale(&self) -> Option<Uuid> {
        (self.entry_type == "sale").then_some(self.sale_id.unwrap_or(self.entry_id))
    }
}

/// Writes to the fields of one entity (a product, a customer, a cash session).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldWrites {
    /// The entity.
    pub entity_id: Uuid,
    /// Field -> value, as JSON text; present in the payload, so `null` too.
    pub fields: Vec<(String, String)>,
}

/// StoreDeclared, of the store that the event is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDeclaration {
    /// The node that grants its escrow.
    pub home_node: String,
    /// Merged with the default warehouse where stock is read.
    pub default_warehouse_id: Option<Uuid>,
    /// For people, where a node meets the store first.
    pub name: Option<String>,
}

/// FiscalSeriesDeclared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesDeclaration {
    /// The series.
    pub series_id: Uuid,
    /// For people.
    pub name: Option<String>,
    /// What stands before its numbers.
    pub prefix: Option<String>,
    /// Its first number; 0 or more.
    pub next_number: i64,
    /// The node that hands out its ranges; none: the store's home.
    pub owner_node: Option<String>,
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
