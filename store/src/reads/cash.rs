//! Cash sessions and the entries of the cash ledger.

use super::{Listed, Page, PageRequest, TimeKey, TimeRange, millis, optional_millis, start};
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;

/// A cash session.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `cash_sessions`")]
pub struct CashSessionRow {
    pub store_id: Uuid,
    pub id: Uuid,
    pub register_id: Option<String>,
    /// `null` where only the end is known yet.
    #[serde(serialize_with = "optional_millis")]
    pub opened_at: Option<DateTime<Utc>>,
    pub opened_by: Option<String>,
    pub opening_amount: Option<Decimal>,
    pub opening_amount_bs: Option<Decimal>,
    pub opening_amount_usd: Option<Decimal>,
    #[serde(serialize_with = "optional_millis")]
    pub closed_at: Option<DateTime<Utc>>,
    pub closed_by: Option<String>,
    pub closing_amount: Option<Decimal>,
    /// As it was sent.
    #[schema(value_type = Option<Object>)]
    pub expected: Option<Json<Box<RawValue>>>,
    /// As it was sent.
    #[schema(value_type = Option<Object>)]
    pub counted: Option<Json<Box<RawValue>>>,
    pub notes: Option<String>,
    pub opened_event_id: Option<String>,
    pub closed_event_id: Option<String>,
}

impl Listed for CashSessionRow {
    type Key = TimeKey;

    /// By opening, else by closing: the same as the query's order.
    fn key(&self) -> TimeKey {
        TimeKey { at: self.opened_at.or(self.closed_at).unwrap_or(DateTime::UNIX_EPOCH), id: self.id }
    }
}

/// Whether a cash session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CashSessionStatus {
    /// No end is known.
    Open,
    /// It was closed.
    Closed,
}

/// Which cash sessions are wanted; `None`: all.
#[derive(Debug, Clone, Default)]
pub struct CashSessionFilter {
    /// When they were opened; where that is not known, closed.
    pub opened: TimeRange,
    /// Whether they go on.
    pub status: Option<CashSessionStatus>,
}

/// An entry of the cash ledger.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `cash_ledger_entries`")]
pub struct CashLedgerEntryRow {
    pub store_id: Uuid,
    pub id: Uuid,
    pub session_id: Option<Uuid>,
    pub entry_type: String,
    pub amount: Option<Decimal>,
    pub amount_bs: Option<Decimal>,
    pub amount_usd: Option<Decimal>,
    pub currency: Option<String>,
    pub reason: Option<String>,
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
    pub event_id: String,
}

impl Listed for CashLedgerEntryRow {
    type Key = TimeKey;

    fn key(&self) -> TimeKey {
        TimeKey { at: self.created_at, id: self.id }
    }
}

/// Which entries are wanted; `None`: all.
#[derive(Debug, Clone, Default)]
pub struct CashLedgerFilter {
    /// When they were made.
    pub created: TimeRange,
    /// Of this cash session.
    pub session_id: Option<Uuid>,
}

impl Store {
    /// A page of cash sessions, by time of opening.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.cash_sessions.list", level = "debug", skip_all)]
    pub async fn read_cash_sessions(
        &self,
        store_id: Uuid,
        filter: &CashSessionFilter,
        page: PageRequest<TimeKey>,
    ) -> Result<Page<CashSessionRow>, Error> {
        cash_sessions(&mut *self.pool.acquire().await?, store_id, filter, page).await
    }

    /// A page of the cash ledger, by time.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.cash_ledger.list", level = "debug", skip_all)]
    pub async fn read_cash_ledger(
        &self,
        store_id: Uuid,
        filter: &CashLedgerFilter,
        page: PageRequest<TimeKey>,
    ) -> Result<Page<CashLedgerEntryRow>, Error> {
        let after = start(page.after);
        let rows = sqlx::query_as!(
            CashLedgerEntryRow,
            r#"SELECT store_id, id, session_id, entry_type, amount, amount_bs, amount_usd, currency, reason,
                   created_at, event_id
               FROM cash_ledger_entries
               WHERE store_id = $1 AND (created_at, id) > ($2, $3) AND created_at >= $4 AND created_at < $5
                 AND ($6::uuid IS NULL OR session_id = $6)
               ORDER BY created_at, id LIMIT $7"#,
            store_id,
            after.at,
            after.id,
            filter.created.from,
            filter.created.until,
            filter.session_id,
            page.rows()
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(page.page(rows))
    }
}

/// As [`Store::read_cash_sessions`].
pub(crate) async fn cash_sessions(
    connection: &mut PgConnection,
    store_id: Uuid,
    filter: &CashSessionFilter,
    page: PageRequest<TimeKey>,
) -> Result<Page<CashSessionRow>, Error> {
    let after = start(page.after);
    let rows = sqlx::query_as!(
        CashSessionRow,
        r#"SELECT store_id, id, register_id, opened_at, opened_by, opening_amount, opening_amount_bs,
               opening_amount_usd, closed_at, closed_by, closing_amount,
               expected AS "expected: Json<Box<RawValue>>", counted AS "counted: Json<Box<RawValue>>",
               notes, opened_event_id, closed_event_id
           FROM (SELECT *, coalesce(opened_at, closed_at, to_timestamp(0)) AS at FROM cash_sessions) s
           WHERE store_id = $1 AND (at, id) > ($2, $3) AND at >= $4 AND at < $5
             AND ($6::boolean IS NULL OR (closed_at IS NOT NULL) = $6)
           ORDER BY at, id LIMIT $7"#,
        store_id,
        after.at,
        after.id,
        filter.opened.from,
        filter.opened.until,
        filter.status.map(|status| status == CashSessionStatus::Closed),
        page.rows()
    )
    .fetch_all(connection)
    .await?;
    Ok(page.page(rows))
}
