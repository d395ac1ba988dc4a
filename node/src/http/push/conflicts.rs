//! Which events of a push are a side of a price conflict that a person has to decide.
//!
//! Judged by the registers that are projected so far and this push, so that it may be missed: best effort, the
//! tables are right all the same. Never here: the answer.

use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;
use velox_protocol::api::Conflicted;
use velox_protocol::clock::VectorClock;
use velox_protocol::conflict::{self, PRICE, PRICE_FIELDS, conflict_id};
use velox_protocol::crdt::register::{Registers, Stamp};
use velox_protocol::event::{Event, Received};
use velox_protocol::payload::{FieldWrites, Payload};
use velox_store::Store;

/// What a person is told.
const REASON: &str = "another till has set another price of this product at about the same time; \
    a person has to decide which one holds";

/// The events that set a price.
pub(super) fn prices<'a>(events: impl IntoIterator<Item = &'a Received>) -> Vec<Received> {
    events.into_iter().filter(|received| price_writes(received).is_some()).cloned().collect()
}

/// Which of these events are a side of an open conflict, by id. Without a database nobody is told.
pub(super) async fn open(store: &Store, store_id: Uuid, prices: &[Received]) -> HashMap<String, Conflicted> {
    let products: BTreeSet<Uuid> =
        prices.iter().filter_map(price_writes).map(|(_, writes)| writes.entity_id).collect();
    if products.is_empty() {
        return HashMap::new();
    }
    let products: Vec<Uuid> = products.into_iter().collect();
    match store.price_registers(store_id, &products).await {
        Ok(registers) => judge(&registers, prices),
        Err(error) => {
            tracing::debug!(%error, "a till is not told of its conflicts");
            HashMap::new()
        }
    }
}

/// The events that are a version of an open price conflict, by id. `registers`: of their products, as far as
/// they are there; `events`: those of one push that are taken.
fn judge<'a>(
    registers: &HashMap<Uuid, Registers>,
    events: impl IntoIterator<Item = &'a Received>,
) -> HashMap<String, Conflicted> {
    let mut merged: HashMap<Uuid, Registers> = HashMap::new();
    let mut own: HashMap<Uuid, Vec<&Event>> = HashMap::new();
    for (event, writes) in events.into_iter().filter_map(price_writes) {
        let product = writes.entity_id;
        let state =
            merged.entry(product).or_insert_with(|| registers.get(&product).cloned().unwrap_or_default());
        let is_price = |(field, _): &&(String, String)| PRICE_FIELDS.contains(&field.as_str());
        let prices: Vec<_> = writes.fields.iter().filter(is_price).cloned().collect();
        state.write(&stamp(event), &prices);
        own.entry(product).or_default().push(event);
    }
    let mut found = HashMap::new();
    for (product, events) in own {
        let Some(conflict) = conflict::price(&merged[&product]).filter(|conflict| conflict.is_open) else {
            continue;
        };
        let ids: Vec<&String> = conflict.versions.iter().map(|v| &v.stamp.key.event_id).collect();
        for event in events.into_iter().filter(|event| ids.contains(&&event.event_id)) {
            let others = ids.iter().filter(|id| **id != &event.event_id);
            found.insert(
                event.event_id.clone(),
                Conflicted {
                    event_id: event.event_id.clone(),
                    seq: event.seq,
                    conflict_id: conflict_id(event.store_id, product, PRICE),
                    reason: REASON.to_owned(),
                    requires_manual_review: true,
                    conflicting_with: others.map(|id| (*id).clone()).collect(),
                },
            );
        }
    }
    found
}

/// The event and what it writes, if it sets a price.
fn price_writes(received: &Received) -> Option<(&Event, &FieldWrites)> {
    match &received.meaning {
        Some(Payload::Product(writes)) => {
            let priced = writes.fields.iter().any(|(field, _)| PRICE_FIELDS.contains(&field.as_str()));
            priced.then_some((&received.event, writes))
        }
        _ => None,
    }
}

