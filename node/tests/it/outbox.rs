//! The outbox for operators: what is dead is shown with its reason, and done after it was put back.

use crate::database::{execute, number};
use crate::pair::{KEY, Pair, free_address, node_at, peer, pending, status};
use crate::process::Home;
use crate::stub_peer::{Behaviour, StubPeer, ids};
use crate::support::{ADMIN, Client, TestNode, Till, event, id, sale, wait};
use crate::wire::problem;
use serde_json::{Value, json};
use std::collections::HashSet;

/// One attempt, and no poll within the test: what is put back is done because the pump was woken.
const HASTY: &[(&str, &str)] = &[
    ("VELOX_OUTBOX_MAX_RETRIES", "1"),
    ("VELOX_OUTBOX_RETRY_BASE_MS", "5"),
    ("VELOX_OUTBOX_POLL_MS", "600000"),
];
const FAILED: &str = "SELECT count(*) FROM event_exceptions WHERE status = 'failed'";

fn debt() -> Value {
    event("DebtCreated", json!({ "debt_id": id(), "customer_id": id(), "amount_usd": 5 }))
}

/// Pushes debts that no projector can project, until they are dead.
async fn dead_debts(client: &Client, till: &Till, count: usize) -> Vec<String> {
    client.fault(json!({ "actor": "projector.debt", "fault": "error" })).await;
    let debts: Vec<Value> = (0..count).map(|_| debt()).collect();
    client.push(till, &debts).await;
    wait("dead entries", async || items(client, till, "&status=dead").await.len() == count).await;
    client.clear_faults().await;
    ids(&debts)
}

async fn items(client: &Client, till: &Till, filter: &str) -> Vec<Value> {
    let page = client.admin(&format!("/sync/outbox?store_id={}{filter}", till.store_id)).await;
    page["items"].as_array().expect("items").clone()
}

