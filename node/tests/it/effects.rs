//! What events do beyond a row of their own: lines of sales, stock, payments, debts, and what waits for another.

use crate::landing::{LATER, MS, TEXT, check, list, story};
use crate::support::{TestNode, event, id};
use crate::wire::projection_of;
use serde_json::{Value, json};

#[actix_web::test]
async fn a_sales_lines_land_with_their_prices_and_move_the_stock() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let [sale_id, product, variant, weighed, warehouse] = [id(), id(), id(), id(), id()];
    let items = json!([
        { "line_id": id(), "product_id": product, "qty": 2, "unit_price_bs": 36.5, "unit_price_usd": 1,
          "discount_bs": 0.555, "discount_usd": 0.1, "name": "Pan" },
        { "item_id": id(), "product_id": product, "variant_id": "", "qty": "1.5", "price_bs": 36.5, "price_usd": 1,
          "price": 7.12345 },
        { "product_id": product, "variant_id": variant, "qty": 1, "unit_price": 2 },
        { "product_id": weighed, "is_weight_product": true, "weight_value": 0.7456, "qty": 1, "unit_price": 3 },
        { "product_id": weighed, "is_weight_product": false, "weight_value": 9, "qty": 1, "unit_price": 3 },
        { "product_id": weighed, "is_weight_product": true, "qty": 1, "unit_price": 3 },
    ]);
    let sale = json!({ "sale_id": sale_id, "items": items, "warehouse_id": warehouse });
    node.client.push(&till, &[event("SaleCreated", sale)]).await;
    node.client.projected().await;
    let path = format!("/stores/{}/sales/{sale_id}", till.store_id);
    let lines = node.client.call("GET", &path, &till.token, None).await.json()["items"].clone();
    let expected = json!([
        { "line_no": 1, "product_id": product, "variant_id": null, "name": "Pan", "qty": "2.000", "unit_price": null,
          "unit_price_bs": "36.5000", "unit_price_usd": "1.0000", "discount_bs": "0.56", "discount_usd": "0.10" },
        { "line_no": 2, "qty": "1.500", "unit_price": "7.1235", "unit_price_bs": "36.5000", "variant_id": null },
        { "line_no": 3, "variant_id": variant, "unit_price": "2.0000", "unit_price_bs": null },
        { "line_no": 4, "qty": "0.746" },
        { "line_no": 5, "qty": "1.000" },
        { "line_no": 6, "qty": "1.000" },
    ]);
    assert_eq!(lines.as_array().map(Vec::len), Some(6));
    let first = lines[0]["line_no"].as_i64().expect("a number");
    for (index, (line, expected)) in
        lines.as_array().unwrap().iter().zip(expected.as_array().unwrap()).enumerate()
    {
        let mut expected = expected.clone();
        // Numbered one after the other, from wherever the first one starts.
        expected["line_no"] = json!(first + i64::try_from(index).expect("a few"));
        check("a line", line, &expected);
    }
    let movements = list(&node, &till, "stock-movements").await;
    let nil = "00000000-0000-0000-0000-000000000000";
    for (product, variant, qty) in
        [(&product, nil, "-3.500"), (&product, &variant, "-1.000"), (&weighed, nil, "-2.746")]
    {
        let found: Vec<&Value> = movements
            .iter()
            .filter(|m| m["product_id"] == **product && m["variant_id"] == *variant)
            .collect();
        assert_eq!(found.len(), 1, "one movement a product and variant");
        let row = json!({ "kind": "sale", "qty_delta": qty, "warehouse_id": warehouse, "sale_id": sale_id });
        check("a movement", found[0], &row);
    }
    assert_eq!(movements.len(), 3);
    node.stop().await;
}

/// A stock event, and the movements that it makes: (product, variant, warehouse, kind, delta).
type Moves = (Value, Vec<(String, String, String, &'static str, &'static str)>);

