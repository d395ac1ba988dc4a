//! Comparing logs: a native peer's questions, the events it asks for, and `POST /sync/federation/auto-reconcile`.
//!
//! Never here: how logs are compared.

use super::signed::{self, FromPeer};
use crate::app::AppState;
use crate::http::auth::NodeCaller;
use crate::http::body::read_json;
use crate::http::error::Problem;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use std::time::Duration;
use utoipa::ToSchema;
use velox_actors::handles::AskError;
use velox_actors::peer::relay_body;
use velox_actors::reconciler::Reconcile;
use velox_protocol::event::{normal_id, uuid_of};
use velox_protocol::reconcile::Request;
use velox_store::AnswerError;

/// Most events that are given at once.
const MAX_GIVEN: usize = 200;
/// Bytes of payloads beyond which the rest is left for another request.
const MAX_GIVEN_BYTES: usize = 8 * 1024 * 1024;
/// Longest time for a reconciliation that an operator waits for.
const ROUND_LIMIT: Duration = Duration::from_secs(600);
/// Seconds after which an operator may ask again.
const RETRY_AFTER: u32 = 2;

/// One message of a comparison.
///
/// # Errors
/// 400 for a message that cannot be read, 401, 403, 503.
pub async fn reconcile(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let from = signed::read(&state, &request, payload, "application/octet-stream").await?;
    let unreadable = |detail: String| Problem::bad_request("UNREADABLE_MESSAGE", detail);
    let message = Request::decode(&from.body).map_err(|error| unreadable(error.to_string()))?;
    from.check_store(message.store_id)?;
    match state.store.answer_reconcile(&message).await {
        Ok(answer) => Ok(HttpResponse::Ok().content_type("application/octet-stream").body(answer)),
        Err(AnswerError::Malformed(error)) => Err(unreadable(error.to_string())),
        Err(AnswerError::Store(error)) => Err(error.into()),
    }
}

#[derive(Debug, Deserialize)]
struct Wanted {
    store_id: String,
    event_ids: Vec<String>,
}

/// Events with all their forms, in the shape of a relay. Those that are not here, and what would make the answer too
/// long, are left out.
///
/// # Errors
/// 400, 401, 403, 503.
pub async fn events(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let FromPeer { peer, body, permit } = signed::read(&state, &request, payload, "application/json").await?;
    let unreadable =
        || Problem::bad_request("INVALID_BODY", "The body is not the JSON that this call takes.");
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| unreadable())?;
    let store_id = uuid_of(&wanted.store_id).ok_or_else(unreadable)?;
    if wanted.event_ids.len() > MAX_GIVEN {
        return Err(Problem::bad_request("TOO_MANY_EVENTS", "At most 200 events are given at once."));
    }
    if !peer.serves(store_id) {
        return Err(Problem::forbidden());
    }
    let ids: Vec<String> =
        wanted.event_ids.iter().filter(|id| !id.contains('\0')).map(|id| normal_id(id)).collect();
    let mut given = state.store.events_for_peer(store_id, &ids).await?;
    let mut bytes = 0;
    given.retain(|entry| {
        let fits = bytes <= MAX_GIVEN_BYTES;
        bytes += entry.forms.iter().map(|form| form.payload.len()).sum::<usize>();
        fits
    });
    drop(permit);
    let body = relay_body(&state.own.get(), &given);
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

/// What to reconcile.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReconcileBody {
    /// The shop.
    #[schema(value_type = Uuid)]
    store_id: String,
    /// With this peer; absent: with each that serves the store.
    #[serde(default)]
    peer: Option<String>,
    /// Only report.
    #[serde(default)]
    dry_run: bool,
}

/// Reconciles now, and answers what was found.
///
/// # Errors
/// 400, 401, 403, 404 for an unknown peer, 503.
pub async fn auto_reconcile(
    state: web::Data<AppState>,
    caller: NodeCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let wanted: ReconcileBody = read_json(&request, payload, &state.gate).await?;
    let store_id = uuid_of(&wanted.store_id)
        .ok_or_else(|| Problem::bad_request("INVALID_BODY", "store_id must be a UUID."))?;
    caller.check_store(store_id)?;
    let known = |name: &String| state.federation.relays.iter().any(|relay| relay.wire.peer().name == *name);
    if wanted.peer.as_ref().is_some_and(|name| !known(name)) {
        return Err(Problem::not_found("There is no such peer."));
    }
    let (peer, dry_run) = (wanted.peer, wanted.dry_run);
    let message = Reconcile { store_id: Some(store_id), peer, dry_run, after_outage: false };
    match state.federation.reconciler.ask(message, ROUND_LIMIT).await {
        Ok(Ok(reports)) => Ok(HttpResponse::Ok().json(reports)),
        Ok(Err(error)) => {
            tracing::warn!(error, "a reconciliation was not begun");
            Err(Problem::unavailable("NOT_RECONCILED", RETRY_AFTER))
        }
        Err(AskError::Restarting | AskError::Full | AskError::Lost | AskError::Timeout) => {
            Err(Problem::unavailable("NOT_RECONCILED", RETRY_AFTER))
        }
    }
}
