//! Events that are odd and stored all the same: every field of the envelope with what is kept of it, and every
//! kind of unclear payload with its status, at once and without retries.

use crate::odd::{Object, envelope, line, quoted, sale_event, sale_payload};
use crate::support::{TestNode, Till, id};
use crate::wire::{now_ms, projection_of, push_texts, warnings_of};
use serde_json::{Value, json};
use sqlx::PgPool;
use velox_protocol::canonical::{KeyOrder, hash};
use velox_protocol::json::Json;

/// A node with a till, and a look into its database.
struct World {
    node: TestNode,
    till: Till,
    pool: PgPool,
}

impl World {
    async fn new() -> World {
        let node = TestNode::start().await;
        let till = node.client.till().await;
        World { pool: node.database.pool().await, till, node }
    }

    /// Pushes events of which all are stored, with their payloads byte for byte, and waits for their projection.
    /// Answers the push's answer.
    async fn keep(&self, events: &[Object]) -> Value {
        let texts: Vec<String> = events.iter().map(Object::text).collect();
        let answer = push_texts(&self.node.client, &self.till, &texts).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let answer = answer.json();
        assert_eq!(answer["rejected"], json!([]));
        let accepted = answer["accepted"].as_array().expect("a list");
        assert_eq!(accepted.len(), events.len());
        self.node.client.projected().await;
        for (event, accepted) in events.iter().zip(accepted) {
            let id = accepted["event_id"].as_str().expect("an id");
            let payload: String = self.column(id, "payload::text").await;
            assert_eq!(payload, event.get("payload"), "{id}");
        }
        answer
    }

    /// A column of a stored event.
    async fn column<T>(&self, event_id: &str, column: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let sql = format!("SELECT {column} FROM events WHERE store_id = $1 AND event_id = $2");
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(self.till.store_id).bind(event_id);
        query.fetch_one(&self.pool).await.unwrap_or_else(|error| panic!("{event_id}: {error}"))
    }

    async fn end(self) {
        self.pool.close().await;
        let ready = self.node.client.send(self.node.client.request("GET", "/readyz")).await;
        assert_eq!(ready.status, 200, "{}", ready.text);
        self.node.stop().await;
    }
}

fn accepted(answer: &Value, index: usize) -> (String, Value) {
    let accepted = &answer["accepted"][index];
    (accepted["event_id"].as_str().expect("an id").to_owned(), accepted["seq"].clone())
}

