//! `/sync/outbox…`, for the admin: what waits to be projected or sent, what is dead and why, and the dead put back.
//!
//! Never here: SQL, projecting, sending.

use super::auth::AdminOnly;
use super::body::read_json;
use super::error::Problem;
use super::page::{self, List, Scope};
use crate::app::AppState;
use actix_web::{HttpRequest, Responder, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use velox_actors::outbox_pump::Wake;
use velox_protocol::catalogue::Entity;
use velox_protocol::event::uuid_of;
use velox_store::{OutboxFilter, OutboxRow, OutboxStats, OutboxStatus, OutboxTarget};

/// Most entries that one call names.
const MAX_IDS: usize = 1_000;

/// The query of the entries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EntriesQuery {
    /// The store.
    #[param(value_type = Uuid, required = true)]
    store_id: Option<String>,
    /// `pending`, `dead` or `processed`; absent: all.
    status: Option<String>,
    /// `projection` or `federation-relay`; absent: both.
    target: Option<String>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The query of the figures.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatsQuery {
    /// Entries of this store; absent: of all.
    #[param(value_type = Option<Uuid>)]
    store_id: Option<String>,
}

/// What is put back: either `ids`, or `status`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Wanted {
    /// The store.
    #[schema(value_type = Uuid)]
    store_id: String,
    /// Entries by their ids, 1000 at most; those that are not dead are passed over.
    ids: Option<Vec<i64>>,
    /// `dead`: all dead entries.
    status: Option<String>,
}

/// What was put back.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequeuedAnswer {
    /// Entries that wait again.
    requeued: u64,
}

/// The entries of a store, by event id.
#[utoipa::path(
    get, path = "/sync/outbox", tag = "admin", operation_id = "outbox_entries", params(EntriesQuery),
    responses(
        (status = 200, description = "A page.", body = List<OutboxRow>),
        (status = 404, description = "There is no such store.", body = super::error::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    state: web::Data<AppState>,
    _: AdminOnly,
    request: HttpRequest,
) -> Result<impl Responder, Problem> {
    let query: EntriesQuery = page::query(&request)?;
    let store_id = page::query_id(query.store_id.as_deref())?.ok_or_else(store_required)?;
    let filter = OutboxFilter {
        status: query.status.as_deref().map(status).transpose()?,
        target: query.target.as_deref().map(target).transpose()?,
    };
    let scope = Scope { list: "outbox", store_id };
    let wanted = scope.request(query.limit.as_deref(), query.cursor.as_deref())?;
    let page = state.store.read_outbox(store_id, filter, wanted).await?;
    if page.items.is_empty() {
        known(&state, store_id).await?;
    }
    Ok(web::Json(scope.list(page)))
}

/// How many entries stand where, how old the oldest is, and what was done lately.
#[utoipa::path(
    get, path = "/sync/outbox/stats", tag = "admin", operation_id = "outbox_stats", params(StatsQuery),
    responses(
        (status = 200, description = "The figures.", body = OutboxStats),
        (status = 404, description = "There is no such store.", body = super::error::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub async fn stats(
    state: web::Data<AppState>,
    _: AdminOnly,
    request: HttpRequest,
) -> Result<impl Responder, Problem> {
    let query: StatsQuery = page::query(&request)?;
    let store_id = page::query_id(query.store_id.as_deref())?;
    if let Some(store_id) = store_id {
        known(&state, store_id).await?;
    }
    Ok(web::Json(state.store.outbox_stats(store_id).await?))
}

/// Puts dead entries back into the queue as if they had never been tried; they are worked off at once.
#[utoipa::path(
    post, path = "/sync/outbox/requeue", tag = "admin", operation_id = "requeue_outbox", request_body = Wanted,
    responses(
        (status = 200, description = "How many.", body = RequeuedAnswer),
        (status = 404, description = "There is no such store.", body = super::error::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub async fn requeue(
    state: web::Data<AppState>,
    _: AdminOnly,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<impl Responder, Problem> {
    let body: Wanted = read_json(&request, payload, &state.gate).await?;
    let invalid = |detail: &'static str| Problem::bad_request("INVALID_BODY", detail);
    let store_id = uuid_of(&body.store_id).ok_or_else(|| invalid("store_id is no UUID."))?;
    let ids = match (body.ids, body.status.as_deref()) {
        (Some(ids), None) if ids.len() > MAX_IDS => {
            return Err(Problem::bad_request("TOO_MANY_IDS", "ids must name 1000 entries at most."));
        }
        (Some(ids), None) => Some(ids),
        (None, Some("dead")) => None,
        (None, Some(_)) => {
            return Err(Problem::bad_request("INVALID_STATUS", "Of a status only dead can be requeued."));
        }
        _ => return Err(invalid("Name either ids, or status.")),
    };
    known(&state, store_id).await?;
    let requeued = state.store.requeue_dead(store_id, ids.as_deref()).await?;
    if requeued.projections > 0 {
        // A full mailbox: the poll looks anyway.
        let _ = state.pump.try_tell(Wake { entities: Entity::ALL.into() });
    }
    let peers: Vec<String> = requeued.peers.into_iter().collect();
    state.federation.wake(&peers);
    let (projections, relays) = (requeued.projections, requeued.relays);
    tracing::info!(%store_id, projections, relays, ?peers, "dead entries are requeued by hand");
    Ok(web::Json(RequeuedAnswer { requeued: projections + relays }))
}

async fn known(state: &AppState, store_id: Uuid) -> Result<(), Problem> {
    if state.store.store_exists(store_id).await? {
        Ok(())
    } else {
        Err(Problem::not_found("There is no such store."))
    }
}

fn store_required() -> Problem {
    Problem::bad_request("STORE_REQUIRED", "The call must name a store.")
}

fn status(name: &str) -> Result<OutboxStatus, Problem> {
    let invalid = || Problem::bad_request("INVALID_STATUS", "status must be pending, dead or processed.");
    OutboxStatus::of(name).ok_or_else(invalid)
}

fn target(name: &str) -> Result<OutboxTarget, Problem> {
    let invalid = || Problem::bad_request("INVALID_TARGET", "target must be projection or federation-relay.");
    OutboxTarget::of(name).ok_or_else(invalid)
}
