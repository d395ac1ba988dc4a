//! Reads on a real database: order, pages, filters, and rows as they are answered.
#![cfg(feature = "testing")]

mod cash;
mod catalogue;
mod debts;
mod sales;
mod stock;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;
use velox_store::testing::TestDatabase;
use velox_store::{Error, Listed, MIGRATOR, Page, PageRequest, Store};

const SHOP: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

/// A store's rows, written by hand: what a projector makes of events is tested elsewhere.
struct Rows {
    store: Store,
    pool: PgPool,
    _database: TestDatabase,
}

impl Rows {
    async fn new() -> Self {
        let database = TestDatabase::create(&MIGRATOR).await;
        let rows = Rows {
            store: Store::new(database.options(), 9),
            pool: database.pool().await,
            _database: database,
        };
        for store_id in [SHOP, OTHER] {
            let sql = "INSERT INTO stores (store_id, name) VALUES ($1, 'Shop')";
            sqlx::query(sql).bind(store_id).execute(&rows.pool).await.expect(sql);
        }
        rows
    }

    /// Inserts into `columns` of a table, `store_id` first.
    async fn insert(&self, store_id: Uuid, table_columns: &str, values: &str) {
        let (table, columns) = table_columns.split_once(' ').expect("table and columns");
        let sql = format!("INSERT INTO {table} (store_id, {columns}) VALUES ('{store_id}', {values})");
        sqlx::query(AssertSqlSafe(sql.as_str())).execute(&self.pool).await.expect(&sql);
    }

    async fn sale(&self, store_id: Uuid, id: u128, sold_at: &str, more: &str) {
        let columns = "sales sold_at, created_at, event_id, id, device_id, customer_id, voided_at";
        let values = format!("'{sold_at}', '{sold_at}', 'e{id}', '{}', {more}", Uuid::from_u128(id));
        self.insert(store_id, columns, &values).await;
    }

    async fn stock(&self, product: u128, warehouse: Uuid, stock: &str) {
        let none = Uuid::nil();
        let values = format!("'{}', '{none}', '{warehouse}', {stock}", Uuid::from_u128(product));
        self.insert(SHOP, "warehouse_stock product_id, variant_id, warehouse_id, stock", &values).await;
    }
}

fn all<K>() -> PageRequest<K> {
    PageRequest { after: None, limit: 1000 }
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("RFC 3339")
}

fn ids<T: Listed>(page: &Page<T>, id: impl Fn(&T) -> Uuid) -> Vec<u128> {
    page.items.iter().map(|row| id(row).as_u128()).collect()
}

/// Walks a list in pages of `limit` and returns what it saw.
async fn walk<T, F>(limit: u32, mut page: impl FnMut(PageRequest<T::Key>) -> F) -> Vec<T>
where
    T: Listed,
    F: Future<Output = Result<Page<T>, Error>>,
{
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let mut read = page(PageRequest { after, limit }).await.expect("a page");
        assert!(read.items.len() <= limit as usize);
        after = read.items.last().map(Listed::key);
        seen.append(&mut read.items);
        if !read.has_more {
            return seen;
        }
    }
}
