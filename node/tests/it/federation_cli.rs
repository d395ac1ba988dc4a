//! The commands of federation, beside nodes that run.

use crate::pair::{KEY, Pair, free_address, peer};
use crate::process::Home;
use crate::stub_peer::ids;
use crate::support::sale;
use serde_json::json;
use std::time::Duration;

/// The demo makes two PostgreSQL clusters and plays a whole day.
const DEMO_LIMIT: Duration = Duration::from_secs(150);

#[actix_web::test]
async fn velox_reconcile_closes_gaps_beside_a_running_node() {
    let (home, pair) = (Home::new(), Pair::start(&[]).await);
    let till = pair.a.client.till().await;
    let events = [sale(), sale()];
    pair.a.client.push(&till, &events).await;
    pair.quiet().await;
    let pool = pair.a.database.pool().await;
    let lost = format!(
        "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM events WHERE event_id = '{}'; COMMIT",
        ids(&events)[0]
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(lost)).execute(&pool).await.expect("a deletion");
    pool.close().await;
    let peers = peer("b", pair.b.node.address, KEY);
    let at = [("VELOX_DATABASE_URL", pair.a.database.url()), ("VELOX_PEERS", peers.as_str())];
    let store = till.store_id.to_string();
    let look = home.run(&["reconcile", "--store", &store, "--dry-run", "--json"], &at).await;
    assert_eq!((look.code, &look.json()[0]["sales"]["localMissingCount"]), (Some(1), &json!(1)), "{look:?}");
    let mended = home.run(&["reconcile", "--store", &store, "--peer", "b", "--json"], &at).await;
    assert_eq!(
        (mended.code, &mended.json()[0]["sales"]["replayedToLocal"]),
        (Some(1), &json!(1)),
        "{mended:?}"
    );
    let table = home.run(&["reconcile"], &at).await;
    assert!(table.fine().out.contains("the same"), "{table:?}");
    let nobody = home.run(&["reconcile", "--peer", "nobody"], &at).await;
    assert!(nobody.code == Some(1) && nobody.err.contains("no peer is called nobody"), "{nobody:?}");
    pair.quiet().await;
    assert_eq!(pair.a.client.list(&till, "sales").await.len(), 2);
    pair.stop().await;
}

#[actix_web::test]
async fn the_demo_heals_and_its_two_nodes_are_identical() {
    let home = Home::new();
    let ran = home.run_within(DEMO_LIMIT, &["demo", "--seed", "3", "--limit", "90"], &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("identical: yes"), "{}", ran.out);
}

#[actix_web::test]
async fn velox_peers_says_who_is_reachable_and_who_is_at_home() {
    let pair = Pair::start(&[]).await;
    let till = pair.a.client.till().await;
    pair.quiet().await;
    let home = Home::new();
    let url = pair.a.database.url().to_owned();
    let node = |peers: String| (url.clone(), peers);
    let run = async |(url, peers): (String, String), json: &[&str]| {
        let variables = [("VELOX_DATABASE_URL", url.as_str()), ("VELOX_PEERS", peers.as_str())];
        home.run(&[&["peers"], json].concat(), &variables).await
    };
    let told = run(node(peer("b", pair.b.node.address, KEY)), &["--json"]).await.fine().json();
    let (a, b) = (pair.a.node.state.own.get(), pair.b.node.state.own.get());
    assert_eq!((&told["node_id"], &told["peers"][0]["name"]), (&json!(a.node_id), &json!("b")));
    let seen = &told["peers"][0];
    assert_eq!((&seen["nodeId"], &seen["reachable"]), (&json!(b.node_id), &json!(true)), "{seen}");
    assert_eq!((&seen["pending"], &seen["circuitBreakerState"]), (&json!(0), &json!("CLOSED")));
    assert_eq!(told["stores"][0]["store_id"], json!(till.store_id));
    assert_eq!(told["stores"][0]["home_node"], json!(a.node_id));
    let wrong = run(node(peer("b", pair.b.node.address, "another-key-than-the-two-nodes-share")), &[]).await;
    assert!(wrong.code == Some(1) && wrong.out.contains("refuses this node"), "{wrong:?}");
    let nobody = run(node(peer("b", free_address(), KEY)), &[]).await;
    assert!(nobody.code == Some(1) && nobody.out.contains("not reachable"), "{nobody:?}");
    pair.stop().await;
}
