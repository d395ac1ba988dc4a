//! Events that cannot be kept or trusted: each is refused by itself, with its id and code, and nothing of it is in
//! any table; sound events of the same push are taken.

use crate::odd::{Object, envelope, quoted, sale_event, sale_payload};
use crate::support::{TestNode, body, id, sale};
use crate::wire::{all_rows, ids, problem, push_texts};
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;
/// Stands in every refused event, so that an echo of it shows.
const MARK: &str = "never-to-be-echoed";
const INVALID: &str = "VALIDATION_ERROR";
const INTEGRITY: &str = "INTEGRITY_ERROR";

/// A refused event.
struct Case {
    name: &'static str,
    text: String,
    /// What the answer names it by.
    id: String,
    code: &'static str,
}

fn case(name: &'static str, event: &Object, code: &'static str) -> Case {
    let id = serde_json::from_str(event.get("event_id")).unwrap_or_default();
    Case { name, text: event.text(), id, code }
}

fn marked() -> Object {
    sale_payload().with("note", &quoted(MARK))
}

fn envelopes() -> Vec<Case> {
    let with = |name, key: &str, value: &str| {
        case(name, &envelope("SaleCreated", &marked().text()).with(key, value), INVALID)
    };
    let whole = |name, text: &str| Case { name, text: text.to_owned(), id: String::new(), code: INVALID };
    let (long_id, long_type) = (quoted(&"i".repeat(256)), quoted(&"t".repeat(101)));
    let (filled, twice) = (quoted(&"x".repeat(3 * MIB)), sale_event().and("event_id", &quoted(&id())));
    vec![
        whole("a number", "42"),
        whole("a text", "\"SaleCreated\""),
        whole("null", "null"),
        whole("a list", "[]"),
        whole("nothing in it", "{}"),
        with("no id", "event_id", ""),
        with("an id that is null", "event_id", "null"),
        with("an empty id", "event_id", "\"\""),
        with("an id that is a number", "event_id", "42"),
        with("an id that is a list", "event_id", "[\"a\"]"),
        with("an id of 256 characters", "event_id", &long_id),
        with("an id with NUL", "event_id", r#""a\u0000b""#),
        with("no type", "type", ""),
        with("a type that is null", "type", "null"),
        with("an empty type", "type", "\"\""),
        with("a type that is a number", "type", "7"),
        with("a type of 101 characters", "type", &long_type),
        with("a type with NUL", "type", r#""Sale\u0000Created""#),
        with("no payload", "payload", ""),
        with("a payload that is null", "payload", "null"),
        with("a payload that is a list", "payload", "[]"),
        with("a payload that is a text", "payload", "\"{}\""),
        with("a payload that is a number", "payload", "1"),
        with("a number out of range beside the payload", "seq", "1e400"),
        with("a device of the clock with NUL", "vector_clock", r#"{"a\u0000":1}"#),
        with("an actor with a lone surrogate", "actor", r#"{"user_id":"\ud800"}"#),
        with("more than 3 MiB", "extra", &filled),
        Case { id: String::new(), ..case("two ids", &twice, INVALID) },
        case("two types", &sale_event().and("type", "\"SaleCreated\""), INVALID),
        case("two payloads", &sale_event().and("payload", "{}"), INVALID),
        case("two payloads, one escaped", &sale_event().and("p\\u0061yload", "{}"), INVALID),
    ]
}

fn payloads() -> Vec<Case> {
    let of = |name, payload: &Object| case(name, &envelope("SaleCreated", &payload.text()), INVALID);
    let with = |name, value: &str| of(name, &marked().with("x", value));
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let (digits, over) = ("9".repeat(29), quoted(&"x".repeat(MIB)));
    vec![
        of("more than 1 MiB", &marked().with("x", &over)),
        with("NUL", r#""\u0000""#),
        with("NUL within", r#""a\u0000b""#),
        of("NUL in a key", &marked().and("a\\u0000b", "1")),
        with("NUL deep inside", r#"{"a":[{"b":"\u0000"}]}"#),
        with("a high surrogate alone", r#""\ud800""#),
        with("a low surrogate alone", r#""\udc00""#),
        with("surrogates the wrong way round", r#""\udc00\ud800""#),
        with("a high surrogate before a letter", r#""\ud83dx""#),
        of("a surrogate in a key", &marked().and("\\udfff", "1")),
        of("a key twice", &marked().and("note", "2")),
        of("a key twice with the same value", &marked().and("k", "1").and("k", "1")),
        of("a key twice, once escaped", &marked().and("n\\u006fte", "2")),
        with("a key twice inside", r#"{"a":1,"b":{"c":1,"c":2}}"#),
        with("a key twice in a list", r#"[{"a":1,"a":1}]"#),
        // The payload is the first level.
        with("129 levels", &nested(128)),
        with("200,000 levels", &nested(200_000)),
        with("1e131071", "1e131071"),
        with("-1e131071", "-1e131071"),
        with("1e28", "1e28"),
        with("29 digits", &digits),
        with("a great mantissa", &format!("{digits}.5e1")),
        with("an exponent beyond counting", "1e99999999999999999999"),
    ]
}

fn untrusted() -> Vec<Case> {
    let hash = |name, key: &str, hash: &str| {
        let event = envelope("SaleCreated", &marked().text()).with(key, &quoted(hash));
        case(name, &event, INTEGRITY)
    };
    let zeros = "0".repeat(64);
    let with_delta = envelope("SaleCreated", &marked().text())
        .with("delta_payload", r#"{"a":1}"#)
        .with("full_payload_hash", &quoted(&"f".repeat(64)));
    vec![
        hash("a wrong hash", "full_payload_hash", &zeros),
        hash("a wrong hash under its other name", "payload_hash", &zeros),
        hash("a wrong hash in capitals", "full_payload_hash", &"AB".repeat(32)),
        case("the hash of neither payload nor delta", &with_delta, INTEGRITY),
    ]
}

fn all() -> Vec<Case> {
    envelopes().into_iter().chain(payloads()).chain(untrusted()).collect()
}

fn check(name: &str, rejection: &Value, case: &Case) {
    assert_eq!(rejection["code"], case.code, "{name}: {rejection}");
    assert_eq!(rejection["event_id"], case.id, "{name}: {rejection}");
    let message = rejection["message"].as_str().expect("a message");
    assert!(!message.is_empty() && message.len() < 200 && !message.contains(MARK), "{name}: {message}");
}

#[actix_web::test]
async fn an_event_that_cannot_be_kept_or_trusted_is_refused_and_is_in_no_table() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    node.client.push(&till, &[sale()]).await;
    node.client.projected().await;
    let pool = node.database.pool().await;
    let before = all_rows(&pool).await;
    for case in all() {
        let answer = push_texts(&node.client, &till, std::slice::from_ref(&case.text)).await;
        assert_eq!(answer.status, 200, "{}: {}", case.name, answer.text);
        assert!(!answer.text.contains(MARK), "{}: {}", case.name, answer.text);
        let answer = answer.json();
        let rejected = answer["rejected"].as_array().expect("a list");
        assert_eq!((rejected.len(), &answer["accepted"]), (1, &json!([])), "{}: {answer}", case.name);
        check(case.name, &rejected[0], &case);
        assert_eq!((&answer["last_processed_seq"], &answer["server_vector_clock"]), (&json!(0), &json!({})));
    }
    let after = all_rows(&pool).await;
    for (table, rows) in &before {
        assert_eq!(&after[table], rows, "{table} was touched");
    }
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn sound_events_of_a_push_are_taken_where_others_are_refused() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let cases = all();
    // Small ones alone, so that all of them fit one push.
    let cases: Vec<&Case> = cases.iter().filter(|case| case.text.len() < MIB / 2).collect();
    let sound: Vec<Object> = (0..=cases.len()).map(|_| sale_event()).collect();
    let mut events = vec![sound[0].text()];
    for (case, good) in cases.iter().zip(&sound[1..]) {
        events.extend([case.text.clone(), good.text()]);
    }
    let answer = push_texts(&node.client, &till, &events).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    let expected: Vec<String> = sound.iter().map(|event| event.get("event_id").replace('"', "")).collect();
    assert_eq!(ids(&answer["accepted"]), expected);
    let rejected = answer["rejected"].as_array().expect("a list");
    assert_eq!(rejected.len(), cases.len());
    for (rejection, case) in rejected.iter().zip(&cases) {
        check(case.name, rejection, case);
    }
    node.client.projected().await;
    assert_eq!(node.client.list(&till, "sales").await.len(), sound.len().min(100));
    node.stop().await;
}

#[actix_web::test]
async fn a_refused_event_tells_its_seq_where_it_can_be_read() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    for (seq, told) in [("41", json!(41)), ("-1", json!(-1)), ("\"41\"", Value::Null), ("null", Value::Null)]
    {
        let event = sale_event().with("seq", seq).with("payload", "null");
        let answer = push_texts(&node.client, &till, &[event.text()]).await.json();
        assert_eq!(answer["rejected"][0]["seq"], told, "{seq}");
    }
    node.stop().await;
}

#[actix_web::test]
async fn the_same_id_twice_in_one_push_is_a_duplicate_or_refused_and_kept_apart() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let (same, other) = (sale(), sale());
    let mut changed = other.clone();
    changed["payload"]["note"] = json!("another body");
    let mut retyped = other.clone();
    retyped["type"] = json!("SaleVoided");
    let events = [same.clone(), same.clone(), other.clone(), changed.clone(), retyped.clone()];
    let answer = node.client.push(&till, &events).await;
    let id_of = |event: &Value| event["event_id"].as_str().expect("an id").to_owned();
    assert_eq!(ids(&answer["accepted"]), [id_of(&same), id_of(&same), id_of(&other)]);
    assert_eq!(answer["duplicates"], json!([same["event_id"]]));
    assert_eq!(ids(&answer["rejected"]), [id_of(&other), id_of(&other)]);
    for rejection in answer["rejected"].as_array().expect("a list") {
        assert_eq!(rejection["code"], INTEGRITY);
    }
    let pool = node.database.pool().await;
    let kept: Vec<(String, String)> =
        sqlx::query_as("SELECT type, payload::text FROM event_variants ORDER BY type")
            .fetch_all(&pool)
            .await
            .expect("rows");
    let expected = [("SaleCreated", &changed), ("SaleVoided", &retyped)];
    assert_eq!(kept, expected.map(|(name, event)| (name.to_owned(), event["payload"].to_string())));
    node.client.projected().await;
    let sales = node.client.list(&till, "sales").await;
    assert!(sales.len() == 2 && sales.iter().all(|sale| sale["voided_at"].is_null()), "{sales:?}");
    // Of two sales the form with the smaller payload hash counts, whichever came first.
    let first_counts: bool = sqlx::query_scalar(
        "SELECT e.payload_hash < v.payload_hash FROM events e JOIN event_variants v USING (store_id, event_id)
         WHERE v.type = 'SaleCreated'",
    )
    .fetch_one(&pool)
    .await
    .expect("a row");
    let sold = sales.iter().find(|sale| sale["id"] == other["payload"]["sale_id"]).expect("the sale");
    assert_eq!(sold["note"], if first_counts { json!(null) } else { json!("another body") });
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn synthetic_sales_of_v1s_nodes_are_refused() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let push = async |client_version: &str, event: &Value| {
        let mut body = body(&till, std::slice::from_ref(event));
        body["client_version"] = json!(client_version);
        node.client.call("POST", "/sync/push", &till.token, Some(&body)).await.json()
    };
    let mut events = vec![sale(), sale(), sale()];
    events[0]["event_id"] = json!("00000000-0000-0000-0000-000000000001");
    events[1]["event_id"] = json!("00000000-0000-0000-0000-000000000002");
    events[2]["full_payload_hash"] = json!("synthetic");
    for event in &events {
        let answer = push("federation-synthetic-relay-1.0", event).await;
        assert_eq!(answer["rejected"][0]["code"], INTEGRITY, "{answer}");
        assert_eq!(answer["accepted"], json!([]));
    }
    // An id alone condemns no till's event.
    let answer = push("1.0.0", &events[0]).await;
    assert_eq!(answer["rejected"], json!([]));
    node.stop().await;
}

#[actix_web::test]
async fn a_push_of_nothing_sound_still_answers_200() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let events: Vec<String> = (0..500).map(|_| "{}".to_owned()).collect();
    let answer = push_texts(&node.client, &till, &events).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["rejected"].as_array().map(Vec::len), Some(500));
    // Whereas text between the events is no JSON at all.
    problem(&push_texts(&node.client, &till, &["{}".to_owned(), "x".to_owned()]).await, 400, "no JSON");
    node.stop().await;
}
