//! Clusters of real processes: what the tests of federation stand on.

use crate::support::wait;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::json;
use std::path::Path;
use velox_chaos::cluster::{Caller, Cluster, NodeSpec, wait_until};
use velox_chaos::till::{Shop, Till};
use velox_node::clock::SystemClock;
use velox_protocol::time::Clock as _;
use velox_store::testing::TestDatabase;

fn velox() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_velox"))
}

/// Nodes over databases of their own.
async fn cluster(nodes: &[(&str, &TestDatabase, usize)]) -> Cluster {
    let specs: Vec<NodeSpec> = nodes
        .iter()
        .map(|(name, database, pods)| {
            NodeSpec::new(name)
                .database(database.url())
                .pods(*pods)
                .set("VELOX_DB_MAX_CONNECTIONS", "9")
                .set("VELOX_OUTBOX_POLL_MS", "100")
        })
        .collect();
    Cluster::start(velox(), &specs).await.expect("a cluster")
}

async fn database() -> TestDatabase {
    TestDatabase::create(&velox_store::MIGRATOR).await
}

/// A shop with one till, registered, and the till's credential.
async fn open_shop(admin: &Caller) -> (Shop, Till, Caller) {
    let mut rng = StdRng::seed_from_u64(rand::random());
    let shop = Shop::new(&mut rng);
    let till = Till::new(&shop, SystemClock.now() - chrono::Duration::hours(1), &mut rng);
    admin.add_store(shop.store_id, "Bodega").await.expect("a shop");
    let token = admin.add_device(shop.store_id, till.device_id).await.expect("a device");
    let caller = admin.with_token(&token);
    (shop, till, caller)
}

/// The answer to `GET /ping` of whoever is asked at this address.
async fn pinged(address: std::net::SocketAddr) -> Option<u16> {
    Caller::new(address, "").call("GET", "/ping", "").await.ok().map(|reply| reply.status)
}

#[actix_web::test]
async fn nodes_are_wired_through_links_that_can_be_cut_one_by_one() {
    let (cloud, shop) = (database().await, database().await);
    let cluster = cluster(&[("cloud", &cloud, 1), ("shop", &shop, 1)]).await;
    let (there, back) = (cluster.link("cloud", "shop"), cluster.link("shop", "cloud"));
    assert_eq!((pinged(there.address()).await, pinged(back.address()).await), (Some(200), Some(200)));
    let asked = |link: &velox_chaos::faulty_network::Link| {
        link.log().iter().filter(|passage| passage.path == "/ping" && passage.status == Some(200)).count()
    };
    assert_eq!((asked(there), asked(back)), (1, 1));
    there.cut();
    assert_eq!((pinged(there.address()).await, pinged(back.address()).await), (None, Some(200)));
    cluster.cut("shop", "cloud");
    assert_eq!(pinged(back.address()).await, None);
    assert!(cluster.pod("shop").admin().is_ready().await, "the node itself is well");
    cluster.heal("cloud", "shop");
    assert_eq!((pinged(there.address()).await, pinged(back.address()).await), (Some(200), Some(200)));
    cluster.stop().await.expect("an orderly end");
    cloud.close().await;
    shop.close().await;
}

#[actix_web::test]
async fn each_node_has_the_other_as_peer_at_its_link_with_one_key_for_both() {
    let (one, other) = (database().await, database().await);
    let cluster = cluster(&[("one", &one, 1), ("other", &other, 1)]).await;
    let peers = |node: &str| {
        let pid = cluster.pod(node).pid().expect("a process");
        let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("an environment");
        let text = String::from_utf8_lossy(&environment).into_owned();
        let peers = text.split('\0').find_map(|line| line.strip_prefix("VELOX_PEERS=")).expect("peers");
        serde_json::from_str::<serde_json::Value>(peers).expect("JSON")
    };
    let (of_one, of_other) = (peers("one"), peers("other"));
    let key = of_one[0]["key"].as_str().expect("a key").to_owned();
    assert!(key.len() >= 32);
    let expected =
        |name, from, to| json!([{ "name": name, "url": cluster.link(from, to).url(), "key": key }]);
    assert_eq!(of_one, expected("other", "one", "other"));
    assert_eq!(of_other, expected("one", "other", "one"));
    cluster.stop().await.expect("an orderly end");
    one.close().await;
    other.close().await;
}

