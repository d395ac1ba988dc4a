//! Every type of event in every form that its fields may take, from the push to the row that the API answers.

use crate::support::{TestNode, Till, event, id};
use serde_json::{Value, json};

/// A time that no test runs at, and how it is answered.
pub(crate) const MS: i64 = 1_763_950_000_123;
pub(crate) const TEXT: &str = "2025-11-24T02:06:40.123Z";
pub(crate) const LATER: &str = "2025-11-24T03:06:40.123Z";

/// Events, and the row that they are to make.
struct Landing {
    name: &'static str,
    events: Vec<Value>,
    list: &'static str,
    /// The row's id.
    id: String,
    /// Columns of the row.
    row: Value,
}

/// Events of a till, in this order, an hour apart, by one actor.
pub(crate) fn story(events: &[(&str, Value)]) -> Vec<Value> {
    let at = |index: usize| MS + 3_600_000 * i64::try_from(index).expect("a few");
    let make = |(index, (name, payload)): (usize, &(&str, Value))| {
        let mut event = event(name, payload.clone());
        event["created_at"] = json!(at(index));
        event["actor"] = json!({ "user_id": "ana", "role": "cashier" });
        event
    };
    events.iter().enumerate().map(make).collect()
}

/// A row of `list` under the id that stands in the payload as `{id}`.
fn lands(name: &'static str, list: &'static str, events: &[(&str, Value)], row: Value) -> Landing {
    let id = id();
    let fill = |value: &Value| -> Value {
        serde_json::from_str(&value.to_string().replace("{id}", &id)).expect("JSON")
    };
    let events: Vec<(&str, Value)> = events.iter().map(|(name, payload)| (*name, fill(payload))).collect();
    Landing { name, events: story(&events), list, row: fill(&row), id }
}

fn sessions() -> Vec<Landing> {
    let opened = |name, payload, row| lands(name, "cash-sessions", &[("CashSessionOpened", payload)], row);
    let closed = |name, payload, row| lands(name, "cash-sessions", &[("CashSessionClosed", payload)], row);
    vec![
        opened(
            "a session with all fields",
            json!({ "session_id": "{id}", "opened_at": MS, "opening_amount_bs": 365.3, "opening_amount_usd": "10",
                "register_id": "box 1", "note": "early" }),
            json!({ "opened_at": TEXT, "opening_amount_bs": "365.30", "opening_amount_usd": "10.00",
                "opening_amount": null, "register_id": "box 1", "notes": "early", "opened_by": "ana",
                "closed_at": null, "closed_by": null }),
        ),
        opened(
            "a session under its other name, with text times and one amount",
            json!({ "cash_session_id": "{id}", "opened_at": "2025-11-23T23:06:40.123-04:00",
                "opening_amount": 12.345 }),
            json!({ "opened_at": "2025-11-24T03:06:40.123Z", "opening_amount": "12.35",
                "opening_amount_bs": null }),
        ),
        opened(
            "the first alias counts, and an empty one is none",
            json!({ "session_id": "", "cash_session_id": "{id}" }),
            json!({ "opened_at": TEXT, "opening_amount": null }),
        ),
        closed(
            "a lone close",
            json!({ "session_id": "{id}", "closed_at": MS, "closing_amount": 5, "note": "late",
                "expected": { "bs": 1.50 }, "counted": { "usd": 2 } }),
            json!({ "opened_at": null, "closed_at": TEXT, "closing_amount": "5.00", "notes": "late",
                "closed_by": "ana", "expected": { "bs": 1.50 }, "counted": { "usd": 2 } }),
        ),
        closed(
            "a lone close without a time",
            json!({ "cash_session_id": "{id}" }),
            json!({ "closed_at": TEXT, "closing_amount": null, "expected": null }),
        ),
        lands(
            "a session opened and closed",
            "cash-sessions",
            &[
                ("CashSessionOpened", json!({ "session_id": "{id}", "opening_amount": 1, "note": "open" })),
                ("CashSessionClosed", json!({ "session_id": "{id}", "note": "closed" })),
            ],
            json!({ "opened_at": TEXT, "closed_at": LATER, "opening_amount": "1.00", "notes": "closed" }),
        ),
    ]
}

