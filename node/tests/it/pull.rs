//! Pulls: v1's shape and checkpoints, a position a device, the opaque cursor; status and last seq.

use crate::support::{ADMIN, Answer, TestNode, Till, event, id, sale, wait};
use crate::wire::{ids, jwt, now_ms};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// A shop with a till that writes and one that reads.
struct Shop {
    node: TestNode,
    writer: Till,
    reader: Till,
}

/// Where a v1 till goes on.
#[derive(Debug, Clone, PartialEq)]
struct Checkpoint(i64, String);

impl Shop {
    async fn new() -> Shop {
        let node = TestNode::start().await;
        let writer = node.client.till().await;
        let reader = node.client.till_of(writer.store_id).await;
        Shop { node, writer, reader }
    }

    /// Writes so many events; answers their ids.
    async fn write(&self, count: usize) -> Vec<String> {
        let customer = |_| event("CustomerCreated", json!({ "customer_id": id() }));
        let events: Vec<Value> = (0..count).map(customer).collect();
        ids(&self.node.client.push(&self.writer, &events).await["accepted"])
    }

    /// What the node itself has written: the store's declaration.
    async fn declared(&self) -> Vec<String> {
        let all = self.pull("cursor=").await;
        let mut declared = all["events"].as_array().expect("events").clone();
        declared.retain(|event| event["type"] == "StoreDeclared");
        ids(&declared.into())
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.node.client.call("GET", path, token, None).await
    }

