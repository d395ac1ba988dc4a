//! v1's id lists: what this node has of a store in some days, for whoever compares.
//!
//! Never here: how the ids are found (see `velox_store::Store::id_list`).

use super::signed;
use crate::app::AppState;
use crate::http::auth::NodeCaller;
use crate::http::error::Problem;
use crate::http::page;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use serde::Deserialize;
use uuid::Uuid;
use velox_protocol::event::uuid_of;
use velox_protocol::signature::KEY_HEADER;
use velox_protocol::v1::{IdPage, Kind, PAGE};
use velox_store::{Source, TimeRange};

/// As it is written; a wrong value is a 400 that says which.
#[derive(Debug, Deserialize)]
struct Query {
    store_id: Option<String>,
    date_from: Option<String>,
    date_to: Option<String>,
    limit: Option<String>,
    offset: Option<String>,
    source: Option<String>,
}

/// What is asked for.
struct Asked {
    store_id: Uuid,
    range: TimeRange,
    page: (u32, u64),
    source: Source,
}

/// A page of one of the lists, for the admin, a v1 node or a signed peer.
///
/// # Errors
/// 400, 401, 403 for a store that the node is not configured for, 404 for the admin's unknown store, 503.
pub async fn list(
    kind: Kind,
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let caller = caller(&state, &request, payload).await?;
    let Asked { store_id, range, page, source } = asked(page::query(&request)?)?;
    caller.check_store(store_id)?;
    let list = state.store.id_list(store_id, kind, source, range, page).await?;
    // To a node an unknown store is an empty one: it has everything still to bring.
    let is_admin = matches!(caller, NodeCaller::Admin);
    if is_admin && list.total == 0 && !state.store.store_exists(store_id).await? {
        return Err(Problem::not_found("There is no such store."));
    }
    let ids = list.ids.iter().map(Uuid::to_string).collect();
    Ok(HttpResponse::Ok().json(IdPage { total: list.total, ids }))
}

async fn caller(
    state: &AppState,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<NodeCaller, Problem> {
    if request.headers().contains_key(KEY_HEADER) {
        return signed::read(state, request, payload, "application/json")
            .await
            .map(|from| NodeCaller::Node(from.peer));
    }
    NodeCaller::extract(request).await
}

fn asked(query: Query) -> Result<Asked, Problem> {
    let invalid = |detail: &'static str| Problem::bad_request("INVALID_QUERY", detail);
    let store_id = query.store_id.as_deref().filter(|text| !text.is_empty());
    let store_id =
        store_id.ok_or_else(|| Problem::bad_request("STORE_REQUIRED", "The call must name a store."))?;
    let store_id = uuid_of(store_id).ok_or_else(|| invalid("store_id is no UUID."))?;
    let range = page::days(query.date_from.as_deref(), query.date_to.as_deref())?;
    let number = |text: Option<&str>, default: u64| match text {
        None => Some(default),
        Some(text) => text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit())),
    };
    let limit = number(query.limit.as_deref(), u64::from(PAGE))
        .and_then(|limit| u32::try_from(limit).ok())
        .filter(|limit| (1..=PAGE).contains(limit))
        .ok_or_else(|| {
            Problem::bad_request("INVALID_LIMIT", "limit must be a whole number from 1 to 10000.")
        })?;
    let offset = number(query.offset.as_deref(), 0)
        .filter(|offset| i64::try_from(*offset).is_ok())
        .ok_or_else(|| Problem::bad_request("INVALID_OFFSET", "offset must be a whole number, 0 or more."))?;
    let source = match query.source.as_deref() {
        None | Some("tables") => Source::Tables,
        Some("events") => Source::Events,
        Some(_) => return Err(invalid("source must be tables or events.")),
    };
    Ok(Asked { store_id, range, page: (limit, offset), source })
}
