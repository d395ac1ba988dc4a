//! Stock and the movements that it is the sum of.
//!
//! Movements without a warehouse are kept under the store's id. Once a store has declared a default warehouse,
//! both are read as one, under the declared id; what is stored stays as it was.

use super::{Listed, Page, PageRequest, TimeKey, TimeRange, millis, start};
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

/// The stock of a product's variant in a warehouse.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StockRow {
    /// The shop.
    pub store_id: Uuid,
    /// The product.
    pub product_id: Uuid,
    /// Its variant; the nil UUID: none.
    pub variant_id: Uuid,
    /// The warehouse; the store's id: the default one, while none is declared.
    pub warehouse_id: Uuid,
    /// The sum of the movements there.
    pub stock: Decimal,
    /// The sum over all warehouses, by which a shortage is judged.
    pub total_stock: Decimal,
    /// The product's name, where the product is known.
    pub product_name: Option<String>,
    /// Whether the product's stock is watched.
    pub tracked: bool,
}

/// The place in a list of stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the key")]
pub struct StockKey {
    pub product_id: Uuid,
    pub variant_id: Uuid,
    pub warehouse_id: Uuid,
}

impl Listed for StockRow {
    type Key = StockKey;

    fn key(&self) -> StockKey {
        StockKey { product_id: self.product_id, variant_id: self.variant_id, warehouse_id: self.warehouse_id }
    }
}

/// Which stock is wanted; `None`: all.
#[derive(Debug, Clone, Default)]
pub struct StockFilter {
    /// Of this product.
    pub product_id: Option<Uuid>,
    /// What is below zero, in its warehouse and over all of them: a shelf that lends to another is no shortage.
    pub negative: bool,
}

/// A movement of stock.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `stock_movements`")]
pub struct StockMovementRow {
    pub store_id: Uuid,
    pub id: Uuid,
    pub product_id: Uuid,
    pub variant_id: Uuid,
    pub warehouse_id: Uuid,
    /// `sale`, `void`, `received`, `adjusted` or `delta`
    pub kind: String,
    pub qty_delta: Decimal,
    pub event_id: String,
    pub sale_id: Option<Uuid>,
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
}

impl Listed for StockMovementRow {
    type Key = TimeKey;

    fn key(&self) -> TimeKey {
        TimeKey { at: self.created_at, id: self.id }
    }
}

/// Which movements are wanted; `None`: all.
#[derive(Debug, Clone, Default)]
pub struct StockMovementFilter {
    /// When they were made.
    pub created: TimeRange,
    /// Of this product.
    pub product_id: Option<Uuid>,
}

impl Store {
    /// A page of stock, by product, variant and warehouse.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.stock.list", level = "debug", skip_all)]
    pub async fn read_stock(
        &self,
        store_id: Uuid,
        filter: &StockFilter,
        page: PageRequest<StockKey>,
    ) -> Result<Page<StockRow>, Error> {
        stock(&mut *self.pool.acquire().await?, store_id, filter, page).await
    }

    /// A page of stock movements, by time.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.stock_movements.list", level = "debug", skip_all)]
    pub async fn read_stock_movements(
        &self,
        store_id: Uuid,
        filter: &StockMovementFilter,
        page: PageRequest<TimeKey>,
    ) -> Result<Page<StockMovementRow>, Error> {
        let after = start(page.after);
        let rows = sqlx::query_as!(
            StockMovementRow,
            r#"SELECT m.store_id, m.id, m.product_id, m.variant_id,
                   CASE m.warehouse_id WHEN $1 THEN coalesce(s.default_warehouse_id, $1)
                                       ELSE m.warehouse_id END AS "warehouse_id!",
                   m.kind, m.qty_delta, m.event_id, m.sale_id, m.created_at
               FROM stock_movements m LEFT JOIN stores s USING (store_id)
               WHERE m.store_id = $1 AND (m.created_at, m.id) > ($2, $3)
                 AND m.created_at >= $4 AND m.created_at < $5
                 AND ($6::uuid IS NULL OR m.product_id = $6)
               ORDER BY m.created_at, m.id LIMIT $7"#,
            store_id,
            after.at,
            after.id,
            filter.created.from,
            filter.created.until,
            filter.product_id,
            page.rows()
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(page.page(rows))
    }
}

/// As [`Store::read_stock`].
pub(crate) async fn stock(
    connection: &mut PgConnection,
    store_id: Uuid,
    filter: &StockFilter,
    page: PageRequest<StockKey>,
) -> Result<Page<StockRow>, Error> {
    let rows = sqlx::query_as!(
        StockRow,
        // Tracked: track_inventory where it is given, else what is neither prepared nor made by a recipe.
        r#"WITH merged AS (
               SELECT w.product_id, w.variant_id, sum(w.stock) AS stock,
                   CASE w.warehouse_id WHEN $1 THEN coalesce(s.default_warehouse_id, $1)
                                       ELSE w.warehouse_id END AS warehouse_id
               FROM warehouse_stock w LEFT JOIN stores s USING (store_id)
               WHERE w.store_id = $1 AND ($2::uuid IS NULL OR w.product_id >= $2)
                 AND ($5::uuid IS NULL OR w.product_id = $5)
                 AND (NOT $6 OR w.product_id IN (SELECT n.product_id FROM warehouse_stock n
                                                 WHERE n.store_id = $1 AND n.stock < 0))
               GROUP BY w.product_id, w.variant_id, 4
           ), summed AS (
               SELECT *, sum(stock) OVER (PARTITION BY product_id, variant_id) AS total_stock FROM merged
           )
           SELECT $1 AS "store_id!", s.product_id, s.variant_id, s.warehouse_id AS "warehouse_id!",
               s.stock AS "stock!", s.total_stock AS "total_stock!", p.name AS "product_name?",
               coalesce(p.track_inventory, coalesce(p.attributes->>'product_type', '') <> 'prepared'
                   AND coalesce(p.attributes->>'is_recipe', 'false') <> 'true') AS "tracked!"
           FROM summed s LEFT JOIN products p ON p.store_id = $1 AND p.id = s.product_id
           WHERE ($2::uuid IS NULL OR (s.product_id, s.variant_id, s.warehouse_id) > ($2, $3::uuid, $4::uuid))
             AND (NOT $6 OR (s.stock < 0 AND s.total_stock < 0))
           ORDER BY s.product_id, s.variant_id, s.warehouse_id LIMIT $7"#,
        store_id,
        page.after.map(|key| key.product_id),
        page.after.map(|key| key.variant_id),
        page.after.map(|key| key.warehouse_id),
        filter.product_id,
        filter.negative,
        page.rows()
    )
    .fetch_all(connection)
    .await?;
    Ok(page.page(rows))
}
