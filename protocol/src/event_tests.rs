use super::*;

const STORE: Uuid = Uuid::from_u128(0x5701e);
const TILL: &str = "16c0777a-d0e8-4954-8413-d9888479777f";
const ID: &str = "e2b6bc6e-1207-484e-8c20-bfb3494f7a9b";
/// 2025-11-24T03:53:20.123Z
const NOW_MS: i64 = 1_763_956_400_123;

fn sender() -> Sender<'static> {
    Sender {
        store_id: STORE,
        device_id: TILL,
        client_version: "1.0.0",
        user_id: None,
        now: DateTime::from_timestamp_millis(NOW_MS).expect("time"),
    }
}

/// An event of a type without fields of its own, with `more` members (`"seq":1`).
fn with(more: &str) -> String {
    let payload = if more.contains("\"payload\"") { "" } else { r#","payload":{"a":1}"# };
    let created =
        if more.contains("created_at") { String::new() } else { format!(",\"created_at\":{NOW_MS}") };
    let more = if more.is_empty() { String::new() } else { format!(",{more}") };
    format!(r#"{{"event_id":"{ID}","type":"RecipeIngredientsUpdated"{payload}{created}{more}}}"#)
}

fn accepted(text: &str) -> Received {
    read(text, &sender()).unwrap_or_else(|refused| panic!("{refused:?} for {text}"))
}

fn event(more: &str) -> Event {
    accepted(&with(more)).event
}

fn refused(text: &str) -> Rejection {
    read(text, &sender()).expect_err(text)
}

fn codes(received: &Received) -> Vec<WarningCode> {
    received.warnings.iter().map(|w| w.code).collect()
}

fn hex(hash: Hash) -> String {
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

fn canonical_hash(text: &str) -> Hash {
    canonical::hash(&Json::parse(text).expect("JSON"), KeyOrder::Rfc8785)
}

#[test]
fn absent_null_and_empty_text_are_the_same_for_every_optional_field() {
    let plain = accepted(&with(""));
    assert_eq!(codes(&plain), []);
    assert_eq!(plain.event.version, 1);
    let optional = [
        "seq",
        "version",
        "actor",
        "actor_user_id",
        "actor_role",
        "full_payload_hash",
        "payload_hash",
        "delta_payload",
        "vector_clock",
        "causal_dependencies",
        "request_id",
        "causal_digest",
    ];
    for field in optional {
        for blank in ["null", "\"\""] {
            assert_eq!(accepted(&with(&format!("\"{field}\":{blank}"))), plain, "{field}: {blank}");
        }
    }
}

#[test]
fn the_actor_is_read_nested_and_flat() {
    let user = "5A6F1626-02f4-4f5c-8676-e88a102c951b";
    let nested = event(&format!(r#""actor":{{"user_id":"{user}","role":"cashier"}}"#));
    let flat = event(&format!(r#""actor_user_id":"{user}","actor_role":"cashier""#));
    assert_eq!(nested, flat);
    assert_eq!(nested.actor_user_id, Some(user.to_lowercase()));
    assert_eq!(nested.actor_role.as_deref(), Some("cashier"));
    let half = event(r#""actor":{"user_id":"","role":null},"actor_user_id":"ana","actor_role":"owner""#);
    assert_eq!((half.actor_user_id.as_deref(), half.actor_role.as_deref()), (Some("ana"), Some("owner")));
    assert_eq!(event(r#""actor":[1]"#).actor_user_id, None);
}

#[test]
fn an_actor_who_is_not_the_credentials_user_is_remarked_upon() {
    let sender = Sender { user_id: Some("5A6F1626-02F4-4F5C-8676-E88A102C951B"), ..sender() };
    let warned = |more: &str| codes(&read(&with(more), &sender).expect("stored"));
    assert_eq!(warned(r#""actor":{"user_id":"5a6f1626-02f4-4f5c-8676-e88a102c951b"}"#), []);
    assert_eq!(warned(r#""actor_user_id":"someone""#), [WarningCode::ActorMismatch]);
    assert_eq!(warned(""), []);
}

#[test]
fn only_uuid_shaped_ids_are_put_in_lower_case() {
    let id = |text: &str| accepted(&with("").replace(ID, text)).event.event_id;
    assert_eq!(id(&ID.to_uppercase()), ID);
    for kept in
        ["Till-7/Sale-0001", "{E2B6BC6E-1207-484E-8C20-BFB3494F7A9B}", "E2B6BC6E1207484E8C20BFB3494F7A9B"]
    {
        assert_eq!(id(kept), kept);
    }
    let upper = ID.to_uppercase();
    let ids = event(&format!(r#""request_id":"{upper}","causal_dependencies":["{upper}","Sale-A",7]"#));
    assert_eq!(ids.request_id.as_deref(), Some(ID));
    assert_eq!(ids.causal_dependencies, [ID, "Sale-A"]);
}

#[test]
fn created_at_is_kept_to_the_millisecond_as_number_and_as_text() {
    for (sent, ms) in [
        (NOW_MS.to_string(), NOW_MS),
        ("\"2025-11-24T03:53:20.1239Z\"".to_owned(), NOW_MS),
        ("\"2025-11-23T23:53:20.123-04:00\"".to_owned(), NOW_MS),
        ("\"2025-11-24T03:53:20\"".to_owned(), NOW_MS - 123),
    ] {
        let received = accepted(&with(&format!("\"created_at\":{sent}")));
        assert_eq!((received.event.created_at.timestamp_millis(), codes(&received)), (ms, vec![]), "{sent}");
    }
}

#[test]
fn a_created_at_that_is_no_time_is_1970_with_a_remark() {
    let missing = format!(r#"{{"event_id":"{ID}","type":"RecipeIngredientsUpdated","payload":{{}}}}"#);
    let garbage = [
        "null",
        "\"\"",
        "\"yesterday\"",
        "\"1763956400123\"",
        "1.5",
        "true",
        "{}",
        "[]",
        "253402300800000",
        "-62135596800001",
        "1e27",
        "\"10000-01-01T00:00:00Z\"",
        "\"2025-13-01T00:00:00Z\"",
        "\"0000-01-01T00:00:00Z\"",
    ];
    let texts = garbage.iter().map(|sent| with(&format!("\"created_at\":{sent}")));
    for text in texts.chain([missing]) {
        let received = accepted(&text);
        assert_eq!(received.event.created_at, DateTime::UNIX_EPOCH, "{text}");
        assert_eq!(codes(&received), [WarningCode::ClockSkew], "{text}");
    }
}

#[test]
fn a_clock_5_minutes_ahead_or_400_days_behind_is_remarked_upon() {
    let (ahead, behind) = (SKEW_AHEAD.num_milliseconds(), SKEW_BEHIND.num_milliseconds());
    let skewed = |ms: i64, device_id: &str| {
        let received =
            read(&with(&format!("\"created_at\":{ms}")), &Sender { device_id, ..sender() }).expect("stored");
        assert_eq!(received.event.created_at.timestamp_millis(), ms);
        codes(&received) == [WarningCode::ClockSkew]
    };
    assert!(!skewed(NOW_MS + ahead, TILL));
    assert!(skewed(NOW_MS + ahead + 1, TILL));
    assert!(!skewed(NOW_MS - behind, TILL));
    assert!(skewed(NOW_MS - behind - 1, TILL));
    assert!(skewed(253_402_300_799_999, TILL));
    assert!(skewed(0, TILL));
    assert!(!skewed(NOW_MS + 100 * ahead, V1_NODE_DEVICE), "v1's pseudo-device writes for every node");
}

#[test]
fn a_seq_that_is_no_counter_counts_as_absent() {
    for (sent, seq) in [
        ("0", Some(0)),
        ("41", Some(41)),
        ("41.0", Some(41)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-1", None),
        ("9223372036854775808", None),
        ("1e27", None),
        ("1.5", None),
        ("\"41\"", None),
        ("[41]", None),
    ] {
        assert_eq!(event(&format!("\"seq\":{sent}")).seq, seq, "{sent}");
    }
}

#[test]
fn a_clock_of_100_000_entries_keeps_its_sound_counters() {
    let entries: Vec<String> = (0..100_000).map(|i| format!("\"d{i}\":{i}")).collect();
    let clock = event(&format!("\"vector_clock\":{{{}}}", entries.join(","))).vector_clock.expect("sent");
    assert_eq!((clock.0.len(), clock.0["d99999"]), (100_000, 99_999));
    let odd = event(r#""vector_clock":{"a":-1,"b":9007199254740993,"c":1e20,"d":"7","e":null,"f":7,"":3}"#);
    let kept = VectorClock([("f".to_owned(), 7), (String::new(), 3)].into());
    assert_eq!(odd.vector_clock, Some(kept));
}

#[test]
fn payload_and_delta_are_kept_byte_for_byte() {
    let payloads = [
        r#"{"a":1e2,"b":1.50,"c":-0,"d":0.1000}"#,
        "{ \"a\" :\t[ 1 ,\n2 ] , \"b\":{ } }",
        r#"{"z":"\u00e9\ud83d\ude00😀\/\u001f","a":"é"}"#,
        r#"{"n":123456789012345678901234.5678901234}"#,
    ];
    for payload in payloads {
        let event = event(&format!("\"payload\": {payload} ,\"delta_payload\":{payload}"));
        assert_eq!(event.payload, payload);
        assert_eq!(event.delta_payload.as_deref(), Some(payload));
        assert_eq!(event.payload_hash, canonical_hash(payload));
    }
    assert_eq!(event(r#""delta_payload":"text""#).delta_payload, None);
}

#[test]
fn an_event_without_id_type_or_payload_is_refused() {
    let base = format!(r#"{{"event_id":"{ID}","type":"T","payload":{{}}}}"#);
    assert_eq!(
        codes(&accepted(&base)),
        [WarningCode::UnknownType, WarningCode::ClockSkew].into_iter().rev().collect::<Vec<_>>()
    );
    for bad in ["null", "\"\"", "7", "[]", "{}"] {
        let no_id = refused(&base.replace(&format!("\"{ID}\""), bad));
        assert_eq!((no_id.event_id.as_str(), no_id.code), ("", RejectionCode::ValidationError), "{bad}");
        assert_eq!(refused(&base.replace("\"T\"", bad)).event_id, ID, "type {bad}");
    }
    for bad in ["null", "\"\"", "7", "[]", "\"{}\"", "true"] {
        assert_eq!(refused(&base.replace("{}", bad)).message, "payload is no object", "{bad}");
    }
    assert_eq!(refused(&format!(r#"{{"event_id":"{ID}","type":"T"}}"#)).message, "payload is missing");
    for text in ["[]", "7", "null", "\"event\"", "{}"] {
        assert_eq!(refused(text).code, RejectionCode::ValidationError, "{text}");
    }
}

#[test]
fn what_cannot_be_kept_is_refused_and_the_event_is_named() {
    let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    for (payload, message) in [
        (r#"{"a":"\u0000"}"#.to_owned(), "NUL"),
        (r#"{"a":"\ud800"}"#.to_owned(), "lone surrogate"),
        (r#"{"a":"\udc00\ud800"}"#.to_owned(), "lone surrogate"),
        (r#"{"a":1,"a":1}"#.to_owned(), "twice"),
        (r#"{"a":1,"b":{"x":1,"\u0078":2}}"#.to_owned(), "twice"),
        (deep(129), "128"),
        (r#"{"a":1e131071}"#.to_owned(), "NUMERIC"),
        (r#"{"a":10000000000000000000000000000}"#.to_owned(), "NUMERIC"),
        (format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_PAYLOAD_BYTES)), "1 MiB"),
    ] {
        let refused = refused(&with(&format!("\"payload\":{payload}")));
        assert_eq!(
            (refused.event_id.as_str(), refused.code),
            (ID, RejectionCode::ValidationError),
            "{message}"
        );
        assert!(refused.message.contains(message), "{} for {message}", refused.message);
    }
    assert!(read(&with(&format!("\"payload\":{}", deep(128))), &sender()).is_ok());
    let largest = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_PAYLOAD_BYTES - 8));
    assert_eq!(event(&format!("\"payload\":{largest}")).payload.len(), MAX_PAYLOAD_BYTES);
}

#[test]
fn an_id_of_255_characters_is_kept_and_one_of_256_is_refused() {
    let id = |chars: usize| "ñ".repeat(chars);
    assert_eq!(accepted(&with("").replace(ID, &id(255))).event.event_id, id(255));
    assert_eq!(refused(&with("").replace(ID, &id(256))).message, "event_id is too long");
    let typed = |chars: usize| with("").replace("RecipeIngredientsUpdated", &"T".repeat(chars));
    assert_eq!(accepted(&typed(100)).event.event_type.len(), 100);
    assert_eq!(refused(&typed(101)).message, "type is too long");
}

#[test]
fn a_refusal_echoes_nothing_but_id_and_seq() {
    let refused = refused(&with(r#""seq":42,"payload":"<script>secret</script>""#));
    assert_eq!((refused.event_id.as_str(), refused.seq), (ID, Some(42)));
    assert!(!refused.message.contains("secret"));
}

#[test]
fn a_hash_may_be_of_the_payload_or_of_the_delta_in_either_case_of_letters() {
    let (payload, delta) = (canonical_hash(r#"{"a":1}"#), canonical_hash(r#"{"d":2}"#));
    for field in ["full_payload_hash", "payload_hash"] {
        for hash in [hex(payload), hex(payload).to_uppercase(), hex(delta), hex(delta).to_uppercase()] {
            let received = accepted(&with(&format!(r#""delta_payload":{{"d":2}},"{field}":"{hash}""#)));
            assert_eq!(received.event.sent_hash.map(hex), Some(hash.to_lowercase()));
            assert_eq!((received.event.payload_hash, codes(&received)), (payload, vec![]));
        }
    }
    let foreign = refused(&with(&format!(r#""full_payload_hash":"{}""#, hex(delta))));
    assert_eq!((foreign.event_id.as_str(), foreign.code), (ID, RejectionCode::IntegrityError));
}

#[test]
fn the_hash_of_javascripts_key_order_is_accepted() {
    let payload = r#"{"b":1,"9":2,"10":3}"#;
    let hash: Hash = Sha256::digest(br#"{"9":2,"10":3,"b":1}"#).into();
    assert_ne!(hash, canonical_hash(payload));
    let event = event(&format!(r#""payload":{payload},"full_payload_hash":"{}""#, hex(hash)));
    assert_eq!((event.sent_hash, event.payload_hash), (Some(hash), canonical_hash(payload)));
}

#[test]
fn a_malformed_hash_is_unusable_and_the_event_is_stored() {
    let right = hex(canonical_hash(r#"{"a":1}"#));
    let long = format!("\"{right}0\"");
    let accent = format!("\"{}é\"", &right[..62]);
    let spaced = format!("\" {}\"", &right[1..]);
    for hash in ["\"hash_error\"", "\"synthetic\"", "7", "[]", "{}", &long, &accent, &spaced, "\"0x\""] {
        let received = accepted(&with(&format!("\"full_payload_hash\":{hash}")));
        assert_eq!(codes(&received), [WarningCode::HashUnusable], "{hash}");
        assert_eq!(received.event.sent_hash, None, "{hash}");
    }
}

#[test]
fn a_v1_nodes_wrong_hash_refuses_only_its_critical_types() {
    let node = Sender { client_version: "federation-relay-1.0", device_id: V1_NODE_DEVICE, ..sender() };
    let wrong = with(&format!(r#""full_payload_hash":"{}""#, "0".repeat(64)));
    let critical = [
        "SaleCreated",
        "StockReceived",
        "StockAdjusted",
        "CashSessionOpened",
        "CashSessionClosed",
        "DebtPaymentRecorded",
        "SaleVoided",
    ];
    for info in catalogue::TYPES {
        let text = wrong.replace("RecipeIngredientsUpdated", info.name);
        assert_eq!(refused(&text).code, RejectionCode::IntegrityError, "a till's {}", info.name);
        match read(&text, &node) {
            Err(refused) => {
                assert_eq!(refused.code, RejectionCode::IntegrityError);
                assert!(critical.contains(&info.name), "{}", info.name);
            }
            Ok(stored) => {
                assert!(!critical.contains(&info.name), "{}", info.name);
                assert!(codes(&stored).contains(&WarningCode::HashUnusable), "{}", info.name);
                assert_eq!(stored.event.sent_hash, None, "a wrong hash is not relayed");
            }
        }
    }
}

#[test]
fn v1s_soft_validation_mark_changes_neither_the_form_nor_the_hash_check() {
    let marked =
        |metadata: &str| format!(r#"{{"a":1,"metadata":{{{metadata}"sync_soft_validation":{{"ok":[1]}}}}}}"#);
    for (till, node) in
        [(r#"{"a":1,"metadata":{"offline":true}}"#, marked("\"offline\":true,")), (r#"{"a":1}"#, marked(""))]
    {
        let hash = hex(canonical_hash(till));
        let sent = |payload: &str| event(&format!(r#""payload":{payload},"full_payload_hash":"{hash}""#));
        let (from_till, from_node) = (sent(till), sent(&node));
        assert_eq!(from_till.payload_hash, from_node.payload_hash);
        assert_eq!(from_till.form_hash(), from_node.form_hash());
        assert_eq!(from_node.payload, node, "kept as it came");
        assert_eq!(from_node.sent_hash, from_till.sent_hash);
    }
    let empty = hex(canonical_hash(r#"{"a":1,"metadata":{}}"#));
    assert!(event(&format!(r#""payload":{},"full_payload_hash":"{empty}""#, marked(""))).sent_hash.is_some());
    let own = hex(canonical_hash(&marked("")));
    assert!(event(&format!(r#""payload":{},"full_payload_hash":"{own}""#, marked(""))).sent_hash.is_some());
}

#[test]
fn the_form_tells_apart_what_identifies_an_event_and_nothing_else() {
    let base = r#""seq":1,"vector_clock":{"a":1,"b":2},"request_id":"r""#;
    let form = |from: &str, to: &str| accepted(&with(base).replace(from, to)).event.form_hash();
    let original = form("", "");
    for (from, to) in [
        (r#"{"a":1}"#, r#"{ "a":1.0 }"#),
        (r#""seq":1"#, r#""seq":1,"version":1,"actor":{"user_id":"x"},"delta_payload":{"d":1}"#),
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1,"c":-5}"#),
    ] {
        assert_eq!(form(from, to), original, "{to}");
    }
    for (from, to) in [
        (r#"{"a":1}"#, r#"{"a":2}"#),
        (r#""seq":1"#, r#""seq":1,"version":2"#),
        (r#""seq":1"#, r#""seq":2"#),
        (r#""seq":1,"#, ""),
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#),
        (r#"{"a":1,"b":2}"#, r#"{"a:1|b":2}"#),
        (r#"id":"r""#, r#"id":"s""#),
        ("RecipeIngredientsUpdated", "ProductUpdated"),
        (&NOW_MS.to_string(), "1763956400124"),
    ] {
        assert_ne!(form(from, to), original, "{to}");
    }
    let other = read(&with(base), &Sender { device_id: "other", ..sender() }).expect("stored");
    assert_ne!(other.event.form_hash(), original);
}

#[test]
fn unknown_types_and_newer_versions_are_stored_without_a_meaning() {
    let unknown = accepted(&with("").replace("RecipeIngredientsUpdated", "LoyaltyPointsGranted"));
    assert_eq!((codes(&unknown), unknown.meaning), (vec![WarningCode::UnknownType], None));
    let newer = accepted(&with(r#""version":2"#).replace("RecipeIngredientsUpdated", "SaleCreated"));
    assert_eq!((codes(&newer), newer.event.version, newer.meaning), (vec![], 2, None));
    for version in ["0", "-3", "\"2\"", "1.5", "[]"] {
        assert_eq!(event(&format!("\"version\":{version}")).version, 1, "{version}");
    }
}

#[test]
fn an_unclear_payload_is_stored_with_its_reason() {
    let sale = accepted(
        &with(r#""payload":{"sale_id":"7","items":[]}"#).replace("RecipeIngredientsUpdated", "SaleCreated"),
    );
    assert_eq!(codes(&sale), [WarningCode::MalformedPayload]);
    assert_eq!((sale.warnings[0].message.as_str(), sale.meaning), ("sale_id is no UUID", None));
}

#[test]
fn a_synthetic_sale_is_refused_only_from_v1s_synthetic_client() {
    let client = Sender { client_version: "federation-synthetic-relay-1.0", ..sender() };
    let sale = with("").replace("RecipeIngredientsUpdated", "SaleCreated");
    let hashed =
        with(r#""full_payload_hash":"synthetic""#).replace("RecipeIngredientsUpdated", "SaleCreated");
    let first = sale.replace(ID, "00000000-0000-0000-0000-000000000001");
    for synthetic in [&hashed, &first, &first.replace("0001\"", "0002\"")] {
        assert_eq!(read(synthetic, &client).expect_err("made up").code, RejectionCode::IntegrityError);
        assert!(read(synthetic, &sender()).is_ok());
    }
    assert!(read(&sale, &client).is_ok(), "other events of that client are real");
}
