//! Tills that share an identity, events that come again with other content: both are kept, and the shop is told.

use crate::support::{ADMIN, TestNode, Till, event, id, wait};
use crate::wire::{jwt, problem, warnings_of};
use serde_json::{Value, json};
use velox_protocol::V1_NODE_DEVICE;

async fn told(node: &TestNode, till: &Till) -> Vec<(String, String)> {
    let rows = node.client.list(till, "notifications").await;
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    let about = |row: &Value| {
        let data = &row["data"];
        if row["type"] == "DEVICE_ID_COLLISION" { text(data, "device_id") } else { text(data, "event_id") }
    };
    rows.iter().map(|row| (text(row, "type"), about(row))).collect()
}

fn customer(seq: i64) -> Value {
    let mut event = event("CustomerCreated", json!({ "customer_id": id() }));
    event["seq"] = json!(seq);
    event
}

fn id_of(event: &Value) -> String {
    event["event_id"].as_str().expect("an id").to_owned()
}

#[actix_web::test]
async fn a_cloned_till_is_remarked_upon_and_the_shop_is_told_once() {
    let node = TestNode::start().await;
    let client = &node.client;
    let till = client.till().await;
    let (first, clone, beside) = (customer(7), customer(7), customer(8));
    assert_eq!(client.push(&till, std::slice::from_ref(&first)).await["warnings"], json!([]));
    let answer = client.push(&till, &[beside.clone(), clone.clone(), first.clone()]).await;
    assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(3), "all are kept");
    assert_eq!(warnings_of(&answer, &id_of(&clone)), ["DEVICE_ID_COLLISION"]);
    assert_eq!(answer["warnings"].as_array().map(Vec::len), Some(1));
    // A repetition is no collision, and within one push the later one is it.
    let (a, b) = (customer(20), customer(20));
    let answer = client.push(&till, &[clone, a.clone(), b.clone()]).await;
    assert_eq!(answer["warnings"].as_array().map(Vec::len), Some(1));
    assert_eq!(warnings_of(&answer, &id_of(&b)), ["DEVICE_ID_COLLISION"]);
    // v1's nodes count apart under one name.
    let token = jwt(till.store_id, "u", 900);
    let v1 = Till { device_id: V1_NODE_DEVICE.to_owned(), token, ..till.clone() };
    for _ in 0..2 {
        assert_eq!(client.push(&v1, &[customer(1), customer(1)]).await["warnings"], json!([]));
    }
    let expected = ("DEVICE_ID_COLLISION".to_owned(), till.device_id.clone());
    wait("a notification", async || told(&node, &till).await == [expected.clone()]).await;
    // Whatever was met before is told of before this.
    let other = client.till_of(till.store_id).await;
    client.push(&other, &[customer(1), customer(1)]).await;
    wait("another till's", async || told(&node, &till).await.len() == 2).await;
    assert_eq!(told(&node, &till).await[1].1, other.device_id);
    let devices: Vec<String> = told(&node, &till).await.into_iter().map(|(_, device)| device).collect();
    assert_eq!(devices, [till.device_id.clone(), other.device_id]);
    client.projected().await;
    assert_eq!(client.list(&till, "customers").await.len(), 11);
    node.stop().await;
}

