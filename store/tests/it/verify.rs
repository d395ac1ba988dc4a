//! `Store::verify` finds what must not be, and nothing where all is well.

use crate::shop::Shop;
use crate::story;
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_store::Finding;

/// All that it looks at, in a sound state.
pub(crate) const DAY: &str = "a@1 sale S1 fiao=C1 usd=10 P1x2
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
                   f@8 sale !none
                   g@1/x ProductCreated P1 name=Tea price_usd=1 seq=1
                   h@2/y PriceChanged P1 price_usd=2 seq=1
                   c@3 CustomerCreated C1 name=Ana
                   n@5 declare - home_node=north
                   m@6 declare - home_node=south at=W1
                   s@5 series F1 prefix=A next_number=7
                   t@6 series F1 prefix=B next_number=1
                   o@1 open X1
                   y@9 close X1";

const DOUBLED_SALE: &str = "INV-2 an event makes more than one sale";
const DOUBLED_DEBT: &str = "INV-2 a sale has more than one debt";
const STOCK: &str = "INV-3 stock differs from the sum of its movements";
const MOVEMENTS: &str = "INV-3 a sale's movements differ from its lines";
const STATUS: &str = "INV-3 a debt's status contradicts its remaining amount";
const MISSING: &str = "INV-4 a processed event has no row";
const ORPHAN: &str = "INV-4 a queued entry has no event";
const LINES: &str = "INV-3 a sale's lines have gaps or no sale";
const MODEL: &str = "INV-3 a row is not what the events make";