fn stock_events(store: &str) -> Vec<Moves> {
    let nil = "00000000-0000-0000-0000-000000000000".to_owned();
    let store = store.to_owned();
    let [variant, warehouse, other] = [id(), id(), id()];
    let one = |name: &str, more: Value, kind, delta| -> Moves {
        let product = id();
        let mut payload = json!({ "product_id": product });
        for (key, value) in more.as_object().expect("an object") {
            payload[key] = value.clone();
        }
        let text = |key: &str| payload[key].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let variant = text("variant_id").unwrap_or_else(|| nil.clone());
        let warehouse = text("warehouse_id").unwrap_or_else(|| store.clone());
        (event(name, payload), vec![(product, variant, warehouse, kind, delta)])
    };
    let [a, b] = [id(), id()];
    let items = json!({ "movement_id": id(), "warehouse_id": warehouse, "items": [
        { "product_id": a, "qty": 3, "unit_cost_bs": 1, "unit_cost_usd": 2 },
        { "product_id": b, "qty": "0.5", "variant_id": variant, "warehouse_id": other },
    ] });
    vec![
        one("StockReceived", json!({ "movement_id": id(), "qty": 12, "unit_cost": 3 }), "received", "12.000"),
        one(
            "StockReceived",
            json!({ "qty": 1.0005, "warehouse_id": "", "variant_id": "" }),
            "received",
            "1.001",
        ),
        one(
            "StockReceived",
            json!({ "qty": 2, "variant_id": variant, "warehouse_id": warehouse }),
            "received",
            "2.000",
        ),
        one(
            "StockAdjusted",
            json!({ "qty_delta": -4, "reason": "broken", "ref": "r" }),
            "adjusted",
            "-4.000",
        ),
        one("StockAdjusted", json!({ "delta": 4 }), "adjusted", "4.000"),
        one("StockDeltaApplied", json!({ "qty_delta": "7.25" }), "delta", "7.250"),
        one("StockDeltaApplied", json!({ "delta": -7, "qty_delta": 8 }), "delta", "8.000"),
        (
            event("StockReceived", items),
            vec![
                (a, nil.clone(), warehouse.clone(), "received", "3.000"),
                (b, variant.clone(), other.clone(), "received", "0.500"),
            ],
        ),
    ]
}

#[actix_web::test]
async fn stock_events_move_the_stock_of_product_variant_and_warehouse() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let cases = stock_events(&till.store_id.to_string());
    let events: Vec<Value> = cases.iter().map(|(event, _)| event.clone()).collect();
    // Twice: the second time changes nothing.
    for _ in 0..2 {
        node.client.push(&till, &events).await;
        node.client.projected().await;
        let movements = list(&node, &till, "stock-movements").await;
        let stock = list(&node, &till, "stock").await;
        let all: Vec<_> =
            cases.iter().flat_map(|(event, moves)| moves.iter().map(move |m| (event, m))).collect();
        assert_eq!((movements.len(), stock.len()), (all.len(), all.len()));
        for (event, (product, variant, warehouse, kind, delta)) in all {
            let of = |rows: &[Value]| rows.iter().find(|row| row["product_id"] == **product).cloned();
            let key = json!({ "variant_id": variant, "warehouse_id": warehouse });
            let movement = of(&movements).expect("a movement");
            check("a movement", &movement, &key);
            check(
                "a movement",
                &movement,
                &json!({ "kind": kind, "qty_delta": delta, "sale_id": null,
                "event_id": event["event_id"] }),
            );
            let stock = of(&stock).expect("stock");
            check("stock", &stock, &key);
            check("stock", &stock, &json!({ "stock": delta, "total_stock": delta }));
        }
    }
    node.stop().await;
}

#[actix_web::test]
async fn payments_land_under_their_debt_with_the_method_that_was_named() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let debt = id();
    let payment = |name: &str, more: Value| {
        let mut payload = json!({ "payment_id": id(), "debt_id": debt, "amount_usd": 1 });
        for (key, value) in more.as_object().expect("an object") {
            payload[key] = value.clone();
        }
        let mut event = event(name, payload);
        event["actor"] = json!({ "user_id": "ana" });
        event
    };
    let cases = [
        (
            payment(
                "DebtPaymentRecorded",
                json!({ "payment_method": "zelle", "method": "other", "paid_at": MS,
                "reference": 1234, "notes": "n", "amount_bs": "36.5", "amount": 1 }),
            ),
            json!({ "payment_method": "zelle", "paid_at": TEXT, "reference": "1234", "notes": "n", "amount": "1.00",
                "amount_bs": "36.50", "amount_usd": "1.00", "paid_by": "ana" }),
        ),
        (
            payment("DebtPaymentAdded", json!({ "method": "pago movil", "note": "m", "paid_at": LATER })),
            json!({ "payment_method": "pago movil", "notes": "m", "paid_at": LATER, "amount_bs": null }),
        ),
        (
            payment("DebtPaymentAdded", json!({ "payment_method": "", "request_id": "" })),
            json!({ "payment_method": "cash", "reference": null, "amount": "1.00" }),
        ),
    ];
    let mut events = vec![event("DebtCreated", json!({ "debt_id": debt, "amount_usd": 10 }))];
    events.extend(cases.iter().map(|(event, _)| event.clone()));
    node.client.push(&till, &events).await;
    node.client.projected().await;
    let path = format!("/stores/{}/debts/{debt}", till.store_id);
    let row = node.client.call("GET", &path, &till.token, None).await.json();
    check("the debt", &row, &json!({ "remaining_amount": "7.00", "status": "partial" }));
    let payments = row["payments"].as_array().expect("payments");
    assert_eq!(payments.len(), cases.len());
    for (event, expected) in &cases {
        let row =
            payments.iter().find(|row| row["id"] == event["payload"]["payment_id"]).expect("the payment");
        check("a payment", row, expected);
        check("a payment", row, &json!({ "debt_id": debt, "event_id": event["event_id"] }));
    }
    node.stop().await;
}

