//! Prices that two tills set without knowing of each other: read, decided by a person, and told to the others; and
//! the trail that an event leaves.

use crate::support::{ADMIN, Answer, TestNode, Till, event, id};
use crate::wire::{jwt, now_ms, problem, projection_of};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;
use velox_protocol::conflict::conflict_id;

fn price(product: &str, created_at: i64, usd: f64) -> Value {
    let mut event = event("PriceChanged", json!({ "product_id": product, "price_usd": usd }));
    event["created_at"] = json!(created_at);
    event
}

fn id_of(event: &Value) -> &str {
    event["event_id"].as_str().expect("an id")
}

/// Two tills of a shop in conflict over a price: 1 of the first till, which is older but arrives last, and 2 of the
/// second one. Answers the conflict, the product and the two events.
pub(crate) async fn two_prices(node: &TestNode, one: &Till, two: &Till) -> (Uuid, String, [String; 2]) {
    let (product, now) = (id(), now_ms());
    let (first, second) = (price(&product, now - 60_000, 1.0), price(&product, now, 2.0));
    node.client.push(two, std::slice::from_ref(&second)).await;
    node.client.projected().await;
    node.client.push(one, std::slice::from_ref(&first)).await;
    node.client.projected().await;
    let conflict = conflict_id(one.store_id, product.parse().expect("a UUID"), "price");
    (conflict, product, [id_of(&first).to_owned(), id_of(&second).to_owned()])
}

async fn resolve(node: &TestNode, token: &str, conflict: Uuid, value: Value) -> Answer {
    let path = format!("/sync/conflicts/{conflict}/resolve");
    node.client.call("POST", &path, token, Some(&json!({ "value": value }))).await
}

async fn resolve_as_v1(node: &TestNode, token: &str, conflict: &str, resolution: &str) -> Answer {
    let body = json!({ "conflict_id": conflict, "resolution": resolution });
    node.client.call("POST", "/sync/resolve-conflict", token, Some(&body)).await
}

async fn price_of(node: &TestNode, till: &Till, product: &str) -> Value {
    node.client.projected().await;
    let products = node.client.list(till, "products").await;
    products.into_iter().find(|row| row["id"] == product).expect("the product")["price_usd"].take()
}

