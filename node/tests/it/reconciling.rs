//! What slipped through the relay is found by comparing logs, and closed on both sides.

use crate::pair::Pair;
use crate::stub_peer::ids;
use crate::support::{ADMIN, TestNode, Till, event, id, sale, wait};
use serde_json::{Value, json};
use sqlx::PgPool;

/// What the pool of a test's database does, for what slips through in a way that no test can wait for.
async fn sql(node: &TestNode, statements: &str) {
    let pool: PgPool = node.database.pool().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&pool).await.expect("a statement");
    pool.close().await;
}

/// Takes events away as no program can, but an operator may.
async fn lose(node: &TestNode, events: &[String]) {
    let list = events.iter().map(|event_id| format!("'{event_id}'")).collect::<Vec<_>>().join(",");
    let text = format!(
        "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM events WHERE event_id IN ({list}); COMMIT"
    );
    sql(node, &text).await;
}

async fn reconcile(node: &TestNode, till: &Till, more: Value) -> Value {
    let mut body = json!({ "store_id": till.store_id });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let answer = node.client.call("POST", "/sync/federation/auto-reconcile", ADMIN, Some(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// A pair with a shop that both know, and a till at each side.
async fn shop() -> (Pair, Till, Till) {
    let pair = Pair::start(&[]).await;
    let here = pair.a.client.till().await;
    pair.a.client.push(&here, &[sale(), sale()]).await;
    pair.quiet().await;
    let there = pair.b.client.till_of(here.store_id).await;
    (pair, here, there)
}

#[actix_web::test]
async fn lost_events_are_found_and_closed_on_both_sides() {
    let (pair, here, there) = shop().await;
    let debt = id();
    let lost_there = [
        event("CashSessionOpened", json!({ "session_id": id() })),
        event("DebtCreated", json!({ "debt_id": debt, "total_amount": 5 })),
        event("DebtPaymentRecorded", json!({ "payment_id": id(), "debt_id": debt, "amount": 1 })),
    ];
    let lost_here = [sale(), event("ProductCreated", json!({ "product_id": id(), "name": "Arepa" }))];
    pair.a.client.push(&here, &lost_there).await;
    pair.b.client.push(&there, &lost_here).await;
    pair.quiet().await;
    lose(&pair.b, &ids(&lost_there)).await;
    lose(&pair.a, &ids(&lost_here)).await;
    let dry = reconcile(&pair.a, &here, json!({ "dry_run": true })).await;
    let found = |report: &Value, kind: &str| {
        let kind = &report[0][kind];
        (
            kind["remoteMissingCount"].as_u64().expect("a count"),
            kind["localMissingCount"].as_u64().expect("a count"),
        )
    };
    for report in [&dry, &reconcile(&pair.a, &here, json!({})).await] {
        assert_eq!(report[0]["peer"], "b", "{report}");
        let kinds = ["sessions", "debts", "debtPayments", "sales", "other", "voids", "inventory"];
        let counts: Vec<(u64, u64)> = kinds.iter().map(|kind| found(report, kind)).collect();
        assert_eq!(counts, [(1, 0), (1, 0), (1, 0), (0, 1), (0, 1), (0, 0), (0, 0)], "{report}");
    }
    assert_eq!((&dry[0]["sessions"]["replayedToRemote"], &dry[0]["lease"]), (&json!(0), &json!(null)));
    pair.quiet().await;
    let after = reconcile(&pair.a, &here, json!({})).await;
    assert_eq!((found(&after, "sessions"), found(&after, "sales")), ((0, 0), (0, 0)), "{after}");
    assert!(after[0]["lease"].is_string() && after[0]["rounds"].as_u64() == Some(1), "{after}");
    for what in ["sales", "debts", "cash-sessions", "products"] {
        assert_eq!(pair.a.client.list(&here, what).await, pair.b.client.list(&there, what).await, "{what}");
    }
    pair.stop().await;
}

#[actix_web::test]
async fn other_forms_of_an_event_reach_both_sides() {
    let (pair, here, there) = shop().await;
    let first = event("CustomerCreated", json!({ "customer_id": id(), "name": "Ana" }));
    let mut other = first.clone();
    other["payload"]["name"] = json!("Berta");
    pair.a.client.push(&here, &[first]).await;
    pair.quiet().await;
    let refused = pair.b.client.push(&there, &[other]).await;
    assert_eq!(refused["rejected"][0]["code"], "INTEGRITY_ERROR", "{refused}");
    let report = reconcile(&pair.a, &here, json!({})).await;
    assert_eq!(report[0]["other"]["localMissingCount"], 1, "{report}");
    pair.quiet().await;
    assert_eq!(pair.a.client.list(&here, "customers").await, pair.b.client.list(&there, "customers").await);
    let equal = reconcile(&pair.b, &there, json!({})).await;
    assert_eq!(
        (&equal[0]["rounds"], &equal[0]["other"]["localMissingCount"]),
        (&json!(1), &json!(0)),
        "{equal}"
    );
    pair.stop().await;
}

#[actix_web::test]
async fn whoever_finds_the_lease_taken_skips() {
    let (pair, here, _) = shop().await;
    let lease = format!("federation:reconcile:{}", here.store_id);
    let taken = format!(
        "INSERT INTO leases (name, holder, token, expires_at) VALUES ('{lease}', 'somebody', 7, now() + interval '1 minute')
         ON CONFLICT (name) DO UPDATE SET holder = 'somebody', expires_at = EXCLUDED.expires_at"
    );
    sql(&pair.a, &taken).await;
    let report = reconcile(&pair.a, &here, json!({})).await;
    assert_eq!(
        (&report[0]["skipped"], &report[0]["reason"]),
        (&json!(true), &json!("lease_held")),
        "{report}"
    );
    let dry = reconcile(&pair.a, &here, json!({ "dry_run": true })).await;
    assert_eq!(dry[0]["skipped"], json!(null), "a look needs no lease: {dry}");
    sql(&pair.a, &format!("UPDATE leases SET expires_at = now() WHERE name = '{lease}'")).await;
    let report = reconcile(&pair.a, &here, json!({})).await;
    assert_eq!(report[0]["skipped"], json!(null), "{report}");
    pair.stop().await;
}

#[actix_web::test]
async fn unknown_peers_and_stores_are_told_apart_from_nothing_to_do() {
    let (pair, here, _) = shop().await;
    let body = json!({ "store_id": here.store_id, "peer": "nobody" });
    let path = "/sync/federation/auto-reconcile";
    assert_eq!(pair.a.client.call("POST", path, ADMIN, Some(&body)).await.status, 404);
    assert_eq!(pair.a.client.call("POST", path, ADMIN, Some(&json!({ "store_id": "x" }))).await.status, 400);
    assert_eq!(pair.a.client.call("POST", path, &here.token, Some(&body)).await.status, 403);
    pair.stop().await;
}

#[actix_web::test]
async fn a_node_that_was_away_is_compared_when_it_is_back() {
    use crate::pair::{KEY, free_address, node_at, peer, pending, status};
    let fast = &[("VELOX_BREAKER_OPEN_MS", "300"), ("VELOX_OUTBOX_POLL_MS", "200")];
    let (at_a, at_b) = (free_address(), free_address());
    let a = node_at(at_a, &peer("b", at_b, KEY), fast).await;
    let till = a.client.till().await;
    let events = [sale(), sale(), sale()];
    a.client.push(&till, &events).await;
    wait("an open breaker", async || status(&a).await["circuitBreakerState"] == "OPEN").await;
    // Lost on the way, as by a peer that had said yes before its disk died.
    sql(&a, "DELETE FROM outbox_entries WHERE target = 'federation-relay'").await;
    let b = node_at(at_b, &peer("a", at_a, KEY), fast).await;
    wait("the sales at the other side", async || {
        let stores = b.client.admin("/admin/stores").await;
        if stores["items"].as_array().is_none_or(Vec::is_empty) {
            return false;
        }
        let there = b.client.till_of(till.store_id).await;
        b.client.list(&there, "sales").await.len() == 3
    })
    .await;
    wait("an empty queue", async || pending(&a).await == 0).await;
    a.stop().await;
    b.stop().await;
}

#[actix_web::test]
async fn a_peer_whose_breaker_is_open_is_not_compared_with_on_the_period() {
    use crate::pair::{KEY, free_address, node_at, status};
    use crate::stub_peer::{Behaviour, StubPeer};
    const OTHER: &str = "a-key-of-the-other-one-of-forty-letters!";
    let (away, there) = (StubPeer::start().await, StubPeer::start_with(free_address(), OTHER).await);
    away.behave(Behaviour::Answer(500, None, String::new()));
    let peer = |name: &str, stub: &StubPeer, key: &str| json!({ "name": name, "url": format!("http://{}", stub.address), "key": key });
    let peers = json!([peer("away", &away, KEY), peer("there", &there, OTHER)]);
    let every = &[("VELOX_RECONCILE_INTERVAL_MS", "50")];
    let node = node_at(free_address(), &peers.to_string(), every).await;
    let till = node.client.till().await;
    node.client.push(&till, &[sale()]).await;
    wait("an open breaker", async || status(&node).await["peers"][0]["circuitBreakerState"] == "OPEN").await;
    let (of_away, of_there) = (away.compared(), there.compared());
    wait("five more rounds", async || there.compared() >= of_there + 5).await;
    assert!(away.compared() <= of_away + 1, "but for the round that was under way");
    let by_hand = reconcile(&node, &till, json!({ "peer": "away" })).await;
    assert!(by_hand[0]["reason"].as_str().expect("a reason").starts_with("peer_failed"), "{by_hand}");
    node.stop().await;
    away.stop().await;
    there.stop().await;
}
