//! A v1 node for tests: as strict as v1 is, over real sockets, with what it keeps of a shop.
//!
//! It refuses what v1 refuses, gives the debt of a sale on credit a random id, and deletes a shop that it is told
//! does not exist elsewhere.

use crate::support::{TestNode, id, wait};
use crate::wire::now_ms;
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use uuid::Uuid;
use velox_protocol::canonical::{self, KeyOrder};
use velox_protocol::json::Json;

/// The secret that node and v1 node share.
pub(crate) const SECRET: &str = "the-admin-secret-that-all-v1-nodes-share";
/// Under which every v1 node writes.
pub(crate) const PSEUDO: &str = "00000000-0000-0000-0000-000000000001";

const TYPES: &[&str] = &[
    "ProductCreated",
    "ProductUpdated",
    "ProductDeactivated",
    "PriceChanged",
    "RecipeIngredientsUpdated",
    "StockReceived",
    "StockAdjusted",
    "StockDeltaApplied",
    "StockQuotaGranted",
    "StockQuotaTransferred",
    "StockQuotaReclaimed",
    "SaleCreated",
    "SaleVoided",
    "CashSessionOpened",
    "CashSessionClosed",
    "CustomerCreated",
    "CustomerUpdated",
    "DebtCreated",
    "DebtPaymentRecorded",
    "DebtPaymentAdded",
    "CashLedgerEntryCreated",
];
const CRITICAL: &[&str] = &[
    "SaleCreated",
    "StockReceived",
    "StockAdjusted",
    "CashSessionOpened",
    "CashSessionClosed",
    "DebtPaymentRecorded",
    "SaleVoided",
];

/// How it answers a push instead of taking it.
#[derive(Debug, Clone)]
pub(crate) struct Instead {
    /// The status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

impl Instead {
    pub(crate) fn status(status: u16) -> Self {
        Instead { status, body: json!({ "statusCode": status, "message": "no" }).to_string() }
    }

    fn response(&self) -> HttpResponse {
        let status = actix_web::http::StatusCode::from_u16(self.status).expect("a status");
        HttpResponse::build(status).insert_header(("location", "/elsewhere")).body(self.body.clone())
    }
}

/// What it keeps of a shop.
#[derive(Debug, Default)]
pub(crate) struct Shop {
    /// Its events as they came, with their devices.
    pub(crate) events: BTreeMap<String, (String, Value)>,
    /// Debts of its table: of sales on credit no event bears them.
    pub(crate) debts: BTreeMap<String, Value>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) shops: HashMap<Uuid, Shop>,
    /// Of every push and every event.
    pub(crate) instead: Option<Instead>,
    /// Of pushes of these events.
    pub(crate) instead_of: HashMap<String, Instead>,
    /// Refused inside a 200.
    pub(crate) refused: HashSet<String>,
    /// Bodies of pushes.
    pub(crate) pushes: Vec<Value>,
    /// Why pushes were refused as a whole.
    pub(crate) bad: Vec<String>,
    /// Path and body of all other calls.
    pub(crate) calls: Vec<(String, Value)>,
    /// Whether `/ping` fails too.
    pub(crate) dead: bool,
    peer: String,
    http: reqwest::Client,
}

/// The v1 node.
pub(crate) struct V1Node {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: ServerHandle,
}

