//! `POST /sync/federation/relay`: events of a native peer.
//!
//! They go the way of a till's, but are not checked against stock, are not sent back, and other content of a known
//! event is no refusal. Never here: who the peer is.

use super::signed::{self, FromPeer};
use crate::app::AppState;
use crate::http::error::Problem;
use crate::http::push::judge::{self, Conflicts, From};
use crate::http::push::{not_stored, on_worker};
use crate::http::trace::trace_parent;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;
use velox_actors::peer::Peer;
use velox_actors::trace::well_formed;
use velox_protocol::api::PushAnswer;
use velox_protocol::event::RejectionCode;
use velox_protocol::federation::{MAX_RELAYED, NodeIdentity, RelayBody};
use velox_protocol::relayed::{self, Incoming};
use velox_store::{Hop, NewPush};

/// Forms of one event may come together, so that there can be more than events.
const MAX_FORMS: usize = 10 * MAX_RELAYED;

/// Stores a peer's events and answers after the commit, as to a push.
///
/// # Errors
/// 400 where the body can never be read as a relay, 401, 403 where none of the stores is served with the peer, 413,
/// 415, 503.
pub async fn relay(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let FromPeer { peer, body, permit } = signed::read(&state, &request, payload, "application/json").await?;
    let now = state.clock.now();
    let for_reading = peer.clone();
    let (by, events) = on_worker(permit.bytes(), move || parse(&body, &for_reading, now)).await?;
    if let Some(by) = by {
        state.federation.hears(&peer.name, by);
    }
    let sound = events.iter().filter_map(|event| event.read.as_ref().ok());
    let stores: BTreeSet<Uuid> = sound.map(|received| received.event.store_id).collect();
    for store_id in stores {
        state.auth.devices().ensure_store(store_id).await?;
    }
    let refusals = events.iter().filter_map(|event| event.read.as_ref().err());
    let wrong_hashes = refusals.clone().filter(|r| r.code == RejectionCode::IntegrityError).count();
    let refused = refusals.count();
    let (judged, batch) = judge::split(
        events.into_iter().map(|event| (event.read, hop(event.origin_node, event.trace_parent))),
    );
    let push = NewPush {
        events: batch,
        trace_parent: trace_parent(request.headers()),
        from_peer: Some(peer.name.clone()),
        fence: None,
    };
    let outcome = state.ingest.push(push, Box::new(permit)).await.map_err(not_stored)?;
    let answer = judge::answer(state.clock.now(), judged, outcome, Conflicts::default(), From::Node);
    judge::count(&state, &answer, refused, wrong_hashes);
    Ok(HttpResponse::Ok().json(RelayedAnswer { answer, by: state.own.get() }))
}

/// As to a push, and by whom.
#[derive(Serialize)]
struct RelayedAnswer {
    #[serde(flatten)]
    answer: PushAnswer,
    #[serde(flatten)]
    by: Arc<NodeIdentity>,
}

type Parsed = (Option<NodeIdentity>, Vec<Incoming>);

fn parse(body: &[u8], peer: &Peer, now: DateTime<Utc>) -> Result<Parsed, Problem> {
    let unreadable =
        || Problem::bad_request("UNREADABLE_RELAY", "The body is no relay: see the API description.");
    let body: RelayBody<'_> = serde_json::from_slice(body).map_err(|_| unreadable())?;
    if body.events.len() > MAX_FORMS {
        return Err(Problem::payload_too_large());
    }
    let events = relayed::read(&body, |store_id| peer.serves(store_id), now);
    if !events.is_empty() && events.iter().all(|event| event.is_foreign) {
        return Err(Problem::forbidden());
    }
    let by = NodeIdentity::told(body.node_id.as_deref(), body.incarnation.as_deref());
    Ok((by, events))
}

fn hop(origin_node: Option<String>, trace_parent: Option<String>) -> Option<Hop> {
    Some(Hop { origin_node, trace_parent: trace_parent.filter(|text| well_formed(text)) })
}
