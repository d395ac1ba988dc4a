//! The shop as the node's read API shows it, and the figures that come of it. Never here: what the tills say.

use super::client::Caller;
use super::figures::{DebtFigure, Figures, SessionFigure, cents};
use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Everything that is shown.
#[derive(Debug, Serialize)]
pub(super) struct Reading {
    /// Most often sold first.
    pub(super) sellers: Vec<Seller>,
    /// Least first.
    pub(super) stock: Vec<Stock>,
    /// Who owes most first; bolívares and dollars apart.
    pub(super) owing: Vec<Owing>,
    pub(super) sessions: Vec<Session>,
    pub(super) figures: Figures,
}

/// A product and how it sold, without voided sales.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Seller {
    pub(super) product: String,
    pub(super) sales: i64,
    pub(super) quantity: Decimal,
}

/// A product's stock.
#[derive(Debug, Serialize)]
pub(super) struct Stock {
    pub(super) product: String,
    pub(super) stock: Decimal,
    pub(super) threshold: Option<Decimal>,
    pub(super) tracked: bool,
}

/// What a customer owes in one currency.
#[derive(Debug, Default, Serialize)]
pub(super) struct Owing {
    pub(super) customer: String,
    pub(super) currency: String,
    pub(super) debts: u64,
    pub(super) total: Decimal,
    pub(super) paid: Decimal,
    pub(super) remaining: Decimal,
}

/// A cash session.
#[derive(Debug, Serialize)]
pub(super) struct Session {
    pub(super) till: String,
    pub(super) opened_at: Option<DateTime<Utc>>,
    pub(super) closed_at: Option<DateTime<Utc>>,
    pub(super) expected: BTreeMap<String, Decimal>,
    pub(super) counted: BTreeMap<String, Decimal>,
}

