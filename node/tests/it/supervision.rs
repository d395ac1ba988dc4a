//! The supervisor tree of a whole node: actors that panic, fail, sleep or lose messages under load.

use crate::database::{number, stored};
use crate::load::Load;
use crate::support::{ADMIN, Client, TestNode, Till, event, id, sale, wait};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};

/// Every actor that works in a node with a given database and one peer.
const WORKERS: [&str; 14] = [
    "fiscal_allocator",
    "orphan_healer",
    "outbox_pump",
    "projector.cash",
    "projector.customer",
    "projector.debt",
    "projector.product",
    "projector.sale",
    "projector.stock",
    "projector.store",
    "reconciler",
    "relay.cloud",
    "sync_ingest.0",
    "sync_ingest.1",
];

/// One event for each projector.
fn one_for_each_projector() -> Vec<Value> {
    vec![
        event("CashSessionOpened", json!({ "session_id": id(), "opening_amount_usd": 20 })),
        event("CustomerCreated", json!({ "customer_id": id(), "name": "María" })),
        event("ProductCreated", json!({ "product_id": id(), "name": "Arepa", "price_usd": 1.5 })),
        event("StockReceived", json!({ "movement_id": id(), "product_id": id(), "qty": 12 })),
        event("DebtCreated", json!({ "debt_id": id(), "customer_id": id(), "amount_usd": 5 })),
        event("RecipeIngredientsUpdated", json!({ "product_id": id(), "ingredients": [] })),
        sale(),
    ]
}

/// Strikes an actor once and waits for its next life.
async fn is_struck_once(
    client: &Client,
    (till, series): (&Till, &str),
    actor: &str,
    fault: &str,
    expected: &str,
) {
    let before = client.worker(actor).await["restarts"].as_u64();
    client.fault(json!({ "actor": actor, "fault": fault, "times": 1 })).await;
    if actor == "fiscal_allocator" {
        // Nobody else asks it for anything.
        assert_eq!(crate::fiscal::consume(client, till, series, json!({})).await.0, 503);
    }
    wait(&format!("the restart of {actor}"), async || {
        let now = client.worker(actor).await;
        let told = now["last_error"].as_str().is_some_and(|error| error.contains(expected));
        told && now["restarts"].as_u64() > before
    })
    .await;
    wait("readiness", async || client.is_ready().await).await;
}

#[actix_web::test]
async fn every_actor_panics_once_under_load_and_nothing_is_lost() {
    every_actor_is_struck("panic", "injected panic in ", "120000").await;
}

#[actix_web::test]
async fn every_actor_hangs_once_under_load_and_a_watchdog_restarts_it() {
    // Short enough for a test, and longer than sound work takes on a busy machine.
    every_actor_is_struck("hang", "made no progress and was cut off", "1000").await;
}

/// `expected`: what an actor's last error says then.
async fn every_actor_is_struck(fault: &str, expected: &str, hang_limit: &str) {
    // Those without work are struck by their next ticks. Nobody answers where the peer should be.
    let peers =
        json!([{ "name": "cloud", "url": "http://127.0.0.1:9", "key": "a-key-of-nobody-in-this-test" }]);
    let peers = peers.to_string();
    let settings = [
        ("VELOX_OUTBOX_RETRY_BASE_MS", "20"),
        ("VELOX_RECONCILE_INTERVAL_MS", "200"),
        ("VELOX_HEAL_INTERVAL_MS", "200"),
        ("VELOX_OUTBOX_POLL_MS", "200"),
        ("VELOX_HANG_LIMIT_MS", hang_limit),
        ("VELOX_PEERS", peers.as_str()),
    ];
    let node = TestNode::start_with(&settings).await;
    let client = &node.client;
    let till = client.till().await;
    let series = crate::fiscal::declared(&node, &till, 1).await;
    let tills = [till.clone(), client.till_of(till.store_id).await, client.till_of(till.store_id).await];
    let mut names: Vec<String> = Vec::new();
    for worker in client.workers().await {
        names.push(worker["name"].as_str().expect("a name").to_owned());
    }
    names.sort_unstable();
    assert_eq!(names, WORKERS);
    let load = Load::default();
    let strikes = async {
        for actor in &names {
            is_struck_once(client, (&till, &series), actor, fault, expected).await;
        }
        load.more(10).await;
        load.end();
    };
    join(join_all(tills.iter().map(|till| load.push(client, till, one_for_each_projector))), strikes).await;
    client.projected().await;

    let pool = node.database.pool().await;
    let acknowledged = load.acknowledged();
    assert!(acknowledged.is_subset(&stored(&pool).await), "acknowledged and lost");
    let unprojected = "SELECT count(*) FROM event_status
                       WHERE projection_status NOT IN ('processed', 'skipped')
                          OR (projection_status = 'skipped') <> (type = 'RecipeIngredientsUpdated')";
    assert_eq!(number(&pool, unprojected).await, 0);
    assert_eq!(number(&pool, "SELECT count(*) FROM outbox_entries WHERE target = 'projection'").await, 0);
    let doubled_or_gone = "SELECT count(*) FROM (SELECT
        (SELECT count(*) FROM events WHERE type = 'SaleCreated') = ALL(ARRAY[(SELECT count(*) FROM sales),
            (SELECT count(*) FROM debts), (SELECT count(*) FROM products), (SELECT count(*) FROM customers),
            (SELECT count(*) FROM cash_sessions),
            (SELECT count(*) FROM stock_movements WHERE kind = 'received')]) AS fits) x WHERE NOT fits";
    assert_eq!(number(&pool, doubled_or_gone).await, 0);
    assert_eq!(node.node.state.store.verify(None).await.expect("a verdict"), []);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_writer_that_panics_costs_one_503_and_the_other_writes_on() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    for _ in 0..4 {
        node.client.push(&till, &[sale()]).await;
    }
    for _ in 0..3 {
        node.client.fault(json!({ "actor": "sync_ingest.0", "fault": "panic", "times": 1 })).await;
        let sold = [sale()];
        let answer = node.client.try_push(&till, &sold).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(answer.headers.contains_key("retry-after"));
        assert!(node.client.faults().await.is_empty(), "it struck");
        // At once, and none of them meets a session that died with the writer.
        node.client.push(&till, &sold).await;
        for _ in 0..4 {
            node.client.push(&till, &[sale()]).await;
        }
        wait("readiness", async || node.client.is_ready().await).await;
        for _ in 0..4 {
            node.client.push(&till, &[sale()]).await;
        }
    }
    assert_eq!(node.client.worker("sync_ingest.0").await["restarts"], 3);
    node.stop().await;
}

