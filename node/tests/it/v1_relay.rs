//! What goes to a v1 node: v1's own shape, one event a request, and what becomes of that which it does not take.

use crate::pair::{pending, status};
use crate::support::{ADMIN, TestNode, Till, id, wait};
use crate::v1_node::{self, Instead, V1Node};
use crate::wire::now_ms;
use serde_json::{Value, json};
use std::time::Duration;
use velox_protocol::v1::NOBODY;

/// Quick to try again, quick to open and to close; so many refusals make an entry dead.
const QUICK: [(&str, &str); 3] = [
    ("VELOX_OUTBOX_RETRY_BASE_MS", "50"),
    ("VELOX_BREAKER_OPEN_MS", "200"),
    ("VELOX_OUTBOX_MAX_RETRIES", "3"),
];

fn product(name: &str) -> Value {
    v1_node::event("ProductCreated", json!({ "product_id": id(), "name": name, "price_usd": 1.5 }))
}

fn id_of(event: &Value) -> &str {
    event["event_id"].as_str().expect("an id")
}

async fn peer(node: &TestNode) -> Value {
    status(node).await["peers"][0].clone()
}

/// Why an event was done without having been sent.
async fn reason(node: &TestNode, till: &Till, event_id: &str) -> Value {
    let path = format!("/sync/events/{event_id}?store_id={}", till.store_id);
    node.client.admin(&path).await["deliveries"][0]["reason"].clone()
}

