//! `Store::verify` finds what must not be, and nothing where all is well.

use crate::shop::Shop;
use crate::story;
use std::collections::BTreeSet;
use uuid::Uuid;

/// All that it looks at, in a sound state.
const DAY: &str = "a@1 sale S1 fiao=C1 usd=10 P1x2
                   b@2 sale S2 usd=10 P1x1 P2x3
                   v@3 void S2
                   w@3 void S2
                   d@4 debt D1 usd=5
                   p@5 pay M1 D1 usd=1
                   q@5 pay M2 D9 usd=1
                   l@6 entry L1 sale sale=S1
                   r@7 receive K1 P1x5
                   k@7 adjust K2 P1x-1
                   e@7 delta - P2x1
                   u@8 Unheard P1
                   f@8 sale !none";

const DOUBLED_SALE: &str = "INV-2 an event makes more than one sale";
const DOUBLED_DEBT: &str = "INV-2 a sale has more than one debt";
const STOCK: &str = "INV-3 stock differs from the sum of its movements";
const MOVEMENTS: &str = "INV-3 a sale's movements differ from its lines";
const STATUS: &str = "INV-3 a debt's status contradicts its remaining amount";
const MISSING: &str = "INV-4 a processed event has no row";
const ORPHAN: &str = "INV-4 a queued entry has no event";

/// What is spoiled in a store of its own, and what is then said of which id.
const SPOILT: &[(&str, &str, &str)] = &[
    ("UPDATE sales SET event_id = 'a' WHERE {store}", DOUBLED_SALE, "a"),
    ("UPDATE debts SET sale_id = '{S1}' WHERE {store}", DOUBLED_DEBT, "S1"),
    ("UPDATE warehouse_stock SET stock = stock + 0.001 WHERE {store} AND product_id = '{P1}'", STOCK, "P1"),
    ("DELETE FROM warehouse_stock WHERE {store} AND product_id = '{P2}'", STOCK, "P2"),
    (
        "INSERT INTO warehouse_stock SELECT store_id, '{P3}', variant_id, warehouse_id, 0 FROM warehouse_stock
         WHERE {store} AND product_id = '{P1}'",
        STOCK,
        "P3",
    ),
    ("DELETE FROM stock_movements WHERE {store} AND sale_id = '{S1}'", MOVEMENTS, "S1"),
    ("DELETE FROM stock_movements WHERE {store} AND kind = 'void' AND product_id = '{P2}'", MOVEMENTS, "S2"),
    ("UPDATE sale_items SET qty = qty + 1 WHERE {store} AND sale_id = '{S1}'", MOVEMENTS, "S1"),
    ("UPDATE debts SET status = 'paid' WHERE {store} AND id = '{D1}'", STATUS, "D1"),
    ("UPDATE debts SET remaining_amount = 0 WHERE {store} AND id = '{D1}'", STATUS, "D1"),
    ("UPDATE debts SET status = 'pending' WHERE {store} AND id = '{D1}'", STATUS, "D1"),
    ("UPDATE sales SET voided_at = now() WHERE {store} AND id = '{S1}'", STATUS, "debt(S1)"),
    ("DELETE FROM sales WHERE {store} AND id = '{S1}'", MISSING, "a"),
    ("UPDATE sales SET void_event_id = 'x' WHERE {store} AND id = '{S2}'", MISSING, "v"),
    ("DELETE FROM debts WHERE {store} AND id = '{D1}'", MISSING, "d"),
    ("DELETE FROM debt_payments WHERE {store} AND id = '{M1}'", MISSING, "p"),
    ("DELETE FROM cash_ledger_entries WHERE {store}", MISSING, "l"),
    ("DELETE FROM stock_movements WHERE {store} AND event_id = 'r'", MISSING, "r"),
    ("DELETE FROM stock_movements WHERE {store} AND event_id = 'k'", MISSING, "k"),
    ("DELETE FROM stock_movements WHERE {store} AND event_id = 'e'", MISSING, "e"),
    ("DELETE FROM event_exceptions WHERE {store} AND event_id = 'w'", MISSING, "w"),
    (
        "INSERT INTO outbox_entries (store_id, event_id, event_type, priority, created_at)
         SELECT store_id, 'x', 'T', 1, now() FROM sales WHERE {store} AND event_id = 'a'",
        ORPHAN,
        "x",
    ),
];

