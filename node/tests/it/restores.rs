//! Backups by the command line, and what becomes of a node that goes on from one: it lacks what its peer knows.

use crate::process::Home;
use crate::support::{id, sale};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use velox_chaos::cluster::{Caller, Cluster, NodeSpec, wait_until};
use velox_store::testing::TestDatabase;

async fn migrated() -> TestDatabase {
    TestDatabase::create(&velox_store::MIGRATOR).await
}

/// Two nodes that are each other's peers. What one lacks comes by no period.
async fn cluster(north: &TestDatabase, south: &TestDatabase) -> Cluster {
    let spec = |name: &str, database: &TestDatabase| {
        NodeSpec::new(name)
            .database(database.url())
            .set("VELOX_DB_MAX_CONNECTIONS", "10")
            .set("VELOX_OUTBOX_POLL_MS", "200")
            .set("VELOX_RECONCILE_INTERVAL_MS", "3600000")
    };
    let velox = Path::new(env!("CARGO_BIN_EXE_velox"));
    Cluster::start(velox, &[spec("north", north), spec("south", south)]).await.expect("a cluster")
}

async fn push(node: &Caller, store_id: &str, till: &str, events: &[Value]) {
    let body = json!({ "store_id": store_id, "device_id": till, "events": events });
    let answer = node.post("/sync/push", &body).await.expect("an answer");
    assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(events.len()), "{answer}");
}