fn stamp(event: &Event) -> Stamp {
    let sent: VectorClock = event.vector_clock.clone().unwrap_or_default();
    Stamp { key: event.key(), clock: sent.of_event(&event.device_id, event.seq, event.created_at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use serde_json::{Value, json};
    use velox_protocol::event::{self, Sender};

    const STORE: Uuid = Uuid::from_u128(1);
    const TEA: Uuid = Uuid::from_u128(2);
    const MATE: Uuid = Uuid::from_u128(3);
    const MINUTE: i64 = 60_000;

    /// `event_id`s are `device-seq`.
    fn received(device: &str, seq: i64, ms: i64, event_type: &str, payload: Value, clock: Value) -> Received {
        let text = json!({ "event_id": format!("{device}-{seq}"), "seq": seq, "type": event_type, "created_at": ms,
            "payload": payload, "vector_clock": clock });
        let now = DateTime::from_timestamp_millis(ms).expect("a time");
        let sender = Sender { store_id: STORE, device_id: device, client_version: "", user_id: None, now };
        event::read(&text.to_string(), &sender).expect("an event")
    }

    fn price(device: &str, seq: i64, ms: i64, product: Uuid, usd: f64) -> Received {
        let payload = json!({ "product_id": product, "price_usd": usd });
        received(device, seq, ms, "PriceChanged", payload, json!({}))
    }

    fn projected(events: &[Received]) -> HashMap<Uuid, Registers> {
        let mut registers: HashMap<Uuid, Registers> = HashMap::new();
        for (event, writes) in events.iter().filter_map(price_writes) {
            registers.entry(writes.entity_id).or_default().write(&stamp(event), &writes.fields);
        }
        registers
    }

    fn shown(found: &HashMap<String, Conflicted>) -> Vec<(&str, Vec<&str>)> {
        let with = |c: &Conflicted| found[&c.event_id].conflicting_with.clone();
        let mut all: Vec<_> = found
            .values()
            .map(|c| (c.event_id.as_str(), c.conflicting_with.iter().map(String::as_str).collect()))
            .collect();
        assert!(found.values().all(|c| !with(c).contains(&c.event_id)));
        all.sort();
        all
    }

    #[test]
    fn a_price_that_meets_another_tills_is_told_with_all_that_a_till_needs() {
        let registers = projected(&[price("t1", 1, 0, TEA, 1.0), price("t1", 1, 0, MATE, 1.0)]);
        let push =
            [price("t2", 7, 5 * MINUTE, TEA, 2.0), price("t2", 8, 6 * MINUTE, Uuid::from_u128(9), 2.0)];
        let other =
            received("t2", 9, 0, "ProductUpdated", json!({ "product_id": TEA, "name": "x" }), json!({}));
        assert_eq!(prices(push.iter().chain([&other])), push);
        let found = judge(&registers, &push);
        assert_eq!(shown(&found), [("t2-7", vec!["t1-1"])]);
        let told = &found["t2-7"];
        assert_eq!((told.seq, told.conflict_id), (Some(7), conflict_id(STORE, TEA, "price")));
        assert!(told.requires_manual_review && told.reason.contains("price"));
    }

    #[test]
    fn what_is_apart_or_says_the_same_or_knew_the_other_is_no_conflict() {
        let registers = projected(&[price("t1", 1, 0, TEA, 1.0)]);
        let knew = json!({ "t1": 1 });
        let payload = json!({ "product_id": TEA, "price_usd": 3 });
        for event in [
            price("t2", 1, 15 * MINUTE + 1, TEA, 2.0),
            price("t2", 1, MINUTE, TEA, 1.0),
            price("t1", 2, MINUTE, TEA, 2.0),
            received("t2", 1, MINUTE, "PriceChanged", payload, knew),
            received("t2", 1, MINUTE, "ProductUpdated", json!({ "product_id": TEA, "name": "x" }), json!({})),
            received("t2", 1, MINUTE, "PriceChanged", json!({ "product_id": "none" }), json!({})),
        ] {
            assert_eq!(judge(&registers, [&event]), HashMap::new(), "{event:?}");
        }
        assert_eq!(judge(&HashMap::new(), []), HashMap::new());
    }

    #[test]
    fn of_a_push_the_last_price_alone_is_in_conflict_whatever_brings_it() {
        let registers = projected(&[price("t1", 1, 0, TEA, 1.0), price("t3", 1, MINUTE, TEA, 5.0)]);
        let payload = json!({ "product_id": TEA, "patch": { "price_usd": 4 }, "name": "Tea" });
        let push = [
            price("t2", 1, MINUTE, TEA, 2.0),
            price("t2", 2, 2 * MINUTE, TEA, 3.0),
            received("t2", 3, 3 * MINUTE, "ProductUpdated", payload, json!({})),
        ];
        assert_eq!(shown(&judge(&registers, &push)), [("t2-3", vec!["t1-1", "t3-1"])]);
    }

    #[test]
    fn a_repeated_push_is_told_the_same() {
        let push = [price("t2", 1, MINUTE, TEA, 2.0)];
        let registers = projected(&[price("t1", 1, 0, TEA, 1.0), price("t2", 1, MINUTE, TEA, 2.0)]);
        assert_eq!(shown(&judge(&registers, &push)), [("t2-1", vec!["t1-1"])]);
    }
}
