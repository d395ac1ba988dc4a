//! `products` and `customers`.

use actix_web::{HttpRequest, Responder, web};
use serde::Deserialize;
use utoipa::IntoParams;
use velox_store::{CustomerRow, ProductFilter, ProductRow, Store};

use super::Listing;
use crate::http::{
    auth::StoreCaller,
    error::Problem,
    page::{self, List},
};

/// The query of a list of products.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ProductsQuery {
    /// With this text in name, SKU or barcode, in either case.
    q: Option<String>,
    /// On sale, or not.
    active: Option<bool>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A store's products, by id.
#[utoipa::path(
    get, path = "/stores/{store_id}/products", tag = "reads", operation_id = "list_products",
    params(("store_id" = uuid::Uuid, Path, description = "The store."), ProductsQuery),
    responses((status = 200, description = "A page.", body = List<ProductRow>)),
)]
pub async fn products(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let listing = Listing::<ProductsQuery>::open(&caller, &request, "products")?;
    let query = &listing.query;
    let wanted = listing.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = ProductFilter { text: page::query_text(query.q.clone())?, active: query.active };
    let page = store.read_products(listing.scope.store_id, &filter, wanted).await?;
    listing.answer(&store, page).await
}

/// The query of a list of customers.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CustomersQuery {
    /// With this text in name, document id, phone or e-mail address, in either case.
    q: Option<String>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A store's customers, by id.
#[utoipa::path(
    get, path = "/stores/{store_id}/customers", tag = "reads", operation_id = "list_customers",
    params(("store_id" = uuid::Uuid, Path, description = "The store."), CustomersQuery),
    responses((status = 200, description = "A page.", body = List<CustomerRow>)),
)]
pub async fn customers(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let listing = Listing::<CustomersQuery>::open(&caller, &request, "customers")?;
    let query = &listing.query;
    let wanted = listing.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let text = page::query_text(query.q.clone())?;
    let page = store.read_customers(listing.scope.store_id, text.as_deref(), wanted).await?;
    listing.answer(&store, page).await
}
