//! The trail of one event.

use crate::shop::Shop;
use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

async fn trail(shop: &Shop, event_id: &str, now: DateTime<Utc>) -> Value {
    let trail = shop.store.event_trail(shop.id, event_id, now).await.expect("an answer");
    serde_json::to_value(trail.expect("an event")).expect("JSON")
}

async fn now(shop: &Shop) -> DateTime<Utc> {
    shop.value("SELECT now()").await
}

#[tokio::test]
async fn an_event_shows_its_envelope_its_queue_and_its_rows() {
    let shop = Shop::open().await;
    shop.tell("a@10/t1 sale S1 usd=1.10 env=R1 by=ana seq=4 clock=t2:3").await;
    let at = now(&shop).await;
    let pending = trail(&shop, "a", at).await;
    assert_eq!(pending["projection"]["status"], "pending");
    assert_eq!(pending["projection"]["since"], pending["received_at"]);
    assert_eq!(pending["outbox"][0]["status"], "pending");
    shop.project().await;
    let mut done = trail(&shop, "a", at).await;
    let hash: String = shop.value("SELECT encode(payload_hash, 'hex') FROM events").await;
    assert_eq!(done["received_at"].take().as_str().map(str::len), Some("2026-01-01T00:00:00.000Z".len()));
    let expected = json!({
        "store_id": shop.id, "event_id": "a", "type": "SaleCreated", "device_id": "t1", "seq": 4, "version": 1,
        "created_at": "1970-01-01T00:00:00.010Z", "received_at": null, "actor": {"user_id": "ana", "role": null},
        "payload": {"sale_id": shop.named("S1"), "total_usd": "1.10", "items": []}, "payload_hash": hash,
        "vector_clock": {"t2": 3}, "causal_dependencies": [], "request_id": "R1", "origin_node": null,
        "trace_parent": null,
        "projection": {"status": "processed", "waiting_for": null, "absorbed_by": null, "error": null,
            "since": null, "attempts": 0, "old": false},
        "outbox": [], "variants": [], "deliveries": [], "pulled_by": [],
    });
    assert_eq!(done, expected);
    for (store, event) in [(shop.id, "b"), (Uuid::from_u128(9), "a"), (shop.id, "A")] {
        assert!(
            shop.store.event_trail(store, event, at).await.expect("an answer").is_none(),
            "{store} {event}"
        );
    }
}

#[tokio::test]
async fn an_event_without_a_row_says_why() {
    let shop = Shop::open().await;
    shop.tell(
        "a@1 sale S1 usd=1
         b@2 sale S1 usd=1
         c@3 void S2
         d@4 pay Y1 D1 usd=1
         e@5 SomethingNew P1
         f@6 sale !none usd=1
         g@7 void S1",
    )
    .await;
    shop.project().await;
    let start = now(&shop).await;
    let of = async |event: &str, later: Duration| {
        let mut projection = trail(&shop, event, start + later).await["projection"].take();
        assert_eq!(projection["since"].take().is_string(), !["a", "g"].contains(&event), "{event}");
        projection
    };
    let none = json!({"status": "processed", "waiting_for": null, "absorbed_by": null, "error": null, "since": null,
        "attempts": 0, "old": false});
    let with = |more: Value| {
        let mut all = none.clone();
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let (soon, late) = (Duration::hours(23), Duration::hours(25));
    assert_eq!(of("a", late).await, none);
    assert_eq!(of("g", late).await, none);
    assert_eq!(of("b", late).await, with(json!({"status": "absorbed", "absorbed_by": "a"})));
    for (event, kind, id) in [("c", "sale", "S2"), ("d", "debt", "D1")] {
        let waits = json!({"status": "waiting", "waiting_for": {"kind": kind, "id": shop.named(id)}});
        assert_eq!(of(event, soon).await, with(waits.clone()));
        let mut old = with(waits);
        old["old"] = json!(true);
        assert_eq!(of(event, late).await, old);
    }
    let unknown = "SomethingNew version 1 is not projected by this version";
    assert_eq!(of("e", late).await, with(json!({"status": "skipped", "error": unknown})));
    let failed = json!({"status": "failed", "error": "sale_id is no UUID", "attempts": 1});
    assert_eq!(of("f", late).await, with(failed));
}

#[tokio::test]
async fn a_failed_attempt_and_the_way_to_a_peer_show_in_the_queue() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1\nb@2 sale S2 usd=1").await;
    shop.run(
        "UPDATE outbox_entries SET retry_count = 2, error = 'no luck', next_attempt_at = '2026-01-01T00:00:00Z';
         INSERT INTO outbox_entries (store_id, event_id, event_type, target, peer, status, priority, created_at, processed_at)
         SELECT store_id, event_id, event_type, 'federation-relay', 'south', 'processed', 5, '2026-01-02T00:00:00Z',
             '2026-01-03T00:00:00Z' FROM outbox_entries WHERE event_id = 'a';
         INSERT INTO relay_deliveries (store_id, peer, sent_at, acknowledged_at, reason, event_ids)
         SELECT DISTINCT store_id, p, t::timestamptz, a::timestamptz, r, ids FROM outbox_entries, (VALUES
             ('south', '2026-01-02T00:00:00Z', NULL, NULL, ARRAY['a', 'b']),
             ('south', '2026-01-03T00:00:00Z', '2026-01-03T00:00:01Z', NULL, ARRAY['b', 'a']),
             ('west', '2026-01-04T00:00:00Z', NULL, 'no type of v1', ARRAY['a']),
             ('east', '2026-01-05T00:00:00Z', NULL, NULL, ARRAY['b'])) AS d(p, t, a, r, ids)",
    )
    .await;
    let trail = trail(&shop, "a", now(&shop).await).await;
    let projection = &trail["projection"];
    assert_eq!((&projection["error"], &projection["attempts"]), (&json!("no luck"), &json!(2)));
    let [local, relay] = trail["outbox"].as_array().expect("entries").as_slice() else { panic!("{trail}") };
    assert_eq!(local["next_attempt_at"], "2026-01-01T00:00:00.000Z");
    let expected = json!({"target": "federation-relay", "peer": "south", "status": "processed", "retry_count": 0,
        "error": null, "created_at": "2026-01-02T00:00:00.000Z", "next_attempt_at": null,
        "processed_at": "2026-01-03T00:00:00.000Z"});
    assert_eq!(relay, &expected);
    let delivery = |peer: &str, sent: &str, acknowledged: Value, reason: Value| {
        json!({"peer": peer, "sent_at": format!("2026-01-0{sent}T00:00:00.000Z"), "acknowledged_at": acknowledged,
            "reason": reason, "peer_hash": Value::Null})
    };
    let expected = json!([
        delivery("west", "4", Value::Null, json!("no type of v1")),
        delivery("south", "3", json!("2026-01-03T00:00:01.000Z"), Value::Null),
        delivery("south", "2", Value::Null, Value::Null),
    ]);
    assert_eq!(trail["deliveries"], expected);
}

