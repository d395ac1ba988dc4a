//! Fiscal series as they are declared.
//!
//! Never here: who owns one that names no owner (see `velox_protocol::home`).

use crate::{Error, Store};
use serde::Serialize;
use uuid::Uuid;

/// A declared series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FiscalSeriesRow {
    /// The shop.
    pub store_id: Uuid,
    /// The series.
    pub series_id: Uuid,
    /// For people.
    pub name: Option<String>,
    /// What stands before its numbers.
    pub prefix: Option<String>,
    /// Its first number.
    pub next_number: i64,
    /// The node that hands out its ranges; `None`: the store's home.
    pub owner_node: Option<String>,
}

impl Store {
    /// The series of one store or of all, by id.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal_series", level = "debug", skip_all)]
    pub async fn fiscal_series(&self, store_id: Option<Uuid>) -> Result<Vec<FiscalSeriesRow>, Error> {
        let rows = sqlx::query_as!(
            FiscalSeriesRow,
            "SELECT store_id, series_id, name, prefix, next_number, owner_node FROM fiscal_series
             WHERE $1::uuid IS NULL OR store_id = $1 ORDER BY store_id, series_id",
            store_id
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }
}
