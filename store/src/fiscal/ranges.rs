//! Ranges as they are read.

use crate::reads::{Listed, Page, PageRequest, TimeKey, millis, optional_millis, start};
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;
use velox_protocol::fiscal::{Range, Status};

/// A range of numbers that a device has, or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FiscalRangeRow {
    /// The range.
    pub id: Uuid,
    /// The shop.
    pub store_id: Uuid,
    /// The series.
    pub series_id: Uuid,
    /// The till; empty: nobody's, numbers that were passed over after a restore.
    pub device_id: String,
    /// Its first number.
    pub range_start: i64,
    /// Its last number.
    pub range_end: i64,
    /// The last one that is known to be used; `range_start - 1`: none.
    pub used_up_to: i64,
    /// `active`, `exhausted` or `expired`
    pub status: String,
    /// When it was granted.
    #[serde(serialize_with = "millis")]
    pub granted_at: DateTime<Utc>,
    /// From when on its numbers are not to be used.
    #[serde(serialize_with = "millis")]
    pub expires_at: DateTime<Utc>,
    /// When the device last told how far it is.
    #[serde(serialize_with = "optional_millis")]
    pub reported_at: Option<DateTime<Utc>>,
}

/// Which ranges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FiscalRangeFilter<'a> {
    /// Of this series.
    pub series_id: Option<Uuid>,
    /// Of this device.
    pub device_id: Option<&'a str>,
}

impl FiscalRangeRow {
    /// The range as decisions see it.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] for a status that this version does not know.
    pub fn range(&self) -> Result<Range, Error> {
        let status = Status::of(&self.status).ok_or_else(|| Error::Inconsistent {
            table: "fiscal_sequence_ranges",
            what: format!("status {}", self.status),
        })?;
        Ok(Range {
            start: self.range_start,
            end: self.range_end,
            used_up_to: self.used_up_to,
            status,
            granted_at: self.granted_at,
            expires_at: self.expires_at,
            reported: self.reported_at.is_some(),
        })
    }
}

impl Listed for FiscalRangeRow {
    type Key = TimeKey;

    fn key(&self) -> TimeKey {
        TimeKey { at: self.granted_at, id: self.id }
    }
}

impl Store {
    /// A range by its id.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal.range", level = "debug", skip_all)]
    pub async fn fiscal_range(&self, store_id: Uuid, id: Uuid) -> Result<Option<FiscalRangeRow>, Error> {
        by_id(&mut *self.pool.acquire().await?, store_id, id).await
    }

    /// The range that a device may use now.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal.active_range", level = "debug", skip_all)]
    pub async fn active_fiscal_range(
        &self,
        store_id: Uuid,
        series_id: Uuid,
        device_id: &str,
    ) -> Result<Option<FiscalRangeRow>, Error> {
        active(&mut *self.pool.acquire().await?, store_id, series_id, device_id).await
    }

    /// A page of ranges, by the time of their grant.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal.ranges", level = "debug", skip_all)]
    pub async fn fiscal_ranges(
        &self,
        store_id: Uuid,
        filter: FiscalRangeFilter<'_>,
        page: PageRequest<TimeKey>,
    ) -> Result<Page<FiscalRangeRow>, Error> {
        let after = start(page.after);
        let rows = sqlx::query_as!(
            FiscalRangeRow,
            "SELECT id, store_id, series_id, device_id, range_start, range_end, used_up_to, status, granted_at,
                 expires_at, reported_at
             FROM fiscal_sequence_ranges
             WHERE store_id = $1 AND (granted_at, id) > ($2, $3) AND ($4::uuid IS NULL OR series_id = $4)
                 AND ($5::text IS NULL OR device_id = $5)
             ORDER BY granted_at, id LIMIT $6",
            store_id,
            after.at,
            after.id,
            filter.series_id,
            filter.device_id,
            page.rows()
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(page.page(rows))
    }

    /// Closes the ranges whose time is over; how many.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal.reclaim", level = "debug", skip_all)]
    pub async fn reclaim_fiscal_ranges(&self, now: DateTime<Utc>) -> Result<u64, Error> {
        let done = sqlx::query!(
            "UPDATE fiscal_sequence_ranges SET status = 'expired' WHERE status = 'active' AND expires_at <= $1",
            now
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

pub(super) async fn by_id(
    connection: &mut PgConnection,
    store_id: Uuid,
    id: Uuid,
) -> Result<Option<FiscalRangeRow>, Error> {
    let row = sqlx::query_as!(
        FiscalRangeRow,
        "SELECT id, store_id, series_id, device_id, range_start, range_end, used_up_to, status, granted_at,
             expires_at, reported_at
         FROM fiscal_sequence_ranges WHERE store_id = $1 AND id = $2",
        store_id,
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// The range of a device that is not closed; its time may be over.
pub(super) async fn active(
    connection: &mut PgConnection,
    store_id: Uuid,
    series_id: Uuid,
    device_id: &str,
) -> Result<Option<FiscalRangeRow>, Error> {
    let row = sqlx::query_as!(
        FiscalRangeRow,
        "SELECT id, store_id, series_id, device_id, range_start, range_end, used_up_to, status, granted_at,
             expires_at, reported_at
         FROM fiscal_sequence_ranges
         WHERE store_id = $1 AND series_id = $2 AND device_id = $3 AND status = 'active'",
        store_id,
        series_id,
        device_id
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}
