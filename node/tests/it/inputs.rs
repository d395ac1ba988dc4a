//! Bodies that are no push: each with its status and code, and none leaves a trace.

use crate::odd::{Object, quoted, sale_event};
use crate::support::{ADMIN, TestNode, Till, id};
use crate::wire::{all_rows, problem, push_body, push_bytes, push_texts, raw, raw_whole};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use std::io::Write;

const MIB: usize = 1024 * 1024;
/// Largest body of a push, as sent and inflated.
const LIMIT: usize = 16 * MIB;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A push of one sound event, member by member.
fn push(till: &Till) -> Object {
    Object::of(&[
        ("store_id", quoted(&till.store_id.to_string())),
        ("device_id", quoted(&till.device_id)),
        ("client_version", quoted("1.0.0")),
        ("events", format!("[{}]", sale_event().text())),
    ])
}

/// A sound push, filled up with spaces to so many bytes.
fn padded(till: &Till, length: usize) -> Vec<u8> {
    let mut body = push_body(till, &[sale_event().text()]).into_bytes();
    body.resize(length, b' ');
    body
}

/// The bytes of a push without Content-Length.
fn in_chunks(till: &Till, body: &[u8]) -> Vec<u8> {
    let mut request = format!("{}Transfer-Encoding: chunked\r\n\r\n", head(till)).into_bytes();
    for chunk in body.chunks(64 * 1024) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

/// Request line and headers of a push, up to those of its length.
fn head(till: &Till) -> String {
    let token = &till.token;
    format!(
        "POST /sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nConnection: close\r\n"
    )
}

/// Checks that the node took nothing of all this and serves on.
async fn unharmed(node: &TestNode, before: &std::collections::BTreeMap<String, String>, till: &Till) {
    let pool = node.database.pool().await;
    for (table, rows) in all_rows(&pool).await {
        assert_eq!(rows, before[&table], "{table} was touched");
    }
    pool.close().await;
    let ready = node.client.send(node.client.request("GET", "/readyz")).await;
    assert_eq!(ready.status, 200, "{}", ready.text);
    let answer = push_texts(&node.client, till, &[sale_event().text()]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["accepted"].as_array().map(Vec::len), Some(1));
}

async fn rows(node: &TestNode) -> std::collections::BTreeMap<String, String> {
    let pool = node.database.pool().await;
    let rows = all_rows(&pool).await;
    pool.close().await;
    rows
}

fn bodies_that_are_no_push(till: &Till) -> Vec<(&'static str, Vec<u8>)> {
    let good = push(till);
    let text = good.text();
    let with = |key: &str, value: &str| good.clone().with(key, value).text().into_bytes();
    let twice = |key: &str| good.clone().and(key, good.get(key)).text().into_bytes();
    let store = till.store_id.to_string();
    let mut invalid_utf8 = text.clone().into_bytes();
    let at = text.find("1.0.0").expect("a version");
    invalid_utf8[at] = 0xff;
    let mut in_an_event = text.clone().into_bytes();
    let at = text.find("SaleCreated").expect("a type");
    in_an_event[at] = 0xff;
    vec![
        ("nothing", Vec::new()),
        ("a space", b" ".to_vec()),
        ("no JSON", b"hello".to_vec()),
        ("a form", b"store_id=1&events=2".to_vec()),
        ("HTML", b"<html></html>".to_vec()),
        ("a list", b"[]".to_vec()),
        ("a list of the push", format!("[{text}]").into_bytes()),
        ("a text", b"\"push\"".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"42".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("a byte order mark", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
        ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("invalid UTF-8", invalid_utf8),
        ("invalid UTF-8 in an event", in_an_event),
        ("a raw NUL", text.replace("1.0.0", "1\u{0}0").into_bytes()),
        ("half of it", text.as_bytes()[..text.len() / 2].to_vec()),
        ("all but the last byte", text.as_bytes()[..text.len() - 1].to_vec()),
        ("more behind it", format!("{text}{text}").into_bytes()),
        ("a brace behind it", format!("{text}}}").into_bytes()),
        ("bare NaN", text.replace("1.5", "NaN").into_bytes()),
        ("bare Infinity", text.replace("1.5", "-Infinity").into_bytes()),
        ("a comma too many", text.replace("}]}", "},]}").into_bytes()),
        ("single quotes", text.replace('"', "'").into_bytes()),
        ("a comment", format!("/* v1 */{text}").into_bytes()),
        ("no store", with("store_id", "")),
        ("a store that is null", with("store_id", "null")),
        ("an empty store", with("store_id", "\"\"")),
        ("a store that is a number", with("store_id", "7")),
        ("a store that is no UUID", with("store_id", "\"shop-1\"")),
        ("a store in braces", with("store_id", &quoted(&format!("{{{store}}}")))),
        ("a store without hyphens", with("store_id", &quoted(&store.replace('-', "")))),
        ("a store as a URN", with("store_id", &quoted(&format!("urn:uuid:{store}")))),
        ("two stores", twice("store_id")),
        ("no device", with("device_id", "")),
        ("a device that is null", with("device_id", "null")),
        ("an empty device", with("device_id", "\"\"")),
        ("a device that is a number", with("device_id", "7")),
        ("a device with a control character", with("device_id", "\"a\\nb\"")),
        ("a device with NUL", with("device_id", "\"a\\u0000b\"")),
        ("a device of 10,000 characters", with("device_id", &quoted(&"d".repeat(10_000)))),
        ("no events", with("events", "")),
        ("events that are null", with("events", "null")),
        ("events that are an object", with("events", "{}")),
        ("events that are a text", with("events", "\"[]\"")),
        ("two lists of events", twice("events")),
    ]
}

#[actix_web::test]
async fn a_body_that_can_never_be_read_as_a_push_is_400_and_leaves_no_trace() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let before = rows(&node).await;
    for (name, body) in bodies_that_are_no_push(&till) {
        for sent in [(body.clone(), None), (gzip(&body), Some(("content-encoding", "gzip")))] {
            let headers: Vec<(&str, &str)> = sent.1.into_iter().collect();
            let answer = push_bytes(&node.client, &till, sent.0, &headers).await;
            let told = problem(&answer, 400, name);
            assert!(
                matches!(told["code"].as_str(), Some("UNREADABLE_PUSH" | "INVALID_DEVICE")),
                "{name}: {told}"
            );
            for part in ["SaleCreated", "hello", "shop-1", "expected", "line 1"] {
                assert!(!answer.text.contains(part), "{name} is echoed: {}", answer.text);
            }
        }
    }
    unharmed(&node, &before, &till).await;
    node.stop().await;
}

#[actix_web::test]
async fn a_push_may_say_more_than_the_node_knows() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let store = till.store_id.to_string();
    for (name, body) in [
        ("unknown fields", push(&till).with("v9", "{\"a\":[1e400]}").with("checksum", "null")),
        ("no version", push(&till).with("client_version", "")),
        ("a version that is null", push(&till).with("client_version", "null")),
        ("a version that is empty", push(&till).with("client_version", "\"\"")),
        ("a version that is a number", push(&till).with("client_version", "1.5")),
        ("a version that is an object", push(&till).with("client_version", "{}")),
        ("accepts", push(&till).with("accepts", "[\"conflicts\"]")),
        ("accepts that is null", push(&till).with("accepts", "null")),
        ("accepts of another kind", push(&till).with("accepts", "\"conflicts\"")),
        ("accepts of numbers", push(&till).with("accepts", "[1,null]")),
        ("a store in capitals", push(&till).with("store_id", &quoted(&store.to_uppercase()))),
        ("a device in capitals", push(&till).with("device_id", &quoted(&till.device_id.to_uppercase()))),
        ("escaped keys", push(&till).with("events", "").and("ev\\u0065nts", "[]")),
    ] {
        let answer = push_bytes(&node.client, &till, body.text().into_bytes(), &[]).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        assert_eq!(answer.json()["rejected"], json!([]), "{name}");
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_body_that_was_not_sent_as_json_is_415() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let before = rows(&node).await;
    let body = || push_body(&till, &[sale_event().text()]).into_bytes();
    for content_type in [
        "",
        "text/plain",
        "text/json",
        "application/xml",
        "application/json5",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "*/*",
        "json",
    ] {
        let answer = push_bytes(&node.client, &till, body(), &[("content-type", content_type)]).await;
        let told = problem(&answer, 415, content_type);
        assert_eq!(told["code"], "UNSUPPORTED_MEDIA_TYPE");
    }
    let twice = [("content-type", "application/json"), ("content-type", "application/json")];
    problem(&push_bytes(&node.client, &till, body(), &twice).await, 415, "twice");
    let untyped = node.client.request("POST", "/sync/push").bearer_auth(&till.token).body(body());
    problem(&node.client.send(untyped).await, 415, "none at all");
    unharmed(&node, &before, &till).await;
    for content_type in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
        let answer = push_bytes(&node.client, &till, body(), &[("content-type", content_type)]).await;
        assert_eq!(answer.status, 200, "{content_type}");
    }
    node.stop().await;
}

#[actix_web::test]
async fn an_unknown_or_stacked_encoding_is_415_and_damaged_gzip_is_400() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let before = rows(&node).await;
    let body = push_body(&till, &[sale_event().text()]).into_bytes();
    let zipped = gzip(&body);
    for encoding in ["br", "deflate", "zstd", "compress", "gzip, gzip", "gzip,br", "identity, gzip", "x", "*"]
    {
        for body in [body.clone(), zipped.clone(), gzip(&zipped)] {
            let answer = push_bytes(&node.client, &till, body, &[("content-encoding", encoding)]).await;
            assert_eq!(problem(&answer, 415, encoding)["code"], "UNSUPPORTED_ENCODING");
        }
    }
    let twice = [("content-encoding", "gzip"), ("content-encoding", "gzip")];
    problem(&push_bytes(&node.client, &till, gzip(&zipped), &twice).await, 415, "twice");
    let mut flipped = zipped.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let mut sum = zipped.clone();
    let end = sum.len();
    sum[end - 6] ^= 1;
    for (name, bytes) in [
        ("plain", body.clone()),
        ("nothing", Vec::new()),
        ("half", zipped[..middle].to_vec()),
        ("without its check sum", zipped[..end - 8].to_vec()),
        ("a flipped bit", flipped),
        ("a wrong check sum", sum),
        ("gzip in gzip", gzip(&zipped)),
        ("random bytes", (0..2000).map(|_| rand::random()).collect()),
        ("garbage behind it", [zipped.as_slice(), b"garbage"].concat()),
    ] {
        let answer = push_bytes(&node.client, &till, bytes, &[("content-encoding", "gzip")]).await;
        problem(&answer, 400, name);
    }
    unharmed(&node, &before, &till).await;
    for encoding in ["gzip", "GZIP", "x-gzip"] {
        let answer = push_bytes(&node.client, &till, zipped.clone(), &[("content-encoding", encoding)]).await;
        assert_eq!(answer.status, 200, "{encoding}: {}", answer.text);
    }
    let plain = push_bytes(&node.client, &till, body, &[("content-encoding", "identity")]).await;
    assert_eq!(plain.status, 200);
    node.stop().await;
}