/// Waits until a node has so many sales of the store.
async fn has_sales(node: &Caller, store_id: &str, sales: usize) {
    let store_id = store_id.parse().expect("a UUID");
    wait_until(&format!("{sales} sales"), async || match node.count(store_id, "sales").await {
        Ok(found) if found == sales => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .await
    .expect("sales");
}

/// A page of a v1 till's pull: the ids, and the checkpoint to go on from.
async fn v1_page(node: &Caller, till: &str, (ms, event_id): &(i64, String)) -> (Vec<String>, (i64, String)) {
    let path = format!("/sync/pull?device_id={till}&last_checkpoint={ms}&cursor_event_id={event_id}");
    let page = node.get(&path).await.expect("a page");
    let ids = page["events"].as_array().expect("events").iter();
    let ids = ids.map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect();
    let last = page["last_server_event_id"].as_str().expect("an id").to_owned();
    (ids, (page["last_server_time"].as_i64().expect("ms"), last))
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect()
}

#[actix_web::test]
async fn a_restored_node_gets_back_what_its_peer_knows_and_tills_are_wound_back() {
    let (database, other) = (
        TestDatabase::create(&velox_store::MIGRATOR).await,
        TestDatabase::create(&velox_store::MIGRATOR).await,
    );
    let mut cluster = cluster(&database, &other).await;
    let (north, south) = (cluster.pod("north").admin(), cluster.pod("south").admin());
    let (store_id, till, reader) = (id(), id(), id());
    north.post("/admin/stores", &json!({ "store_id": store_id, "name": "Bodega" })).await.expect("a shop");
    let token = north.add_device(store_id.parse().expect("a UUID"), reader.parse().expect("a UUID")).await;
    let reader_token = north.with_token(&token.expect("a token"));
    let early: Vec<Value> = (0..3).map(|_| sale()).collect();
    push(&north, &store_id, &till, &early).await;
    has_sales(&south, &store_id, 3).await;
    let (got, before) = v1_page(&reader_token, &reader, &(0, String::new())).await;
    assert!(ids(&early).iter().all(|id| got.contains(id)));
    // The next request acknowledges what it was given.
    v1_page(&reader_token, &reader, &before).await;

    let home = Home::new();
    let out = home.path("north.dump");
    let out = out.to_str().expect("a path");
    let at = [("VELOX_DATABASE_URL", database.url())];
    let made = home.run(&["--json", "backup", "--out", out], &at).await;
    assert!(made.fine().json()["bytes"].as_u64().expect("a size") > 1_000);

    let late: Vec<Value> = (0..4).map(|_| sale()).collect();
    push(&north, &store_id, &till, &late).await;
    has_sales(&south, &store_id, 7).await;
    let (got, ahead) = v1_page(&reader_token, &reader, &before).await;
    assert_eq!(got.len(), 4);
    let page = reader_token.get("/sync/pull?cursor=&limit=2").await.expect("a page");
    let cursor = page["next_cursor"].as_str().expect("a cursor").to_owned();
    // As a version gave it that knew of no incarnations.
    let old = URL_SAFE_NO_PAD.encode(json!({ "store": store_id, "ms": 1, "id": "" }).to_string());
    let pull = async |cursor: &str| {
        reader_token.call("GET", &format!("/sync/pull?cursor={cursor}"), "").await.expect("an answer")
    };
    assert_eq!((pull(&cursor).await.status, pull(&old).await.status), (200, 200));

    cluster.pods_mut("north")[0].kill().await.expect("a process");
    let fresh = TestDatabase::create_empty().await;
    let at = [("VELOX_DATABASE_URL", fresh.url())];
    let restored = home.run(&["--json", "restore", "--from", out], &at).await;
    assert_eq!(restored.fine().json()["stores"], 1);
    let again = home.run(&["restore", "--from", out], &at).await;
    assert!(again.code == Some(1) && again.err.contains("not empty"), "{again:?}");
    let pod = &mut cluster.pods_mut("north")[0];
    pod.set("VELOX_DATABASE_URL", fresh.url());
    pod.restart().await.expect("a node");

    has_sales(&north, &store_id, 7).await;
    let refused = pull(&cursor).await;
    assert_eq!((refused.status, pull(&old).await.status), (410, 410), "{}", refused.text);
    assert!(refused.text.contains("CURSOR_EXPIRED"), "{}", refused.text);
    // What the till was given after the backup is given to it again, though it asks from beyond that.
    let (got, _) = v1_page(&reader_token, &reader, &ahead).await;
    let (got, expected): (BTreeSet<_>, BTreeSet<_>) =
        (got.into_iter().collect(), ids(&late).into_iter().collect());
    assert_eq!(got, expected);
    cluster.stop().await.expect("an orderly end");
}

/// Two sales come to the north after its backup and reach the south. Then the north is restored, with one of the two
/// links cut.
async fn restored_behind(cut: (&str, &str)) -> (Cluster, String, [TestDatabase; 3]) {
    let (database, other) = (migrated().await, migrated().await);
    let mut cluster = cluster(&database, &other).await;
    let (north, south) = (cluster.pod("north").admin(), cluster.pod("south").admin());
    let store_id = id();
    north.post("/admin/stores", &json!({ "store_id": store_id, "name": "Bodega" })).await.expect("a shop");
    let home = Home::new();
    let out = home.path("north.dump");
    let out = out.to_str().expect("a path");
    home.run(&["backup", "--out", out], &[("VELOX_DATABASE_URL", database.url())]).await.fine();
    push(&north, &store_id, &id(), &[sale(), sale()]).await;
    has_sales(&south, &store_id, 2).await;
    cluster.pods_mut("north")[0].kill().await.expect("a process");
    cluster.link(cut.0, cut.1).cut();
    let fresh = TestDatabase::create_empty().await;
    home.run(&["restore", "--from", out], &[("VELOX_DATABASE_URL", fresh.url())]).await.fine();
    let pod = &mut cluster.pods_mut("north")[0];
    pod.set("VELOX_DATABASE_URL", fresh.url());
    pod.restart().await.expect("a node");
    (cluster, store_id, [database, other, fresh])
}

#[actix_web::test]
async fn a_restored_node_that_cannot_be_called_back_fetches_what_it_lost() {
    let (cluster, store_id, _databases) = restored_behind(("south", "north")).await;
    has_sales(&cluster.pod("north").admin(), &store_id, 2).await;
    cluster.stop().await.expect("an orderly end");
}

#[actix_web::test]
async fn a_peer_notices_by_the_answers_to_its_relay_that_the_other_was_restored() {
    let (cluster, store_id, _databases) = restored_behind(("north", "south")).await;
    push(&cluster.pod("south").admin(), &store_id, &id(), &[sale()]).await;
    has_sales(&cluster.pod("north").admin(), &store_id, 3).await;
    assert!(cluster.pod("south").log().contains("the peer has another database than before"));
    cluster.stop().await.expect("an orderly end");
}

#[actix_web::test]
async fn a_backup_of_an_embedded_database_is_restored_into_another_data_directory() {
    let (home, other) = (Home::new(), Home::new());
    let served = home.serve(&[]).await;
    let till = served.client.till().await;
    served.client.push(&till, &[sale(), sale()]).await;
    let out = home.path("shop.dump");
    let out = out.to_str().expect("a path");
    home.run(&["backup", "--out", out], &[]).await.fine();
    let refused = home.run(&["restore", "--from", out], &[]).await;
    assert!(refused.code == Some(1) && refused.err.contains("not empty"), "{refused:?}");
    served.stop().await;
    let restored = other.run(&["restore", "--from", out], &[]).await;
    assert!(restored.fine().out.contains("1 stores, 3 events"), "{restored:?}");
    let served = other.serve(&[]).await;
    served.client.projected().await;
    assert_eq!(served.client.list(&till, "sales").await.len(), 2);
    served.stop().await;
    let wrong = home.path("no.dump");
    std::fs::write(&wrong, "no archive").expect("a file");
    let refused = Home::new().run(&["restore", "--from", wrong.to_str().expect("a path")], &[]).await;
    assert!(refused.code == Some(1) && refused.err.contains("no backup"), "{refused:?}");
}
