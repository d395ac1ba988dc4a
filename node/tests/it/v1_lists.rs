//! Id lists and replays: what this node has of some days, and how it sends that again.

use crate::database::execute;
use crate::pair::pending;
use crate::process::Home;
use crate::support::{ADMIN, TestNode, Till, id, wait};
use crate::v1_node::{self, Instead, V1Node};
use crate::wire::problem;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;
use velox_actors::peer::{Peer, PeerClient, PeerKey, Protocol, Request};
use velox_node::clock::SystemClock;
use velox_protocol::federation::NodeIdentity;
use velox_protocol::payload::derived_debt_id;

/// 2026-03-01T23:59:59.999Z, the last moment of a day.
const LAST: i64 = 1_772_409_599_999;

struct Day {
    node: TestNode,
    till: Till,
    ids: Vec<(&'static str, String)>,
    events: Vec<Value>,
}

/// One thing of each kind, in the last moment of a day.
async fn a_day(node: TestNode) -> Day {
    let till = node.client.till().await;
    let (sale, voided, debt) = (id(), id(), id());
    let (session, payment, movement) = (id(), id(), id());
    let of_sale = |sale_id: &String, method: &str| {
        v1_node::event(
            "SaleCreated",
            json!({ "sale_id": sale_id, "request_id": id(), "sold_at": LAST, "items": [], "total": 5,
                "customer_id": id(), "payment": { "method": method } }),
        )
    };
    let mut received =
        v1_node::event("StockReceived", json!({ "movement_id": movement, "product_id": id(), "qty": 3 }));
    received["created_at"] = json!(LAST);
    let mut unnamed = v1_node::event("StockReceived", json!({ "product_id": id(), "qty": 3 }));
    unnamed["created_at"] = json!(LAST);
    let events = vec![
        of_sale(&sale, "FIAO"),
        of_sale(&voided, "CASH_USD"),
        v1_node::event("SaleVoided", json!({ "sale_id": voided })),
        v1_node::event(
            "DebtCreated",
            json!({ "debt_id": debt, "created_at": LAST, "amount_usd": 3, "amount_bs": 0 }),
        ),
        v1_node::event(
            "DebtPaymentRecorded",
            json!({ "payment_id": payment, "debt_id": debt, "paid_at": LAST, "amount_usd": 1 }),
        ),
        v1_node::event("CashSessionOpened", json!({ "cash_session_id": session, "opened_at": LAST })),
        v1_node::event("CashSessionClosed", json!({ "cash_session_id": session, "closed_at": LAST + 1 })),
        received,
        unnamed,
    ];
    node.client.push(&till, &events).await;
    let ids = vec![
        ("sales-ids", sale),
        ("sales-ids", voided.clone()),
        ("voided-sales-ids", voided),
        ("debt-ids", debt),
        ("debt-payment-ids", payment),
        ("session-ids", session),
        ("inventory-movement-ids", movement),
    ];
    Day { node, till, ids, events }
}

impl Day {
    async fn list(&self, list: &str, query: &str) -> Value {
        let store = self.till.store_id;
        let path = format!("/sync/federation/{list}?store_id={store}&limit=10000&offset=0&{query}");
        let answer = self.node.client.call("GET", &path, ADMIN, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    fn of(&self, list: &str) -> BTreeSet<&str> {
        self.ids.iter().filter(|(other, _)| *other == list).map(|(_, id)| id.as_str()).collect()
    }

    fn id(&self, list: &str) -> &str {
        self.ids.iter().find(|(other, _)| *other == list).map(|(_, id)| id.as_str()).expect("an id")
    }
}

const LISTS: [&str; 6] = [
    "sales-ids",
    "voided-sales-ids",
    "debt-ids",
    "debt-payment-ids",
    "session-ids",
    "inventory-movement-ids",
];

#[actix_web::test]
async fn every_list_has_what_is_of_its_days_both_included_from_tables_and_log() {
    let day = a_day(TestNode::start().await).await;
    day.node.client.projected().await;
    for source in ["", "&source=tables", "&source=events"] {
        for list in LISTS {
            let expected = day.of(list);
            for (dates, there) in [
                ("date_from=2026-03-01&date_to=2026-03-01", true),
                ("date_from=2026-02-27&date_to=2026-03-01", true),
                ("date_from=2026-03-02&date_to=2026-03-31", false),
                ("date_from=2026-02-01&date_to=2026-02-28", false),
                ("", true),
            ] {
                let page = day.list(list, &format!("{dates}{source}")).await;
                let ids: BTreeSet<&str> =
                    page["ids"].as_array().expect("ids").iter().filter_map(Value::as_str).collect();
                let what = format!("{list} {dates}{source}: {page}");
                assert_eq!(ids, if there { expected.clone() } else { BTreeSet::new() }, "{what}");
                assert_eq!(page["total"], json!(ids.len()), "{what}");
            }
        }
    }
    let derived = derived_debt_id(day.till.store_id, day.id("sales-ids").parse().expect("a UUID"));
    assert!(!day.list("debt-ids", "").await.to_string().contains(&derived.to_string()));
    day.node.stop().await;
}

#[actix_web::test]
async fn the_logs_lists_have_what_never_was_projected_and_what_the_tables_have_lost() {
    let day = a_day(TestNode::start().await).await;
    day.node.client.projected().await;
    execute(&day.node.database.pool().await, "DELETE FROM debts".to_owned()).await;
    assert_eq!(day.list("debt-ids", "").await, json!({ "total": 0, "ids": [] }));
    assert_eq!(day.list("debt-ids", "source=events").await["ids"], json!([day.id("debt-ids")]));
    day.node.client.fault(json!({ "actor": "projector.sale", "fault": "error" })).await;
    let late = v1_node::event(
        "SaleCreated",
        json!({ "sale_id": id(), "sold_at": LAST + 1, "items": [], "total": 1 }),
    );
    let odd = v1_node::event("SaleCreated", json!({ "sale_id": id(), "sold_at": LAST + 2, "items": "none" }));
    day.node.client.push(&day.till, &[late.clone(), odd.clone()]).await;
    let of_day = "date_from=2026-03-02&date_to=2026-03-02";
    assert_eq!(day.list("sales-ids", of_day).await["total"], json!(0));
    let ids = day.list("sales-ids", &format!("{of_day}&source=events")).await["ids"].clone();
    assert_eq!(ids, json!([late["payload"]["sale_id"], odd["payload"]["sale_id"]]), "by time");
    // It is found where somebody asks for it, too.
    let body = json!({ "store_id": day.till.store_id, "sale_ids": [late["payload"]["sale_id"]] });
    let answer =
        day.node.client.call("POST", "/sync/federation/replay-sales", ADMIN, Some(&body)).await.json();
    assert_eq!((&answer["found"], &answer["missingSaleIds"]), (&json!(1), &json!([])), "{answer}");
    day.node.client.clear_faults().await;
    day.node.stop().await;
}

#[actix_web::test]
async fn pages_follow_each_other_by_time_and_id() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let sale = |n: i64| {
        v1_node::event(
            "SaleCreated",
            json!({ "sale_id": id(), "sold_at": LAST - 2 + n / 2, "items": [], "total": 1 }),
        )
    };
    let events: Vec<Value> = (0..5).map(sale).collect();
    node.client.push(&till, &events).await;
    node.client.projected().await;
    let mut expected: Vec<(i64, &str)> = events
        .iter()
        .map(|e| {
            (e["payload"]["sold_at"].as_i64().expect("ms"), e["payload"]["sale_id"].as_str().expect("an id"))
        })
        .collect();
    expected.sort_unstable();
    for source in ["tables", "events"] {
        let mut all = Vec::new();
        for offset in [0, 2, 4, 6] {
            let path = format!(
                "/sync/federation/sales-ids?store_id={}&limit=2&offset={offset}&source={source}",
                till.store_id
            );
            let page = node.client.admin(&path).await;
            assert_eq!(page["total"], json!(5), "{page}");
            all.extend(
                page["ids"].as_array().expect("ids").iter().map(|id| id.as_str().expect("an id").to_owned()),
            );
        }
        assert_eq!(all, expected.iter().map(|(_, id)| *id).collect::<Vec<_>>(), "{source}");
    }
    node.stop().await;
}

#[actix_web::test]
async fn what_is_wrong_with_a_query_is_said() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let store = till.store_id;
    for (query, code) in [
        (String::new(), "STORE_REQUIRED"),
        ("store_id=".to_owned(), "STORE_REQUIRED"),
        ("store_id=none".to_owned(), "INVALID_QUERY"),
        (format!("store_id={store}&date_from=2026-2-1"), "INVALID_QUERY"),
        (format!("store_id={store}&date_from=2026-02-30"), "INVALID_QUERY"),
        (format!("store_id={store}&date_to=2026-02-01T00:00:00Z"), "INVALID_QUERY"),
        (format!("store_id={store}&date_to=yesterday"), "INVALID_QUERY"),
        (format!("store_id={store}&date_from=2026-03-02&date_to=2026-03-01"), "INVALID_QUERY"),
        (format!("store_id={store}&limit=0"), "INVALID_LIMIT"),
        (format!("store_id={store}&limit=10001"), "INVALID_LIMIT"),
        (format!("store_id={store}&limit=-1"), "INVALID_LIMIT"),
        (format!("store_id={store}&limit=many"), "INVALID_LIMIT"),
        (format!("store_id={store}&offset=-1"), "INVALID_OFFSET"),
        (format!("store_id={store}&offset=99999999999999999999"), "INVALID_OFFSET"),
        (format!("store_id={store}&source=memory"), "INVALID_QUERY"),
    ] {
        let path = format!("/sync/federation/debt-ids?{query}");
        let answer = node.client.call("GET", &path, ADMIN, None).await;
        let body = problem(&answer, 400, &path);
        assert_eq!(body["code"], code, "{path}");
        assert!(!body.to_string().contains("2026-02-30"), "no echo: {body}");
    }
    let path = format!("/sync/federation/debt-ids?store_id={}", id());
    problem(&node.client.call("GET", &path, ADMIN, None).await, 404, "an unknown store");
    node.stop().await;
}

#[actix_web::test]
async fn a_native_peer_may_ask_for_lists_by_a_signed_request() {
    let key = "a-key-that-two-native-nodes-share";
    let peers = json!([{ "name": "cloud", "url": "http://127.0.0.1:9", "key": key }]).to_string();
    let day = a_day(TestNode::start_with(&[("VELOX_PEERS", &peers)]).await).await;
    day.node.client.projected().await;
    let client = |key: &str| {
        let peer = Peer {
            name: "us".to_owned(),
            url: format!("http://{}", day.node.node.address),
            keys: vec![PeerKey::new(key)],
            stores: None,
            protocol: Protocol::Velox,
        };
        let own = NodeIdentity { node_id: "another-node".to_owned(), incarnation: uuid::Uuid::nil() };
        PeerClient::new(Arc::new(peer), own.into(), Arc::new(SystemClock)).expect("a client")
    };
    let path = format!("/sync/federation/sales-ids?store_id={}&source=events", day.till.store_id);
    let request = || Request {
        method: reqwest::Method::GET,
        path: &path,
        content_type: "application/json",
        body: Vec::new(),
        deadline: std::time::Duration::from_secs(30),
    };
    let page: Value =
        serde_json::from_slice(&client(key).send(request()).await.expect("a list")).expect("JSON");
    assert_eq!(page["total"], json!(2));
    client("another-key").send(request()).await.expect_err("a stranger's request");
    day.node.stop().await;
}

#[actix_web::test]
async fn a_v1_node_is_sent_what_it_asks_for_also_what_came_from_itself() {
    let v1 = V1Node::start();
    let day = a_day(v1.with_node(&[]).await).await;
    let store_id = day.till.store_id;
    wait("an empty relay queue", async || pending(&day.node).await == 0).await;
    day.node.client.projected().await;
    let own = v1_node::event("DebtCreated", json!({ "debt_id": id(), "amount_usd": 2, "amount_bs": 0 }));
    v1.relay(store_id, &id(), &own).await;
    v1.state().shops.clear();
    let unknown = id();
    let ask = async |call: &str, body: Value| {
        let mut body = body;
        body["store_id"] = json!(store_id);
        let (status, answer) = v1.ask("POST", &format!("/sync/federation/{call}"), Some(&body)).await;
        assert_eq!(status, 200, "{call}: {answer}");
        answer
    };
    let (sale, voided) = (&day.ids[0].1, &day.ids[1].1);
    let sales = ask("replay-sales", json!({ "sale_ids": [sale, voided, unknown] })).await;
    let expected = json!({ "requested": 3, "found": 2, "queued": 3, "missingSaleIds": [unknown] });
    assert_eq!(sales, expected, "a sale, and another with its void");
    let derived = derived_debt_id(store_id, sale.parse().expect("a UUID"));
    let asked = json!([day.id("debt-ids"), own["payload"]["debt_id"], derived, "none"]);
    let debts = ask("replay-debts", json!({ "debt_ids": asked })).await;
    assert_eq!(debts, json!({ "requested": 4, "found": 2, "queued": 2, "missingIds": [derived, "none"] }));
    let payments = ask("replay-debt-payments", json!({ "payment_ids": [day.id("debt-payment-ids")] })).await;
    assert_eq!(payments, json!({ "requested": 1, "found": 1, "queued": 1, "missingIds": [] }));
    let sessions = ask("replay-sessions", json!({ "session_ids": [day.id("session-ids"), unknown] })).await;
    assert_eq!(sessions, json!({ "requested": 2, "found": 1, "queued": 2, "missingSaleIds": [unknown] }));
    let product = day.events[8]["payload"]["product_id"].clone();
    let body =
        json!({ "movement_ids": [day.id("inventory-movement-ids"), unknown], "product_ids": [product] });
    let stock = ask("replay-inventory", body).await;
    let expected = json!({ "requestedMovementIds": 2, "requestedProductIds": 1, "found": 2, "queued": 2,
        "missingMovementIds": [unknown] });
    assert_eq!(stock, expected);
    for event in day.events.iter().chain([&own]) {
        v1.gets(store_id, event["event_id"].as_str().expect("an id")).await;
    }
    for (call, body) in [("replay-sales", json!({})), ("replay-debts", json!({ "debt_ids": "all" }))] {
        let mut body = body;
        body["store_id"] = json!(store_id);
        let (status, answer) = v1.ask("POST", &format!("/sync/federation/{call}"), Some(&body)).await;
        assert_eq!(status, 400, "{call}: {answer}");
    }
    day.node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn the_admin_replays_into_both_queues_by_ids_and_by_types() {
    let v1 = V1Node::start();
    let day = a_day(v1.with_node(&[]).await).await;
    let (client, store_id) = (&day.node.client, day.till.store_id);
    wait("an empty relay queue", async || pending(&day.node).await == 0).await;
    client.projected().await;
    let replay = async |body: Value| {
        let mut body = body;
        body["store_id"] = json!(store_id);
        client.call("POST", "/sync/federation/replay", ADMIN, Some(&body)).await
    };
    let debt = day.events[3]["event_id"].as_str().expect("an id");
    execute(&day.node.database.pool().await, "DELETE FROM debts".to_owned()).await;
    let body = json!({ "event_ids": [debt.to_uppercase(), "unknown"], "target": "projection" });
    let answer = replay(body).await.json();
    let expected = json!({ "requested": 2, "found": 1, "queued": 1, "missingIds": ["unknown"], "peers": [] });
    assert_eq!(answer, expected);
    let known = async || client.list(&day.till, "debts").await.iter().any(|d| d["id"] == day.id("debt-ids"));
    wait("the debt's row", known).await;

    v1.state().shops.clear();
    let body = json!({ "types": ["CashSessionOpened", "CashSessionClosed"], "target": "federation-relay",
        "from": "2020-01-01", "peer": "v1" });
    let answer = replay(body).await.json();
    let expected = json!({ "requested": 2, "found": 2, "queued": 2, "missingIds": [], "peers": ["v1"] });
    assert_eq!(answer, expected);
    wait("two events at the v1 node", async || {
        v1.state().shops.get(&store_id).is_some_and(|shop| shop.events.len() == 2)
    })
    .await;
    for (body, code) in [
        (json!({ "event_ids": [], "target": "elsewhere" }), "INVALID_TARGET"),
        (json!({ "event_ids": [], "target": "projection", "peer": "v1" }), "INVALID_TARGET"),
        (json!({ "event_ids": [], "target": "federation-relay", "peer": "v2" }), "UNKNOWN_PEER"),
        (json!({ "event_ids": [], "types": [], "target": "projection" }), "INVALID_BODY"),
        (json!({ "target": "projection" }), "INVALID_BODY"),
        (json!({ "types": [], "from": "soon", "target": "projection" }), "INVALID_QUERY"),
    ] {
        assert_eq!(problem(&replay(body.clone()).await, 400, &body.to_string())["code"], code, "{body}");
    }
    day.node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn the_command_replays_beside_a_running_node() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[("VELOX_OUTBOX_MAX_RETRIES", "1")]).await;
    let till = node.client.till().await;
    let event = v1_node::event("ProductCreated", json!({ "product_id": id(), "name": "Café" }));
    let event_id = event["event_id"].as_str().expect("an id");
    v1.state().instead_of.insert(event_id.to_owned(), Instead::status(400));
    node.client.push(&till, std::slice::from_ref(&event)).await;
    let dead = async || node.client.admin("/sync/federation/status").await["queue"]["failed"] == 1;
    wait("a dead entry", dead).await;
    v1.state().instead_of.clear();
    let (home, peers, store) = (Home::new(), v1.as_peer(), till.store_id.to_string());
    let here = [("VELOX_DATABASE_URL", node.database.url()), ("VELOX_PEERS", peers.as_str())];
    let command =
        ["replay", "--store", &store, "--event", event_id, "--target", "federation-relay", "--json"];
    let replayed = home.run(&command, &here).await.fine().json();
    assert_eq!((&replayed["queued"], &replayed["peers"]), (&json!(1), &json!(["v1"])), "{replayed}");
    v1.gets(till.store_id, event_id).await;
    assert!(!dead().await);

    let command = ["replay", "--store", &store, "--event", "unknown", "--target", "projection"];
    let ran = home.run(&command, &here).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("unknown"), "{ran:?}");
    let by_type = ["replay", "--store", &store, "--type", "ProductCreated", "--target", "projection"];
    assert!(home.run(&by_type, &here).await.fine().out.contains("projection"));
    for wrong in [
        &["replay", "--store", &store, "--target", "projection"][..],
        &["replay", "--store", &store, "--event", "e", "--target", "elsewhere"],
        &["replay", "--store", &store, "--event", "e", "--type", "t", "--target", "projection"],
    ] {
        assert_eq!(home.run(wrong, &here).await.code, Some(2), "{wrong:?}");
    }
    let other = Uuid::from_u128(7).to_string();
    let ran = home.run(&["replay", "--store", &other, "--event", "e", "--target", "projection"], &here).await;
    assert!(ran.code == Some(1) && ran.err.contains("no such store"), "{ran:?}");
    node.stop().await;
    v1.stop().await;
}