#[actix_web::test]
async fn a_body_over_16_mib_is_413_and_its_sender_can_read_that() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let at_the_limit = push_bytes(&node.client, &till, padded(&till, LIMIT), &[]).await;
    assert_eq!(at_the_limit.status, 200, "{}", at_the_limit.text);
    node.client.projected().await;
    let before = rows(&node).await;
    for length in [LIMIT + 1, 20 * MIB, 30 * MIB] {
        // With Content-Length, and in chunks without it.
        let known = push_bytes(&node.client, &till, padded(&till, length), &[]).await;
        assert_eq!(problem(&known, 413, "a known length")["code"], "PAYLOAD_TOO_LARGE");
        let chunked = raw_whole(node.node.address, &in_chunks(&till, &padded(&till, length))).await;
        assert!(chunked.starts_with("HTTP/1.1 413 "), "{length}: {chunked}");
        assert!(chunked.contains("PAYLOAD_TOO_LARGE") && chunked.contains("timeout"), "{length}: {chunked}");
    }
    unharmed(&node, &before, &till).await;
    node.stop().await;
}

#[actix_web::test]
async fn a_compressed_bomb_is_413_by_what_it_inflates_to() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let whole = gzip(&padded(&till, LIMIT));
    let answer = push_bytes(&node.client, &till, whole, &[("content-encoding", "gzip")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    node.client.projected().await;
    let before = rows(&node).await;
    let start = push_body(&till, &[sale_event().text()]).into_bytes();
    let spaces = gzip(&vec![b' '; 64 * MIB]);
    let one_too_many = gzip(&padded(&till, LIMIT + 1));
    // Many members one after the other are one body: here a gigabyte.
    let members = [gzip(&start), spaces.repeat(16)].concat();
    assert!(members.len() < 2 * MIB);
    for bomb in [one_too_many, gzip(&vec![b'['; 64 * MIB]), members] {
        let answer = push_bytes(&node.client, &till, bomb, &[("content-encoding", "gzip")]).await;
        problem(&answer, 413, "a bomb");
    }
    unharmed(&node, &before, &till).await;
    node.stop().await;
}

#[actix_web::test]
async fn up_to_2000_events_are_a_push() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let batch = |count: usize| -> Vec<String> {
        let payload = || format!(r#"{{"customer_id":"{}"}}"#, id());
        (0..count).map(|_| crate::odd::envelope("CustomerCreated", &payload()).text()).collect()
    };
    for count in [0, 1, 500, 501, 2000] {
        let answer = push_texts(&node.client, &till, &batch(count)).await;
        assert_eq!(answer.status, 200, "{count}: {}", answer.text);
        assert_eq!(answer.json()["accepted"].as_array().map(Vec::len), Some(count));
    }
    node.client.projected().await;
    let before = rows(&node).await;
    for count in [2001, 10_000] {
        problem(&push_texts(&node.client, &till, &batch(count)).await, 413, "too many");
    }
    // Even if they are nothing at all.
    problem(&push_texts(&node.client, &till, &vec!["0".to_owned(); 2001]).await, 413, "numbers");
    unharmed(&node, &before, &till).await;
    node.stop().await;
}

#[actix_web::test]
async fn a_strangers_body_is_never_read_nor_judged() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let stranger = Till { token: "vxd_stranger".to_owned(), ..till };
    for body in [b"no JSON".to_vec(), padded(&stranger, LIMIT + 1), gzip(b"x")] {
        problem(&push_bytes(&node.client, &stranger, body, &[]).await, 401, "a stranger");
    }
    let other = push_bytes(&node.client, &stranger, b"x".to_vec(), &[("content-type", "text/plain")]).await;
    problem(&other, 401, "of whatever type");
    node.stop().await;
}

