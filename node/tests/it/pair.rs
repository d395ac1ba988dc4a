//! Two nodes that federate, for tests.

use crate::support::{TestNode, wait};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use velox_store::testing::TestDatabase;

/// The key that the two share.
pub(crate) const KEY: &str = "a-key-that-two-nodes-of-one-shop-share";

/// Two nodes, each the other's peer.
pub(crate) struct Pair {
    /// The peer `b` of `a` …
    pub(crate) a: TestNode,
    /// … and the other way round.
    pub(crate) b: TestNode,
}

/// A port that is free now, below the range from which the system takes ports for outgoing connections.
pub(crate) fn free_address() -> SocketAddr {
    (0..100)
        .map(|_| SocketAddr::from(([127, 0, 0, 1], rand::random_range(10_000..20_000))))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a free port")
}

/// `VELOX_PEERS` of one native peer.
pub(crate) fn peer(name: &str, address: SocketAddr, key: &str) -> String {
    json!([{ "name": name, "url": format!("http://{address}"), "key": key }]).to_string()
}

/// A node at this address over a fresh database.
pub(crate) async fn node_at(address: SocketAddr, peers: &str, more: &[(&str, &str)]) -> TestNode {
    let database = Arc::new(TestDatabase::create(&velox_store::MIGRATOR).await);
    pod_at(database, address, peers, more).await
}

/// The same over a database that is there already.
pub(crate) async fn pod_at(
    database: Arc<TestDatabase>,
    address: SocketAddr,
    peers: &str,
    more: &[(&str, &str)],
) -> TestNode {
    let listen = address.to_string();
    let mut variables = vec![("VELOX_LISTEN", listen.as_str()), ("VELOX_PEERS", peers)];
    variables.extend_from_slice(more);
    TestNode::pod(database, &variables).await
}

impl Pair {
    /// Both up.
    pub(crate) async fn start(more: &[(&str, &str)]) -> Self {
        let (at_a, at_b) = (free_address(), free_address());
        let a = node_at(at_a, &peer("b", at_b, KEY), more).await;
        let b = node_at(at_b, &peer("a", at_a, KEY), more).await;
        Pair { a, b }
    }

    /// Waits until neither has anything to send or to project.
    pub(crate) async fn quiet(&self) {
        for node in [&self.a, &self.b] {
            wait("an empty relay queue", async || pending(node).await == 0).await;
        }
        self.a.client.projected().await;
        self.b.client.projected().await;
    }

    /// Ends both.
    pub(crate) async fn stop(self) {
        self.a.stop().await;
        self.b.stop().await;
    }
}

/// What the node says of its federation.
pub(crate) async fn status(node: &TestNode) -> Value {
    node.client.admin("/sync/federation/status").await
}

/// Events that wait for the node's peers.
pub(crate) async fn pending(node: &TestNode) -> i64 {
    let status = status(node).await;
    status["peers"].as_array().expect("peers").iter().map(|p| p["pending"].as_i64().expect("a count")).sum()
}
