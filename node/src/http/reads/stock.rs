//! `stock` and `stock-movements`.

use actix_web::{HttpRequest, Responder, web};
use serde::Deserialize;
use utoipa::IntoParams;
use velox_store::{StockFilter, StockMovementFilter, StockMovementRow, StockRow, Store};

use super::Listing;
use crate::http::{
    auth::StoreCaller,
    error::Problem,
    page::{self, List},
};

/// The query of a list of stock.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StockQuery {
    /// Of this product, a UUID.
    product_id: Option<String>,
    /// `true`: what is below zero, in its warehouse and over all of them.
    negative: Option<bool>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A store's stock, by product, variant and warehouse.
#[utoipa::path(
    get, path = "/stores/{store_id}/stock", tag = "reads", operation_id = "list_stock",
    params(("store_id" = uuid::Uuid, Path, description = "The store."), StockQuery),
    responses((status = 200, description = "A page.", body = List<StockRow>)),
)]
pub async fn list(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let listing = Listing::<StockQuery>::open(&caller, &request, "stock")?;
    let query = &listing.query;
    let wanted = listing.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = StockFilter {
        product_id: page::query_id(query.product_id.as_deref())?,
        negative: query.negative.unwrap_or_default(),
    };
    let page = store.read_stock(listing.scope.store_id, &filter, wanted).await?;
    listing.answer(&store, page).await
}

/// The query of a list of stock movements.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MovementsQuery {
    /// Made at or after: a date (the whole UTC day) or RFC 3339.
    from: Option<String>,
    /// Made at or before: a date (the whole UTC day) or RFC 3339.
    to: Option<String>,
    /// Of this product, a UUID.
    product_id: Option<String>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A store's stock movements, by time.
#[utoipa::path(
    get, path = "/stores/{store_id}/stock-movements", tag = "reads", operation_id = "list_stock_movements",
    params(("store_id" = uuid::Uuid, Path, description = "The store."), MovementsQuery),
    responses((status = 200, description = "A page.", body = List<StockMovementRow>)),
)]
pub async fn movements(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let listing = Listing::<MovementsQuery>::open(&caller, &request, "stock-movements")?;
    let query = &listing.query;
    let wanted = listing.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = StockMovementFilter {
        created: page::time_range(query.from.as_deref(), query.to.as_deref())?,
        product_id: page::query_id(query.product_id.as_deref())?,
    };
    let page = store.read_stock_movements(listing.scope.store_id, &filter, wanted).await?;
    listing.answer(&store, page).await
}
