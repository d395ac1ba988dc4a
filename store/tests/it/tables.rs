//! The read tables of some stores, read back into the words in which `velox_protocol` resolves events.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use uuid::Uuid;
use velox_protocol::standing::{
    DebtRow, DebtStatus, Exception, ItemRow, LedgerRow, Linked, MovementRow, PaymentRow, Rows, SaleRow,
    StockKey, VoidMark, resolve,
};

/// All that one store's events have made.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) rows: Rows,
    /// `warehouse_stock`
    pub(crate) stock: BTreeMap<StockKey, Decimal>,
    /// Failed and skipped events: status and reason.
    pub(crate) unread: BTreeMap<String, (String, String)>,
    /// Items whose sale is not there.
    strays: Vec<String>,
    /// Whole rows of products, customers and cash sessions as JSON, registers included.
    pub(crate) entities: BTreeMap<String, String>,
}

impl Tables {
    /// What the linked events must make, by the model; the rest is left empty.
    pub(crate) fn resolved(store_id: Uuid, linked: &[Linked]) -> Self {
        let rows = resolve(store_id, linked);
        let mut stock: BTreeMap<StockKey, Decimal> = BTreeMap::new();
        for movement in rows.movements.values() {
            *stock.entry(movement.key).or_default() += movement.qty_delta;
        }
        Tables { rows, stock, ..Tables::default() }
    }

    /// Each row that only one of the two has, or has otherwise.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = between("stock", &self.stock, &other.stock);
        differences.extend(between("sale", &self.rows.sales, &other.rows.sales));
        differences.extend(between("debt", &self.rows.debts, &other.rows.debts));
        differences.extend(between("payment", &self.rows.payments, &other.rows.payments));
        differences.extend(between("entry", &self.rows.ledger, &other.rows.ledger));
        differences.extend(between("movement", &self.rows.movements, &other.rows.movements));
        differences.extend(between("exception", &self.rows.exceptions, &other.rows.exceptions));
        differences.extend(between("unread", &self.unread, &other.unread));
        differences.extend(between("entity", &self.entities, &other.entities));
        if self.strays != other.strays {
            differences.push(format!("{:?} instead of {:?}", self.strays, other.strays));
        }
        differences
    }
}

fn between<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
) -> Vec<String> {
    let keys: BTreeSet<&K> = found.keys().chain(expected.keys()).collect();
    keys.into_iter()
        .filter(|key| found.get(key) != expected.get(key))
        .map(|key| format!("{what} {key:?}: {:?} instead of {:?}", found.get(key), expected.get(key)))
        .collect()
}

/// Reads the tables of these stores; one that has no row is there too.
pub(crate) async fn read(pool: &PgPool, stores: &[Uuid]) -> BTreeMap<Uuid, Tables> {
    let mut reader = Reader { pool, stores, all: stores.iter().map(|id| (*id, Tables::default())).collect() };
    reader.sales().await;
    reader.debts().await;
    reader.payments().await;
    reader.ledger().await;
    reader.stock().await;
    reader.exceptions().await;
    reader.entities().await;
    reader.all
}

struct Reader<'a> {
    pool: &'a PgPool,
    stores: &'a [Uuid],
    all: BTreeMap<Uuid, Tables>,
}

