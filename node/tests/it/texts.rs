//! Texts that mean something to a database, a browser, a spreadsheet, a terminal or a logger are data here: stored,
//! and read back as they were sent.

use crate::support::{TestNode, Till, event, id};
use crate::wire::jwt;
use serde_json::{Value, json};

const NASTY: &[&str] = &[
    "'; DROP TABLE events; --",
    "\" OR 1=1; SELECT pg_sleep(10) --",
    "$$ $1 %s %n {} {0} ${jndi:ldap://x/y} {{7*7}} #{7*7}",
    "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;",
    "=cmd|' /C calc'!A0",
    "+1+1,-2,@SUM(A1:A9)\t;\"quoted\"\r\nnext line",
    "\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7}\u{9b}2J\u{7f}\u{8}",
    "one\nERROR forged record\r\ntwo\u{2028}three\u{85}four",
    "../../etc/passwd\\..\\windows%00%2e%2e",
    "\u{202e}txt.exe\u{202c}\u{200b}\u{feff}",
    "日本語 Ñandú 😀 e\u{301} \u{10ffff}",
    " leading and trailing ",
    "\\u0041 \\ \\\\ \\n",
];

/// Every text of every kind of event, all of them `text`, under fresh ids.
fn events(text: &str) -> Vec<Value> {
    let (sale, debt, session) = (id(), id(), id());
    let item = json!({ "product_id": id(), "qty": 1, "name": text });
    let actor = |mut event: Value| {
        event["actor"] = json!({ "user_id": text, "role": text });
        event
    };
    vec![
        actor(event(
            "SaleCreated",
            json!({ "sale_id": sale, "items": [item], "note": text, "payment_method": text, "currency": text,
                "invoice_number": text, "fiscal_number": text, text: text }),
        )),
        event("SaleVoided", json!({ "sale_id": sale, "reason": text, "voided_by_user_id": text })),
        actor(event("DebtCreated", json!({ "debt_id": debt, "amount": 5, "currency": text, "notes": text }))),
        actor(event(
            "DebtPaymentRecorded",
            json!({ "payment_id": id(), "debt_id": debt, "amount": 1, "method": text, "reference": text,
                "note": text }),
        )),
        event(
            "ProductCreated",
            json!({ "product_id": id(), "name": text, "category": text, "sku": text, "barcode": text,
                "shelf": text, text: text }),
        ),
        event(
            "CustomerCreated",
            json!({ "customer_id": id(), "name": text, "document_id": text, "phone": text, "email": text,
                "address": text, "notes": text }),
        ),
        actor(event(
            "CashSessionOpened",
            json!({ "session_id": session, "register_id": text, "note": text }),
        )),
        actor(event("CashSessionClosed", json!({ "session_id": session, "counted": { text: text } }))),
        event(
            "CashLedgerEntryCreated",
            json!({ "entry_id": id(), "entry_type": text, "amount": 1, "currency": text, "reason": text }),
        ),
    ]
}

/// List, and its columns that hold the text.
const COLUMNS: &[(&str, &[&str])] = &[
    (
        "sales",
        &[
            "note",
            "payment_method",
            "currency",
            "invoice_number",
            "fiscal_number",
            "void_reason",
            "voided_by",
            "created_by",
        ],
    ),
    ("debts", &["currency", "notes", "created_by"]),
    ("products", &["name", "category", "sku", "barcode"]),
    ("customers", &["name", "document_id", "phone", "email", "address", "notes"]),
    ("cash-sessions", &["register_id", "notes", "opened_by", "closed_by"]),
    ("cash-ledger", &["entry_type", "currency", "reason"]),
];

