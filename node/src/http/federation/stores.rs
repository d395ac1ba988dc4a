//! What a v1 node asks about a whole store: whether it is here, and that its stock be counted anew.
//!
//! **A v1 node deletes its whole store when it is told that it does not exist here**: that is never said.

use crate::app::AppState;
use crate::http::auth::NodeCaller;
use crate::http::body::read_json;
use crate::http::error::Problem;
use crate::http::page;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

/// Which store.
#[derive(Debug, Deserialize)]
struct Which {
    store_id: Option<Uuid>,
}

impl Which {
    fn store(self, caller: &NodeCaller) -> Result<Uuid, Problem> {
        let missing = || Problem::bad_request("STORE_REQUIRED", "The call must name a store.");
        let store_id = self.store_id.ok_or_else(missing)?;
        caller.check_store(store_id)?;
        Ok(store_id)
    }
}

/// `GET store-status`: 200 with `exists: true`, or 404; nothing else is ever said of it.
///
/// # Errors
/// 400, 401, 403 for a store that the node is not configured for, 404, 503.
pub async fn status(
    state: web::Data<AppState>,
    caller: NodeCaller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let store_id = page::query::<Which>(&request)?.store(&caller)?;
    if state.store.store_exists(store_id).await? {
        Ok(HttpResponse::Ok().json(json!({ "exists": true })))
    } else {
        Err(Problem::not_found("This node does not know the store, which says nothing about it."))
    }
}

/// `POST reconcile-inventory-stock`: counts a store's stock anew and tells what was wrong, in v1's shape.
///
/// # Errors
/// 400, 401, 403 for a store that the node is not configured for, 503.
pub async fn reconcile_stock(
    state: web::Data<AppState>,
    caller: NodeCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let store_id = read_json::<Which>(&request, payload, &state.gate).await?.store(&caller)?;
    let recount = state.store.recount_stock(store_id).await?;
    let wrong = recount.updated + recount.inserted + recount.removed;
    if wrong > 0 {
        tracing::warn!(%store_id, ?recount, "the stock was not the sum of its movements");
    }
    let message = match wrong {
        0 => "the stock is the sum of its movements".to_owned(),
        1 => "1 row of the stock was not the sum of its movements and is now".to_owned(),
        _ => format!("{wrong} rows of the stock were not the sum of their movements and are now"),
    };
    Ok(HttpResponse::Ok().json(json!({
        "ok": true,
        "message": message,
        // A movement without a warehouse is kept under the store's default one at once.
        "patchedNullWarehouse": 0,
        "updatedRows": recount.updated,
        "insertedRows": recount.inserted,
        // Here a row without a movement is no row.
        "zeroedRows": recount.removed,
    })))
}