fn products() -> Vec<Landing> {
    let lands = |name, events: &[(&str, Value)], row| lands(name, "products", events, row);
    let created = (
        "ProductCreated",
        json!({ "product_id": "{id}", "name": "Harina", "is_active": true,
        "price_bs": 100, "price_usd": 2 }),
    );
    vec![
        lands(
            "a product with all fields",
            &[(
                "ProductCreated",
                json!({ "product_id": "{id}", "name": "Harina", "category": "Víveres",
                "sku": 17, "barcode": "759", "price": "1.23455", "price_bs": 648.0422, "price_usd": 17.74,
                "cost_bs": 0.5, "cost_usd": 12.417999999999997, "is_active": true, "track_inventory": false,
                "low_stock_threshold": 5, "product_type": "simple", "is_recipe": false, "shelf": [1.50] }),
            )],
            json!({ "name": "Harina", "category": "Víveres", "sku": "17", "barcode": "759", "price": "1.2346",
                "price_bs": "648.0422", "price_usd": "17.7400", "cost_bs": "0.5000", "cost_usd": "12.4180",
                "is_active": true, "track_inventory": false, "low_stock_threshold": "5.000",
                "attributes": { "product_type": "simple", "is_recipe": false, "shelf": [1.50] },
                "created_at": TEXT, "updated_at": TEXT }),
        ),
        lands(
            "fields in a patch go before flat ones",
            &[(
                "ProductUpdated",
                json!({ "product_id": "{id}", "name": "flat", "sku": "s",
                "patch": { "name": "patched", "active": false, "color": "red" } }),
            )],
            json!({ "name": "patched", "sku": "s", "is_active": false, "attributes": { "color": "red" } }),
        ),
        lands(
            "a present null writes and an absent field does not",
            &[
                created.clone(),
                ("ProductUpdated", json!({ "product_id": "{id}", "patch": { "name": null } })),
            ],
            json!({ "name": null, "price_usd": "2.0000", "created_at": TEXT, "updated_at": LATER }),
        ),
        lands(
            "a product taken off",
            &[created.clone(), ("ProductDeactivated", json!({ "product_id": "{id}" }))],
            json!({ "name": "Harina", "is_active": false }),
        ),
        lands(
            "taken off, whatever it says beside that",
            &[("ProductDeactivated", json!({ "product_id": "{id}", "is_active": true }))],
            json!({ "is_active": false }),
        ),
        lands(
            "a price changed in both currencies",
            &[
                created.clone(),
                (
                    "PriceChanged",
                    json!({ "product_id": "{id}", "price_bs": "120.5",
                "price_usd": 2.5, "reason": "rate", "effective_at": MS }),
                ),
            ],
            json!({ "price_bs": "120.5000", "price_usd": "2.5000", "name": "Harina", "attributes": {} }),
        ),
        lands(
            "a lone price",
            &[("PriceChanged", json!({ "product_id": "{id}", "price": 3 }))],
            json!({ "price": "3.0000", "name": null, "is_active": null }),
        ),
    ]
}

fn customers() -> Vec<Landing> {
    let lands = |name, events: &[(&str, Value)], row| lands(name, "customers", events, row);
    vec![
        lands(
            "a customer with all fields",
            &[(
                "CustomerCreated",
                json!({ "customer_id": "{id}", "name": "José", "document_id": "V-1",
                "phone": 4241111111_i64, "email": "j@x", "address": "Calle 1", "credit_limit": 50.555,
                "notes": "good" }),
            )],
            json!({ "name": "José", "document_id": "V-1", "phone": "4241111111", "email": "j@x",
                "address": "Calle 1", "credit_limit": "50.56", "notes": "good", "created_at": TEXT }),
        ),
        lands(
            "a customer by the other names",
            &[("CustomerCreated", json!({ "customer_id": "{id}", "tax_id": "J-2", "note": "n" }))],
            json!({ "document_id": "J-2", "notes": "n", "name": null }),
        ),
        lands(
            "a customer in a patch",
            &[
                ("CustomerCreated", json!({ "customer_id": "{id}", "name": "José", "phone": "1" })),
                (
                    "CustomerUpdated",
                    json!({ "customer_id": "{id}", "patch": { "phone": "2", "tax_id": "J-3" } }),
                ),
            ],
            json!({ "name": "José", "phone": "2", "document_id": "J-3", "updated_at": LATER }),
        ),
        lands(
            "an alias without a value leaves it to the other",
            &[("CustomerUpdated", json!({ "customer_id": "{id}", "document_id": "", "tax_id": "J-4" }))],
            json!({ "document_id": "J-4" }),
        ),
    ]
}

