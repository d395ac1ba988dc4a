//! `POST /sync/heal`, and v1's name for it: missing rows are looked for and made anew, now.
//!
//! Never here: what is missing, and how it is healed (see `velox_actors::orphan_healer`).

use super::auth::{AdminOnly, NodeCaller};
use super::body::read_json;
use super::error::Problem;
use crate::app::AppState;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use std::time::Duration;
use utoipa::ToSchema;
use uuid::Uuid;
use velox_actors::orphan_healer::{Heal, HealReport};
use velox_protocol::event::uuid_of;

/// Longest time for a run that an operator waits for.
const HEAL_LIMIT: Duration = Duration::from_secs(120);
/// Seconds after which an operator may ask again.
const RETRY_AFTER: u32 = 2;

/// Whose rows are looked at.
#[derive(Debug, Deserialize, ToSchema)]
pub struct HealBody {
    /// The shop.
    #[schema(value_type = Uuid)]
    store_id: String,
}

impl HealBody {
    fn store(&self) -> Result<Uuid, Problem> {
        uuid_of(&self.store_id)
            .ok_or_else(|| Problem::bad_request("INVALID_BODY", "store_id must be a UUID."))
    }
}

/// Heals a store for the admin.
///
/// # Errors
/// 400, 401, 403, 404 for an unknown store, 503.
pub async fn heal(
    state: web::Data<AppState>,
    _: AdminOnly,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: HealBody = read_json(&request, payload, &state.gate).await?;
    let store_id = body.store()?;
    if !state.store.store_exists(store_id).await? {
        return Err(Problem::not_found("There is no such store."));
    }
    Ok(HttpResponse::Ok().json(run(&state, store_id).await?))
}

/// The same for a v1 node that serves the store with this one.
///
/// # Errors
/// 400, 401, 403, 503.
pub async fn heal_as_v1(
    state: web::Data<AppState>,
    caller: NodeCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: HealBody = read_json(&request, payload, &state.gate).await?;
    let store_id = body.store()?;
    caller.check_store(store_id)?;
    Ok(HttpResponse::Ok().json(run(&state, store_id).await?))
}

async fn run(state: &AppState, store_id: Uuid) -> Result<HealReport, Problem> {
    match state.healer.ask(Heal { store_id }, HEAL_LIMIT).await {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => {
            tracing::warn!(%store_id, error, "a store was not healed");
            Err(Problem::unavailable("NOT_HEALED", RETRY_AFTER))
        }
        Err(error) => {
            tracing::warn!(%store_id, %error, "the healer does not answer");
            Err(Problem::unavailable("NOT_HEALED", RETRY_AFTER))
        }
    }
}
