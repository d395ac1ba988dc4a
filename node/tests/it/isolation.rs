//! INV-11: a device sees and writes its own store alone, whatever it names in body, query, path or cursor.

use crate::support::{ADMIN, Answer, TestNode, Till, body, event, id, sale};
use crate::wire::{ids, jwt, problem};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Two shops with a sale each on one node.
struct Shops {
    node: TestNode,
    own: Till,
    other: Till,
    /// The other shop's sale.
    foreign: Value,
}

impl Shops {
    async fn new() -> Shops {
        let node = TestNode::start().await;
        let (own, other) = (node.client.till().await, node.client.till().await);
        let foreign = sale();
        node.client.push(&own, &[sale()]).await;
        node.client.push(&other, std::slice::from_ref(&foreign)).await;
        node.client.projected().await;
        Shops { node, own, other, foreign }
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.node.client.call("GET", path, token, None).await
    }
}

fn id_of(event: &Value) -> &str {
    event["event_id"].as_str().expect("an id")
}

/// An answer without what differs from request to request.
fn plain(answer: &Answer) -> Value {
    let mut body = answer.json();
    body["request_id"] = Value::Null;
    body
}

#[actix_web::test]
async fn a_push_that_names_another_store_or_device_is_refused_whole() {
    let shops = Shops::new().await;
    let client = &shops.node.client;
    let before = client.list(&shops.other, "sales").await;
    let user = jwt(shops.own.store_id, "u", 900);
    let elsewhere = Till { store_id: shops.other.store_id, ..shops.own.clone() };
    let neighbour = client.till_of(shops.own.store_id).await;
    let in_its_name = Till { device_id: neighbour.device_id, ..shops.own.clone() };
    for (till, token) in [
        (&elsewhere, shops.own.token.as_str()),
        (&elsewhere, user.as_str()),
        (&in_its_name, shops.own.token.as_str()),
    ] {
        let events = [sale()];
        let answer = client.call("POST", "/sync/push", token, Some(&body(till, &events))).await;
        problem(&answer, 403, "another store or device");
    }
    client.projected().await;
    assert_eq!(client.list(&shops.other, "sales").await, before);
    assert_eq!(client.list(&shops.own, "sales").await.len(), 1);
    shops.node.stop().await;
}

#[actix_web::test]
async fn another_stores_id_in_query_and_path_is_403_whether_it_exists_or_not() {
    let shops = Shops::new().await;
    let other = shops.other.store_id;
    let sale_id = shops.foreign["payload"]["sale_id"].as_str().expect("an id");
    let device = &shops.other.device_id;
    for token in [shops.own.token.clone(), jwt(shops.own.store_id, "u", 900)] {
        for path in [
            format!("/sync/pull?store_id={other}"),
            format!("/sync/pull?store_id={other}&device_id={device}&cursor="),
            format!("/sync/status?store_id={other}&device_id={device}"),
            format!("/sync/last-seq?store_id={other}&device_id={device}"),
            format!("/sync/conflicts/audit?store_id={other}"),
            format!("/sync/conflicts/unresolved?store_id={other}"),
            format!("/sync/events/{}?store_id={other}", id_of(&shops.foreign)),
            format!("/stores/{other}/sales"),
            format!("/stores/{other}/sales/{sale_id}"),
            format!("/stores/{}/stock", other.to_string().to_uppercase()),
        ] {
            let answer = shops.get(&token, &path).await;
            problem(&answer, 403, &path);
            // "Not yours" looks like "not there".
            let nowhere = path.replace(&other.to_string(), &id());
            let nowhere = nowhere.replace(&other.to_string().to_uppercase(), &id());
            assert_eq!(plain(&shops.get(&token, &nowhere).await), plain(&answer), "{path}");
        }
    }
    shops.node.stop().await;
}

#[actix_web::test]
async fn a_thing_of_another_store_is_not_found_under_the_own_path() {
    let shops = Shops::new().await;
    let sale_id = shops.foreign["payload"]["sale_id"].as_str().expect("an id");
    let product_id = shops.foreign["payload"]["items"][0]["product_id"].as_str().expect("an id");
    let own = shops.own.store_id;
    let mut answers = Vec::new();
    for id in [sale_id.to_owned(), id()] {
        let answer = shops.get(&shops.own.token, &format!("/stores/{own}/sales/{id}")).await;
        problem(&answer, 404, &id);
        answers.push(plain(&answer));
    }
    assert_eq!(answers[0], answers[1]);
    let known = shops.get(&shops.own.token, &format!("/sync/events/{}", id_of(&shops.foreign))).await;
    problem(&known, 404, "an event of another store");
    assert_eq!(plain(&known), plain(&shops.get(&shops.own.token, &format!("/sync/events/{}", id())).await));
    for list in ["stock", "stock-movements"] {
        let path = format!("/stores/{own}/{list}?product_id={product_id}");
        assert_eq!(shops.get(&shops.own.token, &path).await.json()["items"], json!([]), "{path}");
    }
    let filtered = format!("/stores/{own}/sales?device_id={}", shops.other.device_id);
    assert_eq!(shops.get(&shops.own.token, &filtered).await.json()["items"], json!([]));
    shops.node.stop().await;
}

