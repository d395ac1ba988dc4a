//! Two tables beside each other, in words for a person.

use super::Tables;
use crate::standing::StockKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use uuid::Uuid;

impl Tables {
    /// Each row that only one of the two has, or has otherwise: `sale <id>: <ours> instead of <theirs>`. Of two rows
    /// only the columns that differ are told.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        differences("sale", &self.sales, &other.sales, &mut found);
        differences("debt", &self.debts, &other.debts, &mut found);
        differences("payment", &self.payments, &other.payments, &mut found);
        differences("ledger entry", &self.ledger, &other.ledger, &mut found);
        differences("movement", &self.movements, &other.movements, &mut found);
        differences("stock of", &self.stock, &other.stock, &mut found);
        differences("product", &self.products, &other.products, &mut found);
        differences("customer", &self.customers, &other.customers, &mut found);
        differences("session", &self.sessions, &other.sessions, &mut found);
        differences("store", &self.stores, &other.stores, &mut found);
        differences("series", &self.series, &other.series, &mut found);
        differences("conflict", &self.conflicts, &other.conflicts, &mut found);
        differences("event", &self.exceptions, &other.exceptions, &mut found);
        found
    }
}

/// A row's key in words.
trait Named: Ord {
    fn name(&self) -> String;
}

impl Named for Uuid {
    fn name(&self) -> String {
        self.to_string()
    }
}

impl Named for String {
    fn name(&self) -> String {
        self.clone()
    }
}

impl Named for StockKey {
    fn name(&self) -> String {
        let variant =
            if self.variant_id.is_nil() { String::new() } else { format!(" variant {}", self.variant_id) };
        format!("{}{variant} in {}", self.product_id, self.warehouse_id)
    }
}

fn differences<K: Named, V: PartialEq + Debug>(
    what: &str,
    ours: &BTreeMap<K, V>,
    theirs: &BTreeMap<K, V>,
    found: &mut Vec<String>,
) {
    let keys: BTreeSet<&K> = ours.keys().chain(theirs.keys()).collect();
    for key in keys {
        let (our, their) = (ours.get(key), theirs.get(key));
        if our != their {
            let (our, their) = shown(our, their);
            found.push(format!("{what} {}: {our} instead of {their}", key.name()));
        }
    }
}

/// Both rows, or of two of them what differs.
fn shown<V: Debug>(ours: Option<&V>, theirs: Option<&V>) -> (String, String) {
    let text = |row: Option<&V>| row.map_or("nothing".to_owned(), |row| format!("{row:?}"));
    let (our, their) = (text(ours), text(theirs));
    let (our_columns, their_columns) = (columns(&our), columns(&their));
    if our_columns.len() < 2 || our_columns.len() != their_columns.len() {
        return (our, their);
    }
    let different: Vec<(&str, &str)> =
        our_columns.into_iter().zip(their_columns).filter(|(a, b)| a != b).collect();
    let join =
        |side: fn(&(&'_ str, &'_ str)) -> String| different.iter().map(side).collect::<Vec<_>>().join(", ");
    (join(|pair| pair.0.to_owned()), join(|pair| pair.1.to_owned()))
}

/// `a: 1` and `b: [2, 3]` of `Row { a: 1, b: [2, 3] }`; nothing of another text.
fn columns(text: &str) -> Vec<&str> {
    let Some(inner) = text.split_once(" { ").and_then(|(_, rest)| rest.strip_suffix(" }")) else {
        return Vec::new();
    };
    let (mut columns, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0, false, false);
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' | '(' if !quoted => depth += 1,
            '}' | ']' | ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                columns.push(inner[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    columns.push(inner[start..].trim());
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::Mark;
    use rust_decimal::Decimal;

    #[test]
    fn of_two_rows_the_columns_that_differ_are_told() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "read by its Debug")]
        struct Row {
            name: &'static str,
            list: Vec<(u8, &'static str)>,
            other: Option<u8>,
        }
        let row = |name, other| Row { name, list: vec![(1, "}, x: \"y"), (2, "]")], other };
        let (ours, theirs) = (row("a, \"b", Some(1)), row("a, \"b", None));
        assert_eq!(shown(Some(&ours), Some(&theirs)), ("other: Some(1)".into(), "other: None".into()));
        let theirs = row("c", None);
        let (our, their) = shown(Some(&ours), Some(&theirs));
        assert_eq!(
            (our.as_str(), their.as_str()),
            (r#"name: "a, \"b", other: Some(1)"#, r#"name: "c", other: None"#)
        );
    }

    #[test]
    fn rows_are_named_and_missing_ones_are_nothing() {
        let key = StockKey {
            product_id: Uuid::from_u128(1),
            variant_id: Uuid::nil(),
            warehouse_id: Uuid::from_u128(2),
        };
        let ours = Tables { stock: BTreeMap::from([(key, Decimal::ONE)]), ..Tables::default() };
        let theirs = Tables {
            exceptions: BTreeMap::from([("e1".to_owned(), Mark::Failed("no".to_owned()))]),
            ..Tables::default()
        };
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(
            ours.differences(&theirs),
            [
                format!("stock of {one} in {two}: 1 instead of nothing"),
                r#"event e1: nothing instead of Failed("no")"#.to_owned()
            ]
        );
    }
}