impl V1Node {
    pub(crate) fn start() -> Self {
        // Fails where another test of this process was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::from(shared.clone()))
                .app_data(web::PayloadConfig::new(100 * 1024))
                .route("/ping", web::get().to(ping))
                .route("/sync/push", web::post().to(push))
                .route("/sync/federation/status", web::get().to(status))
                .route("/sync/federation/{call}", web::get().to(list))
                .route("/sync/federation/{call}", web::post().to(replay))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .expect("a port");
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        #[expect(
            clippy::disallowed_methods,
            reason = "a test's server is nobody's child; it ends with the test"
        )]
        actix_rt::spawn(server);
        V1Node { address, state, server: handle }
    }

    /// `VELOX_PEERS` of a node that has this one as its peer `v1`.
    pub(crate) fn as_peer(&self) -> String {
        self.as_peer_with(SECRET, None)
    }

    /// The same with another secret, or for these stores alone.
    pub(crate) fn as_peer_with(&self, secret: &str, stores: Option<&[Uuid]>) -> String {
        let mut peer = json!({ "name": "v1", "url": format!("http://{}", self.address), "key": secret,
            "protocol": "v1" });
        if let Some(stores) = stores {
            peer["stores"] = json!(stores);
        }
        json!([peer]).to_string()
    }

    /// A node of ours whose peer is this one, and the other way round.
    pub(crate) async fn with_node(&self, more: &[(&str, &str)]) -> TestNode {
        let peers = self.as_peer();
        let mut variables = vec![("VELOX_PEERS", peers.as_str())];
        variables.extend_from_slice(more);
        let node = TestNode::start_with(&variables).await;
        self.state().peer = format!("http://{}", node.node.address);
        node
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a state")
    }

    /// Whether it has the event.
    pub(crate) fn has(&self, store_id: Uuid, event_id: &str) -> bool {
        self.state().shops.get(&store_id).is_some_and(|shop| shop.events.contains_key(event_id))
    }

    /// Waits until it has the event.
    pub(crate) async fn gets(&self, store_id: Uuid, event_id: &str) {
        wait(&format!("{event_id} at the v1 node"), async || self.has(store_id, event_id)).await;
    }

    /// It has an event that nobody relays.
    pub(crate) fn keep(&self, store_id: Uuid, device_id: &str, event: &Value) {
        self.state().keep(store_id, device_id, event);
    }

    /// It relays one of its events, and gives the answer.
    pub(crate) async fn relay(&self, store_id: Uuid, device_id: &str, event: &Value) -> (u16, Value) {
        self.keep(store_id, device_id, event);
        let (peer, http) = {
            let state = self.state();
            (state.peer.clone(), state.http.clone())
        };
        relay(&http, &peer, store_id, device_id, event).await
    }

    /// Asks its peer with its secret.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (peer, http) = {
            let state = self.state();
            (state.peer.clone(), state.http.clone())
        };
        let method: reqwest::Method = method.parse().expect("a method");
        let mut request = http.request(method, format!("{peer}{path}")).bearer_auth(SECRET);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    /// What v1 does from time to time: a shop that does not exist at its peer is deleted.
    pub(crate) async fn check_store(&self, store_id: Uuid) -> (u16, Value) {
        let path = format!("/sync/federation/store-status?store_id={store_id}");
        let (status, body) = self.ask("GET", &path, None).await;
        if status == 200 && body["exists"] == json!(false) {
            self.state().shops.remove(&store_id);
        }
        (status, body)
    }

    pub(crate) async fn stop(self) {
        self.server.stop(false).await;
    }
}

