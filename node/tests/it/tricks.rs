//! Queries, cursors, paths, methods and headers that try something: each with its status, none with a 5xx.

use crate::odd::sale_event;
use crate::support::{ADMIN, TestNode, Till, event, id, sale, wait};
use crate::wire::{problem, push_body, push_bytes, raw};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

const LISTS: [&str; 8] =
    ["sales", "debts", "products", "customers", "cash-sessions", "cash-ledger", "stock", "stock-movements"];

/// A node with a till whose shop has two sales.
async fn world() -> (TestNode, Till) {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    node.client.push(&till, &[sale(), sale()]).await;
    node.client.projected().await;
    (node, till)
}

async fn refuse(node: &TestNode, till: &Till, path: &str, code: &str) {
    let answer = node.client.call("GET", path, &till.token, None).await;
    let told = problem(&answer, 400, path);
    assert_eq!(told["code"], code, "{path}: {told}");
}

#[actix_web::test]
async fn a_limit_outside_1_to_1000_is_400() {
    let (node, till) = world().await;
    for limit in
        ["-1", "0", "1001", "99999999999999999999", "1.5", "1e2", "x", "", "%20", "%2B5", "0x10", "ñ"]
    {
        for list in LISTS {
            let path = format!("/stores/{}/{list}?limit={limit}", till.store_id);
            refuse(&node, &till, &path, "INVALID_LIMIT").await;
        }
        // A plus sign is taken there, since a number with one is the same number.
        for path in ["/sync/pull?limit=", "/sync/pull?cursor=&limit="].iter().filter(|_| limit != "%2B5") {
            let answer = node.client.call("GET", &format!("{path}{limit}"), &till.token, None).await;
            problem(&answer, 400, path);
        }
    }
    for limit in [1, 2, 1000] {
        for path in [format!("/stores/{}/sales", till.store_id), "/sync/pull".to_owned()] {
            let answer = node.client.call("GET", &format!("{path}?limit={limit}"), &till.token, None).await;
            assert_eq!(answer.status, 200, "{path} {limit}");
        }
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_cursor_that_this_list_did_not_give_is_400() {
    let (node, till) = world().await;
    let store = till.store_id;
    let get = async |path: String| node.client.call("GET", &path, &till.token, None).await.json();
    let of_sales = get(format!("/stores/{store}/sales?limit=1")).await["next_cursor"].clone();
    let of_stock = get(format!("/stores/{store}/stock?limit=1")).await["next_cursor"].clone();
    let of_pull = get("/sync/pull".to_owned()).await["next_cursor"].clone();
    let of_sales = of_sales.as_str().expect("a cursor");
    let coded = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let garbage = [
        "x".to_owned(),
        "0".to_owned(),
        "%00".to_owned(),
        "AAAA".to_owned(),
        "....".to_owned(),
        "a".repeat(4_000),
        URL_SAFE_NO_PAD.encode([0xff; 40]),
        coded(json!(null)),
        coded(json!({})),
        coded(json!({ "store": store, "ms": "x", "id": "" })),
        coded(json!({ "store": store, "ms": i64::MAX, "id": "" })),
        coded(json!({ "store": store, "ms": i64::MIN, "id": "" })),
        coded(json!({ "store": store, "ms": 1, "id": "a\u{0}" })),
        coded(json!({ "list": "sales", "store_id": store, "after": [i64::MAX, store] })),
        coded(json!({ "list": "sales", "store_id": store, "after": "x" })),
        of_sales[..of_sales.len() / 2].to_owned(),
        format!("{of_sales}x"),
        of_stock.as_str().expect("a cursor").to_owned(),
    ];
    for cursor in &garbage {
        refuse(&node, &till, &format!("/stores/{store}/sales?cursor={cursor}"), "INVALID_CURSOR").await;
        refuse(&node, &till, &format!("/sync/pull?cursor={cursor}"), "INVALID_CURSOR").await;
    }
    for list in LISTS {
        for cursor in ["x", "", of_pull.as_str().expect("a cursor")] {
            refuse(&node, &till, &format!("/stores/{store}/{list}?cursor={cursor}"), "INVALID_CURSOR").await;
        }
    }
    refuse(&node, &till, &format!("/sync/pull?cursor={of_sales}"), "INVALID_CURSOR").await;
    let next = get(format!("/stores/{store}/sales?limit=1&cursor={of_sales}")).await;
    assert_eq!(next["items"].as_array().map(Vec::len), Some(1));
    node.stop().await;
}

#[actix_web::test]
async fn a_query_of_the_wrong_kind_is_400_and_never_a_fault_of_the_node() {
    let (node, till) = world().await;
    let store = till.store_id;
    for query in [
        "sales?from=x",
        "sales?to=2026-02-30",
        "sales?from=10000-01-01",
        "sales?from=0000-01-01",
        "sales?from=2026-1-1",
        "sales?from=%00",
        "sales?status=gone",
        "sales?status=",
        "sales?customer_id=x",
        "sales?customer_id=",
        "sales?device_id=%00",
        "sales?limit=1&limit=2",
        "debts?status=open",
        "debts?customer_id=%7B%7D",
        "cash-sessions?status=x",
        "cash-ledger?session_id=x",
        "products?active=maybe",
        "products?q=%00",
        "customers?q=a%00b",
        "stock?product_id=x",
        "stock?negative=1",
        "stock-movements?from=now",
    ] {
        let path = format!("/stores/{store}/{query}");
        let answer = node.client.call("GET", &path, &till.token, None).await;
        problem(&answer, 400, &path);
    }
    for query in [
        "last_checkpoint=x",
        "last_checkpoint=1.5",
        "last_checkpoint=9223372036854775808",
        "last_checkpoint=9223372036854775807",
        "last_checkpoint=253402300800000",
        "last_checkpoint=-1&cursor_event_id=a",
        "last_checkpoint=1&last_checkpoint=2",
        "last_checkpoint=1&cursor_event_id=%00",
        "cursor_event_id=a%00b",
        "device_id=a%0ab",
        "device_id=%00",
        "store_id=x",
        "store_id=%7B%7D",
    ] {
        let path = format!("/sync/pull?{query}");
        let as_admin = format!("{path}&store_id={store}");
        let answer = node.client.call("GET", &as_admin, ADMIN, None).await;
        problem(&answer, 400, &path);
        let answer = node.client.call("GET", &path, &till.token, None).await;
        // A device that names another than itself is refused before the rest is looked at.
        assert!(matches!(answer.status, 400 | 403), "{path}: {} {}", answer.status, answer.text);
        problem(&answer, answer.status, &path);
    }
    for path in ["/sync/status?device_id=%00", "/sync/last-seq?device_id=a%1bb", "/sync/last-seq?device_id="]
    {
        let as_admin = format!("{path}&store_id={store}");
        problem(&node.client.call("GET", &as_admin, ADMIN, None).await, 400, path);
    }
    node.stop().await;
}

#[actix_web::test]
async fn what_a_query_does_not_have_is_ignored() {
    let (node, till) = world().await;
    for path in [
        format!("/stores/{}/sales?offset=5&order=desc&select=*&%00=1", till.store_id),
        "/sync/pull?since=1&__proto__=x".to_owned(),
        "/sync/pull?last_checkpoint=-5".to_owned(),
        "/sync/pull?device_id=&cursor_event_id=".to_owned(),
    ] {
        let answer = node.client.call("GET", &path, &till.token, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    node.stop().await;
}

#[actix_web::test]
async fn no_spelling_of_a_path_leads_past_the_check_of_its_store() {
    let (node, till) = world().await;
    let other = node.client.till().await;
    let stolen = sale();
    node.client.push(&other, std::slice::from_ref(&stolen)).await;
    node.client.projected().await;
    let (own, theirs) = (till.store_id, other.store_id);
    let marks = [theirs.to_string(), stolen["event_id"].as_str().expect("an id").to_owned()];
    let get = async |path: &str| {
        let token = &till.token;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        raw(node.node.address, request.as_bytes()).await
    };
    for path in [
        format!("/stores/{own}/../{theirs}/sales"),
        format!("/stores/{own}/..%2f{theirs}/sales"),
        format!("/stores/{own}%2f..%2f{theirs}/sales"),
        format!("/stores/%2e%2e/{theirs}/sales"),
        format!("/stores/{theirs}%00/sales"),
        format!("/stores/{theirs}%20/sales"),
        format!("/stores/{theirs};/sales"),
        format!("/stores/{{{theirs}}}/sales"),
        format!("/stores/{own},{theirs}/sales"),
        format!("/stores/{own}/{theirs}/sales"),
        format!("//stores/{theirs}/sales"),
        format!("/stores//{theirs}/sales"),
        format!("/./stores/{theirs}/sales"),
        format!("/STORES/{theirs}/sales"),
        format!("/stores/{theirs}/sales/"),
        format!("/stores/{theirs}/sales#{own}"),
        format!("/%73tores/{theirs}/sales"),
        format!("/stores/{}/sales", theirs.to_string().replace('-', "%2d")),
        format!("/stores/{}/sales", theirs.to_string().to_uppercase()),
        format!("http://x/stores/{theirs}/sales"),
        format!("/stores/*/sales?store_id={theirs}"),
        format!("/stores/{own}/sales?store_id={theirs}"),
        format!("/sync/%2e%2e/stores/{theirs}/sales"),
        format!("/docs/../stores/{theirs}/sales"),
        "/admin/%73tores".to_owned(),
        "/admin/../admin/stores".to_owned(),
        "/sync/../admin/devices".to_owned(),
        "/docs/../../etc/passwd".to_owned(),
        "/docs/..%2f..%2fCargo.toml".to_owned(),
    ] {
        let answer = get(&path).await;
        let status: u16 = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
        assert!((200..500).contains(&status), "{path}: {answer}");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(!marks.iter().any(|mark| body.contains(mark)), "{path}: {answer}");
        assert!(
            !body.contains("home_node") && !body.contains("root:") && !body.contains("[package]"),
            "{answer}"
        );
    }
    node.stop().await;
}

#[actix_web::test]
async fn headers_do_not_turn_one_request_into_another() {
    let (node, till) = world().await;
    let client = &node.client;
    let last = client.call("GET", "/sync/last-seq", &till.token, None).await.json();
    for (header, value) in [
        ("x-http-method-override", "DELETE"),
        ("x-method-override", "POST"),
        ("x-original-url", "/admin/stores"),
        ("x-rewrite-url", "/admin/stores"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-for", "127.0.0.1, ::1"),
        ("x-forwarded-user", "admin"),
        ("forwarded", "for=127.0.0.1"),
        ("x-store-id", "00000000-0000-0000-0000-000000000000"),
        ("x-admin-key", ADMIN),
        ("host", "evil.example"),
        ("range", "bytes=0-1"),
        ("expect", "200-ok"),
        ("upgrade", "h2c"),
        ("accept", "text/html"),
        ("accept-encoding", "br;q=1, *;q=0"),
        ("if-none-match", "*"),
        ("baggage", "a=b"),
        ("cookie", "session=admin"),
    ] {
        let request = client.request("GET", "/sync/last-seq").bearer_auth(&till.token).header(header, value);
        let answer = client.send(request).await;
        assert_eq!(answer.status, 200, "{header}: {}", answer.text);
        assert_eq!(answer.json(), last, "{header}");
        // What the header asks for, the till may not do.
        let request = client.request("GET", "/admin/stores").bearer_auth(&till.token).header(header, value);
        problem(&client.send(request).await, 403, header);
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_bad_traceparent_is_ignored_and_a_good_one_kept() {
    let (node, till) = world().await;
    let pool = node.database.pool().await;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (sent, kept) in [
        (good, true),
        ("", false),
        ("garbage", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01", false),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
        ("'; DROP TABLE events; --", false),
    ] {
        let event = sale_event();
        let body = push_body(&till, &[event.text()]).into_bytes();
        let answer = push_bytes(&node.client, &till, body, &[("traceparent", sent)]).await;
        assert_eq!(answer.status, 200, "{sent}: {}", answer.text);
        let id = event.get("event_id").replace('"', "");
        let stored: Option<String> =
            sqlx::query_scalar("SELECT trace_parent FROM events WHERE event_id = $1")
                .bind(&id)
                .fetch_one(&pool)
                .await
                .expect("the event");
        let trace = stored.as_deref().map(|text| text.contains("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(trace.unwrap_or(false), kept, "{sent}: {stored:?}");
    }
    let long = "k=v,".repeat(5_000);
    let body = push_body(&till, &[sale_event().text()]).into_bytes();
    let answer = push_bytes(&node.client, &till, body, &[("traceparent", good), ("tracestate", &long)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_body_where_none_belongs_is_ignored() {
    let (node, till) = world().await;
    for body in ["x", "{}", "[1,2"] {
        let request = node.client.request("GET", "/sync/last-seq").bearer_auth(&till.token).body(body);
        assert_eq!(node.client.send(request).await.status, 200, "{body}");
    }
    node.stop().await;
}

#[actix_web::test]
async fn what_the_admin_sends_wrong_is_400_and_changes_nothing() {
    let (node, till) = world().await;
    let client = &node.client;
    let stores = client.admin("/admin/stores").await;
    let devices = client.admin("/admin/devices").await;
    let long = "n".repeat(201);
    for (path, body) in [
        ("/admin/stores", json!({})),
        ("/admin/stores", json!({ "name": "" })),
        ("/admin/stores", json!({ "name": " " })),
        ("/admin/stores", json!({ "name": 7 })),
        ("/admin/stores", json!({ "name": long })),
        ("/admin/stores", json!({ "name": "a\u{0}b" })),
        ("/admin/stores", json!({ "name": "x", "store_id": "x" })),
        ("/admin/stores", json!([])),
        ("/admin/devices", json!({ "store_id": till.store_id })),
        ("/admin/devices", json!({ "store_id": till.store_id, "device_id": "" })),
        ("/admin/devices", json!({ "store_id": till.store_id, "device_id": "a\nb" })),
        ("/admin/devices", json!({ "store_id": till.store_id, "device_id": "d".repeat(129) })),
        ("/admin/devices", json!({ "store_id": "x", "device_id": "d" })),
        ("/admin/devices", json!({ "device_id": "d" })),
        ("/chaos/faults", json!({ "actor": "nobody", "fault": "panic" })),
        ("/chaos/faults", json!({ "actor": "projector.debt", "fault": "explode" })),
        ("/chaos/faults", json!({ "actor": "projector.debt", "fault": "delay", "times": 0 })),
        ("/chaos/faults", json!({ "actor": "projector.debt", "fault": "delay", "probability": 2 })),
        ("/chaos/faults", json!({ "actor": "projector.debt", "fault": "delay", "more": 1 })),
    ] {
        problem(&client.call("POST", path, ADMIN, Some(&body)).await, 400, &body.to_string());
    }
    let nowhere = json!({ "store_id": id(), "device_id": "d" });
    problem(&client.call("POST", "/admin/devices", ADMIN, Some(&nowhere)).await, 404, "an unknown store");
    for path in [
        format!("/admin/devices/{}/nobody", till.store_id),
        format!("/admin/devices/{}/{}", id(), till.device_id),
        format!("/admin/devices/x/{}", till.device_id),
        format!("/admin/devices/{}/%00", till.store_id),
    ] {
        problem(&client.call("DELETE", &path, ADMIN, None).await, 404, &path);
    }
    assert_eq!(client.admin("/admin/stores").await, stores);
    assert_eq!(client.admin("/admin/devices").await, devices);
    assert_eq!(client.admin("/chaos/faults").await["items"], json!([]));
    node.stop().await;
}

#[actix_web::test]
async fn a_missing_entity_and_an_id_that_is_none_are_404() {
    let (node, till) = world().await;
    for path in ["sales", "debts"] {
        for id in [id(), "x".to_owned(), "00000000-0000-0000-0000-000000000000".to_owned(), "%00".to_owned()]
        {
            let path = format!("/stores/{}/{path}/{id}", till.store_id);
            problem(&node.client.call("GET", &path, &till.token, None).await, 404, &path);
        }
    }
    for store in ["x".to_owned(), id(), "%00".to_owned()] {
        let answer = node.client.call("GET", &format!("/stores/{store}/sales"), ADMIN, None).await;
        problem(&answer, 404, &store);
    }
    node.stop().await;
}

#[actix_web::test]
async fn the_node_stays_fast_while_bad_requests_rain() {
    let (node, till) = world().await;
    let client = &node.client;
    let bad = (0..200).map(|n| {
        let body = vec![b"[{\"a\":0x"[n % 8]; 10_000];
        push_bytes(client, &till, body, &[])
    });
    let good = (0..50).map(|_| {
        let events = [event("CustomerCreated", json!({ "customer_id": id() }))];
        let till = till.clone();
        async move { client.push(&till, &events).await["accepted"].as_array().map(Vec::len) }
    });
    let (bad, good) = tokio::join!(futures_util::future::join_all(bad), futures_util::future::join_all(good));
    assert!(bad.iter().all(|answer| answer.status == 400));
    assert!(good.iter().all(|accepted| *accepted == Some(1)));
    wait("all projected", async || client.list(&till, "customers").await.len() == 50).await;
    node.stop().await;
}
