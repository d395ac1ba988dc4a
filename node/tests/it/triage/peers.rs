//! What is wrong at the peer is named from here, and mended through its signed calls.

use super::{Shop, dead, debts, is_named};
use crate::database::{execute, number};
use crate::support::{event, id};
use serde_json::json;
use velox_actors::triage::mend;

#[actix_web::test]
async fn a_node_is_mended_by_one_at_a_time() {
    let shop = Shop::open().await;
    execute(&shop.b, "DELETE FROM debt_payments".to_owned()).await;
    let state = &shop.pair.b.node.state;
    let other = state.store.begin_mending().await.expect("a database").expect("nobody mends");
    let mended = mend(&state.store, shop.till.store_id, true, state.healing).await.expect("a database");
    assert!(mended.being_mended && mended.healed == 0, "{mended:?}");
    other.end().await;
    let mended = mend(&state.store, shop.till.store_id, true, state.healing).await.expect("a database");
    assert!(!mended.being_mended && mended.healed == 2, "{mended:?}");
    shop.close().await;
}

#[actix_web::test]
async fn a_peer_that_has_no_time_to_look_is_compared_all_the_same_and_that_is_said() {
    let shop = Shop::open().await;
    shop.pair.a.client.fault(json!({ "actor": "relay.b", "fault": "error" })).await;
    shop.pair.a.client.push(&shop.till, &debts(1)).await;
    shop.pair.a.client.projected().await;
    let examinations = shop.pair.b.node.state.federation.examinations.clone();
    let taken = examinations.try_acquire_many_owned(2).expect("two at once");
    let found = shop.triage().await;
    is_named(&found, "A", "debts", 1);
    assert_eq!(found["nodes"][1]["reachable"], true);
    assert!(
        found["cause"].as_str().is_some_and(|cause| cause.contains("the peer answered 503")),
        "{found:#}"
    );
    drop(taken);
    let found = shop.triage().await;
    assert!(found["nodes"][1]["kinds"].is_object(), "{found:#}");
    shop.close().await;
}

#[actix_web::test]
async fn what_a_peer_does_not_show_is_b_at_the_peer_and_is_mended_from_here() {
    let shop = Shop::open().await;
    shop.pair.b.client.fault(json!({ "actor": "projector.debt", "fault": "error" })).await;
    shop.pair.a.client.push(&shop.till, &debts(2)).await;
    dead(&shop.b, 4).await;
    shop.hide().await;
    let found = shop.triage().await;
    is_named(&found, "B", "debts", 2);
    assert_eq!(found["kinds"]["debts"]["node"], "b");
    shop.mend().await;
    assert_eq!(number(&shop.b, "SELECT count(*) FROM debt_payments").await, 4);
    shop.close().await;
}

#[actix_web::test]
async fn a_column_that_a_peer_lost_is_c_at_the_peer_and_is_mended_from_here() {
    let shop = Shop::open().await;
    execute(&shop.b, "ALTER TABLE debt_payments DROP COLUMN reference".to_owned()).await;
    shop.pair.a.client.push(&shop.till, &debts(2)).await;
    dead(&shop.b, 2).await;
    let found = shop.triage().await;
    is_named(&found, "C", "payments", 2);
    assert_eq!(found["kinds"]["payments"]["node"], "b");
    shop.hide().await;
    shop.mend().await;
    shop.close().await;
}

#[actix_web::test]
async fn a_payment_whose_debt_never_came_is_a_and_not_the_peers_fault() {
    let shop = Shop::open().await;
    let debt = id();
    let (owed, paid) = (
        event("DebtCreated", json!({ "debt_id": debt, "total_amount": 5 })),
        event("DebtPaymentRecorded", json!({ "payment_id": id(), "debt_id": debt, "amount": 1 })),
    );
    shop.pair.a.client.fault(json!({ "actor": "relay.b", "fault": "error" })).await;
    shop.pair.a.client.push(&shop.till, &[owed]).await;
    execute(&shop.a, "DELETE FROM outbox_entries WHERE target = 'federation-relay'".to_owned()).await;
    shop.pair.a.client.clear_faults().await;
    shop.pair.a.client.push(&shop.till, &[paid]).await;
    shop.pair.quiet().await;
    shop.hide().await;
    let found = shop.triage().await;
    is_named(&found, "A", "debts", 1);
    assert_eq!(found["kinds"]["payments"]["verdict"], "OK", "it waits: {found:#}");
    shop.mend().await;
    assert_eq!(number(&shop.b, "SELECT count(*) FROM debt_payments").await, 3);
    shop.close().await;
}
