//! The demo's HTTP calls: to register the shop, to push as its tills, to wait, to read. Plain HTTP, as any
//! client would; never the node's own handles.

use super::goods::SHOP;
use super::till::Queued;
use anyhow::{Context as _, bail};
use reqwest::{Client, Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Longest time for one call.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Longest time until everything that was pushed is in the read tables.
const PROJECTION_LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks at it.
const POLL: Duration = Duration::from_millis(25);
/// Rows of a page: the most there can be.
const PAGE: &str = "1000";

/// One caller of the node.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    http: Client,
    base: String,
    key: String,
    store_id: Uuid,
}

/// A rejected event or a warning.
#[derive(Debug, Deserialize)]
pub(super) struct Remark {
    pub(super) event_id: String,
    pub(super) code: String,
}

#[derive(Debug, Deserialize)]
struct Named {
    event_id: String,
}

/// The answer to a push, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Answer {
    accepted: Vec<Named>,
    duplicates: Vec<String>,
    rejected: Vec<Remark>,
    warnings: Vec<Remark>,
}

/// What became of a push.
#[derive(Debug)]
pub(super) struct Acknowledged {
    pub(super) events: usize,
    pub(super) accepted: usize,
    pub(super) duplicates: usize,
    pub(super) rejected: Vec<Remark>,
    pub(super) warnings: Vec<Remark>,
    /// From the request to the answer.
    pub(super) took: Duration,
}

/// A conflict that a person has to decide.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Conflict {
    pub(super) id: Uuid,
    /// The product.
    pub(super) entity_id: Uuid,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl Caller {
    /// The admin of a node.
    pub(super) fn admin(address: SocketAddr, key: &str, store_id: Uuid) -> anyhow::Result<Self> {
        // The client asks for one even where it speaks plain HTTP; an error says that one is there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The node is on this machine: no proxy of the environment stands between.
        let http = Client::builder().no_proxy().timeout(CALL_LIMIT).build()?;
        Ok(Caller { http, base: format!("http://{address}"), key: key.to_owned(), store_id })
    }

    /// Registers the shop.
    pub(super) async fn add_store(&self) -> anyhow::Result<()> {
        let body = json!({ "store_id": self.store_id, "name": SHOP });
        self.call(Method::POST, "/admin/stores", &[], Some(&body)).await.map(|_| ())
    }

    /// Registers a till: the caller with its token.
    pub(super) async fn add_device(&self, device_id: Uuid) -> anyhow::Result<Caller> {
        #[derive(Deserialize)]
        struct Issued {
            token: String,
        }
        let body = json!({ "store_id": self.store_id, "device_id": device_id });
        let issued: Issued =
            self.call(Method::POST, "/admin/devices", &[], Some(&body)).await?.json().await?;
        Ok(Caller { key: issued.token, ..self.clone() })
    }

    /// Pushes events of a till.
    pub(super) async fn push(&self, device_id: Uuid, queued: &[Queued]) -> anyhow::Result<Acknowledged> {
        let events: Vec<&Value> = queued.iter().map(|queued| &queued.event).collect();
        let body = json!({ "store_id": self.store_id, "device_id": device_id, "client_version": "1.0.0",
            "events": events });
        let begun = Instant::now();
        let answer: Answer = self.call(Method::POST, "/sync/push", &[], Some(&body)).await?.json().await?;
        let took = begun.elapsed();
        let answered = answer.accepted.iter().map(|named| named.event_id.as_str());
        let answered: Vec<&str> =
            answered.chain(answer.rejected.iter().map(|r| r.event_id.as_str())).collect();
        for event in events.iter().filter_map(|event| event["event_id"].as_str()) {
            anyhow::ensure!(answered.contains(&event), "the answer to a push says nothing of event {event}");
        }
        Ok(Acknowledged {
            events: queued.len(),
            accepted: answer.accepted.len(),
            duplicates: answer.duplicates.len(),
            rejected: answer.rejected,
            warnings: answer.warnings,
            took,
        })
    }

    /// Waits until none of the till's events is on its way to the read tables any more.
    pub(super) async fn wait_until_projected(&self, device_id: Uuid) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Status {
            pending_events_count: i64,
        }
        let deadline = Instant::now() + PROJECTION_LIMIT;
        loop {
            let query = [("device_id", device_id.to_string())];
            let status: Status = self.call(Method::GET, "/sync/status", &query, None).await?.json().await?;
            match status.pending_events_count {
                0 => return Ok(()),
                pending if Instant::now() > deadline => {
                    bail!("{pending} events of till {device_id} are not projected after {PROJECTION_LIMIT:?}")
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// All rows of a list of the shop.
    pub(super) async fn list<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let mut query = vec![("limit", PAGE.to_owned())];
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let path = format!("/stores/{}/{name}", self.store_id);
            let page: Page<T> = self.call(Method::GET, &path, &query, None).await?.json().await?;
            items.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
    }

    /// One thing of the shop.
    pub(super) async fn get<T: DeserializeOwned>(&self, list: &str, id: Uuid) -> anyhow::Result<T> {
        let path = format!("/stores/{}/{list}/{id}", self.store_id);
        Ok(self.call(Method::GET, &path, &[], None).await?.json().await?)
    }

    /// What there may be at a path; none: the node answers 404.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        let answer = self.send(Method::GET, path, &[], None).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(checked(Method::GET, path, answer).await?.json().await?))
    }

    /// The conflicts that wait for a person: one page holds all that the demo makes.
    pub(super) async fn open_conflicts(&self) -> anyhow::Result<Vec<Conflict>> {
        let query = [("store_id", self.store_id.to_string()), ("limit", PAGE.to_owned())];
        let page = self.call(Method::GET, "/sync/conflicts/unresolved", &query, None).await?;
        Ok(page.json::<Page<Conflict>>().await?.items)
    }

    /// Decides one of them.
    pub(super) async fn resolve(&self, conflict: &Conflict, value: Value) -> anyhow::Result<()> {
        let path = format!("/sync/conflicts/{}/resolve", conflict.id);
        let body = json!({ "store_id": self.store_id, "value": value });
        self.call(Method::POST, &path, &[], Some(&body)).await.map(|_| ())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let answer = self.send(method.clone(), path, query, body).await?;
        checked(method, path, answer).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.base))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method.clone(), url).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.with_context(|| format!("{method} {path}"))
    }
}

/// An answer that is a success.
async fn checked(method: Method, path: &str, answer: Response) -> anyhow::Result<Response> {
    if !answer.status().is_success() {
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        bail!("{method} {path} was answered {status}: {text}");
    }
    Ok(answer)
}
