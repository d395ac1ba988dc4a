//! `Store::rebuild`: what is spoiled is named and mended, what is all right stays, also while pods work.

use crate::reached::fold;
use crate::shop::{Shop, push};
use crate::story::{self, Told};
use crate::verify::{DAY, named};
use sqlx::{Connection as _, PgConnection};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;
use velox_store::{Rebuilt, RetryPolicy, Store};

const MORTAL: RetryPolicy = RetryPolicy { max_retries: 1, base: Duration::ZERO };

/// What is spoiled in a store of its own: the table, the statement, and what is said of the row with which key.
const SPOILT: &[(&str, &str, &str, &str)] = &[
    (
        "sales",
        "UPDATE sales SET total_usd = 11, note = 'x' WHERE {store} AND id = '{S1}'",
        "{S1}",
        "note, total_usd",
    ),
    ("sales", "DELETE FROM sales WHERE {store} AND id = '{S1}'", "{S1}", "missing"),
    ("sales", "UPDATE sales SET id = '{P1}' WHERE {store} AND id = '{S1}'", "{P1}", "superfluous"),
    ("sale_items", "UPDATE sale_items SET qty = 7 WHERE {store} AND sale_id = '{S1}'", "{S1} 1", "qty"),
    (
        "sale_items",
        "UPDATE sale_items SET line_no = 7 WHERE {store} AND sale_id = '{S1}'",
        "{S1} 1",
        "missing",
    ),
    (
        "sale_items",
        "UPDATE sale_items SET line_no = 7 WHERE {store} AND sale_id = '{S1}'",
        "{S1} 7",
        "superfluous",
    ),
    (
        "debts",
        "UPDATE debts SET remaining_amount = 0, status = 'paid' WHERE {store} AND id = '{D1}'",
        "{D1}",
        "remaining_amount, status",
    ),
    ("debts", "DELETE FROM debts WHERE {store} AND id = '{D1}'", "{D1}", "missing"),
    ("debts", "UPDATE debts SET id = '{P1}' WHERE {store} AND id = '{D1}'", "{P1}", "superfluous"),
    ("debt_payments", "UPDATE debt_payments SET amount = 7 WHERE {store} AND id = '{M1}'", "{M1}", "amount"),
    ("debt_payments", "DELETE FROM debt_payments WHERE {store} AND id = '{M2}'", "{M2}", "missing"),
    (
        "debt_payments",
        "UPDATE debt_payments SET id = '{P1}' WHERE {store} AND id = '{M1}'",
        "{P1}",
        "superfluous",
    ),
    ("products", "UPDATE products SET name = NULL WHERE {store}", "{P1}", "name"),
    ("products", "UPDATE products SET attributes = '{\"a\":1}' WHERE {store}", "{P1}", "attributes"),
    ("products", "DELETE FROM products WHERE {store}", "{P1}", "missing"),
    ("products", "UPDATE products SET id = '{P3}' WHERE {store}", "{P3}", "superfluous"),
    ("customers", "UPDATE customers SET phone = '1' WHERE {store}", "{C1}", "phone"),
    ("customers", "DELETE FROM customers WHERE {store}", "{C1}", "missing"),
    ("customers", "UPDATE customers SET id = '{P3}' WHERE {store}", "{P3}", "superfluous"),
    (
        "cash_sessions",
        "UPDATE cash_sessions SET closed_event_id = 'x' WHERE {store}",
        "{X1}",
        "closed_event_id",
    ),
    ("cash_sessions", "DELETE FROM cash_sessions WHERE {store}", "{X1}", "missing"),
    ("cash_sessions", "UPDATE cash_sessions SET id = '{P3}' WHERE {store}", "{P3}", "superfluous"),
    ("cash_ledger_entries", "UPDATE cash_ledger_entries SET amount = 1 WHERE {store}", "{L1}", "amount"),
    ("cash_ledger_entries", "DELETE FROM cash_ledger_entries WHERE {store}", "{L1}", "missing"),
    (
        "cash_ledger_entries",
        "UPDATE cash_ledger_entries SET id = '{P3}' WHERE {store}",
        "{P3}",
        "superfluous",
    ),
    (
        "stock_movements",
        "UPDATE stock_movements SET qty_delta = 9 WHERE {store} AND id = '{K1}'",
        "{K1}",
        "qty_delta",
    ),
    ("stock_movements", "DELETE FROM stock_movements WHERE {store} AND id = '{K1}'", "{K1}", "missing"),
    (
        "stock_movements",
        "UPDATE stock_movements SET id = '{P3}' WHERE {store} AND id = '{K1}'",
        "{P3}",
        "superfluous",
    ),
    (
        "warehouse_stock",
        "UPDATE warehouse_stock SET stock = 0 WHERE {store} AND product_id = '{P1}'",
        "{P1} {none} {store_id}",
        "stock",
    ),
    (
        "warehouse_stock",
        "DELETE FROM warehouse_stock WHERE {store} AND product_id = '{P1}'",
        "{P1} {none} {store_id}",
        "missing",
    ),
    (
        "warehouse_stock",
        "UPDATE warehouse_stock SET product_id = '{P3}' WHERE {store} AND product_id = '{P1}'",
        "{P3} {none} {store_id}",
        "superfluous",
    ),
    ("open_conflicts", "UPDATE open_conflicts SET versions = '[]' WHERE {store}", "{conflict}", "versions"),
    ("open_conflicts", "DELETE FROM open_conflicts WHERE {store}", "{conflict}", "missing"),
    ("open_conflicts", "UPDATE open_conflicts SET id = '{P3}' WHERE {store}", "{P3}", "superfluous"),
    ("stores", "UPDATE stores SET home_node = 'south' WHERE {store}", "{store_id}", "home_node"),
    (
        "stores",
        "UPDATE stores SET declared_by = 'm', default_warehouse_id = '{P1}' WHERE {store}",
        "{store_id}",
        "declared_by, default_warehouse_id",
    ),
    (
        "stores",
        "UPDATE stores SET home_node = NULL, declared_by = NULL WHERE {store}",
        "{store_id}",
        "missing",
    ),
    ("stores", "DELETE FROM stores WHERE {store}", "{store_id}", "missing"),
    ("fiscal_series", "UPDATE fiscal_series SET next_number = 8 WHERE {store}", "{F1}", "next_number"),
    ("fiscal_series", "DELETE FROM fiscal_series WHERE {store}", "{F1}", "missing"),
    ("fiscal_series", "UPDATE fiscal_series SET series_id = '{P3}' WHERE {store}", "{P3}", "superfluous"),
    (
        "event_exceptions",
        "UPDATE event_exceptions SET reason = 'd' WHERE {store} AND event_id = 'w'",
        "w",
        "reason",
    ),
    ("event_exceptions", "DELETE FROM event_exceptions WHERE {store} AND event_id = 'f'", "f", "missing"),
    (
        "event_exceptions",
        "INSERT INTO event_exceptions (store_id, event_id, status) SELECT store_id, 'a', 'failed' FROM sales WHERE {store} AND event_id = 'a'",
        "a",
        "superfluous",
    ),
];

