//! Fiscal numbers over HTTP: ranges for tills, single numbers, the ledger, and whose a series is.

use crate::support::{ADMIN, Client, TestNode, Till, event, id, sale, wait};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Declares a series of a till's shop; its id.
pub(crate) async fn declared(node: &TestNode, till: &Till, next_number: i64) -> String {
    let body =
        json!({ "store_id": till.store_id, "name": "Caja", "prefix": "A-", "next_number": next_number });
    let answer = node.client.call("POST", "/fiscal/series", ADMIN, Some(&body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["series_id"].as_str().expect("an id").to_owned()
}

/// A range for a till.
pub(crate) async fn reserved(client: &Client, till: &Till, series: &str) -> Value {
    let (status, answer) = reserve(client, till, series, json!({})).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn reserve(client: &Client, till: &Till, series: &str, more: Value) -> (u16, Value) {
    let mut body = json!({ "series_id": series, "device_id": till.device_id });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let answer = client.call("POST", "/fiscal/reserve-range", &till.token, Some(&body)).await;
    (answer.status, answer.json())
}

pub(crate) async fn consume(client: &Client, till: &Till, series: &str, more: Value) -> (u16, Value) {
    let mut body = json!({ "series_id": series, "device_id": till.device_id });
    if let Some(sale_id) = more.get("sale_id") {
        body["sale_id"] = sale_id.clone();
    }
    let answer = client.call("POST", "/fiscal/consume", &till.token, Some(&body)).await;
    (answer.status, answer.json())
}

/// A sale that bears a number.
fn numbered(series: &str, number: i64) -> Value {
    let mut sale = sale();
    sale["payload"]["series_id"] = json!(series);
    sale["payload"]["fiscal_number"] = json!(format!("A-{number}"));
    sale
}

async fn ledger(client: &Client, till: &Till, series: &str) -> Value {
    client.admin(&format!("/fiscal/ledger?store_id={}&series_id={series}&limit=1000", till.store_id)).await
}

async fn state(client: &Client, till: &Till, series: &str, number: i64) -> String {
    let ledger = ledger(client, till, series).await;
    let rows = ledger["items"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["number"] == number).expect("the number");
    row["state"].as_str().expect("a state").to_owned()
}

#[actix_web::test]
async fn a_till_reserves_consumes_and_reports_in_v1s_shapes() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let series = declared(&node, &till, 7).await;
    let active = format!("/fiscal/active-range?series_id={series}&device_id={}", till.device_id);
    let none = node.client.call("GET", &active, &till.token, None).await.json();
    assert_eq!(none, json!({ "has_range": false }));
    let range = reserved(&node.client, &till, &series).await;
    for (name, expected) in [
        ("store_id", json!(till.store_id)),
        ("series_id", json!(series)),
        ("device_id", json!(till.device_id)),
        ("range_start", json!(7)),
        ("range_end", json!(56)),
        ("used_up_to", json!(6)),
        ("status", json!("active")),
    ] {
        assert_eq!(range[name], expected, "{name}");
    }
    assert!(range["granted_at"].as_str() < range["expires_at"].as_str());
    let shown = node.client.call("GET", &active, &till.token, None).await.json();
    assert_eq!(
        (&shown["has_range"], &shown["remaining"], &shown["id"]),
        (&json!(true), &json!(50), &range["id"])
    );
    let same = reserved(&node.client, &till, &series).await;
    assert_eq!(same["id"], range["id"], "within a minute");
    for number in 7..10 {
        let taken = consume(&node.client, &till, &series, json!({})).await;
        assert_eq!(taken, (200, json!({ "number": number })));
    }
    let sale_id = json!({ "sale_id": id() });
    for _ in 0..2 {
        let taken = consume(&node.client, &till, &series, sale_id.clone()).await;
        assert_eq!(taken, (200, json!({ "number": 10 })), "one number a sale");
    }
    let report = json!({ "range_id": range["id"], "used_up_to": 56 });
    let told = node.client.call("POST", "/fiscal/report", &till.token, Some(&report)).await.json();
    assert_eq!((&told["status"], &told["used_up_to"]), (&json!("exhausted"), &json!(56)));
    let (status, problem) = consume(&node.client, &till, &series, json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("RANGE_EXHAUSTED")));
    let next = reserved(&node.client, &till, &series).await;
    assert_eq!(next["range_start"], 57);
    let path = format!("/fiscal/device-ranges?device_id={}", till.device_id);
    let ranges = node.client.call("GET", &path, &till.token, None).await.json();
    assert_eq!(ranges["ranges"].as_array().expect("ranges").len(), 2);
    node.stop().await;
}

#[actix_web::test]
async fn absurd_requests_are_refused_and_grant_nothing() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let series = declared(&node, &till, 1).await;
    for quantity in
        [json!(0), json!(-1), json!(10_001), json!(1e18), json!(1.5), json!("50"), json!([]), json!(true)]
    {
        let (status, answer) = reserve(&node.client, &till, &series, json!({ "quantity": quantity })).await;
        assert_eq!((status, &answer["code"]), (400, &json!("INVALID_QUANTITY")), "{quantity}");
    }
    for more in [json!({ "series_id": "x" }), json!({ "request_id": "x".repeat(201) })] {
        let (status, _) = reserve(&node.client, &till, &series, more.clone()).await;
        assert_eq!(status, 400, "{more}");
    }
    let (status, _) = reserve(&node.client, &till, &id(), json!({})).await;
    assert_eq!(status, 404, "an unknown series");
    let range = reserved(&node.client, &till, &series).await;
    assert_eq!(range["range_start"], 1, "nothing was granted before");
    for used_up_to in [-1, 51, i64::MAX] {
        let report = json!({ "range_id": range["id"], "used_up_to": used_up_to });
        let answer = node.client.call("POST", "/fiscal/report", &till.token, Some(&report)).await;
        assert_eq!(answer.status, 400, "{used_up_to}");
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_repeat_of_a_request_whose_answer_was_lost_gets_the_same_range() {
    let one = TestNode::start().await;
    let till = one.client.till().await;
    let series = declared(&one, &till, 1).await;
    let request = json!({ "request_id": id(), "quantity": 5 });
    let (_, first) = reserve(&one.client, &till, &series, request.clone()).await;
    // Another range since, and another pod.
    let used = json!({ "range_id": first["id"], "used_up_to": 5 });
    assert_eq!(one.client.call("POST", "/fiscal/report", &till.token, Some(&used)).await.status, 200);
    assert_eq!(reserved(&one.client, &till, &series).await["range_start"], 6);
    let pod = TestNode::pod(one.database.clone(), &[]).await;
    let (status, again) = reserve(&pod.client, &till, &series, request.clone()).await;
    assert_eq!((status, &again["id"], &again["used_up_to"]), (200, &first["id"], &json!(5)));
    let elsewhere = declared(&one, &till, 1).await;
    let (status, reused) = reserve(&one.client, &till, &elsewhere, request).await;
    assert_eq!((status, &reused["code"]), (409, &json!("REQUEST_ID_REUSED")));
    pod.stop().await;
    one.stop().await;
}

#[actix_web::test]
async fn sixty_four_tills_reserve_at_once_over_two_pods_without_overlap_or_hole() {
    let one = TestNode::start().await;
    let other = TestNode::pod(one.database.clone(), &[]).await;
    let first = one.client.till().await;
    let series = declared(&one, &first, 1).await;
    let mut tills = Vec::new();
    for _ in 0..64 {
        tills.push(one.client.till_of(first.store_id).await);
    }
    let asked = tills.iter().enumerate().map(|(i, till)| {
        let client = if i % 2 == 0 { &one.client } else { &other.client };
        reserve(client, till, &series, json!({ "quantity": 5 }))
    });
    let mut numbers = BTreeSet::new();
    for (status, range) in join_all(asked).await {
        assert_eq!(status, 200, "{range}");
        let bound = |name: &str| range[name].as_i64().expect("a number");
        for number in bound("range_start")..=bound("range_end") {
            assert!(numbers.insert(number), "{number} twice");
        }
    }
    assert_eq!((numbers.len(), numbers.last()), (320, Some(&320)), "no hole");
    let ledger = ledger(&one.client, &first, &series).await;
    assert_eq!((ledger["items"].as_array().expect("rows").len(), &ledger["free_from"]), (320, &json!(321)));
    other.stop().await;
    one.stop().await;
}

#[actix_web::test]
async fn two_sales_with_one_number_are_told_of_and_shown_in_the_ledger() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let series = declared(&node, &till, 1).await;
    reserved(&node.client, &till, &series).await;
    let (once, twice) = (numbered(&series, 3), numbered(&series, 3));
    node.client.push(&till, &[numbered(&series, 1), once.clone(), twice]).await;
    node.client.projected().await;
    assert_eq!(state(&node.client, &till, &series, 1).await, "issued");
    assert_eq!(state(&node.client, &till, &series, 2).await, "held");
    let ledger = ledger(&node.client, &till, &series).await;
    assert_eq!(ledger["items"][2]["duplicate"], true);
    assert_eq!(node.node.state.store.fiscal_duplicates(None).await.expect("duplicates").len(), 1);
    // It looks at its start, too.
    node.client.fault(json!({ "actor": "fiscal_allocator", "fault": "panic", "times": 1 })).await;
    let (status, _) = consume(&node.client, &till, &series, json!({})).await;
    assert_eq!(status, 503);
    wait("the notification", async || {
        let told = node.client.list(&till, "notifications").await;
        told.iter().any(|told| told["type"] == "FISCAL_DUPLICATE")
    })
    .await;
    let voided = event("SaleVoided", json!({ "sale_id": once["payload"]["sale_id"], "reason": "doble" }));
    node.client.push(&till, &[voided]).await;
    node.client.projected().await;
    assert_eq!(node.node.state.store.fiscal_duplicates(None).await.expect("duplicates"), []);
    node.stop().await;
}

#[actix_web::test]
async fn sales_are_taken_while_the_allocator_is_struck() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let series = declared(&node, &till, 1).await;
    for fault in ["error", "panic", "hang"] {
        node.client.fault(json!({ "actor": "fiscal_allocator", "fault": fault })).await;
        if fault != "hang" {
            let (status, answer) = reserve(&node.client, &till, &series, json!({})).await;
            assert_eq!(status, 503, "{fault}: {answer}");
        }
        let answer = node.client.push(&till, &[numbered(&series, 9)]).await;
        assert_eq!(answer["accepted"].as_array().expect("accepted").len(), 1, "{fault}");
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_node_that_does_not_own_a_series_says_who_does() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let series = id();
    let elsewhere = json!({ "series_id": series, "name": "Norte", "next_number": 1, "owner_node": "north" });
    node.client.push(&till, &[event("FiscalSeriesDeclared", elsewhere)]).await;
    node.client.projected().await;
    let (status, answer) = reserve(&node.client, &till, &series, json!({})).await;
    assert_eq!((status, &answer["code"]), (409, &json!("NOT_OWNER")));
    assert!(answer["detail"].as_str().expect("a text").contains("north"), "{answer}");
    node.stop().await;
}