#[actix_web::test]
async fn any_text_of_1_to_255_characters_is_an_event_id() {
    let world = World::new().await;
    let upper = id().to_uppercase();
    let cases = [
        (quoted("factura-1"), "factura-1".to_owned()),
        (quoted("7"), "7".to_owned()),
        (quoted(&"ñ".repeat(255)), "ñ".repeat(255)),
        (quoted("00000000-0000-0000-0000-000000000000"), "00000000-0000-0000-0000-000000000000".to_owned()),
        (quoted(&upper), upper.to_lowercase()),
        (quoted(&format!("{{{upper}}}")), format!("{{{upper}}}")),
        (quoted(&format!("urn:uuid:{upper}")), format!("urn:uuid:{upper}")),
        (quoted(&upper.replace('-', "")), upper.replace('-', "")),
        (quoted("'; DROP TABLE events; --"), "'; DROP TABLE events; --".to_owned()),
        (quoted("<b>=1+1|' /C calc'!A0%s"), "<b>=1+1|' /C calc'!A0%s".to_owned()),
        (r#""a\n\t\u001b[31m\"\\\u202e""#.to_owned(), "a\n\t\u{1b}[31m\"\\\u{202e}".to_owned()),
        (r#""\ud83d\ude00\u00e9""#.to_owned(), "😀é".to_owned()),
        (quoted(" "), " ".to_owned()),
    ];
    let events: Vec<Object> = cases.iter().map(|(text, _)| sale_event().with("event_id", text)).collect();
    world.keep(&events).await;
    for (text, kept) in &cases {
        assert_eq!(world.column::<String>(kept, "event_id").await, *kept, "{text}");
        assert_eq!(projection_of(&world.pool, world.till.store_id, kept).await.0, "processed", "{text}");
    }
    // Once more, and in the other case: the same events.
    let again: Vec<Object> = events.iter().map(Object::clone).collect();
    let answer = world.keep(&again).await;
    assert_eq!(answer["duplicates"].as_array().map(Vec::len), Some(cases.len()));
    world.end().await;
}

#[actix_web::test]
async fn a_seq_is_kept_if_it_is_a_whole_number_of_at_least_0() {
    let world = World::new().await;
    let cases: &[(&str, Option<i64>)] = &[
        ("0", Some(0)),
        ("1", Some(1)),
        ("41.0", Some(41)),
        ("4.1e1", Some(41)),
        ("9007199254740992", Some(9_007_199_254_740_992)),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", None),
        ("1e27", None),
        ("-1", None),
        ("-9223372036854775808", None),
        ("1.5", None),
        ("\"41\"", None),
        ("null", None),
        ("\"\"", None),
        ("true", None),
        ("[1]", None),
        ("", None),
    ];
    let events: Vec<Object> = cases.iter().map(|(seq, _)| sale_event().with("seq", seq)).collect();
    let answer = world.keep(&events).await;
    for (index, (text, seq)) in cases.iter().enumerate() {
        let (id, told) = accepted(&answer, index);
        assert_eq!(world.column::<Option<i64>>(&id, "seq").await, *seq, "{text}");
        assert_eq!(told, json!(seq), "{text}");
    }
    assert_eq!(answer["last_processed_seq"], i64::MAX);
    let path = "/sync/last-seq";
    let last = world.node.client.call("GET", path, &world.till.token, None).await.json();
    assert_eq!(last["last_seq"], i64::MAX);
    // Going back is no fault: v1's till does after a restore.
    let back = world.keep(&[sale_event().with("seq", "7"), sale_event().with("seq", "3")]).await;
    assert_eq!(back["last_processed_seq"], 7);
    world.end().await;
}

#[actix_web::test]
async fn a_time_is_kept_to_the_millisecond_or_as_1970() {
    let world = World::new().await;
    let now = now_ms();
    let cases: Vec<(String, i64, bool)> = vec![
        (now.to_string(), now, false),
        ("0".to_owned(), 0, true),
        ("-1".to_owned(), -1, true),
        ("1763950000".to_owned(), 1_763_950_000, true),
        ("-62135596800000".to_owned(), -62_135_596_800_000, true),
        ("-62135596800001".to_owned(), 0, true),
        ("253402300799999".to_owned(), 253_402_300_799_999, true),
        ("253402300800000".to_owned(), 0, true),
        ("9007199254740993".to_owned(), 0, true),
        ("1e13".to_owned(), 10_000_000_000_000, true),
        ("1.5".to_owned(), 0, true),
        (quoted("1970-01-01T00:00:00Z"), 0, true),
        (quoted("9999-12-31T23:59:59.9999Z"), 253_402_300_799_999, true),
        (quoted("10000-01-01T00:00:00Z"), 0, true),
        (quoted("0001-01-01T00:00:00Z"), -62_135_596_800_000, true),
        (quoted("2001-02-03T04:05:06.789"), 981_173_106_789, true),
        (quoted("2001-02-03 04:05:06.789"), 981_173_106_789, true),
        (quoted("2001-02-03T04:05:06.7899+01:00"), 981_169_506_789, true),
        (quoted("2001-02-30T04:05:06Z"), 0, true),
        (quoted("2001-02-03"), 0, true),
        (quoted(&now.to_string()), 0, true),
        (quoted("yesterday"), 0, true),
        ("null".to_owned(), 0, true),
        (quoted(""), 0, true),
        ("{}".to_owned(), 0, true),
        (String::new(), 0, true),
        ((now + 4 * 60_000).to_string(), now + 4 * 60_000, false),
        ((now + 6 * 60_000).to_string(), now + 6 * 60_000, true),
        ((now - 399 * 86_400_000).to_string(), now - 399 * 86_400_000, false),
        ((now - 401 * 86_400_000).to_string(), now - 401 * 86_400_000, true),
    ];
    let events: Vec<Object> = cases.iter().map(|(at, ..)| sale_event().with("created_at", at)).collect();
    let answer = world.keep(&events).await;
    for (index, (text, ms, skewed)) in cases.iter().enumerate() {
        let (id, _) = accepted(&answer, index);
        let kept: i64 = world.column(&id, "(extract(epoch FROM created_at) * 1000)::int8").await;
        assert_eq!(kept, *ms, "{text}");
        let warnings = warnings_of(&answer, &id);
        assert_eq!(warnings, if *skewed { vec!["CLOCK_SKEW"] } else { vec![] }, "{text}");
    }
    // All of them can be read again, by page and by time.
    let sales = world.node.client.list(&world.till, "sales").await;
    assert_eq!(sales.len(), cases.len());
    let at = |sale: &Value| sale["sold_at"].as_str().expect("a time").to_owned();
    assert_eq!(
        (at(&sales[0]), at(&sales[sales.len() - 1])),
        ("0001-01-01T00:00:00.000Z".to_owned(), "9999-12-31T23:59:59.999Z".to_owned())
    );
    world.end().await;
}

#[actix_web::test]
async fn only_a_newer_version_of_a_payload_is_put_off() {
    let world = World::new().await;
    let cases: &[(&str, i32, &str)] = &[
        ("1", 1, "processed"),
        ("2", 2, "skipped"),
        ("2147483647", i32::MAX, "skipped"),
        ("0", 1, "processed"),
        ("-1", 1, "processed"),
        ("1.5", 1, "processed"),
        ("\"2\"", 1, "processed"),
        ("null", 1, "processed"),
        ("{}", 1, "processed"),
        ("", 1, "processed"),
    ];
    let events: Vec<Object> =
        cases.iter().map(|(version, ..)| sale_event().with("version", version)).collect();
    let answer = world.keep(&events).await;
    for (index, (text, version, status)) in cases.iter().enumerate() {
        let (id, _) = accepted(&answer, index);
        assert_eq!(world.column::<i32>(&id, "version").await, *version, "{text}");
        assert_eq!(projection_of(&world.pool, world.till.store_id, &id).await.0, *status, "{text}");
    }
    world.end().await;
}

fn hex(hash: [u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[actix_web::test]
async fn a_hash_is_checked_where_it_is_one() {
    let world = World::new().await;
    let payload = sale_payload().with("10", "1").with("9", "[0.1,1e2]").text();
    let delta = r#"{"b":1,"a":{"z":null,"y":0.30000000000000004}}"#;
    let of = |text: &str, order| hex(hash(&Json::parse(text).expect("JSON"), order));
    let right = of(&payload, KeyOrder::Rfc8785);
    let fresh = || envelope("SaleCreated", &payload).with("delta_payload", delta);
    let sent = |key: &str, value: &str| fresh().with(key, value);
    let script = of(&payload, KeyOrder::JavaScript);
    assert_ne!(script, right);
    let cases: Vec<(&str, Object, bool)> = vec![
        ("right", sent("full_payload_hash", &quoted(&right)), false),
        ("under its other name", sent("payload_hash", &quoted(&right)), false),
        ("in capitals", sent("full_payload_hash", &quoted(&right.to_uppercase())), false),
        ("of the delta", sent("full_payload_hash", &quoted(&of(delta, KeyOrder::Rfc8785))), false),
        ("in JavaScript's order", sent("full_payload_hash", &quoted(&script)), false),
        ("none", fresh(), false),
        ("null", sent("full_payload_hash", "null"), false),
        ("empty", sent("full_payload_hash", "\"\""), false),
        (
            "empty, and right under its other name",
            sent("full_payload_hash", "\"\"").with("payload_hash", &quoted(&right)),
            false,
        ),
        ("v1's excuse", sent("full_payload_hash", "\"hash_error\""), true),
        ("of 63 digits", sent("full_payload_hash", &quoted(&right[1..])), true),
        ("of 65 digits", sent("full_payload_hash", &quoted(&format!("{right}0"))), true),
        ("of no digits", sent("full_payload_hash", &quoted(&"g".repeat(64))), true),
        ("with a mark", sent("full_payload_hash", &quoted(&format!("0x{}", &right[2..]))), true),
        ("of 64 letters beyond ASCII", sent("full_payload_hash", &quoted(&"é".repeat(32))), true),
        ("a number", sent("full_payload_hash", "12"), true),
        ("an object", sent("full_payload_hash", "{}"), true),
    ];
    let events: Vec<Object> = cases.iter().map(|(_, event, _)| event.clone()).collect();
    let answer = world.keep(&events).await;
    for (index, (name, event, unusable)) in cases.iter().enumerate() {
        let (id, _) = accepted(&answer, index);
        let codes = warnings_of(&answer, &id);
        assert_eq!(codes.contains(&"HASH_UNUSABLE"), *unusable, "{name}: {codes:?}");
        let kept: Vec<u8> = world.column(&id, "payload_hash").await;
        assert_eq!(hex(kept.try_into().expect("32 bytes")), right, "{name}");
        let kept: String = world.column(&id, "delta_payload::text").await;
        assert_eq!(kept, event.get("delta_payload"), "{name}");
    }
    world.end().await;
}

#[actix_web::test]
async fn of_a_clock_the_sound_entries_are_kept() {
    let world = World::new().await;
    let own = &world.till.device_id;
    let kept = |clock: Value| Some(clock);
    let cases: Vec<(String, Option<Value>)> = vec![
        ("{}".to_owned(), kept(json!({}))),
        (r#"{"a":1,"b":0}"#.to_owned(), kept(json!({ "a": 1, "b": 0 }))),
        (r#"{"a":-1,"b":1.5,"c":"3","d":null,"e":true,"f":2}"#.to_owned(), kept(json!({ "f": 2 }))),
        (
            r#"{"a":9007199254740992,"b":9007199254740993,"c":1e27}"#.to_owned(),
            kept(json!({ "a": 9_007_199_254_740_992_i64 })),
        ),
        (r#"{"":1,"'; --":2}"#.to_owned(), kept(json!({ "": 1, "'; --": 2 }))),
        (format!(r#"{{"{own}":999999}}"#), kept(json!({ own.as_str(): 999_999 }))),
        ("[]".to_owned(), kept(json!({}))),
        ("7".to_owned(), kept(json!({}))),
        ("\"x\"".to_owned(), kept(json!({}))),
        ("null".to_owned(), None),
        ("\"\"".to_owned(), None),
        (String::new(), None),
    ];
    for (text, clock) in cases {
        let answer = world.keep(&[sale_event().with("seq", "5").with("vector_clock", &text)]).await;
        let (id, _) = accepted(&answer, 0);
        let stored: Option<Value> = world.column(&id, "vector_clock").await;
        assert_eq!(stored, clock, "{text}");
        // In the answer the own entry is the seq, whatever the till's clock says of itself.
        let mut merged = clock.unwrap_or(json!({}));
        merged[own.as_str()] = json!(5);
        assert_eq!(answer["server_vector_clock"], merged, "{text}");
    }
    world.end().await;
}

#[actix_web::test]
async fn a_clock_of_100_000_devices_is_kept_and_answered() {
    let world = World::new().await;
    let entries: Vec<String> = (0..100_000).map(|device| format!(r#""till-{device}":{device}"#)).collect();
    let clock = format!("{{{}}}", entries.join(","));
    let answer = world.keep(&[sale_event().with("vector_clock", &clock)]).await;
    assert_eq!(answer["server_vector_clock"].as_object().map(serde_json::Map::len), Some(100_001));
    let neighbour = world.node.client.till_of(world.till.store_id).await;
    let pulled = world.node.client.call("GET", "/sync/pull", &neighbour.token, None).await.json();
    assert_eq!(pulled["events"][0]["vector_clock"]["till-99999"], 99_999);
    world.end().await;
}

#[actix_web::test]
async fn what_else_an_envelope_says_is_kept_where_it_is_of_its_kind() {
    let world = World::new().await;
    let upper = id().to_uppercase();
    let lower = upper.to_lowercase();
    let texts = |list: &[&str]| Some(json!(list));
    for (key, value, column, kept) in [
        (
            "actor",
            format!(r#"{{"user_id":"{upper}","role":"owner"}}"#),
            "to_jsonb(actor_user_id)",
            Some(json!(lower)),
        ),
        (
            "actor",
            r#"{"user_id":"u","role":"owner"}"#.to_owned(),
            "to_jsonb(actor_role)",
            Some(json!("owner")),
        ),
        ("actor_user_id", quoted("flat"), "to_jsonb(actor_user_id)", Some(json!("flat"))),
        ("actor", "7".to_owned(), "to_jsonb(actor_user_id)", None),
        ("actor", r#"{"user_id":7,"role":[]}"#.to_owned(), "to_jsonb(actor_user_id)", None),
        ("request_id", quoted(&upper), "to_jsonb(request_id)", Some(json!(lower))),
        ("request_id", "7".to_owned(), "to_jsonb(request_id)", None),
        ("causal_digest", quoted("d"), "to_jsonb(causal_digest)", Some(json!("d"))),
        (
            "causal_dependencies",
            format!(r#"["{upper}",7,null,"x"]"#),
            "causal_dependencies",
            texts(&[&lower, "x"]),
        ),
        ("causal_dependencies", "[]".to_owned(), "causal_dependencies", None),
        ("causal_dependencies", quoted("x"), "causal_dependencies", None),
        ("delta_payload", "[]".to_owned(), "to_jsonb(delta_payload::text)", None),
        (
            "delta_payload",
            r#"{ "a" :1e2 }"#.to_owned(),
            "to_jsonb(delta_payload::text)",
            Some(json!(r#"{ "a" :1e2 }"#)),
        ),
    ] {
        let answer = world.keep(&[sale_event().with(key, &value)]).await;
        let (id, _) = accepted(&answer, 0);
        assert_eq!(world.column::<Option<Value>>(&id, column).await, kept, "{key}: {value}");
    }
    world.end().await;
}

#[actix_web::test]
async fn dependencies_on_itself_and_in_a_circle_hold_nothing_up() {
    let world = World::new().await;
    let (a, b, c) = (quoted(&id()), quoted(&id()), quoted(&id()));
    let event = |id: &str, needs: &str| sale_event().with("event_id", id).with("causal_dependencies", needs);
    let many: Vec<String> = (0..10_000).map(|_| quoted(&id())).collect();
    let events = [
        event(&a, &format!("[{a}]")),
        event(&b, &format!("[{c}]")),
        event(&c, &format!("[{b},{b}]")),
        event(&quoted(&id()), &format!("[{}]", many.join(","))),
    ];
    let answer = world.keep(&events).await;
    assert_eq!(answer["warnings"], json!([]));
    assert_eq!(world.node.client.list(&world.till, "sales").await.len(), 4);
    world.end().await;
}

#[actix_web::test]
async fn a_payload_comes_back_byte_for_byte() {
    let world = World::new().await;
    let sale_id = id();
    let payload = format!(
        "{{ \"z\" :1e2,\t\"sale_id\":\"{sale_id}\" , \"a\":1.50, \"big\":9007199254740993, \"long\":0.1000000000000000055511151231257827,\n\
         \"e\":\"\\u00e9\\/\\ud83d\\ude00é😀\", \"neg\":-0, \"tiny\":1e-300,\r\n \"2\":{{}} , \"1\":[ ], \"\":null,\"items\":[],\"exp\":1E+2}}"
    );
    world.keep(&[envelope("SaleCreated", &payload)]).await;
    let neighbour = world.node.client.till_of(world.till.store_id).await;
    for path in ["/sync/pull", "/sync/pull?cursor="] {
        let answer = world.node.client.call("GET", path, &neighbour.token, None).await;
        assert!(answer.text.contains(&payload), "{path}: {}", answer.text);
    }
    world.end().await;
}

#[actix_web::test]
async fn the_greatest_and_deepest_payloads_are_kept() {
    let world = World::new().await;
    let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
    let empty = sale_payload().with("x", "\"\"").text().len();
    let great = sale_payload().with("x", &quoted(&"x".repeat(1024 * 1024 - empty))).text();
    assert_eq!(great.len(), 1024 * 1024);
    let edge = sale_payload().with("x", "[9999999999999999999999999999,-9.9e27,1e-131071,0e131071]").text();
    let many: Vec<String> = (0..20_000).map(|key| format!(r#""k{key}":{key}"#)).collect();
    let wide = format!("{{\"product_id\":\"{}\",{}}}", id(), many.join(","));
    let events = [
        envelope("SaleCreated", &sale_payload().with("x", &deep).text()),
        envelope("SaleCreated", &great),
        envelope("SaleCreated", &edge),
        envelope("ProductCreated", &wide),
    ];
    let answer = world.keep(&events).await;
    for index in 0..events.len() {
        let (id, _) = accepted(&answer, index);
        assert_eq!(projection_of(&world.pool, world.till.store_id, &id).await.0, "processed", "{index}");
    }
    world.end().await;
}

/// A payload, what becomes of it, the reason, and whether the answer remarks on it.
struct Unclear(&'static str, String, &'static str, &'static str, bool);

fn sales() -> Vec<Unclear> {
    let with = |key: &str, value: &str| sale_payload().with(key, value).text();
    let item = |key: &str, value: &str| with("items", &format!("[{}]", line().with(key, value).text()));
    let failed = |payload: String, reason| Unclear("SaleCreated", payload, "failed", reason, true);
    let odd = |payload: String| Unclear("SaleCreated", payload, "processed", "", true);
    let fine = |payload: String| Unclear("SaleCreated", payload, "processed", "", false);
    let upper = id().to_uppercase();
    let free = sale_payload().with("totals", r#"{"total_usd":-3,"total_bs":-109.5}"#);
    let refund = line().with("unit_price_usd", "-1.5").with("unit_price_bs", "\"-54.75\"").text();
    vec![
        failed(with("sale_id", ""), "sale_id is missing"),
        failed(with("sale_id", "null"), "sale_id is missing"),
        failed(with("sale_id", "\"\""), "sale_id is missing"),
        failed(with("sale_id", "42"), "sale_id is no UUID"),
        failed(with("sale_id", "\"sale-1\""), "sale_id is no UUID"),
        failed(with("sale_id", &quoted(&format!("{{{upper}}}"))), "sale_id is no UUID"),
        failed(with("sale_id", &quoted(&upper.replace('-', ""))), "sale_id is no UUID"),
        fine(with("sale_id", &quoted(&upper))),
        fine(with("sale_id", "\"00000000-0000-0000-0000-000000000000\"")),
        failed(with("items", "{}"), "items is no list"),
        failed(with("items", "\"x\""), "items is no list"),
        failed(with("items", "[1]"), "items[0] is no object"),
        failed(with("items", "[null]"), "items[0] is no object"),
        odd(with("items", "[]")),
        odd(with("items", "null")),
        failed(item("product_id", ""), "items[0].product_id is missing"),
        failed(item("product_id", "\"p\""), "items[0].product_id is no UUID"),
        failed(item("qty", ""), "items[0].qty is missing"),
        failed(item("qty", "\"NaN\""), "items[0].qty is no decimal number"),
        failed(item("qty", "\"Infinity\""), "items[0].qty is no decimal number"),
        failed(item("qty", "\"1,5\""), "items[0].qty is no decimal number"),
        failed(item("qty", "\" 1\""), "items[0].qty is no decimal number"),
        failed(item("qty", "\"0x10\""), "items[0].qty is no decimal number"),
        failed(item("qty", "true"), "items[0].qty is no decimal number"),
        failed(item("qty", "1e18"), "items[0].qty is out of range"),
        failed(item("qty", "-1e18"), "items[0].qty is out of range"),
        odd(item("qty", "0")),
        odd(item("qty", "-2")),
        odd(item("qty", "999999999999999")),
        fine(item("qty", "2.00000000000000000001")),
        fine(free.with("items", &format!("[{refund}]")).text()),
        odd(with("totals", r#"{"total_usd":300,"total_bs":109.5}"#)),
        failed(with("totals", "\"x\""), "totals is no object"),
        failed(with("totals", r#"{"total_bs":"1.234,50"}"#), "total_bs is no decimal number"),
        failed(with("totals", r#"{"total_bs":1e17}"#), "total_bs is out of range"),
        failed(with("payment", "42"), "payment is no object"),
        failed(with("customer", "[]"), "customer is no object"),
        failed(with("sold_at", "\"yesterday\""), "sold_at is no time"),
        failed(with("sold_at", "1e15"), "sold_at is no time"),
        failed(with("exchange_rate", "1e12"), "exchange_rate is out of range"),
        failed(with("session_id", "\"x\""), "session_id is no UUID"),
        failed(with("note", "{}"), "note is no text"),
        fine(with("note", "5")),
        fine(with("cash_session_id", "\"\"").replacen('{', "{\"warehouse_id\":\"\",", 1)),
    ]
}

fn others() -> Vec<Unclear> {
    let failed =
        |name, payload: &str, reason| Unclear(name, payload.replace("{id}", &id()), "failed", reason, true);
    vec![
        failed("SaleVoided", "{}", "sale_id is missing"),
        failed("SaleVoided", r#"{"sale_id":"{id}","voided_at":"x"}"#, "voided_at is no time"),
        failed("DebtCreated", r#"{"debt_id":"{id}"}"#, "total_amount is missing"),
        failed("DebtCreated", r#"{"debt_id":"{id}","amount":"NaN"}"#, "amount is no decimal number"),
        failed("DebtCreated", r#"{"debt_id":"d","amount":1}"#, "debt_id is no UUID"),
        failed("DebtPaymentRecorded", r#"{"payment_id":"{id}","amount":1}"#, "debt_id is missing"),
        failed("DebtPaymentAdded", r#"{"payment_id":"{id}","debt_id":"{id}"}"#, "amount is missing"),
        failed("StockReceived", r#"{"product_id":"{id}"}"#, "qty is missing"),
        failed(
            "StockReceived",
            r#"{"items":[{"product_id":"{id}","qty":1},{}]}"#,
            "items[1].product_id is missing",
        ),
        failed("StockAdjusted", r#"{"product_id":"{id}","qty":1}"#, "qty_delta is missing"),
        failed("StockDeltaApplied", r#"{"product_id":"{id}","delta":1e18}"#, "delta is out of range"),
        failed("CashLedgerEntryCreated", r#"{"entry_id":"{id}","amount":1}"#, "entry_type is missing"),
        failed("CashSessionOpened", r#"{"opened_at":1}"#, "session_id is missing"),
        failed("CashSessionOpened", r#"{"session_id":"{id}","opened_at":"x"}"#, "opened_at is no time"),
        failed(
            "CashSessionClosed",
            r#"{"session_id":"{id}","closing_amount":"x"}"#,
            "closing_amount is no decimal number",
        ),
        failed("ProductCreated", r#"{"name":"x"}"#, "product_id is missing"),
        failed("ProductUpdated", r#"{"product_id":"{id}","patch":[]}"#, "patch is no object"),
        failed(
            "ProductUpdated",
            r#"{"product_id":"{id}","is_active":"yes"}"#,
            "is_active is neither true nor false",
        ),
        failed(
            "PriceChanged",
            r#"{"product_id":"{id}","price_usd":"1,50"}"#,
            "price_usd is no decimal number",
        ),
        failed("CustomerCreated", r#"{"customer_id":"{id}","name":{}}"#, "name is no text"),
        failed("CustomerUpdated", r#"{"customer_id":7}"#, "customer_id is no UUID"),
    ]
}

#[actix_web::test]
async fn an_unclear_payload_is_stored_and_failed_at_once_with_its_reason() {
    let world = World::new().await;
    let cases: Vec<Unclear> = sales().into_iter().chain(others()).collect();
    let events: Vec<Object> = cases.iter().map(|case| envelope(case.0, &case.1)).collect();
    let answer = world.keep(&events).await;
    for (index, Unclear(name, payload, status, reason, remarked)) in cases.iter().enumerate() {
        let (id, _) = accepted(&answer, index);
        let (is, why) = projection_of(&world.pool, world.till.store_id, &id).await;
        assert_eq!((is.as_str(), why.as_str()), (*status, *reason), "{name} {payload}");
        let codes = warnings_of(&answer, &id);
        assert_eq!(codes, if *remarked { vec!["MALFORMED_PAYLOAD"] } else { vec![] }, "{name} {payload}");
    }
    let waiting: (i64, Option<i32>) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM outbox_entries), (SELECT max(attempts) FROM event_exceptions)",
    )
    .fetch_one(&world.pool)
    .await
    .expect("counts");
    assert_eq!(waiting, (0, Some(1)), "no entry is left and none was tried twice");
    world.end().await;
}

#[actix_web::test]
async fn amounts_are_exact_decimals_rounded_half_away_from_zero() {
    let world = World::new().await;
    let (sale_id, product_id) = (id(), id());
    let item = line().with("product_id", &quoted(&product_id)).with("qty", "\"0.0005\"");
    let item = item.with("unit_price_usd", "0.00005").with("unit_price_bs", "-12345678901234.56785");
    let payload = sale_payload()
        .with("sale_id", &quoted(&sale_id))
        .with("items", &format!("[{}]", item.text()))
        .with("totals", r#"{"total_bs":9007199254740993,"total_usd":"1.00500000000000000000"}"#)
        .with("total", "-2.675")
        .with("exchange_rate", "36.5000005");
    world.keep(&[envelope("SaleCreated", &payload.text())]).await;
    let path = format!("/stores/{}/sales/{sale_id}", world.till.store_id);
    let sale = world.node.client.call("GET", &path, &world.till.token, None).await.json();
    assert_eq!(sale["total_bs"], "9007199254740993.00");
    assert_eq!(sale["total_usd"], "1.01");
    assert_eq!(sale["total"], "-2.68");
    assert_eq!(sale["exchange_rate"], "36.500001");
    assert_eq!(sale["items"][0]["qty"], "0.001");
    assert_eq!(sale["items"][0]["unit_price_usd"], "0.0001");
    assert_eq!(sale["items"][0]["unit_price_bs"], "-12345678901234.5679");
    world.end().await;
}