/// What is spoiled in a store of its own, what is then said of which id, and the row that is not what the model makes.
const SPOILT: &[(&str, &str, &str, &str)] = &[
    ("UPDATE sales SET event_id = 'a' WHERE {store}", DOUBLED_SALE, "a", "sale {S2}"),
    ("UPDATE debts SET sale_id = '{S1}' WHERE {store}", DOUBLED_DEBT, "S1", "debt {D1}"),
    ("UPDATE warehouse_stock SET stock = stock + 0.001 WHERE {store} AND product_id = '{P1}'", STOCK, "P1", "stock of {P1}"),
    ("DELETE FROM warehouse_stock WHERE {store} AND product_id = '{P2}'", STOCK, "P2", "stock of {P2}"),
    (
        "INSERT INTO warehouse_stock SELECT store_id, '{P3}', variant_id, warehouse_id, 0 FROM warehouse_stock
         WHERE {store} AND product_id = '{P1}'",
        STOCK,
        "P3",
        "stock of {P3}",
    ),
    ("DELETE FROM stock_movements WHERE {store} AND sale_id = '{S1}'", MOVEMENTS, "S1", "movement {P1}"),
    (
        "DELETE FROM stock_movements WHERE {store} AND kind = 'void' AND product_id = '{P2}'",
        MOVEMENTS,
        "S2",
        "movement {P2}",
    ),
    ("UPDATE sale_items SET qty = qty + 1 WHERE {store} AND sale_id = '{S1}'", MOVEMENTS, "S1", "sale {S1}"),
    ("UPDATE debts SET status = 'paid' WHERE {store} AND id = '{D1}'", STATUS, "D1", "debt {D1}"),
    ("UPDATE debts SET remaining_amount = 0 WHERE {store} AND id = '{D1}'", STATUS, "D1", "debt {D1}"),
    ("UPDATE debts SET status = 'pending' WHERE {store} AND id = '{D1}'", STATUS, "D1", "debt {D1}"),
    ("UPDATE sales SET voided_at = now() WHERE {store} AND id = '{S1}'", STATUS, "debt(S1)", "sale {S1}"),
    ("DELETE FROM sales WHERE {store} AND id = '{S1}'", MISSING, "a", "sale {S1}"),
    ("UPDATE sales SET void_event_id = 'x' WHERE {store} AND id = '{S2}'", MISSING, "v", "sale {S2}"),
    ("DELETE FROM debts WHERE {store} AND id = '{D1}'", MISSING, "d", "debt {D1}"),
    ("DELETE FROM debt_payments WHERE {store} AND id = '{M1}'", MISSING, "p", "payment {M1}"),
    ("DELETE FROM cash_ledger_entries WHERE {store}", MISSING, "l", "ledger entry {L1}"),
    ("DELETE FROM stock_movements WHERE {store} AND event_id = 'r'", MISSING, "r", "movement {K1}"),
    ("DELETE FROM stock_movements WHERE {store} AND event_id = 'k'", MISSING, "k", "movement {K2}"),
    ("DELETE FROM stock_movements WHERE {store} AND event_id = 'e'", MISSING, "e", "movement {P2}"),
    ("DELETE FROM event_exceptions WHERE {store} AND event_id = 'w'", MISSING, "w", "event w"),
    (
        "INSERT INTO outbox_entries (store_id, event_id, event_type, priority, created_at)
         SELECT store_id, 'x', 'T', 1, now() FROM sales WHERE {store} AND event_id = 'a'",
        ORPHAN,
        "x",
        "",
    ),
    ("UPDATE sale_items SET line_no = 9 WHERE {store} AND sale_id = '{S2}' AND line_no = 2", LINES, "S2", ""),
    ("DELETE FROM sales WHERE {store} AND id = '{S2}'", LINES, "S2", "sale {S2}"),
    // What no other invariant sees.
    ("UPDATE sales SET total_usd = 11 WHERE {store} AND id = '{S1}'", MODEL, "", "sale {S1}"),
    ("UPDATE sale_items SET name = 'x' WHERE {store} AND sale_id = '{S1}'", MODEL, "", "sale {S1}"),
    ("UPDATE debts SET overpaid_amount = 1 WHERE {store} AND id = '{D1}'", MODEL, "", "debt {D1}"),
    ("UPDATE debt_payments SET debt_id = '{D1}' WHERE {store} AND id = '{M2}'", MODEL, "", "payment {M2}"),
    ("UPDATE cash_ledger_entries SET amount = 1 WHERE {store}", MODEL, "", "ledger entry {L1}"),
    ("UPDATE stock_movements SET created_at = now() WHERE {store} AND event_id = 'r'", MODEL, "", "movement {K1}"),
    ("UPDATE products SET name = 'Tee' WHERE {store}", MODEL, "", "product {P1}"),
    ("UPDATE products SET attributes = '{\"colour\":\"red\"}' WHERE {store}", MODEL, "", "product {P1}"),
    ("DELETE FROM products WHERE {store}", MODEL, "", "product {P1}"),
    ("UPDATE customers SET updated_at = now() WHERE {store}", MODEL, "", "customer {C1}"),
    ("DELETE FROM customers WHERE {store}", MODEL, "", "customer {C1}"),
    ("UPDATE cash_sessions SET closed_at = NULL WHERE {store}", MODEL, "", "session {X1}"),
    ("DELETE FROM cash_sessions WHERE {store}", MODEL, "", "session {X1}"),
    ("DELETE FROM open_conflicts WHERE {store}", MODEL, "", "conflict {P1}"),
    ("UPDATE open_conflicts SET winner_event_id = 'g' WHERE {store}", MODEL, "", "conflict "),
    ("UPDATE open_conflicts SET versions = '[]' WHERE {store}", MODEL, "", "conflict "),
    ("DELETE FROM stores WHERE {store}", MISSING, "n", "store "),
    ("UPDATE stores SET declared_by = 'm' WHERE {store}", MISSING, "n", "store "),
    ("UPDATE stores SET home_node = 'south' WHERE {store}", MODEL, "", "store "),
    ("UPDATE stores SET default_warehouse_id = store_id WHERE {store}", MODEL, "", "store "),
    ("DELETE FROM fiscal_series WHERE {store}", MISSING, "s", "series {F1}"),
    ("UPDATE fiscal_series SET next_number = 8 WHERE {store}", MODEL, "", "series {F1}"),
    ("UPDATE fiscal_series SET owner_node = 'south' WHERE {store}", MODEL, "", "series {F1}"),
    ("UPDATE event_exceptions SET reason = 'd' WHERE {store} AND event_id = 'w'", MODEL, "", "event w"),
    ("DELETE FROM event_exceptions WHERE {store} AND event_id = 'q'", MODEL, "", "event q"),
    ("DELETE FROM event_exceptions WHERE {store} AND event_id = 'u'", MODEL, "", "event u"),
    ("UPDATE event_exceptions SET reason = 'x' WHERE {store} AND event_id = 'f'", MODEL, "", "event f"),
];

