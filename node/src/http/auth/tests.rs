//! The matrix of callers and calls, through the extractors.

use std::num::NonZeroU32;

use actix_web::{
    App, HttpResponse,
    http::header::HeaderMap,
    middleware::from_fn,
    test::{self, TestRequest},
};
use chrono::TimeDelta;
use serde_json::{Value, json};
use velox_actors::peer::{PeerKey, Protocol};

use super::{
    devices::{
        Source,
        tests::{Fake, Standing},
    },
    jwt::tests::{payload, signed},
    *,
};
use crate::http::{error::defaults, request_id::request_id};

const NOW: i64 = 1_800_000_000;
const ADMIN: &str = "an-admin-key-of-forty-characters-or-so-1";
const OWN: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const TOKEN: &str = "vxd_own-device";

struct World {
    auth: web::Data<Auth>,
    fake: Arc<Fake>,
    clock: Arc<Standing>,
}

fn world_with(credentials: &Credentials, burst: u32) -> World {
    let (fake, clock) = (Arc::new(Fake::default()), Standing::at(NOW));
    fake.tables().tokens.insert(token_hash(TOKEN), (OWN, "till-1".into()));
    fake.tables().stores.insert(OWN);
    let limit = RateLimit::new(NonZeroU32::MIN, NonZeroU32::new(burst).unwrap());
    let devices = Devices::from_source(Source::Fake(Arc::clone(&fake)), clock.clone());
    World {
        auth: web::Data::new(Auth::with_devices(credentials, devices, limit, clock.clone())),
        fake,
        clock,
    }
}

fn credentials() -> Credentials {
    Credentials {
        admin_key: Some(Secret::new(ADMIN)),
        jwt_secret: Some(Secret::new("v1")),
        jwt_grace: Duration::from_secs(3600),
        v1_nodes: vec![node("shop", &["secret-of-shop", "new-secret-of-shop"]), node("all", &[SHARED])],
    }
}

const SHARED: &str = "a-secret-that-all-share";

fn node(name: &str, keys: &[&str]) -> Arc<Peer> {
    Arc::new(Peer {
        name: name.to_owned(),
        url: String::new(),
        keys: keys.iter().map(|key| PeerKey::new(*key)).collect(),
        stores: (name == "shop").then(|| [OWN].into()),
        protocol: Protocol::V1,
    })
}

fn world() -> World {
    world_with(&credentials(), 1000)
}

fn jwt(store: Uuid, exp: i64) -> String {
    signed("v1", &json!({"alg": "HS256"}), &payload(store, exp))
}

#[derive(serde::Deserialize)]
struct Named {
    store: Option<Uuid>,
    device: Option<String>,
}

async fn store_call(caller: StoreCaller, named: web::Query<Named>) -> Result<HttpResponse, Problem> {
    let store = caller.store(named.store)?;
    if let Some(device) = &named.device {
        caller.admit_device(device).await?;
    }
    Ok(HttpResponse::Ok().json(json!({"store": store})))
}

async fn admin_call(_: AdminOnly) -> HttpResponse {
    HttpResponse::Ok().json(json!({}))
}

async fn node_call(caller: NodeCaller, named: web::Query<Named>) -> Result<HttpResponse, Problem> {
    caller.check_store(named.store.unwrap_or(OWN))?;
    let who = match caller {
        NodeCaller::Admin => "admin".to_owned(),
        NodeCaller::Node(node) => node.name.clone(),
    };
    Ok(HttpResponse::Ok().json(who))
}

async fn push_call(caller: PushCaller) -> HttpResponse {
    HttpResponse::Ok().json(match caller {
        PushCaller::Till(_) => "till".to_owned(),
        PushCaller::Node(node) => node.name.clone(),
    })
}

async fn call(world: &World, uri: &str, authorization: Option<&str>) -> (u16, HeaderMap, Value) {
    let app = test::init_service(
        App::new()
            .configure(defaults)
            .app_data(world.auth.clone())
            .route("/sync/pull", web::get().to(store_call))
            .route("/stores/sales", web::get().to(store_call))
            .route("/admin", web::get().to(admin_call))
            .route("/sync/federation/session-ids", web::get().to(node_call))
            .route("/sync/push", web::get().to(push_call))
            .wrap(from_fn(request_id)),
    )
    .await;
    let mut request = TestRequest::get().uri(uri);
    if let Some(text) = authorization {
        request = request.insert_header((header::AUTHORIZATION, text));
    }
    let answer = test::call_service(&app, request.to_request()).await;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, serde_json::from_slice(&test::read_body(answer).await).unwrap())
}