/// v1's hash of a payload.
pub(crate) fn hash(payload: &Value) -> String {
    let text = payload.to_string();
    let hash = canonical::hash(&Json::parse(&text).expect("JSON"), KeyOrder::JavaScript);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An event as a v1 till makes it.
pub(crate) fn event(event_type: &str, payload: Value) -> Value {
    let event_id = id();
    let mut event = crate::support::event(event_type, payload);
    event["event_id"] = json!(event_id);
    event["actor"] = json!({ "user_id": id(), "role": "cashier" });
    if CRITICAL.contains(&event_type) {
        event["full_payload_hash"] = json!(hash(&event["payload"]));
        event["delta_payload"] = event["payload"].clone();
    }
    event
}

async fn relay(
    http: &reqwest::Client,
    peer: &str,
    store_id: Uuid,
    device_id: &str,
    event: &Value,
) -> (u16, Value) {
    let body = json!({ "store_id": store_id, "device_id": device_id, "client_version": "federation-relay-1.0",
        "events": [event] });
    let request = http.post(format!("{peer}/sync/push")).bearer_auth(SECRET).json(&body);
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

impl State {
    fn keep(&mut self, store_id: Uuid, device_id: &str, event: &Value) {
        let shop = self.shops.entry(store_id).or_default();
        let event_id = event["event_id"].as_str().expect("an id").to_owned();
        let is_new = shop.events.insert(event_id, (device_id.to_owned(), event.clone())).is_none();
        let payload = &event["payload"];
        match event["type"].as_str().unwrap_or_default() {
            "SaleCreated" if is_new && payload["payment"]["method"] == "FIAO" => {
                let known = shop.debts.values().any(|debt| debt["sale_id"] == payload["sale_id"]);
                if !known {
                    let debt = json!({ "debt_id": id(), "sale_id": payload["sale_id"],
                        "customer_id": payload["customer_id"], "created_at": payload["sold_at"],
                        "amount_bs": payload["totals"]["total_bs"], "amount_usd": payload["totals"]["total_usd"] });
                    shop.debts.insert(debt["debt_id"].as_str().expect("an id").to_owned(), debt);
                }
            }
            "DebtCreated" => {
                let of_sale =
                    |debt: &Value| debt["sale_id"] == payload["sale_id"] && !is_blank(&debt["sale_id"]);
                if !shop.debts.values().any(of_sale) {
                    let debt_id = payload["debt_id"].as_str().expect("an id").to_owned();
                    shop.debts.insert(debt_id, payload.clone());
                }
            }
            _ => {}
        }
    }
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value == ""
}

fn bad_request(message: &str) -> HttpResponse {
    HttpResponse::BadRequest()
        .json(json!({ "statusCode": 400, "message": [message], "error": "Bad Request" }))
}

fn is_authorized(request: &HttpRequest) -> bool {
    request.headers().get("authorization").is_some_and(|value| *value == format!("Bearer {SECRET}"))
}

fn unauthorized() -> HttpResponse {
    HttpResponse::Unauthorized().json(json!({ "statusCode": 401, "message": "Unauthorized" }))
}

async fn ping(state: web::Data<Mutex<State>>) -> HttpResponse {
    if state.lock().expect("a state").dead {
        return HttpResponse::InternalServerError().finish();
    }
    HttpResponse::Ok().json(json!({ "status": "ok", "timestamp": now_ms(), "message": "pong" }))
}

async fn status(state: web::Data<Mutex<State>>, request: HttpRequest) -> HttpResponse {
    if !is_authorized(&request) {
        return unauthorized();
    }
    let mut state = state.lock().expect("a state");
    state.calls.push(("status".to_owned(), Value::Null));
    if state.dead {
        return HttpResponse::InternalServerError().finish();
    }
    HttpResponse::Ok().json(
        json!({ "enabled": true, "remoteUrl": state.peer, "circuitBreakerState": "CLOSED",
        "queue": { "waiting": 0, "active": 0, "delayed": 0, "completed": 0, "failed": 0 },
        "remoteProbe": null, "lastRelayError": null }),
    )
}

async fn push(state: web::Data<Mutex<State>>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    if !is_authorized(&request) {
        return unauthorized();
    }
    let mut state = state.lock().expect("a state");
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return bad_request("no JSON") };
    state.pushes.push(body.clone());
    if let Err(why) = check_push(&body) {
        state.bad.push(why.clone());
        return bad_request(&why);
    }
    let event = &body["events"][0];
    let event_id = event["event_id"].as_str().unwrap_or_default().to_owned();
    if let Some(instead) = state.instead_of.get(&event_id).or(state.instead.as_ref()) {
        return instead.response();
    }
    let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
    let wrong_hash = CRITICAL.iter().any(|name| event["type"] == *name)
        && event.get("full_payload_hash").is_some_and(|sent| *sent != hash(&event["delta_payload"]));
    if wrong_hash || state.refused.contains(&event_id) {
        let code = if wrong_hash { "INTEGRITY_ERROR" } else { "VALIDATION_ERROR" };
        rejected.push(
            json!({ "event_id": event_id, "seq": event["seq"], "code": code, "message": "not this one" }),
        );
    } else {
        let store_id = body["store_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        state.keep(store_id, body["device_id"].as_str().expect("an id"), event);
        accepted.push(json!({ "event_id": event_id, "seq": event["seq"] }));
    }
    HttpResponse::Ok().json(json!({ "accepted": accepted, "rejected": rejected, "conflicted": [],
        "server_time": now_ms(), "last_processed_seq": event["seq"], "server_vector_clock": {},
        "causal_digest": "" }))
}

/// v1's own checks of a body: no field that it does not know, every id a UUID.
fn check_push(body: &Value) -> Result<(), String> {
    let top = only(body, &["store_id", "device_id", "client_version", "events"])?;
    uuid(top, "store_id")?;
    uuid(top, "device_id")?;
    let events = body["events"].as_array().ok_or("events must be an array")?;
    let [event] = events.as_slice() else { return Err("one event a request".to_owned()) };
    let known = [
        "event_id",
        "seq",
        "type",
        "version",
        "created_at",
        "actor",
        "payload",
        "vector_clock",
        "causal_dependencies",
        "delta_payload",
        "full_payload_hash",
        "request_id",
    ];
    let fields = only(event, &known)?;
    uuid(fields, "event_id")?;
    let actor = only(&event["actor"], &["user_id", "role"])?;
    uuid(actor, "user_id")?;
    let is = |holds: bool, why: &str| if holds { Ok(()) } else { Err(why.to_owned()) };
    is(matches!(event["actor"]["role"].as_str(), Some("owner" | "cashier")), "actor.role")?;
    is(event["type"].as_str().is_some_and(|name| TYPES.contains(&name)), "type")?;
    is(["seq", "version", "created_at"].iter().all(|key| event[*key].is_i64()), "a number is none")?;
    is(event["payload"].is_object(), "payload")?;
    is(fields.get("delta_payload").is_none_or(Value::is_object), "delta_payload")?;
    is(fields.get("full_payload_hash").is_none_or(Value::is_string), "full_payload_hash")?;
    if let Some(clock) = fields.get("vector_clock") {
        is(clock.as_object().is_some_and(|clock| clock.values().all(Value::is_i64)), "vector_clock")?;
    }
    let dependencies =
        fields.get("causal_dependencies").map(|ids| ids.as_array().ok_or("causal_dependencies"));
    for id in dependencies.transpose()?.into_iter().flatten() {
        is(id.as_str().is_some_and(|id| id.parse::<Uuid>().is_ok()), "causal_dependencies")?;
    }
    if fields.contains_key("request_id") { uuid(fields, "request_id") } else { Ok(()) }
}

fn only<'a>(value: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>, String> {
    let fields = value.as_object().ok_or("an object is none")?;
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("property {key} should not exist")),
        None => Ok(fields),
    }
}

