//! Two nodes of two pods each that are cut off, stopped and robbed of their lease keeper: processes behind links.

use crate::stub_peer::ids;
use crate::support::{event, id, sale};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use velox_chaos::cluster::{Caller, Cluster, NodeSpec, Redis, wait_until};
use velox_chaos::faulty_network::{Fault, Rule};
use velox_store::testing::TestDatabase;

/// Life of a lease in these tests.
const LEASE_MS: u64 = 1_500;

/// Nodes `a` and `b` over databases of their own.
struct Sides {
    cluster: Cluster,
    a: TestDatabase,
    b: TestDatabase,
    store_id: String,
    till: String,
}

impl Sides {
    async fn start(redis: Option<&Redis>) -> Self {
        let a = TestDatabase::create(&velox_store::MIGRATOR).await;
        let b = TestDatabase::create(&velox_store::MIGRATOR).await;
        let spec = |name: &str, database: &TestDatabase| {
            let spec = NodeSpec::new(name)
                .database(database.url())
                .pods(2)
                .set("VELOX_DB_MAX_CONNECTIONS", "10")
                .set("VELOX_OUTBOX_POLL_MS", "200")
                .set("VELOX_BREAKER_OPEN_MS", "500")
                .set("VELOX_LEASE_TTL_MS", &LEASE_MS.to_string());
            match redis {
                Some(redis) => spec.set("VELOX_REDIS_URL", &redis.url()),
                None => spec,
            }
        };
        let velox = Path::new(env!("CARGO_BIN_EXE_velox"));
        let cluster = Cluster::start(velox, &[spec("a", &a), spec("b", &b)]).await.expect("a cluster");
        let (store_id, till) = (id(), id());
        let store = json!({ "store_id": store_id, "name": "Bodega" });
        cluster.pod("a").admin().post("/admin/stores", &store).await.expect("a shop");
        let sides = Sides { cluster, a, b, store_id, till };
        // The shop's declaration is at the other side.
        sides.agree(0).await;
        sides
    }

    async fn push(&self, pod: &Caller, events: &[Value]) {
        let body = json!({ "store_id": self.store_id, "device_id": self.till, "events": events });
        let answer = pod.post("/sync/push", &body).await.expect("an answer");
        assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(events.len()), "{answer}");
    }

    fn pods(&self, node: &str) -> [Caller; 2] {
        let [first, second] = self.cluster.pods(node) else { panic!("two pods") };
        [first.admin(), second.admin()]
    }

    /// Waits until nothing is queued anywhere and both logs have so many events of tills.
    async fn agree(&self, events: i64) {
        let count = "SELECT count(*) FROM events WHERE type <> 'StoreDeclared'";
        let queued = "SELECT count(*) FROM outbox_entries";
        wait_until("both sides to agree", async || {
            let mut seen = Vec::new();
            for database in [&self.a, &self.b] {
                let pool = database.pool().await;
                let there: i64 = sqlx::query_scalar(count).fetch_one(&pool).await.expect("a count");
                let waits: i64 = sqlx::query_scalar(queued).fetch_one(&pool).await.expect("a count");
                pool.close().await;
                seen.push((there, waits));
            }
            if seen == [(events, 0), (events, 0)] {
                Ok(())
            } else {
                Err(format!("{seen:?} events and entries"))
            }
        })
        .await
        .expect("agreement");
    }

    async fn same_tables(&self) {
        let store_id = self.store_id.parse().expect("a UUID");
        for list in ["sales", "debts", "cash-sessions", "products", "customers", "stock"] {
            let (here, there) =
                (self.pods("a")[0].list(store_id, list).await, self.pods("b")[1].list(store_id, list).await);
            assert_eq!(here.expect("a list"), there.expect("a list"), "{list}");
        }
    }

    /// Takes events out of a's log as no program can.
    async fn lose_at_a(&self, events: &[String]) {
        let list = events.iter().map(|event_id| format!("'{event_id}'")).collect::<Vec<_>>().join(",");
        let text = format!(
            "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM events WHERE event_id IN ({list}); COMMIT"
        );
        let pool = self.a.pool().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&pool).await.expect("a deletion");
        pool.close().await;
    }

    async fn reconcile(&self, pod: &Caller) -> Value {
        let body = json!({ "store_id": self.store_id });
        pod.post("/sync/federation/auto-reconcile", &body).await.expect("an answer")
    }

    /// Waits until a pod has reconciled, and answers what it has found.
    async fn reconciled(&self, pod: &Caller) -> Value {
        wait_until("a lease", async || {
            let report = self.reconcile(pod).await;
            if report[0]["skipped"] == json!(true) { Err(report.to_string()) } else { Ok(report) }
        })
        .await
        .expect("a run")
    }

    async fn stop(self) {
        self.cluster.stop().await.expect("an orderly end");
        self.a.close().await;
        self.b.close().await;
    }
}