#[actix_web::test]
async fn a_cursor_of_another_store_opens_nothing() {
    let shops = Shops::new().await;
    let client = &shops.node.client;
    client.push(&shops.other, &[sale()]).await;
    client.projected().await;
    let page = shops.get(ADMIN, &format!("/sync/pull?store_id={}&limit=1", shops.other.store_id)).await;
    let pulled = page.json()["next_cursor"].as_str().expect("a cursor").to_owned();
    let list =
        shops.get(&shops.other.token, &format!("/stores/{}/sales?limit=1", shops.other.store_id)).await;
    let listed = list.json()["next_cursor"].as_str().expect("a cursor").to_owned();
    let own = shops.own.store_id;
    for (path, code) in [
        (format!("/sync/pull?cursor={pulled}"), "INVALID_CURSOR"),
        (format!("/stores/{own}/sales?cursor={listed}"), "INVALID_CURSOR"),
        (format!("/stores/{own}/debts?cursor={listed}"), "INVALID_CURSOR"),
    ] {
        for token in [shops.own.token.clone(), jwt(own, "u", 900)] {
            assert_eq!(problem(&shops.get(&token, &path).await, 400, &path)["code"], code);
        }
    }
    shops.node.stop().await;
}

#[actix_web::test]
async fn what_one_store_pulls_and_reads_is_its_own() {
    let shops = Shops::new().await;
    let client = &shops.node.client;
    for till in [&shops.own, &shops.other] {
        // A reader beside the till that wrote, since a till is not given its own events.
        let reader = client.till_of(till.store_id).await;
        for path in ["/sync/pull", "/sync/pull?cursor="] {
            let page = shops.get(&reader.token, path).await.json();
            let events = page["events"].as_array().expect("events");
            assert!(
                events.iter().all(|event| event["store_id"] == till.store_id.to_string()),
                "{path}: {page}"
            );
            let sold: Vec<&Value> = events.iter().filter(|event| event["type"] == "SaleCreated").collect();
            assert_eq!(sold.len(), 1, "{path}");
            assert_eq!(sold[0]["device_id"], till.device_id);
        }
        for list in ["sales", "stock", "stock-movements"] {
            let rows = client.list(till, list).await;
            assert_eq!(rows.len(), 1, "{list}");
            assert_eq!(rows[0]["store_id"], till.store_id.to_string());
        }
    }
    shops.node.stop().await;
}

#[actix_web::test]
async fn the_same_ids_in_two_stores_are_two_things() {
    let shops = Shops::new().await;
    let client = &shops.node.client;
    // The other shop's event, word for word, and a void of its sale.
    let sale_id = &shops.foreign["payload"]["sale_id"];
    let void = event("SaleVoided", json!({ "sale_id": sale_id, "reason": "not yours" }));
    let answer = client.push(&shops.own, &[shops.foreign.clone(), void]).await;
    assert_eq!(answer["duplicates"], json!([]));
    assert_eq!(ids(&answer["accepted"]).len(), 2);
    client.projected().await;
    let theirs = client.list(&shops.other, "sales").await;
    assert_eq!((theirs.len(), &theirs[0]["voided_at"]), (1, &Value::Null));
    let ours = client.list(&shops.own, "sales").await;
    let voided: Vec<_> = ours.iter().filter(|sale| !sale["voided_at"].is_null()).collect();
    assert_eq!((ours.len(), voided.len()), (2, 1));
    assert_eq!(&voided[0]["id"], sale_id);
    shops.node.stop().await;
}

#[actix_web::test]
async fn a_store_or_device_named_inside_an_event_means_nothing() {
    let shops = Shops::new().await;
    let client = &shops.node.client;
    let mut lying = sale();
    lying["store_id"] = json!(shops.other.store_id);
    lying["device_id"] = json!(shops.other.device_id);
    lying["payload"]["store_id"] = json!(shops.other.store_id);
    client.push(&shops.own, std::slice::from_ref(&lying)).await;
    client.projected().await;
    assert_eq!(client.list(&shops.other, "sales").await.len(), 1);
    let own = client.list(&shops.own, "sales").await;
    let stored = own.iter().find(|sale| sale["id"] == lying["payload"]["sale_id"]).expect("the sale");
    assert_eq!(stored["device_id"], shops.own.device_id);
    shops.node.stop().await;
}

#[actix_web::test]
async fn a_v1_user_may_name_any_device_and_it_becomes_known_in_its_own_store_alone() {
    let shops = Shops::new().await;
    let client = &shops.node.client;
    let user = jwt(shops.own.store_id, "u", 900);
    // Even one that another shop has: ids of devices are of their store.
    let till = Till { device_id: shops.other.device_id.clone(), token: user, ..shops.own.clone() };
    let sold = sale();
    client.push(&till, std::slice::from_ref(&sold)).await;
    let asked = shops.get(&till.token, &format!("/sync/last-seq?device_id={}", till.device_id)).await;
    assert_eq!(asked.json()["last_seq"], sold["seq"]);
    let devices = client.admin("/admin/devices").await["items"].clone();
    let stores: BTreeSet<&str> = devices
        .as_array()
        .expect("items")
        .iter()
        .filter(|device| device["device_id"] == till.device_id)
        .map(|device| device["store_id"].as_str().expect("an id"))
        .collect();
    let both = [shops.own.store_id.to_string(), shops.other.store_id.to_string()];
    assert_eq!(stores, both.iter().map(String::as_str).collect());
    // The other shop's till is the other shop's still.
    assert_eq!(shops.get(&shops.other.token, "/sync/last-seq").await.status, 200);
    shops.node.stop().await;
}

#[actix_web::test]
async fn no_secret_and_no_token_shows_in_what_the_admin_lists() {
    let shops = Shops::new().await;
    for path in ["/admin/devices", "/admin/stores", "/admin/actors", "/metrics"] {
        let text = shops.get(ADMIN, path).await.text;
        assert!(!text.contains("vxd_") && !text.contains("token_hash"), "{path}: {text}");
        assert!(!text.contains(ADMIN), "{path}");
    }
    // Labels of metrics are bounded: no device or store stands in one.
    let metrics = shops.get(ADMIN, "/metrics").await.text;
    assert!(!metrics.contains(&shops.own.device_id) && !metrics.contains(&shops.own.store_id.to_string()));
    shops.node.stop().await;
}