async fn trail(node: &TestNode, token: &str, event_id: &str) -> Value {
    let answer = node.client.call("GET", &format!("/sync/events/{event_id}"), token, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[actix_web::test]
async fn a_decided_price_is_shown_pulled_and_can_be_decided_again() {
    let node = TestNode::start().await;
    let one = node.client.till().await;
    let (two, third) = (node.client.till_of(one.store_id).await, node.client.till_of(one.store_id).await);
    let (conflict, product, sides) = two_prices(&node, &one, &two).await;
    assert_eq!(price_of(&node, &one, &product).await, "2.0000");

    let user = jwt(one.store_id, "0196f0a0-0000-7000-8000-00000000000A", 900);
    let answer = resolve(&node, &user, conflict, json!({ "price_usd": "1.75" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let decided = answer.json();
    let event_id = id_of(&decided).to_owned();
    assert_eq!(event_id.as_bytes()[14], b'7', "a UUIDv7");
    let expected =
        json!({ "success": true, "conflict_id": conflict, "event_id": event_id, "store_id": one.store_id });
    assert_eq!(decided, expected);
    assert_eq!(price_of(&node, &one, &product).await, "1.7500");
    let list = |path: &'static str| node.client.call("GET", path, &one.token, None);
    assert_eq!(list("/sync/conflicts/unresolved").await.json()["items"], json!([]));
    let log = list("/sync/conflicts/audit?strategy=mvr").await.json();
    assert_eq!((&log["items"][0]["id"], log["items"].as_array().map(Vec::len)), (&json!(conflict), Some(1)));
    assert_eq!(log["items"][0]["resolved_by"], "0196f0a0-0000-7000-8000-00000000000a");
    assert!(log["items"][0]["resolved_at"].is_string());

    let pulled = node.client.call("GET", "/sync/pull?last_checkpoint=0", &third.token, None).await.json();
    let last = pulled["events"].as_array().expect("events").last().expect("an event").clone();
    assert_eq!((id_of(&last), &last["type"]), (event_id.as_str(), &json!("PriceChanged")));
    assert_eq!(last["payload"]["price_usd"], json!(1.75), "a number, as v1's tills have it");
    let trail = trail(&node, &one.token, &event_id).await;
    let by = "0196f0a0-0000-7000-8000-00000000000a";
    assert_eq!(trail["actor"], json!({ "user_id": by, "role": "cashier" }));
    let metadata = &trail["payload"]["metadata"];
    let mut resolves = sides.clone();
    resolves.sort();
    assert_eq!(metadata["resolves"], json!(resolves));
    assert_eq!(metadata["conflict_id"], json!(conflict));
    assert_eq!(metadata["resolved_by"], by);
    assert_eq!(trail["projection"]["status"], "processed");
    assert_eq!(trail["pulled_by"], json!([third.device_id]));
    // The node's first event of the store is its declaration.
    assert_eq!((&trail["seq"], trail["device_id"].as_str().map(str::len)), (&json!(2), Some(36)));

    let answer = resolve(&node, &two.token, conflict, json!({ "price_usd": 5 })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(price_of(&node, &one, &product).await, "5.0000");
    node.stop().await;
}

#[actix_web::test]
async fn a_push_is_told_of_a_price_conflict_in_the_words_that_its_client_takes() {
    let node = TestNode::start().await;
    let one = node.client.till().await;
    let two = node.client.till_of(one.store_id).await;
    let (product, now) = (id(), now_ms());
    let first = price(&product, now - 1_000, 1.0);
    let answer = node.client.push(&one, std::slice::from_ref(&first)).await;
    assert_eq!((&answer["warnings"], &answer["conflicted"]), (&json!([]), &json!([])));
    node.client.projected().await;

    let mut second = price(&product, now, 2.0);
    second["seq"] = json!(9);
    let answer = node.client.push(&two, std::slice::from_ref(&second)).await;
    assert_eq!(
        (answer["accepted"][0]["event_id"].as_str(), &answer["conflicted"]),
        (Some(id_of(&second)), &json!([]))
    );
    assert_eq!(answer["warnings"][0]["code"], "CONFLICT_OPEN");

    let body = json!({ "store_id": two.store_id, "device_id": two.device_id, "accepts": ["conflicts"],
        "events": [second, event("CustomerCreated", json!({ "customer_id": id() }))] });
    let answer = node.client.call("POST", "/sync/push", &two.token, Some(&body)).await.json();
    assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(1), "the customer: {answer}");
    assert_eq!((&answer["duplicates"], &answer["warnings"]), (&json!([]), &json!([])));
    let conflict = conflict_id(one.store_id, product.parse().expect("a UUID"), "price");
    let told = &answer["conflicted"][0];
    assert_eq!((told["event_id"].as_str(), &told["conflict_id"]), (Some(id_of(&second)), &json!(conflict)));
    assert_eq!((&told["seq"], &told["requires_manual_review"]), (&json!(9), &json!(true)));
    assert_eq!(told["conflicting_with"], json!([id_of(&first)]));
    assert_eq!(
        (&answer["last_processed_seq"], &answer["server_vector_clock"][&two.device_id]),
        (&json!(9), &json!(9))
    );

    node.client.projected().await;
    let open = node.client.call("GET", "/sync/conflicts/unresolved", &one.token, None).await.json();
    assert_eq!(open["items"][0]["id"], json!(conflict), "{open}");
    node.stop().await;
}

#[actix_web::test]
async fn what_cannot_be_decided_is_told_why_and_writes_nothing() {
    let node = TestNode::start().await;
    let one = node.client.till().await;
    let two = node.client.till_of(one.store_id).await;
    let other = node.client.till().await;
    let (conflict, product, _) = two_prices(&node, &one, &two).await;
    for value in [json!({}), json!(null), json!([]), json!({ "name": "x" }), json!({ "price_usd": "much" })] {
        let answer = resolve(&node, &one.token, conflict, value.clone()).await;
        assert_eq!(problem(&answer, 400, &value.to_string())["code"], "INVALID_VALUE");
    }
    let path = format!("/sync/conflicts/{conflict}/resolve");
    let none = node.client.call("POST", &path, &one.token, Some(&json!({}))).await;
    assert_eq!(problem(&none, 400, "no value")["code"], "INVALID_VALUE");
    let value = json!({ "price_usd": 3 });
    problem(&resolve(&node, &other.token, conflict, value.clone()).await, 404, "another store's");
    problem(&resolve(&node, &one.token, Uuid::nil(), value.clone()).await, 404, "an unknown one");
    let path = "/sync/conflicts/none/resolve";
    problem(
        &node.client.call("POST", path, &one.token, Some(&json!({ "value": value }))).await,
        404,
        "no id",
    );
    let session = conflict_id(one.store_id, Uuid::from_u128(7), "opened");
    let pool = node.database.pool().await;
    let sql = format!(
        "INSERT INTO conflict_audit_log (store_id, id, entity_type, entity_id, field, winner_event_id, loser_event_ids,
             strategy) VALUES ('{}', '{session}', 'cash_session', '{}', 'opened', 'b', '{{a}}', 'lww')",
        one.store_id,
        Uuid::from_u128(7)
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect("a row");
    pool.close().await;
    let answer = resolve(&node, &one.token, session, value).await;
    assert_eq!(problem(&answer, 409, "a session's")["code"], "NOT_RESOLVABLE");
    assert_eq!(price_of(&node, &one, &product).await, "2.0000");
    node.stop().await;
}

#[actix_web::test]
async fn v1s_tills_keep_their_own_or_take_the_other_and_never_ask_for_ever() {
    let node = TestNode::start().await;
    let one = node.client.till().await;
    let two = node.client.till_of(one.store_id).await;
    let user = jwt(one.store_id, "u", 900);
    for (token, resolution, expected) in [
        (&one.token, "keep_mine", "1.0000"),
        (&one.token, "take_theirs", "2.0000"),
        (&two.token, "keep_mine", "2.0000"),
        (&two.token, "take_theirs", "1.0000"),
        // A JWT names no device; the event that arrived last is the one that was answered conflicted.
        (&user, "keep_mine", "1.0000"),
        (&user, "take_theirs", "2.0000"),
    ] {
        let (conflict, product, _) = two_prices(&node, &one, &two).await;
        let conflict = conflict.to_string();
        let mut messages = Vec::new();
        for _ in 0..2 {
            let answer = resolve_as_v1(&node, token, &conflict, resolution).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.json()["success"], true);
            messages.push(answer.json()["message"].as_str().expect("a message").to_owned());
            assert_eq!(price_of(&node, &one, &product).await, expected, "{resolution}");
        }
        assert_eq!(messages[0], "The conflict is resolved.");
        assert_eq!(messages[1], "The conflict is decided already; nothing was changed.");
    }
    let (conflict, ..) = two_prices(&node, &one, &two).await;
    for resolution in ["", "keep", "KEEP_MINE"] {
        let answer = resolve_as_v1(&node, &one.token, &conflict.to_string(), resolution).await;
        assert_eq!(problem(&answer, 400, resolution)["code"], "INVALID_RESOLUTION");
    }
    problem(&resolve_as_v1(&node, &one.token, "", "keep_mine").await, 400, "no id");
    for unknown in [id().as_str(), "none"] {
        problem(&resolve_as_v1(&node, &one.token, unknown, "keep_mine").await, 404, unknown);
    }
    let other = node.client.till().await;
    let answer = resolve_as_v1(&node, &other.token, &conflict.to_string(), "keep_mine").await;
    problem(&answer, 404, "another store's");
    node.stop().await;
}

#[actix_web::test]
async fn open_conflicts_and_the_log_are_lists_of_the_callers_store() {
    let node = TestNode::start().await;
    let one = node.client.till().await;
    let two = node.client.till_of(one.store_id).await;
    let other = node.client.till().await;
    let mut conflicts = Vec::new();
    for _ in 0..3 {
        conflicts.push(two_prices(&node, &one, &two).await);
    }
    let get = async |token: &str, path: &str| node.client.call("GET", path, token, None).await;
    let mut walked: Vec<Value> = Vec::new();
    let mut path = "/sync/conflicts/unresolved?limit=2".to_owned();
    for _ in 0..2 {
        let page = get(&one.token, &path).await.json();
        walked.extend(page["items"].as_array().expect("items").iter().cloned());
        let cursor = page["next_cursor"].as_str().unwrap_or_default();
        path = format!("/sync/conflicts/unresolved?limit=2&cursor={cursor}");
    }
    let ids: Vec<_> = walked.iter().map(|item| item["id"].clone()).collect();
    assert_eq!(ids, conflicts.iter().map(|(id, ..)| json!(id)).collect::<Vec<_>>());
    let (item, (_, product, [first, second])) = (&walked[0], &conflicts[0]);
    assert_eq!((&item["entity_id"], &item["winner_event_id"]), (&json!(product), &json!(second)));
    assert_eq!(item["loser_event_ids"], json!([first]));
    assert_eq!(item["versions"][1]["values"], json!({ "price_usd": "2" }));
    assert_eq!((&item["winner_payload"]["price_usd"], &item["resolved_at"]), (&json!("2"), &Value::Null));

    let log = get(&one.token, "/sync/conflicts/audit?strategy=mvr&from=2026-01-01").await.json();
    assert_eq!(log["items"].as_array().map(Vec::len), Some(3));
    assert_eq!((&log["items"][0]["strategy"], &log["next_cursor"]), (&json!("mvr"), &Value::Null));
    assert!(log["items"][0]["detected_at"].is_string());
    for empty in ["strategy=awset", "to=2026-01-01", "from=2200-01-01T00:00:00Z"] {
        let page = get(&one.token, &format!("/sync/conflicts/audit?{empty}")).await.json();
        assert_eq!(page, json!({ "items": [], "next_cursor": null }), "{empty}");
    }
    for list in ["unresolved", "audit"] {
        let path = format!("/sync/conflicts/{list}");
        assert_eq!(get(&other.token, &path).await.json()["items"], json!([]));
        for (query, code) in
            [("limit=0", "INVALID_LIMIT"), ("cursor=x", "INVALID_CURSOR"), ("store_id=x", "INVALID_QUERY")]
        {
            let answer = get(&one.token, &format!("{path}?{query}")).await;
            assert_eq!(problem(&answer, 400, query)["code"], code);
        }
        problem(&get(ADMIN, &format!("{path}?store_id={}", id())).await, 404, "an unknown store");
        let of_admin = get(ADMIN, &format!("{path}?store_id={}", one.store_id)).await.json();
        assert_eq!(of_admin["items"].as_array().map(Vec::len), Some(3));
    }
    for query in ["from=yesterday", "strategy=best"] {
        let answer = get(&one.token, &format!("/sync/conflicts/audit?{query}")).await;
        assert_eq!(problem(&answer, 400, query)["code"], "INVALID_QUERY");
    }
    node.stop().await;
}

#[actix_web::test]
async fn any_event_id_has_its_trail_and_none_of_another_store_or_of_no_event() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let mut odd = price(&id(), now_ms(), 1.0);
    odd["event_id"] = json!("a/b c%2F?ñ");
    let mut upper = price(&id(), now_ms(), 1.0);
    upper["event_id"] = json!("0196F0A0-0000-7000-8000-00000000000A");
    let quota = event("StockQuotaGranted", json!({ "quota_id": id(), "product_id": id() }));
    node.client.push(&till, &[odd, upper, quota.clone(), price(&id(), now_ms(), 1.0)]).await;
    node.client.projected().await;
    assert_eq!(trail(&node, &till.token, "a%2Fb%20c%252F%3F%C3%B1").await["event_id"], "a/b c%2F?ñ");
    for text in ["0196F0A0-0000-7000-8000-00000000000A", "0196f0a0-0000-7000-8000-00000000000a"] {
        assert_eq!(trail(&node, &till.token, text).await["event_id"], "0196f0a0-0000-7000-8000-00000000000a");
    }
    for none in ["nothing", "%00", "%FF", &id()] {
        let answer = node.client.call("GET", &format!("/sync/events/{none}"), &till.token, None).await;
        problem(&answer, 404, none);
    }
    // A v1 till's position goes past what it is not given.
    let neighbour = node.client.till_of(till.store_id).await;
    let pulled = node.client.call("GET", "/sync/pull", &neighbour.token, None).await;
    assert_eq!(pulled.json()["events"].as_array().map(Vec::len), Some(3));
    let granted = trail(&node, &till.token, id_of(&quota)).await;
    assert_eq!((&granted["pulled_by"], &granted["projection"]["status"]), (&json!([]), &json!("skipped")));
    let odd = trail(&node, &till.token, "a%2Fb%20c%252F%3F%C3%B1").await;
    assert_eq!(odd["pulled_by"], json!([neighbour.device_id]));
    let pool = node.database.pool().await;
    assert_eq!(projection_of(&pool, till.store_id, "a/b c%2F?ñ").await.0, "processed");
    pool.close().await;
    node.stop().await;
}
