//! Who may call what: every route against every credential, unknown routes, wrong methods.

use crate::conflicts::two_prices;
use crate::support::{ADMIN, Answer, Client, JWT_SECRET, TestNode, Till, event, id};
use crate::wire::{claims, jwt, problem, signed};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;
use velox_protocol::payload::derived_debt_id;

/// Statuses by caller, in the order of [`CALLERS`].
type Row = [u16; 16];

const CALLERS: [&str; 16] = [
    "nobody",
    "a malformed credential",
    "an unknown credential",
    "a JWT that ended within the grace",
    "a JWT that ended before it",
    "a JWT of another secret",
    "a JWT of no algorithm",
    "a JWT of another store",
    "a JWT of an unknown store",
    "a revoked device",
    "a device of another store",
    "the device",
    "the device in another's name",
    "a JWT of the store",
    "the admin",
    "the admin without a store",
];
const OPEN: Row = [200; 16];
const SYNC: Row = [401, 401, 401, 200, 401, 401, 401, 403, 403, 401, 403, 200, 403, 200, 200, 400];
const READ: Row = [401, 401, 401, 401, 401, 401, 401, 403, 403, 401, 403, 200, 200, 200, 200, 200];
/// Of the caller's store, whatever the device.
const STORE: Row = [401, 401, 401, 200, 401, 401, 401, 403, 403, 401, 403, 200, 200, 200, 200, 400];
const KEYS: Row = [401, 401, 401, 401, 401, 401, 401, 403, 403, 401, 403, 403, 403, 403, 200, 200];
const KEYS_OF_STORE: Row = [401, 401, 401, 401, 401, 401, 401, 403, 403, 401, 403, 403, 403, 403, 201, 400];
/// Of v1 nodes and the admin, for a store.
const NODES: Row = [401, 401, 401, 403, 401, 401, 401, 403, 403, 401, 403, 403, 403, 403, 200, 400];
/// Of v1 nodes and the admin, for no store.
const ANY_NODE: Row = [401, 401, 401, 403, 401, 401, 401, 403, 403, 401, 403, 403, 403, 403, 200, 200];
/// Of native peers alone, whose requests are signed: see `peer_signatures`.
const SIGNED: Row = [401; 16];
/// Of the admin alone, under `/sync`, where a JWT lasts longer.
const HANDS: Row = NODES;
/// What makes the admin's requests of [`CALLERS`]' last row: this is left out of path and body.
const STORE_PARTS: [&str; 2] = ["store_id={store}&", r#""store_id":"{store}","#];

/// Method, path, body, and who gets what. Placeholders: see [`World::fill`].
const ROUTES: &[(&str, &str, &str, Row)] = &[
    ("POST", "/sync/push", r#"{"store_id":"{store}","device_id":"{device}","events":[]}"#, SYNC),
    ("GET", "/sync/pull?store_id={store}&device_id={device}", "", SYNC),
    ("GET", "/sync/status?store_id={store}&device_id={device}", "", SYNC),
    ("GET", "/sync/last-seq?store_id={store}&device_id={device}", "", SYNC),
    ("GET", "/sync/snapshot?store_id={store}&", "", STORE),
    ("GET", "/sync/conflicts/audit?store_id={store}&limit=9", "", STORE),
    ("GET", "/sync/conflicts/unresolved?store_id={store}&limit=9", "", STORE),
    (
        "POST",
        "/sync/conflicts/{conflict}/resolve",
        r#"{"store_id":"{store}","value":{"price_usd":"3"}}"#,
        STORE,
    ),
    (
        "POST",
        "/sync/resolve-conflict",
        r#"{"store_id":"{store}","conflict_id":"{conflict}","resolution":"keep_mine"}"#,
        STORE,
    ),
    ("GET", "/sync/events/{event}?store_id={store}&of=it", "", STORE),
    (
        "POST",
        "/fiscal/reserve-range",
        r#"{"store_id":"{store}","series_id":"{series}","device_id":"{device}"}"#,
        SYNC,
    ),
    ("GET", "/fiscal/active-range?store_id={store}&series_id={series}&device_id={device}", "", SYNC),
    ("GET", "/fiscal/device-ranges?store_id={store}&device_id={device}", "", SYNC),
    (
        "POST",
        "/fiscal/consume",
        r#"{"store_id":"{store}","series_id":"{series}","device_id":"{device}"}"#,
        SYNC,
    ),
    ("POST", "/fiscal/report", r#"{"store_id":"{store}","range_id":"{range}","used_up_to":1}"#, STORE),
    ("GET", "/fiscal/ranges?store_id={store}&limit=9", "", STORE),
    ("GET", "/fiscal/ledger?store_id={store}&series_id={series}", "", STORE),
    ("POST", "/fiscal/series", r#"{"store_id":"{store}","series_id":"{series}","name":"A"}"#, HANDS),
    ("GET", "/sync/outbox?store_id={store}&limit=9", "", HANDS),
    ("GET", "/sync/outbox/stats?store_id={store}&of=it", "", ANY_NODE),
    ("POST", "/sync/outbox/requeue", r#"{"store_id":"{store}","status":"dead"}"#, HANDS),
    ("GET", "/sync/federation/sales-ids?store_id={store}&limit=9", "", NODES),
    ("GET", "/sync/federation/voided-sales-ids?store_id={store}&limit=9", "", NODES),
    ("GET", "/sync/federation/session-ids?store_id={store}&limit=9", "", NODES),
    ("GET", "/sync/federation/debt-ids?store_id={store}&limit=9", "", NODES),
    ("GET", "/sync/federation/debt-payment-ids?store_id={store}&limit=9", "", NODES),
    ("GET", "/sync/federation/inventory-movement-ids?store_id={store}&limit=9", "", NODES),
    ("POST", "/sync/federation/replay-sales", r#"{"store_id":"{store}","sale_ids":[]}"#, NODES),
    ("POST", "/sync/federation/replay-sessions", r#"{"store_id":"{store}","session_ids":[]}"#, NODES),
    ("POST", "/sync/federation/replay-debts", r#"{"store_id":"{store}","debt_ids":[]}"#, NODES),
    ("POST", "/sync/federation/replay-debt-payments", r#"{"store_id":"{store}","payment_ids":[]}"#, NODES),
    ("POST", "/sync/federation/replay-inventory", r#"{"store_id":"{store}","movement_ids":[]}"#, NODES),
    ("POST", "/sync/federation/reconcile-inventory-stock", r#"{"store_id":"{store}","why":"x"}"#, NODES),
    ("GET", "/sync/federation/store-status?store_id={store}&of=it", "", NODES),
    ("GET", "/sync/federation/status", "", ANY_NODE),
    ("POST", "/sync/federation/auto-reconcile", r#"{"store_id":"{store}","dry_run":true}"#, NODES),
    ("POST", "/sync/federation/relay", r#"{"events":[]}"#, SIGNED),
    ("POST", "/sync/federation/reconcile", "", SIGNED),
    ("POST", "/sync/federation/events", r#"{"store_id":"{store}","event_ids":[]}"#, SIGNED),
    ("GET", "/sync/federation/probe", "", SIGNED),
    ("GET", "/sync/federation/triage?store_id={store}", "", SIGNED),
    ("POST", "/sync/federation/heal", r#"{"store_id":"{store}","why":"x"}"#, SIGNED),
    (
        "POST",
        "/sync/federation/replay",
        r#"{"store_id":"{store}","event_ids":[],"target":"projection"}"#,
        HANDS,
    ),
    ("GET", "/sync/triage?store_id={store}&of=it", "", HANDS),
    ("POST", "/sync/heal", r#"{"store_id":"{store}","why":"x"}"#, HANDS),
    ("POST", "/sync/heal-projections", r#"{"store_id":"{store}","why":"x"}"#, NODES),
    ("GET", "/stores/{store}/sales", "", READ),
    ("GET", "/stores/{store}/sales/{sale}", "", READ),
    ("GET", "/stores/{store}/debts", "", READ),
    ("GET", "/stores/{store}/debts/{debt}", "", READ),
    ("GET", "/stores/{store}/products", "", READ),
    ("GET", "/stores/{store}/customers", "", READ),
    ("GET", "/stores/{store}/cash-sessions", "", READ),
    ("GET", "/stores/{store}/cash-ledger", "", READ),
    ("GET", "/stores/{store}/stock", "", READ),
    ("GET", "/stores/{store}/stock-movements", "", READ),
    ("GET", "/stores/{store}/notifications", "", READ),
    ("POST", "/stores/{store}/notifications/{notification}/read", "", READ),
    ("GET", "/admin/actors", "", KEYS),
    ("GET", "/admin/stores", "", KEYS),
    ("POST", "/admin/stores", r#"{"store_id":"{store}","name":"Bodega"}"#, KEYS),
    ("GET", "/admin/devices", "", KEYS),
    ("POST", "/admin/devices", r#"{"store_id":"{store}","device_id":"{spare}"}"#, KEYS_OF_STORE),
    ("DELETE", "/admin/devices/{store}/{spare}", "", KEYS),
    ("GET", "/chaos/faults", "", KEYS),
    ("POST", "/chaos/faults", r#"{"actor":"projector.debt","fault":"delay","delay_ms":1,"times":1}"#, KEYS),
    ("DELETE", "/chaos/faults", "", KEYS),
    ("GET", "/ping", "", OPEN),
    ("GET", "/healthz", "", OPEN),
    ("GET", "/readyz", "", OPEN),
    ("GET", "/metrics", "", OPEN),
    ("GET", "/openapi.json", "", OPEN),
    ("GET", "/docs", "", OPEN),
    ("GET", "/docs/", "", OPEN),
];

/// Two shops, of which one has a sale on credit.
struct World {
    node: TestNode,
    till: Till,
    other: Till,
    revoked: Till,
    spare: Till,
    sale_id: Uuid,
    event_id: String,
    conflict_id: Uuid,
    notification_id: Uuid,
    series_id: String,
    range_id: String,
}

impl World {
    async fn new() -> World {
        let node = TestNode::start_with(&[("VELOX_PEERS", &v1_nodes())]).await;
        let client = &node.client;
        let till = client.till().await;
        let revoked = client.till_of(till.store_id).await;
        let path = format!("/admin/devices/{}/{}", till.store_id, revoked.device_id);
        assert_eq!(client.call("DELETE", &path, ADMIN, None).await.status, 200);
        let sale_id = id().parse().expect("a UUID");
        let sale = json!({ "sale_id": sale_id, "items": [], "total": 5, "payment": { "method": "FIAO" },
            "customer_id": id() });
        let sale = event("SaleCreated", sale);
        let event_id = sale["event_id"].as_str().expect("an id").to_owned();
        client.push(&till, &[sale]).await;
        let other = client.till().await;
        let spare = client.till_of(till.store_id).await;
        let conflict_id = two_prices(&node, &till, &spare).await.0;
        let told =
            "INSERT INTO notifications (store_id, type, subject, title, body) VALUES ($1, 't', '', '', '')
                    RETURNING id";
        let pool = node.database.pool().await;
        let told = sqlx::query_scalar(told).bind(till.store_id).fetch_one(&pool).await;
        let notification_id = told.expect("a notification");
        let series_id = crate::fiscal::declared(&node, &till, 1).await;
        let range = crate::fiscal::reserved(&node.client, &till, &series_id).await;
        let range_id = range["id"].as_str().expect("an id").to_owned();

        World {
            till,
            other,
            revoked,
            spare,
            sale_id,
            event_id,
            conflict_id,
            notification_id,
            series_id,
            range_id,
            node,
        }
    }

    /// A path or a body with the ids of this world.
    fn fill(&self, text: &str) -> String {
        let debt = derived_debt_id(self.till.store_id, self.sale_id);
        text.replace("{store}", &self.till.store_id.to_string())
            .replace("{device}", &self.till.device_id)
            .replace("{spare}", &self.spare.device_id)
            .replace("{event}", &self.event_id)
            .replace("{conflict}", &self.conflict_id.to_string())
            .replace("{sale}", &self.sale_id.to_string())
            .replace("{debt}", &debt.to_string())
            .replace("{notification}", &self.notification_id.to_string())
            .replace("{series}", &self.series_id)
            .replace("{range}", &self.range_id)
    }

    /// Values of `Authorization` by index of [`CALLERS`].
    fn credentials(&self) -> Vec<(usize, Vec<String>)> {
        let own = self.till.store_id;
        let none = signed(JWT_SECRET, &json!({ "alg": "none" }), &claims(own, "u", 900));
        let forged = signed("another", &json!({ "alg": "HS256" }), &claims(own, "u", 900));
        let unsigned = format!("{}.", none.rsplit_once('.').expect("a JWT").0);
        let mut all = vec![(0, Vec::new())];
        all.extend(malformed(&self.till.token).into_iter().map(|values| (1, values)));
        let mut good = |caller: usize, token: &str| all.push((caller, vec![format!("Bearer {token}")]));
        for unknown in ["vxd_unknown", "a.b.c", "..", &ADMIN[1..], &ADMIN.to_uppercase(), "null"] {
            good(2, unknown);
        }
        good(3, &jwt(own, "u", -3600));
        good(4, &jwt(own, "u", -86_401));
        good(5, &forged);
        good(6, &none);
        good(6, &unsigned);
        good(7, &jwt(self.other.store_id, "u", 900));
        good(8, &jwt(id().parse().expect("a UUID"), "u", 900));
        good(9, &self.revoked.token);
        good(10, &self.other.token);
        good(11, &self.till.token);
        good(12, &self.till.token);
        good(13, &jwt(own, "u", 900));
        good(14, ADMIN);
        good(15, ADMIN);
        all
    }

    async fn call(&self, method: &str, path: &str, body: &str, authorization: &[String]) -> Answer {
        let mut request = self.node.client.request(method, path);
        for value in authorization {
            request = request.header("authorization", value);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        self.node.client.send(request).await
    }
}

/// Credentials that are none, by their headers.
fn malformed(token: &str) -> Vec<Vec<String>> {
    let single = [
        String::new(),
        token.to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Basic {token}"),
        format!("Token {token}"),
        format!("Bearer {token} {token}"),
        format!("Bearer {token},"),
        format!("Bearer\t{token}"),
        format!("Bearer \"{token}\""),
        format!("Bearer {}", "x".repeat(5_000)),
        "Bearer ñandú".to_owned(),
    ];
    let good = format!("Bearer {token}");
    let twice = [vec![good.clone(), good.clone()], vec![good, format!("Bearer {ADMIN}")]];
    single.into_iter().map(|value| vec![value]).chain(twice).collect()
}

/// The secret of a v1 node that serves every store, and that of one which serves none of this world's.
const NODE: &str = "the-secret-of-a-v1-node-for-every-store";
const FOREIGN_NODE: &str = "the-secret-of-a-v1-node-for-another-one";

/// Nobody listens there.
fn v1_nodes() -> String {
    let node = |name: &str, key: &str| json!({ "name": name, "url": "http://127.0.0.1:9", "key": key, "protocol": "v1" });
    let mut foreign = node("foreign", FOREIGN_NODE);
    foreign["stores"] = json!([id()]);
    json!([node("v1", NODE), foreign]).to_string()
}

/// What holds of every answer.
fn check(answer: &Answer, expected: u16, what: &str) {
    assert!(answer.headers.contains_key("x-request-id"), "{what} has no x-request-id");
    if expected >= 400 {
        problem(answer, expected, what);
    } else {
        assert_eq!(answer.status, expected, "{what}: {}", answer.text);
    }
    if expected == 401 {
        assert_eq!(answer.headers["www-authenticate"], "Bearer", "{what}");
    }
}

#[actix_web::test]
async fn every_route_answers_every_credential_as_the_table_says() {
    let world = World::new().await;
    for (method, path, body, row) in ROUTES {
        for (caller, values) in world.credentials() {
            let (mut path, mut body) = ((*path).to_owned(), (*body).to_owned());
            if caller == 12 {
                path = path.replace("{device}", &world.spare.device_id);
                body = body.replace("{device}", &world.spare.device_id);
            }
            if caller == 15 {
                for part in STORE_PARTS {
                    (path, body) = (path.replace(part, ""), body.replace(part, ""));
                }
            }
            let mut expected = row[caller];
            if caller == 15 && *method == "POST" && path == "/admin/stores" {
                // Without an id it is a new store.
                expected = 201;
            }
            let (path, body) = (world.fill(&path), world.fill(&body));
            let answer = world.call(method, &path, &body, &values).await;
            let shown: Vec<_> = values.iter().map(|v| v.chars().take(40).collect::<String>()).collect();
            check(&answer, expected, &format!("{method} {path} by {} {shown:?}", CALLERS[caller]));
        }
    }
    world.node.stop().await;
}

#[actix_web::test]
async fn the_table_holds_every_route_that_the_node_describes() {
    let world = World::new().await;
    let document = world.node.client.send(world.node.client.request("GET", "/openapi.json")).await.json();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("a path item").keys() {
            // Parameters by whatever name.
            let path: Vec<&str> = path.split('/').map(|p| if p.starts_with('{') { "*" } else { p }).collect();
            described.insert(format!("{} {}", method.to_uppercase(), path.join("/")));
        }
    }
    let pages = ["/openapi.json", "/docs", "/docs/"];
    let listed: BTreeSet<String> = ROUTES
        .iter()
        .map(|(method, path, ..)| (method, path.split('?').next().unwrap_or_default()))
        .filter(|(_, path)| !pages.contains(path))
        .map(|(method, path)| {
            let path: Vec<&str> = path.split('/').map(|p| if p.starts_with('{') { "*" } else { p }).collect();
            format!("{method} {}", path.join("/"))
        })
        .collect();
    assert_eq!(described, listed);
    world.node.stop().await;
}

#[actix_web::test]
async fn an_unknown_route_is_404_whatever_the_credential() {
    let world = World::new().await;
    let paths = [
        "/",
        "/auth/refresh",
        "/sync",
        "/sync/",
        "/sync/push/",
        "/sync/snapshots",
        "/sync/federation",
        "/sync/federation/nothing",
        "/fiscal/nothing",
        "/inventory/escrow/status/{store}",
        "/admin",
        "/admin/nothing",
        "/admin/devices/{store}",
        "/admin/devices/{store}/{device}/more",
        "/stores",
        "/stores/{store}",
        "/stores/{store}/nothing",
        "/stores/{store}/sales/{sale}/items",
        "/metrics/",
        "/openapi.yaml",
    ];
    for path in paths {
        for method in ["GET", "POST", "DELETE"] {
            for (caller, values) in world.credentials() {
                let answer = world.call(method, &world.fill(path), "", &values).await;
                let what = format!("{method} {path} by {}", CALLERS[caller]);
                assert_eq!(problem(&answer, 404, &what)["code"], "UNKNOWN_ROUTE", "{what}");
            }
        }
    }
    world.node.stop().await;
}

#[actix_web::test]
async fn a_wrong_method_is_405_with_the_served_ones_whatever_the_credential() {
    let world = World::new().await;
    let base = |path: &'static str| path.split('?').next().unwrap_or_default();
    for (_, path, ..) in ROUTES.iter().filter(|(_, path, ..)| !path.starts_with("/docs")) {
        let served: BTreeSet<&str> =
            ROUTES.iter().filter(|(_, other, ..)| base(other) == base(path)).map(|(m, ..)| *m).collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            if served.contains(method) {
                continue;
            }
            for authorization in [vec![], vec![format!("Bearer {ADMIN}")]] {
                let answer = world.call(method, &world.fill(path), "", &authorization).await;
                let what = format!("{method} {path}");
                problem(&answer, 405, &what);
                let allow = answer.headers["allow"].to_str().expect("a text");
                assert_eq!(allow.split(", ").collect::<BTreeSet<_>>(), served, "{what}");
            }
        }
    }
    for path in ["/docs", "/docs/"] {
        problem(&world.call("POST", path, "", &[]).await, 404, path);
    }
    world.node.stop().await;
}

#[actix_web::test]
async fn a_v1_node_may_call_what_v1_nodes_call_of_its_stores_and_nothing_else() {
    let world = World::new().await;
    let others = [OPEN, SIGNED, ANY_NODE];
    let status = world.call("GET", "/sync/federation/status", "", &[format!("Bearer {NODE}")]).await;
    check(&status, 200, "the status by a v1 node");
    for (method, path, body, row) in ROUTES.iter().filter(|(.., row)| !others.contains(row)) {
        let base = path.split('?').next().unwrap_or_default();
        let by_hand = ["/sync/federation/replay", "/sync/heal", "/sync/triage", "/fiscal/series"]
            .contains(&base)
            || base.starts_with("/sync/outbox");
        let of_nodes = *row == NODES && !by_hand || base == "/sync/push";
        for (secret, expected) in [(NODE, if of_nodes { 200 } else { 403 }), (FOREIGN_NODE, 403)] {
            let (path, body) = (world.fill(path), world.fill(body));
            let answer = world.call(method, &path, &body, &[format!("Bearer {secret}")]).await;
            check(&answer, expected, &format!("{method} {path} by a v1 node ({expected})"));
        }
    }
    world.node.stop().await;
}

#[actix_web::test]
async fn the_scheme_of_a_credential_is_read_in_any_case() {
    let world = World::new().await;
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let value = format!("{scheme} {}", world.till.token);
        let answer = world.call("GET", "/sync/last-seq", "", &[value]).await;
        assert_eq!(answer.status, 200, "{scheme}");
    }
    world.node.stop().await;
}

#[actix_web::test]
async fn a_secret_elsewhere_than_in_authorization_is_no_credential() {
    let world = World::new().await;
    let client: &Client = &world.node.client;
    let query = format!("/admin/stores?token={ADMIN}&key={ADMIN}&access_token={ADMIN}");
    problem(&client.send(client.request("GET", &query)).await, 401, "a query");
    for header in ["x-admin-key", "x-api-key", "cookie", "proxy-authorization"] {
        let request = client.request("GET", "/admin/stores").header(header, format!("Bearer {ADMIN}"));
        problem(&client.send(request).await, 401, header);
    }
    world.node.stop().await;
}

#[actix_web::test]
async fn claims_that_are_not_v1s_are_refused() {
    let world = World::new().await;
    let own = world.till.store_id;
    let mut all: Vec<Value> = Vec::new();
    for (claim, value) in [
        ("sub", Value::Null),
        ("sub", json!("")),
        ("store_id", json!("none")),
        ("store_id", json!([own])),
        ("role", json!("admin")),
        ("exp", Value::Null),
        ("exp", json!("tomorrow")),
        ("nbf", json!(4_000_000_000_i64)),
    ] {
        let mut spoiled = claims(own, "u", 900);
        spoiled[claim] = value;
        all.push(spoiled);
    }
    for claims in all {
        let token = signed(JWT_SECRET, &json!({ "alg": "HS256" }), &claims);
        let answer = world.call("GET", "/sync/pull", "", &[format!("Bearer {token}")]).await;
        problem(&answer, 401, &claims.to_string());
    }
    for algorithm in ["HS384", "HS512", "RS256", "ES256", "hs256", "None", ""] {
        let token = signed(JWT_SECRET, &json!({ "alg": algorithm }), &claims(own, "u", 900));
        let answer = world.call("GET", "/sync/pull", "", &[format!("Bearer {token}")]).await;
        problem(&answer, 401, algorithm);
    }
    world.node.stop().await;
}
