//! What a till takes along: whole at one moment, and nothing is missing between it and the pull that goes on from it.

use crate::support::{ADMIN, Client, TestNode, Till, event, id, wait};
use serde_json::{Value, json};
use std::collections::BTreeSet;

async fn snapshot(client: &Client, till: &Till) -> Value {
    let answer = client.call("GET", "/sync/snapshot", &till.token, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn ids<'a>(rows: &'a Value, column: &str) -> BTreeSet<&'a str> {
    let rows = rows.as_array().expect("rows").iter();
    rows.map(|row| row[column].as_str().unwrap_or_else(|| panic!("no {column}: {row}"))).collect()
}

fn product() -> (String, Value) {
    let product = id();
    let made = event("ProductCreated", json!({ "product_id": product, "name": "Harina", "price_usd": 2 }));
    (product, made)
}

/// Products of all events from a cursor on.
async fn pulled_products(client: &Client, till: &Till, mut cursor: String) -> BTreeSet<String> {
    let mut products = BTreeSet::new();
    loop {
        let page = client.call("GET", &format!("/sync/pull?cursor={cursor}"), &till.token, None).await.json();
        for event in page["events"].as_array().expect("events") {
            products.extend(event["payload"]["product_id"].as_str().map(str::to_owned));
        }
        cursor = page["next_cursor"].as_str().expect("a cursor").to_owned();
        if page["has_more"] == json!(false) {
            return products;
        }
    }
}

fn sold(product: &str, qty: u32, sale_id: &str) -> Value {
    let item = json!({ "product_id": product, "qty": qty, "unit_price_usd": 2 });
    let totals = json!({ "total_usd": 2 * qty, "total_bs": 73 * qty });
    event(
        "SaleCreated",
        json!({ "sale_id": sale_id, "items": [item], "payment": { "method": "CASH_USD" }, "totals": totals }),
    )
}

#[actix_web::test]
async fn a_till_takes_along_what_it_sells_to_whom_and_what_is_owed() {
    let node = TestNode::start().await;
    let client = &node.client;
    let till = client.till().await;
    let ((bread, made), (soup, other)) = (product(), product());
    let (customer, owed, paid, open, closed, voided) = (id(), id(), id(), id(), id(), id());
    let debt = |debt_id: &str| {
        event("DebtCreated", json!({ "debt_id": debt_id, "customer_id": customer, "amount_usd": 5 }))
    };
    let events = [
        made,
        other,
        event("ProductUpdated", json!({ "product_id": soup, "track_inventory": false })),
        event("CustomerCreated", json!({ "customer_id": customer, "name": "Ana" })),
        event("StockReceived", json!({ "movement_id": id(), "product_id": bread, "qty": 9 })),
        debt(&owed),
        debt(&paid),
        event("DebtPaymentRecorded", json!({ "payment_id": id(), "debt_id": owed, "amount_usd": 1 })),
        event("DebtPaymentRecorded", json!({ "payment_id": id(), "debt_id": paid, "amount_usd": 5 })),
        event("CashSessionOpened", json!({ "session_id": open })),
        event("CashSessionOpened", json!({ "session_id": closed })),
        event("CashSessionClosed", json!({ "session_id": closed })),
        sold(&bread, 3, &id()),
        sold(&soup, 7, &id()),
        sold(&bread, 20, &voided),
        event("SaleVoided", json!({ "sale_id": voided })),
    ];
    client.push(&till, &events).await;
    client.projected().await;
    let taken = snapshot(client, &till).await;
    assert_eq!((&taken["store_id"], &taken["truncated"]), (&json!(till.store_id), &json!(false)));
    assert_eq!(ids(&taken["products"], "id"), BTreeSet::from([bread.as_str(), soup.as_str()]));
    assert_eq!(ids(&taken["customers"], "id"), BTreeSet::from([customer.as_str()]));
    assert_eq!(ids(&taken["debts"], "id"), BTreeSet::from([owed.as_str()]));
    assert_eq!(taken["debts"][0]["remaining_amount"], "4.00");
    assert_eq!(ids(&taken["cash_sessions"], "id"), BTreeSet::from([open.as_str()]));
    let stock =
        taken["stock"].as_array().expect("stock").iter().find(|row| row["product_id"] == json!(bread));
    assert_eq!(stock.expect("bread")["stock"], "6.000");
    let seller = |product: &str, tracked: bool, daily: &str| json!({ "product_id": product, "name": "Harina", "tracked": tracked, "average_daily_sales": daily });
    assert_eq!(taken["top_sellers"], json!([seller(&soup, false, "7.000"), seller(&bread, true, "3.000")]));
    let path = format!("http://{}/sync/snapshot", node.node.address);
    let request = reqwest::Client::builder().gzip(false).build().expect("a client").get(path);
    let zipped =
        request.bearer_auth(&till.token).header("accept-encoding", "gzip").send().await.expect("an answer");
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    // The same for the admin, who has to say whose.
    let path = format!("/sync/snapshot?store_id={}", till.store_id);
    assert_eq!(client.call("GET", &path, ADMIN, None).await.json()["products"], taken["products"]);
    let unknown = client.call("GET", &format!("/sync/snapshot?store_id={}", id()), ADMIN, None).await;
    assert_eq!(unknown.status, 404, "{}", unknown.text);
    node.stop().await;
}

