//! `/sync/conflicts/…`: the log of concurrent edits, the ones that a person has to decide, and the decision; and
//! v1's `POST /sync/resolve-conflict`.
//!
//! A decision is an event of the node, so that it reaches every till and node. Never here: what a conflict is, or
//! what a decision says (see `velox_protocol`).

use super::auth::{Caller, Role, StoreCaller};
use super::body::read_json;
use super::error::Problem;
use super::page::{self, List, Scope};
use super::reads::Listing;
use super::trace::trace_parent;
use crate::app::AppState;
use crate::clock::fresh_event_id;
use actix_web::{HttpRequest, HttpResponse, Responder, web};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::IntoParams;
use uuid::Uuid;
use velox_protocol::event::{normal_id, uuid_of};
use velox_protocol::resolution::Side;
use velox_store::{
    Actor, AuditFilter, AuditRow, Choice, NodeStamp, OpenConflictRow, Resolved, Store, Strategy,
};

/// The query of the log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// The store; needed of the admin alone.
    #[param(value_type = Option<Uuid>)]
    store_id: Option<String>,
    /// Met at or after: a date (the whole UTC day) or RFC 3339.
    from: Option<String>,
    /// Met at or before: a date (the whole UTC day) or RFC 3339.
    to: Option<String>,
    /// How it was or will be decided.
    #[param(inline)]
    strategy: Option<Strategy>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The query of the open conflicts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UnresolvedQuery {
    /// The store; needed of the admin alone.
    #[param(value_type = Option<Uuid>)]
    store_id: Option<String>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A decision.
#[derive(Debug, Deserialize)]
struct Decision {
    store_id: Option<String>,
    value: Option<Box<RawValue>>,
}

/// A decision as v1's tills send it.
#[derive(Debug, Deserialize)]
struct V1Decision {
    store_id: Option<String>,
    conflict_id: Option<String>,
    resolution: Option<String>,
}

/// The log of concurrent edits, by the time at which this node met them.
#[utoipa::path(
    get, path = "/sync/conflicts/audit", tag = "reads", operation_id = "conflict_audit", params(AuditQuery),
    responses((status = 200, description = "A page.", body = List<AuditRow>)),
)]
pub async fn audit(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let query: AuditQuery = page::query(&request)?;
    let store_id = caller.store(page::query_id(query.store_id.as_deref())?)?;
    let listing = Listing { scope: Scope { list: "conflicts/audit", store_id }, query };
    let query = &listing.query;
    let wanted = listing.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = AuditFilter {
        detected: page::time_range(query.from.as_deref(), query.to.as_deref())?,
        strategy: query.strategy,
    };
    let page = store.read_conflict_audit(store_id, &filter, wanted).await?;
    listing.answer(&store, page).await
}

/// The conflicts that a person has to decide, by the time of their latest version.
#[utoipa::path(
    get, path = "/sync/conflicts/unresolved", tag = "reads", operation_id = "unresolved_conflicts",
    params(UnresolvedQuery),
    responses((status = 200, description = "A page.", body = List<OpenConflictRow>)),
)]
pub async fn unresolved(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let query: UnresolvedQuery = page::query(&request)?;
    let store_id = caller.store(page::query_id(query.store_id.as_deref())?)?;
    let listing = Listing { scope: Scope { list: "conflicts/unresolved", store_id }, query };
    let wanted = listing.page(listing.query.limit.as_deref(), listing.query.cursor.as_deref())?;
    let page = store.read_open_conflicts(store_id, wanted).await?;
    listing.answer(&store, page).await
}