impl Reader<'_> {
    async fn query(&self, sql: &'static str) -> Vec<PgRow> {
        sqlx::query(sql).bind(self.stores).fetch_all(self.pool).await.expect(sql)
    }

    fn of(&mut self, row: &PgRow) -> &mut Tables {
        self.all.get_mut(&row.get("store_id")).expect("a store that was asked for")
    }

    async fn sales(&mut self) {
        let mut items: BTreeMap<(Uuid, Uuid), Vec<ItemRow>> = BTreeMap::new();
        let sql = "SELECT * FROM sale_items WHERE store_id = ANY($1) ORDER BY store_id, sale_id, line_no";
        for row in self.query(sql).await {
            let lines = items.entry((row.get("store_id"), row.get("sale_id"))).or_default();
            assert_eq!(
                row.get::<i32, _>("line_no") as usize,
                lines.len() + 1,
                "lines are numbered without gaps"
            );
            lines.push(item(&row));
        }
        for row in self.query("SELECT * FROM sales WHERE store_id = ANY($1)").await {
            let (store, id): (Uuid, Uuid) = (row.get("store_id"), row.get("id"));
            let lines = items.remove(&(store, id)).unwrap_or_default();
            self.of(&row).rows.sales.insert(id, sale(&row, lines));
        }
        for ((store, sale), lines) in items {
            let strays = &mut self.all.get_mut(&store).expect("a store that was asked for").strays;
            strays.push(format!("{} items of {sale}", lines.len()));
        }
    }

    async fn debts(&mut self) {
        for row in self.query("SELECT * FROM debts WHERE store_id = ANY($1)").await {
            self.of(&row).rows.debts.insert(row.get("id"), debt(&row));
        }
    }

    async fn payments(&mut self) {
        for row in self.query("SELECT * FROM debt_payments WHERE store_id = ANY($1)").await {
            let payment = PaymentRow {
                debt_id: row.get("debt_id"),
                amount: row.get("amount"),
                amount_bs: row.get("amount_bs"),
                amount_usd: row.get("amount_usd"),
                payment_method: row.get("payment_method"),
                reference: row.get("reference"),
                paid_at: row.get("paid_at"),
                paid_by: row.get("paid_by"),
                notes: row.get("notes"),
                event_id: row.get("event_id"),
            };
            self.of(&row).rows.payments.insert(row.get("id"), payment);
        }
    }

    async fn ledger(&mut self) {
        for row in self.query("SELECT * FROM cash_ledger_entries WHERE store_id = ANY($1)").await {
            let entry = LedgerRow {
                session_id: row.get("session_id"),
                entry_type: row.get("entry_type"),
                amount: row.get("amount"),
                amount_bs: row.get("amount_bs"),
                amount_usd: row.get("amount_usd"),
                currency: row.get("currency"),
                reason: row.get("reason"),
                created_at: row.get("created_at"),
                event_id: row.get("event_id"),
            };
            self.of(&row).rows.ledger.insert(row.get("id"), entry);
        }
    }

    async fn stock(&mut self) {
        for row in self.query("SELECT * FROM stock_movements WHERE store_id = ANY($1)").await {
            let movement = MovementRow {
                key: stock_key(&row),
                kind: ["sale", "void", "received", "adjusted", "delta"]
                    .into_iter()
                    .find(|kind| *kind == row.get::<&str, _>("kind"))
                    .expect("a kind"),
                qty_delta: row.get("qty_delta"),
                event_id: row.get("event_id"),
                sale_id: row.get("sale_id"),
                created_at: row.get("created_at"),
            };
            self.of(&row).rows.movements.insert(row.get("id"), movement);
        }
        for row in self.query("SELECT * FROM warehouse_stock WHERE store_id = ANY($1)").await {
            self.of(&row).stock.insert(stock_key(&row), row.get("stock"));
        }
    }

    async fn exceptions(&mut self) {
        for row in self.query("SELECT * FROM event_exceptions WHERE store_id = ANY($1)").await {
            let (event, status, reason): (String, String, String) =
                (row.get("event_id"), row.get("status"), row.get("reason"));
            let tables = self.of(&row);
            match status.as_str() {
                "waiting" => drop(tables.rows.exceptions.insert(event, Exception::Waiting(reason))),
                "absorbed" => drop(tables.rows.exceptions.insert(event, Exception::Absorbed(reason))),
                _ => drop(tables.unread.insert(event, (status, reason))),
            }
        }
    }

    async fn entities(&mut self) {
        let sql = "SELECT store_id, 'product ' || id AS name, to_jsonb(t)::text AS row FROM products t
                       WHERE store_id = ANY($1)
                   UNION ALL SELECT store_id, 'customer ' || id, to_jsonb(t)::text FROM customers t
                       WHERE store_id = ANY($1)
                   UNION ALL SELECT store_id, 'session ' || id, to_jsonb(t)::text FROM cash_sessions t
                       WHERE store_id = ANY($1)";
        for row in self.query(sql).await {
            let (name, text) = (row.get("name"), row.get("row"));
            self.of(&row).entities.insert(name, text);
        }
    }
}

fn stock_key(row: &PgRow) -> StockKey {
    StockKey {
        product_id: row.get("product_id"),
        variant_id: row.get("variant_id"),
        warehouse_id: row.get("warehouse_id"),
    }
}

fn item(row: &PgRow) -> ItemRow {
    ItemRow {
        product_id: row.get("product_id"),
        variant_id: row.get("variant_id"),
        name: row.get("name"),
        qty: row.get("qty"),
        unit_price: row.get("unit_price"),
        unit_price_bs: row.get("unit_price_bs"),
        unit_price_usd: row.get("unit_price_usd"),
        discount_bs: row.get("discount_bs"),
        discount_usd: row.get("discount_usd"),
    }
}

fn sale(row: &PgRow, items: Vec<ItemRow>) -> SaleRow {
    let voided_at: Option<DateTime<Utc>> = row.get("voided_at");
    SaleRow {
        device_id: row.get("device_id"),
        session_id: row.get("session_id"),
        customer_id: row.get("customer_id"),
        warehouse_id: row.get("warehouse_id"),
        currency: row.get("currency"),
        exchange_rate: row.get("exchange_rate"),
        total: row.get("total"),
        total_bs: row.get("total_bs"),
        total_usd: row.get("total_usd"),
        payment_method: row.get("payment_method"),
        series_id: row.get("series_id"),
        invoice_number: row.get("invoice_number"),
        fiscal_number: row.get("fiscal_number"),
        sold_at: row.get("sold_at"),
        created_at: row.get("created_at"),
        created_by: row.get("created_by"),
        note: row.get("note"),
        event_id: row.get("event_id"),
        void: voided_at.map(|voided_at| VoidMark {
            voided_at,
            voided_by: row.get("voided_by"),
            reason: row.get("void_reason"),
            event_id: row.get("void_event_id"),
        }),
        items,
    }
}

fn debt(row: &PgRow) -> DebtRow {
    DebtRow {
        customer_id: row.get("customer_id"),
        sale_id: row.get("sale_id"),
        total_amount: row.get("total_amount"),
        remaining_amount: row.get("remaining_amount"),
        amount_bs: row.get("amount_bs"),
        amount_usd: row.get("amount_usd"),
        overpaid_amount: row.get("overpaid_amount"),
        status: [DebtStatus::Pending, DebtStatus::Partial, DebtStatus::Paid, DebtStatus::Cancelled]
            .into_iter()
            .find(|status| status.name() == row.get::<&str, _>("status"))
            .expect("a status"),
        currency: row.get("currency"),
        derived: row.get("derived"),
        notes: row.get("notes"),
        due_at: row.get("due_at"),
        created_at: row.get("created_at"),
        created_by: row.get("created_by"),
        updated_at: row.get("updated_at"),
        event_id: row.get("event_id"),
    }
}
