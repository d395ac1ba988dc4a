//! The relay against a peer that fails in every way: an outage costs nothing, one bad event holds up nobody.

use crate::pair::{KEY, free_address, node_at, peer, pending, pod_at, status};
use crate::stub_peer::{Behaviour, StubPeer, ids};
use crate::support::{ADMIN, TestNode, Till, event, id, sale, wait};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashSet};

/// Everything fast, so that a day's outage passes in a second.
const FAST: &[(&str, &str)] = &[
    ("VELOX_OUTBOX_POLL_MS", "100"),
    ("VELOX_BREAKER_OPEN_MS", "300"),
    ("VELOX_OUTBOX_RETRY_BASE_MS", "20"),
    ("VELOX_OUTBOX_MAX_RETRIES", "3"),
];

/// A node with this peer, and a till of it.
async fn node_with(stub: &StubPeer) -> (TestNode, Till) {
    let node = node_at(free_address(), &peer("stub", stub.address, KEY), FAST).await;
    let till = node.client.till().await;
    // The shop's own declaration is no part of any test.
    wait("the shop's declaration at the peer", async || pending(&node).await == 0).await;
    stub.forget();
    (node, till)
}

async fn breaker(node: &TestNode) -> String {
    status(node).await["circuitBreakerState"].as_str().expect("a state").to_owned()
}

/// Pushes so many sales and answers their ids.
async fn sales(node: &TestNode, till: &Till, count: usize) -> Vec<String> {
    let events: Vec<Value> = (0..count).map(|_| sale()).collect();
    node.client.push(till, &events).await;
    ids(&events)
}

/// Pending and dead entries with refusals.
async fn spent(node: &TestNode) -> i64 {
    let sql = "SELECT count(*) FROM outbox_entries WHERE target = 'federation-relay' AND (retry_count > 0 OR status = 'dead')";
    sqlx::query_scalar(sql).fetch_one(&node.database.pool().await).await.expect("a count")
}

async fn delivered(stub: &StubPeer, events: &[String]) {
    let wanted: BTreeSet<String> = events.iter().cloned().collect();
    wait("the peer to have them all", async || {
        let there: BTreeSet<String> = ids(&stub.accepted()).into_iter().collect();
        wanted.is_subset(&there)
    })
    .await;
}

#[actix_web::test]
async fn an_outage_opens_the_breaker_spends_nothing_and_drains_by_itself() {
    let address = free_address();
    let node = node_at(free_address(), &peer("stub", address, KEY), FAST).await;
    let till = node.client.till().await;
    let events = sales(&node, &till, 10).await;
    wait("an open breaker", async || breaker(&node).await == "OPEN").await;
    let failing = status(&node).await;
    assert_eq!(failing["peers"][0]["reachable"], false, "{failing}");
    assert!(failing["peers"][0]["lastError"].is_string(), "{failing}");
    // Ten sales, and the shop's declaration.
    assert_eq!((pending(&node).await, spent(&node).await), (11, 0));
    let stub = StubPeer::start_at(address).await;
    delivered(&stub, &events).await;
    wait("a closed breaker", async || breaker(&node).await == "CLOSED").await;
    wait("an empty queue", async || pending(&node).await == 0).await;
    node.stop().await;
    stub.stop().await;
}