#[actix_web::test]
async fn both_sides_sell_on_while_they_are_cut_off_and_agree_after_the_heal() {
    let sides = Sides::start(None).await;
    sides.push(&sides.pods("a")[0], &[sale()]).await;
    sides.agree(1).await;
    sides.cluster.cut("a", "b");
    let (product, customer, debt) = (id(), id(), id());
    let [a1, a2] = sides.pods("a");
    let [b1, b2] = sides.pods("b");
    let named = |name: &str| event("ProductUpdated", json!({ "product_id": product, "name": name }));
    for (pod, name) in [(&a1, "Arepa"), (&a2, "Cachapa"), (&b1, "Empanada"), (&b2, "Hallaca")] {
        let mut events: Vec<Value> = (0..5).map(|_| sale()).collect();
        events.push(named(name));
        sides.push(pod, &events).await;
    }
    sides
        .push(
            &a1,
            &[event("DebtCreated", json!({ "debt_id": debt, "customer_id": customer, "total_amount": 9 }))],
        )
        .await;
    // Its debt is at the other side.
    sides
        .push(
            &b2,
            &[event("DebtPaymentRecorded", json!({ "payment_id": id(), "debt_id": debt, "amount": 4 }))],
        )
        .await;
    for pod in [&a1, &b1] {
        wait_until("an open breaker", async || {
            let status = pod.get("/sync/federation/status").await.map_err(|error| error.to_string())?;
            if status["circuitBreakerState"] == "CLOSED" { Err(status.to_string()) } else { Ok(()) }
        })
        .await
        .expect("a breaker that opens");
    }
    sides.cluster.heal("a", "b");
    sides.agree(27).await;
    sides.same_tables().await;
    sides.stop().await;
}

/// A holder that slept past its lease: another pod finishes, and what it wakes up with is refused and counted.
async fn a_sleeping_holder_is_fenced_off(redis: Option<Redis>) {
    let sides = Sides::start(redis.as_ref()).await;
    let events: Vec<Value> = (0..3).map(|_| sale()).collect();
    sides.push(&sides.pods("b")[0], &events).await;
    sides.agree(3).await;
    sides.lose_at_a(&ids(&events)).await;
    let link = sides.cluster.link("a", "b");
    // The first one to ask for the lost events is answered late.
    let slow = Fault::Slow(Duration::from_millis(500));
    let slow = link.inject(Rule::new(slow).path("/sync/federation/events").times(1));
    let [sleeper, other] = sides.pods("a");
    let asleep = sides.reconcile(&sleeper);
    let meanwhile = async {
        wait_until("the request for the lost events", async || {
            if link.hits(slow) == 1 { Ok(()) } else { Err("it has not come".to_owned()) }
        })
        .await
        .expect("a request");
        sides.cluster.pods("a")[0].pause().expect("a process");
        let report = sides.reconciled(&other).await;
        assert_eq!(report[0]["sales"]["replayedToLocal"], 3, "{report}");
        sides.cluster.pods("a")[0].resume().expect("a process");
    };
    let (report, ()) = futures_util::future::join(asleep, meanwhile).await;
    assert_eq!(
        (&report[0]["skipped"], &report[0]["reason"]),
        (&json!(true), &json!("lease_lost")),
        "{report}"
    );
    assert_eq!(sleeper.metric("velox_fenced_writes_total").await.expect("a metric"), 1.0);
    assert_eq!(other.metric("velox_fenced_writes_total").await.expect("a metric"), 0.0);
    sides.agree(3).await;
    sides.same_tables().await;
    sides.stop().await;
}

#[actix_web::test]
async fn a_sleeping_holder_is_fenced_off_where_postgresql_keeps_the_lease() {
    a_sleeping_holder_is_fenced_off(None).await;
}

#[actix_web::test]
async fn a_sleeping_holder_is_fenced_off_where_redis_keeps_the_lease() {
    a_sleeping_holder_is_fenced_off(Some(Redis::start().await.expect("a Redis"))).await;
}

#[actix_web::test]
async fn redis_flushed_or_killed_in_mid_run_has_exactly_one_effect() {
    let mut redis = Redis::start().await.expect("a Redis");
    let sides = Sides::start(Some(&redis)).await;
    let events: Vec<Value> = (0..4).map(|_| sale()).collect();
    sides.push(&sides.pods("b")[0], &events).await;
    sides.agree(4).await;
    let link = sides.cluster.link("a", "b");
    let [first, second] = sides.pods("a");
    for is_killed in [false, true] {
        sides.lose_at_a(&ids(&events)).await;
        let slow = Fault::Slow(Duration::from_millis(1_000));
        let slow = link.inject(Rule::new(slow).path("/sync/federation/events").times(1));
        let run = sides.reconcile(&first);
        let rob = async {
            wait_until("the request for the lost events", async || {
                if link.hits(slow) == 1 { Ok(()) } else { Err("it has not come".to_owned()) }
            })
            .await
            .expect("a request");
            if is_killed {
                redis.kill().await.expect("a process")
            } else {
                redis.flush().await.expect("a flush")
            }
            sides.reconciled(&second).await
        };
        let (one, other) = futures_util::future::join(run, rob).await;
        let stored = |report: &Value| report[0]["sales"]["replayedToLocal"].as_u64().expect("a count");
        assert!(stored(&one) + stored(&other) >= 4, "{one} {other}");
        sides.agree(4).await;
        sides.same_tables().await;
    }
    sides.stop().await;
}
