//! A: events that never reached the other node.

use super::{Shop, debts, is_named};
use crate::database::{execute, number};
use crate::pair::pending;
use crate::support::{sale, wait};
use serde_json::{Value, json};

const EVENTS: &str = "SELECT count(*) FROM events";

async fn cut(shop: &Shop) {
    shop.pair.a.client.fault(json!({ "actor": "relay.b", "fault": "error" })).await;
}

#[actix_web::test]
async fn events_that_a_cut_relay_never_sent_are_a_also_when_their_entries_are_gone() {
    let shop = Shop::open().await;
    is_named_ok(&shop.triage().await);
    cut(&shop).await;
    shop.pair.a.client.push(&shop.till, &debts(3)).await;
    shop.pair.a.client.projected().await;
    let found = shop.triage().await;
    is_named(&found, "A", "debts", 3);
    is_named(&found, "A", "payments", 3);
    assert_eq!(found["kinds"]["debts"]["missing_there"], 3);
    assert_eq!(found["kinds"]["sales"]["verdict"], "OK");
    shop.hide().await;
    is_named(&shop.triage().await, "A", "debts", 3);
    // The relay is as broken as it was: what is missing is sent without it.
    let mended = shop.mend().await;
    assert!(mended.out.contains("Sent 6 events to b"), "{}", mended.out);
    assert_eq!(number(&shop.b, "SELECT count(*) FROM debt_payments").await, 5);
    shop.close().await;
}

fn is_named_ok(found: &Value) {
    assert_eq!((&found["verdict"], &found["command"]), (&json!("OK"), &Value::Null), "{found:#}");
}

#[actix_web::test]
async fn a_peer_that_cannot_be_asked_is_a_where_events_wait_for_it_and_also_where_their_entries_are_gone() {
    let shop = Shop::open().await;
    let Shop { pair, till, a, b, home: _home } = shop;
    let super::Pair { a: here, b: there } = pair;
    there.stop().await;
    here.client.push(&till, &[sale(), sale()]).await;
    here.client.projected().await;
    wait("two sales that wait", async || pending(&here).await == 2).await;
    let found = super::triage(&here, &till).await;
    is_named(&found, "A", "sales", 2);
    assert_eq!(found["kinds"]["debts"]["verdict"], "OK");
    assert_eq!(found["nodes"][1]["reachable"], false);
    execute(&a, "DELETE FROM outbox_entries".to_owned()).await;
    is_named(&super::triage(&here, &till).await, "A", "sales", 2);
    a.close().await;
    b.close().await;
    here.stop().await;
}

#[actix_web::test]
async fn what_only_the_peer_has_is_a_and_is_fetched_and_shown() {
    let shop = Shop::open().await;
    shop.pair.a.client.push(&shop.till, &[sale(), sale()]).await;
    shop.pair.quiet().await;
    execute(
        &shop.a,
        "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM events WHERE type = 'SaleCreated'; COMMIT;
         DELETE FROM sales; DELETE FROM sale_items; DELETE FROM links"
            .to_owned(),
    )
    .await;
    let found = shop.triage().await;
    is_named(&found, "A", "sales", 2);
    assert_eq!(found["kinds"]["sales"]["missing_here"], 2);
    shop.mend().await;
    assert_eq!(number(&shop.a, "SELECT count(*) FROM sales").await, 2, "it is shown, too");
    assert_eq!(number(&shop.a, EVENTS).await, 7);
    shop.close().await;
}