async fn rebuild(shop: &Shop, store_id: Uuid) -> Rebuilt {
    shop.store.rebuild(store_id).await.expect("a rebuild")
}

/// How many sessions of the database wait for a lock of this kind.
async fn waiting(shop: &Shop, kind: &str) -> i64 {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
             AND wait_event = '{kind}'"
    );
    shop.value(&sql).await
}

/// Waits until something is so.
async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = async { while !is_so().await {} };
    tokio::time::timeout(Duration::from_secs(20), waited)
        .await
        .unwrap_or_else(|_| panic!("after 20 s: not {what}"));
}

#[tokio::test]
async fn every_kind_of_spoiled_row_is_named_and_mended() {
    let shop = Shop::open().await;
    let store_of = |n: usize| Uuid::from_u128(1 + n as u128);
    for n in 0..SPOILT.len() {
        shop.bring(story::events(store_of(n), DAY)).await;
    }
    shop.project().await;
    let since = "SELECT string_agg(concat_ws(' ', store_id, event_id, since, attempts), ',' ORDER BY store_id, event_id)
                 FROM event_exceptions WHERE event_id = 'q'";
    let noted: String = shop.value(since).await;
    let unspoiled = rebuild(&shop, store_of(0)).await;
    assert_eq!((unspoiled.differences, unspoiled.examples.len()), (0, 0), "{unspoiled:?}");
    assert_eq!(unspoiled.events, DAY.lines().count() as u64);
    for (n, (table, sql, key, what)) in SPOILT.iter().enumerate() {
        let store = store_of(n);
        let conflict: Uuid =
            shop.value(&format!("SELECT id FROM open_conflicts WHERE store_id = '{store}'")).await;
        let fill = |text: &str| {
            let text = text.replace("{store}", &format!("store_id = '{store}'"));
            let text =
                text.replace("{store_id}", &store.to_string()).replace("{none}", &Uuid::nil().to_string());
            named(&text.replace("{conflict}", &conflict.to_string()), store)
        };
        shop.run(&fill(sql)).await;
        let rebuilt = rebuild(&shop, store).await;
        let hit = rebuilt.examples.iter().find(|row| row.table == *table && row.key == fill(key));
        assert_eq!(hit.map(|row| row.what.as_str()), Some(*what), "after {sql}: {rebuilt:#?}");
        assert!(rebuilt.examples.iter().all(|row| row.table == *table), "after {sql}: {rebuilt:#?}");
        assert_eq!(rebuilt.differences, rebuilt.examples.len() as u64);
        assert_eq!(shop.store.verify(Some(store)).await.expect("a verification"), [], "after {sql}");
        assert_eq!(rebuild(&shop, store).await.differences, 0, "after {sql}: mended");
    }
    let tables: BTreeSet<&str> = SPOILT.iter().map(|(table, ..)| *table).collect();
    assert_eq!(tables.len(), 14, "all read tables that somebody sees");
    assert_eq!(shop.value::<String>(since).await, noted, "what is all right is left alone");
}