#[actix_web::test]
async fn a_tills_day_goes_to_a_v1_node_event_by_event_and_v1_finds_nothing_wrong_with_it() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let day: Value =
        serde_json::from_str(include_str!("../../../protocol/vectors/v1-day.json")).expect("JSON");
    let push = &day["till_push"];
    let store_id = push["store_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let till = node.client.till_named(store_id, push["device_id"].as_str().expect("an id")).await;
    let events = push["events"].as_array().expect("events");
    node.client.push(&till, events).await;
    wait("an empty relay queue", async || pending(&node).await == 0).await;
    {
        let state = v1.state();
        assert_eq!(state.bad, [""; 0]);
        assert_eq!(state.shops[&store_id].events.len(), events.len());
        for (device_id, relayed) in state.shops[&store_id].events.values() {
            let sent = events.iter().find(|e| e["event_id"] == relayed["event_id"]).expect("it was pushed");
            assert_eq!(*device_id, till.device_id);
            assert_eq!((&relayed["payload"], &relayed["seq"]), (&sent["payload"], &sent["seq"]));
            assert_eq!(relayed["actor"], sent["actor"]);
        }
        assert!(state.pushes.iter().all(|push| push["client_version"] == "federation-relay-1.0"));
        let first: Vec<&str> =
            state.pushes.iter().filter_map(|push| push["events"][0]["type"].as_str()).take(2).collect();
        assert_eq!(first, ["CashSessionOpened", "CashSessionClosed"], "by priority");
    }
    let peer = peer(&node).await;
    assert_eq!((&peer["dead"], &peer["circuitBreakerState"]), (&json!(0), &json!("CLOSED")), "{peer}");
    assert_eq!((&peer["reachable"], &peer["authorized"]), (&json!(true), &json!(true)), "{peer}");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn what_v1_would_refuse_by_its_form_is_put_as_it_takes_it() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let till = node.client.till().await;
    let known = id();
    let mut odd = crate::support::event("CustomerCreated", json!({ "customer_id": id(), "name": "Ana" }));
    odd["actor"] = json!({ "user_id": "ana", "role": "device" });
    odd["request_id"] = json!("request-7");
    odd["causal_digest"] = json!("abc");
    odd["causal_dependencies"] = json!(["first", known]);
    odd["vector_clock"] = json!({ "till": 3, "other": "x" });
    odd["full_payload_hash"] = json!("hash_error");
    odd["delta_payload"] = json!({ "name": "Ana" });
    odd["seq"] = Value::Null;
    node.client.push(&till, &[odd.clone()]).await;
    v1.gets(till.store_id, id_of(&odd)).await;
    let relayed = v1.state().shops[&till.store_id].events[id_of(&odd)].1.clone();
    let expected = json!({ "event_id": odd["event_id"], "seq": 0, "type": "CustomerCreated", "version": 1,
        "created_at": odd["created_at"], "actor": { "user_id": NOBODY, "role": "owner" },
        "payload": odd["payload"], "vector_clock": { "till": 3 }, "causal_dependencies": [known] });
    assert_eq!(relayed, expected);
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn what_can_never_be_sent_is_done_with_its_reason_and_nothing_of_it_is_dead() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let till = node.client.till().await;
    let unknown = crate::support::event("LoyaltyPointsGranted", json!({ "points": 3 }));
    let mut named = product("by another id");
    named["event_id"] = json!("event-1");
    node.client.push(&till, &[unknown.clone(), named.clone()]).await;
    let odd_till = node.client.till_named(id().parse().expect("a UUID"), "till-1").await;
    let of_odd_till = product("of another till");
    node.client.push(&odd_till, std::slice::from_ref(&of_odd_till)).await;
    wait("an empty relay queue", async || pending(&node).await == 0).await;
    for (till, event, why) in [
        (&till, &unknown, "v1 does not know the type"),
        (&till, &named, "v1 takes no event whose id is no UUID"),
        (&odd_till, &of_odd_till, "v1 takes no event of a device whose id is no UUID"),
    ] {
        assert_eq!(reason(&node, till, id_of(event)).await, json!(why));
    }
    assert_eq!(v1.state().pushes.len(), 0);
    assert_eq!(peer(&node).await["dead"], json!(0));
    assert_eq!(peer(&node).await["lastSuccessAt"], Value::Null, "nothing was sent, so nothing went well");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_400_and_a_rejection_inside_a_200_are_refusals_of_that_event_alone() {
    let v1 = V1Node::start();
    let node = v1.with_node(&QUICK).await;
    let till = node.client.till().await;
    let (bad, rejected, good) = (product("bad"), product("rejected"), product("good"));
    v1.state().instead_of.insert(id_of(&bad).to_owned(), Instead::status(400));
    v1.state().refused.insert(id_of(&rejected).to_owned());
    node.client.push(&till, &[bad.clone(), rejected.clone(), good.clone()]).await;
    v1.gets(till.store_id, id_of(&good)).await;
    wait("two dead entries", async || peer(&node).await["dead"] == 2).await;
    let status = status(&node).await;
    assert_eq!(status["peers"][0]["circuitBreakerState"], "CLOSED", "{status}");
    assert_eq!(status["queue"]["failed"], 2, "{status}");
    let last = &status["lastRelayError"];
    assert!([id_of(&bad), id_of(&rejected)].contains(&last["eventId"].as_str().expect("an id")), "{last}");
    assert!(
        last["message"].as_str().is_some_and(|m| m.contains("no") || m.contains("not this one")),
        "{last}"
    );
    let tries = v1.state().pushes.iter().filter(|p| p["events"][0]["event_id"] == bad["event_id"]).count();
    assert_eq!(tries, 3, "a refusal each");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn an_event_that_v1_fails_at_thrice_while_it_answers_pings_does_not_hold_the_others_up() {
    let v1 = V1Node::start();
    let node = v1.with_node(&QUICK).await;
    let till = node.client.till().await;
    let poison = product("poison");
    v1.state().instead_of.insert(id_of(&poison).to_owned(), Instead::status(500));
    node.client.push(&till, std::slice::from_ref(&poison)).await;
    wait("the event is dead", async || peer(&node).await["dead"] == 1).await;
    assert_eq!(peer(&node).await["circuitBreakerState"], "CLOSED");
    let tries = v1.state().pushes.len();
    assert_eq!(tries, 9, "three refusals of three failures each");
    let good = product("good");
    node.client.push(&till, std::slice::from_ref(&good)).await;
    v1.gets(till.store_id, id_of(&good)).await;
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_poison_event_that_is_first_after_an_outage_does_not_keep_the_breaker_open() {
    let v1 = V1Node::start();
    let node = v1.with_node(&QUICK).await;
    let till = node.client.till().await;
    let (poison, good) = (product("poison"), product("good"));
    v1.state().instead_of.insert(id_of(&poison).to_owned(), Instead::status(500));
    (v1.state().dead, v1.state().instead) = (true, Some(Instead::status(503)));
    node.client.push(&till, &[poison.clone(), good.clone()]).await;
    wait("an open breaker", async || peer(&node).await["circuitBreakerState"] == "OPEN").await;
    (v1.state().dead, v1.state().instead) = (false, None);
    v1.gets(till.store_id, id_of(&good)).await;
    wait("a closed breaker", async || peer(&node).await["circuitBreakerState"] == "CLOSED").await;
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_v1_node_that_takes_nothing_though_it_answers_pings_costs_no_entry_its_life() {
    let v1 = V1Node::start();
    let brief = [QUICK[0], QUICK[1], ("VELOX_OUTBOX_MAX_RETRIES", "2"), ("VELOX_BREAKER_SUCCESSES", "1")];
    let node = v1.with_node(&brief).await;
    let till = node.client.till().await;
    v1.state().instead = Some(Instead::status(500));
    let events: Vec<Value> = (0..2).map(|n| product(&format!("{n}"))).collect();
    node.client.push(&till, &events).await;
    // Two refusals each, of three failures, and both were dead, were their failures their own.
    wait("pushes", async || v1.state().pushes.len() > 12).await;
    let seen = peer(&node).await;
    assert_eq!((&seen["dead"], &seen["pending"]), (&json!(0), &json!(2)), "{seen}");
    assert!(seen["lastError"].as_str().is_some_and(|error| error.contains("500")), "{seen}");
    v1.state().instead = None;
    for event in &events {
        v1.gets(till.store_id, id_of(event)).await;
    }
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn everything_but_a_well_formed_answer_opens_the_breaker_and_spends_nothing() {
    let v1 = V1Node::start();
    let hasty = [("VELOX_BREAKER_FAILURES", "2"), ("VELOX_BREAKER_SUCCESSES", "1"), QUICK[1], QUICK[2]];
    let node = v1.with_node(&hasty).await;
    let till = node.client.till().await;
    let other = json!({ "accepted": [{ "event_id": id() }], "rejected": [] }).to_string();
    for (status, body) in [
        (200, "<html>a captive portal</html>".to_owned()),
        (200, "{}".to_owned()),
        (200, String::new()),
        (200, other),
        (302, String::new()),
        (401, "{}".to_owned()),
        (403, "{}".to_owned()),
        (404, "{}".to_owned()),
        (429, "{}".to_owned()),
    ] {
        v1.state().instead = Some(Instead { status, body: body.clone() });
        let event = product("kept");
        node.client.push(&till, std::slice::from_ref(&event)).await;
        let opened = async || peer(&node).await["circuitBreakerState"] == "OPEN";
        wait(&format!("an open breaker after {status} {body}"), opened).await;
        assert_eq!(peer(&node).await["dead"], json!(0), "{status} {body}");
        v1.state().instead = None;
        v1.gets(till.store_id, id_of(&event)).await;
        wait("a closed breaker", async || peer(&node).await["circuitBreakerState"] == "CLOSED").await;
    }
    assert!(v1.state().calls.iter().any(|(call, _)| call == "status"), "its status is the trial");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_v1_node_with_another_secret_is_there_but_takes_nothing_and_the_status_says_so() {
    let v1 = V1Node::start();
    let peers = v1.as_peer_with("another-secret-than-that-of-the-v1-node", None);
    let node = TestNode::start_with(&[("VELOX_PEERS", &peers)]).await;
    let till = node.client.till().await;
    wait("the shop's declaration is put aside: v1 knows none", async || pending(&node).await == 0).await;
    node.client.push(&till, &[product("kept")]).await;
    let status = status(&node).await;
    let seen = &status["peers"][0];
    assert_eq!((&seen["reachable"], &seen["authorized"]), (&json!(true), &json!(false)), "{seen}");
    assert_eq!(status["remoteProbe"]["ok"], json!(false), "{status}");
    assert_eq!(seen["pending"], json!(1));
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_v1_node_that_is_silent_is_given_up_after_ten_seconds_and_delays_nobody_else() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let v1 = V1Node::start();
    let mut peers: Vec<Value> = serde_json::from_str(&v1.as_peer()).expect("JSON");
    peers.push(
        json!({ "name": "silent", "url": format!("http://{}", silent.local_addr().expect("an address")),
        "key": "the-secret-of-a-node-that-says-nothing", "protocol": "v1" }),
    );
    let peers = json!(peers).to_string();
    let node = TestNode::start_with(&[("VELOX_PEERS", &peers)]).await;
    let till = node.client.till().await;
    let (event, began) = (product("quick"), now_ms());
    node.client.push(&till, std::slice::from_ref(&event)).await;
    v1.gets(till.store_id, id_of(&event)).await;
    assert!(now_ms() - began < 10_000, "it waited for the silent one");
    let failed = async || {
        let path = "/sync/federation/status";
        let seen = node.client.call("GET", path, ADMIN, None).await.json()["peers"][1].clone();
        !seen["lastErrorAt"].is_null()
    };
    wait("the silent one is given up", failed).await;
    let waited = Duration::from_millis(u64::try_from(now_ms() - began).expect("time goes on"));
    assert!((9..30).contains(&waited.as_secs()), "{waited:?}");
    node.stop().await;
    v1.stop().await;
}