    async fn pull(&self, query: &str) -> Value {
        let answer = self.get(&self.reader.token, &format!("/sync/pull?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        answer.json()
    }

    /// As a v1 till of the reader's token.
    async fn after(&self, Checkpoint(ms, event_id): &Checkpoint) -> Value {
        let device = &self.reader.device_id;
        self.pull(&format!("last_checkpoint={ms}&cursor_event_id={event_id}&device_id={device}")).await
    }
}

fn checkpoint(page: &Value) -> Checkpoint {
    let id = page["last_server_event_id"].as_str().expect("an id").to_owned();
    Checkpoint(page["last_server_time"].as_i64().expect("milliseconds"), id)
}

fn pulled(page: &Value) -> Vec<String> {
    ids(&page["events"])
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Where all of it begins.
fn beginning() -> Checkpoint {
    Checkpoint(0, String::new())
}

#[actix_web::test]
async fn a_pull_has_v1s_shape_and_the_events_as_they_were_sent() {
    let shop = Shop::new().await;
    let before = now_ms();
    let mut sent = sale();
    sent["seq"] = json!(7);
    sent["created_at"] = json!(before - 5000);
    sent["actor"] = json!({ "user_id": "ana", "role": "cashier" });
    sent["vector_clock"] = json!({ "a": 3 });
    let bare = event("CustomerCreated", json!({ "customer_id": id() }));
    shop.node.client.push(&shop.writer, &[sent.clone()]).await;
    let mut bare = bare;
    bare.as_object_mut().expect("an object").remove("seq");
    shop.node.client.push(&shop.writer, &[bare]).await;
    let page = shop.after(&beginning()).await;
    let fields = ["events", "has_more", "last_server_event_id", "last_server_time", "next_cursor"];
    assert_eq!(keys(&page), fields);
    let events = page["events"].as_array().expect("events");
    assert_eq!(events.len(), 2);
    let fields = [
        "actor",
        "created_at",
        "device_id",
        "event_id",
        "payload",
        "received_at",
        "seq",
        "store_id",
        "type",
        "vector_clock",
        "version",
    ];
    assert_eq!(keys(&events[0]), fields);
    for key in ["event_id", "type", "seq", "version", "created_at", "actor", "payload", "vector_clock"] {
        assert_eq!(events[0][key], sent[key], "{key}");
    }
    assert_eq!(events[0]["store_id"], shop.writer.store_id.to_string());
    assert_eq!(events[0]["device_id"], shop.writer.device_id);
    let received = events[0]["received_at"].as_i64().expect("milliseconds");
    assert!((before..=now_ms()).contains(&received), "{received}");
    assert_eq!(events[1]["seq"], Value::Null);
    assert_eq!(events[1]["vector_clock"], Value::Null);
    assert_eq!(events[1]["actor"], json!({ "user_id": null, "role": null }));
    assert_eq!(page["last_server_time"], events[1]["received_at"]);
    assert_eq!(page["last_server_event_id"], events[1]["event_id"]);
    assert_eq!(page["has_more"], false);
    shop.node.stop().await;
}

#[actix_web::test]
async fn pages_of_100_in_order_of_arrival_hold_every_event_once() {
    let shop = Shop::new().await;
    let mut written = BTreeSet::new();
    for count in [120, 1, 77, 52] {
        written.extend(shop.write(count).await);
    }
    let (mut at, mut seen, mut sizes) = (beginning(), Vec::new(), Vec::new());
    let mut last = (0, String::new());
    loop {
        let page = shop.after(&at).await;
        let events = page["events"].as_array().expect("events").clone();
        sizes.push(events.len());
        assert_eq!(page["has_more"], json!(events.len() == 100));
        if events.is_empty() {
            assert_eq!(checkpoint(&page), at, "an empty page repeats what was asked");
            break;
        }
        for event in &events {
            let place =
                (event["received_at"].as_i64().unwrap(), event["event_id"].as_str().unwrap().to_owned());
            assert!(place > last, "{place:?} after {last:?}");
            last = place;
        }
        at = checkpoint(&page);
        seen.extend(pulled(&page));
    }
    assert_eq!(sizes, [100, 100, 50, 0]);
    assert_eq!(seen.len(), 250);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), written);
    // What comes now is all that is new.
    let more = shop.write(2).await;
    assert_eq!(pulled(&shop.after(&at).await).len(), more.len());
    shop.node.stop().await;
}

#[actix_web::test]
async fn an_empty_page_repeats_the_asked_checkpoint_and_id() {
    let shop = Shop::new().await;
    for (query, ms, id) in [
        ("", 0, NOBODY),
        ("last_checkpoint=0", 0, NOBODY),
        ("last_checkpoint=0&cursor_event_id=", 0, NOBODY),
        ("last_checkpoint=1763950000123", 1_763_950_000_123, NOBODY),
        ("last_checkpoint=1763950000123&cursor_event_id=factura-1", 1_763_950_000_123, "factura-1"),
        ("last_checkpoint=0&cursor_event_id=00000000-0000-0000-0000-000000000000", 0, NOBODY),
    ] {
        let page = shop.pull(query).await;
        assert_eq!(page["events"], json!([]), "{query}");
        assert_eq!(checkpoint(&page), Checkpoint(ms, id.to_owned()), "{query}");
        assert_eq!(page["has_more"], false);
    }
    shop.node.stop().await;
}

#[actix_web::test]
async fn the_asking_devices_own_events_are_left_out() {
    let shop = Shop::new().await;
    let theirs = shop.write(3).await;
    let own = event("CustomerCreated", json!({ "customer_id": id() }));
    shop.node.client.push(&shop.reader, std::slice::from_ref(&own)).await;
    let own = own["event_id"].as_str().expect("an id").to_owned();
    let all: BTreeSet<String> = theirs.iter().cloned().chain([own.clone()]).collect();
    let theirs: BTreeSet<String> = theirs.into_iter().collect();
    let of = |page: &Value| pulled(page).into_iter().collect::<BTreeSet<String>>();
    let (store, user) = (shop.writer.store_id, jwt(shop.writer.store_id, "u", 900));
    // A token speaks for its device, named or not, by either kind of cursor.
    let (reader, writer) = (&shop.reader.device_id, &shop.writer.device_id);
    for query in [String::new(), format!("device_id={reader}"), "device_id=".to_owned()] {
        assert_eq!(of(&shop.pull(&query).await), theirs, "{query}");
    }
    let with_the_nodes: BTreeSet<String> = theirs.iter().cloned().chain(shop.declared().await).collect();
    assert_eq!(of(&shop.pull("cursor=").await), with_the_nodes);
    for (token, device, expected) in [
        (user.as_str(), reader.as_str(), &theirs),
        (user.as_str(), writer.as_str(), &BTreeSet::from([own])),
        (user.as_str(), "another-till", &all),
        (user.as_str(), "", &all),
        (ADMIN, reader.as_str(), &theirs),
        (ADMIN, "", &all),
    ] {
        let path = format!("/sync/pull?store_id={store}&device_id={device}");
        assert_eq!(of(&shop.get(token, &path).await.json()), *expected, "{device}");
    }
    shop.node.stop().await;
}

#[actix_web::test]
async fn an_old_checkpoint_gives_the_same_page_again() {
    let shop = Shop::new().await;
    shop.write(250).await;
    let first = shop.after(&beginning()).await;
    let second = shop.after(&checkpoint(&first)).await;
    for _ in 0..2 {
        assert_eq!(shop.after(&checkpoint(&first)).await, second);
        assert_eq!(shop.after(&beginning()).await, first);
    }
    // Also in the middle of a page, and by its time alone.
    let third = first["events"][2].clone();
    let at =
        Checkpoint(third["received_at"].as_i64().unwrap(), third["event_id"].as_str().unwrap().to_owned());
    let page = shop.after(&at).await;
    assert_eq!(pulled(&page)[..97], pulled(&first)[3..]);
    let by_time = shop.after(&Checkpoint(at.0, String::new())).await;
    assert_eq!(pulled(&by_time)[0], pulled(&first)[0], "all of that millisecond are there");
    shop.node.stop().await;
}

#[actix_web::test]
async fn a_checkpoint_that_this_node_did_not_give_starts_from_the_older_position() {
    let shop = Shop::new().await;
    shop.write(150).await;
    // From another node, and far ahead: nothing was delivered here yet.
    let foreign = Checkpoint(now_ms() + 86_400_000, id());
    let first = shop.after(&foreign).await;
    assert_eq!(pulled(&first), pulled(&shop.after(&beginning()).await));
    assert_eq!(pulled(&first).len(), 100);
    // 100 are delivered now, so it goes on behind them.
    let rest = shop.after(&foreign).await;
    assert_eq!(pulled(&rest), pulled(&shop.after(&checkpoint(&first)).await));
    assert_eq!(pulled(&rest).len(), 50);
    assert_eq!(shop.after(&foreign).await["events"], json!([]));
    // From another node, and behind what was delivered: it counts as it is.
    let page = shop.after(&Checkpoint(1, id())).await;
    assert_eq!(pulled(&page), pulled(&first));
    shop.node.stop().await;
}

#[actix_web::test]
async fn each_device_has_its_own_position() {
    let shop = Shop::new().await;
    shop.write(150).await;
    let first = shop.after(&beginning()).await;
    shop.after(&checkpoint(&first)).await;
    let other = shop.node.client.till_of(shop.writer.store_id).await;
    let foreign = format!("/sync/pull?last_checkpoint={}&cursor_event_id={}", now_ms() + 1_000_000, id());
    let page = shop.get(&other.token, &foreign).await.json();
    assert_eq!(pulled(&page), pulled(&first), "the reader's position is not the other till's");
    // A v1 user's till is known by the name it gives, from its first pull on.
    let user = jwt(shop.writer.store_id, "u", 900);
    let pull = async |device: &str| shop.get(&user, &format!("{foreign}&device_id={device}")).await.json();
    assert_eq!(pulled(&pull("v1-a").await), pulled(&first));
    assert_eq!(pulled(&pull("v1-a").await).len(), 50);
    assert_eq!(pulled(&pull("v1-b").await), pulled(&first));
    shop.node.stop().await;
}

#[actix_web::test]
async fn the_opaque_cursor_pages_through_everything_once() {
    let shop = Shop::new().await;
    let mut written: BTreeSet<String> = shop.declared().await.into_iter().collect();
    assert_eq!(written.len(), 1);
    for count in [30, 1, 11] {
        written.extend(shop.write(count).await);
    }
    for limit in [1, 7, 43, 44, 1000] {
        let (mut cursor, mut seen) = (String::new(), Vec::new());
        loop {
            let page = shop.pull(&format!("cursor={cursor}&limit={limit}")).await;
            let events = pulled(&page);
            assert!(events.len() <= limit);
            seen.extend(events);
            let next = page["next_cursor"].as_str().expect("a cursor").to_owned();
            assert!(!next.is_empty());
            assert_eq!(page["has_more"], json!(seen.len() < written.len()), "{limit}");
            // The same cursor, the same page.
            assert_eq!(shop.pull(&format!("cursor={cursor}&limit={limit}")).await, page);
            cursor = next;
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(seen.len(), written.len(), "{limit}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), written);
        // At the end it waits for more.
        let page = shop.pull(&format!("cursor={cursor}")).await;
        assert_eq!((&page["events"], &page["has_more"]), (&json!([]), &json!(false)));
        let more = shop.write(1).await;
        assert_eq!(pulled(&shop.pull(&format!("cursor={cursor}")).await), more);
        written.extend(more);
    }
    shop.node.stop().await;
}

#[actix_web::test]
async fn a_till_may_change_from_checkpoints_to_the_cursor() {
    let shop = Shop::new().await;
    shop.write(150).await;
    let first = shop.after(&beginning()).await;
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let rest = shop.pull(&format!("cursor={cursor}")).await;
    assert_eq!(pulled(&rest), pulled(&shop.after(&checkpoint(&first)).await));
    shop.node.stop().await;
}

#[actix_web::test]
async fn a_v1_till_is_spared_the_types_that_would_harm_it_and_a_cursor_has_them() {
    let shop = Shop::new().await;
    let harmful = [
        "StockQuotaGranted",
        "StockQuotaTransferred",
        "StockQuotaReclaimed",
        "StoreDeclared",
        "FiscalSeriesDeclared",
    ];
    let named = |name: &str| event(name, json!({}));
    let mut events: Vec<Value> = harmful.iter().map(|name| named(name)).collect();
    events.insert(2, named("StockQuotas"));
    events.push(named("SaleVoided"));
    shop.node.client.push(&shop.writer, &events).await;
    let types = |page: &Value| -> BTreeSet<String> {
        let events = page["events"].as_array().expect("events");
        events.iter().map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
    };
    let v1 = ["SaleVoided", "StockQuotas"].map(str::to_owned);
    assert_eq!(types(&shop.after(&beginning()).await), v1.clone().into());
    let all: BTreeSet<String> = harmful.map(str::to_owned).into_iter().chain(v1).collect();
    assert_eq!(types(&shop.pull("cursor=").await), all);
    // Where nothing but such is left, a v1 till stays where it is.
    let at = checkpoint(&shop.after(&beginning()).await);
    shop.node.client.push(&shop.writer, &[named("StockQuotaGranted")]).await;
    let page = shop.after(&at).await;
    assert_eq!((&page["events"], checkpoint(&page)), (&json!([]), at));
    shop.node.stop().await;
}

#[actix_web::test]
async fn status_and_last_seq_tell_how_far_a_device_has_come() {
    let shop = Shop::new().await;
    let client = &shop.node.client;
    let (writer, store) = (&shop.writer, shop.writer.store_id);
    let ask = async |what: &str| {
        let path = format!("/sync/{what}?device_id={}", writer.device_id);
        let answer = shop.get(&writer.token, &path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        // The token's own device, where none is named; and the admin may ask for any.
        assert_eq!(shop.get(&writer.token, &format!("/sync/{what}")).await.json(), answer.json());
        let by_admin = format!("{path}&store_id={store}");
        assert_eq!(shop.get(ADMIN, &by_admin).await.json(), answer.json());
        answer.json()
    };
    let nothing = json!({ "store_id": store, "device_id": writer.device_id, "last_synced_at": null,
        "last_event_seq": 0, "pending_events_count": 0, "last_sync_duration_ms": null, "last_sync_error": null });
    assert_eq!(ask("status").await, nothing);
    assert_eq!(ask("last-seq").await, json!({ "last_seq": 0 }));
    let before = now_ms();
    let numbered = |seq: Value| {
        let mut event = sale();
        event["seq"] = seq;
        event
    };
    client.push(writer, &[numbered(json!(41)), numbered(json!(40)), numbered(Value::Null)]).await;
    client.push(writer, &[numbered(json!(7))]).await;
    client.projected().await;
    assert_eq!(ask("last-seq").await, json!({ "last_seq": 41 }));
    let status = ask("status").await;
    assert_eq!((&status["last_event_seq"], &status["pending_events_count"]), (&json!(41), &json!(0)));
    let at = status["last_synced_at"].as_i64().expect("milliseconds");
    assert!((before..=now_ms()).contains(&at), "{at}");
    // Another device has come nowhere.
    let path = format!("/sync/last-seq?store_id={store}&device_id={}", shop.reader.device_id);
    assert_eq!(shop.get(ADMIN, &path).await.json(), json!({ "last_seq": 0 }));
    shop.node.stop().await;
}

#[actix_web::test]
async fn status_counts_what_is_not_projected_yet() {
    let shop = Shop::new().await;
    let client = &shop.node.client;
    let fault = json!({ "actor": "projector.customer", "fault": "error" });
    assert_eq!(client.call("POST", "/chaos/faults", ADMIN, Some(&fault)).await.status, 200);
    shop.write(3).await;
    let status = shop.get(&shop.writer.token, "/sync/status").await.json();
    assert_eq!(status["pending_events_count"], 3);
    let other = shop.get(&shop.reader.token, "/sync/status").await.json();
    assert_eq!(other["pending_events_count"], 0);
    // Not even an event that waits is kept from the other tills.
    assert_eq!(pulled(&shop.after(&beginning()).await).len(), 3);
    assert_eq!(client.call("DELETE", "/chaos/faults", ADMIN, None).await.status, 200);
    shop.node.stop().await;
}

#[actix_web::test]
async fn what_was_acknowledged_is_in_the_next_pull_at_once() {
    let shop = Shop::new().await;
    let mut at = beginning();
    for round in 0..100 {
        let written = shop.write(1).await;
        let page = shop.after(&at).await;
        assert_eq!(pulled(&page), written, "round {round}");
        at = checkpoint(&page);
    }
    wait("nothing more", async || shop.after(&at).await["events"] == json!([])).await;
    shop.node.stop().await;
}
