//! `debts` and `debts/{id}`.

use actix_web::{HttpRequest, Responder, web};
use serde::Deserialize;
use utoipa::IntoParams;
use velox_store::{DebtFilter, DebtRow, DebtStatus, Store};

use super::{Listing, found, store_of};
use crate::http::{
    auth::StoreCaller,
    error::Problem,
    page::{self, List},
};

/// The query of a list of debts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DebtsQuery {
    /// Made at or after: a date (the whole UTC day) or RFC 3339.
    from: Option<String>,
    /// Made at or before: a date (the whole UTC day) or RFC 3339.
    to: Option<String>,
    /// How far they are paid.
    #[param(inline)]
    status: Option<DebtStatus>,
    /// Of this customer, a UUID.
    customer_id: Option<String>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A store's debts, without their payments, by time of making.
#[utoipa::path(
    get, path = "/stores/{store_id}/debts", tag = "reads", operation_id = "list_debts",
    params(("store_id" = uuid::Uuid, Path, description = "The store."), DebtsQuery),
    responses((status = 200, description = "A page.", body = List<DebtRow>)),
)]
pub async fn list(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let listing = Listing::<DebtsQuery>::open(&caller, &request, "debts")?;
    let query = &listing.query;
    let wanted = listing.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = DebtFilter {
        created: page::time_range(query.from.as_deref(), query.to.as_deref())?,
        status: query.status,
        customer_id: page::query_id(query.customer_id.as_deref())?,
    };
    let page = store.read_debts(listing.scope.store_id, &filter, wanted).await?;
    listing.answer(&store, page).await
}

/// A debt with its payments.
#[utoipa::path(
    get, path = "/stores/{store_id}/debts/{id}", tag = "reads", operation_id = "get_debt",
    params(
        ("store_id" = uuid::Uuid, Path, description = "The store."),
        ("id" = uuid::Uuid, Path, description = "The debt."),
    ),
    responses((status = 200, description = "The debt; `payments` is there.", body = DebtRow)),
)]
pub async fn get(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let store_id = store_of(&caller, &request)?;
    found(store.read_debt(store_id, page::path_id(&request, "id")?).await?)
}
