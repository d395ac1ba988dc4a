//! Writing events for a peer, each with all its forms.
//!
//! Never here: compressing, signing, sending.

use serde_json::value::RawValue;
use velox_protocol::federation::{NodeIdentity, RelayedActor, RelayedEvent};
use velox_store::{FormRow, RelayEntry};

/// The body of a relay of this node, and of an answer that gives events.
pub fn relay_body(node: &NodeIdentity, entries: &[RelayEntry]) -> Vec<u8> {
    // Two texts always serialise.
    let mut body = serde_json::to_vec(node).unwrap_or_default();
    body.pop();
    body.extend_from_slice(br#","events":["#);
    let forms = entries.iter().flat_map(|entry| entry.forms.iter().map(move |form| (entry, form)));
    for (at, (entry, form)) in forms.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        write_event(&mut body, &node.node_id, entry, form);
    }
    body.extend_from_slice(b"]}");
    body
}

fn write_event(body: &mut Vec<u8>, node_id: &str, entry: &RelayEntry, form: &FormRow) {
    // The payload was JSON when it was stored.
    let payload: &RawValue = serde_json::from_str(&form.payload).unwrap_or(RawValue::NULL);
    let delta = form.delta_payload.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let actor = RelayedActor { user_id: form.actor_user_id.as_deref(), role: form.actor_role.as_deref() };
    let event = RelayedEvent {
        store_id: entry.store_id,
        device_id: &form.device_id,
        origin_node: Some(form.origin_node.as_deref().unwrap_or(node_id)),
        trace_parent: entry.trace_parent.as_deref(),
        event_id: &entry.event_id,
        seq: form.seq,
        event_type: &form.event_type,
        version: form.version,
        created_at: form.created_at.timestamp_millis(),
        actor: (actor.user_id.is_some() || actor.role.is_some()).then_some(actor),
        payload,
        vector_clock: form.vector_clock.as_ref().map(|json| &json.0),
        causal_dependencies: form.causal_dependencies.as_ref().map_or(&[], |json| json.0.as_slice()),
        causal_digest: form.causal_digest.as_deref(),
        delta_payload: delta,
        full_payload_hash: form.sent_hash.as_deref().map(hex),
        request_id: form.request_id.as_deref(),
    };
    // Texts, numbers and raw JSON always serialise.
    let _ = serde_json::to_writer(body, &event);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
