//! Events that one node gives another, as they are read: whose they are, where they come from, what they are.
//!
//! Never here: who the peer is, storing.

use crate::event::{self, Received, Rejection, RejectionCode, Sender};
use crate::federation::{MAX_NODE_ID, RelayBody, RelayedHead};
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

/// Longest id of a device.
const MAX_DEVICE_ID: usize = 128;
/// What relayed events name as their client: their hashes are checked as those of tills.
const CLIENT_VERSION: &str = "velox-relay";

/// One event of a peer.
#[derive(Debug)]
pub struct Incoming {
    /// The event, or why it is refused.
    pub read: Result<Received, Rejection>,
    /// The node that took it from its till.
    pub origin_node: Option<String>,
    /// W3C trace context under which it was sent; not yet checked.
    pub trace_parent: Option<String>,
    /// It is of a store that is not served with the peer.
    pub is_foreign: bool,
}

/// Reads what a peer gives, each event by itself. `serves`: the stores that it may touch.
pub fn read(body: &RelayBody<'_>, serves: impl Fn(Uuid) -> bool, now: DateTime<Utc>) -> Vec<Incoming> {
    body.events.iter().map(|text| read_one(text, body, &serves, now)).collect()
}

fn read_one(
    text: &RawValue,
    body: &RelayBody<'_>,
    serves: &impl Fn(Uuid) -> bool,
    now: DateTime<Utc>,
) -> Incoming {
    let head: RelayedHead = serde_json::from_str(text.get()).unwrap_or_default();
    let store = head.store_id.as_ref().or(body.store_id.as_ref()).and_then(|id| event::uuid_of(id));
    let device = head.device_id.as_ref().or(body.device_id.as_ref()).filter(|id| is_device(id));
    let is_foreign = store.is_some_and(|store_id| !serves(store_id));
    let read = match (store, device) {
        (None, _) => Err(refusal(text, "store_id is missing or no UUID")),
        (Some(_), _) if is_foreign => Err(refusal(text, "the store is not served with this peer")),
        (Some(_), None) => Err(refusal(text, "device_id is missing or none")),
        (Some(store_id), Some(device)) => {
            let device_id = &event::normal_id(device);
            let client_version = CLIENT_VERSION;
            event::read(text.get(), &Sender { store_id, device_id, client_version, user_id: None, now })
        }
    };
    let origin_node = head.origin_node.filter(|node| node.len() <= MAX_NODE_ID && !node.contains('\0'));
    Incoming { read, origin_node, trace_parent: head.trace_parent, is_foreign }
}

/// What a till may be called.
pub fn is_device(id: &str) -> bool {
    (1..=MAX_DEVICE_ID).contains(&id.len()) && !id.chars().any(char::is_control)
}

fn refusal(text: &RawValue, message: &str) -> Rejection {
    Rejection {
        event_id: event::lenient_id(text.get()),
        seq: None,
        code: RejectionCode::ValidationError,
        message: message.to_owned(),
    }
}
