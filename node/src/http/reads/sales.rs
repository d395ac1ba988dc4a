//! `sales` and `sales/{id}`.

use actix_web::{HttpRequest, Responder, web};
use serde::Deserialize;
use utoipa::IntoParams;
use velox_protocol::event::normal_id;
use velox_store::{SaleFilter, SaleRow, SaleStatus, Store};

use super::{Listing, found, store_of};
use crate::http::{
    auth::StoreCaller,
    error::Problem,
    page::{self, List},
};

/// The query of a list of sales.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SalesQuery {
    /// Sold at or after: a date (the whole UTC day) or RFC 3339.
    from: Option<String>,
    /// Sold at or before: a date (the whole UTC day) or RFC 3339.
    to: Option<String>,
    /// `open` or `voided`.
    #[param(inline)]
    status: Option<SaleStatus>,
    /// Of this till.
    device_id: Option<String>,
    /// To this customer, a UUID.
    customer_id: Option<String>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A store's sales, without their items, by time of sale.
#[utoipa::path(
    get, path = "/stores/{store_id}/sales", tag = "reads", operation_id = "list_sales",
    params(("store_id" = uuid::Uuid, Path, description = "The store."), SalesQuery),
    responses((status = 200, description = "A page.", body = List<SaleRow>)),
)]
pub async fn list(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let listing = Listing::<SalesQuery>::open(&caller, &request, "sales")?;
    let query = &listing.query;
    let wanted = listing.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = SaleFilter {
        sold: page::time_range(query.from.as_deref(), query.to.as_deref())?,
        status: query.status,
        device_id: page::query_text(query.device_id.as_deref().map(normal_id))?,
        customer_id: page::query_id(query.customer_id.as_deref())?,
    };
    let page = store.read_sales(listing.scope.store_id, &filter, wanted).await?;
    listing.answer(&store, page).await
}

/// A sale with its items.
#[utoipa::path(
    get, path = "/stores/{store_id}/sales/{id}", tag = "reads", operation_id = "get_sale",
    params(
        ("store_id" = uuid::Uuid, Path, description = "The store."),
        ("id" = uuid::Uuid, Path, description = "The sale."),
    ),
    responses((status = 200, description = "The sale; `items` is there.", body = SaleRow)),
)]
pub async fn get(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let store_id = store_of(&caller, &request)?;
    found(store.read_sale(store_id, page::path_id(&request, "id")?).await?)
}
