//! What a shop is told of a group that was stored: texts for people. Never here: telling it.

use super::{IngestError, told};
use serde_json::json;
use std::collections::BTreeSet;
use uuid::Uuid;
use velox_protocol::event::Event;
use velox_store::{IngestOutcome, NewNotification, NewPush, PushOutcome};

/// Most notices of one group: a till that has lost its mind sends hundreds of events that would each be one.
const MOST: usize = 50;

/// Whom to tell of what.
pub(super) struct Notice {
    pub(super) store_id: Uuid,
    pub(super) notification: NewNotification,
}

/// One notice a till that shares its identity, and one an event that came with other content.
pub(super) fn of_group(pushes: &[NewPush], outcomes: &[Result<PushOutcome, IngestError>]) -> Vec<Notice> {
    let mut told_of = BTreeSet::new();
    let mut notices = Vec::new();
    let mut left_out = 0;
    for (event, outcome) in told(pushes, outcomes) {
        let make: fn(&Event) -> NewNotification = match outcome {
            IngestOutcome::New { collides: true, .. } => collision,
            IngestOutcome::OtherContent => content_conflict,
            IngestOutcome::New { .. } | IngestOutcome::Duplicate => continue,
        };
        let notification = make(event);
        if !told_of.insert((event.store_id, notification.kind, notification.subject.clone())) {
            continue;
        }
        if notices.len() < MOST {
            notices.push(Notice { store_id: event.store_id, notification });
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        tracing::warn!(left_out, "more was met than shops are told of at once");
    }
    notices
}

fn collision(event: &Event) -> NewNotification {
    let device = &event.device_id;
    NewNotification {
        kind: "DEVICE_ID_COLLISION",
        subject: device.clone(),
        title: "Two tills use one identity".to_owned(),
        body: format!(
            "Two different events came from till {device} under one number. A till was probably copied or restored \
             from a backup, and the original is still in use. No sale is lost: both are kept. Find the tills that \
             work as {device}, and register one of them anew, so that it gets an identity of its own."
        ),
        data: json!({ "device_id": device, "event_id": event.event_id, "seq": event.seq }),
    }
}

fn content_conflict(event: &Event) -> NewNotification {
    let (id, device) = (&event.event_id, &event.device_id);
    NewNotification {
        kind: "EVENT_CONTENT_CONFLICT",
        subject: id.clone(),
        title: "An event came again with other content".to_owned(),
        body: format!(
            "Till {device} sent event {id} ({kind}), which is known with another content. Both are kept, and all \
             nodes count the same one of them. Compare what the till shows with the shop's figures; if they differ, \
             correct it there with a new entry. If it happens again, have the till's software looked at.",
            kind = event.event_type
        ),
        data: json!({ "event_id": id, "device_id": device, "type": event.event_type }),
    }
}
