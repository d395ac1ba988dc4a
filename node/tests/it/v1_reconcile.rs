//! Comparing a store with a v1 node by id lists: the gaps of both sides are told and filled, and then there are none.

use crate::pair::pending;
use crate::support::{ADMIN, TestNode, Till, id, wait};
use crate::v1_node::{self, V1Node};
use crate::wire::now_ms;
use serde_json::{Value, json};
use uuid::Uuid;
use velox_actors::peer::v1::reconcile::{Compared, Comparison, Gaps, compare};
use velox_actors::relay::Wire;
use velox_node::clock::SystemClock;
use velox_protocol::time::Clock;
use velox_protocol::v1::Kind;

async fn run(node: &TestNode, store_id: Uuid, dry_run: bool, after_outage: bool) -> Compared {
    let state = &node.node.state;
    let Wire::V1(client) = &state.federation.relays[0].wire else { panic!("it is a v1 node") };
    let comparison = Comparison { store_id, now: SystemClock.now(), dry_run, after_outage };
    let compared = compare(client, &state.store, comparison, None).await.expect("a comparison");
    state.federation.wake(&["v1".to_owned()]);
    compared
}

fn gaps(remote_missing: u64, local_missing: u64, replayed_to_remote: u64, replayed_to_local: u64) -> Gaps {
    Gaps { remote_missing, local_missing, replayed_to_remote, replayed_to_local }
}

/// One thing of every kind, with an event that v1 has in no list.
fn things() -> Vec<Value> {
    let (sale, voided, debt, now) = (id(), id(), id(), now_ms());
    let of_sale = |sale_id: &String| {
        v1_node::event(
            "SaleCreated",
            json!({ "sale_id": sale_id, "request_id": id(), "sold_at": now, "items": [],
                "totals": { "total_usd": 3, "total_bs": 9 }, "payment": { "method": "CASH_USD" } }),
        )
    };
    let session = id();
    vec![
        of_sale(&sale),
        of_sale(&voided),
        v1_node::event("SaleVoided", json!({ "sale_id": voided })),
        v1_node::event(
            "DebtCreated",
            json!({ "debt_id": debt, "created_at": now, "amount_usd": 3, "amount_bs": 0 }),
        ),
        v1_node::event(
            "DebtPaymentRecorded",
            json!({ "payment_id": id(), "debt_id": debt, "paid_at": now, "amount_usd": 1 }),
        ),
        v1_node::event("CashSessionOpened", json!({ "cash_session_id": session, "opened_at": now })),
        v1_node::event("CashSessionClosed", json!({ "cash_session_id": session, "closed_at": now })),
        v1_node::event("StockReceived", json!({ "movement_id": id(), "product_id": id(), "qty": 3 })),
        v1_node::event("ProductCreated", json!({ "product_id": id(), "name": "Café" })),
    ]
}

/// A shop whose till has pushed these events, of which the v1 node has lost all.
async fn lost(v1: &V1Node, node: &TestNode, events: &[Value]) -> Till {
    let till = node.client.till().await;
    node.client.push(&till, events).await;
    wait("an empty relay queue", async || pending(node).await == 0).await;
    node.client.projected().await;
    v1.state().shops.clear();
    till
}

