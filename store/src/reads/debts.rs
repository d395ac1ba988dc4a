//! Debts and their payments.

use super::{Listed, Page, PageRequest, TimeKey, TimeRange, millis, optional_millis, start};
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use sqlx::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;

/// A debt.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `debts`")]
pub struct DebtRow {
    pub store_id: Uuid,
    pub id: Uuid,
    pub customer_id: Option<Uuid>,
    pub sale_id: Option<Uuid>,
    pub total_amount: Decimal,
    pub remaining_amount: Decimal,
    pub amount_bs: Option<Decimal>,
    pub amount_usd: Option<Decimal>,
    pub overpaid_amount: Decimal,
    /// `pending`, `partial`, `paid` or `cancelled`
    pub status: String,
    pub currency: Option<String>,
    /// Whether it follows from a sale alone, without an event of its own.
    pub derived: bool,
    pub notes: Option<String>,
    #[serde(serialize_with = "optional_millis")]
    pub due_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
    pub created_by: Option<String>,
    #[serde(serialize_with = "millis")]
    pub updated_at: DateTime<Utc>,
    pub event_id: Option<String>,
    /// By time of payment; only of a single debt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<DebtPaymentRow>>)]
    pub payments: Option<Json<Vec<DebtPaymentRow>>>,
}

impl Listed for DebtRow {
    type Key = TimeKey;

    fn key(&self) -> TimeKey {
        TimeKey { at: self.created_at, id: self.id }
    }
}

/// A payment of a debt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `debt_payments`")]
pub struct DebtPaymentRow {
    pub store_id: Uuid,
    pub id: Uuid,
    pub debt_id: Uuid,
    pub amount: Decimal,
    pub amount_bs: Option<Decimal>,
    pub amount_usd: Option<Decimal>,
    pub payment_method: String,
    pub reference: Option<String>,
    #[serde(serialize_with = "millis")]
    pub paid_at: DateTime<Utc>,
    pub paid_by: Option<String>,
    pub notes: Option<String>,
    pub event_id: String,
}

/// How far a debt is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the values of `debts.status`")]
pub enum DebtStatus {
    Pending,
    Partial,
    Paid,
    Cancelled,
}

impl DebtStatus {
    /// As it stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            DebtStatus::Pending => "pending",
            DebtStatus::Partial => "partial",
            DebtStatus::Paid => "paid",
            DebtStatus::Cancelled => "cancelled",
        }
    }
}

/// Which debts are wanted; `None`: all.
#[derive(Debug, Clone, Default)]
pub struct DebtFilter {
    /// When they were made.
    pub created: TimeRange,
    /// How far they are paid.
    pub status: Option<DebtStatus>,
    /// Of this customer.
    pub customer_id: Option<Uuid>,
}

impl Store {
    /// A page of debts without their payments, by time of making.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.debts.list", level = "debug", skip_all)]
    pub async fn read_debts(
        &self,
        store_id: Uuid,
        filter: &DebtFilter,
        page: PageRequest<TimeKey>,
    ) -> Result<Page<DebtRow>, Error> {
        debts(&mut *self.pool.acquire().await?, store_id, filter, page).await
    }

    /// A debt with its payments; one statement, so that the rest and the payments are of the same moment.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.debts.get", level = "debug", skip_all)]
    pub async fn read_debt(&self, store_id: Uuid, id: Uuid) -> Result<Option<DebtRow>, Error> {
        let row = sqlx::query_as!(
            DebtRow,
            // As texts, the decimals keep their digits on the way through JSON.
            r#"SELECT store_id, id, customer_id, sale_id, total_amount, remaining_amount, amount_bs, amount_usd,
                   overpaid_amount, status, currency, derived, notes, due_at, created_at, created_by, updated_at,
                   event_id,
                   (SELECT coalesce(json_agg(p ORDER BY p.paid_at, p.id), '[]') FROM (
                       SELECT store_id, id, debt_id, amount::text, amount_bs::text, amount_usd::text,
                           payment_method, reference, paid_at, paid_by, notes, event_id
                       FROM debt_payments WHERE store_id = $1 AND debt_id = $2
                   ) p) AS "payments: Json<Vec<DebtPaymentRow>>"
               FROM debts WHERE store_id = $1 AND id = $2"#,
            store_id,
            id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row)
    }
}

/// As [`Store::read_debts`].
pub(crate) async fn debts(
    connection: &mut PgConnection,
    store_id: Uuid,
    filter: &DebtFilter,
    page: PageRequest<TimeKey>,
) -> Result<Page<DebtRow>, Error> {
    let after = start(page.after);
    let rows = sqlx::query_as!(
        DebtRow,
        r#"SELECT store_id, id, customer_id, sale_id, total_amount, remaining_amount, amount_bs, amount_usd,
               overpaid_amount, status, currency, derived, notes, due_at, created_at, created_by, updated_at,
               event_id, NULL::json AS "payments: Json<Vec<DebtPaymentRow>>"
           FROM debts
           WHERE store_id = $1 AND (created_at, id) > ($2, $3) AND created_at >= $4 AND created_at < $5
             AND ($6::text IS NULL OR status = $6)
             AND ($7::uuid IS NULL OR customer_id = $7)
           ORDER BY created_at, id LIMIT $8"#,
        store_id,
        after.at,
        after.id,
        filter.created.from,
        filter.created.until,
        filter.status.map(DebtStatus::as_str),
        filter.customer_id,
        page.rows()
    )
    .fetch_all(connection)
    .await?;
    Ok(page.page(rows))
}
