//! What an operator and a tester ask of a node: its actors, faults, readiness and figures.

use crate::support::{ADMIN, Answer, Client, Till, body, wait};
use serde_json::{Value, json};
use uuid::Uuid;

impl Client {
    /// Pushes; nothing where the node is away.
    pub(crate) async fn reach(&self, till: &Till, events: &[Value]) -> Option<Answer> {
        let request = self.request("POST", "/sync/push").bearer_auth(&till.token).json(&body(till, events));
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Some(Answer { status, headers, text: response.text().await.ok()? })
    }

    /// Registers a shop and a till whose ids are given.
    pub(crate) async fn till_named(&self, store_id: Uuid, device_id: &str) -> Till {
        let store = json!({ "store_id": store_id, "name": "Bodega" });
        let answer = self.call("POST", "/admin/stores", ADMIN, Some(&store)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let device = json!({ "store_id": store_id, "device_id": device_id });
        let answer = self.call("POST", "/admin/devices", ADMIN, Some(&device)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let token = answer.json()["token"].as_str().expect("a token").to_owned();
        Till { store_id, device_id: device_id.to_owned(), token }
    }

    /// Whether the node answers and says that it is ready.
    pub(crate) async fn is_ready(&self) -> bool {
        let answer = self.request("GET", "/readyz").send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Sets a fault.
    pub(crate) async fn fault(&self, fault: Value) {
        let answer = self.call("POST", "/chaos/faults", ADMIN, Some(&fault)).await;
        assert_eq!(answer.status, 200, "{fault}: {}", answer.text);
    }

    /// Removes all faults.
    pub(crate) async fn clear_faults(&self) {
        let answer = self.call("DELETE", "/chaos/faults", ADMIN, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// The faults that can still strike.
    pub(crate) async fn faults(&self) -> Vec<Value> {
        self.admin("/chaos/faults").await["items"].as_array().expect("items").clone()
    }

    /// A metric, added up over its labels.
    pub(crate) async fn figure(&self, metric: &str) -> u64 {
        let text = self.send(self.request("GET", "/metrics")).await.text;
        let value = |line: &str| -> Option<u64> {
            let rest = line.strip_prefix(metric).filter(|rest| rest.starts_with(['{', ' ']))?;
            rest.rsplit(' ').next()?.parse().ok()
        };
        text.lines().filter_map(value).sum()
    }

    /// The workers of the supervisor tree.
    pub(crate) async fn workers(&self) -> Vec<Value> {
        let mut workers = Vec::new();
        gather(&self.admin("/admin/actors").await, &mut workers);
        workers
    }

    /// One worker.
    pub(crate) async fn worker(&self, name: &str) -> Value {
        let workers = self.workers().await;
        workers.into_iter().find(|worker| worker["name"] == name).unwrap_or_else(|| panic!("no actor {name}"))
    }

    /// How often workers were restarted.
    pub(crate) async fn restarts(&self) -> u64 {
        self.workers().await.iter().filter_map(|worker| worker["restarts"].as_u64()).sum()
    }

    /// Waits until so many rows are in a list of the till's shop, over an outage too.
    pub(crate) async fn listed(&self, till: &Till, what: &str, count: usize) {
        let path = format!("/stores/{}/{what}?limit=1000", till.store_id);
        wait(&format!("{count} {what}"), async || {
            let answer = self.call("GET", &path, &till.token, None).await;
            assert!([200, 503].contains(&answer.status), "{path}: {}", answer.text);
            answer.json()["items"].as_array().is_some_and(|items| items.len() == count)
        })
        .await;
    }
}

fn gather(node: &Value, workers: &mut Vec<Value>) {
    if node["kind"] == "worker" {
        workers.push(node.clone());
    }
    for child in node["children"].as_array().into_iter().flatten() {
        gather(child, workers);
    }
}