async fn status(world: &World, uri: &str, credential: &str) -> u16 {
    call(world, uri, Some(&format!("Bearer {credential}"))).await.0
}

#[actix_web::test]
async fn a_v1_node_is_known_by_its_secret_for_its_stores_and_its_calls() {
    let world = world();
    let lists = "/sync/federation/session-ids";
    let foreign = format!("{lists}?store={OTHER}");
    for (secret, own, other) in [
        ("secret-of-shop", 200, 403),
        ("new-secret-of-shop", 200, 403),
        (SHARED, 200, 200),
        (ADMIN, 200, 200),
        (TOKEN, 403, 403),
        (&jwt(OWN, NOW + 900), 403, 403),
        ("secret-of-sho", 401, 401),
    ] {
        assert_eq!(status(&world, lists, secret).await, own, "{secret}");
        assert_eq!(status(&world, &foreign, secret).await, other, "{secret}");
    }
    for uri in ["/admin", "/stores/sales", "/sync/pull"] {
        assert_eq!(status(&world, uri, "secret-of-shop").await, 403, "{uri}");
    }
    // Nobody counts how often it calls.
    let world = world_with(&credentials(), 1);
    for _ in 0..5 {
        assert_eq!(status(&world, lists, SHARED).await, 200);
    }
}

#[actix_web::test]
async fn one_secret_for_admin_and_node_is_the_nodes_where_that_differs() {
    let credentials = Credentials { admin_key: Some(Secret::new(SHARED)), ..credentials() };
    let world = world_with(&credentials, 1000);
    let bearer = format!("Bearer {SHARED}");
    let who = async |uri: &str| call(&world, uri, Some(&bearer)).await.2;
    assert_eq!(who("/sync/push").await, "all");
    assert_eq!(who("/sync/federation/session-ids").await, "admin");
    assert_eq!(status(&world, "/admin", SHARED).await, 200);
}