#[tokio::test]
async fn all_forms_are_shown_with_the_one_that_counts() {
    let shop = Shop::open().await;
    shop.tell("a@1/t1 sale S1 usd=1 seq=1").await;
    shop.tell("a@1/t1 sale S1 usd=2 seq=1").await;
    shop.tell("a@1/t2 sale S1 usd=3 seq=7").await;
    let at = now(&shop).await;
    // Which one counts is decided elsewhere.
    shop.run("UPDATE event_variants SET effective = false").await;
    let flags = |trail: &Value| -> Vec<(Value, Value)> {
        let forms = trail["variants"].as_array().expect("forms");
        forms.iter().map(|form| (form["seq"].clone(), form["effective"].clone())).collect()
    };
    let first = trail(&shop, "a", at).await;
    assert_eq!(first["payload"]["total_usd"], "1");
    let mut shown = flags(&first);
    shown.sort_by_key(|(seq, _)| seq.as_i64());
    assert_eq!(shown, [(json!(1), json!(true)), (json!(1), json!(false)), (json!(7), json!(false))]);
    shop.run("UPDATE event_variants SET effective = true WHERE seq = 7").await;
    let other = trail(&shop, "a", at).await;
    assert_eq!((&other["payload"]["total_usd"], &other["device_id"]), (&json!("3"), &json!("t2")));
    assert_eq!(flags(&other), [(json!(1), json!(false)), (json!(7), json!(true)), (json!(1), json!(false))]);
    let effective = &other["variants"][1];
    assert_eq!(effective["payload_hash"], other["payload_hash"]);
    assert_eq!((&effective["type"], &effective["device_id"]), (&json!("SaleCreated"), &json!("t2")));
}

#[tokio::test]
async fn devices_that_were_given_it_or_what_came_later_are_named() {
    let shop = Shop::open().await;
    shop.register("Shop", 1).await;
    shop.tell("m@1/t1 sale S1 usd=1").await;
    shop.run(&format!(
        "INSERT INTO devices (store_id, device_id, pull_checkpoint, pull_event_id)
         SELECT '{}', d, e.received_at + make_interval(secs => s::float8), p FROM events e, (VALUES
             ('t1', 5, 'z'), ('t2', 0, 'm'), ('t3', 0, 'l'), ('t4', 0, 'n'), ('t5', 1, 'a'), ('t6', -1, 'z'),
             ('t7', NULL, NULL)) AS v(d, s, p) WHERE e.event_id = 'm'",
        shop.id
    ))
    .await;
    let trail = trail(&shop, "m", now(&shop).await).await;
    assert_eq!(trail["pulled_by"], json!(["t2", "t4", "t5"]));
}
