//! `cash-sessions` and `cash-ledger`.

use actix_web::{HttpRequest, Responder, web};
use serde::Deserialize;
use utoipa::IntoParams;
use velox_store::{
    CashLedgerEntryRow, CashLedgerFilter, CashSessionFilter, CashSessionRow, CashSessionStatus, Store,
};

use super::Listing;
use crate::http::{
    auth::StoreCaller,
    error::Problem,
    page::{self, List},
};

/// The query of a list of cash sessions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SessionsQuery {
    /// Opened at or after: a date (the whole UTC day) or RFC 3339.
    from: Option<String>,
    /// Opened at or before: a date (the whole UTC day) or RFC 3339.
    to: Option<String>,
    /// `open` or `closed`.
    #[param(inline)]
    status: Option<CashSessionStatus>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A store's cash sessions, by opening; by closing where the opening is not known yet.
#[utoipa::path(
    get, path = "/stores/{store_id}/cash-sessions", tag = "reads", operation_id = "list_cash_sessions",
    params(("store_id" = uuid::Uuid, Path, description = "The store."), SessionsQuery),
    responses((status = 200, description = "A page.", body = List<CashSessionRow>)),
)]
pub async fn sessions(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let listing = Listing::<SessionsQuery>::open(&caller, &request, "cash-sessions")?;
    let query = &listing.query;
    let wanted = listing.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = CashSessionFilter {
        opened: page::time_range(query.from.as_deref(), query.to.as_deref())?,
        status: query.status,
    };
    let page = store.read_cash_sessions(listing.scope.store_id, &filter, wanted).await?;
    listing.answer(&store, page).await
}

/// The query of a list of entries of the cash ledger.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LedgerQuery {
    /// Made at or after: a date (the whole UTC day) or RFC 3339.
    from: Option<String>,
    /// Made at or before: a date (the whole UTC day) or RFC 3339.
    to: Option<String>,
    /// Of this cash session, a UUID.
    session_id: Option<String>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A store's cash ledger, by time.
#[utoipa::path(
    get, path = "/stores/{store_id}/cash-ledger", tag = "reads", operation_id = "list_cash_ledger",
    params(("store_id" = uuid::Uuid, Path, description = "The store."), LedgerQuery),
    responses((status = 200, description = "A page.", body = List<CashLedgerEntryRow>)),
)]
pub async fn ledger(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let listing = Listing::<LedgerQuery>::open(&caller, &request, "cash-ledger")?;
    let query = &listing.query;
    let wanted = listing.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = CashLedgerFilter {
        created: page::time_range(query.from.as_deref(), query.to.as_deref())?,
        session_id: page::query_id(query.session_id.as_deref())?,
    };
    let page = store.read_cash_ledger(listing.scope.store_id, &filter, wanted).await?;
    listing.answer(&store, page).await
}
