//! What is declared of stores and fiscal series.

use super::Ids;
use crate::Error;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::standing::{DeclaredStore, SeriesRow};

/// Of these stores the declared ones; and where something stands that no event has said.
pub(crate) async fn stores(
    connection: &mut PgConnection,
    store_ids: &[Uuid],
) -> Result<BTreeMap<Uuid, DeclaredStore>, Error> {
    let rows = sqlx::query!(
        r#"SELECT store_id, coalesce(home_node, '') AS "home_node!", default_warehouse_id,
               coalesce(declared_by, '') AS "declared_by!"
           FROM stores
           WHERE store_id = ANY($1) AND num_nonnulls(home_node, default_warehouse_id, declared_by) > 0"#,
        store_ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let store = DeclaredStore {
                home_node: row.home_node,
                default_warehouse_id: row.default_warehouse_id,
                declared_by: row.declared_by,
            };
            (row.store_id, store)
        })
        .collect())
}

/// Fiscal series.
pub(crate) async fn series(
    connection: &mut PgConnection,
    store_id: Uuid,
    ids: Ids<'_>,
) -> Result<BTreeMap<Uuid, SeriesRow>, Error> {
    let rows = sqlx::query!(
        "SELECT series_id, name, prefix, next_number, owner_node, declared_by
         FROM fiscal_series WHERE store_id = $1 AND ($2::uuid[] IS NULL OR series_id = ANY($2))",
        store_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let series = SeriesRow {
                name: row.name,
                prefix: row.prefix,
                next_number: row.next_number,
                owner_node: row.owner_node,
                declared_by: row.declared_by,
            };
            (row.series_id, series)
        })
        .collect())
}