fn debts() -> Vec<Landing> {
    let debt = |mut payload: Value| {
        payload["debt_id"] = json!("{id}");
        ("DebtCreated", payload)
    };
    let paid = |name: &'static str, payment: Value| {
        let mut payload = payment;
        payload["payment_id"] = json!(id());
        payload["debt_id"] = json!("{id}");
        (name, payload)
    };
    let made = |name, payload: Value, row| lands(name, "debts", &[debt(payload)], row);
    let customer = id();
    let amounts = |total: &str, left: &str, status: &str| json!({ "total_amount": total, "remaining_amount": left, "status": status, "derived": false });
    let usd = json!({ "amount_usd": 10, "amount_bs": 365 });
    vec![
        made(
            "a debt with all fields",
            json!({ "customer_id": customer, "total_amount": 10, "remaining_amount": 7.5, "currency": "USD",
                "created_at": MS, "due_at": LATER, "notes": "soon", "status": "paid" }),
            json!({ "customer_id": customer, "total_amount": "10.00", "remaining_amount": "7.50",
                "status": "pending", "currency": "USD", "created_at": TEXT, "due_at": LATER, "notes": "soon",
                "created_by": "ana", "sale_id": null }),
        ),
        made(
            "a plain amount",
            json!({ "amount": "10.005", "note": "n" }),
            amounts("10.01", "10.01", "pending"),
        ),
        made("dollars before bolívares", usd.clone(), amounts("10.00", "10.00", "pending")),
        made(
            "bolívares alone",
            json!({ "amount_bs": 365, "amount_usd": 0 }),
            amounts("365.00", "365.00", "pending"),
        ),
        made(
            "totals by currency",
            json!({ "total_amount_usd": 10, "total_amount_bs": 365, "remaining_amount_usd": 4 }),
            json!({ "total_amount": "10.00", "remaining_amount": "4.00", "amount_usd": "10.00",
                "amount_bs": "365.00" }),
        ),
        lands(
            "paid in part, in its own currency",
            "debts",
            &[debt(usd.clone()), paid("DebtPaymentRecorded", json!({ "amount_usd": 4, "amount_bs": 999 }))],
            amounts("10.00", "6.00", "partial"),
        ),
        lands(
            "paid in full by two kinds of payment, plain amounts too",
            "debts",
            &[
                debt(usd.clone()),
                paid("DebtPaymentAdded", json!({ "amount": 4 })),
                paid("DebtPaymentRecorded", json!({ "amount_usd": "5.99" })),
            ],
            amounts("10.00", "0", "paid"),
        ),
        lands(
            "paid too much, and the payment came first",
            "debts",
            &[paid("DebtPaymentRecorded", json!({ "amount": 12.5 })), debt(json!({ "amount": 10 }))],
            json!({ "remaining_amount": "0", "overpaid_amount": "2.50", "status": "paid" }),
        ),
    ]
}

fn ledger() -> Vec<Landing> {
    let lands = |name, payload, row| lands(name, "cash-ledger", &[("CashLedgerEntryCreated", payload)], row);
    let session = id();
    vec![
        lands(
            "an entry with all fields",
            json!({ "entry_id": "{id}", "entry_type": "expense", "amount": 1.5, "amount_bs": 54.75,
                "amount_usd": "1.5", "currency": "USD", "session_id": session, "sold_at": LATER,
                "reason": "ice", "request_id": id(), "metadata": {} }),
            json!({ "entry_type": "expense", "amount": "1.50", "amount_bs": "54.75", "amount_usd": "1.50",
                "currency": "USD", "session_id": session, "created_at": LATER, "reason": "ice" }),
        ),
        lands(
            "an entry by the other names",
            json!({ "entry_id": "{id}", "kind": "income", "cash_session_id": session }),
            json!({ "entry_type": "income", "session_id": session, "amount": null, "created_at": TEXT }),
        ),
        lands(
            "an entry without a session",
            json!({ "entry_id": "{id}", "entry_type": "sale", "cash_session_id": "", "metadata": "x" }),
            json!({ "entry_type": "sale", "session_id": null }),
        ),
    ]
}

