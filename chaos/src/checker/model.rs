//! What the rows of a shop must be if each event has had one effect: a model of its own, of what tills write.
//!
//! Never here: the rules of the whole catalogue (see `velox_protocol::fold`), or a node's answers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use crate::history::Sent;

/// What stands in which list, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) sales: BTreeSet<String>,
    pub(super) sessions: BTreeSet<String>,
    pub(super) ledger: BTreeSet<String>,
    pub(super) products: BTreeSet<String>,
    /// In thousandths, by product.
    pub(super) stock: BTreeMap<String, i128>,
    /// How many movements of stock.
    pub(super) movements: usize,
    /// What remains, in hundredths, by debt.
    pub(super) debts: BTreeMap<String, i128>,
    paid: BTreeMap<String, i128>,
}

impl Model {
    /// Of these events, each once.
    pub(super) fn of<'a>(store_id: Uuid, events: impl Iterator<Item = &'a Sent>) -> Self {
        let mut model = Model::default();
        for event in events {
            model.add(store_id, &event.event_type, &event.payload);
        }
        for (debt, paid) in std::mem::take(&mut model.paid) {
            if let Some(remaining) = model.debts.get_mut(&debt) {
                // A cent is forgiven.
                let rest = *remaining - paid;
                *remaining = if rest <= 1 { 0 } else { rest };
            }
        }
        model
    }

    fn add(&mut self, store_id: Uuid, event_type: &str, payload: &Value) {
        let id = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
        match event_type {
            "SaleCreated" => {
                self.sales.insert(id("sale_id"));
                self.add_lines(payload);
                if payload["payment"]["method"] == "FIAO" {
                    let derived = format!("debt:{}", id("sale_id"));
                    let debt = Uuid::new_v5(&store_id, derived.as_bytes());
                    self.debts.insert(debt.to_string(), scaled(&payload["totals"]["total_usd"], 2));
                }
            }
            "StockReceived" => {
                self.movements += 1;
                *self.stock.entry(id("product_id")).or_default() += scaled(&payload["qty"], 3);
            }
            "DebtCreated" => drop(self.debts.insert(id("debt_id"), scaled(&payload["amount_bs"], 2))),
            "DebtPaymentRecorded" => {
                *self.paid.entry(id("debt_id")).or_default() += scaled(&payload["amount_bs"], 2);
            }
            "CashLedgerEntryCreated" => drop(self.ledger.insert(id("entry_id"))),
            "CashSessionOpened" => drop(self.sessions.insert(id("cash_session_id"))),
            "ProductCreated" => drop(self.products.insert(id("product_id"))),
            _ => {}
        }
    }

    /// A movement a product of the sale.
    fn add_lines(&mut self, payload: &Value) {
        let mut products = BTreeSet::new();
        for line in payload["items"].as_array().into_iter().flatten() {
            let product = line["product_id"].as_str().unwrap_or_default();
            *self.stock.entry(product.to_owned()).or_default() -= scaled(&line["qty"], 3);
            products.insert(product);
        }
        self.movements += products.len();
    }
}

/// A decimal number, or a text of one, in units of so many digits, rounded half away from zero. 0 of anything else.
pub(super) fn scaled(value: &Value, digits: usize) -> i128 {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return 0,
    };
    let (sign, text) = text.strip_prefix('-').map_or((1, text.as_str()), |rest| (-1, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digit = |place: usize| i128::from(fraction.as_bytes().get(place).map_or(0, |byte| byte - b'0'));
    let whole: i128 = whole.parse().unwrap_or(0);
    let units = (0..digits).fold(whole, |units, place| units * 10 + digit(place));
    sign * (units + i128::from(digit(digits) >= 5))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::history::{Entry, Outcome, What};
    use crate::observed::Observed;
    use serde_json::json;

    pub(crate) fn pushed(node: &str, event_ids: &[&str]) -> Entry {
        let event_ids: Vec<String> = event_ids.iter().map(|&id| id.to_owned()).collect();
        let outcome = Outcome::Ok { accepted: event_ids.clone(), rejected: Vec::new() };
        let (device, node) = ("d".to_owned(), node.to_owned());
        Entry { at_ms: 7, what: What::Push { device, node, asked_ms: 3, event_ids, outcome } }
    }

    pub(crate) fn node_with_log(node: &str, log: &[&str]) -> Observed {
        let log = log.iter().map(|&id| id.to_owned()).collect();
        Observed { node: node.to_owned(), log, ..Observed::default() }
    }

    #[test]
    fn decimals_are_rounded_half_away_from_zero() {
        for (value, digits, expected) in [
            (json!(545.67), 2, 54_567),
            (json!("12.345"), 2, 1_235),
            (json!(-0.755), 3, -755),
            (json!(-0.0055), 3, -6),
            (json!(2), 3, 2_000),
            (json!("1.5"), 3, 1_500),
            (json!(null), 2, 0),
        ] {
            assert_eq!(scaled(&value, digits), expected, "{value}");
        }
    }

    #[test]
    fn a_model_of_a_sale_goods_a_debt_and_its_payment() {
        let sent = |event_type: &str, payload: Value| Sent {
            event_id: event_type.to_owned(),
            event_type: event_type.to_owned(),
            payload,
        };
        let line = |qty: f64| json!({ "product_id": "p", "qty": qty });
        let events = [
            sent("StockReceived", json!({ "product_id": "p", "qty": 10 })),
            sent(
                "SaleCreated",
                json!({ "sale_id": "s", "items": [line(1.0), line(0.755)], "totals": { "total_usd": 3.456 },
                    "payment": { "method": "FIAO" } }),
            ),
            sent("DebtPaymentRecorded", json!({ "debt_id": "d", "amount_bs": 20.5 })),
            sent("DebtCreated", json!({ "debt_id": "d", "amount_bs": 100.25 })),
        ];
        let model = Model::of(Uuid::nil(), events.iter());
        assert_eq!((model.stock["p"], model.movements), (8_245, 2));
        let derived = Uuid::new_v5(&Uuid::nil(), b"debt:s").to_string();
        assert_eq!(model.debts, [("d".to_owned(), 7_975), (derived, 346)].into());
    }
}
