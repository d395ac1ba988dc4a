//! The answer to a push: its shape, what is taken, what was known before, what is remarked upon.

use crate::database::{EVENTS, number};
use crate::support::{TestNode, Till, event, id, sale};
use crate::wire::{all_rows, ids, jwt, now_ms, projection_of, push_bytes, warnings_of};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

fn id_of(event: &Value) -> String {
    event["event_id"].as_str().expect("an id").to_owned()
}

/// A sale of this seq.
fn numbered(seq: i64) -> Value {
    let mut event = sale();
    event["seq"] = json!(seq);
    event
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[actix_web::test]
async fn the_answer_has_v1s_fields_and_the_added_ones() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let before = now_ms();
    let mut refused = numbered(43);
    refused["payload"] = json!(null);
    let answer = node.client.push(&till, &[numbered(41), event("SomethingNew", json!({})), refused]).await;
    let fields = [
        "accepted",
        "causal_digest",
        "conflicted",
        "duplicates",
        "last_processed_seq",
        "rejected",
        "server_time",
        "server_vector_clock",
        "warnings",
    ];
    assert_eq!(keys(&answer), fields);
    assert_eq!(keys(&answer["accepted"][0]), ["event_id", "seq"]);
    assert_eq!(keys(&answer["rejected"][0]), ["code", "event_id", "message", "seq"]);
    assert_eq!(keys(&answer["warnings"][0]), ["code", "event_id", "message"]);
    assert_eq!((&answer["conflicted"], &answer["duplicates"]), (&json!([]), &json!([])));
    let time = answer["server_time"].as_i64().expect("milliseconds");
    assert!((before..=now_ms()).contains(&time), "{time}");
    node.stop().await;
}

#[actix_web::test]
async fn an_empty_push_has_empty_lists() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let mut answer = node.client.push(&till, &[]).await;
    answer["server_time"] = json!(0);
    let digest_of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let expected = json!({ "accepted": [], "rejected": [], "conflicted": [], "duplicates": [], "warnings": [],
        "server_time": 0, "last_processed_seq": 0, "server_vector_clock": {},
        "causal_digest": digest_of_nothing });
    assert_eq!(answer, expected);
    node.stop().await;
}

#[actix_web::test]
async fn accepted_stands_in_push_order_and_the_greatest_accepted_seq_is_told() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let known = numbered(3);
    node.client.push(&till, std::slice::from_ref(&known)).await;
    let mut refused = numbered(99);
    refused["payload"] = json!([]);
    let mut bare = sale();
    bare.as_object_mut().expect("an object").remove("seq");
    let events = [numbered(9), numbered(2), known.clone(), refused, bare.clone(), numbered(5)];
    let answer = node.client.push(&till, &events).await;
    let taken: Vec<String> = [0, 1, 2, 4, 5].map(|index| id_of(&events[index])).to_vec();
    assert_eq!(ids(&answer["accepted"]), taken);
    let seqs: Vec<&Value> =
        answer["accepted"].as_array().expect("a list").iter().map(|a| &a["seq"]).collect();
    assert_eq!(seqs, [&json!(9), &json!(2), &json!(3), &Value::Null, &json!(5)]);
    assert_eq!(answer["last_processed_seq"], 9);
    assert_eq!(answer["duplicates"], json!([known["event_id"]]));
    // Of this push alone: what went before does not count.
    assert_eq!(node.client.push(&till, &[numbered(1)]).await["last_processed_seq"], 1);
    assert_eq!(node.client.push(&till, &[bare]).await["last_processed_seq"], 0);
    node.stop().await;
}

