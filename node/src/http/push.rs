//! `POST /sync/push`: v1's push, with duplicates and warnings added.
//!
//! A fault of one event is that event's alone; a fault of ours is a 503 for the whole push, and the till sends
//! it again. Never here: what an event is (see `velox_protocol::event`), or how it is stored.

mod conflicts;

use super::auth::{Caller, StoreCaller};
use super::body::read_push;
use super::error::Problem;
use super::trace::trace_parent;
use crate::app::AppState;
use actix_web::{HttpRequest, HttpResponse, web};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use uuid::Uuid;
use velox_actors::metrics::Outcome;
use velox_actors::sync_ingest::IngestError;
use velox_protocol::api::{Accepted, Conflicted, MAX_PUSH_EVENTS, PushAnswer, PushBody};
use velox_protocol::clock::{Key, VectorClock};
use velox_protocol::event::{self, Received, Rejection, RejectionCode, Sender, Warning, WarningCode};
use velox_protocol::payload::Link;
use velox_store::{IngestOutcome, NewEvent, NewPush, PushOutcome};

/// Bodies up to this size are read on the worker that took the request; larger ones would hold up its others.
const INLINE_BYTES: usize = 1024 * 1024;
/// Seconds after which a push that found no writer may come again.
const RETRY_AFTER: u32 = 1;
/// Of [`WarningCode::Absorbed`].
const ABSORBED: &str = "an earlier event bears the same id; this one is kept and points to it";
/// Of [`WarningCode::DeviceIdCollision`].
const COLLIDES: &str = "another event of this device bears the same seq; both are kept";

/// A body, read as a push; its events are judged one by one.
struct Parsed {
    store_id: Uuid,
    device_id: String,
    /// Whether the client takes events apart that a person has to decide.
    accepts_conflicts: bool,
    /// In push order.
    events: Vec<Result<Received, Rejection>>,
}

/// Stores a till's events and answers after the commit.
///
/// # Errors
/// 400 where the body can never be read as a push, 401, 403, 413, 415, 429, 503.
pub async fn push(
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
    let read = move || parse(&body, user_id.as_deref(), now);
    let parsed = if permit.bytes() <= INLINE_BYTES {
        read()?
    } else {
        web::block(read).await.map_err(|error| Problem::internal(&error))??
    };
    let store_id = caller.store(Some(parsed.store_id))?;
    caller.admit_device(&parsed.device_id).await?;
    if caller.caller() == &Caller::Admin && !state.auth.devices().store_exists(store_id).await? {
        return Err(Problem::not_found("There is no such store."));
    }
    let refusals = parsed.events.iter().filter_map(|event| event.as_ref().err());
    let wrong_hashes = refusals.clone().filter(|r| r.code == RejectionCode::IntegrityError).count();
    let refused = refusals.count();
    let priced = conflicts::prices(parsed.events.iter().flatten());
    let (stored, batch) = split(parsed.events);
    let nothing = batch.is_empty();
    let push = NewPush { events: batch, trace_parent: trace_parent(request.headers()), origin_node: None };
    let mut outcome = state.ingest.push(push, Box::new(permit)).await.map_err(|error| match error {
        IngestError::Unavailable => Problem::unavailable("NOT_STORED", RETRY_AFTER),
        IngestError::Overloaded => Problem::unavailable("OVERLOADED", RETRY_AFTER),
    })?;
    if nothing {
        outcome.acknowledged = acknowledged(&state, store_id, &parsed.device_id).await;
    }
    let conflicts = Conflicts {
        open: conflicts::open(&state.store, store_id, &priced).await,
        told_apart: parsed.accepts_conflicts,
    };
    let answer = answer(&state, stored, outcome, conflicts);
    count(&state, &answer, refused, wrong_hashes);
    Ok(HttpResponse::Ok().json(answer))
}

/// What a device has acknowledged, for a push of which nothing went to a writer. It could do without.
async fn acknowledged(state: &AppState, store_id: Uuid, device_id: &str) -> VectorClock {
    state.store.acknowledged_clock(store_id, device_id).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "a till is not told what it has acknowledged");
        VectorClock::default()
    })
}

fn parse(body: &[u8], user_id: Option<&str>, now: chrono::DateTime<chrono::Utc>) -> Result<Parsed, Problem> {
    let unreadable = |detail: &'static str| Problem::bad_request("UNREADABLE_PUSH", detail);
    let body: PushBody<'_> = serde_json::from_slice(body)
        .map_err(|_| unreadable("The body is no push: see the API description."))?;
    let store_id = event::uuid_of(&body.store_id).ok_or_else(|| unreadable("store_id is no UUID."))?;
    if body.events.len() > MAX_PUSH_EVENTS {
        return Err(Problem::payload_too_large());
    }
    let device_id = event::normal_id(&body.device_id);
    let sender = Sender {
        store_id,
        device_id: &device_id,
        client_version: body.client_version.as_deref().unwrap_or_default(),
        user_id,
        now,
    };
    let events = body.events.iter().map(|text| event::read(text.get(), &sender)).collect();
    let accepts_conflicts = body.accepts.is_some_and(|accepts| accepts.iter().any(|a| a == "conflicts"));
    Ok(Parsed { store_id, device_id, accepts_conflicts, events })
}

/// The events of a push that a person has to decide, by id.
struct Conflicts {
    open: HashMap<String, Conflicted>,
    /// Whether they stand in `conflicted`; else they are accepted, with a warning.
    told_apart: bool,
}

