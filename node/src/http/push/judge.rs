//! What is answered of a push, from a till or from a node, and what of it goes to a writer.
//!
//! Never here: reading a body, storing.

use crate::app::AppState;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use velox_actors::metrics::Outcome;
use velox_protocol::api::{Accepted, Conflicted, PushAnswer};
use velox_protocol::clock::{Key, VectorClock};
use velox_protocol::event::{Received, Rejection, RejectionCode, Warning, WarningCode};
use velox_protocol::payload::Link;
use velox_store::{Hop, IngestOutcome, NewEvent, PushOutcome};

/// Of [`WarningCode::Absorbed`].
const ABSORBED: &str = "an earlier event bears the same id; this one is kept and points to it";
/// Of [`WarningCode::DeviceIdCollision`].
const COLLIDES: &str = "another event of this device bears the same seq; both are kept";

/// Of [`WarningCode::EventContentConflict`].
const OTHER_CONTENT: &str = "the event_id is known with other content; both are kept";

/// Who has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum From {
    /// Other content of a known event is refused to it.
    Till,
    /// A node takes over what others have accepted, and is told what stands here.
    Node,
}

/// The events of a push that a person has to decide, by id.
#[derive(Default)]
pub(in crate::http) struct Conflicts {
    pub(in crate::http) open: HashMap<String, Conflicted>,
    /// Whether they stand in `conflicted`; else they are accepted, with a warning.
    pub(in crate::http) told_apart: bool,
}

/// What is answered about an event, beside what becomes of it.
pub(in crate::http) enum Judged {
    Refused(Rejection),
    Sound {
        accepted: Accepted,
        payload_hash: String,
        warnings: Vec<Warning>,
        clock: VectorClock,
        absorbed: bool,
    },
}

/// Tells what is to be stored from what is only answered.
pub(in crate::http) fn split(
    events: impl ExactSizeIterator<Item = (Result<Received, Rejection>, Option<Hop>)>,
) -> (Vec<Judged>, Vec<NewEvent>) {
    let mut batch: Vec<NewEvent> = Vec::with_capacity(events.len());
    let mut judged = Vec::with_capacity(events.len());
    for (read, hop) in events {
        match read {
            Err(rejection) => judged.push(Judged::Refused(rejection)),
            Ok(received) => {
                let Received { event, warnings, meaning } = received;
                let sent = event.vector_clock.clone().unwrap_or_default();
                let clock = sent.of_event(&event.device_id, event.seq, event.created_at);
                let accepted =
                    Accepted { event_id: event.event_id.clone(), seq: event.seq, payload_hash: None };
                let links = meaning
                    .map(|payload| payload.links(event.store_id, event.request_id.as_deref()))
                    .unwrap_or_default();
                let payload_hash = hex(&event.payload_hash);
                judged.push(Judged::Sound { accepted, payload_hash, warnings, clock, absorbed: false });
                batch.push(NewEvent { event, links, hop });
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

pub(in crate::http) fn answer(
    now: DateTime<Utc>,
    judged: Vec<Judged>,
    outcome: PushOutcome,
    mut conflicts: Conflicts,
    from: From,
) -> PushAnswer {
    let mut answer = empty(now, outcome.acknowledged);
    let mut outcomes = outcome.events.into_iter();
    for event in judged {
        let (mut accepted, payload_hash, mut warnings, clock, absorbed_here) = match event {
            Judged::Refused(rejection) => {
                answer.rejected.push(rejection);
                continue;
            }
            Judged::Sound { accepted, payload_hash, warnings, clock, absorbed } => {
                (accepted, payload_hash, warnings, clock, absorbed)
            }
        };
        let outcome = outcomes.next();
        if outcome == Some(IngestOutcome::OtherContent) {
            tracing::warn!(event_id = accepted.event_id, "the event's id is known with other content");
        }
        if outcome == Some(IngestOutcome::OtherContent) && from == From::Till {
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
        match outcome {
            Some(IngestOutcome::New { absorbed, collides }) => {
                if absorbed || absorbed_here {
                    warn(WarningCode::Absorbed, ABSORBED);
                }
                if collides {
                    warn(WarningCode::DeviceIdCollision, COLLIDES);
                }
            }
            Some(IngestOutcome::OtherContent) => warn(WarningCode::EventContentConflict, OTHER_CONTENT),
            Some(IngestOutcome::Duplicate) | None => {}
        }
        if let (Some(conflict), false) = (&conflict, conflicts.told_apart) {
            warn(WarningCode::ConflictOpen, &conflict.reason);
        }
        answer.warnings.append(&mut warnings);
        accepted.payload_hash = (from == From::Node).then_some(payload_hash);
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
    answer.causal_digest = hex(&digest);
    answer
}

fn empty(now: DateTime<Utc>, server_vector_clock: VectorClock) -> PushAnswer {
    PushAnswer {
        accepted: Vec::new(),
        rejected: Vec::new(),
        conflicted: Vec::new(),
        duplicates: Vec::new(),
        warnings: Vec::new(),
        server_time: now.timestamp_millis(),
        last_processed_seq: 0,
        server_vector_clock,
        causal_digest: String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Counts what a push has brought.
pub(in crate::http) fn count(state: &AppState, answer: &PushAnswer, refused: usize, wrong_hashes: usize) {
    let metrics = &state.metrics;
    let label = Outcome { outcome: "rejected".to_owned() };
    metrics.ingest_events.get_or_create(&label).inc_by(refused as u64);
    metrics.hash_mismatches.inc_by(wrong_hashes as u64);
    for warning in &answer.warnings {
        let label = Outcome { outcome: warning.code.name().to_owned() };
        metrics.push_warnings.get_or_create(&label).inc();
    }
}
