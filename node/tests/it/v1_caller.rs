//! A v1 node calls: it relays events, asks whether a store is here, how the federation goes, and for the stock.

use crate::pair::pending;
use crate::support::{ADMIN, Till, event, id, sale, wait};
use crate::v1_node::{self, PSEUDO, V1Node};
use crate::wire::{now_ms, problem, projection_of};
use serde_json::{Value, json};
use uuid::Uuid;

fn store() -> Uuid {
    id().parse().expect("a UUID")
}

async fn reader(node: &crate::support::TestNode, store_id: Uuid) -> Till {
    node.client.till_of(store_id).await
}

#[actix_web::test]
async fn a_store_that_a_v1_node_brings_is_made_and_its_events_are_not_sent_back() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let store_id = store();
    let brought = v1_node::event("ProductCreated", json!({ "product_id": id(), "name": "Café" }));
    let (status, answer) = v1.relay(store_id, &id(), &brought).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["accepted"][0]["event_id"], brought["event_id"]);
    for list in ["rejected", "conflicted", "duplicates"] {
        assert_eq!(answer[list], json!([]), "{list}");
    }
    node.client.projected().await;
    let till = reader(&node, store_id).await;
    assert_eq!(node.client.list(&till, "products").await[0]["name"], "Café");
    let path = format!("/sync/events/{}?store_id={store_id}", brought["event_id"].as_str().expect("an id"));
    let trail = node.client.admin(&path).await;
    assert_eq!(trail["origin_node"], "v1");
    assert_eq!((&trail["deliveries"], pending(&node).await), (&json!([]), 0), "it came from there");

    let (status, answer) = v1.relay(store_id, &id(), &brought).await;
    assert_eq!((status, &answer["duplicates"]), (200, &json!([brought["event_id"]])));
    assert_eq!(v1.state().pushes.len(), 0);
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_v1_nodes_events_are_taken_as_a_nodes_and_not_as_a_tills() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let (store_id, device) = (store(), id());
    let first = v1_node::event("CustomerCreated", json!({ "customer_id": id(), "name": "Ana" }));
    assert_eq!(v1.relay(store_id, &device, &first).await.0, 200);
    let mut other = first.clone();
    other["payload"]["name"] = json!("Anna");
    let answer = v1.relay(store_id, &device, &other).await.1;
    assert_eq!(answer["rejected"], json!([]), "other content is no refusal between nodes");
    assert_eq!(answer["warnings"][0]["code"], "EVENT_CONTENT_CONFLICT");

    let mut lax = v1_node::event("CustomerUpdated", json!({ "customer_id": id(), "name": "Eva" }));
    lax["full_payload_hash"] = json!("ab".repeat(32));
    let answer = v1.relay(store_id, &device, &lax).await.1;
    assert_eq!(answer["warnings"][0]["code"], "HASH_UNUSABLE");
    let mut strict = v1_node::event("SaleVoided", json!({ "sale_id": id() }));
    strict["full_payload_hash"] = json!("ab".repeat(32));
    let answer = v1.relay(store_id, &device, &strict).await.1;
    assert_eq!(answer["rejected"][0]["code"], "INTEGRITY_ERROR", "{answer}");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn synthetic_sales_are_refused_and_counted_and_make_no_store() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let day: Value =
        serde_json::from_str(include_str!("../../../protocol/vectors/v1-day.json")).expect("JSON");
    let push = day["node_pushes"][2].clone();
    let (status, answer) = v1.ask("POST", "/sync/push", Some(&push)).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!([])), "{answer}");
    assert_eq!(answer["rejected"][0]["code"], "INTEGRITY_ERROR");
    assert!(node.client.figure("velox_hash_mismatches_total").await >= 1);
    let store = push["store_id"].as_str().expect("an id");
    let path = format!("/sync/federation/store-status?store_id={store}");
    problem(&node.client.call("GET", &path, ADMIN, None).await, 404, "no store");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_v1_node_is_refused_for_stores_that_it_is_not_configured_for() {
    let v1 = V1Node::start();
    let (own, other) = (store(), store());
    let peers = v1.as_peer_with(v1_node::SECRET, Some(&[own]));
    let node = v1.with_node(&[("VELOX_PEERS", &peers)]).await;
    let till = node.client.till_named(other, &id()).await;
    node.client.push(&till, &[sale()]).await;
    let brought = v1_node::event("ProductCreated", json!({ "product_id": id() }));
    assert_eq!(v1.relay(other, &id(), &brought).await.0, 403);
    assert_eq!(v1.relay(own, &id(), &brought).await.0, 200);
    for (path, expected) in [
        (format!("/sync/federation/sales-ids?store_id={other}"), 403),
        (format!("/sync/federation/sales-ids?store_id={own}"), 200),
        (format!("/sync/federation/store-status?store_id={other}"), 403),
        (format!("/sync/federation/store-status?store_id={own}"), 200),
    ] {
        assert_eq!(v1.ask("GET", &path, None).await.0, expected, "{path}");
    }
    for call in ["replay-sales", "reconcile-inventory-stock"] {
        let body = json!({ "store_id": other, "sale_ids": [id()] });
        let (status, answer) = v1.ask("POST", &format!("/sync/federation/{call}"), Some(&body)).await;
        assert_eq!(status, 403, "{call}: {answer}");
    }
    assert_eq!(v1.state().pushes.len(), 0, "nothing of the other store goes there");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_v1_node_that_deletes_what_does_not_exist_elsewhere_never_deletes_for_us() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let (known, unknown) = (store(), store());
    let brought = v1_node::event("ProductCreated", json!({ "product_id": id() }));
    v1.relay(known, &id(), &brought).await;
    v1.keep(unknown, &id(), &brought);
    assert_eq!(v1.check_store(known).await, (200, json!({ "exists": true })));
    let (status, body) = v1.check_store(unknown).await;
    assert_eq!(status, 404);
    assert_eq!(body.get("exists"), None, "{body}");
    for path in ["/sync/federation/store-status", "/sync/federation/store-status?store_id=none"] {
        assert_eq!(v1.ask("GET", path, None).await.0, 400, "{path}");
    }
    assert_eq!(v1.state().shops.len(), 2, "it has them both");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_v1_node_may_ask_how_the_federation_goes_and_is_told_of_itself_alone() {
    let v1 = V1Node::start();
    let mut peers: Vec<Value> = serde_json::from_str(&v1.as_peer()).expect("JSON");
    let other = json!({ "name": "other", "url": "http://127.0.0.1:9", "key": "another-key-of-another-node" });
    peers.insert(0, other);
    let peers = json!(peers).to_string();
    let node = v1.with_node(&[("VELOX_PEERS", &peers)]).await;
    let (status, body) = v1.ask("GET", "/sync/federation/status", None).await;
    assert_eq!(status, 200);
    assert_eq!((&body["enabled"], &body["circuitBreakerState"]), (&json!(true), &json!("CLOSED")), "{body}");
    assert_eq!(body["peers"].as_array().map(Vec::len), Some(1), "{body}");
    assert_eq!((&body["peers"][0]["name"], &body["remoteProbe"]["ok"]), (&json!("v1"), &json!(true)));
    assert!(!v1.state().calls.iter().any(|(call, _)| call == "status"), "or the two would ask for ever");
    for key in ["remoteUrl", "queue", "lastRelayError"] {
        assert!(body.get(key).is_some(), "{key} is missing: {body}");
    }
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn the_stock_is_counted_anew_and_what_was_wrong_is_told() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let till = node.client.till().await;
    let products = [id(), id(), id()];
    let received = |product: &String| {
        event("StockReceived", json!({ "movement_id": id(), "product_id": product, "qty": 5 }))
    };
    let events: Vec<Value> = products.iter().map(received).collect();
    node.client.push(&till, &events).await;
    node.client.projected().await;
    let before = node.client.list(&till, "stock").await;
    let pool = node.database.pool().await;
    let run = async |sql: &str, product: &str| {
        let product: Uuid = product.parse().expect("a UUID");
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(product).execute(&pool).await.expect(sql);
    };
    run("UPDATE warehouse_stock SET stock = 7 WHERE product_id = $1", &products[0]).await;
    run("DELETE FROM warehouse_stock WHERE product_id = $1", &products[1]).await;
    run(
        "INSERT INTO warehouse_stock SELECT store_id, gen_random_uuid(), variant_id, warehouse_id, 3
         FROM warehouse_stock WHERE product_id = $1",
        &products[2],
    )
    .await;
    let body = json!({ "store_id": till.store_id });
    let path = "/sync/federation/reconcile-inventory-stock";
    let (status, answer) = v1.ask("POST", path, Some(&body)).await;
    assert_eq!(status, 200);
    let expected = json!({ "ok": true, "message": answer["message"], "patchedNullWarehouse": 0, "updatedRows": 1,
        "insertedRows": 1, "zeroedRows": 1 });
    assert_eq!(answer, expected);
    assert_eq!(node.client.list(&till, "stock").await, before);
    let again = v1.ask("POST", path, Some(&body)).await.1;
    assert_eq!(
        (&again["updatedRows"], &again["insertedRows"], &again["zeroedRows"]),
        (&json!(0), &json!(0), &json!(0))
    );
    node.stop().await;
    v1.stop().await;
}

/// Of a sale on credit, as both a v1 till and its node know it.
fn fiao(sale_id: &str) -> Value {
    let item =
        json!({ "line_id": id(), "product_id": id(), "qty": 2, "unit_price_usd": 5, "unit_price_bs": 180 });
    let totals = json!({ "total_usd": 10, "total_bs": 360 });
    v1_node::event(
        "SaleCreated",
        json!({ "sale_id": sale_id, "request_id": id(), "items": [item], "totals": totals,
            "payment": { "method": "FIAO" }, "customer_id": id(), "sold_at": now_ms() }),
    )
}

#[actix_web::test]
async fn a_payment_of_a_debt_that_only_v1_knows_brings_the_debt_and_links_it_to_the_sale() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let (store_id, device, sale_id) = (store(), id(), id());
    let sold = fiao(&sale_id);
    v1.relay(store_id, &device, &sold).await;
    node.client.projected().await;
    let till = reader(&node, store_id).await;
    assert_eq!(node.client.list(&till, "debts").await[0]["derived"], json!(true));
    let debt_id = v1.state().shops[&store_id].debts.keys().next().expect("v1's own debt").clone();
    let paid = json!({ "payment_id": id(), "debt_id": debt_id, "amount_usd": 4, "amount_bs": 0, "method": "CASH_USD" });
    let paid = v1_node::event("DebtPaymentRecorded", paid);
    let began = now_ms();
    v1.relay(store_id, &device, &paid).await;

    let debts = async || node.client.list(&till, "debts").await;
    wait("v1's debt", async || debts().await.iter().any(|debt| debt["id"] == json!(debt_id))).await;
    assert!(now_ms() - began < 30_000, "it is asked for at once, and not when it is looked for again");
    node.client.projected().await;
    let [debt] = debts().await.try_into().expect("one debt a sale");
    assert_eq!((&debt["sale_id"], &debt["derived"]), (&json!(sale_id), &json!(false)), "{debt}");
    assert_eq!((&debt["remaining_amount"], &debt["status"]), (&json!("6.00"), &json!("partial")), "{debt}");
    let pool = node.database.pool().await;
    let event_id = paid["event_id"].as_str().expect("an id");
    assert_eq!(projection_of(&pool, store_id, event_id).await.0, "processed", "it waits no more");
    let asked: Vec<(String, Value)> =
        v1.state().calls.iter().filter(|(call, _)| call == "replay-debts").cloned().collect();
    assert_eq!(asked, [("replay-debts".to_owned(), json!({ "store_id": store_id, "debt_ids": [debt_id] }))]);
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_debt_that_v1_does_not_know_is_not_asked_for_at_every_payment() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let (store_id, debt_id) = (store(), id());
    for _ in 0..3 {
        let paid = json!({ "payment_id": id(), "debt_id": debt_id, "amount_usd": 1, "method": "CASH_USD" });
        v1.relay(store_id, &id(), &v1_node::event("DebtPaymentAdded", paid)).await;
        node.client.projected().await;
    }
    let other = json!({ "payment_id": id(), "debt_id": id(), "amount_usd": 1, "method": "CASH_USD" });
    v1.relay(store_id, &id(), &v1_node::event("DebtPaymentAdded", other.clone())).await;
    let asked = || -> Vec<Value> {
        let calls = &v1.state().calls;
        calls
            .iter()
            .filter(|(call, _)| call == "replay-debts")
            .map(|(_, body)| body["debt_ids"].clone())
            .collect()
    };
    wait("the other debt to be asked for", async || asked().contains(&json!([other["debt_id"]]))).await;
    assert_eq!(asked(), [json!([debt_id]), json!([other["debt_id"]])]);
    assert_ne!(debt_id, PSEUDO);
    node.stop().await;
    v1.stop().await;
}
