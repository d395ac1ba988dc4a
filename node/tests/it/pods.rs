//! Several pods of one node over one database: nothing twice, nothing waits for a pod that is away.

use crate::database::{EVENTS, execute, number, open_transactions, projections, terminate};
use crate::process::{Home, signal};
use crate::story;
use crate::support::{Client, TestNode, Till, id, sale, wait};
use futures_util::future::{join, join_all};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;
use velox_store::testing::TestDatabase;

/// A poll that never comes within a test.
const NEVER_POLL: (&str, &str) = ("VELOX_OUTBOX_POLL_MS", "3600000");

async fn pods(more: &[(&str, &str)]) -> (TestNode, TestNode) {
    let one = TestNode::start_with(more).await;
    let other = TestNode::pod(one.database.clone(), more).await;
    (one, other)
}

async fn stop(one: TestNode, other: TestNode) {
    one.stop().await;
    other.stop().await;
}

async fn projected_by(client: &Client) -> u64 {
    client.figure("velox_projected_events_total").await
}

/// A pod that stores and never projects.
async fn stop_projecting(client: &Client) {
    client.fault(json!({ "actor": "outbox_pump", "fault": "drop" })).await;
}

/// Writes down each entry that leaves the queue, and each row of a sale that is written.
async fn audit(database: &TestDatabase) {
    let pool = database.pool().await;
    let sql = "CREATE TABLE audit (what text, id text);
               CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                   IF TG_OP = 'DELETE' THEN INSERT INTO audit VALUES ('taken', OLD.event_id);
                   ELSE INSERT INTO audit VALUES ('sold', NEW.event_id); END IF;
                   RETURN NULL; END $$;
               CREATE TRIGGER note AFTER DELETE ON outbox_entries FOR EACH ROW EXECUTE FUNCTION note();
               CREATE TRIGGER note AFTER INSERT OR UPDATE ON sales FOR EACH ROW EXECUTE FUNCTION note();";
    execute(&pool, sql.to_owned()).await;
    pool.close().await;
}

#[actix_web::test]
async fn two_pods_share_the_queue_and_never_take_one_entry_both() {
    let (one, other) = pods(&[("VELOX_OUTBOX_POLL_MS", "50")]).await;
    let till = one.client.till().await;
    audit(&one.database).await;
    stop_projecting(&one.client).await;
    stop_projecting(&other.client).await;
    for _ in 0..6 {
        let sales: Vec<Value> = (0..250).map(|_| sale()).collect();
        one.client.push(&till, &sales).await;
    }
    // Each sleeps over what it has claimed.
    for pod in [&one, &other] {
        let fault = json!({ "actor": "projector.sale", "fault": "delay", "delay_ms": 3, "probability": 0.5 });
        pod.client.fault(fault).await;
    }
    for pod in [&one, &other] {
        pod.client.fault(json!({ "actor": "outbox_pump", "fault": "delay", "delay_ms": 1 })).await;
    }
    one.client.projected().await;

    let (by_one, by_other) = (projected_by(&one.client).await, projected_by(&other.client).await);
    assert_eq!(by_one + by_other, 1_500, "{by_one} and {by_other}");
    assert!(by_one > 0 && by_other > 0, "one pod did all: {by_one} and {by_other}");
    let pool = one.database.pool().await;
    for what in [
        "SELECT count(*) FROM audit WHERE what = 'taken'",
        "SELECT count(DISTINCT id) FROM audit WHERE what = 'taken'",
        "SELECT count(*) FROM audit WHERE what = 'sold'",
        "SELECT count(*) FROM sales",
    ] {
        assert_eq!(number(&pool, what).await, 1_500, "{what}");
    }
    assert_eq!(one.node.state.store.verify(None).await.expect("a verdict"), []);
    pool.close().await;
    stop(one, other).await;
}

#[actix_web::test]
async fn what_one_pod_stores_wakes_the_other_at_once() {
    let (one, other) = pods(&[NEVER_POLL]).await;
    let till = one.client.till().await;
    stop_projecting(&one.client).await;
    for count in 1..=3 {
        one.client.push(&till, &[sale()]).await;
        other.client.listed(&till, "sales", count).await;
    }
    assert_eq!((projected_by(&one.client).await, projected_by(&other.client).await), (0, 3));
    stop(one, other).await;
}

