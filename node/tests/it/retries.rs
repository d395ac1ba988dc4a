//! R1.3: an entry whose projection fails is tried again, each time later, and dead in the end; the others go on.

use crate::database::{execute, number};
use crate::support::{Client, TestNode, Till, event, id, sale, wait};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tokio::time::Instant;

/// The first wait; each further one is twice as long.
const BASE_MS: i32 = 4;

/// What an entry looked like after an attempt that failed.
#[derive(Debug, sqlx::FromRow)]
struct Attempt {
    retry_count: i32,
    status: String,
    error: String,
    wait_ms: f64,
}

fn debt() -> Value {
    event("DebtCreated", json!({ "debt_id": id(), "customer_id": id(), "amount_usd": 5 }))
}

/// Writes every failed attempt down.
async fn record_attempts(pool: &PgPool) {
    let sql = "CREATE TABLE attempts (n bigint GENERATED ALWAYS AS IDENTITY, event_id text, retry_count int4,
                   status text, error text, wait_ms float8);
               CREATE FUNCTION note_attempt() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                   INSERT INTO attempts (event_id, retry_count, status, error, wait_ms)
                   VALUES (NEW.event_id, NEW.retry_count, NEW.status, NEW.error,
                       extract(epoch FROM NEW.next_attempt_at - now()) * 1000);
                   RETURN NULL; END $$;
               CREATE TRIGGER note_attempt AFTER UPDATE OF retry_count ON outbox_entries
               FOR EACH ROW EXECUTE FUNCTION note_attempt();";
    execute(pool, sql.to_owned()).await;
}

async fn attempts(pool: &PgPool, event: &Value) -> Vec<Attempt> {
    let sql = "SELECT retry_count, status, error, wait_ms FROM attempts WHERE event_id = $1 ORDER BY n";
    sqlx::query_as(sql).bind(event["event_id"].as_str()).fetch_all(pool).await.expect("attempts")
}

async fn status_of(pool: &PgPool, event: &Value) -> (String, Option<String>) {
    let sql = "SELECT projection_status, projection_error FROM event_status WHERE event_id = $1";
    sqlx::query_as(sql).bind(event["event_id"].as_str()).fetch_one(pool).await.expect("a status")
}

async fn fails(client: &Client, times: Option<u32>) {
    let fault = json!({ "actor": "projector.debt", "fault": "error", "times": times });
    client.fault(fault).await;
}

struct Setup {
    node: TestNode,
    pool: PgPool,
    till: Till,
}

async fn setup(more: &[(&str, &str)]) -> Setup {
    let base = BASE_MS.to_string();
    let mut variables = vec![("VELOX_OUTBOX_RETRY_BASE_MS", base.as_str())];
    variables.extend_from_slice(more);
    let node = TestNode::start_with(&variables).await;
    let (pool, till) = (node.database.pool().await, node.client.till().await);
    record_attempts(&pool).await;
    Setup { node, pool, till }
}

impl Setup {
    async fn stop(self) {
        self.pool.close().await;
        self.node.stop().await;
    }
}

