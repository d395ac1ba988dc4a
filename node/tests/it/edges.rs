//! What stands around the routes: browsers' origins, the rate limit, request ids, faults, revocation.

use crate::support::{ADMIN, Answer, Client, TestNode, event, wait};
use crate::wire::{jwt, problem};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

const ORIGIN: &str = "https://till.example";
const OTHER: &str = "http://localhost:5173";
const ORIGINS: (&str, &str) = ("VELOX_CORS_ORIGINS", "https://till.example,http://localhost:5173");

/// Longest time until a revocation is seen by every pod.
const REVOCATION: Duration = Duration::from_secs(5);

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().expect("a text"))
}

async fn preflight(client: &Client, path: &str, origin: &str, method: &str, headers: &str) -> Answer {
    let request = client
        .request("OPTIONS", path)
        .header("origin", origin)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", headers);
    client.send(request).await
}

#[actix_web::test]
async fn a_preflight_of_a_configured_origin_needs_no_credential() {
    let node = TestNode::start_with(&[ORIGINS]).await;
    let v1 = "content-type,authorization,x-admin-key,ngrok-skip-browser-warning,traceparent";
    for origin in [ORIGIN, OTHER] {
        for (path, method) in [("/sync/push", "POST"), ("/sync/pull", "GET"), ("/ping", "GET")] {
            let answer = preflight(&node.client, path, origin, method, v1).await;
            assert!(matches!(answer.status, 200 | 204), "{path}: {} {}", answer.status, answer.text);
            assert_eq!(header(&answer, "access-control-allow-origin"), Some(origin));
            assert_eq!(header(&answer, "access-control-allow-credentials"), Some("true"));
            let allowed = header(&answer, "access-control-allow-headers").expect("headers").to_lowercase();
            assert!(v1.split(',').all(|name| allowed.contains(name)), "{allowed}");
            let methods = header(&answer, "access-control-allow-methods").expect("methods");
            assert!(methods.contains(method), "{methods}");
        }
    }
    node.stop().await;
}

#[actix_web::test]
async fn answers_and_errors_let_a_configured_origin_read_them() {
    let node = TestNode::start_with(&[ORIGINS]).await;
    let client = &node.client;
    let till = client.till().await;
    let cases = [
        ("GET", "/ping".to_owned(), "", 200),
        ("GET", "/sync/pull".to_owned(), till.token.as_str(), 200),
        ("POST", "/sync/push".to_owned(), "", 401),
        ("POST", "/sync/push".to_owned(), till.token.as_str(), 415),
        ("GET", "/admin/stores".to_owned(), till.token.as_str(), 403),
        ("GET", "/auth/refresh".to_owned(), "", 404),
        ("PUT", "/sync/push".to_owned(), "", 405),
        ("GET", format!("/stores/{}/sales?limit=-1", till.store_id), till.token.as_str(), 400),
    ];
    for (method, path, token, status) in cases {
        let mut request = client.request(method, &path).header("origin", ORIGIN);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let answer = client.send(request).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(ORIGIN), "{method} {path}");
        assert_eq!(header(&answer, "access-control-allow-credentials"), Some("true"), "{method} {path}");
        let exposed = header(&answer, "access-control-expose-headers").expect("exposed").to_lowercase();
        assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"), "{exposed}");
        // A cache must not give one origin's answer to another.
        let vary = answer
            .headers
            .get_all("vary")
            .iter()
            .any(|v| v.to_str().is_ok_and(|v| v.to_lowercase().contains("origin")));
        assert!(vary, "{method} {path}");
    }
    node.stop().await;
}

#[actix_web::test]
async fn other_origins_get_no_header_and_no_preflight() {
    let configured = TestNode::start_with(&[ORIGINS]).await;
    let bare = TestNode::start().await;
    for node in [&configured, &bare] {
        for origin in ["https://evil.example", "https://till.example.evil", "http://till.example", "null"] {
            let asked = preflight(&node.client, "/sync/push", origin, "POST", "content-type").await;
            assert!((400..500).contains(&asked.status), "{origin}: {}", asked.status);
            problem(&asked, asked.status, origin);
            let plain = node.client.request("GET", "/ping").header("origin", origin);
            let plain = node.client.send(plain).await;
            assert_eq!(plain.status, 200, "{origin}");
            for answer in [asked, plain] {
                assert_eq!(header(&answer, "access-control-allow-origin"), None, "{origin}");
            }
        }
    }
    configured.stop().await;
    bare.stop().await;
}