#[actix_web::test]
async fn a_pod_is_killed_paused_told_to_end_and_started_again_at_its_address() {
    let database = database().await;
    let mut cluster = cluster(&[("node", &database, 1)]).await;
    let pod = &mut cluster.pods_mut("node")[0];
    let (address, admin) = (pod.address(), pod.admin());
    let (shop, mut till, device) = open_shop(&admin).await;
    assert_eq!(device.push(&till.opening()).await.expect("an answer").accepted.len(), 1);

    pod.kill().await.expect("a process");
    assert!(pod.pid().is_none() && admin.get("/ping").await.is_err());
    pod.restart().await.expect("a node");
    assert_eq!(pod.address(), address);

    pod.pause().expect("a process");
    let paused = tokio::time::timeout(std::time::Duration::from_millis(300), admin.get("/ping")).await;
    assert!(paused.is_err(), "it stands still");
    pod.resume().expect("a process");
    admin.get("/ping").await.expect("an answer");

    pod.terminate().expect("a process");
    assert!(pod.ended().await.expect("an end").success());
    pod.restart().await.expect("a node");
    wait("the session", async || admin.count(shop.store_id, "cash-sessions").await.is_ok_and(|n| n == 1))
        .await;
    assert_eq!(admin.actor("outbox_pump").await.expect("an actor")["state"], "running");
    cluster.stop().await.expect("an orderly end");
    database.close().await;
}

#[actix_web::test]
async fn two_pods_a_side_share_a_database_and_a_link_goes_to_the_one_that_lives() {
    let (cloud, shop) = (database().await, database().await);
    let mut cluster = cluster(&[("cloud", &cloud, 2), ("shop", &shop, 2)]).await;
    let [first, second] = cluster.pods("cloud") else { panic!("two pods") };
    let (first, second) = (first.admin(), second.admin());
    let (_, mut till, device) = open_shop(&first).await;
    let push = till.push(50);
    let pushed = device.push(&push).await.expect("an answer");
    assert_eq!((pushed.accepted, pushed.rejected), (push.event_ids.clone(), Vec::new()));
    let store_id = serde_json::from_str::<serde_json::Value>(&push.body).expect("JSON")["store_id"].clone();
    let store_id = store_id.as_str().expect("an id").parse().expect("a UUID");
    wait_until("the first pod's sales at the second", async || {
        let pending = second.metric(r#"velox_outbox_entries{target="projection",status="pending"}"#).await;
        match (pending, second.count(store_id, "sales").await) {
            (Ok(0.0), Ok(sales)) if sales > 20 => Ok(()),
            (pending, sales) => Err(format!("{pending:?} entries wait, {sales:?} sales")),
        }
    })
    .await
    .expect("sales");
    let link = cluster.link("shop", "cloud").address();
    cluster.pods_mut("cloud")[0].kill().await.expect("a process");
    assert_eq!(pinged(link).await, Some(200));
    cluster.pods_mut("cloud")[1].kill().await.expect("a process");
    assert_eq!(pinged(link).await, None);
    for pod in cluster.pods_mut("cloud") {
        pod.restart().await.expect("a node");
    }
    cluster.stop().await.expect("an orderly end");
    cloud.close().await;
    shop.close().await;
}

#[actix_web::test]
async fn a_dropped_cluster_leaves_neither_nodes_nor_their_postgresql_behind() {
    let mut cluster = Cluster::start(velox(), &[NodeSpec::new("node")]).await.expect("a cluster");
    let pod = &mut cluster.pods_mut("node")[0];
    let (pid, postmaster) = (pod.pid().expect("a process"), pod.postmaster().expect("a postmaster"));
    let dir = pod.data_dir();
    drop(cluster);
    assert!(!crate::process::is_alive(postmaster) && !dir.exists());
    wait("the node's end", async || !crate::process::is_alive(pid)).await;

    let mut cluster = Cluster::start(velox(), &[NodeSpec::new("node")]).await.expect("a cluster");
    let pod = &mut cluster.pods_mut("node")[0];
    pod.kill().await.expect("a process");
    let postmaster = pod.postmaster().expect("a postmaster that outlives its node");
    drop(cluster);
    assert!(!crate::process::is_alive(postmaster));
}
