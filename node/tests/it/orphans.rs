//! R1.1: events whose rows are missing are found, whatever their status says, and projected anew.

use crate::database::{READ_TABLES, execute, number};
use crate::process::Home;
use crate::support::{ADMIN, TestNode, Till, event, id, sale, wait};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

async fn heal(node: &TestNode, till: &Till) -> Value {
    let body = json!({ "store_id": till.store_id });
    let answer = node.client.call("POST", "/sync/heal", ADMIN, Some(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// How many were healed and failed.
fn counts(report: &Value) -> (u64, u64) {
    let count = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name}: {report}"));
    (count("healed"), count("failed"))
}

async fn rows(pool: &PgPool, table: &str) -> Vec<String> {
    let sql = format!("SELECT t::text FROM {table} t ORDER BY 1");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.expect("rows")
}

async fn remove_all_rows(pool: &PgPool) {
    // All at once, or a healer would put some back in between.
    execute(pool, READ_TABLES.map(|table| format!("DELETE FROM {table};")).concat()).await;
}

/// Events of every kind that makes rows, one that waits and one that is absorbed.
fn day() -> Vec<Value> {
    let (product, customer, session, debt, voided) = (id(), id(), id(), id(), id());
    let item = json!({ "product_id": product, "qty": 1, "unit_price_usd": 2 });
    let sold = |sale_id: &str, method: &str| {
        event(
            "SaleCreated",
            json!({ "sale_id": sale_id, "request_id": id(), "items": [item], "payment": { "method": method },
                "customer_id": customer, "session_id": session, "totals": { "total_usd": 2, "total_bs": 73 } }),
        )
    };
    let credit = id();
    vec![
        event("ProductCreated", json!({ "product_id": product, "name": "Harina", "price_usd": 2 })),
        event("PriceChanged", json!({ "product_id": id(), "price_usd": 3 })),
        event("CustomerCreated", json!({ "customer_id": customer, "name": "Ana" })),
        event("CashSessionOpened", json!({ "session_id": session, "opening_amount_usd": 5 })),
        event("CashSessionClosed", json!({ "cash_session_id": session, "counted": {} })),
        event("StockReceived", json!({ "movement_id": id(), "product_id": product, "qty": 9 })),
        event("StockAdjusted", json!({ "product_id": product, "qty_delta": -1 })),
        sold(&credit, "FIAO"),
        sold(&credit, "FIAO"),
        sold(&voided, "CASH_USD"),
        event("SaleVoided", json!({ "sale_id": voided })),
        event("DebtCreated", json!({ "debt_id": debt, "customer_id": customer, "amount_usd": 5 })),
        event("DebtPaymentRecorded", json!({ "payment_id": id(), "debt_id": debt, "amount_usd": 1 })),
        event("DebtPaymentAdded", json!({ "payment_id": id(), "debt_id": id(), "amount_usd": 1 })),
        event(
            "CashLedgerEntryCreated",
            json!({ "entry_id": id(), "entry_type": "expense", "amount_usd": 1, "session_id": session }),
        ),
    ]
}

#[actix_web::test]
async fn every_kind_of_row_that_is_missing_is_made_anew_and_a_second_run_finds_none() {
    let node = TestNode::start().await;
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    let events = day();
    node.client.push(&till, &events).await;
    node.client.projected().await;
    assert_eq!(counts(&heal(&node, &till).await), (0, 0), "nothing is missing");
    let mut before = Vec::new();
    for table in READ_TABLES {
        before.push(rows(&pool, table).await);
        assert!(!before.last().expect("rows").is_empty(), "{table} has rows to lose");
    }
    remove_all_rows(&pool).await;

    let report = heal(&node, &till).await;
    // Of 15 one waits and one is absorbed; the shop has its declaration, too.
    assert_eq!((report["checked"].as_u64(), counts(&report)), (Some(14), (13, 0)), "{report}");
    assert_eq!(report["details"].as_array().map(Vec::len), Some(13));
    assert_eq!(report["details"][0]["status"], "healed");
    let waiting = events[13]["event_id"].as_str().expect("an id");
    for (table, before) in READ_TABLES.iter().zip(&before) {
        // The payment that waits for its debt is not looked for.
        let expected: Vec<&String> = before.iter().filter(|row| !row.contains(waiting)).collect();
        assert_eq!(rows(&pool, table).await.iter().collect::<Vec<_>>(), expected, "{table}");
    }
    assert_eq!(counts(&heal(&node, &till).await), (0, 0), "a second run finds none");
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_lost_debt_or_lost_lines_are_found_though_their_sale_is_there() {
    let node = TestNode::start().await;
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    node.client.push(&till, &day()).await;
    node.client.projected().await;
    let before = rows(&pool, "debts").await;
    execute(&pool, "DELETE FROM debts WHERE derived".to_owned()).await;
    assert_eq!(counts(&heal(&node, &till).await), (1, 0));
    assert_eq!(rows(&pool, "debts").await, before);
    let lines = rows(&pool, "sale_items").await;
    execute(&pool, "DELETE FROM sale_items".to_owned()).await;
    assert_eq!(counts(&heal(&node, &till).await), (2, 0));
    assert_eq!(rows(&pool, "sale_items").await, lines);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn what_is_older_than_a_week_is_left_alone() {
    let node = TestNode::start().await;
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    node.client.push(&till, &[sale(), sale()]).await;
    node.client.projected().await;
    execute(
        &pool,
        "BEGIN; SET LOCAL session_replication_role = replica;
         UPDATE events SET received_at = now() - interval '7 days 1 minute'
         WHERE event_id = (SELECT min(event_id) FROM events WHERE type = 'SaleCreated'); COMMIT"
            .to_owned(),
    )
    .await;
    remove_all_rows(&pool).await;
    assert_eq!(counts(&heal(&node, &till).await), (1, 0), "the other one is too old");
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn an_entry_that_has_been_pending_for_long_is_worked_off() {
    let more = [("VELOX_OUTBOX_RETRY_BASE_MS", "3600000")];
    let node = TestNode::start_with(&more).await;
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    node.client.fault(json!({ "actor": "projector.sale", "fault": "error", "times": 1 })).await;
    node.client.push(&till, &[sale()]).await;
    let tried = "SELECT count(*) FROM outbox_entries WHERE retry_count = 1";
    wait("the first failure", async || number(&pool, tried).await == 1).await;
    assert_eq!(counts(&heal(&node, &till).await), (0, 0), "it is younger than ten seconds");
    execute(&pool, "UPDATE outbox_entries SET created_at = now() - interval '11 s'".to_owned()).await;
    assert_eq!(counts(&heal(&node, &till).await), (1, 0));
    assert_eq!(number(&pool, "SELECT count(*) FROM sales").await, 1);
    assert_eq!(number(&pool, "SELECT count(*) FROM outbox_entries WHERE target = 'projection'").await, 0);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn one_that_fails_stays_failed_since_when_it_did_and_the_rest_goes_on() {
    let node = TestNode::start().await;
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    let unclear = event("DebtCreated", json!({ "debt_id": id(), "amount_usd": "many" }));
    node.client.push(&till, &[unclear.clone(), sale()]).await;
    node.client.projected().await;
    execute(&pool, "UPDATE event_exceptions SET since = '2026-01-02T03:04:05Z'".to_owned()).await;
    remove_all_rows(&pool).await;
    let report = heal(&node, &till).await;
    assert_eq!(counts(&report), (1, 1), "{report}");
    let failed = &report["details"][1];
    assert_eq!((&failed["event_id"], &failed["status"]), (&unclear["event_id"], &json!("failed")));
    assert!(!failed["error"].as_str().expect("a reason").is_empty());
    let kept = "SELECT count(*) FROM event_exceptions
                WHERE status = 'failed' AND reason <> '' AND since = '2026-01-02T03:04:05Z'";
    assert_eq!(number(&pool, kept).await, 1);
    assert_eq!(number(&pool, "SELECT count(*) FROM outbox_entries WHERE target = 'projection'").await, 0);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn one_whose_rows_are_still_missing_afterwards_is_failed_until_something_changes() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let pool = node.database.pool().await;
    // Whatever writes a sale is told that it has.
    execute(
        &pool,
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER swallow BEFORE INSERT ON sales FOR EACH ROW EXECUTE FUNCTION swallow();"
            .to_owned(),
    )
    .await;
    node.client.push(&till, &[sale()]).await;
    node.client.projected().await;
    let report = heal(&node, &till).await;
    assert_eq!(counts(&report), (0, 1), "{report}");
    let failed = "SELECT count(*) FROM event_status WHERE projection_status = 'failed'";
    assert_eq!(number(&pool, failed).await, 1);
    execute(&pool, "DROP TRIGGER swallow ON sales".to_owned()).await;
    assert_eq!(counts(&heal(&node, &till).await), (1, 0));
    assert_eq!(number(&pool, failed).await, 0);
    assert_eq!(node.client.list(&till, "sales").await.len(), 1);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_dead_entry_is_healed_when_its_projector_works_again() {
    let more = [("VELOX_OUTBOX_RETRY_BASE_MS", "1"), ("VELOX_OUTBOX_MAX_RETRIES", "2")];
    let node = TestNode::start_with(&more).await;
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    node.client.fault(json!({ "actor": "projector.sale", "fault": "error" })).await;
    node.client.push(&till, &[sale()]).await;
    let dead = "SELECT count(*) FROM outbox_entries WHERE status = 'dead'";
    wait("a dead entry", async || number(&pool, dead).await == 1).await;
    node.client.clear_faults().await;
    assert_eq!(counts(&heal(&node, &till).await), (1, 0));
    assert_eq!((number(&pool, dead).await, number(&pool, "SELECT count(*) FROM sales").await), (0, 1));
    assert_eq!(number(&pool, "SELECT count(*) FROM event_exceptions").await, 0);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_run_heals_fifty_at_most_and_two_at_once_do_no_harm() {
    let node = TestNode::start().await;
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    let products: Vec<Value> = (0..60)
        .map(|n| event("ProductCreated", json!({ "product_id": id(), "name": format!("no. {n}") })))
        .collect();
    node.client.push(&till, &products).await;
    node.client.projected().await;
    let before = rows(&pool, "products").await;
    remove_all_rows(&pool).await;
    assert_eq!(counts(&heal(&node, &till).await), (50, 0));
    assert_eq!(number(&pool, "SELECT count(*) FROM products").await, 50);
    remove_all_rows(&pool).await;
    let (one, other) = futures_util::future::join(heal(&node, &till), heal(&node, &till)).await;
    assert!(counts(&one).0 + counts(&other).0 >= 50, "{one} {other}");
    assert_eq!((counts(&one).1, counts(&other).1), (0, 0), "{one} {other}");
    heal(&node, &till).await;
    assert_eq!(rows(&pool, "products").await, before);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn the_period_heals_all_shops_and_unknown_ones_are_404() {
    let node = TestNode::start_with(&[("VELOX_HEAL_INTERVAL_MS", "100")]).await;
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    let other = node.client.till().await;
    for till in [&till, &other] {
        node.client.push(till, &[sale()]).await;
    }
    node.client.projected().await;
    remove_all_rows(&pool).await;
    wait("both sales", async || number(&pool, "SELECT count(*) FROM sales").await == 2).await;
    for till in [till, other] {
        wait("nothing to heal", async || counts(&heal(&node, &till).await) == (0, 0)).await;
        assert_eq!(node.node.state.store.verify(Some(till.store_id)).await.expect("a verdict"), []);
    }
    let body = json!({ "store_id": Uuid::from_u128(7) });
    let answer = node.client.call("POST", "/sync/heal", ADMIN, Some(&body)).await;
    assert_eq!(answer.status, 404, "{}", answer.text);
    let answer = node.client.call("POST", "/sync/heal", ADMIN, Some(&json!({ "store_id": "x" }))).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn velox_heal_works_beside_a_running_node() {
    let (home, node) = (Home::new(), TestNode::start().await);
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    let unclear = event("DebtCreated", json!({ "debt_id": id(), "amount_usd": "many" }));
    node.client.push(&till, &[sale()]).await;
    node.client.projected().await;
    remove_all_rows(&pool).await;
    let (at, store) = ([("VELOX_DATABASE_URL", node.database.url())], till.store_id.to_string());
    let healed = home.run(&["heal", "--store", &store, "--json"], &at).await;
    assert_eq!((healed.code, counts(&healed.json())), (Some(0), (1, 0)), "{healed:?}");
    assert_eq!(number(&pool, "SELECT count(*) FROM sales").await, 1);
    node.client.push(&till, std::slice::from_ref(&unclear)).await;
    node.client.projected().await;
    let failed = home.run(&["heal", "--store", &store], &at).await;
    assert_eq!(failed.code, Some(1), "something is left to look at: {failed:?}");
    assert!(failed.out.contains(unclear["event_id"].as_str().expect("an id")), "{failed:?}");
    pool.close().await;
    node.stop().await;
}

/// More events of no known type than a look goes through.
async fn fill(pool: &PgPool, till: &Till, received_at: &str) {
    execute(
        pool,
        format!(
            "INSERT INTO events (store_id, event_id, device_id, type, payload, payload_hash, created_at, received_at)
             SELECT '{}', 'filler ' || n, 'till', 'Filler', '{{}}', '\\x00', now(), {received_at}
             FROM generate_series(1, 60000) n",
            till.store_id
        ),
    )
    .await;
}

#[actix_web::test]
async fn a_week_that_is_longer_than_a_portion_is_looked_at_whole_by_hand() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let pool = node.database.pool().await;
    node.client.push(&till, &[sale()]).await;
    node.client.projected().await;
    fill(&pool, &till, "now() + (n - 30000) * interval '1 ms'").await;
    remove_all_rows(&pool).await;
    let report = heal(&node, &till).await;
    assert_eq!(counts(&report), (1, 0), "{report}");
    assert!(report["checked"].as_u64().expect("a count") > 60_000, "{report}");
    assert_eq!(node.client.list(&till, "sales").await.len(), 1);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn on_the_period_a_long_week_is_swept_and_what_came_lately_is_seen_each_time() {
    let node = TestNode::start_with(&[("VELOX_HEAL_INTERVAL_MS", "200")]).await;
    let till = node.client.till().await;
    let pool = node.database.pool().await;
    fill(&pool, &till, "now() - interval '1 day' + n * interval '1 ms'").await;
    for _ in 0..3 {
        node.client.push(&till, &[sale()]).await;
        node.client.projected().await;
        remove_all_rows(&pool).await;
        wait("the sale", async || number(&pool, "SELECT count(*) FROM sales").await > 0).await;
    }
    pool.close().await;
    node.stop().await;
}