#[actix_web::test]
async fn a_device_that_calls_too_often_is_told_when_to_come_back() {
    let limits = [("VELOX_RATE_LIMIT_RPS", "1"), ("VELOX_RATE_LIMIT_BURST", "3")];
    let node = TestNode::start_with(&limits).await;
    let client = &node.client;
    let till = client.till().await;
    let neighbour = client.till_of(till.store_id).await;
    let ask = async |token: &str| client.call("GET", "/sync/last-seq?device_id=d", token, None).await;
    let own = async |token: &str| client.call("GET", "/sync/last-seq", token, None).await;
    let mut refused = None;
    for _ in 0..50 {
        let answer = own(&till.token).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let refused = refused.expect("the 50th request in a row is over the limit");
    problem(&refused, 429, "a device");
    // Neither the neighbour's nor the admin's allowance is spent.
    assert_eq!(own(&neighbour.token).await.status, 200);
    let path = format!("/sync/last-seq?store_id={}&device_id=d", till.store_id);
    for _ in 0..20 {
        assert_eq!(client.call("GET", &path, ADMIN, None).await.status, 200);
    }
    // A push is refused too, by the same count, and v1's users are counted as devices are.
    let push = client.try_push(&till, &[event("CustomerCreated", json!({ "customer_id": "x" }))]).await;
    problem(&push, 429, "a push");
    let token = jwt(till.store_id, "user-1", 900);
    let mut statuses = Vec::new();
    for _ in 0..50 {
        statuses.push(ask(&token).await.status);
    }
    assert!(statuses[..3].iter().all(|s| *s == 200) && statuses.contains(&429), "{statuses:?}");
    wait("a new allowance", async || own(&till.token).await.status == 200).await;
    node.stop().await;
}

#[actix_web::test]
async fn faults_are_an_unknown_route_without_chaos() {
    let node = TestNode::start_without_chaos().await;
    let fault = json!({ "actor": "projector.debt", "fault": "panic" });
    for method in ["GET", "POST", "DELETE"] {
        let body = (method == "POST").then_some(&fault);
        let answer = node.client.call(method, "/chaos/faults", ADMIN, body).await;
        assert_eq!(problem(&answer, 404, method)["code"], "UNKNOWN_ROUTE");
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_token_that_one_pod_revokes_is_refused_by_another_within_five_seconds() {
    let a = TestNode::start().await;
    let b = TestNode::pod(a.database.clone(), &[]).await;
    let till = a.client.till().await;
    let calls = async |node: &TestNode| node.client.call("GET", "/sync/pull", &till.token, None).await.status;
    assert_eq!((calls(&a).await, calls(&b).await), (200, 200));
    let path = format!("/admin/devices/{}/{}", till.store_id, till.device_id);
    assert_eq!(b.client.call("DELETE", &path, ADMIN, None).await.status, 200);
    let revoked = Instant::now();
    assert_eq!(calls(&b).await, 401, "the pod that revoked it");
    wait("the other pod's refusal", async || calls(&a).await == 401).await;
    assert!(revoked.elapsed() < REVOCATION, "{:?}", revoked.elapsed());
    // A new token is good at once where it was made, and there the old one stays dead.
    let device = json!({ "store_id": till.store_id, "device_id": till.device_id });
    let renewed = b.client.call("POST", "/admin/devices", ADMIN, Some(&device)).await.json();
    let renewed = renewed["token"].as_str().expect("a token").to_owned();
    assert_ne!(renewed, till.token);
    assert_eq!(b.client.call("GET", "/sync/pull", &renewed, None).await.status, 200);
    assert_eq!(calls(&b).await, 401);
    b.stop().await;
    a.stop().await;
}

#[actix_web::test]
async fn a_new_token_of_a_device_kills_its_old_one() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let calls = async |token: &str| node.client.call("GET", "/sync/pull", token, None).await.status;
    assert_eq!(calls(&till.token).await, 200);
    let body = json!({ "store_id": till.store_id, "device_id": till.device_id });
    let answer = node.client.call("POST", "/admin/devices", ADMIN, Some(&body)).await;
    assert_eq!(answer.status, 201);
    assert_eq!(calls(&till.token).await, 401);
    assert_eq!(calls(answer.json()["token"].as_str().expect("a token")).await, 200);
    node.stop().await;
}

#[actix_web::test]
async fn a_request_id_is_kept_if_it_is_harmless_and_made_if_not() {
    let node = TestNode::start().await;
    let client = &node.client;
    let given = async |value: &[u8]| {
        let value = reqwest::header::HeaderValue::from_bytes(value).expect("a value");
        let answer = client.send(client.request("GET", "/nowhere").header("x-request-id", value)).await;
        problem(&answer, 404, "nowhere");
        header(&answer, "x-request-id").expect("an id").to_owned()
    };
    for kept in ["abc", "A-1.b_2", &"x".repeat(128)] {
        assert_eq!(given(kept.as_bytes()).await, kept);
    }
    for bad in [b"a b".as_slice(), b"", b"<script>", b"a;b", &[b'x'; 129], b"\xff\xfe", b"a\tb"] {
        let made = given(bad).await;
        assert!(made.parse::<uuid::Uuid>().is_ok(), "{made}");
    }
    let ids: std::collections::BTreeSet<String> = [given(b"").await, given(b"").await].into();
    assert_eq!(ids.len(), 2);
    node.stop().await;
}

#[actix_web::test]
async fn ping_answers_v1s_shape() {
    let node = TestNode::start().await;
    let answer = node.client.send(node.client.request("GET", "/ping")).await.json();
    assert_eq!(answer["status"], "ok");
    let skew = answer["timestamp"].as_i64().expect("milliseconds") - crate::wire::now_ms();
    assert!(skew.abs() < 60_000, "{skew}");
    assert!(answer["message"].is_string());
    node.stop().await;
}