async fn requeue(client: &Client, body: &Value) -> Value {
    let answer = client.call("POST", "/sync/outbox/requeue", ADMIN, Some(body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[actix_web::test]
async fn dead_entries_are_shown_with_their_reason_and_projected_after_a_requeue() {
    let node = TestNode::start_with(HASTY).await;
    let (client, pool) = (&node.client, node.database.pool().await);
    let (till, other) = (client.till().await, client.till().await);
    let mut events = dead_debts(client, &till, 3).await;
    let foreign = dead_debts(client, &other, 1).await;
    events.sort();

    let dead = items(client, &till, "&status=dead&target=projection").await;
    let shown: Vec<&str> = dead.iter().filter_map(|row| row["event_id"].as_str()).collect();
    assert_eq!(shown, events);
    for row in &dead {
        assert_eq!(row["error"], "injected error in projector.debt", "{row}");
        assert_eq!(
            (&row["status"], &row["target"], &row["peer"]),
            (&json!("dead"), &json!("projection"), &json!(""))
        );
        assert_eq!((&row["entity"], &row["retry_count"]), (&json!("debt"), &json!(1)), "{row}");
        assert_eq!((&row["event_type"], &row["store_id"]), (&json!("DebtCreated"), &json!(till.store_id)));
    }
    assert!(items(client, &till, "&target=federation-relay").await.is_empty());

    // By id: of the named store alone.
    let others = items(client, &other, "&status=dead").await;
    assert_eq!(others[0]["event_id"], foreign[0].as_str());
    let named = json!({ "store_id": till.store_id, "ids": [dead[0]["id"], others[0]["id"]] });
    assert_eq!(requeue(client, &named).await, json!({ "requeued": 1 }));
    client.listed(&till, "debts", 1).await;
    assert_eq!(number(&pool, FAILED).await, 3);
    assert_eq!(items(client, &other, "&status=dead").await, others, "another store's are not touched");

    // By status.
    let all = json!({ "store_id": till.store_id, "status": "dead" });
    assert_eq!(requeue(client, &all).await, json!({ "requeued": 2 }));
    client.listed(&till, "debts", 3).await;
    assert!(client.list(&other, "debts").await.is_empty());
    assert_eq!(number(&pool, FAILED).await, 1);
    client.projected().await;
    assert!(items(client, &till, "").await.is_empty(), "what is done is gone");
    assert_eq!(requeue(client, &all).await, json!({ "requeued": 0 }));

    let stats = client.admin(&format!("/sync/outbox/stats?store_id={}", other.store_id)).await;
    assert_eq!((&stats["entries"][0]["status"], &stats["entries"][0]["count"]), (&json!("dead"), &json!(1)));
    let mine = client.admin(&format!("/sync/outbox/stats?store_id={}", till.store_id)).await;
    assert_eq!((&mine["entries"], &mine["oldest_pending_seconds"]), (&json!([]), &Value::Null), "{mine}");
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn pages_of_the_outbox_leave_nothing_out_also_by_the_oddest_ids() {
    let node = TestNode::start_with(HASTY).await;
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    let store_id = till.store_id;
    // Backspaces are the longest in a cursor.
    let entries = format!(
        "INSERT INTO outbox_entries (store_id, event_id, event_type, target, peer, status, priority, created_at)
         SELECT '{store_id}', CASE WHEN n % 2 = 0 THEN repeat(chr(1), 250) ELSE 'e' END || n, 'X', 'federation-relay',
             'nobody', 'dead', 1, now() FROM generate_series(1, 25) AS n"
    );
    execute(&pool, entries).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/sync/outbox?store_id={store_id}&status=dead&limit=4{cursor}");
        let page = node.client.admin(&path).await;
        seen.extend(
            page["items"].as_array().expect("items").iter().map(|row| row["id"].as_i64().expect("an id")),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((seen.len(), seen.iter().collect::<HashSet<_>>().len()), (25, 25));
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn what_cannot_be_meant_is_refused() {
    let node = TestNode::start_with(HASTY).await;
    let (client, store) = (&node.client, node.client.till().await.store_id);
    let get = async |query: &str| client.call("GET", &format!("/sync/outbox?{query}"), ADMIN, None).await;
    for (query, code) in [
        (String::new(), "STORE_REQUIRED"),
        ("store_id=x".to_owned(), "INVALID_QUERY"),
        (format!("store_id={store}&status=done"), "INVALID_STATUS"),
        (format!("store_id={store}&status="), "INVALID_STATUS"),
        (format!("store_id={store}&target=relay"), "INVALID_TARGET"),
        (format!("store_id={store}&limit=1001"), "INVALID_LIMIT"),
        (format!("store_id={store}&cursor=x"), "INVALID_CURSOR"),
        (format!("store_id={store}&status=dead&status=dead"), "INVALID_QUERY"),
    ] {
        assert_eq!(problem(&get(&query).await, 400, &query)["code"], code, "{query}");
    }
    problem(&get(&format!("store_id={}", id())).await, 404, "an unknown store");
    let stats = format!("/sync/outbox/stats?store_id={}", id());
    problem(&client.call("GET", &stats, ADMIN, None).await, 404, "an unknown store");

    let many: Vec<i64> = (0..1001).collect();
    for (body, code) in [
        (json!({ "store_id": store }), "INVALID_BODY"),
        (json!({ "store_id": store, "ids": [1], "status": "dead" }), "INVALID_BODY"),
        (json!({ "store_id": store, "ids": many }), "TOO_MANY_IDS"),
        (json!({ "store_id": store, "ids": ["x"] }), "INVALID_BODY"),
        (json!({ "store_id": store, "status": "pending" }), "INVALID_STATUS"),
        (json!({ "store_id": "x", "status": "dead" }), "INVALID_BODY"),
        (json!({ "status": "dead" }), "INVALID_BODY"),
    ] {
        let answer = client.call("POST", "/sync/outbox/requeue", ADMIN, Some(&body)).await;
        assert_eq!(problem(&answer, 400, &body.to_string())["code"], code);
    }
    let unknown = json!({ "store_id": id(), "status": "dead" });
    let answer = client.call("POST", "/sync/outbox/requeue", ADMIN, Some(&unknown)).await;
    problem(&answer, 404, "an unknown store");
    assert_eq!(requeue(client, &json!({ "store_id": store, "ids": [] })).await, json!({ "requeued": 0 }));
    node.stop().await;
}

#[actix_web::test]
async fn a_dead_relay_entry_is_sent_after_a_requeue() {
    let stub = StubPeer::start().await;
    let fast = [
        ("VELOX_OUTBOX_POLL_MS", "100"),
        ("VELOX_OUTBOX_RETRY_BASE_MS", "20"),
        ("VELOX_OUTBOX_MAX_RETRIES", "2"),
    ];
    let node = node_at(free_address(), &peer("stub", stub.address, KEY), &fast).await;
    let till = node.client.till().await;
    let sold = sale();
    let refused = ids(std::slice::from_ref(&sold)).remove(0);
    stub.behave(Behaviour::Refuses(HashSet::from([refused.clone()])));
    node.client.push(&till, &[sold]).await;
    wait("the refused one to be dead", async || status(&node).await["peers"][0]["dead"] == 1).await;
    let dead = items(&node.client, &till, "&status=dead&target=federation-relay").await;
    assert_eq!((dead.len(), &dead[0]["peer"], &dead[0]["event_id"]), (1, &json!("stub"), &json!(refused)));
    assert!(dead[0]["error"].as_str().expect("an error").contains("not to my taste"), "{dead:?}");

    stub.behave(Behaviour::Good);
    let named = json!({ "store_id": till.store_id, "ids": [dead[0]["id"]] });
    assert_eq!(requeue(&node.client, &named).await, json!({ "requeued": 1 }));
    wait("the event at the peer", async || ids(&stub.accepted()).contains(&refused)).await;
    wait("an empty queue", async || pending(&node).await == 0).await;
    assert_eq!(status(&node).await["peers"][0]["dead"], 0);
    node.stop().await;
    stub.stop().await;
}

#[actix_web::test]
async fn velox_outbox_lists_counts_and_requeues_beside_a_running_node() {
    let hasty = [&HASTY[..2], &[("VELOX_OUTBOX_POLL_MS", "100")]].concat();
    let (home, node) = (Home::new(), TestNode::start_with(&hasty).await);
    let at = [("VELOX_DATABASE_URL", node.database.url())];
    let till = node.client.till().await;
    let store = till.store_id.to_string();
    node.client.projected().await;
    let empty = home.run(&["outbox", "list"], &at).await;
    assert!(empty.fine().out.contains("no such entry"), "{empty:?}");
    assert_eq!(home.run(&["outbox", "stats", "--json"], &at).await.fine().json()["entries"], json!([]));

    let events = dead_debts(&node.client, &till, 2).await;
    let table = home.run(&["outbox", "list", "--store", &store], &at).await;
    assert_eq!(table.code, Some(1), "{table:?}");
    assert!(events.iter().all(|event| table.out.contains(event)), "{table:?}");
    assert!(table.out.contains("injected error in projector.debt"), "{table:?}");
    let listed = home.run(&["outbox", "list", "--status", "dead", "--limit", "1", "--json"], &at).await;
    let first = listed.json()["items"][0]["id"].to_string();
    assert_eq!((listed.code, &listed.json()["more"]), (Some(1), &json!(true)), "{listed:?}");
    for none in [["--status", "pending"], ["--target", "federation-relay"]] {
        home.run(&[&["outbox", "list"], &none[..]].concat(), &at).await.fine();
    }
    let stats = home.run(&["outbox", "stats", "--store", &store], &at).await;
    assert!(stats.code == Some(1) && stats.out.contains("dead"), "{stats:?}");

    let one = home.run(&["outbox", "requeue", "--store", &store, "--id", &first, "--json"], &at).await;
    assert_eq!(one.fine().json(), json!({ "requeued": 1 }));
    node.client.listed(&till, "debts", 1).await;
    let rest = home.run(&["outbox", "requeue", "--store", &store, "--dead"], &at).await;
    assert!(rest.fine().out.contains('1'), "{rest:?}");
    node.client.listed(&till, "debts", 2).await;
    home.run(&["outbox", "stats"], &at).await.fine();

    let usage: [&[&str]; 4] = [
        &["outbox", "requeue", "--store", &store],
        &["outbox", "requeue", "--store", &store, "--dead", "--id", "1"],
        &["outbox", "requeue", "--dead"],
        &["outbox", "list", "--status", "done"],
    ];
    for arguments in usage {
        assert_eq!(home.run(arguments, &at).await.code, Some(2), "{arguments:?}");
    }
    let unknown = home.run(&["outbox", "requeue", "--store", &id(), "--dead"], &at).await;
    assert!(unknown.code == Some(1) && unknown.err.contains("there is no such store"), "{unknown:?}");
    node.stop().await;
}

#[actix_web::test]
async fn what_relays_have_done_is_added_up_for_each_peer() {
    let pair = Pair::start(&[]).await;
    let till = pair.a.client.till().await;
    pair.a.client.push(&till, &[sale(), sale()]).await;
    pair.quiet().await;
    wait("the figures of the relay", async || {
        let stats = pair.a.client.admin("/sync/outbox/stats").await;
        let work = stats["work"].as_array().expect("work").clone();
        let relayed = work.iter().find(|row| row["target"] == "federation-relay" && row["peer"] == "b");
        // The shop's declaration too.
        relayed
            .is_some_and(|row| row["done_5m"] == 3 && row["avg_ms_5m"].as_f64().is_some_and(|ms| ms >= 0.0))
    })
    .await;
    pair.stop().await;
}
