//! The read tables, read back into the rows that events make, so that both can be compared.
//!
//! Never here: what the rows should be.

mod declared;
mod entities;
mod linked;

pub(crate) use declared::{series, stores};
pub(crate) use linked::{debts, ledger, movements, payments, sales};

use crate::Error;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::fold::{Mark, Tables};

/// Which rows of a store's table: those with these ids; `None`: all.
pub(crate) type Ids<'a> = Option<&'a [Uuid]>;

fn foreign(table: &'static str, what: String) -> Error {
    Error::Inconsistent { table, what }
}

/// All read tables of a store.
pub(crate) async fn tables(connection: &mut PgConnection, store_id: Uuid) -> Result<Tables, Error> {
    let mut exceptions = BTreeMap::new();
    for (event, (status, reason)) in self::exceptions(connection, store_id, None).await? {
        let mark = match status.as_str() {
            "waiting" => Mark::Waiting(reason),
            "absorbed" => Mark::Absorbed(reason),
            "skipped" => Mark::Skipped,
            _ => Mark::Failed(reason),
        };
        exceptions.insert(event, mark);
    }
    Ok(Tables {
        sales: sales(connection, store_id, None).await?,
        debts: debts(connection, store_id, None).await?,
        payments: payments(connection, store_id, None).await?,
        ledger: ledger(connection, store_id, None).await?,
        movements: movements(connection, store_id, None).await?,
        stock: linked::stock(connection, store_id).await?,
        products: entities::products(connection, store_id).await?,
        customers: entities::customers(connection, store_id).await?,
        sessions: entities::sessions(connection, store_id).await?,
        stores: stores(connection, &[store_id]).await?,
        series: series(connection, store_id, None).await?,
        conflicts: entities::conflicts(connection, store_id).await?,
        exceptions,
    })
}

/// Exceptions: event id -> status and reason.
pub(crate) async fn exceptions(
    connection: &mut PgConnection,
    store_id: Uuid,
    event_ids: Option<&[String]>,
) -> Result<BTreeMap<String, (String, String)>, Error> {
    let rows = sqlx::query!(
        r#"SELECT event_id, status, coalesce(reason, '') AS "reason!"
           FROM event_exceptions WHERE store_id = $1 AND ($2::text[] IS NULL OR event_id = ANY($2))"#,
        store_id,
        event_ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.event_id, (row.status, row.reason))).collect())
}