#[actix_web::test]
async fn the_clock_of_the_answer_is_the_merge_of_this_pushs_accepted_events() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let neighbour = node.client.till_of(till.store_id).await;
    // A neighbour's events are no business of this till's.
    let mut foreign = numbered(700);
    foreign["vector_clock"] = json!({ "elsewhere": 900 });
    node.client.push(&neighbour, &[foreign]).await;
    let clocked = |seq: i64, clock: Value| {
        let mut event = numbered(seq);
        event["vector_clock"] = clock;
        event
    };
    let mut refused = clocked(50, json!({ "d": 50 }));
    refused["payload"] = json!(null);
    let own = till.device_id.as_str();
    let events = [
        clocked(7, json!({ own: 17, "x": 3, "y": 1 })),
        clocked(6, json!({ own: 18, "x": 1, "z": 2, "bad": -1 })),
        refused,
    ];
    let answer = node.client.push(&till, &events).await;
    // v1's counter of the own device is not its seq; seq is what tills are told.
    let expected = json!({ own: 7, "x": 3, "y": 1, "z": 2 });
    assert_eq!(answer["server_vector_clock"], expected);
    let mut parts: Vec<String> = expected
        .as_object()
        .map(Map::iter)
        .expect("an object")
        .map(|(device, counter)| format!("{device}:{counter}"))
        .collect();
    parts.sort_unstable();
    let digest: String = Sha256::digest(parts.join("|")).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(answer["causal_digest"], digest);
    // A repetition is told the same.
    let again = node.client.push(&till, &events[..2]).await;
    assert_eq!(again["server_vector_clock"], expected);
    node.stop().await;
}

#[actix_web::test]
async fn without_a_seq_the_own_entry_is_the_sent_one_else_the_time() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let own = till.device_id.as_str();
    let mut event = numbered(0);
    event["created_at"] = json!(now_ms() - 5);
    let answer = node.client.push(&till, std::slice::from_ref(&event)).await;
    assert_eq!(answer["server_vector_clock"], json!({ own: event["created_at"] }));
    let mut clocked = sale();
    clocked["seq"] = Value::Null;
    clocked["vector_clock"] = json!({ own: 12 });
    let answer = node.client.push(&till, &[clocked]).await;
    assert_eq!(answer["server_vector_clock"], json!({ own: 12 }));
    node.stop().await;
}