async fn findings(shop: &Shop, store: Option<Uuid>) -> Vec<Finding> {
    shop.store.verify(store).await.expect("a verification")
}

fn said(finding: &Finding) -> String {
    format!("{} {}", finding.invariant, finding.what)
}

/// With the ids that the names in braces stand for.
pub(crate) fn named(text: &str, store: Uuid) -> String {
    ["S1", "S2", "P1", "P2", "P3", "D1", "M1", "M2", "L1", "K1", "K2", "C1", "X1", "F1"]
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(&format!("{{{name}}}"), &id(store, name)))
}

fn id(store: Uuid, name: &str) -> String {
    story::id(store, name).to_string()
}

#[tokio::test]
async fn every_kind_of_spoiled_row_is_found_in_its_store_alone() {
    let shop = Shop::open().await;
    let store_of = |n: usize| Uuid::from_u128(1 + n as u128);
    for n in 0..=SPOILT.len() {
        shop.bring(story::events(store_of(n), DAY)).await;
    }
    shop.project().await;
    assert_eq!(findings(&shop, None).await, [], "a sound database");
    for (n, (sql, ..)) in SPOILT.iter().enumerate() {
        let store = store_of(n);
        shop.run(&named(&sql.replace("{store}", &format!("store_id = '{store}'")), store)).await;
    }
    let all = findings(&shop, None).await;
    for (n, (sql, what, name, row)) in SPOILT.iter().enumerate() {
        let store = store_of(n);
        let found = findings(&shop, Some(store)).await;
        assert!(found.iter().all(|finding| finding.store_id == store), "{found:#?}");
        let hit = found.iter().any(|finding| {
            said(finding) == *what
                && (*what == MODEL || [*name, &id(store, name)].contains(&finding.id.as_str()))
        });
        assert!(hit, "after {sql}: {what} of {name} is not among {found:#?}");
        let (kind, names) = row.split_at(row.find('{').unwrap_or(0));
        let by_model: Vec<&Finding> = found.iter().filter(|finding| said(finding) == MODEL).collect();
        let hit = by_model.iter().any(|finding| {
            let text = format!("{} {}", finding.id, finding.detail);
            finding.id.starts_with(kind) && !finding.detail.is_empty() && text.contains(&named(names, store))
        });
        assert_eq!(hit, !row.is_empty(), "after {sql}: {row} is or is not among {by_model:#?}");
        // The whole database has it too, but for what is beyond the most examples.
        assert!(found.iter().any(|one| all.contains(one)), "{found:#?}");
    }
    assert_eq!(findings(&shop, Some(store_of(SPOILT.len()))).await, [], "the store that nobody touched");
}

#[tokio::test]
async fn at_most_twenty_examples_of_a_kind_are_shown() {
    let shop = Shop::open().await;
    let history: Vec<String> = (0..30).map(|n| format!("e{n}@1 sale S{n} usd=1")).collect();
    shop.tell(&history.join("\n")).await;
    shop.project().await;
    shop.run("DELETE FROM sales").await;
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    findings(&shop, None).await.iter().for_each(|finding| *shown.entry(said(finding)).or_default() += 1);
    assert_eq!(shown, [(MISSING.to_owned(), 20), (MODEL.to_owned(), 20)].into());
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
    assert_eq!(findings(&shop, None).await, []);
}
