//! The commands of federation, beside nodes that run.

use crate::pair::{KEY, Pair, peer};
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
