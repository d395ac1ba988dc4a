//! `/chaos/faults`: faults for testers, only on nodes that were started with `--chaos`.

use super::auth::AdminOnly;
use super::body::read_json;
use super::error::Problem;
use crate::app::AppState;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use velox_actors::fault::{Fault, FaultError};

/// `POST`: a new fault for an actor replaces its old one.
///
/// # Errors
/// 400 for an unknown actor or a fault out of bounds, 401, 403.
pub async fn set(
    state: web::Data<AppState>,
    _: AdminOnly,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let fault: Fault = read_json(&request, payload, &state.gate).await?;
    if !state.tree.contains(&fault.actor) {
        return Err(Problem::bad_request("UNKNOWN_ACTOR", "There is no such actor; see /admin/actors."));
    }
    state.faults.set(fault.clone()).map_err(|error| match error {
        FaultError::Disabled => Problem::unknown_route(),
        other => Problem::bad_request("INVALID_FAULT", other.to_string()),
    })?;
    tracing::warn!(actor = fault.actor, "a fault was injected");
    Ok(HttpResponse::Ok().json(fault))
}

/// `GET`: the faults that are set.
///
/// # Errors
/// 401, 403.
pub async fn list(state: web::Data<AppState>, _: AdminOnly) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(json!({ "items": state.faults.list(), "next_cursor": null })))
}

/// `DELETE`: clears all.
///
/// # Errors
/// 401, 403.
pub async fn clear(state: web::Data<AppState>, _: AdminOnly) -> Result<HttpResponse, Problem> {
    state.faults.clear();
    Ok(HttpResponse::Ok().json(json!({ "items": [], "next_cursor": null })))
}