#[actix_web::test]
async fn the_matrix() {
    let world = world();
    let good = jwt(OWN, NOW + 900);
    let foreign = jwt(OTHER, NOW + 900);
    let dead = jwt(OWN, NOW - 7200);
    let forged = signed("other", &json!({"alg": "HS256"}), &payload(OWN, NOW + 900));
    let named_other = format!("/sync/pull?store={OTHER}");
    let named_own = format!("/sync/pull?store={OWN}");
    for (credential, bare, own, other, admin, nowhere) in [
        (ADMIN, 400, 200, 200, 200, 404),
        (TOKEN, 200, 200, 403, 403, 404),
        (good.as_str(), 200, 200, 403, 403, 404),
        (foreign.as_str(), 403, 403, 403, 403, 404),
        (dead.as_str(), 401, 401, 401, 401, 404),
        (forged.as_str(), 401, 401, 401, 401, 404),
        ("vxd_revoked", 401, 401, 401, 401, 404),
        ("nonsense", 401, 401, 401, 401, 404),
        ("an-admin-key-of-forty-characters-or-so-2", 401, 401, 401, 401, 404),
    ] {
        let mut answered = Vec::new();
        for uri in ["/sync/pull", &named_own, &named_other, "/admin", "/auth/refresh"] {
            answered.push(status(&world, uri, credential).await);
        }
        assert_eq!(answered, [bare, own, other, admin, nowhere], "{credential}");
    }
    for authorization in
        [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Basic YTpi"), Some("Bearer a b")]
    {
        let (status, headers, body) = call(&world, "/sync/pull", authorization).await;
        assert_eq!(status, 401, "{authorization:?}");
        assert!(headers.contains_key(header::WWW_AUTHENTICATE));
        assert!(body["message"].as_str().unwrap().contains("timeout"));
    }
    assert_eq!(status(&world, "/sync/pull", &"x".repeat(MAX_CREDENTIAL + 1)).await, 401);
}

#[actix_web::test]
async fn two_credentials_are_none() {
    let request = TestRequest::get()
        .append_header((header::AUTHORIZATION, format!("Bearer {TOKEN}")))
        .append_header((header::AUTHORIZATION, format!("Bearer {ADMIN}")))
        .to_http_request();
    assert!(bearer(&request).is_none());
    let lower = TestRequest::get().insert_header((header::AUTHORIZATION, "bearer x")).to_http_request();
    assert_eq!(bearer(&lower), Some("x"));
}

#[actix_web::test]
async fn the_grace_is_for_some_routes_alone() {
    let world = world();
    let ended = jwt(OWN, NOW - 60);
    assert_eq!(status(&world, "/sync/pull", &ended).await, 200);
    assert_eq!(status(&world, "/stores/sales", &ended).await, 401);
    world.clock.advance(TimeDelta::hours(1));
    assert_eq!(status(&world, "/sync/pull", &ended).await, 401);
    for (path, grace) in [
        ("/sync", true),
        ("/sync/push", true),
        ("/fiscal/reserve-range", true),
        ("/inventory/escrow/batch-grant", true),
        ("/synchronous", false),
        ("/inventory", false),
        ("/stores/sync", false),
        ("//sync", false),
    ] {
        assert_eq!(has_grace(path), grace, "{path}");
    }
}

#[actix_web::test]
async fn without_keys_nobody_is_admin_and_no_jwt_is_good() {
    let world = world_with(&Credentials::default(), 1000);
    for credential in [
        ADMIN,
        jwt(OWN, NOW + 900).as_str(),
        signed("", &json!({"alg": "HS256"}), &payload(OWN, NOW + 900)).as_str(),
    ] {
        assert_eq!(status(&world, "/sync/pull", credential).await, 401);
    }
    assert_eq!(status(&world, "/sync/pull", TOKEN).await, 200);
}

#[actix_web::test]
async fn a_database_fault_is_503() {
    let world = world();
    world.fake.tables().down = true;
    for credential in [TOKEN, "vxd_other", jwt(OWN, NOW + 900).as_str()] {
        let (status, headers, _) = call(&world, "/sync/pull", Some(&format!("Bearer {credential}"))).await;
        assert_eq!(status, 503, "{credential}");
        assert!(headers.contains_key(header::RETRY_AFTER));
    }
    assert_eq!(status(&world, "/admin", ADMIN).await, 200);
}

#[actix_web::test]
async fn a_token_speaks_for_its_device_and_a_jwt_for_any() {
    let world = world();
    assert_eq!(status(&world, "/sync/pull?device=till-1", TOKEN).await, 200);
    assert_eq!(status(&world, "/sync/pull?device=till-2", TOKEN).await, 403);
    assert!(world.fake.tables().registered.is_empty());
    let good = jwt(OWN, NOW + 900);
    assert_eq!(status(&world, "/sync/pull?device=till-9", &good).await, 200);
    assert_eq!(world.fake.tables().registered, [(OWN, "till-9".to_owned())]);
    for bad in ["", "a%0Ab", &"x".repeat(MAX_DEVICE_ID + 1)] {
        assert_eq!(status(&world, &format!("/sync/pull?device={bad}"), &good).await, 400, "{bad}");
    }
}

#[actix_web::test]
async fn devices_are_limited_and_the_admin_is_not() {
    let world = world_with(&credentials(), 3);
    for credential in [TOKEN.to_owned(), jwt(OWN, NOW + 900)] {
        let mut answered = Vec::new();
        for _ in 0..4 {
            answered.push(status(&world, "/sync/pull", &credential).await);
        }
        assert_eq!(answered, [200, 200, 200, 429], "{credential}");
    }
    for _ in 0..10 {
        assert_eq!(status(&world, "/admin", ADMIN).await, 200);
    }
}

#[actix_web::test]
async fn tokens_are_random_and_recognisable() {
    let mut random = rand::rng();
    let (a, b) = (new_device_token(&mut random), new_device_token(&mut random));
    assert_ne!(a.expose(), b.expose());
    assert!(a.expose().starts_with(TOKEN_PREFIX) && a.expose().len() == TOKEN_PREFIX.len() + 43);
    assert_ne!(token_hash(a.expose()), token_hash(b.expose()));
}
