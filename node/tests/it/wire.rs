//! What tests of the wire share: v1's JWTs, the shape of problems, requests that no well-behaved client sends,
//! and a look at every table.

use crate::support::{Answer, Client, JWT_SECRET, PATIENCE, Till};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::{AssertSqlSafe, PgPool};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;
use velox_node::clock::SystemClock;
use velox_protocol::time::Clock;

/// The present time in milliseconds.
pub(crate) fn now_ms() -> i64 {
    SystemClock.now().timestamp_millis()
}

/// A JWT over these texts, signed by HS256 whatever its header says.
pub(crate) fn signed(secret: &str, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key").chain_update(&text);
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// v1's claims of a cashier; the token ends so many seconds from now.
pub(crate) fn claims(store_id: Uuid, sub: &str, ends_in: i64) -> Value {
    let now = now_ms() / 1000;
    json!({ "sub": sub, "store_id": store_id, "role": "cashier", "iat": now - 900, "exp": now + ends_in })
}

/// A JWT as v1 makes it.
pub(crate) fn jwt(store_id: Uuid, sub: &str, ends_in: i64) -> String {
    signed(JWT_SECRET, &json!({ "alg": "HS256", "typ": "JWT" }), &claims(store_id, sub, ends_in))
}

/// Checks that an answer is this problem, with all that v1 tills and RFC 9457 want of it; gives its body.
pub(crate) fn problem(answer: &Answer, status: u16, what: &str) -> Value {
    assert_eq!(answer.status, status, "{what}: {}", answer.text);
    let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().expect("a text"));
    assert_eq!(header("content-type"), Some("application/problem+json"), "{what}: {}", answer.text);
    let body = answer.json();
    let text = |key: &str| body[key].as_str().unwrap_or_else(|| panic!("{what}: no {key} in {body}"));
    assert_eq!(body["status"], status, "{what}");
    assert_eq!(body["statusCode"], status, "{what}");
    assert_eq!(Some(text("request_id")), header("x-request-id"), "{what}");
    assert!(!text("type").is_empty() && !text("title").is_empty() && !text("detail").is_empty(), "{body}");
    let code = text("code");
    assert!(code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{what}: {code}");
    let message = text("message");
    if matches!(status, 401 | 403 | 408 | 413 | 429) || status >= 500 {
        assert!(message.contains("timeout"), "{what}: {message}");
        assert!(!message.chars().any(|c| c.is_ascii_digit()), "{what}: {message}");
        assert!(!message.to_lowercase().contains("validation"), "{what}: {message}");
    }
    if matches!(status, 429 | 503) {
        let seconds: u32 = header("retry-after").expect("Retry-After").parse().expect("whole seconds");
        assert!((1..=60).contains(&seconds), "{what}: {seconds}");
    }
    body
}

/// Pushes events that are texts already, of which some may be no JSON.
pub(crate) async fn push_texts(client: &Client, till: &Till, events: &[String]) -> Answer {
    push_bytes(client, till, push_body(till, events).into_bytes(), &[]).await
}

/// The body of a push, from events that are texts already.
pub(crate) fn push_body(till: &Till, events: &[String]) -> String {
    let (store, device) = (till.store_id, json!(till.device_id));
    let events = events.join(",");
    format!(r#"{{"store_id":"{store}","device_id":{device},"client_version":"1.0.0","events":[{events}]}}"#)
}

/// Pushes bytes as JSON; the headers replace those that would be sent.
pub(crate) async fn push_bytes(
    client: &Client,
    till: &Till,
    body: Vec<u8>,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = client.request("POST", "/sync/push").bearer_auth(&till.token).body(body);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request).await
}

/// Sends bytes over a connection of their own and reads until the node closes it.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    talk(address, bytes, false).await
}

/// The same for a client that reads nothing before all of its bytes are taken.
pub(crate) async fn raw_whole(address: SocketAddr, bytes: &[u8]) -> String {
    talk(address, bytes, true).await
}

async fn talk(address: SocketAddr, bytes: &[u8], whole: bool) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let written = stream.write_all(bytes).await;
        // Else the node may refuse and close before it has read everything.
        assert!(!whole || written.is_ok(), "the node closed while it was written to: {written:?}");
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..read]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the node closes the connection")
}

/// Every row of every table as text, apart from what counts requests and minutes.
pub(crate) async fn all_rows(pool: &PgPool) -> BTreeMap<String, String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> 'outbox_stats'",
    )
    .fetch_all(pool)
    .await
    .expect("the tables");
    assert!(tables.iter().any(|table| table == "events"), "{tables:?}");
    let mut rows = BTreeMap::new();
    for table in tables {
        let sql = format!(
            r#"SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t::text COLLATE "C"), '') FROM "{table}" t"#
        );
        let text: String = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.expect("the rows");
        rows.insert(table, text);
    }
    rows
}

/// `projection_status` of an event with its reason, as operators see it.
pub(crate) async fn projection_of(pool: &PgPool, store_id: Uuid, event_id: &str) -> (String, String) {
    let found: Option<(String, Option<String>)> = sqlx::query_as(
        "SELECT s.projection_status, x.reason FROM event_status s
         LEFT JOIN event_exceptions x USING (store_id, event_id) WHERE store_id = $1 AND event_id = $2",
    )
    .bind(store_id)
    .bind(event_id)
    .fetch_optional(pool)
    .await
    .expect("a status");
    found.map_or_else(
        || ("not stored".to_owned(), String::new()),
        |(status, reason)| (status, reason.unwrap_or_default()),
    )
}

/// The warnings of a push's answer about one event, by code.
pub(crate) fn warnings_of<'a>(answer: &'a Value, event_id: &str) -> Vec<&'a str> {
    let warnings = answer["warnings"].as_array().expect("warnings");
    warnings
        .iter()
        .filter(|w| w["event_id"] == event_id)
        .map(|w| w["code"].as_str().expect("a code"))
        .collect()
}

/// The ids of a list of objects, in its order.
pub(crate) fn ids(list: &Value) -> Vec<String> {
    let id = |item: &Value| item["event_id"].as_str().expect("an event_id").to_owned();
    list.as_array().expect("a list").iter().map(id).collect()
}