#[actix_web::test]
async fn a_pod_whose_listening_session_dies_hears_again() {
    let (one, other) = pods(&[NEVER_POLL]).await;
    let pool = one.database.pool().await;
    let till = one.client.till().await;
    stop_projecting(&one.client).await;
    let listening = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    assert_eq!(number(&pool, listening).await, 2);
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    assert_eq!(number(&pool, ended).await, 2);
    one.client.push(&till, &[sale()]).await;
    other.client.listed(&till, "sales", 1).await;
    wait("both pods to listen again", async || number(&pool, listening).await == 2).await;
    one.client.push(&till, &[sale()]).await;
    other.client.listed(&till, "sales", 2).await;
    pool.close().await;
    stop(one, other).await;
}

#[actix_web::test]
async fn an_entry_that_nobody_was_told_of_is_found_by_the_poll() {
    let node = TestNode::start_with(&[("VELOX_OUTBOX_POLL_MS", "200")]).await;
    let till = node.client.till().await;
    node.client.push(&till, &[sale()]).await;
    node.client.listed(&till, "sales", 1).await;
    let pool = node.database.pool().await;
    let by_hand = "INSERT INTO events (store_id, event_id, device_id, type, payload, payload_hash, created_at,
                received_at)
            SELECT store_id, 'by hand', device_id, type, (payload::jsonb || jsonb_build_object(
                'sale_id', gen_random_uuid(), 'request_id', gen_random_uuid()))::json, payload_hash, created_at, now()
            FROM events WHERE type = 'SaleCreated';
        INSERT INTO outbox_entries (store_id, event_id, event_type, target, entity, priority, created_at)
            SELECT store_id, event_id, type, 'projection', 'sale', 5, now() FROM events WHERE event_id = 'by hand'";
    execute(&pool, by_hand.to_owned()).await;
    node.client.listed(&till, "sales", 2).await;
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn two_pods_may_migrate_an_empty_database_at_once() {
    let nothing = Migrator::with_migrations(Vec::new());
    let database = Arc::new(TestDatabase::create(&nothing).await);
    let pool = database.pool().await;
    assert_eq!(number(&pool, "SELECT count(*) FROM pg_tables WHERE tablename = 'events'").await, 0);
    let (one, other) = join(TestNode::pod(database.clone(), &[]), TestNode::pod(database, &[])).await;
    let migrations = i64::try_from(velox_store::MIGRATOR.iter().count()).expect("a count");
    assert_eq!(number(&pool, "SELECT count(*) FROM _sqlx_migrations WHERE success").await, migrations);
    assert_eq!(one.node.state.own.get().node_id, other.node.state.own.get().node_id, "one node, two pods");
    let till = one.client.till().await;
    other.client.push(&till, &[sale()]).await;
    one.client.listed(&till, "sales", 1).await;
    pool.close().await;
    stop(one, other).await;
}

#[actix_web::test]
async fn the_same_events_pushed_to_both_pods_at_once_have_one_effect() {
    let (one, other) = pods(&[]).await;
    let till = one.client.till().await;
    let pushes: Vec<Vec<Value>> = (0..30).map(|_| (0..20).map(|_| sale()).collect()).collect();
    let mut backwards = pushes.clone();
    backwards.iter_mut().for_each(|push| push.reverse());
    let (by_one, by_other) = join(
        join_all(pushes.iter().map(|push| one.client.push(&till, push))),
        join_all(backwards.iter().map(|push| other.client.push(&till, push))),
    )
    .await;
    let ids = |answer: &Value, list: &str| -> BTreeSet<String> {
        let listed = answer[list].as_array().into_iter().flatten();
        listed.filter_map(|id| id.as_str().or(id["event_id"].as_str())).map(str::to_owned).collect()
    };
    for (at_one, at_other) in by_one.iter().zip(&by_other) {
        assert_eq!(ids(at_one, "accepted"), ids(at_other, "accepted"));
        let (twice_one, twice_other) = (ids(at_one, "duplicates"), ids(at_other, "duplicates"));
        assert!(twice_one.is_disjoint(&twice_other), "an event was new to nobody");
        assert_eq!(twice_one.len() + twice_other.len(), 20, "an event was new to both");
    }
    one.client.projected().await;
    let pool = one.database.pool().await;
    for table in [EVENTS, "SELECT count(*) FROM sales", "SELECT count(*) FROM stock_movements"] {
        assert_eq!(number(&pool, table).await, 600, "{table}");
    }
    assert_eq!(number(&pool, "SELECT count(*) FROM event_variants").await, 0);
    assert_eq!(one.node.state.store.verify(None).await.expect("a verdict"), []);
    pool.close().await;
    stop(one, other).await;
}