#[actix_web::test]
async fn a_known_event_in_another_form_is_a_duplicate_and_its_form_is_kept() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let neighbour = node.client.till_of(till.store_id).await;
    let first = numbered(1);
    node.client.push(&till, std::slice::from_ref(&first)).await;
    let changed = |key: &str, value: Value| {
        let mut event = first.clone();
        event[key] = value;
        event
    };
    let earlier = changed("created_at", json!(first["created_at"].as_i64().expect("ms") - 1000));
    let softened = {
        // What v1's nodes add to a payload makes no other content and no other form.
        let mut event = first.clone();
        event["payload"]["metadata"] = json!({ "sync_soft_validation": { "ok": true } });
        event
    };
    let forms = [
        (&till, earlier.clone(), 1),
        (&till, changed("seq", json!(2)), 2),
        (&till, changed("vector_clock", json!({ "a": 1 })), 3),
        (&till, changed("request_id", json!(id())), 4),
        (&neighbour, first.clone(), 5),
        (&till, earlier, 5),
        (&till, first.clone(), 5),
        (&till, softened, 5),
    ];
    let pool = node.database.pool().await;
    for (till, form, kept) in forms {
        let answer = node.client.push(till, std::slice::from_ref(&form)).await;
        assert_eq!(
            (&answer["rejected"], &answer["duplicates"]),
            (&json!([]), &json!([first["event_id"]])),
            "{form}"
        );
        let variants: i64 = sqlx::query_scalar("SELECT count(*) FROM event_variants WHERE event_id = $1")
            .bind(id_of(&first))
            .fetch_one(&pool)
            .await
            .expect("a count");
        assert_eq!(variants, kept, "{form}");
    }
    // What came first is what is stored, and it is projected once.
    let stored: (i64, String) =
        sqlx::query_as("SELECT count(*) OVER (), payload::text FROM events WHERE type = 'SaleCreated'")
            .fetch_one(&pool)
            .await
            .expect("the event");
    assert_eq!(stored, (1, first["payload"].to_string()));
    node.client.projected().await;
    assert_eq!(node.client.list(&till, "sales").await.len(), 1);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_known_id_with_other_content_is_an_integrity_error_and_the_content_is_kept_apart() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let first = numbered(1);
    node.client.push(&till, std::slice::from_ref(&first)).await;
    node.client.projected().await;
    let pool = node.database.pool().await;
    let before = all_rows(&pool).await;
    let mut other = first.clone();
    other["payload"]["totals"]["total_usd"] = json!(9999);
    let mut retyped = first.clone();
    retyped["type"] = json!("CustomerCreated");
    for (content, kept) in [(&other, 1), (&retyped, 2), (&other, 2)] {
        let answer = node.client.push(&till, std::slice::from_ref(content)).await;
        assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!([]), &json!([])));
        let rejection = &answer["rejected"][0];
        assert_eq!((&rejection["event_id"], &rejection["seq"]), (&first["event_id"], &json!(1)));
        assert_eq!(rejection["code"], "INTEGRITY_ERROR");
        assert!(!rejection["message"].as_str().expect("a text").is_empty());
        assert_eq!((&answer["last_processed_seq"], &answer["server_vector_clock"]), (&json!(0), &json!({})));
        let variants: Vec<(String, String)> =
            sqlx::query_as("SELECT type, payload::text FROM event_variants ORDER BY type DESC")
                .fetch_all(&pool)
                .await
                .expect("variants");
        assert_eq!(variants.len(), kept);
        let content =
            |event: &Value| (event["type"].as_str().unwrap().to_owned(), event["payload"].to_string());
        assert_eq!(variants[0], content(&other));
    }
    node.client.projected().await;
    assert_eq!(all_rows(&pool).await["events"], before["events"], "the log keeps what came first");
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn an_unknown_type_is_stored_and_skipped_with_a_remark() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let unknown = event("LoyaltyPointsGranted", json!({ "points": 5, "deep": { "a": [1, null] } }));
    let answer = node.client.push(&till, std::slice::from_ref(&unknown)).await;
    assert_eq!(warnings_of(&answer, &id_of(&unknown)), ["UNKNOWN_TYPE"]);
    assert_eq!(ids(&answer["accepted"]), [id_of(&unknown)]);
    // Known, but of no table yet: no remark.
    let quota = event("StockQuotaGranted", json!({ "quota_id": id() }));
    let recipe = event("RecipeIngredientsUpdated", json!({}));
    let answer = node.client.push(&till, &[quota.clone(), recipe.clone()]).await;
    assert_eq!(answer["warnings"], json!([]));
    node.client.projected().await;
    let pool = node.database.pool().await;
    for event in [&unknown, &quota, &recipe] {
        let (status, reason) = projection_of(&pool, till.store_id, &id_of(event)).await;
        assert_eq!(status, "skipped", "{event}");
        assert!(reason.contains(event["type"].as_str().expect("a type")), "{reason}");
    }
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn an_event_that_an_earlier_one_absorbs_is_accepted_with_a_remark() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let at = |mut event: Value, ms: i64| {
        event["created_at"] = json!(ms);
        event
    };
    let now = now_ms();
    let sale_id = id();
    let of_sale = |note: &str| event("SaleCreated", json!({ "sale_id": sale_id, "items": [], "note": note }));
    let (first, later) = (at(of_sale("first"), now - 500), at(of_sale("later"), now));
    node.client.push(&till, std::slice::from_ref(&first)).await;
    node.client.projected().await;
    // Absorbed by what is projected.
    let answer = node.client.push(&till, std::slice::from_ref(&later)).await;
    assert_eq!(warnings_of(&answer, &id_of(&later)), ["ABSORBED"]);
    assert_eq!(ids(&answer["accepted"]), [id_of(&later)]);
    // Within the push, whichever is named first: a payment under one request id.
    let payment = |ms: i64| {
        let payload =
            json!({ "payment_id": id(), "debt_id": sale_id, "amount": 1, "request_id": "one request" });
        at(event("DebtPaymentRecorded", payload), ms)
    };
    let (small, great) = (payment(now - 9), payment(now - 8));
    let answer = node.client.push(&till, &[great.clone(), small.clone()]).await;
    assert_eq!(warnings_of(&answer, &id_of(&great)), ["ABSORBED"]);
    assert_eq!(warnings_of(&answer, &id_of(&small)), Vec::<&str>::new());
    // A smaller one that comes late takes the place of what stood.
    let earliest = at(of_sale("earliest"), now - 1000);
    let answer = node.client.push(&till, std::slice::from_ref(&earliest)).await;
    assert_eq!(answer["warnings"], json!([]));
    node.client.projected().await;
    let sales = node.client.list(&till, "sales").await;
    assert_eq!((sales.len(), &sales[0]["note"]), (1, &json!("earliest")));
    let pool = node.database.pool().await;
    for (absorbed, by) in [(&first, &earliest), (&later, &earliest), (&great, &small)] {
        let found = projection_of(&pool, till.store_id, &id_of(absorbed)).await;
        assert_eq!(found, ("absorbed".to_owned(), id_of(by)));
    }
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn an_actor_that_is_not_the_credentials_user_is_remarked_upon() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let user = id();
    let by_user = Till { token: jwt(till.store_id, &user, 900), ..till.clone() };
    let acted = |actor: Value| {
        let mut event = sale();
        event["actor"] = actor;
        event
    };
    let in_capitals = json!({ "user_id": user.to_uppercase(), "role": "cashier" });
    let other = json!({ "user_id": id(), "role": "owner" });
    for (till, actor, codes) in [
        (&by_user, json!({ "user_id": user, "role": "cashier" }), vec![]),
        (&by_user, in_capitals, vec![]),
        (&by_user, json!(null), vec![]),
        (&by_user, other.clone(), vec!["ACTOR_MISMATCH"]),
        // A device's token names no user.
        (&till, other.clone(), vec![]),
    ] {
        let event = acted(actor);
        let answer = node.client.push(till, std::slice::from_ref(&event)).await;
        assert_eq!(warnings_of(&answer, &id_of(&event)), codes, "{event}");
        assert_eq!(answer["rejected"], json!([]));
    }
    node.client.projected().await;
    // Who acted is kept as it was sent.
    let sales = node.client.list(&till, "sales").await;
    assert_eq!(sales.iter().filter(|sale| sale["created_by"] == other["user_id"]).count(), 2);
    node.stop().await;
}

