//! B, C and D at the node itself.

use super::{Shop, dead, debts, is_named};
use crate::database::{execute, number};
use crate::support::{event, id, sale};
use serde_json::json;

#[actix_web::test]
async fn events_that_a_broken_projector_left_are_b_also_when_nothing_says_so() {
    let shop = Shop::open().await;
    shop.pair.a.client.fault(json!({ "actor": "projector.debt", "fault": "error" })).await;
    shop.pair.a.client.push(&shop.till, &debts(3)).await;
    dead(&shop.a, 6).await;
    let found = shop.triage().await;
    is_named(&found, "B", "debts", 3);
    is_named(&found, "B", "payments", 3);
    assert_eq!(found["kinds"]["debts"]["missing_rows"], 3);
    shop.hide().await;
    is_named(&shop.triage().await, "B", "debts", 3);
    // The projector is as broken as it was.
    shop.mend().await;
    assert_eq!(number(&shop.a, "SELECT count(*) FROM debt_payments").await, 5);
    shop.close().await;
}

#[actix_web::test]
async fn more_rows_than_a_healer_takes_at_once_and_older_ones_are_made_anew() {
    let shop = Shop::open().await;
    let sales: Vec<_> = (0..120).map(|_| sale()).collect();
    shop.pair.a.client.push(&shop.till, &sales).await;
    shop.pair.quiet().await;
    execute(
        &shop.a,
        "BEGIN; SET LOCAL session_replication_role = replica;
         UPDATE events SET received_at = now() - interval '20 days' WHERE type = 'SaleCreated'; COMMIT;
         DELETE FROM sale_items; DELETE FROM sales"
            .to_owned(),
    )
    .await;
    is_named(&shop.triage().await, "B", "sales", 120);
    shop.mend().await;
    assert_eq!(number(&shop.a, "SELECT count(*) FROM sales").await, 120);
    shop.close().await;
}

#[actix_web::test]
async fn a_dropped_column_is_c_and_comes_back_with_what_was_in_it() {
    let shop = Shop::open().await;
    execute(&shop.a, "ALTER TABLE debts DROP COLUMN notes".to_owned()).await;
    shop.pair.a.client.push(&shop.till, &debts(2)).await;
    dead(&shop.a, 2).await;
    let found = shop.triage().await;
    is_named(&found, "C", "debts", 2);
    assert!(found["cause"].as_str().is_some_and(|cause| cause.contains("debts.notes")), "{found:#}");
    let difference = &found["nodes"][0]["schema_differences"][0];
    assert_eq!(difference["repair"], "ALTER TABLE public.debts ADD COLUMN notes text");
    shop.hide().await;
    is_named(&shop.triage().await, "C", "debts", 2);
    let mended = shop.mend().await;
    assert!(mended.out.contains("ALTER TABLE public.debts ADD COLUMN notes text"), "{}", mended.out);
    assert_eq!(number(&shop.a, "SELECT count(*) FROM debts WHERE notes = 'fiao'").await, 4);
    shop.close().await;
}

#[actix_web::test]
async fn a_dropped_column_takes_its_views_rules_and_indexes_with_it_and_all_come_back() {
    let shop = Shop::open().await;
    execute(
        &shop.a,
        "ALTER TABLE debts DROP COLUMN customer_id CASCADE; ALTER TABLE debt_payments DROP COLUMN id CASCADE;
         ALTER TABLE debt_payments DROP COLUMN amount"
            .to_owned(),
    )
    .await;
    let before = shop.pair.a.node.state.store.schema_lines().await.expect("the schema");
    let found = shop.triage().await;
    assert_eq!(found["verdict"], "C", "{found:#}");
    assert_eq!(found["kinds"]["payments"]["verdict"], "C", "{found:#}");
    assert_eq!(found["kinds"]["sales"]["verdict"], "OK", "{found:#}");
    shop.mend().await;
    let mended = shop.pair.a.node.state.store.schema_lines().await.expect("the schema");
    let sound = shop.pair.b.node.state.store.schema_lines().await.expect("the schema");
    assert!(before != mended && mended == sound);
    assert_eq!(number(&shop.a, "SELECT count(*) FROM debt_payments WHERE amount = 1").await, 2);
    shop.close().await;
}

#[actix_web::test]
async fn a_migration_that_did_not_run_is_c_and_is_run() {
    let shop = Shop::open().await;
    execute(&shop.a, "DROP VIEW event_gaps; DELETE FROM _sqlx_migrations WHERE version = 9".to_owned()).await;
    let found = shop.triage().await;
    assert_eq!(found["verdict"], "C", "{found:#}");
    assert!(found["cause"].as_str().is_some_and(|cause| cause.contains("migration 9")), "{found:#}");
    shop.mend().await;
    shop.close().await;
}

