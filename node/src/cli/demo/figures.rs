//! A shop's figures, as the tills add them up and as the node answers them: the same type, so that the two can
//! be compared. Never here: where they come from.

use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::decimal::Column;

/// How many, and how much in both currencies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) bs: Decimal,
    pub(super) usd: Decimal,
}

impl Tally {
    pub(super) fn add(&mut self, bs: Decimal, usd: Decimal) {
        self.count += 1;
        self.bs += bs;
        self.usd += usd;
    }

    /// The sum of several.
    pub(super) fn total<'a>(tallies: impl Iterator<Item = &'a Tally>) -> Tally {
        tallies.fold(Tally::default(), |sum, one| Tally {
            count: sum.count + one.count,
            bs: sum.bs + one.bs,
            usd: sum.usd + one.usd,
        })
    }
}

/// A debt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct DebtFigure {
    pub(super) status: String,
    pub(super) paid: Decimal,
    pub(super) remaining: Decimal,
}

/// A cash session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct SessionFigure {
    pub(super) closed: bool,
    /// `cash_bs`, `cash_usd`, …
    pub(super) expected: BTreeMap<String, Decimal>,
    pub(super) counted: BTreeMap<String, Decimal>,
}

/// All figures of a shop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Figures {
    pub(super) products: u64,
    pub(super) customers: u64,
    /// Dollars, by product.
    pub(super) prices: BTreeMap<Uuid, Decimal>,
    /// By customer.
    pub(super) phones: BTreeMap<Uuid, String>,
    /// By payment method, without voided ones.
    pub(super) sales: BTreeMap<String, Tally>,
    pub(super) voided: Tally,
    /// By product, without voided sales.
    pub(super) sold: BTreeMap<Uuid, Decimal>,
    pub(super) stock: BTreeMap<Uuid, Decimal>,
    pub(super) debts: BTreeMap<Uuid, DebtFigure>,
    pub(super) sessions: BTreeMap<Uuid, SessionFigure>,
    /// By type of entry.
    pub(super) ledger: BTreeMap<String, Tally>,
}

/// One figure that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) figure: String,
    /// What the tills say; `None`: nothing of the kind.
    pub(super) tills: Option<String>,
    pub(super) node: Option<String>,
}

impl Figures {
    /// What the node says otherwise than these, the tills' own figures.
    pub(super) fn differences(&self, node: &Figures) -> Vec<Difference> {
        let (tills, node) = (self.facts(), node.facts());
        let names: std::collections::BTreeSet<&String> = tills.keys().chain(node.keys()).collect();
        let differs = |name: &&String| tills.get(*name) != node.get(*name);
        names
            .into_iter()
            .filter(differs)
            .map(|name| Difference {
                figure: name.clone(),
                tills: tills.get(name).cloned(),
                node: node.get(name).cloned(),
            })
            .collect()
    }

    /// How many figures there are to compare.
    pub(super) fn count(&self) -> usize {
        self.facts().len()
    }

    /// Every single figure by its name.
    fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        let mut fact = |name: String, value: String| {
            facts.insert(name, value);
        };
        let text = |value: Decimal| value.normalize().to_string();
        fact("products".to_owned(), self.products.to_string());
        fact("customers".to_owned(), self.customers.to_string());
        let by_method = self.sales.iter().map(|(method, tally)| (format!("sales {method}"), tally));
        let by_type = self.ledger.iter().map(|(kind, tally)| (format!("ledger {kind}"), tally));
        let voided = ("sales voided".to_owned(), &self.voided);
        for (name, tally) in by_method.chain(by_type).chain([voided]) {
            fact(format!("{name}: count"), tally.count.to_string());
            fact(format!("{name}: Bs"), text(tally.bs));
            fact(format!("{name}: USD"), text(tally.usd));
        }
        for (product, usd) in &self.prices {
            fact(format!("price of product {product}"), text(*usd));
        }
        for (customer, phone) in &self.phones {
            fact(format!("telephone of customer {customer}"), phone.clone());
        }
        for (product, quantity) in &self.sold {
            fact(format!("sold of product {product}"), text(*quantity));
        }
        for (product, quantity) in &self.stock {
            fact(format!("stock of product {product}"), text(*quantity));
        }
        for (id, debt) in &self.debts {
            fact(format!("debt {id}: status"), debt.status.clone());
            fact(format!("debt {id}: paid"), text(debt.paid));
            fact(format!("debt {id}: remaining"), text(debt.remaining));
        }
        for (id, session) in &self.sessions {
            fact(format!("cash session {id}: closed"), session.closed.to_string());
            for (what, amount) in &session.expected {
                fact(format!("cash session {id}: expected {what}"), text(*amount));
            }
            for (what, amount) in &session.counted {
                fact(format!("cash session {id}: counted {what}"), text(*amount));
            }
        }
        facts
    }
}

/// A number or decimal text as it was sent. What is neither counts as 0 and shows as a difference.
pub(super) fn decimal(value: &Value) -> Decimal {
    let parsed = match value {
        Value::Number(number) => {
            let text = number.to_string();
            text.parse().ok().or_else(|| Decimal::from_scientific(&text).ok())
        }
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    parsed.unwrap_or_default()
}

/// The same, rounded as the columns of amounts are.
pub(super) fn cents(value: &Value) -> Decimal {
    Column::Amount.round(decimal(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named_with_both_values() {
        let mut tills = Figures { products: 25, ..Figures::default() };
        tills.sales.entry("CASH_USD".to_owned()).or_default().add(Decimal::new(3653, 2), Decimal::ONE);
        let mut node = tills.clone();
        assert!(tills.differences(&node).is_empty());
        node.sales.remove("CASH_USD");
        node.products = 24;
        let found: Vec<_> = tills.differences(&node);
        let names: Vec<&str> = found.iter().map(|d| d.figure.as_str()).collect();
        assert_eq!(names, ["products", "sales CASH_USD: Bs", "sales CASH_USD: USD", "sales CASH_USD: count"]);
        assert_eq!((found[1].tills.as_deref(), found[1].node.as_deref()), (Some("36.53"), None));
    }

    #[test]
    fn amounts_are_read_as_they_are_sent() {
        assert_eq!(cents(&serde_json::json!(2_732.078_700_000_000_5)).to_string(), "2732.08");
        assert_eq!(cents(&serde_json::json!("1.005")).to_string(), "1.01");
        assert_eq!(decimal(&serde_json::json!("doce")), Decimal::ZERO);
    }
}