fn uuid(fields: &Map<String, Value>, key: &str) -> Result<(), String> {
    let id = fields.get(key).and_then(Value::as_str).and_then(|id| id.parse::<Uuid>().ok());
    id.map(|_| ()).ok_or_else(|| format!("{key} must be a UUID"))
}

/// Ids and times of a list, in no order.
fn things(shop: &Shop, list: &str) -> Vec<(String, i64)> {
    let of = |types: &[&str], id: &str, at: &str| -> Vec<(String, i64)> {
        let named = |event: &Value| {
            let id = event["payload"][id].as_str().or(event["payload"]["session_id"].as_str())?;
            let at = event["payload"][at].as_i64().or(event["created_at"].as_i64())?;
            Some((id.to_owned(), at))
        };
        let events = shop.events.values().map(|(_, event)| event);
        events.filter(|e| types.iter().any(|name| e["type"] == *name)).filter_map(named).collect()
    };
    let sales = of(&["SaleCreated"], "sale_id", "sold_at");
    match list {
        "sales-ids" => sales,
        "voided-sales-ids" => {
            let voided = of(&["SaleVoided"], "sale_id", "none");
            sales.into_iter().filter(|(id, _)| voided.iter().any(|(other, _)| other == id)).collect()
        }
        "session-ids" => of(&["CashSessionOpened"], "cash_session_id", "opened_at"),
        "debt-payment-ids" => of(&["DebtPaymentRecorded", "DebtPaymentAdded"], "payment_id", "paid_at"),
        "inventory-movement-ids" => {
            of(&["StockReceived", "StockAdjusted", "StockDeltaApplied"], "movement_id", "none")
        }
        "debt-ids" => {
            let at = |debt: &Value| debt["created_at"].as_i64().unwrap_or_else(now_ms);
            shop.debts.iter().map(|(id, debt)| (id.clone(), at(debt))).collect()
        }
        other => panic!("v1 has no list {other}"),
    }
}

#[derive(serde::Deserialize)]
struct ListQuery {
    store_id: Uuid,
    date_from: String,
    date_to: String,
    limit: usize,
    offset: usize,
}

