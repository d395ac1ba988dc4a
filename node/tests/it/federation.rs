//! Two nodes: what a till tells one of them is known to the other.

use crate::pair::{Pair, free_address, node_at, peer, pending, status};
use crate::support::{ADMIN, event, id, sale, wait};
use serde_json::json;

#[actix_web::test]
async fn a_sale_pushed_to_one_node_is_in_the_tables_of_the_other() {
    let pair = Pair::start(&[]).await;
    let till = pair.a.client.till().await;
    let mut fiao = sale();
    fiao["payload"]["payment"] = json!({ "method": "FIAO" });
    fiao["payload"]["customer_id"] = json!(id());
    pair.a.client.push(&till, &[event("CashSessionOpened", json!({ "session_id": id() })), fiao]).await;
    pair.quiet().await;
    let there = pair.b.client.till_of(till.store_id).await;
    for what in ["sales", "debts", "cash-sessions", "stock"] {
        let (here, over_there) =
            (pair.a.client.list(&till, what).await, pair.b.client.list(&there, what).await);
        assert!(!here.is_empty(), "{what}");
        assert_eq!(here, over_there, "{what}");
    }
    let status = status(&pair.a).await;
    let peer = &status["peers"][0];
    assert_eq!((&peer["reachable"], &peer["authorized"]), (&json!(true), &json!(true)), "{status}");
    assert_eq!(peer["circuitBreakerState"], "CLOSED");
    assert_eq!((&status["enabled"], &status["queue"]["waiting"]), (&json!(true), &json!(0)));
    pair.stop().await;
}

#[actix_web::test]
async fn what_a_peer_brings_goes_on_to_the_others_and_not_back() {
    // A chain: a - b - c.
    let at = [free_address(), free_address(), free_address()];
    let (left, right) =
        ("a-key-that-a-and-b-share-with-each-other", "a-key-that-b-and-c-share-with-each-other");
    let a = node_at(at[0], &peer("b", at[1], left), &[]).await;
    let both = json!([
        { "name": "a", "url": format!("http://{}", at[0]), "key": left },
        { "name": "c", "url": format!("http://{}", at[2]), "key": right },
    ]);
    let b = node_at(at[1], &both.to_string(), &[]).await;
    let c = node_at(at[2], &peer("b", at[1], right), &[]).await;
    let till = a.client.till().await;
    let events = [sale(), sale(), sale()];
    a.client.push(&till, &events).await;
    let there = async || c.client.till_of(till.store_id).await;
    wait("the shop at the far end", async || {
        let stores = c.client.admin("/admin/stores").await;
        stores["items"]
            .as_array()
            .expect("stores")
            .iter()
            .any(|store| store["store_id"] == json!(till.store_id))
    })
    .await;
    let far = there().await;
    wait("the sales at the far end", async || c.client.list(&far, "sales").await.len() == 3).await;
    // The far end's own go the whole way back.
    c.client.push(&far, &[sale()]).await;
    wait("a sale from the far end", async || a.client.list(&till, "sales").await.len() == 4).await;
    for node in [&a, &b, &c] {
        wait("an empty relay queue", async || pending(node).await == 0).await;
    }
    let path =
        format!("/sync/events/{}?store_id={}", events[0]["event_id"].as_str().expect("an id"), till.store_id);
    let trails = [a.client.admin(&path).await, b.client.admin(&path).await, c.client.admin(&path).await];
    let origin = json!(a.node.state.own.get().node_id);
    assert_eq!(trails[0]["origin_node"], json!(null));
    assert_eq!((&trails[1]["origin_node"], &trails[2]["origin_node"]), (&origin, &origin));
    let to = |trail: &serde_json::Value| -> Vec<String> {
        let deliveries = trail["deliveries"].as_array().expect("deliveries");
        deliveries.iter().map(|d| d["peer"].as_str().expect("a peer").to_owned()).collect()
    };
    assert_eq!(to(&trails[0]), ["b"], "{}", trails[0]);
    assert_eq!(to(&trails[1]), ["c"], "not back to a: {}", trails[1]);
    assert!(to(&trails[2]).is_empty(), "{}", trails[2]);
    let accepted = &trails[0]["deliveries"][0];
    assert_eq!(accepted["peer_hash"], trails[0]["payload_hash"], "{accepted}");
    assert!(accepted["acknowledged_at"].is_string(), "{accepted}");
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[actix_web::test]
async fn a_mesh_of_five_comes_to_rest_with_the_same_tables() {
    const NODES: usize = 5;
    let at: Vec<_> = (0..NODES).map(|_| free_address()).collect();
    let key = |i: usize, j: usize| format!("a-key-that-only-nodes-{}-and-{}-have", i.min(j), i.max(j));
    let mut nodes = Vec::new();
    for i in 0..NODES {
        let peers: Vec<_> = (0..NODES)
            .filter(|j| *j != i)
            .map(|j| json!({ "name": format!("n{j}"), "url": format!("http://{}", at[j]), "key": key(i, j) }))
            .collect();
        nodes.push(node_at(at[i], &json!(peers).to_string(), &[("VELOX_DB_MAX_CONNECTIONS", "10")]).await);
    }
    let till = nodes[0].client.till().await;
    let mut tills = vec![till.clone()];
    for node in &nodes[1..] {
        let body = json!({ "store_id": till.store_id, "name": "Bodega" });
        node.client.call("POST", "/admin/stores", ADMIN, Some(&body)).await;
        tills.push(node.client.till_of(till.store_id).await);
    }
    for (node, till) in nodes.iter().zip(&tills) {
        node.client.push(till, &[sale(), sale()]).await;
    }
    for (node, till) in nodes.iter().zip(&tills) {
        wait("all sales everywhere", async || node.client.list(till, "sales").await.len() == 2 * NODES).await;
        wait("an empty relay queue", async || pending(node).await == 0).await;
    }
    let first = nodes[0].client.list(&tills[0], "sales").await;
    for (node, till) in nodes.iter().zip(&tills) {
        assert_eq!(node.client.list(till, "sales").await, first);
    }
    for node in nodes {
        node.stop().await;
    }
}