#[actix_web::test]
async fn the_gaps_of_both_sides_are_told_filled_and_then_gone() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let (ours, theirs) = (things(), things());
    let till = lost(&v1, &node, &ours).await;
    for event in &theirs {
        v1.keep(till.store_id, &till.device_id, event);
    }
    let pushes = v1.state().pushes.len();
    let dry = run(&node, till.store_id, true, true).await;
    for (kind, count) in [
        (Kind::Sales, 2),
        (Kind::VoidedSales, 1),
        (Kind::Debts, 1),
        (Kind::Payments, 1),
        (Kind::Sessions, 1),
        (Kind::Movements, 1),
    ] {
        assert_eq!(dry.of(kind), gaps(count, count, 0, 0), "{kind:?}");
    }
    assert_eq!((pending(&node).await, v1.state().pushes.len()), (0, pushes), "nothing has changed");
    assert!(v1.state().calls.iter().all(|(call, _)| !call.starts_with("replay")));

    let done = run(&node, till.store_id, false, false).await;
    assert_eq!(done.of(Kind::Sessions), gaps(1, 1, 2, 2), "opened and closed");
    assert_eq!(done.of(Kind::Sales), gaps(2, 2, 2, 3), "with their void");
    assert_eq!(done.of(Kind::Debts), gaps(1, 1, 1, 1));
    assert_eq!(done.total().remote_missing, 7);
    assert_eq!(done.other, Gaps::default(), "there was no outage");
    wait("an empty relay queue", async || pending(&node).await == 0).await;
    let listed = ours.iter().filter(|event| event["type"] != "ProductCreated");
    for event in listed {
        assert!(v1.has(till.store_id, event["event_id"].as_str().expect("an id")), "{event}");
    }
    node.client.projected().await;
    assert_eq!(node.client.list(&till, "sales").await.len(), 4);
    assert_eq!(node.client.list(&till, "cash-sessions").await.len(), 2);
    assert_eq!(node.client.list(&till, "debts").await.len(), 2);
    let again = run(&node, till.store_id, false, false).await;
    assert_eq!(again.total(), Gaps::default(), "{again:?}");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn products_and_customers_are_sent_again_after_an_outage() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let product = v1_node::event("ProductCreated", json!({ "product_id": id(), "name": "Café" }));
    let customer = v1_node::event("CustomerCreated", json!({ "customer_id": id(), "name": "Ana" }));
    let till = lost(&v1, &node, &[product.clone(), customer.clone()]).await;
    let theirs = v1_node::event("ProductCreated", json!({ "product_id": id(), "name": "Té" }));
    v1.relay(till.store_id, &till.device_id, &theirs).await;
    assert_eq!(run(&node, till.store_id, false, false).await.other, Gaps::default());
    let done = run(&node, till.store_id, false, true).await;
    assert_eq!(done.other, gaps(0, 0, 2, 0), "but not what came from there");
    for event in [&product, &customer] {
        v1.gets(till.store_id, event["event_id"].as_str().expect("an id")).await;
    }
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn two_debts_of_one_sale_and_what_v1_cannot_take_are_no_gap_for_ever() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let (sale, customer, now) = (id(), id(), now_ms());
    let totals = json!({ "total_usd": 10, "total_bs": 360 });
    let sold = v1_node::event(
        "SaleCreated",
        json!({ "sale_id": sale, "request_id": id(), "items": [], "totals": totals,
            "payment": { "method": "FIAO" }, "customer_id": customer, "sold_at": now }),
    );
    let ours = v1_node::event(
        "DebtCreated",
        json!({ "debt_id": id(), "sale_id": sale, "customer_id": customer, "created_at": now, "amount_usd": 10,
            "amount_bs": 360 }),
    );
    let till = node.client.till().await;
    // v1 gives the sale a debt of its own before it hears of ours.
    node.client.push(&till, std::slice::from_ref(&sold)).await;
    v1.gets(till.store_id, sold["event_id"].as_str().expect("an id")).await;
    node.client.push(&till, std::slice::from_ref(&ours)).await;
    let device = json!({ "store_id": till.store_id, "device_id": "till-1" });
    let device = node.client.call("POST", "/admin/devices", ADMIN, Some(&device)).await.json();
    let token = device["token"].as_str().expect("a token").to_owned();
    let odd_till = Till { device_id: "till-1".to_owned(), token, ..till.clone() };
    let unsendable =
        v1_node::event("CashSessionOpened", json!({ "cash_session_id": id(), "opened_at": now }));
    node.client.push(&odd_till, std::slice::from_ref(&unsendable)).await;
    wait("an empty relay queue", async || pending(&node).await == 0).await;
    node.client.projected().await;
    let first = run(&node, till.store_id, false, false).await;
    assert_eq!(first.of(Kind::Debts).local_missing, 1, "the debt that only v1 knows");
    assert_eq!(first.of(Kind::Sessions), Gaps::default(), "it can never be there");
    wait("an empty relay queue", async || pending(&node).await == 0).await;
    node.client.projected().await;
    let again = run(&node, till.store_id, true, false).await;
    assert_eq!(again.total(), Gaps::default(), "{again:?}");
    let debts = node.client.list(&till, "debts").await;
    assert_eq!((debts.len(), &debts[0]["id"]), (1, &ours["payload"]["debt_id"]), "the till's own stands");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_payment_that_names_a_debt_does_not_make_it_known() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[("VELOX_OUTBOX_POLL_MS", "60000")]).await;
    let till = node.client.till().await;
    let debt = v1_node::event(
        "DebtCreated",
        json!({ "debt_id": id(), "created_at": now_ms(), "amount_usd": 3, "amount_bs": 0 }),
    );
    let paid = v1_node::event(
        "DebtPaymentRecorded",
        json!({ "payment_id": id(), "debt_id": debt["payload"]["debt_id"], "paid_at": now_ms(), "amount_usd": 1 }),
    );
    node.client.push(&till, std::slice::from_ref(&paid)).await;
    wait("an empty relay queue", async || pending(&node).await == 0).await;
    node.client.projected().await;
    let asked = async || v1.state().calls.iter().any(|(call, _)| call == "replay-debts");
    wait("the debt to be asked for in vain", asked).await;
    v1.keep(till.store_id, &till.device_id, &debt);
    let compared = run(&node, till.store_id, false, false).await;
    assert_eq!(compared.of(Kind::Debts), gaps(0, 1, 0, 1));
    node.client.projected().await;
    assert_eq!(node.client.list(&till, "debts").await[0]["remaining_amount"], "2.00");
    node.stop().await;
    v1.stop().await;
}

#[actix_web::test]
async fn a_v1_node_that_is_away_ends_the_comparison_and_nothing_is_queued() {
    let v1 = V1Node::start();
    let node = v1.with_node(&[]).await;
    let till = node.client.till().await;
    v1.stop().await;
    let state = &node.node.state;
    let Wire::V1(client) = &state.federation.relays[0].wire else { panic!("it is a v1 node") };
    let comparison =
        Comparison { store_id: till.store_id, now: SystemClock.now(), dry_run: false, after_outage: true };
    // The shop's own declaration, which v1 does not take, may still wait to be put aside.
    let before = pending(&node).await;
    compare(client, &state.store, comparison, None).await.expect_err("nobody answers");
    assert!(pending(&node).await <= before, "something is queued");
    node.stop().await;
}