#[actix_web::test]
async fn texts_are_read_back_as_they_were_sent_from_every_table() {
    let node = TestNode::start().await;
    let client = &node.client;
    for text in NASTY {
        // A shop each, so that its lists hold this text alone.
        let till = client.till().await;
        let answer = client.push(&till, &events(text)).await;
        assert_eq!((&answer["rejected"], &answer["warnings"]), (&json!([]), &json!([])), "{text:?}");
        client.projected().await;
        for (list, columns) in COLUMNS {
            let rows = client.list(&till, list).await;
            assert_eq!(rows.len(), 1, "{list} of {text:?}");
            for column in *columns {
                assert_eq!(rows[0][*column], **text, "{list}.{column}");
            }
        }
        let get = async |what: &str, id: &Value| {
            let path = format!("/stores/{}/{what}/{}", till.store_id, id.as_str().expect("an id"));
            client.call("GET", &path, &till.token, None).await
        };
        let sale = get("sales", &client.list(&till, "sales").await[0]["id"]).await;
        assert_eq!(sale.json()["items"][0]["name"], *text);
        // Nobody takes it for a page.
        assert_eq!(sale.headers["content-type"], "application/json");
        let debt = get("debts", &client.list(&till, "debts").await[0]["id"]).await.json();
        for column in ["payment_method", "reference", "notes", "paid_by"] {
            assert_eq!(debt["payments"][0][column], *text, "{column}");
        }
        let product = &client.list(&till, "products").await[0];
        assert_eq!(product["attributes"], json!({ "shelf": text, *text: text }));
        let session = &client.list(&till, "cash-sessions").await[0];
        assert_eq!(session["counted"], json!({ *text: text }));
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_text_in_a_query_is_searched_for_and_nothing_else() {
    let node = TestNode::start().await;
    let client = &node.client;
    let till = client.till().await;
    let name = |name: &str| event("ProductCreated", json!({ "product_id": id(), "name": name }));
    let plain = name("plain");
    let mut events: Vec<Value> = NASTY.iter().map(|text| name(text)).collect();
    events.push(plain);
    client.push(&till, &events).await;
    client.projected().await;
    let search = async |text: &str| -> Vec<Value> {
        let request = client.request("GET", &format!("/stores/{}/products", till.store_id));
        let query = form_urlencoded(text);
        let url = request.build().expect("a request").url().to_string();
        let path = url.split_once("/stores").expect("a path").1;
        let path = format!("/stores{path}?q={query}");
        let answer = client.call("GET", &path, &till.token, None).await;
        assert_eq!(answer.status, 200, "{text:?}: {}", answer.text);
        answer.json()["items"].as_array().expect("items").clone()
    };
    for text in NASTY {
        let found = search(text).await;
        assert_eq!(found.len(), 1, "{text:?}");
        assert_eq!(found[0]["name"], **text);
    }
    // Signs of LIKE and of regular expressions stand for themselves.
    for (text, count) in [("%", 2), ("_", 1), (".*", 0), ("pla%n", 0), ("PLAIN", 1)] {
        assert_eq!(search(text).await.len(), count, "{text}");
    }
    node.stop().await;
}

/// Every byte as `%xx`.
fn form_urlencoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[actix_web::test]
async fn a_device_may_be_named_by_any_text_without_control_characters() {
    let node = TestNode::start().await;
    let client = &node.client;
    let own = client.till().await;
    let sound = NASTY.iter().filter(|text| !text.chars().any(char::is_control));
    for text in sound {
        // As a v1 user, who may name any device.
        let token = jwt(own.store_id, "u", 900);
        let till = Till { device_id: (*text).to_owned(), token, ..own.clone() };
        let customer = event("CustomerCreated", json!({ "customer_id": id() }));
        let seq = customer["seq"].clone();
        let answer = client.push(&till, &[customer]).await;
        assert_eq!(answer["server_vector_clock"], json!({ *text: seq }));
        let path = format!("/sync/last-seq?device_id={}", form_urlencoded(text));
        let last = client.call("GET", &path, &till.token, None).await;
        assert_eq!(last.json()["last_seq"], seq, "{text:?}");
        let pulled = client.call("GET", "/sync/pull", &own.token, None).await.json();
        let events = pulled["events"].as_array().expect("events");
        assert!(events.iter().any(|event| event["device_id"] == *text), "{text:?}");
        let path = path.replace("last-seq", "status");
        let status = client.call("GET", &path, &till.token, None).await.json();
        assert_eq!(status["device_id"], *text);
    }
    node.stop().await;
}

#[actix_web::test]
async fn unknown_types_may_be_named_by_any_text() {
    let node = TestNode::start().await;
    let client = &node.client;
    let till = client.till().await;
    let events: Vec<Value> =
        NASTY.iter().map(|text| event(text, json!({ "text": text, *text: [text, { "x": text }] }))).collect();
    let answer = client.push(&till, &events).await;
    assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(NASTY.len()));
    assert!(answer["warnings"].as_array().expect("warnings").iter().all(|w| w["code"] == "UNKNOWN_TYPE"));
    client.projected().await;
    let neighbour = client.till_of(till.store_id).await;
    let pulled = client.call("GET", "/sync/pull", &neighbour.token, None).await.json();
    for sent in &events {
        let id = &sent["event_id"];
        let pulled =
            pulled["events"].as_array().expect("events").iter().find(|event| event["event_id"] == *id);
        let pulled = pulled.expect("the event");
        assert_eq!((&pulled["type"], &pulled["payload"]), (&sent["type"], &sent["payload"]));
    }
    node.stop().await;
}
