//! Whole nodes for tests: in this process over a database of their own, or as a process that can be killed.
//!
//! A node is stopped by its test, so that what it left behind can be looked at.

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use uuid::Uuid;
use velox_node::clock::SystemClock;
use velox_node::config::Config;
use velox_node::lifecycle::{self, RunningNode, StartOptions};
use velox_protocol::time::Clock;
use velox_store::testing::TestDatabase;

/// Longest wait for a condition; on a busy machine everything is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The admin key of every test node.
pub(crate) const ADMIN: &str = "an-admin-key-of-forty-characters-for-test";
/// The secret of v1's JWTs.
pub(crate) const JWT_SECRET: &str = "a-secret-that-v1-signs-its-tokens-with";

/// A node in this process.
pub(crate) struct TestNode {
    /// The node.
    pub(crate) node: RunningNode,
    /// Speaks to it.
    pub(crate) client: Client,
    /// Its database.
    pub(crate) database: Arc<TestDatabase>,
    _data_dir: tempfile::TempDir,
}

/// A till with a token.
#[derive(Debug, Clone)]
pub(crate) struct Till {
    /// Its shop.
    pub(crate) store_id: Uuid,
    /// Itself.
    pub(crate) device_id: String,
    /// Its token.
    pub(crate) token: String,
}

/// HTTP with a base address and a credential.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Its headers.
    pub(crate) headers: reqwest::header::HeaderMap,
    /// Its body.
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|_| panic!("no JSON ({}): {}", self.status, self.text))
    }
}

impl Client {
    /// A client of this base address, such as `http://127.0.0.1:8080`.
    pub(crate) fn new(base: String) -> Self {
        // Fails where another test of this process was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client { base, http: reqwest::Client::new() }
    }

