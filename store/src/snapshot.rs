//! What a till takes along before it goes offline: the tables of one moment, and where to go on pulling from.
//!
//! Never here: what a till may sell of it (see `velox_protocol::stock_policy`), or who may ask.

use crate::reads::{cash_sessions, customers, debts, products, stock};
use crate::{
    CashSessionFilter, CashSessionRow, CashSessionStatus, CustomerRow, DebtFilter, DebtRow, DebtStatus,
    Error, PageRequest, ProductFilter, ProductRow, PullPosition, StockFilter, StockRow, Store,
};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

/// Most rows of a list: far more than a shop has, and still no danger to the node's memory.
const MOST_ROWS: u32 = 100_000;
/// Best sellers that are told.
const SELLERS: i64 = 50;
/// Days whose sales are looked at.
const SELLING_DAYS: i32 = 30;

/// A store at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// When, by the database.
    pub taken_at: DateTime<Utc>,
    /// What has arrived from here on may be missing in the lists; all before is in them.
    pub position: PullPosition,
    /// A list had more than 100,000 rows, of which these are the first.
    pub truncated: bool,
    /// Those on sale and those that are not any more.
    pub products: Vec<ProductRow>,
    /// By product, variant and warehouse.
    pub stock: Vec<StockRow>,
    /// All of them.
    pub customers: Vec<CustomerRow>,
    /// What is not paid, or not wholly.
    pub debts: Vec<DebtRow>,
    /// Those that go on.
    pub cash_sessions: Vec<CashSessionRow>,
    /// What sells best, the best first.
    pub top_sellers: Vec<TopSeller>,
}

/// A product that sells.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TopSeller {
    /// The product.
    pub product_id: Uuid,
    /// Its name, where the product is known.
    pub name: Option<String>,
    /// Whether its stock is watched.
    pub tracked: bool,
    /// Units a day over the last 30 days, or since the shop's first sale in them; what was voided does not count.
    pub average_daily_sales: Decimal,
}

impl Store {
    /// Reads a store at one moment.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.snapshot", level = "debug", skip_all)]
    pub async fn snapshot(&self, store_id: Uuid) -> Result<Snapshot, Error> {
        // Before the moment: what is to come with an earlier time cannot be seen in it.
        let settled = self.settled_until().await?;
        let mut transaction = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let here = &mut *transaction;
        let row = sqlx::query!(
            r#"SELECT now() AS "now!", least($2::timestamptz, (
                   SELECT min(e.received_at) FROM outbox_entries o JOIN events e USING (store_id, event_id)
                   WHERE o.store_id = $1 AND o.target = 'projection' AND o.status = 'pending')) AS "from!""#,
            store_id,
            settled
        )
        .fetch_one(&mut *here)
        .await?;
        let all = || PageRequest { after: None, limit: MOST_ROWS };
        let products = products(here, store_id, &ProductFilter::default(), all()).await?;
        let every = PageRequest { after: None, limit: MOST_ROWS };
        let stock = stock(here, store_id, &StockFilter::default(), every).await?;
        let customers = customers(here, store_id, None, all()).await?;
        let mut open_debts = Vec::new();
        let mut truncated = products.has_more || stock.has_more || customers.has_more;
        for status in [DebtStatus::Pending, DebtStatus::Partial] {
            let filter = DebtFilter { status: Some(status), ..DebtFilter::default() };
            let page = PageRequest { after: None, limit: MOST_ROWS };
            let debts = debts(here, store_id, &filter, page).await?;
            truncated |= debts.has_more;
            open_debts.extend(debts.items);
        }
        let open =
            CashSessionFilter { status: Some(CashSessionStatus::Open), ..CashSessionFilter::default() };
        let page = PageRequest { after: None, limit: MOST_ROWS };
        let sessions = cash_sessions(here, store_id, &open, page).await?;
        truncated |= sessions.has_more;
        let top_sellers = top_sellers(here, store_id).await?;
        transaction.commit().await?;
        Ok(Snapshot {
            taken_at: row.now,
            position: PullPosition { received_at: row.from, event_id: String::new() },
            truncated,
            products: products.items,
            stock: stock.items,
            customers: customers.items,
            debts: open_debts,
            cash_sessions: sessions.items,
            top_sellers,
        })
    }
}

async fn top_sellers(connection: &mut PgConnection, store_id: Uuid) -> Result<Vec<TopSeller>, Error> {
    let sellers = sqlx::query_as!(
        TopSeller,
        r#"WITH sold AS (
               SELECT product_id, -sum(qty_delta) AS qty, min(created_at) AS since FROM stock_movements
               WHERE store_id = $1 AND kind IN ('sale', 'void') AND created_at > now() - make_interval(days => $2)
               GROUP BY product_id
           ), days AS (
               SELECT greatest(ceil(extract(epoch FROM now() - min(since)) / 86400), 1) AS days FROM sold
           )
           SELECT s.product_id AS "product_id!", p.name AS "name?",
               coalesce(p.track_inventory, coalesce(p.attributes->>'product_type', '') <> 'prepared'
                   AND coalesce(p.attributes->>'is_recipe', 'false') <> 'true') AS "tracked!",
               round(s.qty / d.days, 3) AS "average_daily_sales!"
           FROM sold s CROSS JOIN days d LEFT JOIN products p ON p.store_id = $1 AND p.id = s.product_id
           WHERE s.qty > 0 ORDER BY s.qty DESC, s.product_id LIMIT $3"#,
        store_id,
        SELLING_DAYS,
        SELLERS
    )
    .fetch_all(connection)
    .await?;
    Ok(sellers)
}