#[actix_web::test]
async fn one_event_may_be_remarked_upon_for_several_reasons() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let mut odd = sale();
    odd["created_at"] = json!("long ago");
    odd["full_payload_hash"] = json!("hash_error");
    odd["payload"]["items"] = json!("none");
    let answer = node.client.push(&till, &[sale(), odd.clone()]).await;
    let mut codes = warnings_of(&answer, &id_of(&odd));
    codes.sort_unstable();
    assert_eq!(codes, ["CLOCK_SKEW", "HASH_UNUSABLE", "MALFORMED_PAYLOAD"]);
    assert_eq!(answer["warnings"].as_array().map(Vec::len), Some(3));
    node.stop().await;
}

#[actix_web::test]
async fn a_push_by_gzip_is_the_same_push() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let events: Vec<Value> = (1..=300).map(numbered).collect();
    let body = crate::support::body(&till, &events).to_string().into_bytes();
    let zipped = crate::inputs::gzip(&body);
    assert!(zipped.len() < body.len() / 2);
    let answer = push_bytes(&node.client, &till, zipped, &[("content-encoding", "gzip")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    assert_eq!((ids(&answer["accepted"]).len(), &answer["last_processed_seq"]), (300, &json!(300)));
    let plain = push_bytes(&node.client, &till, body, &[]).await.json();
    assert_eq!(plain["duplicates"].as_array().map(Vec::len), Some(300));
    node.stop().await;
}

#[actix_web::test]
async fn pushes_of_many_tills_at_once_are_each_answered_their_own() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let shared = sale();
    let pushes = (0..40).map(|n| {
        let (client, till, shared) = (node.client.clone(), till.clone(), shared.clone());
        async move {
            let till = if n % 2 == 0 { till } else { client.till_of(till.store_id).await };
            let mut spoiled = sale();
            spoiled["payload"] = json!(null);
            let events = [numbered(1_000 + 2 * n), shared, spoiled.clone(), numbered(1_001 + 2 * n)];
            let answer = client.push(&till, &events).await;
            let taken = [&events[0], &events[1], &events[3]].map(id_of);
            assert_eq!(ids(&answer["accepted"]), taken);
            assert_eq!(ids(&answer["rejected"]), [id_of(&spoiled)]);
            assert_eq!(answer["last_processed_seq"], 1_001 + 2 * n);
            answer["duplicates"].as_array().map(Vec::len)
        }
    });
    let duplicates = futures_util::future::join_all(pushes).await;
    // One of them brought the shared event; all others repeated it.
    assert_eq!(duplicates.iter().filter(|count| **count == Some(0)).count(), 1);
    node.client.projected().await;
    let pool = node.database.pool().await;
    for count in [EVENTS, "SELECT count(*) FROM sales"] {
        assert_eq!(number(&pool, count).await, 81, "{count}");
    }
    pool.close().await;
    node.stop().await;
}