async fn list(
    state: web::Data<Mutex<State>>,
    request: HttpRequest,
    call: web::Path<String>,
    query: web::Query<ListQuery>,
) -> HttpResponse {
    if !is_authorized(&request) {
        return unauthorized();
    }
    let mut state = state.lock().expect("a state");
    state.calls.push((call.to_string(), json!(request.query_string())));
    let day =
        |at: i64| chrono::DateTime::from_timestamp_millis(at).expect("a time").format("%Y-%m-%d").to_string();
    let mut all = state.shops.get(&query.store_id).map(|shop| things(shop, &call)).unwrap_or_default();
    all.retain(|(_, at)| (query.date_from.as_str()..=query.date_to.as_str()).contains(&day(*at).as_str()));
    all.sort_by_key(|(id, at)| (*at, id.clone()));
    let ids: Vec<&String> = all.iter().map(|(id, _)| id).skip(query.offset).take(query.limit).collect();
    HttpResponse::Ok().json(json!({ "total": all.len(), "ids": ids }))
}

/// Relays what is asked for; a debt that no event bears comes as an event of the node.
async fn replay(
    state: web::Data<Mutex<State>>,
    request: HttpRequest,
    call: web::Path<String>,
    body: web::Json<Value>,
) -> HttpResponse {
    if !is_authorized(&request) {
        return unauthorized();
    }
    let store_id: Uuid = body["store_id"].as_str().and_then(|id| id.parse().ok()).expect("a store");
    let (asked, found, peer, http) = {
        let mut state = state.lock().expect("a state");
        state.calls.push((call.to_string(), body.clone()));
        let (field, key) = match call.as_str() {
            "replay-sales" => ("sale_ids", "sale_id"),
            "replay-debts" => ("debt_ids", "debt_id"),
            "replay-debt-payments" => ("payment_ids", "payment_id"),
            "replay-sessions" => ("session_ids", "cash_session_id"),
            "replay-inventory" => ("movement_ids", "movement_id"),
            _ => return HttpResponse::NotFound().finish(),
        };
        let asked: Vec<String> = body[field]
            .as_array()
            .expect("ids")
            .iter()
            .map(|id| id.as_str().expect("an id").to_owned())
            .collect();
        let found = state.shops.get(&store_id).map(|shop| of(shop, &call, key, &asked)).unwrap_or_default();
        (asked, found, state.peer.clone(), state.http.clone())
    };
    for (device_id, event) in &found {
        let (status, answer) = relay(&http, &peer, store_id, device_id, event).await;
        assert_eq!((status, &answer["rejected"]), (200, &json!([])), "{event}");
    }
    HttpResponse::Created()
        .json(json!({ "requested": asked.len(), "found": found.len(), "queued": found.len(),
        "missingIds": [] }))
}

fn of(shop: &Shop, call: &str, key: &str, asked: &[String]) -> Vec<(String, Value)> {
    let is_asked = |id: &Value| id.as_str().is_some_and(|id| asked.iter().any(|asked| asked == id));
    let bears = |event: &Value| {
        let payload = &event["payload"];
        let of_debt = event["type"] == "DebtCreated";
        (is_asked(&payload[key]) || key == "cash_session_id" && is_asked(&payload["session_id"]))
            && of_debt == (call == "replay-debts")
            && (call != "replay-sales"
                || matches!(event["type"].as_str(), Some("SaleCreated" | "SaleVoided")))
            && (call != "replay-sessions"
                || event["type"].as_str().is_some_and(|t| t.starts_with("CashSession")))
    };
    let mut found: Vec<(String, Value)> =
        shop.events.values().filter(|(_, event)| bears(event)).cloned().collect();
    if call == "replay-debts" {
        for (_, debt) in shop.debts.iter().filter(|(id, _)| asked.contains(id)) {
            if found.iter().all(|(_, event)| event["payload"]["debt_id"] != debt["debt_id"]) {
                let mut made = event("DebtCreated", debt.clone());
                made["vector_clock"] = json!({ PSEUDO: now_ms() });
                made["full_payload_hash"] = json!(hash(debt));
                found.push((PSEUDO.to_owned(), made));
            }
        }
    }
    found
}
