//! INV-2 once: an event has one effect, however often and by whatever way it came.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use super::model::{Model, scaled};
use super::{Verdict, add_findings};
use crate::history::{self, Entry, Sent};
use crate::observed::Observed;

/// Compares each node's lists with a model of the events that were accepted.
pub fn check(history: &[Entry], nodes: &[Observed]) -> Verdict {
    let mut verdict = Verdict::of("INV-2 once");
    add_findings(&mut verdict, "INV-2", nodes);
    let accepted = history::accepted(history);
    for node in nodes {
        repeated_events(&mut verdict, node);
        // What a till was not told may be there all the same.
        let log: BTreeSet<&str> = node.log.iter().map(String::as_str).collect();
        let known =
            |sent: &&Sent| accepted.contains(sent.event_id.as_str()) || log.contains(sent.event_id.as_str());
        let model = Model::of(store_of(node), history::written(history).filter(known));
        let mut rows = Rows { verdict: &mut verdict, node };
        rows.each_once("sales", &model.sales);
        rows.each_once("cash-sessions", &model.sessions);
        rows.each_once("cash-ledger", &model.ledger);
        rows.each_once("products", &model.products);
        rows.each_once("debts", &model.debts.keys().cloned().collect());
        rows.figures("stock", "product_id", "stock", 3, &model.stock);
        rows.figures("debts", "id", "remaining_amount", 2, &model.debts);
        rows.count("stock-movements", model.movements);
    }
    verdict
}

/// No event is given twice by a pull that goes on by its cursor.
fn repeated_events(verdict: &mut Verdict, node: &Observed) {
    let mut seen = BTreeSet::new();
    for event_id in &node.log {
        verdict.looked_at(1);
        if !seen.insert(event_id) {
            verdict.violate(|| format!("{}: event {event_id} is in the log twice", node.node));
        }
    }
}

fn store_of(node: &Observed) -> Uuid {
    let row = node.lists.values().flatten().next();
    row.and_then(|row| row["store_id"].as_str()?.parse().ok()).unwrap_or_default()
}

struct Rows<'a> {
    verdict: &'a mut Verdict,
    node: &'a Observed,
}

impl Rows<'_> {
    fn list(&self, list: &str) -> &[Value] {
        self.node.lists.get(list).map_or(&[], Vec::as_slice)
    }

    fn violate(&mut self, list: &str, text: &str) {
        let node = &self.node.node;
        self.verdict.violate(|| format!("{node}: {list}: {text}"));
    }

    /// One row an id, and no others.
    fn each_once(&mut self, list: &str, expected: &BTreeSet<String>) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for row in self.list(list) {
            *counts.entry(row["id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        self.verdict.looked_at(expected.len());
        for id in expected {
            match counts.remove(id) {
                Some(1) => {}
                found => self.violate(list, &format!("{id} has {} rows instead of 1", found.unwrap_or(0))),
            }
        }
        for (id, count) in counts {
            self.violate(list, &format!("{id} has {count} rows, and no event made it"));
        }
    }

    /// The right figure in the row of each id.
    fn figures(
        &mut self,
        list: &str,
        key: &str,
        column: &str,
        digits: usize,
        expected: &BTreeMap<String, i128>,
    ) {
        let mut found: BTreeMap<String, i128> = BTreeMap::new();
        for row in self.list(list) {
            let id = row[key].as_str().unwrap_or_default().to_owned();
            *found.entry(id).or_default() += scaled(&row[column], digits);
        }
        self.verdict.looked_at(expected.len());
        for (id, expected) in expected {
            let found = found.get(id).copied().unwrap_or(0);
            if found != *expected {
                let text =
                    format!("{column} of {id} is {found} instead of {expected} (in units of its last digit)");
                self.violate(list, &text);
            }
        }
    }

    fn count(&mut self, list: &str, expected: usize) {
        self.verdict.looked_at(1);
        let found = self.list(list).len();
        if found != expected {
            self.violate(list, &format!("{found} rows instead of {expected}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::model::tests::{node_with_log, pushed};
    use crate::history::What;
    use serde_json::json;

    fn history() -> [Entry; 2] {
        let sale = |n: u32| Sent {
            event_id: format!("e{n}"),
            event_type: "SaleCreated".into(),
            payload: json!({ "sale_id": format!("s{n}"), "items": [{ "product_id": "p", "qty": 2 }] }),
        };
        let write = What::Write { device: "d".into(), events: vec![sale(1), sale(2), sale(3)] };
        // Of the third nobody was told.
        [Entry { at_ms: 1, what: write }, pushed("shop", &["e1", "e2"])]
    }

    fn node(log: &[&str], sales: &[&str], stock: &str, movements: usize) -> Observed {
        let mut node = node_with_log("shop", log);
        let sales = sales.iter().map(|id| json!({ "id": id })).collect();
        node.lists.insert("sales".into(), sales);
        node.lists.insert("stock".into(), vec![json!({ "product_id": "p", "stock": stock })]);
        node.lists.insert("stock-movements".into(), vec![json!({}); movements]);
        node
    }

    #[test]
    fn each_accepted_sale_has_one_row_and_moves_stock_once() {
        let sound = node(&["e1", "e2"], &["s1", "s2"], "-4.000", 2);
        assert!(check(&history(), &[sound]).is_sound());
        let unknown_but_there = node(&["e1", "e2", "e3"], &["s1", "s2", "s3"], "-6", 3);
        assert!(check(&history(), &[unknown_but_there]).is_sound());
    }

    #[test]
    fn doubled_lost_and_invented_effects_are_found() {
        for (wrong, evidence) in [
            (node(&["e1", "e2"], &["s1", "s2", "s2"], "-4", 2), "s2 has 2 rows instead of 1"),
            (node(&["e1", "e2"], &["s1"], "-4", 2), "s2 has 0 rows instead of 1"),
            (node(&["e1", "e2"], &["s1", "s2", "s9"], "-4", 2), "s9 has 1 rows, and no event made it"),
            (node(&["e1", "e2"], &["s1", "s2"], "-6", 2), "stock of p is -6000 instead of -4000"),
            (node(&["e1", "e2"], &["s1", "s2"], "-4", 3), "3 rows instead of 2"),
            (node(&["e1", "e2", "e1"], &["s1", "s2"], "-4", 2), "event e1 is in the log twice"),
        ] {
            let verdict = check(&history(), &[wrong]);
            assert_eq!(verdict.violated, 1, "{verdict}");
            assert!(verdict.evidence[0].contains(evidence), "{verdict}");
        }
    }
}
