//! A database that fails in ways other than being killed: always a 503 meanwhile, and work goes on by itself.

use crate::database::{
    EVENTS, Held, blocked_writers, execute, is_stored, name, number, on_event, open_transactions, terminate,
};
use crate::proxy::{Proxy, server_of};
use crate::support::{ADMIN, Answer, TestNode, Till, sale, wait};
use futures_util::future::join;
use serde_json::{Value, json};
use std::sync::Arc;
use velox_store::testing::TestDatabase;

fn id_of(event: &Value) -> &str {
    event["event_id"].as_str().expect("an id")
}

/// What a till must be told so that it keeps its events and comes again.
fn is_come_again(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.headers.contains_key("retry-after"), "{}", answer.text);
    let message = answer.json()["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("timeout"), "{message}");
}

/// Pushes until it is taken, as a till does; whatever comes before is a 503.
async fn push_until_taken(node: &TestNode, till: &Till, events: &[Value]) -> Value {
    let taken = std::cell::RefCell::new(Value::Null);
    wait("a push to be taken", async || {
        let answer = node.client.try_push(till, events).await;
        if answer.status == 200 {
            taken.replace(answer.json());
            return true;
        }
        is_come_again(&answer);
        false
    })
    .await;
    taken.into_inner()
}

#[actix_web::test]
async fn an_answer_lost_after_the_commit_is_a_503_and_the_repeat_is_told_duplicate() {
    let database = Arc::new(TestDatabase::create(&velox_store::MIGRATOR).await);
    let pool = database.pool().await;
    let proxy = Proxy::start(&server_of(database.url()));
    let url = proxy.url(database.url());
    let node = TestNode::pod(database, &[("VELOX_DATABASE_URL", &url)]).await;
    let till = node.client.till().await;
    node.client.push(&till, &[sale()]).await;

    let lost = sale();
    proxy.mute_after(id_of(&lost));
    let committed = async {
        wait("the commit", async || is_stored(&pool, id_of(&lost)).await).await;
        proxy.cut();
    };
    let pushed = node.client.try_push(&till, std::slice::from_ref(&lost));
    let (answer, ()) = join(pushed, committed).await;
    is_come_again(&answer);
    let again = push_until_taken(&node, &till, std::slice::from_ref(&lost)).await;
    assert_eq!(again["duplicates"], json!([lost["event_id"]]));
    node.client.listed(&till, "sales", 2).await;
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn an_ingest_session_ended_in_mid_statement_stores_nothing_and_costs_one_503() {
    let node = TestNode::start().await;
    let pool = node.database.pool().await;
    let till = node.client.till().await;
    let cut = sale();
    let held = Held::hold(&pool).await;
    let ended = async {
        blocked_writers(&pool, 1).await;
        assert!(terminate(&pool, "velox-ingest").await > 0);
        held.release().await;
    };
    let (answer, ()) = join(node.client.try_push(&till, std::slice::from_ref(&cut)), ended).await;
    is_come_again(&answer);
    assert!(!is_stored(&pool, id_of(&cut)).await);
    let again = node.client.push(&till, std::slice::from_ref(&cut)).await;
    assert_eq!(again["duplicates"], json!([]));
    assert_eq!(open_transactions(&pool).await, 0);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_projection_whose_session_is_ended_is_done_again_and_once() {
    let node = TestNode::start().await;
    let pool = node.database.pool().await;
    let till = node.client.till().await;
    let fault = json!({ "actor": "projector.sale", "fault": "delay", "delay_ms": 1000, "times": 1 });
    node.client.fault(fault).await;
    node.client.push(&till, &[sale(), sale()]).await;
    wait("a claim", async || open_transactions(&pool).await > 0).await;
    assert!(terminate(&pool, "velox-projection").await > 0);
    node.client.listed(&till, "sales", 2).await;
    assert_eq!(node.client.figure("velox_projected_events_total").await, 2);
    assert_eq!(node.client.figure("velox_projection_failures_total").await, 0, "an outage spends no retry");
    assert_eq!(node.client.restarts().await, 0);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_read_only_database_is_a_503_still_reads_and_recovers_by_itself() {
    let node = TestNode::start().await;
    let pool = node.database.pool().await;
    let till = node.client.till().await;
    node.client.push(&till, &[sale()]).await;
    node.client.listed(&till, "sales", 1).await;
    let database = name(&node.database);
    let read_only = async |on: &str| {
        // Our own sessions are read-only by then, too.
        let alter = format!(r#"ALTER DATABASE "{database}" SET default_transaction_read_only = {on}"#);
        execute(&pool, format!("BEGIN READ WRITE; {alter}; COMMIT")).await;
    };
    read_only("on").await;
    terminate(&pool, "velox%").await;

    let refused = sale();
    wait("a refusal for being read-only, not for a lost session", async || {
        is_come_again(&node.client.try_push(&till, std::slice::from_ref(&refused)).await);
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND application_name = 'velox-ingest'";
        number(&pool, sql).await > 0
    })
    .await;
    is_come_again(&node.client.try_push(&till, std::slice::from_ref(&refused)).await);
    wait("readiness to tell", async || !node.client.is_ready().await).await;
    let store = node.client.call("POST", "/admin/stores", ADMIN, Some(&json!({ "name": "Bodega" }))).await;
    assert_eq!(store.status, 503, "{}", store.text);
    assert_eq!(node.client.list(&till, "sales").await.len(), 1);

    read_only("off").await;
    push_until_taken(&node, &till, std::slice::from_ref(&refused)).await;
    node.client.listed(&till, "sales", 2).await;
    wait("readiness", async || node.client.is_ready().await).await;
    let device = json!({ "store_id": till.store_id, "device_id": "another till" });
    wait("a device to be registered", async || {
        node.client.call("POST", "/admin/devices", ADMIN, Some(&device)).await.status == 201
    })
    .await;
    assert_eq!(node.client.restarts().await, 0);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn no_more_connections_is_a_503_and_recovers_by_itself() {
    let database = Arc::new(TestDatabase::create(&velox_store::MIGRATOR).await);
    let pool = database.pool().await;
    // No superuser, whom no limit binds, but an heir of the tables' owner.
    let role = format!("velox_small_{:016x}", rand::random::<u64>());
    execute(&pool, format!("CREATE ROLE {role} LOGIN PASSWORD 'small' IN ROLE postgres, velox_runtime"))
        .await;
    let (_, server) = database.url().rsplit_once('@').expect("a user");
    let url = format!("postgres://{role}:small@{server}");
    let node = TestNode::pod(database, &[("VELOX_DATABASE_URL", &url)]).await;
    let till = node.client.till().await;
    node.client.push(&till, &[sale()]).await;

    execute(&pool, format!("ALTER ROLE {role} CONNECTION LIMIT 0")).await;
    terminate(&pool, "velox%").await;
    let refused = sale();
    let reads = format!("/stores/{}/sales", till.store_id);
    let (pushed, read) = join(
        node.client.try_push(&till, std::slice::from_ref(&refused)),
        node.client.call("GET", &reads, &till.token, None),
    )
    .await;
    is_come_again(&pushed);
    is_come_again(&read);
    assert!(!node.client.is_ready().await);

    execute(&pool, format!("ALTER ROLE {role} CONNECTION LIMIT -1")).await;
    push_until_taken(&node, &till, std::slice::from_ref(&refused)).await;
    node.client.listed(&till, "sales", 2).await;
    wait("readiness", async || node.client.is_ready().await).await;
    assert_eq!(node.client.restarts().await, 0);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn whatever_the_database_raises_is_a_503_that_leaves_nothing_behind() {
    let node = TestNode::start().await;
    let pool = node.database.pool().await;
    let till = node.client.till().await;
    // Disk full, out of memory, cancelled, shutting down, I/O, read-only, a bug, data, a constraint, no right.
    let codes = ["53100", "53200", "57014", "57P01", "58030", "25006", "XX000", "22003", "23514", "42501"];
    for code in codes {
        on_event(&pool, &format!("RAISE EXCEPTION 'as the test wants' USING ERRCODE = '{code}';")).await;
        let answer = node.client.try_push(&till, &[sale(), sale()]).await;
        assert_eq!(answer.status, 503, "{code}: {}", answer.text);
        is_come_again(&answer);
    }
    assert_eq!(number(&pool, EVENTS).await, 0);
    assert_eq!(number(&pool, "SELECT count(*) FROM outbox_entries").await, 0);
    on_event(&pool, "").await;
    node.client.push(&till, &[sale()]).await;
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn transactions_that_meet_others_are_tried_again_and_nobody_sees_it() {
    let node = TestNode::start().await;
    let pool = node.database.pool().await;
    let till = node.client.till().await;
    // Not rolled back with the transaction.
    execute(&pool, "CREATE SEQUENCE tries".to_owned()).await;
    for code in ["40001", "40P01", "55P03"] {
        execute(&pool, "ALTER SEQUENCE tries RESTART".to_owned()).await;
        let body = format!(
            "IF nextval('tries') <= 2 THEN RAISE EXCEPTION 'met another' USING ERRCODE = '{code}'; END IF;"
        );
        on_event(&pool, &body).await;
        node.client.push(&till, &[sale()]).await;
        assert_eq!(number(&pool, "SELECT last_value FROM tries").await, 3, "{code}");
    }
    // Without end it is bounded.
    on_event(&pool, "RAISE EXCEPTION 'met another' USING ERRCODE = '40001';").await;
    is_come_again(&node.client.try_push(&till, &[sale()]).await);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_projection_that_meets_others_is_tried_again_and_spends_no_retry() {
    let node = TestNode::start().await;
    let pool = node.database.pool().await;
    let till = node.client.till().await;
    execute(
        &pool,
        "CREATE SEQUENCE tries;
         CREATE FUNCTION meet_other() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             IF nextval('tries') <= 2 THEN RAISE EXCEPTION 'met another' USING ERRCODE = '40P01'; END IF;
             RETURN NEW; END $$;
         CREATE TRIGGER meet_other BEFORE INSERT ON sales FOR EACH ROW EXECUTE FUNCTION meet_other();"
            .to_owned(),
    )
    .await;
    node.client.push(&till, &[sale()]).await;
    node.client.listed(&till, "sales", 1).await;
    assert_eq!(number(&pool, "SELECT last_value FROM tries").await, 3);
    assert_eq!(node.client.figure("velox_projection_failures_total").await, 0);
    pool.close().await;
    node.stop().await;
}
