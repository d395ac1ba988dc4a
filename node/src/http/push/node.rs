//! A push of a v1 node: events that others have pushed to it, relayed one by one.
//!
//! They are not checked against stock, are not sent back, and other content of a known event is no refusal. v1 takes
//! any 2xx as delivered, so a store that is not known yet is made here. Never here: who the node is.

use super::judge::{self, Conflicts, From};
use super::{not_stored, on_worker, parse};
use crate::app::AppState;
use crate::http::body::read_push;
use crate::http::error::Problem;

use crate::http::trace::trace_parent;
use actix_web::{HttpRequest, HttpResponse, web};
use std::sync::Arc;
use velox_actors::peer::Peer;
use velox_protocol::event::RejectionCode;
use velox_protocol::relayed::is_device;
use velox_protocol::v1::{RELAY_CLIENT, SYNTHETIC_CLIENT};
use velox_store::NewPush;

/// As a till's push.
pub(super) async fn push(
    state: web::Data<AppState>,
    peer: Arc<Peer>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (body, permit) = read_push(&request, payload, &state.gate).await?;
    let now = state.clock.now();
    let parsed = on_worker(permit.bytes(), move || parse(&body, Some(client), None, now)).await?;
    if !peer.serves(parsed.store_id) {
        return Err(Problem::forbidden());
    }
    if !is_device(&parsed.device_id) {
        return Err(Problem::bad_request("INVALID_DEVICE", "The device id is none."));
    }
    if parsed.events.iter().any(Result::is_ok) {
        state.auth.devices().ensure_store(parsed.store_id).await?;
    }
    let refusals = parsed.events.iter().filter_map(|event| event.as_ref().err());
    let wrong_hashes = refusals.clone().filter(|r| r.code == RejectionCode::IntegrityError).count();
    let refused = refusals.count();
    let (judged, batch) = judge::split(parsed.events.into_iter().map(|read| (read, None)));
    let push = NewPush {
        events: batch,
        trace_parent: trace_parent(request.headers()),
        from_peer: Some(peer.name.clone()),
        fence: None,
    };
    let outcome = state.ingest.push(push, Box::new(permit)).await.map_err(not_stored)?;
    let answer = judge::answer(state.clock.now(), judged, outcome, Conflicts::default(), From::Node);
    judge::count(&state, &answer, refused, wrong_hashes);
    Ok(HttpResponse::Ok().json(answer))
}

/// Known by its secret, it is a v1 node whatever it calls itself, but for made-up sales.
fn client(said: &str) -> &str {
    if said == SYNTHETIC_CLIENT { said } else { RELAY_CLIENT }
}
