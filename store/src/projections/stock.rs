//! Stock movements and the sums over them: `warehouse_stock.stock = Σ stock_movements.qty_delta`.

use super::diff::Changes;
use crate::Error;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use velox_protocol::standing::{MovementRow, Rows, StockKey};

pub(super) async fn movements(
    connection: &mut PgConnection,
    before: &BTreeMap<Uuid, Rows>,
    changes: &Changes<'_, Uuid, MovementRow>,
) -> Result<(), Error> {
    if changes.written.is_empty() && changes.removed.is_empty() {
        return Ok(());
    }
    let mut deltas: BTreeMap<(Uuid, StockKey), Decimal> = BTreeMap::new();
    let mut left: Vec<(Uuid, StockKey)> = Vec::new();
    let old = |store: &Uuid, id: &Uuid| before[store].movements.get(id);
    let gone = changes.removed.iter().map(|(store, id)| (store, *id));
    let replaced = changes.written.iter().map(|(store, id, _)| (store, *id));
    for (store, id) in gone.chain(replaced) {
        if let Some(row) = old(store, id) {
            *deltas.entry((*store, row.key)).or_default() -= row.qty_delta;
            left.push((*store, row.key));
        }
    }
    for (store, _, row) in &changes.written {
        *deltas.entry((*store, row.key)).or_default() += row.qty_delta;
    }
    delete(connection, changes).await?;
    write(connection, changes, &deltas).await?;
    drop_empty(connection, &left).await
}

async fn delete(
    connection: &mut PgConnection,
    changes: &Changes<'_, Uuid, MovementRow>,
) -> Result<(), Error> {
    let (stores, ids) = changes.removed_columns();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "DELETE FROM stock_movements m USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
         WHERE m.store_id = k.store_id AND m.id = k.id",
        &stores,
        &ids
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The movements and what they add to the stock, in one round trip.
async fn write(
    connection: &mut PgConnection,
    changes: &Changes<'_, Uuid, MovementRow>,
    deltas: &BTreeMap<(Uuid, StockKey), Decimal>,
) -> Result<(), Error> {
    let (stores, ids) = changes.written_columns();
    let keys: Vec<&(Uuid, StockKey)> = deltas.keys().collect();
    sqlx::query!(
        "WITH moved AS (
             INSERT INTO stock_movements (store_id, id, product_id, variant_id, warehouse_id, kind, qty_delta, event_id,
                 sale_id, created_at)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[],
                 $7::numeric[], $8::text[], $9::uuid[], $10::timestamptz[])
             ON CONFLICT (store_id, id) DO UPDATE
             SET product_id = EXCLUDED.product_id, variant_id = EXCLUDED.variant_id,
                 warehouse_id = EXCLUDED.warehouse_id, kind = EXCLUDED.kind, qty_delta = EXCLUDED.qty_delta,
                 event_id = EXCLUDED.event_id, sale_id = EXCLUDED.sale_id, created_at = EXCLUDED.created_at
         )
         INSERT INTO warehouse_stock (store_id, product_id, variant_id, warehouse_id, stock)
         SELECT * FROM unnest($11::uuid[], $12::uuid[], $13::uuid[], $14::uuid[], $15::numeric[])
         ON CONFLICT (store_id, product_id, variant_id, warehouse_id) DO UPDATE
         SET stock = warehouse_stock.stock + EXCLUDED.stock",
        &stores,
        &ids,
        &changes.column(|row| row.key.product_id),
        &changes.column(|row| row.key.variant_id),
        &changes.column(|row| row.key.warehouse_id),
        &changes.column(|row| row.kind) as &[&str],
        &changes.column(|row| row.qty_delta),
        &changes.column(|row| row.event_id.as_str()) as &[&str],
        &changes.column(|row| row.sale_id) as &[Option<Uuid>],
        &changes.column(|row| row.created_at),
        &keys.iter().map(|(store, _)| *store).collect::<Vec<_>>(),
        &keys.iter().map(|(_, key)| key.product_id).collect::<Vec<_>>(),
        &keys.iter().map(|(_, key)| key.variant_id).collect::<Vec<_>>(),
        &keys.iter().map(|(_, key)| key.warehouse_id).collect::<Vec<_>>(),
        &deltas.values().copied().collect::<Vec<_>>()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A stock row exists iff a movement of its key stands.
async fn drop_empty(connection: &mut PgConnection, left: &[(Uuid, StockKey)]) -> Result<(), Error> {
    if left.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "DELETE FROM warehouse_stock w
         USING unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[]) AS k(store_id, product_id, variant_id, warehouse_id)
         WHERE w.store_id = k.store_id AND w.product_id = k.product_id AND w.variant_id = k.variant_id
           AND w.warehouse_id = k.warehouse_id
           AND NOT EXISTS (SELECT 1 FROM stock_movements m
               WHERE m.store_id = k.store_id AND m.product_id = k.product_id AND m.variant_id = k.variant_id
                 AND m.warehouse_id = k.warehouse_id)",
        &left.iter().map(|(store, _)| *store).collect::<Vec<_>>(),
        &left.iter().map(|(_, key)| key.product_id).collect::<Vec<_>>(),
        &left.iter().map(|(_, key)| key.variant_id).collect::<Vec<_>>(),
        &left.iter().map(|(_, key)| key.warehouse_id).collect::<Vec<_>>()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets the stock of these keys to the sum of their movements.
pub(super) async fn recount(
    connection: &mut PgConnection,
    store_id: Uuid,
    keys: &BTreeSet<StockKey>,
) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let products: Vec<Uuid> = keys.iter().map(|key| key.product_id).collect();
    let variants: Vec<Uuid> = keys.iter().map(|key| key.variant_id).collect();
    let warehouses: Vec<Uuid> = keys.iter().map(|key| key.warehouse_id).collect();
    sqlx::query!(
        "WITH counted AS (
             SELECT k.product_id, k.variant_id, k.warehouse_id, (
                 SELECT sum(m.qty_delta) FROM stock_movements m
                 WHERE m.store_id = $1 AND m.product_id = k.product_id AND m.variant_id = k.variant_id
                   AND m.warehouse_id = k.warehouse_id) AS stock
             FROM unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS k(product_id, variant_id, warehouse_id)
         ), gone AS (
             DELETE FROM warehouse_stock w USING counted c
             WHERE c.stock IS NULL AND w.store_id = $1 AND w.product_id = c.product_id
               AND w.variant_id = c.variant_id AND w.warehouse_id = c.warehouse_id
         )
         INSERT INTO warehouse_stock (store_id, product_id, variant_id, warehouse_id, stock)
         SELECT $1, product_id, variant_id, warehouse_id, stock FROM counted WHERE stock IS NOT NULL
         ON CONFLICT (store_id, product_id, variant_id, warehouse_id) DO UPDATE SET stock = EXCLUDED.stock
         WHERE warehouse_stock.stock <> EXCLUDED.stock",
        store_id,
        &products,
        &variants,
        &warehouses
    )
    .execute(connection)
    .await?;
    Ok(())
}