#[actix_web::test]
async fn whatever_is_no_answer_marks_nothing_and_opens_the_breaker() {
    let stub = StubPeer::start().await;
    let (node, till) = node_with(&stub).await;
    let elsewhere = format!("http://{}/elsewhere", stub.address);
    let answers = [
        (200, None, ""),
        (200, None, "<html>welcome to the hotel</html>"),
        (200, None, "{}"),
        (200, None, r#"{"accepted":[]}"#),
        (302, Some(("location", elsewhere)), ""),
        (401, None, ""),
        (403, None, ""),
        (404, None, ""),
        (500, None, ""),
    ];
    for (code, header, text) in answers {
        stub.behave(Behaviour::Answer(code, header, text.to_owned()));
        let events = sales(&node, &till, 3).await;
        wait("an open breaker", async || breaker(&node).await == "OPEN").await;
        assert_eq!((pending(&node).await, spent(&node).await), (3, 0), "{code} {text}");
        stub.behave(Behaviour::Good);
        delivered(&stub, &events).await;
        wait("a closed breaker", async || breaker(&node).await == "CLOSED").await;
    }
    assert_eq!(stub.elsewhere(), 0, "a redirect was followed");
    node.stop().await;
    stub.stop().await;
}

#[actix_web::test]
async fn only_named_events_are_marked() {
    let stub = StubPeer::start().await;
    let (node, till) = node_with(&stub).await;
    stub.behave(Behaviour::NamesOthers);
    sales(&node, &till, 4).await;
    wait("an exchange", async || !stub.batches().is_empty()).await;
    assert_eq!(pending(&node).await, 4);
    stub.behave(Behaviour::NamesFewer(1));
    wait("all, one by one", async || pending(&node).await == 0).await;
    let there = ids(&stub.accepted());
    assert_eq!(there.len(), 4, "{there:?}");
    node.stop().await;
    stub.stop().await;
}

#[actix_web::test]
async fn a_batch_that_is_too_large_is_split_and_no_failure() {
    let stub = StubPeer::start().await;
    let (node, till) = node_with(&stub).await;
    stub.behave(Behaviour::AtMost(3));
    let events = sales(&node, &till, 20).await;
    delivered(&stub, &events).await;
    assert_eq!((breaker(&node).await.as_str(), spent(&node).await), ("CLOSED", 0));
    stub.behave(Behaviour::AtMost(0));
    sales(&node, &till, 1).await;
    wait("the one that cannot be split to be dead", async || status(&node).await["peers"][0]["dead"] == 1)
        .await;
    node.stop().await;
    stub.stop().await;
}

#[actix_web::test]
async fn one_event_that_the_peer_always_fails_at_ends_dead_alone() {
    let stub = StubPeer::start().await;
    let (node, till) = node_with(&stub).await;
    let events: Vec<Value> = (0..25).map(|_| sale()).collect();
    let poison = ids(&events)[7].clone();
    stub.behave(Behaviour::FailsAt(poison.clone(), 500));
    node.client.push(&till, &events).await;
    let others: Vec<String> = ids(&events).into_iter().filter(|event_id| *event_id != poison).collect();
    delivered(&stub, &others).await;
    wait("the poison to be dead", async || status(&node).await["peers"][0]["dead"] == 1).await;
    let more = sales(&node, &till, 3).await;
    delivered(&stub, &more).await;
    assert!(!ids(&stub.accepted()).contains(&poison));
    assert_eq!(breaker(&node).await, "CLOSED");
    node.stop().await;
    stub.stop().await;
}

#[actix_web::test]
async fn a_refused_event_spends_its_own_retries_and_is_shown() {
    let stub = StubPeer::start().await;
    let (node, till) = node_with(&stub).await;
    let events: Vec<Value> = (0..5).map(|_| sale()).collect();
    let refused = ids(&events)[2].clone();
    stub.behave(Behaviour::Refuses(HashSet::from([refused.clone()])));
    node.client.push(&till, &events).await;
    wait("the refused one to be dead", async || status(&node).await["peers"][0]["dead"] == 1).await;
    let shown = status(&node).await;
    assert_eq!((&shown["circuitBreakerState"], &shown["queue"]["failed"]), (&json!("CLOSED"), &json!(1)));
    assert_eq!(shown["lastRelayError"]["eventId"], refused.as_str(), "{shown}");
    let sent = stub.batches().iter().filter(|batch| ids(batch).contains(&refused)).count();
    assert_eq!(sent, 3, "as often as it may be retried");
    let path = format!("/sync/events/{refused}?store_id={}", till.store_id);
    let trail = node.client.admin(&path).await;
    let entry =
        trail["outbox"].as_array().unwrap().iter().find(|e| e["target"] == "federation-relay").unwrap();
    assert_eq!((&entry["status"], &entry["peer"]), (&json!("dead"), &json!("stub")), "{trail}");
    assert!(entry["error"].as_str().unwrap().contains("not to my taste"), "{trail}");
    node.stop().await;
    stub.stop().await;
}

#[actix_web::test]
async fn a_backlog_comes_in_causal_order() {
    let stub = StubPeer::start().await;
    let (node, till) = node_with(&stub).await;
    stub.behave(Behaviour::Answer(503, None, String::new()));
    // As a till queues them in an outage; the node takes them hours apart.
    let (session, debt) = (id(), id());
    let mut sold = sale();
    sold["payload"]["session_id"] = json!(session);
    for late_first in [
        event("DebtPaymentRecorded", json!({ "payment_id": id(), "debt_id": debt, "amount": 1 })),
        sold,
        event("DebtCreated", json!({ "debt_id": debt, "total_amount": 5 })),
        event("CashSessionOpened", json!({ "session_id": session })),
    ] {
        node.client.push(&till, &[late_first]).await;
    }
    wait("an open breaker", async || breaker(&node).await == "OPEN").await;
    stub.behave(Behaviour::Good);
    wait("an empty queue", async || pending(&node).await == 0).await;
    let order: Vec<Value> = stub.accepted().into_iter().map(|event| event["type"].clone()).collect();
    assert_eq!(order, ["CashSessionOpened", "DebtCreated", "SaleCreated", "DebtPaymentRecorded"]);
    node.stop().await;
    stub.stop().await;
}

#[actix_web::test]
async fn a_peer_that_asks_for_time_is_given_it() {
    let stub = StubPeer::start().await;
    let (node, till) = node_with(&stub).await;
    stub.behave(Behaviour::Answer(429, Some(("retry-after", "2".to_owned())), String::new()));
    let began = tokio::time::Instant::now();
    let events = sales(&node, &till, 1).await;
    wait("an exchange", async || !stub.batches().is_empty()).await;
    stub.behave(Behaviour::Good);
    delivered(&stub, &events).await;
    assert!(began.elapsed().as_millis() >= 2_000, "{:?}", began.elapsed());
    node.stop().await;
    stub.stop().await;
}

#[actix_web::test]
async fn an_event_of_an_unknown_type_goes_as_it_came() {
    let stub = StubPeer::start().await;
    let (node, till) = node_with(&stub).await;
    let text = format!(
        r#"{{"store_id":"{}","device_id":"{}","client_version":"9","events":[{{"event_id":"e-1","seq":1,"type":"SomethingNew",
        "version":7,"created_at":1763950000123,"payload":{{"b":1e2,"a":"ñ \u0041","z":1.10}},
        "vector_clock":{{"t":3}},"causal_dependencies":["x"],"request_id":"r"}}]}}"#,
        till.store_id, till.device_id
    );
    let request = node.client.request("POST", "/sync/push").bearer_auth(&till.token);
    let answer = node.client.send(request.header("content-type", "application/json").body(text)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    wait("the event", async || !stub.accepted().is_empty()).await;
    let there = stub.accepted().remove(0);
    assert_eq!((&there["type"], &there["version"]), (&json!("SomethingNew"), &json!(7)), "{there}");
    assert_eq!(there["payload"], json!({ "b": 1e2, "a": "ñ A", "z": 1.10 }));
    assert_eq!((&there["vector_clock"], &there["causal_dependencies"]), (&json!({ "t": 3 }), &json!(["x"])));
    assert_eq!((&there["request_id"], &there["device_id"]), (&json!("r"), &json!(till.device_id)));
    let own = node.client.call("GET", "/readyz", ADMIN, None).await;
    assert_eq!(own.status, 200);
    assert_eq!(there["origin_node"], json!(node.node.state.own.get().node_id));
    node.stop().await;
    stub.stop().await;
}

#[actix_web::test]
async fn an_open_breaker_is_open_after_a_restart() {
    let (address, at) = (free_address(), free_address());
    let settings = &[("VELOX_OUTBOX_POLL_MS", "100"), ("VELOX_BREAKER_FAILURES", "2")];
    let node = node_at(at, &peer("stub", address, KEY), settings).await;
    let till = node.client.till().await;
    sales(&node, &till, 1).await;
    wait("an open breaker", async || breaker(&node).await == "OPEN").await;
    let database = node.database.clone();
    let open: i64 = {
        let pool = database.pool().await;
        let sql = "SELECT count(*) FROM peer_breakers WHERE state = 'OPEN' AND opened_at <= now()";
        sqlx::query_scalar(sql).fetch_one(&pool).await.expect("a count")
    };
    assert_eq!(open, 1);
    node.stop().await;
    let stub = StubPeer::start_at(address).await;
    let again = pod_at(database, at, &peer("stub", address, KEY), settings).await;
    wait("the state of before", async || breaker(&again).await == "OPEN").await;
    sales(&again, &till, 1).await;
    assert!(stub.batches().is_empty(), "nothing goes out while it is open: {:?}", stub.batches());
    again.stop().await;
    stub.stop().await;
}
