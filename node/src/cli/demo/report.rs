//! What the demo prints: tables for a person, the same as JSON for a machine.

use super::compare::{Compared, identical};
use super::figures::{Difference, Tally};
use super::goods::SHOP;
use super::heal::Healed;
use super::nodes::NODES;
use super::pushed::Pushed;
use super::reading::{Reading, Session, Stock};
use crate::cli::output;
use chrono::{DateTime, Utc};
use comfy_table::{CellAlignment, Table};
use rust_decimal::Decimal;
use serde::Serialize;
use std::time::Duration;
use uuid::Uuid;

/// How many of the best sold products are shown.
const SELLERS: usize = 5;
/// How many products that are neither oversold nor low are shown.
const PLENTY: usize = 3;

/// How many differences are shown one by one.
const DIFFERENCES: usize = 20;

/// The result of a demo.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) store_id: Uuid,
    pub(super) pushed: Pushed,
    pub(super) shop: Reading,
    /// Where tills and nodes disagree.
    pub(super) differences: Vec<Difference>,
    /// How many figures were compared, on both nodes together.
    pub(super) compared: usize,
    pub(super) both: Both,
}

/// Both nodes' tables side by side.
#[derive(Debug, Serialize)]
pub(super) struct Both {
    nodes: [&'static str; 2],
    tables: Vec<Compared>,
    identical: bool,
    /// From the heal until they were; none: not in time.
    identical_after_ms: Option<u64>,
    /// How long that could take, seconds.
    limit_s: u64,
    /// Conflicts that a person has decided.
    decided: usize,
}

impl Both {
    /// From a last and thorough look at the tables.
    pub(super) fn new(tables: Vec<Compared>, healed: &Healed, limit: Duration) -> Self {
        let took = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Both {
            nodes: NODES,
            identical: identical(&tables),
            tables,
            identical_after_ms: healed.took.map(took),
            limit_s: limit.as_secs(),
            decided: healed.decided,
        }
    }
}

impl Report {
    /// Whether everything agrees with everything.
    pub(super) fn is_fine(&self) -> bool {
        self.differences.is_empty() && self.both.identical
    }

    pub(super) fn print(&self) {
        println!("\n{SHOP}: two nodes, three tills, one day (seed {})\n", self.seed);
        self.print_pushed();
        self.print_sales();
        self.print_products();
        self.print_owing();
        self.print_sessions();
        self.print_both();
        self.print_verdict();
    }

    fn print_both(&self) {
        let both = &self.both;
        let [shop, cloud] = both.nodes;
        let alone = [format!("only {shop}"), format!("only {cloud}")];
        let mut table =
            output::table(&["table", shop, cloud, &alone[0], &alone[1], "other content", "identical"]);
        for one in &both.tables {
            let counts = [one.rows[0], one.rows[1], one.alone[0], one.alone[1], one.other];
            table.add_row(
                [one.table.to_owned()]
                    .into_iter()
                    .chain(counts.map(|count| count.to_string()))
                    .chain([yes(one)]),
            );
        }
        titled("Rows of both nodes, each with all its columns, items and payments", table, 1);
        let rows: usize = both.tables.iter().map(|one| one.rows[0]).sum();
        match both.identical_after_ms {
            Some(ms) if both.identical => println!(
                "identical: yes. {rows} rows are the same on both nodes, {:.1} s after the heal; {} price was decided by a person.\n",
                ms as f64 / 1000.0,
                both.decided
            ),
            Some(_) => println!("identical: NO. They were, but are not any more.\n"),
            None if both.identical => {
                println!("identical: yes, but not within {} s of the heal.\n", both.limit_s)
            }
            None => println!("identical: NO, not even {} s after the heal.\n", both.limit_s),
        }
    }