/// What is answered about an event, beside what becomes of it.
enum Judged {
    Refused(Rejection),
    Sound { accepted: Accepted, warnings: Vec<Warning>, clock: VectorClock, absorbed: bool },
}

/// Tells what is to be stored from what is only answered.
fn split(events: Vec<Result<Received, Rejection>>) -> (Vec<Judged>, Vec<NewEvent>) {
    let mut batch: Vec<NewEvent> = Vec::with_capacity(events.len());
    let mut judged = Vec::with_capacity(events.len());
    for read in events {
        match read {
            Err(rejection) => judged.push(Judged::Refused(rejection)),
            Ok(received) => {
                let Received { event, warnings, meaning } = received;
                let sent = event.vector_clock.clone().unwrap_or_default();
                let clock = sent.of_event(&event.device_id, event.seq, event.created_at);
                let accepted = Accepted { event_id: event.event_id.clone(), seq: event.seq };
                let links = meaning
                    .map(|payload| payload.links(event.store_id, event.request_id.as_deref()))
                    .unwrap_or_default();
                judged.push(Judged::Sound { accepted, warnings, clock, absorbed: false });
                batch.push(NewEvent { event, links });
            }
        }
    }
    let absorbed = absorbed_within(&batch);
    let sound = judged.iter_mut().filter_map(|j| match j {
        Judged::Sound { absorbed, .. } => Some(absorbed),
        Judged::Refused(_) => None,
    });
    for (mark, is_absorbed) in sound.zip(absorbed) {
        *mark = is_absorbed;
    }
    (judged, batch)
}

/// Whether a smaller event of the same push bears one of an event's ids.
fn absorbed_within(batch: &[NewEvent]) -> Vec<bool> {
    let key = |new: &NewEvent| -> Key { new.event.key() };
    let mut smallest: HashMap<Link, Key> = HashMap::new();
    for new in batch {
        for link in new.links.iter().filter(|link| link.kind.absorbs()) {
            let smaller = smallest.entry(*link).or_insert_with(|| key(new));
            if key(new) < *smaller {
                *smaller = key(new);
            }
        }
    }
    let is_absorbed =
        |new: &NewEvent| new.links.iter().any(|link| smallest.get(link).is_some_and(|k| *k < key(new)));
    batch.iter().map(is_absorbed).collect()
}

fn answer(
    state: &AppState,
    judged: Vec<Judged>,
    outcome: PushOutcome,
    mut conflicts: Conflicts,
) -> PushAnswer {
    let mut answer = PushAnswer {
        accepted: Vec::new(),
        rejected: Vec::new(),
        conflicted: Vec::new(),
        duplicates: Vec::new(),
        warnings: Vec::new(),
        server_time: state.clock.now().timestamp_millis(),
        last_processed_seq: 0,
        server_vector_clock: outcome.acknowledged,
        causal_digest: String::new(),
    };
    let mut outcomes = outcome.events.into_iter();
    for event in judged {
        let (accepted, mut warnings, clock, absorbed_here) = match event {
            Judged::Refused(rejection) => {
                answer.rejected.push(rejection);
                continue;
            }
            Judged::Sound { accepted, warnings, clock, absorbed } => (accepted, warnings, clock, absorbed),
        };
        let outcome = outcomes.next();
        if outcome == Some(IngestOutcome::OtherContent) {
            tracing::warn!(event_id = accepted.event_id, "the event's id is known with other content");
            answer.rejected.push(Rejection {
                event_id: accepted.event_id,
                seq: accepted.seq,
                code: RejectionCode::IntegrityError,
                message: "the event_id is known with other content".to_owned(),
            });
            continue;
        }
        let conflict = conflicts.open.remove(&accepted.event_id);
        let mut warn = |code, message: &str| {
            let event_id = accepted.event_id.clone();
            warnings.push(Warning { event_id, code, message: message.to_owned() });
        };
        if let Some(IngestOutcome::New { absorbed, collides }) = outcome {
            if absorbed || absorbed_here {
                warn(WarningCode::Absorbed, ABSORBED);
            }
            if collides {
                warn(WarningCode::DeviceIdCollision, COLLIDES);
            }
        }
        if let (Some(conflict), false) = (&conflict, conflicts.told_apart) {
            warn(WarningCode::ConflictOpen, &conflict.reason);
        }
        answer.warnings.append(&mut warnings);
        answer.last_processed_seq = answer.last_processed_seq.max(accepted.seq.unwrap_or(0));
        answer.server_vector_clock.merge(&clock);
        match conflict {
            Some(conflict) if conflicts.told_apart => answer.conflicted.push(conflict),
            _ => {
                if outcome == Some(IngestOutcome::Duplicate) {
                    answer.duplicates.push(accepted.event_id.clone());
                }
                answer.accepted.push(accepted);
            }
        }
    }
    let digest = Sha256::digest(answer.server_vector_clock.digest_text());
    answer.causal_digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    answer
}

fn count(state: &AppState, answer: &PushAnswer, refused: usize, wrong_hashes: usize) {
    let metrics = &state.metrics;
    let label = Outcome { outcome: "rejected".to_owned() };
    metrics.ingest_events.get_or_create(&label).inc_by(refused as u64);
    metrics.hash_mismatches.inc_by(wrong_hashes as u64);
    for warning in &answer.warnings {
        let label = Outcome { outcome: warning.code.name().to_owned() };
        metrics.push_warnings.get_or_create(&label).inc();
    }
}
