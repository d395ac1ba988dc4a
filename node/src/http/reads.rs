//! What may be read of a store: `/stores/{store_id}/…`, by its devices and the admin.
//!
//! A path's store is only compared with the credential's: 403 for another one. To the admin an unknown store
//! is 404, as is a thing that the store does not have. What never will be here: writing, or SQL.
//!
//! To add a list: 1. its rows in `velox_store`, 2. a handler here, 3. its path in the route table below and in
//! [`super::openapi`].

use actix_web::{HttpRequest, Responder, web};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;
use velox_store::{Listed, Page, PageRequest, Store};

use super::{
    auth::StoreCaller,
    error::{Problem, allow_only},
    page::{self, List, Scope},
};

pub mod cash;
pub mod catalogue;
pub mod debts;
pub mod sales;
pub mod stock;

/// Registers the routes.
pub fn configure(app: &mut web::ServiceConfig) {
    let get = |path: &str, route: actix_web::Route| {
        web::resource(format!("/stores/{{store_id}}/{path}")).route(route).default_service(allow_only("GET"))
    };
    app.service(get("sales", web::get().to(sales::list)))
        .service(get("sales/{id}", web::get().to(sales::get)))
        .service(get("debts", web::get().to(debts::list)))
        .service(get("debts/{id}", web::get().to(debts::get)))
        .service(get("products", web::get().to(catalogue::products)))
        .service(get("customers", web::get().to(catalogue::customers)))
        .service(get("cash-sessions", web::get().to(cash::sessions)))
        .service(get("cash-ledger", web::get().to(cash::ledger)))
        .service(get("stock", web::get().to(stock::list)))
        .service(get("stock-movements", web::get().to(stock::movements)));
}

/// A list that was asked for by someone who may read it.
pub(super) struct Listing<Q> {
    pub(super) scope: Scope,
    pub(super) query: Q,
}

impl<Q: DeserializeOwned> Listing<Q> {
    /// Checks the caller, then reads the query.
    pub(super) fn open(
        caller: &StoreCaller,
        request: &HttpRequest,
        list: &'static str,
    ) -> Result<Self, Problem> {
        let store_id = store_of(caller, request)?;
        Ok(Self { scope: Scope { list, store_id }, query: page::query(request)? })
    }

    pub(super) fn page<K: DeserializeOwned>(
        &self,
        limit: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<PageRequest<K>, Problem> {
        self.scope.request(limit, cursor)
    }

    /// The answer. An unknown store has no rows, so that only an empty first page has to ask for it.
    pub(super) async fn answer<T>(&self, store: &Store, page: Page<T>) -> Result<web::Json<List<T>>, Problem>
    where
        T: Listed<Key: Serialize>,
    {
        if page.items.is_empty() && !store.store_exists(self.scope.store_id).await? {
            return Err(Problem::not_found("There is no such store."));
        }
        Ok(web::Json(self.scope.list(page)))
    }
}

/// The path's store, if the caller may read it.
pub(super) fn store_of(caller: &StoreCaller, request: &HttpRequest) -> Result<Uuid, Problem> {
    caller.store(Some(page::path_id(request, "store_id")?))
}

/// The answer with one thing, or 404.
pub(super) fn found<T: Serialize>(row: Option<T>) -> Result<impl Responder, Problem> {
    row.map(web::Json).ok_or_else(|| Problem::not_found("There is no such thing."))
}

#[cfg(test)]
mod tests;
