//! Whose a store is: declared by its first node, shown to the admin, kept from v1 tills.

use crate::support::{ADMIN, TestNode, event, id};
use serde_json::{Value, json};
use uuid::Uuid;

async fn add(node: &TestNode, body: &Value) -> (u16, Value) {
    let answer = node.client.call("POST", "/admin/stores", ADMIN, Some(body)).await;
    (answer.status, answer.json())
}

/// The events of a pull by the admin.
async fn pulled(node: &TestNode, store_id: &str, query: &str) -> Vec<Value> {
    let page = node.client.admin(&format!("/sync/pull?store_id={store_id}&{query}")).await;
    page["events"].as_array().expect("events").clone()
}

#[actix_web::test]
async fn a_node_declares_the_store_that_it_makes_and_tells_native_readers_alone() {
    let node = TestNode::start().await;
    let here = node.node.state.own.get().node_id.clone();
    let (status, made) = add(&node, &json!({ "name": "Bodega" })).await;
    assert_eq!((status, &made["home_node"]), (201, &json!(here)));
    let store = made["store_id"].as_str().expect("an id").to_owned();
    let (status, renamed) = add(&node, &json!({ "store_id": store, "name": "Tienda" })).await;
    assert_eq!((status, renamed), (200, json!({ "store_id": store, "name": "Tienda", "home_node": here })));
    let listed = node.client.admin("/admin/stores").await;
    assert_eq!(
        (&listed["items"][0]["name"], &listed["items"][0]["home_node"]),
        (&json!("Tienda"), &json!(here))
    );

    let events = pulled(&node, &store, "cursor=").await;
    assert_eq!(events.len(), 1, "renaming declares nothing: {events:?}");
    assert_eq!(events[0]["type"], "StoreDeclared");
    assert_eq!(events[0]["payload"], json!({ "home_node": here, "name": "Bodega" }));
    assert_eq!(events[0]["actor"], json!({ "user_id": "admin", "role": "admin" }));
    for query in ["", "last_checkpoint=0", "last_checkpoint=0&cursor_event_id="] {
        assert_eq!(pulled(&node, &store, query).await, Vec::<Value>::new(), "{query}");
    }
    let trail = format!("/sync/events/{}?store_id={store}", events[0]["event_id"].as_str().expect("an id"));
    assert_eq!(node.client.admin(&trail).await["projection"]["status"], "processed");
    node.stop().await;
}

#[actix_web::test]
async fn a_store_that_is_declared_elsewhere_is_shown_with_that_home() {
    let node = TestNode::start().await;
    let elsewhere = id();
    let declared = json!({ "home_node": "north", "name": "Norte" });
    declare(&node, &elsewhere, &declared).await;
    node.client.projected().await;
    let listed = node.client.admin("/admin/stores").await;
    let expected = (json!(elsewhere), json!("Norte"), json!("north"));
    let shown = &listed["items"][0];
    assert_eq!((shown["store_id"].clone(), shown["name"].clone(), shown["home_node"].clone()), expected);
    let (status, met) = add(&node, &json!({ "store_id": elsewhere, "name": "Bodega" })).await;
    assert_eq!((status, &met["home_node"]), (200, &json!("north")), "it is known, and another's");
    assert_eq!(pulled(&node, &elsewhere, "cursor=").await.len(), 1, "no second declaration");

    // One that this node has declared, and another one before it.
    let (_, made) = add(&node, &json!({ "name": "Sur" })).await;
    let own = made["store_id"].as_str().expect("an id").to_owned();
    declare(&node, &own, &declared).await;
    node.client.projected().await;
    let listed = node.client.admin("/admin/stores").await;
    let named =
        listed["items"].as_array().expect("stores").iter().find(|store| store["store_id"] == own.as_str());
    assert_eq!(named.expect("the store")["name"], "Sur", "whom somebody here has named keeps that name");
    let (_, met) = add(&node, &json!({ "store_id": own, "name": "Sur" })).await;
    assert_eq!(met["home_node"], "north");
    let own: Uuid = own.parse().expect("a UUID");
    assert_eq!(node.node.state.store.verify(Some(own)).await.expect("a verdict"), []);
    node.stop().await;
}

/// A declaration of another node arrives, from a second after the beginning of time.
async fn declare(node: &TestNode, store_id: &str, payload: &Value) {
    // As the first event of a peer makes it known.
    let known = store_id.parse().expect("a UUID");
    node.node.state.store.ensure_store(known).await.expect("a store");
    let mut declared = event("StoreDeclared", payload.clone());
    declared["created_at"] = json!(1_000);
    let push = json!({ "store_id": store_id, "device_id": "node-north", "client_version": "1",
        "events": [declared] });
    let answer = node.client.call("POST", "/sync/push", ADMIN, Some(&push)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