#[tokio::test]
async fn what_a_store_has_of_its_own_stays_where_its_home_is_mended() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1").await;
    shop.project().await;
    shop.run(&format!(
        "INSERT INTO stores (store_id, name, settings, created_at, home_node)
         VALUES ('{0}', 'Bodega', '{{\"a\":1}}', to_timestamp(7), 'guessed');
         INSERT INTO devices (store_id, device_id) VALUES ('{0}', 'till')",
        shop.id
    ))
    .await;
    let row =
        "SELECT concat_ws(' ', home_node, name, settings, extract(epoch FROM created_at)::int) FROM stores";
    let rebuilt = rebuild(&shop, shop.id).await;
    let told: Vec<_> = rebuilt.examples.iter().map(|row| (row.table, row.what.as_str())).collect();
    assert_eq!(told, [("stores", "superfluous")], "no event has said so");
    assert_eq!(shop.value::<String>(row).await, "Bodega {\"a\":1} 7");
    shop.tell("n@5 declare - home_node=north name=Otra").await;
    shop.project().await;
    shop.run("UPDATE stores SET home_node = 'south'").await;
    assert_eq!(rebuild(&shop, shop.id).await.differences, 1);
    assert_eq!(shop.value::<String>(row).await, "north Bodega {\"a\":1} 7");
    assert_eq!(rebuild(&shop, shop.id).await.differences, 0);
}

#[tokio::test]
async fn what_nobody_sees_is_mended_too() {
    let shop = Shop::open().await;
    shop.bring(story::events(shop.id, DAY)).await;
    shop.project().await;
    let inner = "SELECT concat_ws(' ', (SELECT count(*) FROM links), (SELECT registers::text FROM products),
                     (SELECT registers::text FROM customers), (SELECT registers::text FROM cash_sessions))";
    let before: String = shop.value(inner).await;
    shop.run("DELETE FROM links WHERE kind IN (1, 14)").await;
    let empty = r#"{"devices":[],"stamps":[],"fields":{}}"#;
    for table in ["products", "customers", "cash_sessions"] {
        shop.run(&format!("UPDATE {table} SET registers = '{empty}'")).await;
    }
    assert_eq!(rebuild(&shop, shop.id).await.differences, 0);
    assert_eq!(shop.value::<String>(inner).await, before);
}

