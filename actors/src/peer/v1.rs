//! The client that speaks to a v1 node: its own wire, with the shared secret as bearer.
//!
//! v1 takes one event a request and refuses every field that it does not know. Every request has a total deadline.
//! Never here: when something is sent, or what becomes of the outbox.

mod outgoing;
pub mod reconcile;

use super::answer::Verdict;
use super::{CONNECT, DEADLINE, Failure, IDLE, Peer, Relayed, body_of, read, unsent};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::v1::{IdPage, Kind, ReplayAnswer, unsendable};
use velox_store::RelayEntry;

/// Where v1 says how its federation goes; nobody but a peer may ask.
const STATUS_PATH: &str = "/sync/federation/status";
/// Longest text of a refusal that is kept: it is the peer's.
const MAX_REASON: usize = 500;
/// Most ids of one replay call: v1 takes bodies of 100 kB.
const MAX_ASKED: usize = 500;

/// Speaks to one v1 node. Clones share its connections.
#[derive(Clone)]
pub struct V1Client {
    peer: Arc<Peer>,
    http: reqwest::Client,
}

/// Which part of an id list is wanted: days as `YYYY-MM-DD`, both included.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The shop.
    pub store_id: Uuid,
    /// The first day.
    pub from: &'a str,
    /// The last day.
    pub to: &'a str,
    /// Most ids.
    pub limit: u32,
    /// So many are passed over.
    pub offset: u64,
}

impl V1Client {
    /// A client of this peer.
    ///
    /// # Errors
    /// Where no TLS can be set up.
    pub fn new(peer: Arc<Peer>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .build()?;
        Ok(V1Client { peer, http })
    }

    /// The peer.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Why an event can never be sent; `None`: it can.
    pub fn unsendable(entry: &RelayEntry) -> Option<&'static str> {
        let form = entry.effective()?;
        unsendable(&form.event_type, &entry.event_id, &form.device_id)
    }

    /// Sends one event, in the form that counts. 400 is its refusal.
    ///
    /// # Errors
    /// Whatever is neither a well-formed answer nor a 400.
    pub async fn relay(&self, entry: &RelayEntry) -> Result<Relayed, Failure> {
        let body = outgoing::push_body(entry).ok_or(Failure::Malformed("the event has no form"))?;
        let request = self.request(Method::POST, "/sync/push", DEADLINE)?;
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let response = crate::trace::inject(request).send().await.map_err(|error| unsent(&error))?;
        if response.status() == StatusCode::BAD_REQUEST {
            let reason = refusal(&body_of(response).await?);
            let refused = vec![(entry.store_id, entry.event_id.clone(), reason)];
            return Ok(Relayed { refused, ..Relayed::default() });
        }
        let answer = taken(response).await?;
        Verdict::read(&answer).map(|verdict| verdict.of(std::slice::from_ref(entry)))
    }

    /// Whether anybody is there; needs no secret.
    ///
    /// # Errors
    /// Whatever is no 200.
    pub async fn ping(&self, limit: Duration) -> Result<(), Failure> {
        let request = self.request(Method::GET, "/ping", limit)?;
        read(request.send().await.map_err(|error| unsent(&error))?).await.map(drop)
    }

    /// Whether the peer is there and takes this node for what it is.
    ///
    /// # Errors
    /// Whatever is no status of a federation.
    pub async fn status(&self, limit: Duration) -> Result<(), Failure> {
        let status: Value = self.get(STATUS_PATH, limit).await?;
        match status.get("enabled") {
            Some(Value::Bool(_)) => Ok(()),
            _ => Err(Failure::Malformed("it is no status of a federation")),
        }
    }

    /// A page of an id list.
    ///
    /// # Errors
    /// Whatever is no id list.
    pub async fn ids(&self, kind: Kind, wanted: Wanted<'_>) -> Result<IdPage, Failure> {
        let Wanted { store_id, from, to, limit, offset } = wanted;
        let list = kind.list();
        let path = format!(
            "/sync/federation/{list}?store_id={store_id}&date_from={from}&date_to={to}&limit={limit}&offset={offset}"
        );
        self.get(&path, DEADLINE).await
    }

    /// Has the peer relay what these ids name; answers once it has them queued.
    ///
    /// # Errors
    /// Whatever is no answer to a replay; some of the ids may have been asked for then.
    pub async fn replay(&self, kind: Kind, store_id: Uuid, ids: &[Uuid]) -> Result<ReplayAnswer, Failure> {
        let path = format!("/sync/federation/{}", kind.replay());
        let mut all = ReplayAnswer::default();
        for ids in ids.chunks(MAX_ASKED) {
            let mut body = json!({ "store_id": store_id });
            body[kind.ids_field()] = json!(ids);
            let request = self.request(Method::POST, &path, DEADLINE)?.json(&body);
            let response = crate::trace::inject(request).send().await.map_err(|error| unsent(&error))?;
            let answer: ReplayAnswer = parsed(&taken(response).await?)?;
            all.found += answer.found;
            all.queued += answer.queued;
        }
        Ok(all)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, limit: Duration) -> Result<T, Failure> {
        let request = crate::trace::inject(self.request(Method::GET, path, limit)?);
        parsed(&read(request.send().await.map_err(|error| unsent(&error))?).await?)
    }

    fn request(&self, method: Method, path: &str, limit: Duration) -> Result<RequestBuilder, Failure> {
        let key = self.peer.keys.first().ok_or(Failure::Malformed("no key is configured"))?;
        let url = format!("{}{path}", self.peer.url);
        Ok(self.http.request(method, url).timeout(limit).bearer_auth(key.expose()))
    }
}

/// The body of a 200 or 201: v1's framework answers a POST with 201 where nothing else is said.
async fn taken(response: Response) -> Result<Vec<u8>, Failure> {
    if response.status() == StatusCode::CREATED { body_of(response).await } else { read(response).await }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|_| Failure::Malformed("it is not what was asked for"))
}

/// Why v1 refuses a request: its `message` is a text or a list of them.
fn refusal(body: &[u8]) -> String {
    let message = match serde_json::from_slice::<Value>(body).map(|mut body| body["message"].take()) {
        Ok(Value::String(text)) => text,
        Ok(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; "),
        _ => "no reason is given".to_owned(),
    };
    let plain: String = message.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    format!("400: {plain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_v1s_words_on_one_line() {
        let told = |body: &str| refusal(body.as_bytes());
        assert_eq!(told(r#"{"statusCode":400,"message":["a\nb","c"]}"#), "400: ab; c");
        assert_eq!(told(r#"{"message":"no"}"#), "400: no");
        assert_eq!(told("<html>"), "400: no reason is given");
        assert!(told(&format!(r#"{{"message":"{}"}}"#, "x".repeat(9_999))).len() < 600);
    }
}
