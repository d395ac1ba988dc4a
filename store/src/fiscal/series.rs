//! Declarations of series.

use crate::node_events::{Author, Draft, NodeStamp};
use crate::projections::{self, Family};
use crate::{Error, Store};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::fiscal;

/// A declared series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
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

/// A series to be declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSeries {
    /// The shop; a known one.
    pub store_id: Uuid,
    /// The series.
    pub series_id: Uuid,
    /// For people.
    pub name: String,
    /// What stands before its numbers.
    pub prefix: String,
    /// Its first number.
    pub next_number: i64,
    /// The node that hands out its ranges; `None`: the store's home.
    pub owner_node: Option<String>,
}

/// The answer to a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredSeries {
    /// The series as it stands.
    pub series: FiscalSeriesRow,
    /// Whether it is new.
    pub created: bool,
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

    /// A series, with the store's declared home.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal.series", level = "debug", skip_all)]
    pub async fn fiscal_series_of(
        &self,
        store_id: Uuid,
        series_id: Uuid,
    ) -> Result<Option<(FiscalSeriesRow, Option<String>)>, Error> {
        let Some(series) = one(&mut *self.pool.acquire().await?, store_id, series_id).await? else {
            return Ok(None);
        };
        Ok(Some((series, self.home_of(store_id).await?)))
    }

    /// The declared home of a store.
    ///
    /// # Errors
    /// The database's.
    pub async fn home_of(&self, store_id: Uuid) -> Result<Option<String>, Error> {
        let home = sqlx::query_scalar!("SELECT home_node FROM stores WHERE store_id = $1", store_id)
            .fetch_optional(&self.pool)
            .await?;
        Ok(home.flatten())
    }

    /// Declares a series by an event of the node. A known one stays as it is.
    ///
    /// # Errors
    /// The database's; then nothing is written, or the outcome is unknown.
    #[tracing::instrument(name = "db.fiscal.declare", level = "debug", skip_all)]
    pub async fn declare_series(&self, new: &NewSeries, stamp: &NodeStamp) -> Result<DeclaredSeries, Error> {
        let declared = self.try_declare(new, stamp).await;
        if declared.as_ref().is_err_and(Error::is_read_only) {
            self.renew_sessions(&self.pool).await;
        }
        declared
    }

    async fn try_declare(&self, new: &NewSeries, stamp: &NodeStamp) -> Result<DeclaredSeries, Error> {
        let mut transaction = self.begin_durable().await?;
        // Of two who declare a series the second sees the first.
        projections::lock(&mut transaction, Family::Linked, [new.series_id].into()).await?;
        let known = one(&mut transaction, new.store_id, new.series_id).await?;
        if let Some(series) = known {
            return Ok(DeclaredSeries { series, created: false });
        }
        let series_id = new.series_id.to_string();
        let owner = new.owner_node.as_deref();
        let payload = fiscal::declaration(&series_id, &new.name, &new.prefix, new.next_number, owner);
        let author = Author::next(&mut transaction, new.store_id).await?;
        let draft =
            Draft { event_type: "FiscalSeriesDeclared", payload: &payload, clock: VectorClock::default() };
        if let Err(refused) = author.write(&mut transaction, draft, stamp, &self.relays).await? {
            return Err(Error::Inconsistent { table: "events", what: refused });
        }
        projections::project_own(&mut transaction, new.store_id, &stamp.event_id.to_string()).await?;
        let series = one(&mut transaction, new.store_id, new.series_id).await?.ok_or_else(|| {
            Error::Inconsistent { table: "fiscal_series", what: "a declared series is not there".to_owned() }
        })?;
        transaction.commit().await?;
        Ok(DeclaredSeries { series, created: true })
    }
}

/// A series by its id.
pub(super) async fn one(
    connection: &mut PgConnection,
    store_id: Uuid,
    series_id: Uuid,
) -> Result<Option<FiscalSeriesRow>, Error> {
    let row = sqlx::query_as!(
        FiscalSeriesRow,
        "SELECT store_id, series_id, name, prefix, next_number, owner_node FROM fiscal_series
         WHERE store_id = $1 AND series_id = $2",
        store_id,
        series_id
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}