#[actix_web::test]
async fn ten_failures_make_an_entry_dead_and_its_event_failed_with_the_error() {
    let setup = setup(&[]).await;
    let (client, pool) = (&setup.node.client, &setup.pool);
    let poison = debt();
    fails(client, None).await;
    client.push(&setup.till, std::slice::from_ref(&poison)).await;
    wait("a dead entry", async || {
        client.figure(r#"velox_outbox_entries{target="projection",status="dead"}"#).await == 1
    })
    .await;

    let attempts = attempts(pool, &poison).await;
    let counts: Vec<i32> = attempts.iter().map(|attempt| attempt.retry_count).collect();
    assert_eq!(counts, (1..=10).collect::<Vec<_>>());
    for (attempt, doubled) in attempts.iter().zip(0..) {
        assert_eq!(attempt.error, "injected error in projector.debt");
        assert_eq!(attempt.status, if attempt.retry_count == 10 { "dead" } else { "pending" });
        let wait = f64::from(BASE_MS) * 2_f64.powi(doubled);
        assert!((attempt.wait_ms - wait).abs() <= 1.0, "{attempt:?} should wait {wait} ms");
    }
    let expected = ("failed".to_owned(), Some("injected error in projector.debt".to_owned()));
    assert_eq!(status_of(pool, &poison).await, expected);
    assert!(client.list(&setup.till, "debts").await.is_empty());
    assert_eq!(client.figure("velox_projection_failures_total").await, 10);

    // A dead one is left alone, and holds nothing back.
    client.clear_faults().await;
    client.push(&setup.till, &[debt()]).await;
    client.listed(&setup.till, "debts", 1).await;
    assert_eq!(status_of(pool, &poison).await, expected);
    assert_eq!(client.restarts().await, 0);
    setup.stop().await;
}

#[actix_web::test]
async fn nine_failures_and_then_it_is_processed() {
    let setup = setup(&[]).await;
    let (client, pool) = (&setup.node.client, &setup.pool);
    let late = debt();
    fails(client, Some(9)).await;
    client.push(&setup.till, std::slice::from_ref(&late)).await;
    client.listed(&setup.till, "debts", 1).await;
    assert_eq!(attempts(pool, &late).await.len(), 9);
    assert_eq!(status_of(pool, &late).await, ("processed".to_owned(), None));
    assert_eq!(number(pool, "SELECT count(*) FROM outbox_entries").await, 0);
    assert_eq!(number(pool, "SELECT count(*) FROM event_exceptions").await, 0);
    setup.stop().await;
}

#[actix_web::test]
async fn the_number_of_retries_is_configurable() {
    let setup = setup(&[("VELOX_OUTBOX_MAX_RETRIES", "2")]).await;
    let poison = debt();
    fails(&setup.node.client, None).await;
    setup.node.client.push(&setup.till, std::slice::from_ref(&poison)).await;
    wait("a failed event", async || status_of(&setup.pool, &poison).await.0 == "failed").await;
    assert_eq!(attempts(&setup.pool, &poison).await.len(), 2);
    setup.stop().await;
}

#[actix_web::test]
async fn an_entry_that_fails_holds_back_none_of_its_batch() {
    // One failure, then a wait that outlasts the test.
    let setup = setup(&[("VELOX_OUTBOX_RETRY_BASE_MS", "300000")]).await;
    let (client, pool) = (&setup.node.client, &setup.pool);
    let debts: Vec<Value> = (0..30).map(|_| debt()).collect();
    fails(client, Some(1)).await;
    client.push(&setup.till, &debts).await;
    client.listed(&setup.till, "debts", 29).await;
    assert_eq!(number(pool, "SELECT count(*) FROM outbox_entries WHERE retry_count = 1").await, 1);
    assert_eq!(number(pool, "SELECT count(*) FROM attempts").await, 1);
    setup.stop().await;
}

#[actix_web::test]
async fn an_event_that_the_database_refuses_to_project_fails_alone() {
    let setup = setup(&[("VELOX_OUTBOX_MAX_RETRIES", "3")]).await;
    let (client, pool) = (&setup.node.client, &setup.pool);
    let debts: Vec<Value> = (0..30).map(|_| debt()).collect();
    let refused = debts[17]["payload"]["debt_id"].as_str().expect("an id");
    execute(pool, format!("ALTER TABLE debts ADD CHECK (id <> '{refused}')")).await;
    client.push(&setup.till, &debts).await;
    wait("a failed event", async || status_of(pool, &debts[17]).await.0 == "failed").await;
    client.projected().await;
    assert_eq!(client.list(&setup.till, "debts").await.len(), 29);
    let error = status_of(pool, &debts[17]).await.1.expect("an error");
    assert!(error.contains("debts_id_check"), "{error}");
    assert_eq!(number(pool, "SELECT count(DISTINCT event_id) FROM attempts").await, 1);
    setup.stop().await;
}

#[actix_web::test]
async fn a_projector_that_dies_of_an_entry_counts_it_as_a_failure() {
    let setup = setup(&[]).await;
    let (client, pool) = (&setup.node.client, &setup.pool);
    let deadly = debt();
    client.fault(json!({ "actor": "projector.debt", "fault": "panic", "times": 1 })).await;
    client.push(&setup.till, std::slice::from_ref(&deadly)).await;
    client.listed(&setup.till, "debts", 1).await;
    let attempts = attempts(pool, &deadly).await;
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert!(attempts[0].error.contains("died"), "{attempts:?}");
    assert_eq!(client.worker("projector.debt").await["restarts"], 1);
    setup.stop().await;
}

#[actix_web::test]
async fn a_delay_delays_and_a_hang_is_ended_by_a_restart_of_the_node() {
    let setup = setup(&[]).await;
    let client = &setup.node.client;
    let began = Instant::now();
    client.fault(json!({ "actor": "projector.debt", "fault": "delay", "delay_ms": 600, "times": 1 })).await;
    client.push(&setup.till, &[debt(), sale()]).await;
    client.listed(&setup.till, "sales", 1).await;
    client.listed(&setup.till, "debts", 1).await;
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());

    client.fault(json!({ "actor": "projector.debt", "fault": "hang", "times": 1 })).await;
    client.push(&setup.till, &[debt(), sale()]).await;
    client.listed(&setup.till, "sales", 2).await;
    assert_eq!(client.list(&setup.till, "debts").await.len(), 1, "others do not wait for one that hangs");
    let (database, till) = (setup.node.database.clone(), setup.till.clone());
    setup.stop().await;
    let again = TestNode::pod(database, &[]).await;
    again.client.listed(&till, "debts", 2).await;
    again.stop().await;
}

#[actix_web::test]
async fn with_a_retention_done_entries_are_kept_as_processed_until_they_are_cleaned_up() {
    let setup = setup(&[("VELOX_OUTBOX_RETENTION_MS", "3600000")]).await;
    let (client, pool) = (&setup.node.client, &setup.pool);
    fails(client, Some(1)).await;
    client.push(&setup.till, &[debt(), debt(), sale()]).await;
    client.listed(&setup.till, "debts", 2).await;
    client.listed(&setup.till, "sales", 1).await;
    let kept = "SELECT count(*) FROM outbox_entries WHERE status = 'processed' AND processed_at IS NOT NULL
                AND error IS NULL";
    assert_eq!(number(pool, kept).await, 3);
    assert_eq!(number(pool, "SELECT count(*) FROM outbox_entries").await, 3);
    let processed = "SELECT count(*) FROM event_status WHERE projection_status = 'processed'
                     AND type <> 'StoreDeclared'";
    assert_eq!(number(pool, processed).await, 3);
    assert_eq!(client.list(&setup.till, "debts").await.len(), 2, "kept is not projected again");

    let store = &setup.node.node.state.store;
    assert_eq!(store.clean_outbox(Duration::from_secs(3600)).await.expect("a clean-up"), 0);
    let older = "UPDATE outbox_entries SET processed_at = now() - interval '2 hours'
                 WHERE event_type = 'SaleCreated'";
    execute(pool, older.to_owned()).await;
    assert_eq!(store.clean_outbox(Duration::from_secs(3600)).await.expect("a clean-up"), 1);
    assert_eq!(store.clean_outbox(Duration::ZERO).await.expect("a clean-up"), 2);
    setup.stop().await;
}
