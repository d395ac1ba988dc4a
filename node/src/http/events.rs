//! `GET /sync/events/{event_id}`: the trail of one event.

use super::auth::StoreCaller;
use super::error::Problem;
use super::page;
use super::pull::NOT_FOR_V1;
use crate::app::AppState;
use actix_web::{HttpRequest, Responder, web};
use serde::Deserialize;
use utoipa::IntoParams;
use velox_protocol::event::normal_id;
use velox_store::EventTrail;

/// The query of a trail.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TrailQuery {
    /// The store; needed of the admin alone.
    #[param(value_type = Option<uuid::Uuid>)]
    store_id: Option<String>,
}

/// What this node knows of an event: who wrote it, what became of it, to whom it went.
#[utoipa::path(
    get, path = "/sync/events/{event_id}", tag = "reads", operation_id = "event_trail",
    params(("event_id" = String, Path, description = "The event."), TrailQuery),
    responses((status = 200, description = "Its trail.", body = EventTrail)),
)]
pub async fn trail(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
) -> Result<impl Responder, Problem> {
    let query: TrailQuery = page::query(&request)?;
    let store_id = caller.store(page::query_id(query.store_id.as_deref())?)?;
    let unknown = || Problem::not_found("There is no such event.");
    // An id may be any text, so that a slash in it is written %2F.
    let event_id: String = request.match_info().load().map_err(|_| unknown())?;
    let event_id = normal_id(&event_id);
    // No event has such an id, and the database could not compare it.
    if event_id.contains('\0') {
        return Err(unknown());
    }
    let trail = state.store.event_trail(store_id, &event_id, state.clock.now()).await?;
    let mut trail = trail.ok_or_else(unknown)?;
    if NOT_FOR_V1.contains(&trail.event_type.as_str()) {
        // Positions are those of v1's pulls, which go past these types without giving them.
        trail.pulled_by.clear();
    }
    Ok(web::Json(trail))
}
