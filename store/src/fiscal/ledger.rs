//! The ledger: what has become of each number, and numbers that two sales bear.

use crate::reads::{Listed, Page, PageRequest};
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use uuid::Uuid;
use velox_protocol::fiscal::{Range, Status};

/// A number of a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LedgerRow {
    /// The number.
    pub number: i64,
    /// `held`, `issued`, `voided`, `expired` or `lost`
    pub state: &'static str,
    /// Its range.
    pub range_id: Uuid,
    /// The till that got it; empty: nobody.
    pub device_id: String,
    /// The sales that bear it; more than one that is not voided is a fiscal duplicate.
    pub sales: Vec<Uuid>,
    /// Whether more than one sale that is not voided bears it.
    pub duplicate: bool,
}

/// The place in a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerKey(pub i64);

/// Which numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerFilter {
    /// The shop.
    pub store_id: Uuid,
    /// The series.
    pub series_id: Uuid,
    /// The present time.
    pub now: DateTime<Utc>,
}

/// A number that more than one sale bears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiscalDuplicate {
    /// The shop.
    pub store_id: Uuid,
    /// The series.
    pub series_id: Uuid,
    /// The number.
    pub number: i64,
    /// The sales.
    pub sales: Vec<Uuid>,
}

impl Listed for LedgerRow {
    type Key = LedgerKey;

    fn key(&self) -> LedgerKey {
        LedgerKey(self.number)
    }
}

impl Store {
    /// A page of the numbers that were handed out, by number.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal.ledger", level = "debug", skip_all)]
    pub async fn fiscal_ledger(
        &self,
        filter: LedgerFilter,
        page: PageRequest<LedgerKey>,
    ) -> Result<Page<LedgerRow>, Error> {
        let after = page.after.map_or(-1, |key| key.0);
        let rows = sqlx::query!(
            r#"WITH numbers AS (
                   SELECT r.*, n AS number FROM (SELECT * FROM fiscal_sequence_ranges
                           WHERE store_id = $1 AND series_id = $2 AND range_end > $3
                           ORDER BY range_end LIMIT $4) r,
                       generate_series(greatest(r.range_start, $3 + 1),
                           least(r.range_end, greatest(r.range_start, $3 + 1) + $4)) n
                   ORDER BY n LIMIT $4)
               SELECT n.number AS "number!", n.id, n.device_id, n.range_start, n.range_end, n.used_up_to, n.status,
                   n.granted_at, n.expires_at, n.reported_at IS NOT NULL AS "reported!",
                   coalesce(s.sales, '{}') AS "sales!", coalesce(s.standing, 0) AS "standing!"
               FROM numbers n LEFT JOIN LATERAL (
                   SELECT array_agg(id ORDER BY id) AS sales, count(*) FILTER (WHERE voided_at IS NULL) AS standing
                   FROM sales WHERE store_id = $1 AND series_id = $2
                       AND fiscal_number_of(fiscal_number, invoice_number) = n.number) s ON true
               ORDER BY n.number"#,
            filter.store_id,
            filter.series_id,
            after,
            page.rows()
        )
        .fetch_all(&self.pool)
        .await?;
        let rows = rows.into_iter().map(|row| {
            let range = Range {
                start: row.range_start,
                end: row.range_end,
                used_up_to: row.used_up_to,
                status: Status::of(&row.status).unwrap_or(Status::Expired),
                granted_at: row.granted_at,
                expires_at: row.expires_at,
                reported: row.reported,
            };
            let state = range.state_of(row.number, filter.now, !row.sales.is_empty(), row.standing == 0);
            LedgerRow {
                number: row.number,
                state: state.name(),
                range_id: row.id,
                device_id: row.device_id,
                sales: row.sales,
                duplicate: row.standing > 1,
            }
        });
        Ok(page.page(rows.collect()))
    }

    /// The first number of a series that nobody has got.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal.free_from", level = "debug", skip_all)]
    pub async fn fiscal_free_from(&self, store_id: Uuid, series_id: Uuid) -> Result<Option<i64>, Error> {
        let next = sqlx::query_scalar!(
            r#"SELECT coalesce(c.next_number, s.next_number) AS "next!" FROM fiscal_series s
               LEFT JOIN fiscal_counters c USING (store_id, series_id)
               WHERE s.store_id = $1 AND s.series_id = $2"#,
            store_id,
            series_id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(next)
    }

    /// Numbers that two sales or more bear which are not voided, of which one came lately; `None`: all.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal.duplicates", level = "debug", skip_all)]
    pub async fn fiscal_duplicates(&self, lately: Option<Duration>) -> Result<Vec<FiscalDuplicate>, Error> {
        let rows = sqlx::query_as!(
            FiscalDuplicate,
            r#"WITH recent AS (
                   SELECT DISTINCT s.store_id, s.series_id, fiscal_number_of(s.fiscal_number, s.invoice_number) AS number
                   FROM sales s WHERE $1::float8 IS NULL AND s.series_id IS NOT NULL
                   UNION
                   SELECT s.store_id, s.series_id, fiscal_number_of(s.fiscal_number, s.invoice_number)
                   FROM events e JOIN sales s ON s.store_id = e.store_id AND s.event_id = e.event_id
                   WHERE e.received_at > now() - make_interval(secs => $1) AND s.series_id IS NOT NULL)
               SELECT r.store_id AS "store_id!", r.series_id AS "series_id!", r.number AS "number!",
                   array_agg(s.id ORDER BY s.id) AS "sales!"
               FROM recent r JOIN sales s ON s.store_id = r.store_id AND s.series_id = r.series_id
                   AND fiscal_number_of(s.fiscal_number, s.invoice_number) = r.number
               WHERE s.voided_at IS NULL AND r.number IS NOT NULL
               GROUP BY 1, 2, 3 HAVING count(*) > 1 ORDER BY 1, 2, 3 LIMIT 1000"#,
            lately.map(|lately| lately.as_secs_f64())
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }
}
