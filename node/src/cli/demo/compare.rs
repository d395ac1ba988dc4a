//! Both nodes' tables, row by row: the same set of events makes the same rows on every node.
//!
//! Never here: what a row ought to be; that is the figures' matter.

use super::client::Caller;
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is compared, by the names of the lists.
const TABLES: [&str; 8] =
    ["sales", "stock-movements", "stock", "debts", "products", "customers", "cash-sessions", "cash-ledger"];
/// The lists whose rows have more to them when they are asked for one by one: items and payments.
const DEEPER: [&str; 2] = ["sales", "debts"];
/// What makes a row the same row, of those that have it.
const KEYS: [&str; 4] = ["id", "product_id", "variant_id", "warehouse_id"];
/// Requests at once.
const AT_ONCE: usize = 16;

/// The tables of one node, by list and key.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<&'static str, BTreeMap<String, Value>>);

/// One table on both nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Compared {
    pub(super) table: &'static str,
    /// Of the shop's node and the cloud's, as the next one.
    pub(super) rows: [usize; 2],
    /// Rows that the other node lacks.
    pub(super) alone: [usize; 2],
    /// Rows that both have with other contents.
    pub(super) other: usize,
    pub(super) identical: bool,
}

impl Tables {
    /// All rows as the lists have them.
    pub(super) async fn read(admin: &Caller) -> anyhow::Result<Self> {
        let mut tables = Tables::default();
        for table in TABLES {
            let rows = admin.list::<Value>(table).await?.into_iter().map(|row| (key(&row), row));
            tables.0.insert(table, rows.collect());
        }
        let open = admin.open_conflicts().await?.into_iter().map(|open| (open.id.to_string(), json!(open)));
        tables.0.insert("open conflicts", open.collect());
        Ok(tables)
    }

    /// The same, with the items of sales and the payments of debts.
    pub(super) async fn read_deeply(admin: &Caller) -> anyhow::Result<Self> {
        let mut tables = Self::read(admin).await?;
        for table in DEEPER {
            let rows = tables.0.entry(table).or_default();
            let ids: Vec<_> = rows.keys().filter_map(|key| key.parse().ok()).collect();
            for ids in ids.chunks(AT_ONCE) {
                let read = try_join_all(ids.iter().map(|id| admin.get::<Value>(table, *id))).await?;
                rows.extend(read.into_iter().map(|row| (key(&row), row)));
            }
        }
        Ok(tables)
    }

    /// The shop's node beside the cloud's.
    pub(super) fn compare(&self, cloud: &Tables) -> Vec<Compared> {
        let empty = BTreeMap::new();
        let compare = |(table, here): (&&'static str, &BTreeMap<String, Value>)| {
            let there = cloud.0.get(table).unwrap_or(&empty);
            let lacks = |one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>| {
                one.keys().filter(|key| !other.contains_key(*key)).count()
            };
            let alone = [lacks(here, there), lacks(there, here)];
            let differs = |(key, row): &(&String, &Value)| there.get(*key).is_some_and(|other| other != *row);
            let other = here.iter().filter(differs).count();
            let rows = [here.len(), there.len()];
            Compared { table, rows, alone, other, identical: alone == [0, 0] && other == 0 }
        };
        self.0.iter().map(compare).collect()
    }
}

/// Whether all tables are the same on both nodes.
pub(super) fn identical(tables: &[Compared]) -> bool {
    tables.iter().all(|table| table.identical)
}

fn key(row: &Value) -> String {
    let parts: Vec<&str> = KEYS.iter().filter_map(|key| row[key].as_str()).collect();
    match parts.as_slice() {
        // Of a row with an id the rest is content.
        [id, ..] if row["id"].is_string() => (*id).to_owned(),
        parts => parts.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(rows: &[Value]) -> Tables {
        Tables(BTreeMap::from([("sales", rows.iter().map(|row| (key(row), row.clone())).collect())]))
    }

    #[test]
    fn rows_are_the_same_missing_or_other() {
        let [a, b, c] = ["a", "b", "c"].map(|id| json!({ "id": id, "product_id": "p", "total": "1.00" }));
        let changed = json!({ "id": "b", "product_id": "p", "total": "2.00" });
        let shop = tables(&[a.clone(), b.clone()]);
        assert!(identical(&shop.compare(&tables(&[b, a.clone()]))));
        let found = shop.compare(&tables(&[changed, c]));
        let expected = Compared { table: "sales", rows: [2, 2], alone: [1, 1], other: 1, identical: false };
        assert_eq!(found, [expected]);
        assert!(!identical(&found) && !identical(&shop.compare(&Tables::default())));
    }

    #[test]
    fn a_row_without_an_id_is_known_by_what_it_is_about() {
        let row = json!({ "product_id": "p", "variant_id": null, "warehouse_id": "w", "stock": "1.000" });
        assert_eq!(key(&row), "p w");
    }
}
