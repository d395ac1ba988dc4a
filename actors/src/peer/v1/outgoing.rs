//! Writing an event for a v1 node: the fields that it knows, in the form that counts, and nothing else.
//!
//! Never here: sending.

use serde_json::value::RawValue;
use velox_protocol::canonical::{self, KeyOrder};
use velox_protocol::event::uuid_of;
use velox_protocol::json::Json;
use velox_protocol::v1::{Push, RELAY_CLIENT, SentActor, SentEvent};
use velox_store::{FormRow, RelayEntry};

/// The body of a push of one event; `None` for an event without a form, which there is none.
pub(super) fn push_body(entry: &RelayEntry) -> Option<Vec<u8>> {
    let form = entry.effective()?;
    // The payload was JSON when it was stored.
    let payload: &RawValue = serde_json::from_str(&form.payload).unwrap_or(RawValue::NULL);
    let (delta_payload, full_payload_hash) = verified(form).unzip();
    let dependencies = form.causal_dependencies.iter().flat_map(|json| &json.0);
    let event = SentEvent {
        event_id: &entry.event_id,
        seq: form.seq.unwrap_or(0),
        event_type: &form.event_type,
        version: form.version,
        created_at: form.created_at.timestamp_millis(),
        actor: SentActor::of(form.actor_user_id.as_deref(), form.actor_role.as_deref()),
        payload,
        vector_clock: form.vector_clock.as_ref().map(|json| &json.0).filter(|clock| !clock.0.is_empty()),
        // v1 has no event whose id is no UUID, so it misses nothing.
        causal_dependencies: dependencies.map(String::as_str).filter(|id| uuid_of(id).is_some()).collect(),
        delta_payload,
        full_payload_hash,
        request_id: form.request_id.as_deref().filter(|id| uuid_of(id).is_some()),
    };
    let push = Push {
        store_id: entry.store_id,
        device_id: &form.device_id,
        client_version: RELAY_CLIENT,
        events: [event],
    };
    // Texts, numbers and raw JSON always serialise.
    Some(serde_json::to_vec(&push).unwrap_or_default())
}

/// Delta and hash where the hash is, as v1 computes it, that of the delta and of the payload: whichever of them v1
/// looks at, it agrees.
fn verified(form: &FormRow) -> Option<(&RawValue, String)> {
    let (delta, hash) = (form.delta_payload.as_deref()?, form.sent_hash.as_deref()?);
    let is_of = |text: &str| {
        Json::parse(text).is_ok_and(|json| canonical::hash(&json, KeyOrder::JavaScript).as_slice() == hash)
    };
    if !is_of(delta) || !is_of(&form.payload) {
        return None;
    }
    Some((serde_json::from_str(delta).ok()?, hash.iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::push_body;
    use serde_json::{Value, json};
    use uuid::Uuid;
    use velox_protocol::event::{Received, Sender, read};
    use velox_store::{FormRow, Json, RelayEntry};

    const STORE: Uuid = Uuid::from_u128(1);
    const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    fn entry(event: &Value) -> RelayEntry {
        let now = chrono::DateTime::UNIX_EPOCH;
        let sender = Sender { store_id: STORE, device_id: ID, client_version: "", user_id: None, now };
        let Received { event, .. } = read(&event.to_string(), &sender).expect("an event");
        let form = FormRow {
            device_id: event.device_id,
            seq: event.seq,
            event_type: event.event_type,
            version: event.version,
            created_at: event.created_at,
            payload: event.payload,
            payload_hash: event.payload_hash.to_vec(),
            sent_hash: event.sent_hash.map(|hash| hash.to_vec()),
            delta_payload: event.delta_payload,
            vector_clock: event.vector_clock.map(Json),
            causal_dependencies: Some(Json(event.causal_dependencies)),
            causal_digest: event.causal_digest,
            request_id: event.request_id,
            actor_user_id: event.actor_user_id,
            actor_role: event.actor_role,
            origin_node: Some("another".to_owned()),
            effective: false,
        };
        RelayEntry {
            store_id: STORE,
            event_id: event.event_id,
            retry_count: 0,
            queued_at: now,
            trace_parent: Some("00-1-2-01".to_owned()),
            forms: vec![form],
        }
    }

    fn body(event: &Value) -> Value {
        serde_json::from_slice(&push_body(&entry(event)).expect("a body")).expect("JSON")
    }

    #[test]
    fn every_v1_fixture_goes_out_as_it_came_in() {
        let day: Value =
            serde_json::from_str(include_str!("../../../../protocol/vectors/v1-day.json")).expect("JSON");
        let mut with_hash = 0;
        for event in day["till_push"]["events"].as_array().expect("events") {
            let sent = body(event);
            let out = &sent["events"][0];
            for (key, value) in out.as_object().expect("an event") {
                assert_eq!(value, &event[key], "{key}");
            }
            with_hash += usize::from(out.get("full_payload_hash").is_some());
            assert_eq!(out.get("full_payload_hash").is_some(), out.get("delta_payload").is_some());
        }
        assert_eq!(with_hash, 11, "of the critical ones all but the one whose hash is none");
    }

    #[test]
    fn nothing_that_v1_does_not_know_is_sent() {
        let event = json!({ "event_id": ID, "type": "SaleCreated", "created_at": 5, "payload": { "a": 1 },
            "request_id": "req-7", "causal_digest": "x", "vector_clock": {}, "causal_dependencies": ["e-1", ID],
            "actor_user_id": "maria" });
        let expected = json!({ "store_id": STORE, "device_id": ID, "client_version": "federation-relay-1.0",
            "events": [{ "event_id": ID, "seq": 0, "type": "SaleCreated", "version": 1, "created_at": 5,
                "actor": { "user_id": "00000000-0000-0000-0000-000000000002", "role": "owner" },
                "payload": { "a": 1 }, "causal_dependencies": [ID] }] });
        assert_eq!(body(&event), expected);
    }

    #[test]
    fn a_hash_of_the_delta_alone_is_left_out_with_it() {
        let hash = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862";
        let event = |payload: Value| {
            json!({ "event_id": ID, "type": "DebtCreated", "created_at": 5, "payload": payload,
                "delta_payload": { "a": 1 }, "full_payload_hash": hash })
        };
        let out = body(&event(json!({ "a": 1 })));
        assert_eq!(out["events"][0]["full_payload_hash"], hash);
        let out = body(&event(json!({ "a": 1, "b": 2 })));
        assert_eq!(out["events"][0].get("full_payload_hash"), None);
        assert_eq!(out["events"][0].get("delta_payload"), None);
    }

    #[test]
    fn the_form_that_counts_is_sent() {
        let event = |name: &str| json!({ "event_id": ID, "type": name, "created_at": 5, "payload": {} });
        let mut two = entry(&event("SaleVoided"));
        let mut counting = entry(&event("SaleCreated")).forms.remove(0);
        counting.effective = true;
        two.forms.push(counting);
        let sent: Value = serde_json::from_slice(&push_body(&two).expect("a body")).expect("JSON");
        assert_eq!(sent["events"][0]["type"], "SaleCreated");
        assert_eq!(sent["events"].as_array().map(Vec::len), Some(1));
    }
}
