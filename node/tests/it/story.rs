//! A shop's events that hang together: sales on credit, their debts and payments, voids, doubled sales.

use crate::support::{event, id};
use serde_json::{Value, json};

/// The events of so many customers, in the order in which they happened, a second apart.
pub(crate) fn of_shop(customers: usize) -> Vec<Value> {
    let product = id();
    let mut events = vec![
        event(
            "ProductCreated",
            json!({ "product_id": product, "name": "Arepa", "price_usd": 1.5, "price_bs": 54 }),
        ),
        event("StockReceived", json!({ "movement_id": id(), "product_id": product, "qty": 500 })),
    ];
    for customer in 0..customers {
        events.extend(of_customer(&product, customer));
    }
    let start = 1_790_000_000_000_i64;
    for (event, at) in events.iter_mut().zip((start..).step_by(1_000)) {
        event["created_at"] = json!(at);
        event["seq"] = json!((at - start) / 1_000 + 1);
    }
    events
}

fn of_customer(product: &str, number: usize) -> Vec<Value> {
    let (customer, sale, request, debt) = (id(), id(), id(), id());
    let sold = |request: &str| {
        let item = json!({ "product_id": product, "qty": 2, "unit_price_usd": 1.5, "unit_price_bs": 54 });
        json!({ "sale_id": sale, "request_id": request, "items": [item], "customer_id": customer,
            "payment": { "method": "FIAO" }, "totals": { "total_usd": 3, "total_bs": 108 } })
    };
    let paid = |amount: f64| {
        let payment = json!({ "payment_id": id(), "request_id": id(), "debt_id": debt, "amount_usd": amount,
            "amount_bs": amount * 36.0 });
        event("DebtPaymentRecorded", payment)
    };
    let mut events = vec![
        event("CustomerCreated", json!({ "customer_id": customer, "name": format!("Customer {number}") })),
        event("SaleCreated", sold(&request)),
        event(
            "DebtCreated",
            json!({ "debt_id": debt, "sale_id": sale, "customer_id": customer,
            "amount_usd": 3, "amount_bs": 108 }),
        ),
        paid(1.0),
        event("CustomerUpdated", json!({ "customer_id": customer, "phone": format!("0424-{number:07}") })),
        paid(0.5),
    ];
    match number % 4 {
        // The till sold it again by mistake; the first one stands.
        0 => events.push(event("SaleCreated", sold(&id()))),
        1 => events.push(event("SaleVoided", json!({ "sale_id": sale, "reason": "returned" }))),
        2 => events.push(event(
            "CashLedgerEntryCreated",
            json!({ "entry_id": id(), "entry_type": "sale",
            "amount_usd": 1.0, "metadata": { "sale_id": sale, "sale_request_id": request } }),
        )),
        // A payment of a debt that nobody knows.
        _ => events
            .push(event("DebtPaymentAdded", json!({ "payment_id": id(), "debt_id": id(), "amount_usd": 1 }))),
    }
    events
}
