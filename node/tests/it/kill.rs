//! Durability (INV-1, INV-2, INV-4): nodes and databases that are killed under load, at moments that nobody chose.

mod shutdown;

use crate::database::stored;
use crate::load::Load;
use crate::process::{Home, Served, is_alive, kill_postmaster, signal};
use crate::support::{Client, Till, sale, wait};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Tills of one shop.
pub(super) async fn tills(client: &Client, count: usize) -> Vec<Till> {
    let mut tills = vec![client.till().await];
    while tills.len() < count {
        tills.push(client.till_of(tills[0].store_id).await);
    }
    tills
}

/// Everything that was acknowledged is stored, everything that is stored has its rows, and nothing contradicts.
pub(super) async fn nothing_is_missing(home: &Home, served: &Served, acknowledged: &BTreeSet<String>) {
    served.client.projected().await;
    let mut database = home.database().await;
    let stored = stored(&mut database).await;
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let unprojected: Vec<(String, String)> = sqlx::query_as(
        "SELECT event_id, projection_status FROM event_status WHERE projection_status <> 'processed'",
    )
    .fetch_all(&mut database)
    .await
    .expect("statuses");
    assert!(unprojected.is_empty(), "{unprojected:?}");
    let (sales, events): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM sales), (SELECT count(*) FROM events WHERE type = 'SaleCreated')",
    )
    .fetch_one(&mut database)
    .await
    .expect("counts");
    assert_eq!(sales, events);
    assert_eq!(home.run(&["verify", "--json"], &[]).await.fine().json(), json!([]));
}

/// Tills sell while something is done to the node; afterwards nothing is missing.
async fn sell_while(client: &Client, load: &Load, done: impl Future<Output = ()>) {
    let tills = tills(client, 4).await;
    join(join_all(tills.iter().map(|till| load.sell(client, till))), done).await;
}

#[actix_web::test]
async fn a_node_killed_at_random_moments_loses_nothing_it_acknowledged() {
    let home = Home::new();
    let mut served = Some(home.serve(&[]).await);
    let client = served.as_ref().expect("a node").client.clone();
    let load = Load::default();
    let kills = async {
        for _ in 0..6 {
            load.more(rand::random_range(3..40)).await;
            served.take().expect("a node").kill().await;
            served = Some(home.serve(&[]).await);
        }
        load.more(5).await;
        load.end();
    };
    sell_while(&client, &load, kills).await;
    let served = served.expect("a node");
    nothing_is_missing(&home, &served, &load.acknowledged()).await;
    served.stop().await;
}

#[actix_web::test]
async fn an_answered_push_survives_the_kill_of_node_and_postgresql_right_after_it() {
    let home = Home::new();
    let mut served = home.serve(&[]).await;
    let till = served.client.till().await;
    let mut acknowledged = BTreeSet::new();
    for _ in 0..3 {
        let sales: Vec<Value> = (0..10).map(|_| sale()).collect();
        let postmaster = home.postmaster().expect("a postmaster");
        served.client.push(&till, &sales).await;
        signal("KILL", postmaster);
        signal("KILL", served.pid());
        acknowledged.extend(sales.iter().filter_map(|sale| sale["event_id"].as_str()).map(str::to_owned));
        served.ended().await;
        served = home.serve(&[]).await;
        let again = served.client.push(&till, &sales).await;
        assert_eq!(again["duplicates"].as_array().map(Vec::len), Some(sales.len()));
    }
    nothing_is_missing(&home, &served, &acknowledged).await;
    served.stop().await;
}

#[actix_web::test]
async fn a_killed_postgresql_is_a_503_and_comes_back_under_the_running_node() {
    let home = Home::new();
    let served = home.serve(&[]).await;
    let (client, pid) = (served.client.clone(), served.pid());
    let load = Load::default();
    let kills = async {
        for _ in 0..4 {
            load.more(rand::random_range(10..40)).await;
            let dead = kill_postmaster(&home).await;
            wait("another postmaster", async || home.postmaster().is_some_and(|pid| pid != dead)).await;
        }
        load.more(20).await;
        load.end();
    };
    sell_while(&client, &load, kills).await;
    assert!(load.answered(503) > 0, "nobody noticed the kills");
    assert!(is_alive(pid));
    assert_eq!(client.restarts().await, 0, "an outage is waited out, not escalated");
    wait("readiness", async || client.is_ready().await).await;
    nothing_is_missing(&home, &served, &load.acknowledged()).await;
    served.stop().await;
}

#[actix_web::test]
async fn a_keeper_that_panicked_still_starts_a_killed_postgresql_again() {
    let home = Home::new();
    let served = home.serve(&[]).await;
    let (client, before) = (&served.client, home.postmaster());
    let till = client.till().await;
    client.fault(json!({ "actor": "embedded_postgres", "fault": "panic", "times": 1 })).await;
    wait("the restart of the keeper", async || client.worker("embedded_postgres").await["restarts"] == 1)
        .await;
    wait("readiness", async || client.is_ready().await).await;
    assert_eq!(home.postmaster(), before, "its panic is no outage");
    let dead = kill_postmaster(&home).await;
    wait("another postmaster", async || home.postmaster().is_some_and(|pid| pid != dead)).await;
    wait("a push to be taken", async || client.try_push(&till, &[sale()]).await.status == 200).await;
    served.stop().await;
}

#[actix_web::test]
async fn a_node_killed_with_projections_pending_projects_them_after_its_restart() {
    let home = Home::new();
    let served = home.serve(&[]).await;
    let till = served.client.till().await;
    // The projector claims the sales and sleeps over them.
    served.client.fault(json!({ "actor": "projector.sale", "fault": "hang" })).await;
    let sales: Vec<Value> = (0..20).map(|_| sale()).collect();
    served.client.push(&till, &sales).await;
    let mut database = home.database().await;
    wait("a claim", async || {
        let mut look = home.database().await;
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'velox-projection'
                   AND state = 'idle in transaction'";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut look).await.expect("a count") > 0
    })
    .await;
    served.kill().await;
    let pending: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox_entries WHERE status = 'pending'")
        .fetch_one(&mut database)
        .await
        .expect("a count");
    assert_eq!(pending, 20);

    let served = home.serve(&[]).await;
    let ids = sales.iter().filter_map(|sale| sale["event_id"].as_str()).map(str::to_owned).collect();
    nothing_is_missing(&home, &served, &ids).await;
    assert_eq!(served.client.list(&till, "sales").await.len(), 20);
    served.stop().await;
}

#[actix_web::test]
async fn the_postgresql_of_a_killed_node_is_adopted_and_ends_with_the_next_one() {
    let home = Home::new();
    let served = home.serve(&[]).await;
    let postmaster = home.postmaster();
    served.kill().await;
    assert!(postmaster.is_some() && home.postmaster() == postmaster, "it outlives its node");
    let served = home.serve(&[]).await;
    assert_eq!(home.postmaster(), postmaster);
    served.stop().await;
    assert_eq!(home.postmaster(), None);
}
