//! Who may speak as a peer: signed, in time, once, and for the stores that are served with it alone.

use crate::pair::{KEY, free_address, node_at, peer};
use crate::support::{ADMIN, Answer, Client, TestNode, id, sale};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use velox_node::clock::SystemClock;
use velox_protocol::signature::{KEY_HEADER, NONCE_HEADER, SIGNATURE_HEADER, Signed, TIME_HEADER, key_id};
use velox_protocol::time::Clock;

const RELAY: &str = "/sync/federation/relay";

/// A relay, signed so, with whatever a case spoils.
struct Call {
    key: String,
    time: i64,
    nonce: String,
    body: String,
    signed_body: String,
    signed_path: String,
}

impl Call {
    fn new(key: &str, body: &Value) -> Self {
        let body = body.to_string();
        let time = SystemClock.now().timestamp_millis();
        let (signed_body, signed_path) = (body.clone(), RELAY.to_owned());
        Call { key: key.to_owned(), time, nonce: id(), body, signed_body, signed_path }
    }

    async fn send(&self, client: &Client) -> Answer {
        let key_id = key_id(&self.key);
        let signed = Signed {
            method: "POST",
            path_and_query: &self.signed_path,
            body_sha256: &Sha256::digest(&self.signed_body).into(),
            time: self.time,
            nonce: &self.nonce,
            key_id: &key_id,
        };
        let request = client.request("POST", RELAY).header("content-type", "application/json");
        let request = request
            .header(KEY_HEADER, &key_id)
            .header(TIME_HEADER, self.time)
            .header(NONCE_HEADER, &self.nonce)
            .header(SIGNATURE_HEADER, signed.signature(&self.key));
        client.send(request.body(self.body.clone())).await
    }
}

fn one_sale(store_id: &str) -> Value {
    let mut sold = sale();
    sold["store_id"] = json!(store_id);
    sold["device_id"] = json!(id());
    json!({ "events": [sold] })
}

async fn node_of(peers: &str) -> TestNode {
    node_at(free_address(), peers, &[]).await
}

#[actix_web::test]
async fn a_request_is_taken_only_as_it_was_signed_in_time_and_once() {
    let node = node_of(&peer("p", free_address(), KEY)).await;
    let body = one_sale(&id());
    let good = Call::new(KEY, &body);
    let answer = good.send(&node.client).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["accepted"].as_array().map(Vec::len), Some(1), "{}", answer.text);
    let hour = 3_600_000;
    let cases = [
        ("PEER_UNKNOWN", Call::new("another-key-that-nobody-here-knows-of", &body)),
        ("PEER_CLOCK", Call { time: good.time - hour, ..Call::new(KEY, &body) }),
        ("PEER_CLOCK", Call { time: good.time + hour, ..Call::new(KEY, &body) }),
        ("PEER_SIGNATURE", Call { signed_body: "{}".to_owned(), ..Call::new(KEY, &body) }),
        ("PEER_SIGNATURE", Call { signed_path: format!("{RELAY}?x=1"), ..Call::new(KEY, &body) }),
        ("PEER_SIGNATURE", Call { nonce: String::new(), ..Call::new(KEY, &body) }),
        ("PEER_REPEATED", good),
    ];
    for (code, call) in cases {
        let answer = call.send(&node.client).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some(code)), "{}", answer.text);
    }
    for token in [ADMIN, "vxd_none"] {
        let answer = node.client.call("POST", RELAY, token, Some(&body)).await;
        assert_eq!(answer.status, 401, "{token}: {}", answer.text);
    }
    node.stop().await;
}

#[actix_web::test]
async fn two_keys_are_valid_while_one_is_rotated() {
    let (old, new) = ("the-old-key-of-the-two-that-rotate-now", "the-new-key-of-the-two-that-rotate-now");
    let peers = json!([{ "name": "p", "url": "http://127.0.0.1:9", "keys": [new, old] }]).to_string();
    let node = node_of(&peers).await;
    for key in [old, new] {
        let answer = Call::new(key, &one_sale(&id())).send(&node.client).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_peer_touches_the_stores_it_is_configured_for_alone() {
    let served = id();
    let peers =
        json!([{ "name": "p", "url": "http://127.0.0.1:9", "key": KEY, "stores": [served] }]).to_string();
    let node = node_of(&peers).await;
    let foreign = Call::new(KEY, &one_sale(&id())).send(&node.client).await;
    assert_eq!(foreign.status, 403, "{}", foreign.text);
    let mut mixed = one_sale(&served);
    let other = one_sale(&id())["events"][0].clone();
    mixed["events"].as_array_mut().expect("events").push(other.clone());
    let answer = Call::new(KEY, &mixed).send(&node.client).await.json();
    assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(answer["rejected"][0]["event_id"], other["event_id"], "{answer}");
    let stores = node.client.admin("/admin/stores").await;
    let known: Vec<&Value> =
        stores["items"].as_array().expect("stores").iter().map(|s| &s["store_id"]).collect();
    assert_eq!(known, [&json!(served)], "the other store was made");
    node.stop().await;
}

#[actix_web::test]
async fn bodies_that_are_no_relay_are_refused_and_one_bad_event_is_alone() {
    let node = node_of(&peer("p", free_address(), KEY)).await;
    for body in [json!({}), json!([]), json!({ "events": 1 }), json!({ "events": {} })] {
        let answer = Call::new(KEY, &body).send(&node.client).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (400, Some("UNREADABLE_RELAY")),
            "{body}"
        );
    }
    let store = id();
    let mut relayed = one_sale(&store);
    let events = relayed["events"].as_array_mut().expect("events");
    for spoiled in [
        json!({ "event_id": "no-store", "type": "X", "payload": {}, "device_id": "d" }),
        json!({ "event_id": "no-device", "type": "X", "payload": {}, "store_id": store }),
        json!({ "event_id": "odd-store", "type": "X", "payload": {}, "store_id": 7, "device_id": "d" }),
        json!({ "event_id": "no-payload", "type": "X", "store_id": store, "device_id": "d" }),
        json!("no object"),
    ] {
        events.push(spoiled);
    }
    let answer = Call::new(KEY, &relayed).send(&node.client).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(1), "{answer}");
    let refused: Vec<&str> = answer["rejected"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| r["event_id"].as_str().expect("an id"))
        .collect();
    assert_eq!(refused, ["no-store", "no-device", "odd-store", "no-payload", ""], "{answer}");
    node.stop().await;
}