#[actix_web::test]
async fn what_was_not_projected_when_it_was_taken_comes_by_its_cursor() {
    let node = TestNode::start_with(&[("VELOX_OUTBOX_RETRY_BASE_MS", "20")]).await;
    let client = &node.client;
    let till = client.till().await;
    let reader = client.till_of(till.store_id).await;
    let (early, made) = product();
    client.push(&till, &[made]).await;
    client.projected().await;
    client.fault(json!({ "actor": "projector.product", "fault": "hang" })).await;
    let (late, made) = product();
    client.push(&till, &[made]).await;
    // Others are projected meanwhile.
    let session = id();
    client.push(&till, &[event("CashSessionOpened", json!({ "session_id": session }))]).await;
    client.listed(&till, "cash-sessions", 1).await;
    let taken = snapshot(client, &reader).await;
    assert_eq!(ids(&taken["products"], "id"), BTreeSet::from([early.as_str()]));
    assert_eq!(ids(&taken["cash_sessions"], "id"), BTreeSet::from([session.as_str()]));
    let cursor = taken["cursor"].as_str().expect("a cursor").to_owned();
    assert!(pulled_products(client, &reader, cursor).await.contains(&late));
    client.clear_faults().await;
    node.stop().await;
}

#[actix_web::test]
async fn snapshots_that_are_taken_under_load_miss_nothing_with_what_is_pulled_from_them() {
    let node = TestNode::start().await;
    let client = &node.client;
    let till = client.till().await;
    let reader = client.till_of(till.store_id).await;
    let pushing = async {
        let mut all = BTreeSet::new();
        for _ in 0..60 {
            let (product, made) = product();
            client.push(&till, &[made]).await;
            all.insert(product);
        }
        all
    };
    let taking = async {
        let mut taken = Vec::new();
        for _ in 0..15 {
            taken.push(snapshot(client, &reader).await);
        }
        taken
    };
    let (all, snapshots) = futures_util::future::join(pushing, taking).await;
    client.projected().await;
    wait("all products", async || {
        client.call("GET", "/sync/snapshot", &reader.token, None).await.json()["products"]
            .as_array()
            .is_some_and(|products| products.len() == all.len())
    })
    .await;
    for taken in snapshots {
        let cursor = taken["cursor"].as_str().expect("a cursor").to_owned();
        let mut known = pulled_products(client, &reader, cursor).await;
        known.extend(ids(&taken["products"], "id").into_iter().map(str::to_owned));
        assert_eq!(known, all);
    }
    node.stop().await;
}