#[actix_web::test]
async fn an_admins_push_needs_a_store_that_is_there() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let unknown = Till { store_id: id().parse().expect("a UUID"), token: ADMIN.to_owned(), ..till.clone() };
    let answer = push_texts(&node.client, &unknown, &[sale_event().text()]).await;
    // Final for a v1 till, but no till has the admin's key.
    problem(&answer, 404, "an unknown store");
    let known = Till { token: ADMIN.to_owned(), ..till };
    assert_eq!(push_texts(&node.client, &known, &[sale_event().text()]).await.status, 200);
    node.stop().await;
}

#[actix_web::test]
async fn bytes_that_are_no_http_are_refused_and_hurt_nobody() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let address = node.node.address;
    let body = push_body(&till, &[sale_event().text()]);
    let (head, length) = (head(&till), body.len());
    let sound = raw(address, format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).await;
    assert!(sound.starts_with("HTTP/1.1 200"), "{sound}");
    // At once, since what has no end waits for a time-out.
    let refused = requests_of_no_http(&head, &body).into_iter().map(|(name, request)| async move {
        let answer = raw(address, request.as_bytes()).await;
        let status: Option<u16> = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{name}: {answer}");
        assert!(!answer.contains("panicked") && !answer.contains("/src/"), "{name}: {answer}");
    });
    futures_util::future::join_all(refused).await;
    node.client.projected().await;
    let stored = node.client.list(&till, "sales").await;
    assert_eq!(stored.len(), 1, "of all these only the sound one is a push");
    node.stop().await;
}