    fn print_pushed(&self) {
        let mut table = output::table(&["till", "pushes", "events", "accepted", "duplicates", "rejected"]);
        for till in self.pushed.tills.iter().chain([&self.pushed.total()]) {
            let counts = [till.pushes, till.events, till.accepted, till.duplicates, till.rejected];
            table.add_row(
                [output::plain(&till.till)].into_iter().chain(counts.map(|count| count.to_string())),
            );
        }
        titled("What the tills pushed", table, 1);
        let speed = &self.pushed.speed;
        let build = if cfg!(debug_assertions) { " (debug build)" } else { "" };
        println!(
            "Acknowledged in {} ms (median; 95 %: {} ms), {} events a second{build};\n\
             everything in the read tables {} ms after the last answer.\n",
            speed.ack_p50_ms, speed.ack_p95_ms, speed.events_per_second, speed.projected_after_ms
        );
        let mut table = output::table(&["events", "told", "because"]);
        for (what, codes) in [("rejected", &self.pushed.rejected), ("warning", &self.pushed.warnings)] {
            for (code, count) in codes {
                table.add_row([
                    count.to_string(),
                    format!("{what} {}", output::plain(code)),
                    reason(code).to_owned(),
                ]);
            }
        }
        titled("What the node had to say about them", right(table, 0..1), 3);
    }

    fn print_sales(&self) {
        let figures = &self.shop.figures;
        let mut table = output::table(&["paid by", "sales", "Bs", "$"]);
        let mut row = |name: &str, tally: &Tally| {
            table.add_row([output::plain(name), tally.count.to_string(), money(tally.bs), money(tally.usd)]);
        };
        let mut methods: Vec<(&String, &Tally)> = figures.sales.iter().collect();
        methods.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.usd));
        for (method, tally) in methods {
            row(method_name(method), tally);
        }
        row("all sales", &Tally::total(figures.sales.values()));
        row("voided (not counted above)", &figures.voided);
        titled("Sales", table, 1);
        let entry = |(kind, tally): (&String, &Tally)| {
            format!("{} × {} ({} Bs)", tally.count, output::plain(kind), money(tally.bs))
        };
        println!(
            "Cash ledger of the tills online: {}
",
            figures.ledger.iter().map(entry).collect::<Vec<_>>().join("; ")
        );
    }

    fn print_products(&self) {
        let mut table = output::table(&["product", "sales", "quantity"]);
        for seller in self.shop.sellers.iter().take(SELLERS) {
            table.add_row([
                output::plain(&seller.product),
                seller.sales.to_string(),
                quantity(seller.quantity),
            ]);
        }
        titled("Best sellers", table, 1);
        let mut table = output::table(&["product", "stock", ""]);
        let mut plenty = 0;
        for stock in &self.shop.stock {
            let remark = remark(stock);
            plenty += usize::from(remark.is_empty());
            if plenty <= PLENTY || !remark.is_empty() {
                table.add_row([output::plain(&stock.product), quantity(stock.stock), remark.to_owned()]);
            }
        }
        titled(
            &format!("Stock, the least of {} products first", self.shop.stock.len()),
            right(table, 1..2),
            3,
        );
    }

    fn print_owing(&self) {
        let mut table = output::table(&["customer", "debts", "total", "paid", "remaining", ""]);
        for owing in &self.shop.owing {
            let amounts = [owing.total, owing.paid, owing.remaining].map(money);
            let currency = if owing.currency == "USD" { "$" } else { "Bs" };
            table.add_row(
                [output::plain(&owing.customer), owing.debts.to_string()]
                    .into_iter()
                    .chain(amounts)
                    .chain([currency.to_owned()]),
            );
        }
        titled("Fiaos (open debts)", right(table, 1..5), 6);
    }

    fn print_sessions(&self) {
        let headings = [
            "till",
            "opened",
            "closed",
            "expected Bs",
            "counted Bs",
            "off by",
            "expected $",
            "counted $",
            "off by",
        ];
        let mut table = output::table(&headings);
        for session in &self.shop.sessions {
            let times = [output::plain(&session.till), clock(session.opened_at), clock(session.closed_at)];
            let [bs, usd] = ["cash_bs", "cash_usd"].map(|kind| counted_cash(session, kind));
            table.add_row(times.into_iter().chain(bs).chain(usd));
        }
        titled("Cash sessions (times in UTC)", table, 1);
    }

    fn print_verdict(&self) {
        if self.differences.is_empty() {
            println!("All {} figures of both nodes agree with what the tills sold.", self.compared);
            return;
        }
        let mut table = output::table(&["figure", "tills", "node"]);
        for difference in self.differences.iter().take(DIFFERENCES) {
            let side = |value: &Option<String>| value.as_deref().map_or("-".to_owned(), output::plain);
            table.add_row([
                output::plain(&difference.figure),
                side(&difference.tills),
                side(&difference.node),
            ]);
        }
        titled("Figures that do NOT agree with what the tills sold", table, 1);
        if let Some(more @ 1..) = self.differences.len().checked_sub(DIFFERENCES) {
            println!("and {more} more");
        }
    }
}