fn sales() -> Vec<Landing> {
    let lands = |name, payload: Value, row| lands(name, "sales", &[("SaleCreated", payload)], row);
    let [session, customer, warehouse, series, product] = [id(), id(), id(), id(), id()];
    let sold = |more: Value| {
        let mut payload = json!({ "sale_id": "{id}", "items": [{ "product_id": product, "qty": 1 }] });
        for (key, value) in more.as_object().expect("an object") {
            payload[key] = value.clone();
        }
        payload
    };
    vec![
        lands(
            "a sale with all fields",
            sold(json!({ "session_id": session, "customer_id": customer, "warehouse_id": warehouse,
                "payment": { "method": "MIXED", "split": {} }, "currency": "MIXED", "exchange_rate": 36.5,
                "sold_at": LATER, "series_id": series, "invoice_number": 17, "fiscal_number": "00017",
                "note": "n", "totals": { "total_bs": 73, "total_usd": 2.005, "total": "2" } })),
            json!({ "session_id": session, "customer_id": customer, "warehouse_id": warehouse,
                "payment_method": "MIXED", "currency": "MIXED", "exchange_rate": "36.500000", "sold_at": LATER,
                "created_at": TEXT, "series_id": series, "invoice_number": "17", "fiscal_number": "00017",
                "note": "n", "total_bs": "73.00", "total_usd": "2.01", "total": "2.00", "created_by": "ana",
                "voided_at": null }),
        ),
        lands(
            "a sale by the other names",
            sold(json!({ "cash_session_id": session, "customer": { "customer_id": customer },
                "payment_method": "CASH_BS", "invoice_series_id": series, "total_amount": 9 })),
            json!({ "session_id": session, "customer_id": customer, "payment_method": "CASH_BS",
                "series_id": series, "total": "9.00", "sold_at": TEXT, "warehouse_id": null }),
        ),
        lands(
            "totals beside the rest, and empty ids",
            sold(json!({ "total": 1, "total_bs": 36.5, "total_usd": 1, "cash_session_id": "",
                "warehouse_id": "", "customer_id": null, "payment": null })),
            json!({ "total": "1.00", "total_bs": "36.50", "total_usd": "1.00", "session_id": null,
                "customer_id": null, "payment_method": null }),
        ),
        Landing { name: "a voided sale", ..voided() },
        Landing { name: "a void before its sale", ..reversed() },
    ]
}

fn voided() -> Landing {
    lands(
        "",
        "sales",
        &[
            ("SaleCreated", json!({ "sale_id": "{id}", "items": [] })),
            (
                "SaleVoided",
                json!({ "sale_id": "{id}", "voided_at": MS, "voided_by_user_id": "eva", "reason": "r" }),
            ),
        ],
        json!({ "voided_at": TEXT, "voided_by": "eva", "void_reason": "r" }),
    )
}

fn reversed() -> Landing {
    let events = [
        ("SaleVoided", json!({ "sale_id": "{id}" })),
        ("SaleCreated", json!({ "sale_id": "{id}", "items": [] })),
    ];
    lands("", "sales", &events, json!({ "voided_at": TEXT, "void_reason": null }))
}

pub(crate) async fn list(node: &TestNode, till: &Till, list: &str) -> Vec<Value> {
    let path = format!("/stores/{}/{list}?limit=1000", till.store_id);
    let answer = node.client.call("GET", &path, &till.token, None).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.json()["items"].as_array().expect("items").clone()
}

pub(crate) fn check(name: &str, row: &Value, expected: &Value) {
    for (column, value) in expected.as_object().expect("columns") {
        assert_eq!(&row[column], value, "{name}: {column} of {row}");
    }
}

#[actix_web::test]
async fn every_type_in_every_form_lands_in_its_table_with_the_right_figures() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let groups = [sessions(), products(), customers(), debts(), ledger(), sales()];
    for landing in groups.into_iter().flatten() {
        let answer = node.client.push(&till, &landing.events).await;
        assert_eq!(answer["rejected"], json!([]), "{}", landing.name);
        assert_eq!(answer["warnings"], json!([]), "{}", landing.name);
        node.client.projected().await;
        let rows = list(&node, &till, landing.list).await;
        let row = rows.iter().find(|row| row["id"] == landing.id);
        let row = row.unwrap_or_else(|| panic!("{} makes no row", landing.name));
        assert_eq!(row["store_id"], till.store_id.to_string());
        check(landing.name, row, &landing.row);
    }
    let pool = node.database.pool().await;
    let exceptions: i64 =
        sqlx::query_scalar("SELECT count(*) FROM event_exceptions").fetch_one(&pool).await.expect("a count");
    assert_eq!(exceptions, 0);
    pool.close().await;
    node.stop().await;
}