    /// A request that the caller finishes.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.http.request(method, format!("{}{path}", self.base)).timeout(PATIENCE)
    }

    /// Sends a request and reads the answer.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.expect("a body") }
    }

    /// Calls with a credential and an optional JSON body.
    pub(crate) async fn call(&self, method: &str, path: &str, token: &str, body: Option<&Value>) -> Answer {
        let mut request = self.request(method, path).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    /// GET as admin.
    pub(crate) async fn admin(&self, path: &str) -> Value {
        let answer = self.call("GET", path, ADMIN, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    /// Registers a shop and a till of it.
    pub(crate) async fn till(&self) -> Till {
        let store = self.call("POST", "/admin/stores", ADMIN, Some(&json!({ "name": "Bodega" }))).await;
        assert_eq!(store.status, 201, "{}", store.text);
        let store_id: Uuid = store.json()["store_id"].as_str().expect("an id").parse().expect("a UUID");
        self.till_of(store_id).await
    }

    /// Registers another till of a shop.
    pub(crate) async fn till_of(&self, store_id: Uuid) -> Till {
        let device_id = id();
        let body = json!({ "store_id": store_id, "device_id": device_id });
        let device = self.call("POST", "/admin/devices", ADMIN, Some(&body)).await;
        assert_eq!(device.status, 201, "{}", device.text);
        let token = device.json()["token"].as_str().expect("a token").to_owned();
        Till { store_id, device_id, token }
    }

    /// Pushes events of a till; the answer is that of a 200.
    pub(crate) async fn push(&self, till: &Till, events: &[Value]) -> Value {
        let answer = self.try_push(till, events).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// Pushes events of a till.
    pub(crate) async fn try_push(&self, till: &Till, events: &[Value]) -> Answer {
        self.call("POST", "/sync/push", &till.token, Some(&body(till, events))).await
    }

    /// Waits until no projection entry is pending.
    pub(crate) async fn projected(&self) {
        let pending = async || {
            let metrics = self.send(self.request("GET", "/metrics")).await.text;
            let line = r#"velox_outbox_entries{target="projection",status="pending"} "#;
            metrics.lines().find_map(|l| l.strip_prefix(line)?.parse::<i64>().ok())
        };
        wait("an empty outbox", async || pending().await == Some(0)).await;
    }

    /// All items of a list of the till's shop.
    pub(crate) async fn list(&self, till: &Till, what: &str) -> Vec<Value> {
        let path = format!("/stores/{}/{what}", till.store_id);
        let answer = self.call("GET", &path, &till.token, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()["items"].as_array().expect("items").clone()
    }
}

/// The body of a push.
pub(crate) fn body(till: &Till, events: &[Value]) -> Value {
    json!({ "store_id": till.store_id, "device_id": till.device_id, "client_version": "1.0.0", "events": events })
}

/// A fresh id.
pub(crate) fn id() -> String {
    Uuid::from_bytes(rand::random()).to_string().replacen("00000000", "10000000", 1)
}

/// A seq that no other event of this test has.
pub(crate) fn seq() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An event of now.
pub(crate) fn event(event_type: &str, payload: Value) -> Value {
    let (now, seq) = (SystemClock.now().timestamp_millis(), seq());
    json!({ "event_id": id(), "seq": seq, "type": event_type, "version": 1, "created_at": now, "payload": payload })
}

/// A sale of one product.
pub(crate) fn sale() -> Value {
    let item = json!({ "product_id": id(), "qty": 2, "unit_price_usd": 1.5, "unit_price_bs": 54.75 });
    event(
        "SaleCreated",
        json!({ "sale_id": id(), "request_id": id(), "items": [item], "payment": { "method": "CASH_USD" },
            "totals": { "total_usd": 3, "total_bs": 109.5 } }),
    )
}

/// Waits until a condition holds; says what was waited for where it does not come.
pub(crate) async fn wait(what: &str, condition: impl AsyncFn() -> bool) {
    let held = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

impl TestNode {
    /// A node over a fresh database, with faults allowed.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with more configuration, as `VELOX_*` variables.
    pub(crate) async fn start_with(more: &[(&str, &str)]) -> Self {
        let database = Arc::new(TestDatabase::create(&velox_store::MIGRATOR).await);
        Self::pod(database, more).await
    }

    /// A node over a fresh database, as one is started without `--chaos`.
    pub(crate) async fn start_without_chaos() -> Self {
        let database = Arc::new(TestDatabase::create(&velox_store::MIGRATOR).await);
        Self::pod_as(database, &[], false).await
    }

    /// Another pod over a database that is there already.
    pub(crate) async fn pod(database: Arc<TestDatabase>, more: &[(&str, &str)]) -> Self {
        Self::pod_as(database, more, true).await
    }

    async fn pod_as(database: Arc<TestDatabase>, more: &[(&str, &str)], chaos: bool) -> Self {
        let data_dir = tempfile::tempdir().expect("a directory");
        let dir = data_dir.path().display().to_string();
        let mut variables = vec![
            ("VELOX_LISTEN", "127.0.0.1:0"),
            ("VELOX_DATABASE_URL", database.url()),
            ("VELOX_DATA_DIR", &dir),
            ("VELOX_ADMIN_KEY", ADMIN),
            ("VELOX_JWT_SECRET", JWT_SECRET),
            ("VELOX_RATE_LIMIT_RPS", "100000"),
            ("VELOX_RATE_LIMIT_BURST", "100000"),
            ("VELOX_DB_MAX_CONNECTIONS", "12"),
        ];
        variables.extend_from_slice(more);
        let variables = variables.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
        let config = Config::from_sources(None, variables, &Default::default()).expect("a configuration");
        let options = StartOptions::new(chaos, Arc::new(SystemClock));
        let node = lifecycle::start(&config, options).await.expect("a node");
        let client = Client::new(format!("http://{}", node.address));
        let ready = async || client.send(client.request("GET", "/readyz")).await.status == 200;
        wait("readiness", ready).await;
        TestNode { node, client, database, _data_dir: data_dir }
    }

    /// Ends the node; its database goes with the last node of it.
    pub(crate) async fn stop(self) {
        self.node.stop().await.expect("an orderly end");
        if let Ok(database) = Arc::try_unwrap(self.database) {
            database.close().await;
        }
    }
}
