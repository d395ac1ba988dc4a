//! HTTP calls to a pod: as its admin, or as a device with its token. A connection each, so a restart breaks none.
//!
//! Never here: retries, or what an answer ought to be.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::http::{self, Connection};
use crate::till::Push;

/// Longest time for one call: a paused pod answers nothing.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Rows of a page: the most there can be.
const PAGE: usize = 1_000;

/// Who calls which pod.
#[derive(Debug, Clone)]
pub struct Caller {
    address: SocketAddr,
    token: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub text: String,
}

/// The answer to a push, as far as it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Events that are stored, duplicates among them.
    pub accepted: Vec<String>,
    /// Events that were known.
    pub duplicates: Vec<String>,
    /// Events that were refused.
    pub rejected: Vec<String>,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// Where it is no 2xx, or no JSON.
    pub fn json(&self) -> Result<Value> {
        ensure!((200..300).contains(&self.status), "{}: {}", self.status, self.text);
        serde_json::from_str(&self.text).with_context(|| format!("unexpected answer: {}", self.text))
    }
}

impl Caller {
    /// Calls this address with this admin key or token.
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Caller { address, token: token.to_owned() }
    }

    /// The same pod with another credential.
    pub fn with_token(&self, token: &str) -> Self {
        Caller::new(self.address, token)
    }

    /// Calls, with a JSON body or none, whatever is answered.
    ///
    /// # Errors
    /// Where no answer comes in 30 s.
    pub async fn call(&self, method: &str, path: &str, body: &str) -> Result<Reply> {
        let request = http::request(method, path, &self.token, body);
        let called = async {
            let mut connection = Connection::open(self.address).await?;
            let answer = connection.send(&request).await?;
            Ok(Reply { status: answer.status, text: answer.text() })
        };
        let reply: Result<Reply> =
            timeout(CALL_LIMIT, called).await.unwrap_or_else(|error| Err(error.into()));
        reply.with_context(|| format!("{method} {path}"))
    }

    /// GET of JSON.
    ///
    /// # Errors
    /// Where no 2xx comes, as the next ones.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, "").await?.json().with_context(|| format!("GET {path}"))
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// Where no 2xx comes.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, &body.to_string()).await?.json().with_context(|| format!("POST {path}"))
    }

    /// Registers a shop; one that is known stays.
    ///
    /// # Errors
    /// Where no 2xx comes.
    pub async fn add_store(&self, store_id: Uuid, name: &str) -> Result<()> {
        self.post("/admin/stores", &json!({ "store_id": store_id, "name": name })).await.map(|_| ())
    }

    /// Registers a device and returns its token. One that is known gets a new one.
    ///
    /// # Errors
    /// Where no 2xx comes.
    pub async fn add_device(&self, store_id: Uuid, device_id: Uuid) -> Result<String> {
        let device = json!({ "store_id": store_id, "device_id": device_id });
        let answer = self.post("/admin/devices", &device).await?;
        Ok(answer["token"].as_str().context("no token")?.to_owned())
    }

    /// Pushes, as the device or as admin.
    ///
    /// # Errors
    /// Where no 200 comes: then nobody knows what was stored.
    pub async fn push(&self, push: &Push) -> Result<Pushed> {
        #[derive(Deserialize)]
        struct Named {
            event_id: String,
        }
        #[derive(Deserialize)]
        struct Answer {
            accepted: Vec<Named>,
            duplicates: Vec<String>,
            rejected: Vec<Named>,
        }
        let answer = self.call("POST", "/sync/push", &push.body).await?.json().context("POST /sync/push")?;
        let answer: Answer = serde_json::from_value(answer)?;
        let ids = |named: Vec<Named>| named.into_iter().map(|named| named.event_id).collect();
        Ok(Pushed {
            accepted: ids(answer.accepted),
            duplicates: answer.duplicates,
            rejected: ids(answer.rejected),
        })
    }

    /// All rows of a list of a shop, such as `sales`.
    ///
    /// # Errors
    /// Where no 2xx comes.
    pub async fn list(&self, store_id: Uuid, list: &str) -> Result<Vec<Value>> {
        let mut rows = Vec::new();
        let mut path = format!("/stores/{store_id}/{list}?limit={PAGE}");
        loop {
            let mut page = self.get(&path).await?;
            let items = page["items"].as_array_mut().with_context(|| format!("{path} is no list"))?;
            rows.append(items);
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/stores/{store_id}/{list}?limit={PAGE}&cursor={cursor}"),
                None => return Ok(rows),
            }
        }
    }

    /// How many rows a list of a shop has.
    ///
    /// # Errors
    /// Where no 2xx comes.
    pub async fn count(&self, store_id: Uuid, list: &str) -> Result<usize> {
        self.list(store_id, list).await.map(|rows| rows.len())
    }

    /// The supervisor tree.
    ///
    /// # Errors
    /// Where no 2xx comes.
    pub async fn actors(&self) -> Result<Value> {
        self.get("/admin/actors").await
    }

    /// Of the supervisor tree, the actor of this name.
    ///
    /// # Errors
    /// Where no 2xx comes, or there is no such actor.
    pub async fn actor(&self, name: &str) -> Result<Value> {
        fn found(tree: &Value, name: &str) -> Option<Value> {
            if tree["name"] == name {
                return Some(tree.clone());
            }
            tree["children"].as_array()?.iter().find_map(|child| found(child, name))
        }
        found(&self.actors().await?, name).with_context(|| format!("there is no actor {name}"))
    }

    /// A figure of `/metrics`, by its name and labels as they stand there.
    ///
    /// # Errors
    /// Where no 200 comes, or there is no such figure.
    pub async fn metric(&self, name_and_labels: &str) -> Result<f64> {
        let reply = self.call("GET", "/metrics", "").await?;
        let value =
            reply.text.lines().find_map(|line| line.strip_prefix(name_and_labels)?.trim().parse().ok());
        value.with_context(|| format!("{}: no {name_and_labels} in the metrics", reply.status))
    }

    /// Whether the pod says that it is ready.
    pub async fn is_ready(&self) -> bool {
        self.call("GET", "/readyz", "").await.is_ok_and(|reply| reply.status == 200)
    }
}