#[tokio::test]
async fn what_is_pending_is_left_to_the_projector_and_what_died_stays_failed() {
    let shop = Shop::open().await;
    shop.tell(
        "a@1 sale S1 usd=1 P1x1\nb@2 sale S2 usd=1\nc@3 sale S3 usd=1\nd@4 sale !none\ne@5 sale S5 usd=1",
    )
    .await;
    for id in ["b", "c"] {
        let died = shop.store.fail_projection(shop.id, id, 1, "it broke", MORTAL).await.expect("a failure");
        assert_eq!(died, Some(true));
    }
    shop.project().await;
    // Projected once, and died over a replay: its row is there and is no difference.
    let again = ["e".to_owned(), "d".to_owned()];
    assert_eq!(shop.store.requeue_projection(shop.id, &again).await.expect("a requeue"), 2);
    shop.store.fail_projection(shop.id, "e", 1, "it broke again", MORTAL).await.expect("a failure");
    shop.tell("p@6 sale S6 usd=1 P1x1\nq@0 sale S1 usd=2\nu@7 Unheard P1").await;
    let state =
        "SELECT string_agg(concat_ws(' ', s.event_id, projection_status, projection_error, o.status), '; '
                     ORDER BY s.event_id)
                 FROM event_status s LEFT JOIN outbox_entries o USING (store_id, event_id)";
    let expected = "a processed; b failed it broke dead; c failed it broke dead; d pending pending; \
                    e failed it broke again dead; p pending pending; q pending pending; u pending pending";
    for round in 0..2 {
        assert_eq!(shop.value::<String>(state).await, expected, "round {round}");
        let rebuilt = rebuild(&shop, shop.id).await;
        assert_eq!((rebuilt.events, rebuilt.examples), (3, vec![]), "a, d and e have been projected");
        assert_eq!(shop.store.verify(None).await.expect("a verification"), []);
    }
    let dead = ["b", "c", "e"].map(str::to_owned);
    assert_eq!(shop.store.requeue_projection(shop.id, &dead).await.expect("a requeue"), 3);
    assert_eq!(shop.project().await.done, 7);
    shop.check(
        "sale S1 by q\na absorbed by q\nsale S2 by b\nsale S3 by c\nd failed: sale_id is no UUID\nsale S5 by e
         sale S6 by p\nitem S6.1 P1 1\nmove P1 -1 sale by p\nstock P1 -1\nu skipped",
    )
    .await;
}

#[tokio::test]
async fn a_replay_is_no_difference_while_it_is_pending_also_where_entries_are_kept() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 fiao=C1 usd=1 P1x1\nb@2 ProductCreated P1 name=Tea").await;
    for entity in ["sale", "product"] {
        let claim = shop.store.claim_projection(entity, 9, true).await.expect("a claim").expect("an entry");
        claim.project().await.expect("a projection");
    }
    let ids = ["a".to_owned(), "b".to_owned()];
    assert_eq!(shop.store.requeue_projection(shop.id, &ids).await.expect("a requeue"), 2);
    assert_eq!(shop.store.verify(None).await.expect("a verification"), []);
    let rebuilt = rebuild(&shop, shop.id).await;
    assert_eq!((rebuilt.events, rebuilt.examples), (2, vec![]));
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM sales").await, 1);
}

/// Sends all in small pushes.
async fn send(store: &Store, told: &[Told], is_done: &Cell<bool>) {
    for group in told.chunks(7) {
        store.ingest(&[push(group)]).await.expect("an ingest");
    }
    is_done.set(true);
}

async fn work(store: &Store, is_done: &Cell<bool>) {
    loop {
        let last = is_done.get();
        let entities = store.entities_with_work().await.expect("names");
        if entities.is_empty() && last {
            return;
        }
        for entity in entities {
            let claim = store.claim_projection(&entity, 9, false).await.expect("a claim");
            if let Some(claim) = claim {
                claim.project().await.expect("a projection");
            }
        }
    }
}

#[tokio::test]
async fn tables_that_two_pods_write_to_are_rebuilt_again_and_again_without_a_difference() {
    let shop = Shop::open().await;
    let mut teller = crate::history::Teller::new(7);
    // One long day of one shop: the histories' names are told apart, their ids meet.
    let lines: Vec<String> = (0..40)
        .flat_map(|day| {
            let lines = teller.history(false).0;
            lines.into_iter().map(move |line| format!("h{day}-{line}"))
        })
        .collect();
    let told = story::events(shop.id, &lines.join("\n"));
    let (pod, is_done, rebuilt) = (shop.pod(), Cell::new(false), Cell::new(0));
    let rebuilding = async {
        while !is_done.get() || rebuilt.get() < 5 {
            let one = pod.rebuild(shop.id).await.expect("a rebuild");
            assert_eq!(one.examples, [], "while pods project");
            rebuilt.set(rebuilt.get() + 1);
        }
    };
    tokio::join!(
        send(&shop.store, &told, &is_done),
        work(&shop.store, &is_done),
        work(&pod, &is_done),
        rebuilding
    );
    println!("{} events, {} rebuilds", told.len(), rebuilt.get());
    let differences = shop.tables().await.differences(&fold(shop.id, &told));
    assert_eq!(differences, [""; 0], "by the model");
    let last = rebuild(&shop, shop.id).await;
    assert_eq!((last.events, last.examples), (told.len() as u64, vec![]));
    assert_eq!(shop.store.verify(None).await.expect("a verification"), []);
}

