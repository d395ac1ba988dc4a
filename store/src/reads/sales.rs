//! Sales and their items.

use super::{Listed, Page, PageRequest, TimeKey, TimeRange, millis, optional_millis, start};
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;

/// A sale.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `sales`")]
pub struct SaleRow {
    pub store_id: Uuid,
    pub id: Uuid,
    pub device_id: String,
    pub session_id: Option<Uuid>,
    pub customer_id: Option<Uuid>,
    pub warehouse_id: Option<Uuid>,
    pub currency: Option<String>,
    pub exchange_rate: Option<Decimal>,
    pub total: Option<Decimal>,
    pub total_bs: Option<Decimal>,
    pub total_usd: Option<Decimal>,
    pub payment_method: Option<String>,
    pub series_id: Option<Uuid>,
    pub invoice_number: Option<String>,
    pub fiscal_number: Option<String>,
    #[serde(serialize_with = "millis")]
    pub sold_at: DateTime<Utc>,
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
    pub created_by: Option<String>,
    #[serde(serialize_with = "optional_millis")]
    pub voided_at: Option<DateTime<Utc>>,
    pub voided_by: Option<String>,
    pub void_reason: Option<String>,
    pub void_event_id: Option<String>,
    pub note: Option<String>,
    pub event_id: String,
    /// By line; only of a single sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<SaleItemRow>>)]
    pub items: Option<Json<Vec<SaleItemRow>>>,
}

impl Listed for SaleRow {
    type Key = TimeKey;

    fn key(&self) -> TimeKey {
        TimeKey { at: self.sold_at, id: self.id }
    }
}

/// A line of a sale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `sale_items`")]
pub struct SaleItemRow {
    pub store_id: Uuid,
    pub sale_id: Uuid,
    pub line_no: i32,
    pub product_id: Uuid,
    pub variant_id: Option<Uuid>,
    pub name: Option<String>,
    pub qty: Decimal,
    pub unit_price: Option<Decimal>,
    pub unit_price_bs: Option<Decimal>,
    pub unit_price_usd: Option<Decimal>,
    pub discount_bs: Option<Decimal>,
    pub discount_usd: Option<Decimal>,
}

/// What became of a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SaleStatus {
    /// It stands.
    Open,
    /// It was voided.
    Voided,
}

/// Which sales are wanted; `None`: all.
#[derive(Debug, Clone, Default)]
pub struct SaleFilter {
    /// When they were sold.
    pub sold: TimeRange,
    /// Voided or not.
    pub status: Option<SaleStatus>,
    /// Of this till.
    pub device_id: Option<String>,
    /// To this customer.
    pub customer_id: Option<Uuid>,
}

impl Store {
    /// A page of sales without their items, by time of sale.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.sales.list", level = "debug", skip_all)]
    pub async fn read_sales(
        &self,
        store_id: Uuid,
        filter: &SaleFilter,
        page: PageRequest<TimeKey>,
    ) -> Result<Page<SaleRow>, Error> {
        let after = start(page.after);
        let rows = sqlx::query_as!(
            SaleRow,
            r#"SELECT store_id, id, device_id, session_id, customer_id, warehouse_id, currency, exchange_rate, total,
                   total_bs, total_usd, payment_method, series_id, invoice_number, fiscal_number, sold_at, created_at,
                   created_by, voided_at, voided_by, void_reason, void_event_id, note, event_id,
                   NULL::json AS "items: Json<Vec<SaleItemRow>>"
               FROM sales
               WHERE store_id = $1 AND (sold_at, id) > ($2, $3) AND sold_at >= $4 AND sold_at < $5
                 AND ($6::boolean IS NULL OR (voided_at IS NOT NULL) = $6)
                 AND ($7::text IS NULL OR device_id = $7)
                 AND ($8::uuid IS NULL OR customer_id = $8)
               ORDER BY sold_at, id LIMIT $9"#,
            store_id,
            after.at,
            after.id,
            filter.sold.from,
            filter.sold.until,
            filter.status.map(|status| status == SaleStatus::Voided),
            filter.device_id.as_deref(),
            filter.customer_id,
            page.rows()
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(page.page(rows))
    }

    /// A sale with its items; one statement, so that both are of the same moment.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.sales.get", level = "debug", skip_all)]
    pub async fn read_sale(&self, store_id: Uuid, id: Uuid) -> Result<Option<SaleRow>, Error> {
        let row = sqlx::query_as!(
            SaleRow,
            // As texts, the decimals keep their digits on the way through JSON.
            r#"SELECT store_id, id, device_id, session_id, customer_id, warehouse_id, currency, exchange_rate, total,
                   total_bs, total_usd, payment_method, series_id, invoice_number, fiscal_number, sold_at, created_at,
                   created_by, voided_at, voided_by, void_reason, void_event_id, note, event_id,
                   (SELECT coalesce(json_agg(i ORDER BY i.line_no), '[]') FROM (
                       SELECT store_id, sale_id, line_no, product_id, variant_id, name, qty::text,
                           unit_price::text, unit_price_bs::text, unit_price_usd::text,
                           discount_bs::text, discount_usd::text
                       FROM sale_items WHERE store_id = $1 AND sale_id = $2
                   ) i) AS "items: Json<Vec<SaleItemRow>>"
               FROM sales WHERE store_id = $1 AND id = $2"#,
            store_id,
            id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row)
    }
}
