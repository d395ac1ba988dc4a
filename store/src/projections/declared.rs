//! Rows of declarations: a store's home and default warehouse, its fiscal series.

use super::diff::Changes;
use crate::Error;
use sqlx::PgConnection;
use uuid::Uuid;
use velox_protocol::standing::{DeclaredStore, SeriesRow};

/// Longest name of a store, in characters, as the node's own callers are bound to it.
const MAX_NAME_CHARS: i32 = 200;

/// The columns of `stores` that come from events. The rest of a row is the node's own: the row stays without a
/// declaration, and a store that nobody has named here, which is called by its id, takes the name that it was declared
/// with.
pub(super) async fn stores(
    connection: &mut PgConnection,
    changes: &Changes<'_, Uuid, DeclaredStore>,
) -> Result<(), Error> {
    let (stores, _) = changes.removed_columns();
    if !stores.is_empty() {
        sqlx::query!(
            "UPDATE stores SET home_node = NULL, default_warehouse_id = NULL, declared_by = NULL
             WHERE store_id = ANY($1)",
            &stores
        )
        .execute(&mut *connection)
        .await?;
    }
    let (stores, _) = changes.written_columns();
    if stores.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO stores (store_id, home_node, default_warehouse_id, declared_by, name)
         SELECT d.store_id, d.home_node, d.default_warehouse_id, d.declared_by,
             coalesce((SELECT left(nullif(e.payload->>'name', ''), $5) FROM effective_events e
                       WHERE e.store_id = d.store_id AND e.event_id = d.declared_by), d.store_id::text)
         FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[])
             AS d(store_id, home_node, default_warehouse_id, declared_by)
         ON CONFLICT (store_id) DO UPDATE SET home_node = EXCLUDED.home_node,
             default_warehouse_id = EXCLUDED.default_warehouse_id, declared_by = EXCLUDED.declared_by,
             name = CASE WHEN stores.name = stores.store_id::text THEN EXCLUDED.name ELSE stores.name END",
        &stores,
        &changes.column(|row| row.home_node.as_str()) as &[&str],
        &changes.column(|row| row.default_warehouse_id) as &[Option<Uuid>],
        &changes.column(|row| row.declared_by.as_str()) as &[&str],
        MAX_NAME_CHARS
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn series(
    connection: &mut PgConnection,
    changes: &Changes<'_, Uuid, SeriesRow>,
) -> Result<(), Error> {
    let (stores, ids) = changes.removed_columns();
    if !ids.is_empty() {
        sqlx::query!(
            "DELETE FROM fiscal_series f USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, series_id)
             WHERE f.store_id = k.store_id AND f.series_id = k.series_id",
            &stores,
            &ids
        )
        .execute(&mut *connection)
        .await?;
    }
    let (stores, ids) = changes.written_columns();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO fiscal_series (store_id, series_id, name, prefix, next_number, owner_node, declared_by)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int8[], $6::text[], $7::text[])
         ON CONFLICT (store_id, series_id) DO UPDATE SET name = EXCLUDED.name, prefix = EXCLUDED.prefix,
             next_number = EXCLUDED.next_number, owner_node = EXCLUDED.owner_node,
             declared_by = EXCLUDED.declared_by",
        &stores,
        &ids,
        &changes.column(|row| row.name.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.prefix.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.next_number),
        &changes.column(|row| row.owner_node.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.declared_by.as_str()) as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(())
}
