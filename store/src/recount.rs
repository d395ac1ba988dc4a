//! The stock of a shop, counted anew from its movements.
//!
//! Never here: the movements themselves (see `crate::projections` and `crate::rebuild`).

use crate::projections::{self, Family};
use crate::{Error, Store};
use uuid::Uuid;

/// What was wrong, and is right now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StockRecount {
    /// Rows with another stock than the sum of their movements.
    pub updated: u64,
    /// Rows that were missing.
    pub inserted: u64,
    /// Rows without a movement, which are gone.
    pub removed: u64,
}

impl Store {
    /// Counts a shop's stock anew: a row exists iff a movement of its key stands, and is the sum of them (01, rule 7).
    /// Projections of the shop wait meanwhile.
    ///
    /// # Errors
    /// The database's; then nothing has changed.
    #[tracing::instrument(name = "db.recount_stock", level = "debug", skip_all)]
    pub async fn recount_stock(&self, store_id: Uuid) -> Result<StockRecount, Error> {
        let mut transaction = self.pool.begin().await?;
        projections::lock(&mut transaction, Family::Linked, [store_id].into()).await?;
        let done = sqlx::query!(
            r#"WITH counted AS (
                   SELECT product_id, variant_id, warehouse_id, sum(qty_delta) AS stock FROM stock_movements
                   WHERE store_id = $1 GROUP BY 1, 2, 3
               ), updated AS (
                   UPDATE warehouse_stock w SET stock = c.stock FROM counted c
                   WHERE w.store_id = $1 AND w.product_id = c.product_id AND w.variant_id = c.variant_id
                     AND w.warehouse_id = c.warehouse_id AND w.stock <> c.stock
                   RETURNING 1
               ), inserted AS (
                   INSERT INTO warehouse_stock (store_id, product_id, variant_id, warehouse_id, stock)
                   SELECT $1, product_id, variant_id, warehouse_id, stock FROM counted c
                   WHERE NOT EXISTS (SELECT 1 FROM warehouse_stock w
                       WHERE w.store_id = $1 AND w.product_id = c.product_id AND w.variant_id = c.variant_id
                         AND w.warehouse_id = c.warehouse_id)
                   RETURNING 1
               ), removed AS (
                   DELETE FROM warehouse_stock w
                   WHERE w.store_id = $1 AND NOT EXISTS (SELECT 1 FROM counted c
                       WHERE c.product_id = w.product_id AND c.variant_id = w.variant_id
                         AND c.warehouse_id = w.warehouse_id)
                   RETURNING 1
               )
               SELECT (SELECT count(*) FROM updated) AS "updated!", (SELECT count(*) FROM inserted) AS "inserted!",
                   (SELECT count(*) FROM removed) AS "removed!""#,
            store_id
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let count = |rows: i64| u64::try_from(rows).unwrap_or(0);
        Ok(StockRecount {
            updated: count(done.updated),
            inserted: count(done.inserted),
            removed: count(done.removed),
        })
    }
}