/// Prints a table under its title, columns from `numbers` on to the right.
fn titled(title: &str, mut table: Table, numbers: usize) {
    let columns = table.column_count();
    println!("{title}\n{}\n", right(table, numbers..columns));
}

fn right(mut table: Table, columns: std::ops::Range<usize>) -> Table {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Expected, counted and the difference, of one kind of money.
fn counted_cash(session: &Session, kind: &str) -> [String; 3] {
    let (expected, counted) = (session.expected.get(kind), session.counted.get(kind));
    let difference = match (expected, counted) {
        (Some(expected), Some(counted)) if expected == counted => "0".to_owned(),
        (Some(expected), Some(counted)) => money(*counted - *expected),
        _ => String::new(),
    };
    let shown = |amount: Option<&Decimal>| amount.copied().map(money).unwrap_or_default();
    [shown(expected), shown(counted), difference]
}

fn remark(stock: &Stock) -> &'static str {
    if !stock.tracked {
        "made to order, not counted"
    } else if stock.stock < Decimal::ZERO {
        "OVERSOLD"
    } else if stock.threshold.is_some_and(|threshold| stock.stock <= threshold) {
        "low"
    } else {
        ""
    }
}

fn method_name(method: &str) -> &str {
    match method {
        "CASH_BS" => "cash, Bs",
        "CASH_USD" => "cash, $",
        "PAGO_MOVIL" => "pago móvil",
        "TRANSFER" => "transfer",
        "POINT_OF_SALE" => "card",
        "SPLIT" => "split ($ and pago móvil)",
        "FIAO" => "fiao (on credit)",
        other => other,
    }
}

/// What the demo did to be told so.
fn reason(code: &str) -> &'static str {
    match code {
        "INTEGRITY_ERROR" => "a sale was changed after its hash was made: refused",
        "ABSORBED" => "a till lost the answer and made its sale anew: counted once",
        "HASH_UNUSABLE" => "a till could not hash a payment: taken unchecked",
        "MALFORMED_PAYLOAD" => "a total of \"doce con cincuenta\": stored, failed until it is mended",
        "UNKNOWN_TYPE" => "a type of a version to come: stored for it",
        _ => "",
    }
}

fn yes(table: &Compared) -> String {
    if table.identical { "yes".to_owned() } else { "NO".to_owned() }
}

fn clock(at: Option<DateTime<Utc>>) -> String {
    at.map_or("still open".to_owned(), |at| at.format("%H:%M").to_string())
}

fn quantity(value: Decimal) -> String {
    value.normalize().to_string()
}

/// Two digits after the point, thousands apart.
fn money(value: Decimal) -> String {
    let text = format!("{:.2}", value.abs());
    let (whole, cents) = text.split_once('.').unwrap_or((&text, "00"));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value.is_sign_negative() && !value.is_zero() { "-" } else { "" };
    format!("{sign}{grouped}.{cents}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let shown = |text: &str| money(text.parse().expect("a decimal"));
        assert_eq!(shown("0"), "0.00");
        assert_eq!(shown("-2.5"), "-2.50");
        assert_eq!(shown("999.99"), "999.99");
        assert_eq!(shown("1000"), "1,000.00");
        assert_eq!(shown("-1234567.8"), "-1,234,567.80");
    }
}
