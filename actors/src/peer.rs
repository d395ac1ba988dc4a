//! Peers: who they are, and the client that speaks to one with signed requests.
//!
//! Every request has a total deadline, no redirect is followed, and an answer's length is bounded. Never here: when
//! something is sent, or what becomes of the outbox.

mod answer;
mod outgoing;
mod own;
pub mod v1;

use std::{collections::HashSet, fmt, io::Write, sync::Arc, time::Duration};

use answer::Verdict;
use flate2::{Compression, write::GzEncoder};
use reqwest::{
    Method, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use velox_protocol::{
    federation::Probe,
    signature::{KEY_HEADER, NONCE_HEADER, SIGNATURE_HEADER, Signed, TIME_HEADER, key_id},
    time::Clock,
};
use velox_store::{RelayEntry, RelayTarget};

pub use answer::Relayed;
pub use outgoing::relay_body;
pub use own::OwnIdentity;

/// Total deadline of a request to a peer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Of it for the connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Idle connections are given up before the peer does: its own limit is 75 s.
const IDLE: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Longest wait that a peer may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Shorter bodies gain nothing by gzip.
const GZIP_FROM: usize = 1024;
/// Where native nodes take each other's events.
const RELAY_PATH: &str = "/sync/federation/relay";
/// Where a native node says who it is.
const PROBE_PATH: &str = "/sync/federation/probe";

/// A key shared with a peer; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerKey(String);

impl PeerKey {
    /// A key as configured.
    pub fn new(text: impl Into<String>) -> Self {
        PeerKey(text.into())
    }

    /// The key itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerKey(…)")
    }
}

/// How a peer is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Signed requests.
    Velox,
    /// The deployed wire, with the shared secret as bearer.
    V1,
}

/// A configured peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Unique among the peers.
    pub name: String,
    /// Base URL, without a slash at its end.
    pub url: String,
    /// One or two; the first signs, all are taken.
    pub keys: Vec<PeerKey>,
    /// Stores served with it; `None`: all.
    pub stores: Option<HashSet<Uuid>>,
    /// How it is spoken to.
    pub protocol: Protocol,
}

impl Peer {
    /// Whether the store is served with this peer.
    pub fn serves(&self, store_id: Uuid) -> bool {
        self.stores.as_ref().is_none_or(|stores| stores.contains(&store_id))
    }

    /// What is queued for it.
    pub fn target(&self) -> RelayTarget {
        RelayTarget {
            name: self.name.clone(),
            stores: self.stores.as_ref().map(|stores| stores.iter().copied().collect()),
        }
    }
}

/// Why there is no answer of a peer that could be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection, or it broke.
    #[error("the peer cannot be reached: {0}")]
    Unreachable(String),
    /// No whole answer within the deadline.
    #[error("the peer did not answer in time")]
    Timeout,
    /// 401 or 403: something answers, but not to us.
    #[error("the peer refuses this node: {status} {code}")]
    Unauthorized {
        /// 401 or 403.
        status: u16,
        /// The peer's reason, such as a clock that is off.
        code: String,
    },
    /// 413.
    #[error("the request is too large for the peer")]
    TooLarge,
    /// Another status than 200.
    #[error("the peer answered {status}")]
    Status {
        /// Which.
        status: u16,
        /// How long the peer wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// 200 with something else than an answer.
    #[error("the peer's answer is none: {0}")]
    Malformed(&'static str),
}

impl Failure {
    /// Whether the peer answers, though not as it should: a fault of the request cannot be ruled out.
    pub fn is_server_error(&self) -> bool {
        matches!(self, Failure::Status { status: 500.., .. })
    }

    /// How long the peer wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether a node is there, whatever it says.
    pub fn is_reachable(&self) -> bool {
        matches!(
            self,
            Failure::Unauthorized { .. } | Failure::TooLarge | Failure::Status { status: 429 | 503, .. }
        )
    }
}

/// Speaks to one native peer. Clones share its connections.
#[derive(Clone)]
pub struct PeerClient {
    peer: Arc<Peer>,
    own: OwnIdentity,
    clock: Arc<dyn Clock>,
    http: reqwest::Client,
}

/// A request before it is signed.
pub struct Request<'a> {
    /// GET or POST.
    pub method: Method,
    /// From the slash on, with the query.
    pub path: &'a str,
    /// Media type of the body.
    pub content_type: &'static str,
    /// As it is sent, unless it is worth to be compressed.
    pub body: Vec<u8>,
    /// For the whole exchange.
    pub deadline: Duration,
}

