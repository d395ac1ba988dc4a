//! What a batch costs, and what a product becomes that fifty tills edit ten thousand times.

use crate::shop::Shop;
use crate::story;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span;

/// Texts of the statements that sqlx reports, whitespace made one blank.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Statements {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        // A short statement is reported as its own summary.
        let text = if text.statement.is_empty() { text.summary } else { text.statement };
        let words: Vec<&str> = text.split_whitespace().collect();
        self.0.lock().expect("a test's list").push(words.join(" "));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text {
    summary: String,
    statement: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// Projects what is due of one entity as one batch. Answers the statements.
async fn batch(shop: &Shop, entity: &str, entries: usize) -> Vec<String> {
    let statements = Statements::default();
    let listening = tracing::subscriber::set_default(statements.clone());
    let claim = shop.store.claim_projection(entity, 1_000, false).await.expect("a claim").expect("entries");
    assert_eq!(claim.project().await.expect("a projection").done, entries);
    drop(listening);
    let mut statements = std::mem::take(&mut *statements.0.lock().expect("a test's list"));
    // Of a connection that is opened, which depends on when the one before comes back.
    statements.retain(|text| !text.starts_with("SELECT set_config("));
    statements
}

/// How many statements of each beginning write to or read from a table.
fn about(statements: &[String], table: &str) -> (usize, usize) {
    let writes = |text: &String| {
        ["INSERT INTO", "UPDATE", "DELETE FROM"].iter().any(|verb| text.contains(&format!("{verb} {table} ")))
    };
    let reads =
        |text: &String| ["JOIN", "FROM"].iter().any(|verb| text.contains(&format!("{verb} {table} ")));
    let written = statements.iter().filter(|text| writes(text)).count();
    let read = statements.iter().filter(|text| reads(text) && !writes(text)).count();
    (read, written)
}

/// Edits of products by two tills that did not know each other.
fn edits(batch: usize, products: usize, each: usize) -> String {
    let line = |n: usize| {
        let (product, till) = (n % products, if n.is_multiple_of(2) { 'x' } else { 'y' });
        format!(
            "b{batch}-{n}@{n}/{till} ProductUpdated P{product} name=n{n} sku=s seq={}",
            batch * 1_000 + n + 1
        )
    };
    (0..products * each).map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_batch_reads_and_writes_each_table_once_whatever_its_size() {
    let shop = Shop::open().await;
    // The tables of the first batch are empty, so the ones after are counted.
    shop.tell(&edits(0, 30, 1)).await;
    shop.project().await;
    shop.tell(&edits(1, 3, 2)).await;
    let small = batch(&shop, "product", 6).await;
    shop.tell(&edits(2, 30, 10)).await;
    let large = batch(&shop, "product", 300).await;
    assert_eq!(small.len(), large.len(), "{small:#?}\n{large:#?}");
    assert_eq!(about(&large, "products"), (1, 1), "{large:#?}");
    assert_eq!(about(&large, "links").1, 1, "{large:#?}");
    assert!(large.len() < 16, "{large:#?}");

    let sales = |batch: usize, count: usize| -> String {
        let line =
            |n: usize| format!("s{batch}-{n}@{n} sale S{batch}-{n} fiao=C1 usd=2 req=r{batch}-{n} P1x1 P2x1");
        (0..count).map(line).collect::<Vec<_>>().join("\n")
    };
    shop.tell(&sales(0, 5)).await;
    shop.project().await;
    shop.tell(&sales(1, 3)).await;
    let small = batch(&shop, "sale", 3).await;
    shop.tell(&sales(2, 300)).await;
    let large = batch(&shop, "sale", 300).await;
    assert_eq!(small.len(), large.len(), "{small:#?}\n{large:#?}");
    for table in ["sales", "sale_items", "debts", "stock_movements", "warehouse_stock"] {
        // Of a sale that nobody met before nothing is read.
        assert_eq!(about(&large, table), (0, 1), "{table}: {large:#?}");
    }
    assert!(large.len() < 16, "{large:#?}");
    shop.check_by_model().await;
}

/// From whom a till hears what others have done.
#[derive(Clone, Copy, Debug)]
enum News {
    /// Their node, which knows all that was pushed.
    Node,
    /// Another till, of what that one knows.
    Till,
}

/// Edits of a product by fifty tills that hear of each other at random.
struct Fifty {
    rng: StdRng,
    news: News,
    clocks: Vec<BTreeMap<usize, i64>>,
    node: BTreeMap<usize, i64>,
}

impl Fifty {
    fn edit(&mut self, n: usize, fields: &[&str]) -> String {
        let till = self.rng.random_range(0..self.clocks.len());
        if self.rng.random_bool(0.3) {
            let from = match self.news {
                News::Node => self.node.clone(),
                News::Till => self.clocks[self.rng.random_range(0..self.clocks.len())].clone(),
            };
            merge(&mut self.clocks[till], &from);
        }
        *self.clocks[till].entry(till).or_default() += 1;
        let clock = self.clocks[till].clone();
        merge(&mut self.node, &clock);
        let entries: Vec<String> = clock.iter().map(|(of, count)| format!("till-{of:02}:{count}")).collect();
        let field = fields[self.rng.random_range(0..fields.len())];
        let (at, seq) = (n / 10, clock[&till]);
        format!(
            "e{n:05}@{at}/till-{till:02} ProductUpdated P1 {field}{n} seq={seq} clock={}",
            entries.join(",")
        )
    }
}

fn merge(mine: &mut BTreeMap<usize, i64>, news: &BTreeMap<usize, i64>) {
    for (device, count) in news {
        let known = mine.entry(*device).or_default();
        *known = (*known).max(*count);
    }
}

#[tokio::test]
async fn a_product_that_fifty_tills_edit_ten_thousand_times_stays_a_small_row() {
    let all: &[&str] = &["name=n", "price_usd=", "category=c", "shelf="];
    // Through their node is how tills hear of each other. From till to till is the worst there is: many versions
    // that do not know each other, each with an entry for all.
    for (news, fields, limit) in [(News::Node, all, 8_192), (News::Till, &all[1..2], 12_288)] {
        let shop = Shop::open().await;
        let clocks = vec![BTreeMap::new(); 50];
        let mut tills = Fifty { rng: StdRng::seed_from_u64(50), news, clocks, node: BTreeMap::new() };
        let mut largest = (0, 0);
        for round in 0..20 {
            let lines: Vec<String> =
                (round * 500..(round + 1) * 500).map(|n| tills.edit(n, fields)).collect();
            shop.bring(story::events(shop.id, &lines.join("\n"))).await;
            assert_eq!(shop.project().await.done, 500);
            let size = "SELECT jsonb_build_array(pg_column_size(registers), octet_length(registers::text)) FROM products";
            let size: serde_json::Value = shop.value(size).await;
            let (stored, text) = (size[0].as_i64().expect("bytes"), size[1].as_i64().expect("bytes"));
            largest = largest.max((stored, text));
        }
        println!(
            "{news:?}, {} fields: {} bytes stored, {} as text at most",
            fields.len(),
            largest.0,
            largest.1
        );
        assert!(largest.0 < limit, "{news:?}: {} bytes stored, {} as text", largest.0, largest.1);
        shop.check_by_model().await;
    }
}