#[actix_web::test]
async fn a_repair_that_was_cut_short_before_its_rebuild_is_c_and_is_gone_on_with() {
    let shop = Shop::open().await;
    execute(&shop.a, "ALTER TABLE debts DROP COLUMN notes, DROP COLUMN status CASCADE".to_owned()).await;
    let store = &shop.pair.a.node.state.store;
    store.repair_schema().await.expect("a repair");
    assert_eq!(number(&shop.a, "SELECT count(*) FROM debts WHERE notes IS NULL").await, 2, "not yet");
    let found = shop.triage().await;
    assert_eq!((&found["verdict"], &found["kinds"]["debts"]["verdict"]), (&json!("C"), &json!("C")));
    assert!(found["cause"].as_str().is_some_and(|cause| cause.contains("made anew")), "{found:#}");
    shop.mend().await;
    assert_eq!(number(&shop.a, "SELECT count(*) FROM debts WHERE notes = 'fiao'").await, 2);
    // A column that an earlier program has left empty is filled before it may not be empty.
    execute(
        &shop.a,
        "ALTER TABLE debts ALTER COLUMN status DROP NOT NULL; UPDATE debts SET status = NULL".to_owned(),
    )
    .await;
    let mended = shop.mend().await;
    assert!(!mended.out.contains("could not run"), "{}", mended.out);
    assert_eq!(number(&shop.a, "SELECT count(*) FROM debts WHERE status = 'partial'").await, 2);
    shop.close().await;
}

#[actix_web::test]
async fn what_triage_needs_itself_is_c_where_its_migration_did_not_run_or_it_is_gone() {
    let shop = Shop::open().await;
    let gone = "ALTER TABLE node_identity DROP COLUMN database_id, DROP COLUMN restored_at;
                ALTER TABLE stores DROP COLUMN home_node; ALTER TABLE peers_seen DROP COLUMN last_success_at CASCADE";
    execute(&shop.a, format!("{gone}; DELETE FROM _sqlx_migrations WHERE version = 11")).await;
    let found = shop.triage().await;
    assert_eq!(found["verdict"], "C", "{found:#}");
    assert!(found["cause"].as_str().is_some_and(|cause| cause.contains("migration 11")), "{found:#}");
    let told = shop.run(&[]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.out.contains("WRONG (C)") && told.out.contains("Bodega"), "{}", told.out);
    let mended = shop.run(&["--fix"]).await;
    assert_eq!(mended.code, Some(0), "{}\n{}", mended.out, mended.err);
    shop.is_well().await;
    shop.close().await;
}

#[actix_web::test]
async fn a_payload_that_a_rule_of_the_database_refuses_is_d_and_is_replayed_once_the_rule_is_gone() {
    let shop = Shop::open().await;
    execute(
        &shop.a,
        "ALTER TABLE debts ADD CONSTRAINT poisoned CHECK (notes IS DISTINCT FROM 'poison')".to_owned(),
    )
    .await;
    let poison = event("DebtCreated", json!({ "debt_id": id(), "total_amount": 5, "note": "poison" }));
    let mut events = debts(3);
    events.push(poison.clone());
    shop.pair.a.client.push(&shop.till, &events).await;
    dead(&shop.a, 1).await;
    is_named(&shop.triage().await, "D", "debts", 1);
    shop.hide().await;
    let found = shop.triage().await;
    is_named(&found, "D", "debts", 1);
    assert!(found["cause"].as_str().is_some_and(|cause| cause.contains("poisoned")), "{found:#}");
    let still = shop.run(&["--fix", "--no-backup"]).await;
    assert_eq!(still.code, Some(1), "{still:?}");
    let named = poison["event_id"].as_str().expect("an id");
    assert!(still.out.contains(named) && still.out.contains("poisoned"), "{}", still.out);
    execute(&shop.a, "ALTER TABLE debts DROP CONSTRAINT poisoned".to_owned()).await;
    shop.hide().await;
    shop.mend().await;
    shop.close().await;
}

#[actix_web::test]
async fn a_payload_without_a_meaning_is_d_among_others_that_only_lost_their_rows() {
    let shop = Shop::open().await;
    let unclear = event("DebtCreated", json!({ "debt_id": id(), "amount_usd": "many" }));
    let mut events = debts(4);
    events.push(unclear.clone());
    shop.pair.a.client.push(&shop.till, &events).await;
    shop.pair.quiet().await;
    is_named(&shop.triage().await, "D", "debts", 1);
    shop.hide().await;
    execute(&shop.a, "DELETE FROM debt_payments; DELETE FROM debts".to_owned()).await;
    let found = shop.triage().await;
    is_named(&found, "D", "debts", 1);
    assert_eq!(found["kinds"]["payments"]["verdict"], "B", "{found:#}");
    let named = unclear["event_id"].as_str().expect("an id");
    let still = shop.run(&["--fix", "--no-backup", "--json"]).await;
    assert_eq!(still.code, Some(1), "{still:?}");
    let after = still.json();
    assert_eq!((&after["verdict"], &after["before"]["verdict"]), (&json!("D"), &json!("D")));
    assert!(after["kinds"]["debts"]["evidence"].to_string().contains(named), "{after:#}");
    assert_eq!(number(&shop.a, "SELECT count(*) FROM event_gaps").await, 1, "all others are mended");
    shop.close().await;
}

#[actix_web::test]
async fn events_that_are_on_their_way_are_nothing_to_wake_somebody_for() {
    let shop = Shop::open().await;
    shop.pair
        .a
        .client
        .fault(json!({ "actor": "projector.sale", "fault": "delay", "delay_ms": 1500, "times": 1 }))
        .await;
    shop.pair.a.client.push(&shop.till, &[sale()]).await;
    let found = shop.triage().await;
    assert_eq!(found["kinds"]["sales"]["verdict"], "OK", "{found:#}");
    shop.pair.quiet().await;
    shop.close().await;
}