impl PeerClient {
    /// A client of this peer, for this node.
    ///
    /// # Errors
    /// Where no TLS can be set up.
    pub fn new(peer: Arc<Peer>, own: OwnIdentity, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .build()?;
        Ok(PeerClient { peer, own, clock, http })
    }

    /// The peer.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Who speaks.
    pub fn own(&self) -> &OwnIdentity {
        &self.own
    }

    /// Sends events; none: a trial whether the peer would take some.
    ///
    /// # Errors
    /// Whatever is no well-formed answer.
    pub async fn relay(&self, entries: &[RelayEntry]) -> Result<Relayed, Failure> {
        let body = relay_body(&self.own.get(), entries);
        let request = Request {
            method: Method::POST,
            path: RELAY_PATH,
            content_type: "application/json",
            body,
            deadline: DEADLINE,
        };
        let answer = self.send(request).await?;
        Verdict::read(&answer).map(|verdict| verdict.of(entries))
    }

    /// Asks who the peer is, outside of any breaker.
    ///
    /// # Errors
    /// Whatever is no well-formed answer.
    pub async fn probe(&self, limit: Duration) -> Result<Probe, Failure> {
        let request = Request {
            method: Method::GET,
            path: PROBE_PATH,
            content_type: "application/json",
            body: Vec::new(),
            deadline: limit,
        };
        let answer = self.send(request).await?;
        serde_json::from_slice(&answer).map_err(|_| Failure::Malformed("it names no node"))
    }

    /// Sends a signed request and reads the body of its 200.
    ///
    /// # Errors
    /// Whatever is no 200.
    pub async fn send(&self, request: Request<'_>) -> Result<Vec<u8>, Failure> {
        let (body, is_gzip) = compressed(request.body);
        let body_sha256: [u8; 32] = Sha256::digest(&body).into();
        let key = self.peer.keys.first().ok_or(Failure::Malformed("no key is configured"))?;
        let url = reqwest::Url::parse(&format!("{}{}", self.peer.url, request.path))
            .map_err(|_| Failure::Unreachable("its URL is none".to_owned()))?;
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let (id, nonce) = (key_id(key.expose()), format!("{:032x}", rand::random::<u128>()));
        let signed = Signed {
            method: request.method.as_str(),
            path_and_query: &path,
            body_sha256: &body_sha256,
            time: self.clock.now().timestamp_millis(),
            nonce: &nonce,
            key_id: &id,
        };
        let mut http = self
            .http
            .request(request.method.clone(), url)
            .timeout(request.deadline)
            .header(KEY_HEADER, &id)
            .header(TIME_HEADER, signed.time)
            .header(NONCE_HEADER, &nonce)
            .header(SIGNATURE_HEADER, signed.signature(key.expose()));
        if !body.is_empty() {
            http = http.header(CONTENT_TYPE, request.content_type);
        }
        if is_gzip {
            http = http.header(CONTENT_ENCODING, "gzip");
        }
        http = crate::trace::inject(http);
        let response = http.body(body).send().await.map_err(|error| unsent(&error))?;
        read(response).await
    }
}

fn compressed(body: Vec<u8>) -> (Vec<u8>, bool) {
    if body.len() < GZIP_FROM {
        return (body, false);
    }
    let mut gzip = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory does not fail; if it did, the body goes as it is.
    match gzip.write_all(&body).and_then(|()| gzip.finish()) {
        Ok(smaller) => (smaller, true),
        Err(_) => (body, false),
    }
}

/// The body of a 200, within bounds; everything else is a failure.
pub(crate) async fn read(response: Response) -> Result<Vec<u8>, Failure> {
    let status = response.status();
    if status != StatusCode::OK {
        return Err(match status.as_u16() {
            413 => Failure::TooLarge,
            code @ (401 | 403) => {
                let body = response.bytes().await.unwrap_or_default();
                Failure::Unauthorized { status: code, code: problem_code(&body) }
            }
            code => Failure::Status { status: code, retry_after: retry_after(response.headers()) },
        });
    }
    body_of(response).await
}

/// The body, within bounds, whatever the status.
async fn body_of(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unsent(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Failure::Malformed("it is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

pub(crate) fn unsent(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::Timeout;
    }
    // The innermost cause says it best, and names no URL.
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Failure::Unreachable(cause.to_string())
}

/// The `code` of a problem; a stranger's words are not taken over.
fn problem_code(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Problem {
        code: String,
    }
    let code = serde_json::from_slice::<Problem>(body).map(|problem| problem.code).unwrap_or_default();
    let plain = code.len() <= 40 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    if plain { code } else { String::new() }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
