//! A v1 till's day, from its push to the figures that the shop reads.

use crate::support::{ADMIN, TestNode, Till};
use serde_json::{Value, json};

fn v1_day() -> Value {
    serde_json::from_str(include_str!("../../../protocol/vectors/v1-day.json")).expect("JSON")
}

/// The fixture's own till.
async fn v1_till(node: &TestNode, day: &Value) -> Till {
    let push = &day["till_push"];
    let store = json!({ "store_id": push["store_id"], "name": "Bodega" });
    assert_eq!(node.client.call("POST", "/admin/stores", ADMIN, Some(&store)).await.status, 201);
    let device = json!({ "store_id": push["store_id"], "device_id": push["device_id"] });
    let answer = node.client.call("POST", "/admin/devices", ADMIN, Some(&device)).await.json();
    Till {
        store_id: push["store_id"].as_str().expect("an id").parse().expect("a UUID"),
        device_id: push["device_id"].as_str().expect("an id").to_owned(),
        token: answer["token"].as_str().expect("a token").to_owned(),
    }
}

#[actix_web::test]
async fn a_v1_tills_day_lands_in_every_table_with_the_right_figures() {
    let node = TestNode::start().await;
    let day = v1_day();
    let till = v1_till(&node, &day).await;
    let events = day["till_push"]["events"].as_array().expect("events");
    let answer = node.client.push(&till, events).await;
    assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(events.len()));
    assert_eq!(answer["rejected"], json!([]));
    assert_eq!(answer["last_processed_seq"], 5347);
    assert_eq!(answer["server_vector_clock"], json!({ &till.device_id: 5347 }));
    for push in day["node_pushes"].as_array().expect("pushes") {
        let status = node.client.call("POST", "/sync/push", ADMIN, Some(push)).await.status;
        assert_eq!(status, 200);
    }
    node.client.projected().await;

    let sales = node.client.list(&till, "sales").await;
    assert_eq!(sales.len(), 3);
    assert_eq!(sales.iter().filter(|sale| !sale["voided_at"].is_null()).count(), 1);
    let debts = node.client.list(&till, "debts").await;
    let mut remaining: Vec<&str> = debts.iter().filter_map(|d| d["remaining_amount"].as_str()).collect();
    remaining.sort_unstable();
    assert_eq!(remaining, ["38.44", "400.05"], "the node's debt stands for the derived one");
    let stock = node.client.list(&till, "stock").await;
    let oil = stock.iter().find(|row| row["product_name"] == "Aceite 1 L").expect("oil");
    assert_eq!(oil["stock"], "9.000", "12 received, 1 and 2 sold in two lines");
    let sugar = stock.iter().find(|row| row["product_name"] == "Azúcar 1 kg").expect("sugar");
    assert_eq!(sugar["stock"], "19.745");
    let cheese = stock.iter().find(|row| row["product_name"] == "Queso blanco").expect("cheese");
    assert_eq!(cheese["stock"], "16.000", "its sale was voided");
    assert_eq!(node.client.list(&till, "products").await.len(), 6);
    let customers = node.client.list(&till, "customers").await;
    assert_eq!(customers[0]["phone"], "0424-1111111");
    let sessions = node.client.list(&till, "cash-sessions").await;
    assert_eq!(sessions[0]["opening_amount_bs"], "365.30");
    assert!(!sessions[0]["closed_at"].is_null());
    assert_eq!(node.client.list(&till, "cash-ledger").await.len(), 2);
    node.stop().await;
}

#[actix_web::test]
async fn a_repeated_push_is_told_duplicate_and_changes_nothing() {
    let node = TestNode::start().await;
    let day = v1_day();
    let till = v1_till(&node, &day).await;
    let events = day["till_push"]["events"].as_array().expect("events");
    node.client.push(&till, events).await;
    node.client.projected().await;
    let before = node.client.list(&till, "stock").await;
    let again = node.client.push(&till, events).await;
    assert_eq!(again["accepted"].as_array().map(Vec::len), Some(events.len()));
    assert_eq!(again["duplicates"].as_array().map(Vec::len), Some(events.len()));
    node.client.projected().await;
    assert_eq!(node.client.list(&till, "stock").await, before);
    node.stop().await;
}