/// `POST /sync/conflicts/{id}/resolve`: an event of the node with the chosen values. It may be called again.
///
/// # Errors
/// 400 for a value that is none of the conflict, 401, 403, 404, 409 where no person can decide, 503.
pub async fn resolve(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: Decision = read_json(&request, payload, &state.gate).await?;
    let id = page::path_id(&request, "id")?;
    let store_id = caller.store(named_store(body.store_id.as_deref())?)?;
    let value = body.value.ok_or_else(|| invalid_value("value is missing".to_owned()))?;
    let stamp = stamp(&state, &caller, &request);
    match state.store.resolve_conflict(store_id, id, Choice::Values(value.get()), &stamp).await? {
        Resolved::Done { event_type } => {
            state.wake(event_type);
            let answer = json!({
                "success": true, "conflict_id": id, "event_id": stamp.event_id, "store_id": store_id,
            });
            Ok(HttpResponse::Ok().json(answer))
        }
        Resolved::Unknown => Err(unknown()),
        Resolved::Refused(why) => Err(invalid_value(why)),
        Resolved::NotByPeople(why) => Err(Problem::conflict("NOT_RESOLVABLE", why)),
        // Only sides can come too late; values are set again.
        Resolved::Decided => Err(Problem::conflict("NOT_RESOLVABLE", "It is decided already.")),
    }
}

/// v1's `POST /sync/resolve-conflict`: the till's own version or the other's. What is decided already is a success,
/// or the till would ask for ever.
///
/// # Errors
/// 400, 401, 403, 404, 503.
pub async fn resolve_as_v1(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: V1Decision = read_json(&request, payload, &state.gate).await?;
    let store_id = caller.store(named_store(body.store_id.as_deref())?)?;
    let side = match body.resolution.as_deref() {
        Some("keep_mine") => Side::Mine,
        Some("take_theirs") => Side::Theirs,
        _ => {
            let detail = "resolution must be keep_mine or take_theirs.";
            return Err(Problem::bad_request("INVALID_RESOLUTION", detail));
        }
    };
    let missing = || Problem::bad_request("INVALID_BODY", "conflict_id is missing.");
    let id = body.conflict_id.filter(|id| !id.is_empty()).ok_or_else(missing)?;
    let id = uuid_of(&id).ok_or_else(unknown)?;
    let stamp = stamp(&state, &caller, &request);
    let device_id = match caller.caller() {
        Caller::Device { device_id, .. } => Some(device_id.as_str()),
        Caller::Jwt { .. } | Caller::Admin => None,
    };
    let choice = Choice::Side { side, device_id };
    let message = match state.store.resolve_conflict(store_id, id, choice, &stamp).await? {
        Resolved::Done { event_type } => {
            state.wake(event_type);
            "The conflict is resolved."
        }
        Resolved::Decided | Resolved::NotByPeople(_) => {
            "The conflict is decided already; nothing was changed."
        }
        Resolved::Unknown => return Err(unknown()),
        Resolved::Refused(why) => return Err(invalid_value(why)),
    };
    Ok(HttpResponse::Ok().json(json!({ "success": true, "message": message })))
}

fn unknown() -> Problem {
    Problem::not_found("There is no such conflict.")
}

fn invalid_value(why: String) -> Problem {
    Problem::bad_request("INVALID_VALUE", why)
}

/// The body's store; absent and empty are the same.
fn named_store(text: Option<&str>) -> Result<Option<Uuid>, Problem> {
    let invalid = || Problem::bad_request("INVALID_BODY", "store_id is no UUID.");
    text.filter(|text| !text.is_empty()).map(|text| uuid_of(text).ok_or_else(invalid)).transpose()
}

/// What the node's event says of this request.
fn stamp(state: &AppState, caller: &StoreCaller, request: &HttpRequest) -> NodeStamp {
    let (user_id, role) = match caller.caller() {
        Caller::Device { device_id, .. } => (device_id.as_str(), "device"),
        Caller::Jwt { sub, role: Role::Owner, .. } => (sub.as_str(), "owner"),
        Caller::Jwt { sub, role: Role::Cashier, .. } => (sub.as_str(), "cashier"),
        Caller::Admin => ("admin", "admin"),
    };
    let now = state.clock.now();
    NodeStamp {
        event_id: fresh_event_id(now),
        now,
        actor: Actor { user_id: normal_id(user_id), role: role.to_owned() },
        trace_parent: trace_parent(request.headers()),
    }
}
