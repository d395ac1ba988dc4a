//! `POST /sync/federation/relay`: events of a native peer.
//!
//! They go the way of a till's, but are not checked against stock, are not sent back, and other content of a known
//! event is no refusal. Never here: who the peer is.

use super::is_device;
use super::signed::{self, FromPeer};
use crate::app::AppState;
use crate::http::error::Problem;
use crate::http::push::judge::{self, Conflicts, From};
use crate::http::push::not_stored;
use crate::http::trace::{trace_parent, well_formed};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use uuid::Uuid;
use velox_actors::peer::Peer;
use velox_protocol::event::{self, Received, Rejection, RejectionCode, Sender};
use velox_protocol::federation::{MAX_RELAYED, RelayBody, RelayedHead};
use velox_store::{Hop, NewPush};

/// Forms of one event may come together, so that there can be more than events.
const MAX_FORMS: usize = 10 * MAX_RELAYED;
/// Longest id of a node.
const MAX_NODE_ID: usize = 128;
/// What relayed events name as their client: their hashes are checked as those of tills.
const CLIENT_VERSION: &str = "velox-relay";

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
    let events = web::block(move || parse(&body, &for_reading, now))
        .await
        .map_err(|error| Problem::internal(&error))??;
    let stores: BTreeSet<Uuid> =
        events.iter().filter_map(|(read, _)| read.as_ref().ok()).map(|r| r.event.store_id).collect();
    for store_id in stores {
        state.auth.devices().ensure_store(store_id).await?;
    }
    let refusals = events.iter().filter_map(|(read, _)| read.as_ref().err());
    let wrong_hashes = refusals.clone().filter(|r| r.code == RejectionCode::IntegrityError).count();
    let refused = refusals.count();
    let (judged, batch) = judge::split(events.into_iter());
    let push = NewPush {
        events: batch,
        trace_parent: trace_parent(request.headers()),
        from_peer: Some(peer.name.clone()),
    };
    let outcome = state.ingest.push(push, Box::new(permit)).await.map_err(not_stored)?;
    let answer = judge::answer(state.clock.now(), judged, outcome, Conflicts::default(), From::Node);
    judge::count(&state, &answer, refused, wrong_hashes);
    Ok(HttpResponse::Ok().json(answer))
}

type Read = (Result<Received, Rejection>, Option<Hop>);

fn parse(body: &[u8], peer: &Peer, now: DateTime<Utc>) -> Result<Vec<Read>, Problem> {
    let unreadable =
        || Problem::bad_request("UNREADABLE_RELAY", "The body is no relay: see the API description.");
    let body: RelayBody<'_> = serde_json::from_slice(body).map_err(|_| unreadable())?;
    if body.events.len() > MAX_FORMS {
        return Err(Problem::payload_too_large());
    }
    let mut foreign = 0;
    let mut events = Vec::with_capacity(body.events.len());
    for text in &body.events {
        let head: RelayedHead = serde_json::from_str(text.get()).unwrap_or_default();
        let named = head.store_id.as_ref().or(body.store_id.as_ref());
        let read = match named.and_then(|text| event::uuid_of(text)) {
            None => Err(refusal(text, "store_id is missing or no UUID")),
            Some(store_id) if !peer.serves(store_id) => {
                foreign += 1;
                Err(refusal(text, "the store is not served with this peer"))
            }
            Some(store_id) => {
                let device = head.device_id.as_ref().or(body.device_id.as_ref());
                match device.filter(|device| is_device(device)) {
                    None => Err(refusal(text, "device_id is missing or none")),
                    Some(device) => {
                        event::read(text.get(), &sender(store_id, &event::normal_id(device), now))
                    }
                }
            }
        };
        let origin_node = head.origin_node.filter(|node| node.len() <= MAX_NODE_ID && !node.contains('\0'));
        let trace_parent = head.trace_parent.filter(|text| well_formed(text));
        events.push((read, Some(Hop { origin_node, trace_parent })));
    }
    if foreign > 0 && foreign == events.len() {
        return Err(Problem::forbidden());
    }
    Ok(events)
}

fn sender(store_id: Uuid, device_id: &str, now: DateTime<Utc>) -> Sender<'_> {
    Sender { store_id, device_id, client_version: CLIENT_VERSION, user_id: None, now }
}

fn refusal(text: &RawValue, message: &str) -> Rejection {
    Rejection {
        event_id: event::lenient_id(text.get()),
        seq: None,
        code: RejectionCode::ValidationError,
        message: message.to_owned(),
    }
}