async fn findings(shop: &Shop, store: Option<Uuid>) -> BTreeSet<(Uuid, String, String)> {
    let found = shop.store.verify(store).await.expect("a verification");
    found.into_iter().map(|f| (f.store_id, format!("{} {}", f.invariant, f.what), f.id)).collect()
}

/// The statement for one store.
fn spoil(sql: &str, store: Uuid) -> String {
    let sql = sql.replace("{store}", &format!("store_id = '{store}'"));
    ["S1", "S2", "P1", "P2", "P3", "D1", "M1"]
        .iter()
        .fold(sql, |sql, name| sql.replace(&format!("{{{name}}}"), &story::id(store, name).to_string()))
}

#[tokio::test]
async fn every_kind_of_spoiled_row_is_found_in_its_store_alone() {
    let shop = Shop::open().await;
    let store_of = |n: usize| Uuid::from_u128(1 + n as u128);
    for n in 0..=SPOILT.len() {
        shop.bring(story::events(store_of(n), DAY)).await;
    }
    shop.project().await;
    assert_eq!(findings(&shop, None).await, BTreeSet::new(), "a sound database");
    for (n, (sql, ..)) in SPOILT.iter().enumerate() {
        shop.run(&spoil(sql, store_of(n))).await;
    }
    let all = findings(&shop, None).await;
    for (n, (sql, what, name)) in SPOILT.iter().enumerate() {
        let store = store_of(n);
        let found = findings(&shop, Some(store)).await;
        assert!(found.iter().all(|(of, ..)| *of == store), "{found:#?}");
        let named = [(*name).to_owned(), story::id(store, name).to_string()];
        let hit = found.iter().any(|(_, said, id)| said == what && named.contains(id));
        assert!(hit, "after {sql}: {what} of {name} is not among {found:#?}");
        // The whole database has it too, but for what is beyond the most examples.
        assert!(found.iter().any(|one| all.contains(one)), "{found:#?}");
    }
    assert_eq!(
        findings(&shop, Some(store_of(SPOILT.len()))).await,
        BTreeSet::new(),
        "the store that nobody touched"
    );
}

#[tokio::test]
async fn at_most_twenty_examples_of_a_kind_are_shown() {
    let shop = Shop::open().await;
    let history: Vec<String> = (0..30).map(|n| format!("e{n}@1 sale S{n} usd=1")).collect();
    shop.tell(&history.join("\n")).await;
    shop.project().await;
    shop.run("DELETE FROM sales").await;
    assert_eq!(findings(&shop, None).await.len(), 20);
}

#[tokio::test]
async fn sound_oddities_are_no_findings() {
    let shop = Shop::open().await;
    // Twenty-five lines of one product, each of them rounded by itself.
    let lines = "P1x1.0005 ".repeat(25);
    shop.tell(&format!(
        "a@1 sale S1 usd=1 {}
         b@1 debt D1 usd=5
         c@2 pay M1 D1 amount=3 usd=0
         d@3 debt D2 usd=5
         e@4 pay M2 D2 usd=2
         f@4 pay M3 D2 usd=-2
         g@5 debt D3 usd=0
         h@6 sale S2 usd=0
         i@7 debt D4 usd=0.011
         j@8 receive K1 P3x0",
        lines.trim()
    ))
    .await;
    // And one that is still on its way.
    let text = r#"{"event_id":"k","type":"StockReceived","payload":{"items":[]}}"#;
    shop.bring(vec![story::Told::read(shop.id, "till", text)]).await;
    shop.project().await;
    shop.tell("l@9 sale S9 usd=1").await;
    assert_eq!(findings(&shop, None).await, BTreeSet::new());
}