#[actix_web::test]
async fn a_shop_is_told_of_an_event_that_came_with_other_content_and_may_note_that_it_has_read_it() {
    let node = TestNode::start().await;
    let client = &node.client;
    let till = client.till().await;
    let first = customer(1);
    client.push(&till, std::slice::from_ref(&first)).await;
    let mut again = first.clone();
    again["created_at"] = json!(first["created_at"].as_i64().expect("ms") - 1);
    client.push(&till, std::slice::from_ref(&again)).await;
    let mut other = first.clone();
    other["payload"]["name"] = json!("Ana");
    for _ in 0..2 {
        let answer = client.push(&till, std::slice::from_ref(&other)).await;
        assert_eq!(answer["rejected"][0]["code"], "INTEGRITY_ERROR");
    }
    let expected = ("EVENT_CONTENT_CONFLICT".to_owned(), id_of(&first));
    wait("a notification", async || told(&node, &till).await == [expected.clone()]).await;
    let row = client.list(&till, "notifications").await.remove(0);
    let fields = ["body", "created_at", "data", "id", "read_at", "store_id", "title", "type"];
    assert_eq!(row.as_object().expect("a row").keys().collect::<Vec<_>>(), fields);
    assert_eq!((&row["store_id"], &row["read_at"]), (&json!(till.store_id), &Value::Null));
    let path = format!("/stores/{}/notifications", till.store_id);
    let count = async |query: &str| {
        let answer = client.call("GET", &format!("{path}?{query}"), &till.token, None).await.json();
        answer["items"].as_array().map(Vec::len)
    };
    assert_eq!((count("unread=true").await, count("unread=false").await), (Some(1), Some(0)));
    let id = row["id"].as_str().expect("an id");
    let read = client.call("POST", &format!("{path}/{id}/read"), &till.token, None).await;
    assert_eq!(read.status, 200, "{}", read.text);
    assert!(read.json()["read_at"].is_string());
    let mut unread = read.json();
    unread["read_at"] = Value::Null;
    assert_eq!(unread, row);
    let again = client.call("POST", &format!("{path}/{id}/read"), ADMIN, None).await;
    assert_eq!(again.json(), read.json(), "the first time counts");
    assert_eq!((count("unread=true").await, count("unread=false").await), (Some(0), Some(1)));
    // What another shop was told is nothing to read here.
    let elsewhere = client.till().await;
    for store in [elsewhere.store_id.to_string(), till.store_id.to_string()] {
        let id = if store == till.store_id.to_string() { crate::support::id() } else { id.to_owned() };
        let unknown =
            client.call("POST", &format!("/stores/{store}/notifications/{id}/read"), ADMIN, None).await;
        problem(&unknown, 404, &store);
    }
    let odd = client.call("POST", &format!("{path}/nothing/read"), &till.token, None).await;
    problem(&odd, 404, "no id");
    for query in ["unread=yes", "limit=0", "cursor=x"] {
        problem(&client.call("GET", &format!("{path}?{query}"), &till.token, None).await, 400, query);
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_push_is_answered_also_where_a_shop_cannot_be_told() {
    let node = TestNode::start().await;
    let (client, pool) = (&node.client, node.database.pool().await);
    let till = client.till().await;
    sqlx::query("ALTER TABLE notifications RENAME TO gone").execute(&pool).await.expect("a rename");
    for _ in 0..3 {
        let answer = client.push(&till, &[customer(1), customer(1)]).await;
        assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(2));
    }
    sqlx::query("ALTER TABLE gone RENAME TO notifications").execute(&pool).await.expect("a rename");
    let told_now = async || {
        client.push(&till, &[customer(1)]).await;
        !told(&node, &till).await.is_empty()
    };
    wait("a notification", told_now).await;
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn an_event_is_projected_anew_at_once_when_another_form_of_it_counts() {
    // So that nothing but the writer's word wakes the pump.
    let node = TestNode::start_with(&[("VELOX_OUTBOX_POLL_MS", "600000")]).await;
    let client = &node.client;
    let till = client.till().await;
    let first = customer(1);
    client.push(&till, std::slice::from_ref(&first)).await;
    client.projected().await;
    let mut smaller = first.clone();
    smaller["created_at"] = json!(first["created_at"].as_i64().expect("ms") - 1);
    let answer = client.push(&till, std::slice::from_ref(&smaller)).await;
    assert_eq!(answer["duplicates"], json!([id_of(&first)]));
    client.projected().await;
    let pool = node.database.pool().await;
    let flipped: i64 = sqlx::query_scalar("SELECT count(*) FROM event_variants WHERE effective")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(flipped, 1);
    pool.close().await;
    node.stop().await;
}