#[derive(Deserialize)]
struct SaleRow {
    payment_method: Option<String>,
    total_bs: Option<Decimal>,
    total_usd: Option<Decimal>,
    voided_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct MovementRow {
    product_id: Uuid,
    kind: String,
    qty_delta: Decimal,
}

#[derive(Deserialize)]
struct StockRow {
    product_id: Uuid,
    product_name: Option<String>,
    stock: Decimal,
    tracked: bool,
}

#[derive(Deserialize)]
struct ProductRow {
    id: Uuid,
    name: Option<String>,
    price_usd: Option<Decimal>,
    low_stock_threshold: Option<Decimal>,
}

#[derive(Deserialize)]
struct CustomerRow {
    id: Uuid,
    name: Option<String>,
    phone: Option<String>,
}

#[derive(Deserialize)]
struct DebtRow {
    id: Uuid,
    customer_id: Option<Uuid>,
    total_amount: Decimal,
    remaining_amount: Decimal,
    status: String,
    currency: Option<String>,
    /// In the answer with one debt alone.
    payments: Option<Vec<PaymentRow>>,
}

#[derive(Deserialize)]
struct PaymentRow {
    amount: Decimal,
}

#[derive(Deserialize)]
struct SessionRow {
    id: Uuid,
    register_id: Option<String>,
    opened_at: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
    expected: Option<Map<String, Value>>,
    counted: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct LedgerRow {
    entry_type: String,
    amount_bs: Option<Decimal>,
    amount_usd: Option<Decimal>,
}

impl Reading {
    /// Asks for everything.
    pub(super) async fn of(caller: &Caller) -> anyhow::Result<Reading> {
        let mut figures = Figures::default();
        let products: Vec<ProductRow> = caller.list("products").await?;
        let customers: Vec<CustomerRow> = caller.list("customers").await?;
        figures.products = products.len() as u64;
        figures.customers = customers.len() as u64;
        figures.prices = products.iter().map(|row| (row.id, row.price_usd.unwrap_or_default())).collect();
        figures.phones =
            customers.iter().map(|row| (row.id, row.phone.clone().unwrap_or_default())).collect();
        add_sales(&mut figures, caller.list("sales").await?);
        let sellers = add_sold(&mut figures, caller.list("stock-movements").await?, &products);
        let stock = add_stock(&mut figures, caller.list("stock").await?, &products);
        let debts: Vec<DebtRow> = caller.list("debts").await?;
        // The list has no payments.
        let debts = try_join_all(debts.iter().map(|debt| caller.get("debts", debt.id))).await?;
        let owing = add_debts(&mut figures, debts, &customers);
        let sessions = add_sessions(&mut figures, caller.list("cash-sessions").await?);
        for entry in caller.list::<LedgerRow>("cash-ledger").await? {
            let tally = figures.ledger.entry(entry.entry_type).or_default();
            tally.add(entry.amount_bs.unwrap_or_default(), entry.amount_usd.unwrap_or_default());
        }
        Ok(Reading { sellers, stock, owing, sessions, figures })
    }
}

fn add_sales(figures: &mut Figures, rows: Vec<SaleRow>) {
    for row in rows {
        let tally = match row.voided_at {
            Some(_) => &mut figures.voided,
            None => figures.sales.entry(row.payment_method.unwrap_or_default()).or_default(),
        };
        tally.add(row.total_bs.unwrap_or_default(), row.total_usd.unwrap_or_default());
    }
}

/// A void's movements undo its sale's, so that their sum is what was sold.
fn add_sold(figures: &mut Figures, rows: Vec<MovementRow>, products: &[ProductRow]) -> Vec<Seller> {
    let mut sales: BTreeMap<Uuid, i64> = BTreeMap::new();
    for row in rows {
        let sold = match row.kind.as_str() {
            "sale" => 1,
            "void" => -1,
            _ => continue,
        };
        *sales.entry(row.product_id).or_default() += sold;
        *figures.sold.entry(row.product_id).or_default() -= row.qty_delta;
    }
    let seller = |(id, count): (&Uuid, &i64)| Seller {
        product: name_of(
            products.iter().find(|product| product.id == *id).and_then(|p| p.name.as_ref()),
            *id,
        ),
        sales: *count,
        quantity: figures.sold.get(id).copied().unwrap_or_default(),
    };
    let mut sellers: Vec<Seller> = sales.iter().map(seller).collect();
    sellers.sort_by(|a, b| (b.sales, b.quantity, &a.product).cmp(&(a.sales, a.quantity, &b.product)));
    sellers
}

fn add_stock(figures: &mut Figures, rows: Vec<StockRow>, products: &[ProductRow]) -> Vec<Stock> {
    let mut stock: Vec<Stock> = rows
        .into_iter()
        .map(|row| {
            *figures.stock.entry(row.product_id).or_default() += row.stock;
            let product = products.iter().find(|product| product.id == row.product_id);
            Stock {
                product: name_of(row.product_name.as_ref(), row.product_id),
                stock: row.stock,
                threshold: product.and_then(|product| product.low_stock_threshold),
                tracked: row.tracked,
            }
        })
        .collect();
    stock.sort_by(|a, b| (a.stock, &a.product).cmp(&(b.stock, &b.product)));
    stock
}

fn add_debts(figures: &mut Figures, rows: Vec<DebtRow>, customers: &[CustomerRow]) -> Vec<Owing> {
    let mut owing: BTreeMap<(String, String), Owing> = BTreeMap::new();
    for row in rows {
        let paid: Decimal = row.payments.iter().flatten().map(|payment| payment.amount).sum();
        if row.remaining_amount > Decimal::ZERO {
            let customer = customers.iter().find(|customer| Some(customer.id) == row.customer_id);
            let customer =
                name_of(customer.and_then(|c| c.name.as_ref()), row.customer_id.unwrap_or_default());
            let currency = row.currency.unwrap_or_default();
            let sum = owing.entry((customer.clone(), currency.clone())).or_default();
            (sum.customer, sum.currency) = (customer, currency);
            sum.debts += 1;
            sum.total += row.total_amount;
            sum.paid += paid;
            sum.remaining += row.remaining_amount;
        }
        let figure = DebtFigure { status: row.status, paid, remaining: row.remaining_amount };
        figures.debts.insert(row.id, figure);
    }
    let mut owing: Vec<Owing> = owing.into_values().collect();
    owing.sort_by(|a, b| (&b.currency, b.remaining).cmp(&(&a.currency, a.remaining)));
    owing
}

fn add_sessions(figures: &mut Figures, rows: Vec<SessionRow>) -> Vec<Session> {
    let amounts = |sent: Option<Map<String, Value>>| -> BTreeMap<String, Decimal> {
        sent.into_iter().flatten().map(|(kind, amount)| (kind, cents(&amount))).collect()
    };
    let mut sessions = Vec::new();
    for row in rows {
        let (expected, counted) = (amounts(row.expected), amounts(row.counted));
        figures.sessions.insert(
            row.id,
            SessionFigure {
                closed: row.closed_at.is_some(),
                expected: expected.clone(),
                counted: counted.clone(),
            },
        );
        sessions.push(Session {
            till: row.register_id.unwrap_or_default(),
            opened_at: row.opened_at,
            closed_at: row.closed_at,
            expected,
            counted,
        });
    }
    sessions
}

fn name_of(name: Option<&String>, id: Uuid) -> String {
    name.cloned().unwrap_or_else(|| id.to_string())
}
