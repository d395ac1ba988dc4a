//! `GET /sync/snapshot`: what a till takes along before it goes offline.
//!
//! Never here: what is in it (see `velox_store::Snapshot`).

use super::auth::StoreCaller;
use super::error::Problem;
use super::pull;
use crate::app::AppState;
use actix_web::{HttpResponse, web};
use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use velox_store::{CashSessionRow, CustomerRow, DebtRow, ProductRow, StockRow, TopSeller};

/// Whose.
#[derive(Debug, Deserialize)]
pub struct SnapshotQuery {
    store_id: Option<Uuid>,
}

/// A store at one moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct SnapshotAnswer {
    /// The shop.
    pub store_id: Uuid,
    /// When, by the node's database.
    pub taken_at: String,
    /// To pull from: whatever may be missing in the lists comes behind it.
    pub cursor: String,
    /// A list had more than 100,000 rows, of which these are the first.
    pub truncated: bool,
    /// Also those that are not on sale any more.
    pub products: Vec<ProductRow>,
    /// By product, variant and warehouse.
    pub stock: Vec<StockRow>,
    /// All of them.
    pub customers: Vec<CustomerRow>,
    /// What is not paid, or not wholly.
    pub debts: Vec<DebtRow>,
    /// Those that go on.
    pub cash_sessions: Vec<CashSessionRow>,
    /// The 50 best, the best first.
    pub top_sellers: Vec<TopSeller>,
}

/// Answers the store's tables.
///
/// # Errors
/// 400 where the admin names no store, 401, 403, 404, 503.
pub async fn snapshot(
    state: web::Data<AppState>,
    caller: StoreCaller,
    query: web::Query<SnapshotQuery>,
) -> Result<HttpResponse, Problem> {
    let store_id = caller.store(query.store_id)?;
    if !state.store.store_exists(store_id).await? {
        return Err(Problem::not_found("There is no such store."));
    }
    let taken = state.store.snapshot(store_id).await?;
    Ok(HttpResponse::Ok().json(SnapshotAnswer {
        store_id,
        taken_at: taken.taken_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        cursor: pull::cursor(&state, store_id, &taken.position),
        truncated: taken.truncated,
        products: taken.products,
        stock: taken.stock,
        customers: taken.customers,
        debts: taken.debts,
        cash_sessions: taken.cash_sessions,
        top_sellers: taken.top_sellers,
    }))
}