#[tokio::test]
async fn a_form_that_counts_from_a_commit_during_a_rebuild_is_not_lost() {
    let shop = Shop::open().await;
    shop.tell("o@5 open X1 opening_amount=5").await;
    shop.project().await;
    let mut ingest = PgConnection::connect_with(&shop.database.options()).await.expect("a connection");
    let mut form = ingest.begin().await.expect("a transaction");
    // As an ingest writes it: the time is that of before its commit.
    let sql = "INSERT INTO event_variants (store_id, event_id, form_hash, device_id, type, payload, payload_hash,
                   created_at, received_at, effective)
               SELECT store_id, event_id, 'x', device_id, type, payload, payload_hash, created_at - interval '1 ms', now(),
                   true FROM events";
    sqlx::query(sql).execute(&mut *form).await.expect(sql);
    // The rebuild has read all and waits for its turn; sessions have another lock.
    let sql = "SELECT pg_advisory_lock(x'56450001'::int4, x'0005701e'::int4)";
    let mut other = PgConnection::connect_with(&shop.database.options()).await.expect("a connection");
    sqlx::query(sql).execute(&mut other).await.expect(sql);
    let meanwhile = async {
        wait_until("the rebuild waits", async || waiting(&shop, "advisory").await == 1).await;
        form.commit().await.expect("a commit");
        shop.store.requeue_projection(shop.id, &["o".to_owned()]).await.expect("a requeue");
        assert_eq!(shop.project().await.done, 1);
        other.close().await.expect("a clean goodbye");
    };
    let (rebuilt, ()) = tokio::join!(rebuild(&shop, shop.id), meanwhile);
    assert_eq!(shop.row("cash_sessions", "X1").await["opened_at"], "1970-01-01T00:00:00.004+00:00");
    assert_eq!(rebuilt.examples, []);
}

#[tokio::test]
async fn an_event_that_fails_during_a_rebuild_stays_failed() {
    let shop = Shop::open().await;
    shop.tell("f@5 sale !none\nu@5 Unheard P1").await;
    let mut other = PgConnection::connect_with(&shop.database.options()).await.expect("a connection");
    let mut holding = other.begin().await.expect("a transaction");
    // The first table that is compared.
    let sql = "LOCK TABLE sales IN ACCESS EXCLUSIVE MODE";
    sqlx::query(sql).execute(&mut *holding).await.expect(sql);
    let is_projected = Cell::new(false);
    let meanwhile = async {
        wait_until("the rebuild compares", async || waiting(&shop, "relation").await == 1).await;
        let project = async {
            shop.project().await;
            is_projected.set(true);
        };
        // Before the rest is compared, if the rebuild let it.
        let release = async {
            let stands = async || is_projected.get() || waiting(&shop, "advisory").await == 1;
            wait_until("projected, or held up by the rebuild", stands).await;
            holding.rollback().await.expect("a rollback");
        };
        tokio::join!(project, release);
    };
    tokio::join!(rebuild(&shop, shop.id), meanwhile);
    assert_eq!((shop.status("f").await, shop.status("u").await), ("failed".to_owned(), "skipped".to_owned()));
}

#[tokio::test]
async fn another_form_is_no_finding_while_it_is_not_projected() {
    let shop = Shop::open().await;
    let bring = async |history: &str| {
        let push = push(&story::events(shop.id, history));
        shop.store.ingest(std::slice::from_ref(&push)).await.expect("an ingest");
    };
    bring("a@5 sale S1 usd=1 P1x1\nb@5 PriceChanged P1 price=1").await;
    shop.project().await;
    // c has two forms before it is projected at all.
    bring("a@4 sale S1 usd=1 P1x1\nb@4 PriceChanged P1 price=1\nc@5 sale S2 usd=1\nc@4 sale S2 usd=1").await;
    assert_eq!(shop.store.verify(None).await.expect("a verification"), []);
    // What differs all the same is found.
    shop.run("UPDATE sales SET total_usd = 3").await;
    let found = shop.store.verify(None).await.expect("a verification");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].id.starts_with("sale"), "{found:#?}");
    assert_eq!(shop.project().await.done, 3);
    assert_eq!(shop.store.verify(None).await.expect("a verification"), []);
}