/// Cuts events, in any order, into small pushes, some of which come twice.
fn torn(mut events: Vec<Value>, random: &mut StdRng) -> Vec<Vec<Value>> {
    events.shuffle(random);
    let mut pushes = Vec::new();
    while !events.is_empty() {
        let rest = events.len().saturating_sub(random.random_range(1..6));
        pushes.push(events.split_off(rest));
    }
    let again: Vec<_> = pushes.iter().step_by(4).cloned().collect();
    pushes.extend(again);
    pushes
}

/// Pushes at both pods at once, each its share in order.
async fn push_to_both(one: &Client, other: &Client, till: &Till, pushes: &[Vec<Value>]) {
    let lane = async |client: &Client, from: usize| {
        for push in pushes.iter().skip(from).step_by(2) {
            client.push(till, push).await;
        }
    };
    join(lane(one, 0), lane(other, 1)).await;
}

#[actix_web::test]
async fn linked_events_projected_by_two_pods_at_once_make_the_rows_that_one_makes() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let alone = TestNode::start().await;
    let (one, other) = pods(&[("VELOX_OUTBOX_POLL_MS", "100")]).await;
    let (store_id, device_id) = (Uuid::from_u128(rand::random()), id());
    let till = alone.client.till_named(store_id, &device_id).await;
    let till_of_both = one.client.till_named(store_id, &device_id).await;
    // Who projects what is the pods' affair; each has to have done its part.
    let mut rounds = 0;
    while rounds == 0 || projected_by(&one.client).await == 0 || projected_by(&other.client).await == 0 {
        rounds += 1;
        assert!(rounds <= 20, "one pod does all");
        let events = story::of_shop(12);
        alone.client.push(&till, &events).await;
        push_to_both(&one.client, &other.client, &till_of_both, &torn(events, &mut random)).await;
        one.client.projected().await;
    }
    alone.client.projected().await;

    let (expected, pool) = (alone.database.pool().await, one.database.pool().await);
    for (rows, wanted) in projections(&pool).await.iter().zip(projections(&expected).await) {
        assert_eq!(*rows, wanted, "seed {seed}");
    }
    assert_eq!(one.node.state.store.verify(None).await.expect("a verdict"), []);
    expected.close().await;
    pool.close().await;
    alone.stop().await;
    stop(one, other).await;
}

#[actix_web::test]
async fn what_a_stopped_pod_holds_is_taken_over_and_its_late_write_is_refused() {
    let node = TestNode::start_with(&[("VELOX_OUTBOX_POLL_MS", "200")]).await;
    stop_projecting(&node.client).await;
    let (home, pool) = (Home::new(), node.database.pool().await);
    let stopped = home.serve(&[("VELOX_DATABASE_URL", node.database.url())]).await;
    let till = node.client.till().await;
    let fault = json!({ "actor": "projector.sale", "fault": "delay", "delay_ms": 2000, "times": 1 });
    stopped.client.fault(fault).await;
    node.client.push(&till, &[sale(), sale()]).await;
    wait("a claim", async || open_transactions(&pool).await > 0).await;
    signal("STOP", stopped.pid());
    // As the server does by itself with a transaction that stays idle for a minute.
    assert!(terminate(&pool, "velox-projection").await > 0);
    node.client.clear_faults().await;
    node.client.listed(&till, "sales", 2).await;
    assert_eq!(projected_by(&node.client).await, 2);

    signal("CONT", stopped.pid());
    wait("the woken pod to notice", async || {
        let error = stopped.client.worker("projector.sale").await["last_error"].clone();
        error.is_string()
    })
    .await;
    assert_eq!(projected_by(&stopped.client).await, 0);
    assert_eq!(node.client.list(&till, "sales").await.len(), 2);
    assert_eq!(node.node.state.store.verify(None).await.expect("a verdict"), []);
    // It works on.
    stop_projecting(&node.client).await;
    stopped.client.push(&till, &[sale()]).await;
    node.client.listed(&till, "sales", 3).await;
    assert_eq!(projected_by(&stopped.client).await, 1);
    stopped.stop().await;
    pool.close().await;
    node.stop().await;
}