fn requests_of_no_http(head: &str, body: &str) -> Vec<(&'static str, String)> {
    let (long, length) = ("x".repeat(300_000), body.len());
    vec![
        ("nothing", String::new()),
        ("garbage", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}".to_owned()),
        ("no version", "GET /ping\r\n\r\n".to_owned()),
        ("HTTP/9", "GET /ping HTTP/9.9\r\nHost: x\r\n\r\n".to_owned()),
        ("a method of symbols", "G<T /ping HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("a path with a space", "GET /pi ng HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("a header without colon", "GET /ping HTTP/1.1\r\nHost x\r\n\r\n".to_owned()),
        ("a header with NUL", "GET /ping HTTP/1.1\r\nHost: x\r\nA: b\u{0}c\r\n\r\n".to_owned()),
        ("a huge path", format!("GET /{long} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")),
        ("a huge header", format!("GET /ping HTTP/1.1\r\nHost: x\r\nA: {long}\r\nConnection: close\r\n\r\n")),
        ("a negative length", format!("{head}Content-Length: -1\r\n\r\n{body}")),
        ("a length of text", format!("{head}Content-Length: ten\r\n\r\n{body}")),
        ("a signed length", format!("{head}Content-Length: +{length}\r\n\r\n{body}")),
        ("two lengths", format!("{head}Content-Length: 4\r\nContent-Length: {length}\r\n\r\n{body}")),
        (
            "length and chunks",
            format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("an unknown transfer", format!("{head}Transfer-Encoding: magic\r\n\r\n{body}")),
        ("chunks of no size", format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n")),
    ]
}
