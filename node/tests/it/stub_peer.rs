//! A native peer that answers as it is told to: it checks signatures, keeps what it was sent, and can do everything
//! that a peer must not.

use crate::pair::{KEY, free_address};
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use velox_protocol::signature::{KEY_HEADER, NONCE_HEADER, SIGNATURE_HEADER, Signed, TIME_HEADER, key_id};

/// What is answered to a relay that brings events.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// All are accepted.
    Good,
    /// A status, a header and a body, whatever comes; also to trials.
    Answer(u16, Option<(&'static str, String)>, String),
    /// As [`Behaviour::Answer`] where this event is among them.
    FailsAt(String, u16),
    /// These are refused.
    Refuses(HashSet<String>),
    /// More than so many at once are too many.
    AtMost(usize),
    /// Only so many are named.
    NamesFewer(usize),
    /// Names ids that were never sent.
    NamesOthers,
}

/// The peer.
pub(crate) struct StubPeer {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: web::Data<Shared>,
    server: actix_web::dev::ServerHandle,
}

struct Shared {
    key: &'static str,
    behaviour: Mutex<Behaviour>,
    /// Batches of events, in the order of their arrival; trials are empty ones.
    batches: Mutex<Vec<Vec<Value>>>,
    /// Events that were accepted, in that order.
    accepted: Mutex<Vec<Value>>,
    elsewhere: Mutex<usize>,
    compared: Mutex<usize>,
}

impl StubPeer {
    /// A peer at a free port.
    pub(crate) async fn start() -> Self {
        Self::start_at(free_address()).await
    }

    /// A peer at this port.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self::start_with(address, KEY).await
    }

    /// A peer at this port, with this key.
    pub(crate) async fn start_with(address: SocketAddr, key: &'static str) -> Self {
        let shared = web::Data::new(Shared {
            key,
            behaviour: Mutex::new(Behaviour::Good),
            batches: Mutex::default(),
            accepted: Mutex::default(),
            elsewhere: Mutex::new(0),
            compared: Mutex::new(0),
        });
        let for_app = shared.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(for_app.clone())
                .route("/sync/federation/relay", web::post().to(relay))
                .route("/sync/federation/reconcile", web::post().to(compare))
                .route("/elsewhere", web::to(elsewhere))
        })
        .workers(1)
        .bind(address)
        .expect("a port")
        .run();
        let handle = server.handle();
        #[expect(clippy::disallowed_methods, reason = "it ends with its test")]
        actix_web::rt::spawn(server);
        StubPeer { address, shared, server: handle }
    }

    /// Behaves so from now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    /// All batches so far.
    pub(crate) fn batches(&self) -> Vec<Vec<Value>> {
        self.shared.batches.lock().unwrap().clone()
    }

    /// What it has accepted, in the order of arrival.
    pub(crate) fn accepted(&self) -> Vec<Value> {
        self.shared.accepted.lock().unwrap().clone()
    }

    /// Forgets what it was sent.
    pub(crate) fn forget(&self) {
        self.shared.batches.lock().unwrap().clear();
        self.shared.accepted.lock().unwrap().clear();
    }

    /// Requests to `/elsewhere`, to which nobody should go.
    pub(crate) fn elsewhere(&self) -> usize {
        *self.shared.elsewhere.lock().unwrap()
    }

    /// Messages of comparisons, to none of which it has an answer.
    pub(crate) fn compared(&self) -> usize {
        *self.shared.compared.lock().unwrap()
    }

    /// Ends it; connections break.
    pub(crate) async fn stop(self) {
        self.server.stop(false).await;
    }
}

/// The ids of events.
pub(crate) fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect()
}

async fn compare(shared: web::Data<Shared>) -> HttpResponse {
    *shared.compared.lock().unwrap() += 1;
    HttpResponse::InternalServerError().finish()
}

async fn elsewhere(shared: web::Data<Shared>) -> HttpResponse {
    *shared.elsewhere.lock().unwrap() += 1;
    HttpResponse::Ok().json(json!({ "accepted": [], "rejected": [] }))
}

async fn relay(shared: web::Data<Shared>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    // As it was sent: other extractors inflate.
    let body = payload.to_bytes_limited(64 << 20).await.expect("a bounded body").expect("a body");
    if !is_signed(&request, &body, shared.key) {
        return HttpResponse::Unauthorized().finish();
    }
    let events = events(&request, &body);
    shared.batches.lock().unwrap().push(events.clone());
    let behaviour = shared.behaviour.lock().unwrap().clone();
    match behaviour {
        Behaviour::Answer(status, header, text) => {
            let mut answer = HttpResponse::build(StatusCode::from_u16(status).unwrap());
            if let Some((name, value)) = header {
                answer.insert_header((name, value));
            }
            answer.body(text)
        }
        Behaviour::FailsAt(event_id, status) if ids(&events).contains(&event_id) => {
            HttpResponse::build(StatusCode::from_u16(status).unwrap()).finish()
        }
        Behaviour::AtMost(most) if events.len() > most => HttpResponse::PayloadTooLarge().finish(),
        Behaviour::NamesOthers => answer(&[json!({ "event_id": "no-such-event" })], &[]),
        Behaviour::NamesFewer(few) => shared.accept(&events[..few.min(events.len())], &[]),
        Behaviour::Refuses(refused) => {
            let is_refused = |event: &&Value| refused.contains(event["event_id"].as_str().unwrap());
            let (no, yes): (Vec<&Value>, Vec<&Value>) = events.iter().partition(is_refused);
            let yes: Vec<Value> = yes.into_iter().cloned().collect();
            let no: Vec<Value> = no.into_iter().cloned().collect();
            shared.accept(&yes, &no)
        }
        Behaviour::Good | Behaviour::FailsAt(..) | Behaviour::AtMost(_) => shared.accept(&events, &[]),
    }
}

impl Shared {
    fn accept(&self, events: &[Value], refused: &[Value]) -> HttpResponse {
        self.accepted.lock().unwrap().extend_from_slice(events);
        answer(events, refused)
    }
}

fn answer(accepted: &[Value], refused: &[Value]) -> HttpResponse {
    let accepted: Vec<Value> =
        accepted.iter().map(|e| json!({ "event_id": e["event_id"], "seq": e["seq"] })).collect();
    let rejected: Vec<Value> = refused
        .iter()
        .map(|e| json!({ "event_id": e["event_id"], "code": "VALIDATION_ERROR", "message": "not to my taste" }))
        .collect();
    HttpResponse::Ok().json(json!({ "accepted": accepted, "rejected": rejected }))
}

fn is_signed(request: &HttpRequest, body: &[u8], key: &str) -> bool {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let id = key_id(key);
    let signed = Signed {
        method: request.method().as_str(),
        path_and_query: request.uri().path_and_query().expect("a path").as_str(),
        body_sha256: &Sha256::digest(body).into(),
        time: header(TIME_HEADER).parse().unwrap_or(0),
        nonce: header(NONCE_HEADER),
        key_id: &id,
    };
    header(KEY_HEADER) == id && signed.is_signed_by(key, header(SIGNATURE_HEADER))
}

fn events(request: &HttpRequest, body: &[u8]) -> Vec<Value> {
    let mut text = Vec::new();
    if request.headers().contains_key("content-encoding") {
        flate2::read::GzDecoder::new(body).read_to_end(&mut text).expect("gzip");
    } else {
        text.extend_from_slice(body);
    }
    let body: Value = serde_json::from_slice(&text).expect("JSON");
    body["events"].as_array().expect("events").clone()
}