#[actix_web::test]
async fn errors_and_lost_messages_in_ingest_are_a_503() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    for fault in ["error", "drop"] {
        node.client.fault(json!({ "actor": "sync_ingest.0", "fault": fault, "times": 1 })).await;
        let answer = node.client.try_push(&till, &[sale()]).await;
        assert_eq!(answer.status, 503, "{fault}: {}", answer.text);
        assert!(answer.headers.contains_key("retry-after"), "{fault}");
    }
    node.client.push(&till, &[sale()]).await;
    node.client.listed(&till, "sales", 1).await;
    assert_eq!(node.client.restarts().await, 0);
    node.stop().await;
}

#[actix_web::test]
async fn a_pump_that_loses_its_wake_ups_is_helped_by_its_poll() {
    let node = TestNode::start_with(&[("VELOX_OUTBOX_POLL_MS", "100")]).await;
    let till = node.client.till().await;
    node.client.fault(json!({ "actor": "outbox_pump", "fault": "drop", "times": 5 })).await;
    node.client.push(&till, &[sale()]).await;
    node.client.listed(&till, "sales", 1).await;
    assert!(node.client.faults().await.is_empty(), "it lost fewer messages than it was to lose");
    node.stop().await;
}

#[actix_web::test]
async fn an_unknown_actor_or_fault_is_a_400_and_sets_nothing() {
    let node = TestNode::start().await;
    for fault in [
        json!({ "actor": "projector.nothing", "fault": "error" }),
        json!({ "actor": "", "fault": "error" }),
        json!({ "fault": "error" }),
        json!({ "actor": "projector.debt" }),
        json!({ "actor": "projector.debt", "fault": "explode" }),
        json!({ "actor": "projector.debt", "fault": "error", "times": 0 }),
        json!({ "actor": "projector.debt", "fault": "error", "times": -1 }),
        json!({ "actor": "projector.debt", "fault": "error", "probability": 1.5 }),
        json!({ "actor": "projector.debt", "fault": "delay", "delay_ms": 600_001 }),
        json!(["projector.debt"]),
    ] {
        let answer = node.client.call("POST", "/chaos/faults", ADMIN, Some(&fault)).await;
        assert_eq!(answer.status, 400, "{fault}: {}", answer.text);
    }
    assert!(node.client.faults().await.is_empty());
    node.stop().await;
}

#[actix_web::test]
async fn a_new_fault_replaces_its_actors_old_one_and_delete_clears_all() {
    let node = TestNode::start().await;
    let client = &node.client;
    client.fault(json!({ "actor": "projector.debt", "fault": "error" })).await;
    client.fault(json!({ "actor": "projector.debt", "fault": "hang", "times": 2 })).await;
    client.fault(json!({ "actor": "projector.sale", "fault": "error" })).await;
    let faults = client.faults().await;
    let expected = [
        json!({ "actor": "projector.debt", "fault": "hang", "times": 2 }),
        json!({ "actor": "projector.sale", "fault": "error" }),
    ];
    assert_eq!(faults, expected);
    client.clear_faults().await;
    assert!(client.faults().await.is_empty());
    let till = client.till().await;
    client.push(&till, &one_for_each_projector()).await;
    client.projected().await;
    assert_eq!(client.figure("velox_projection_failures_total").await, 0);
    node.stop().await;
}
