//! `POST /sync/push`: v1's push, with duplicates and warnings added; of a till, or of a v1 node (see [`node`]).
//!
//! A fault of one event is that event's alone; a fault of ours is a 503 for the whole push, and the till sends
//! it again. Never here: what an event is (see `velox_protocol::event`), or how it is stored.

mod conflicts;
pub(super) mod judge;
mod node;

use super::auth::{Caller, PushCaller, StoreCaller};
use super::body::read_push;
use super::error::Problem;
use super::trace::trace_parent;
use crate::app::AppState;
use actix_web::{HttpRequest, HttpResponse, web};
use judge::{Conflicts, From};
use uuid::Uuid;
use velox_actors::sync_ingest::IngestError;
use velox_protocol::api::{MAX_PUSH_EVENTS, PushBody};
use velox_protocol::clock::VectorClock;
use velox_protocol::event::{self, Received, Rejection, RejectionCode, Sender};
use velox_store::NewPush;

/// Bodies up to this size are read on the worker that took the request; larger ones would hold up its others.
const INLINE_BYTES: usize = 1024 * 1024;
/// Seconds after which a push that found no writer may come again.
const RETRY_AFTER: u32 = 1;
/// A body, read as a push; its events are judged one by one.
struct Parsed {
    store_id: Uuid,
    device_id: String,
    /// Whether the client takes events apart that a person has to decide.
    accepts_conflicts: bool,
    /// In push order.
    events: Vec<Result<Received, Rejection>>,
}

/// Stores events and answers after the commit.
///
/// # Errors
/// 400 where the body can never be read as a push, 401, 403, 413, 415, 429, 503.
pub async fn push(
    state: web::Data<AppState>,
    caller: PushCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    match caller {
        PushCaller::Till(caller) => of_till(state, caller, request, payload).await,
        PushCaller::Node(peer) => node::push(state, peer, request, payload).await,
    }
}

async fn of_till(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (body, permit) = read_push(&request, payload, &state.gate).await?;
    let user_id = match caller.caller() {
        Caller::Jwt { sub, .. } => Some(sub.clone()),
        Caller::Device { .. } | Caller::Admin => None,
    };
    let now = state.clock.now();
    let read = move || parse(&body, None, user_id.as_deref(), now);
    let parsed = on_worker(permit.bytes(), read).await?;
    let store_id = caller.store(Some(parsed.store_id))?;
    caller.admit_device(&parsed.device_id).await?;
    if caller.caller() == &Caller::Admin && !state.auth.devices().store_exists(store_id).await? {
        return Err(Problem::not_found("There is no such store."));
    }
    let refusals = parsed.events.iter().filter_map(|event| event.as_ref().err());
    let wrong_hashes = refusals.clone().filter(|r| r.code == RejectionCode::IntegrityError).count();
    let refused = refusals.count();
    let priced = conflicts::prices(parsed.events.iter().flatten());
    let (judged, batch) = judge::split(parsed.events.into_iter().map(|read| (read, None)));
    let nothing = batch.is_empty();
    let push = NewPush { events: batch, trace_parent: trace_parent(request.headers()), ..NewPush::default() };
    let mut outcome = state.ingest.push(push, Box::new(permit)).await.map_err(not_stored)?;
    if nothing {
        outcome.acknowledged = acknowledged(&state, store_id, &parsed.device_id).await;
    }
    let conflicts = Conflicts {
        open: conflicts::open(&state.store, store_id, &priced).await,
        told_apart: parsed.accepts_conflicts,
    };
    let answer = judge::answer(state.clock.now(), judged, outcome, conflicts, From::Till);
    judge::count(&state, &answer, refused, wrong_hashes);
    Ok(HttpResponse::Ok().json(answer))
}

/// Reads a body of so many bytes, elsewhere where that takes long.
pub(super) async fn on_worker<T: Send + 'static>(
    bytes: usize,
    read: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if bytes <= INLINE_BYTES {
        return read();
    }
    web::block(read).await.map_err(|error| Problem::internal(&error))?
}

/// The answer to a push that no writer has taken.
pub(super) fn not_stored(error: IngestError) -> Problem {
    match error {
        // A push that comes over HTTP bears no fence.
        IngestError::Unavailable | IngestError::Fenced => Problem::unavailable("NOT_STORED", RETRY_AFTER),
        IngestError::Overloaded => Problem::unavailable("OVERLOADED", RETRY_AFTER),
    }
}

/// What a device has acknowledged, for a push of which nothing went to a writer. It could do without.
async fn acknowledged(state: &AppState, store_id: Uuid, device_id: &str) -> VectorClock {
    state.store.acknowledged_clock(store_id, device_id).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "a till is not told what it has acknowledged");
        VectorClock::default()
    })
}

/// `client`: what the sender is, whatever it says; `None`: what it says.
fn parse(
    body: &[u8],
    client: Option<fn(&str) -> &str>,
    user_id: Option<&str>,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Parsed, Problem> {
    let unreadable = |detail: &'static str| Problem::bad_request("UNREADABLE_PUSH", detail);
    let body: PushBody<'_> = serde_json::from_slice(body)
        .map_err(|_| unreadable("The body is no push: see the API description."))?;
    let store_id = event::uuid_of(&body.store_id).ok_or_else(|| unreadable("store_id is no UUID."))?;
    if body.events.len() > MAX_PUSH_EVENTS {
        return Err(Problem::payload_too_large());
    }
    let device_id = event::normal_id(&body.device_id);
    let said = body.client_version.as_deref().unwrap_or_default();
    let sender = Sender {
        store_id,
        device_id: &device_id,
        client_version: client.map_or(said, |client| client(said)),
        user_id,
        now,
    };
    let events = body.events.iter().map(|text| event::read(text.get(), &sender)).collect();
    let accepts_conflicts = body.accepts.is_some_and(|accepts| accepts.iter().any(|a| a == "conflicts"));
    Ok(Parsed { store_id, device_id, accepts_conflicts, events })
}