#[actix_web::test]
async fn a_credit_sale_makes_a_debt_by_itself_and_its_void_cancels_it_and_gives_the_goods_back() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let [sale_id, customer, product] = [id(), id(), id()];
    let sale = json!({ "sale_id": sale_id, "items": [{ "product_id": product, "qty": 3 }], "payment": { "method": "FIAO" },
        "customer_id": customer, "totals": { "total_bs": 73, "total_usd": 2 } });
    node.client.push(&till, &story(&[("SaleCreated", sale)])).await;
    node.client.projected().await;
    let debts = list(&node, &till, "debts").await;
    assert_eq!(debts.len(), 1);
    check(
        "the debt",
        &debts[0],
        &json!({ "derived": true, "sale_id": sale_id, "customer_id": customer,
        "total_amount": "2.00", "remaining_amount": "2.00", "amount_bs": "73.00", "status": "pending",
        "event_id": null }),
    );
    let void = json!({ "sale_id": sale_id, "reason": "back" });
    let again = json!({ "sale_id": sale_id, "reason": "once more" });
    let mut voids = story(&[("SaleVoided", void), ("SaleVoided", again)]);
    node.client.push(&till, &voids).await;
    node.client.projected().await;
    check("the debt", &list(&node, &till, "debts").await[0], &json!({ "status": "cancelled" }));
    let movements = list(&node, &till, "stock-movements").await;
    let mut kinds: Vec<(&str, &str)> = movements
        .iter()
        .map(|m| (m["kind"].as_str().expect("a kind"), m["qty_delta"].as_str().expect("a decimal")))
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [("sale", "-3.000"), ("void", "3.000")], "reversed once");
    let pool = node.database.pool().await;
    let first = voids.remove(0)["event_id"].as_str().expect("an id").to_owned();
    let second = voids.remove(0)["event_id"].as_str().expect("an id").to_owned();
    assert_eq!(projection_of(&pool, till.store_id, &second).await, ("absorbed".to_owned(), first));
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn what_waits_for_another_event_names_it_and_is_done_when_that_comes() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let [sale_id, debt_id] = [id(), id()];
    let void = event("SaleVoided", json!({ "sale_id": sale_id }));
    let payment = json!({ "payment_id": id(), "debt_id": debt_id, "amount": 4 });
    let payment = event("DebtPaymentRecorded", payment);
    let early = [void, payment];
    node.client.push(&till, &early).await;
    node.client.projected().await;
    let pool = node.database.pool().await;
    let status = async |event: &Value| {
        projection_of(&pool, till.store_id, event["event_id"].as_str().expect("an id")).await
    };
    assert_eq!(status(&early[0]).await, ("waiting".to_owned(), sale_id.clone()));
    assert_eq!(status(&early[1]).await, ("waiting".to_owned(), debt_id.clone()));
    let late = [
        event("SaleCreated", json!({ "sale_id": sale_id, "items": [] })),
        event("DebtCreated", json!({ "debt_id": debt_id, "amount": 10 })),
    ];
    node.client.push(&till, &late).await;
    node.client.projected().await;
    for event in early.iter().chain(&late) {
        assert_eq!(status(event).await.0, "processed", "{event}");
    }
    assert_eq!(list(&node, &till, "debts").await[0]["remaining_amount"], "6.00");
    assert!(!list(&node, &till, "sales").await[0]["voided_at"].is_null());
    pool.close().await;
    node.stop().await;
}
