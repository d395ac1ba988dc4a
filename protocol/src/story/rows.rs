//! From rows to lines of text.

use super::id;
use crate::fold::{ConflictRow, CustomerRow, Mark, ProductRow, SessionRow, Tables};
use crate::standing::{DeclaredStore, SeriesRow, StockKey};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use uuid::Uuid;

/// The names of a history's ids.
struct Names {
    store_id: Uuid,
    names: HashMap<Uuid, String>,
}

impl Names {
    fn of(store_id: Uuid, text: &str) -> Self {
        let mut names = HashMap::new();
        for word in text.split(|c: char| c.is_whitespace() || "=()x~:@".contains(c)) {
            names.insert(id(store_id, word), word.to_owned());
            let derived = format!("debt({word})");
            names.insert(id(store_id, &derived), derived);
        }
        Names { store_id, names }
    }

    fn get(&self, id: Uuid) -> &str {
        self.names.get(&id).map_or("?", String::as_str)
    }

    fn stock(&self, key: StockKey) -> String {
        let mut text = self.get(key.product_id).to_owned();
        if !key.variant_id.is_nil() {
            text += &format!(":{}", self.get(key.variant_id));
        }
        if key.warehouse_id != self.store_id {
            text += &format!("@{}", self.get(key.warehouse_id));
        }
        text
    }
}

/// The rows of a store as sorted lines; `text`: where its names are found.
///
/// Of sales, debts, payments, entries and movements a line says what stands by which event. All others show all
/// columns that are set, times in milliseconds, products and customers first `created..updated`.
pub fn lines(store_id: Uuid, tables: &Tables, text: &str) -> Vec<String> {
    let names = Names::of(store_id, text);
    let mut lines = sales_and_stock(tables, &names);
    lines.extend(debts(tables, &names));
    for (id, entry) in &tables.ledger {
        lines.push(format!("entry {} by {}", names.get(*id), entry.event_id));
    }
    lines.extend(tables.products.iter().map(|(id, row)| product(names.get(*id), row)));
    lines.extend(tables.customers.iter().map(|(id, row)| customer(names.get(*id), row)));
    lines.extend(tables.sessions.iter().map(|(id, row)| session(names.get(*id), row)));
    lines.extend(tables.stores.values().map(|row| store(&names, row)));
    lines.extend(tables.series.iter().map(|(id, row)| series(names.get(*id), row)));
    lines.extend(tables.conflicts.values().map(|row| conflict(names.get(row.entity_id), row)));
    for (event, mark) in &tables.exceptions {
        lines.push(match mark {
            Mark::Absorbed(by) => format!("{event} absorbed by {by}"),
            Mark::Waiting(id) => format!("{event} waits for {}", names.get(id.parse().expect("an id"))),
            Mark::Skipped => format!("{event} skipped"),
            Mark::Failed(reason) => format!("{event} failed: {reason}"),
        });
    }
    lines.sort();
    lines
}

fn sales_and_stock(tables: &Tables, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, sale) in &tables.sales {
        let void = sale.void.as_ref().map(|v| format!(" void {}", v.event_id)).unwrap_or_default();
        let name = names.get(*id);
        lines.push(format!("sale {name} by {}{void}", sale.event_id));
        for (item, line) in sale.items.iter().zip(1..) {
            lines.push(format!("item {name}.{line} {} {}", names.get(item.product_id), item.qty.normalize()));
        }
    }
    for movement in tables.movements.values() {
        let (stock, qty) = (names.stock(movement.key), movement.qty_delta.normalize());
        lines.push(format!("move {stock} {qty} {} by {}", movement.kind, movement.event_id));
    }
    for (key, stock) in &tables.stock {
        lines.push(format!("stock {} {}", names.stock(*key), stock.normalize()));
    }
    lines
}

fn debts(tables: &Tables, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, debt) in &tables.debts {
        let (id, currency) = (names.get(*id), debt.currency.as_deref().unwrap_or("-"));
        let (total, left) = (debt.total_amount.normalize(), debt.remaining_amount.normalize());
        let mut line = format!("debt {id} {currency} {total} left {left} {}", debt.status.name());
        if debt.overpaid_amount > Decimal::ZERO {
            line += &format!(" over {}", debt.overpaid_amount.normalize());
        }
        if let Some(sale) = debt.sale_id {
            line += &format!(" of {}", names.get(sale));
        }
        line += &debt.event_id.as_ref().map_or(" derived".to_owned(), |event| format!(" by {event}"));
        lines.push(line);
        assert_eq!(debt.derived, debt.event_id.is_none());
    }
    for (id, paid) in &tables.payments {
        let (id, debt) = (names.get(*id), names.get(paid.debt_id));
        lines.push(format!("pay {id} of {debt} {} by {}", paid.amount.normalize(), paid.event_id));
    }
    lines
}

/// ` key=value` of every column that is set, in the order of the table.
fn columns<const N: usize>(columns: [(&str, Option<String>); N]) -> String {
    columns.into_iter().filter_map(|(key, value)| Some(format!(" {key}={}", value?))).collect()
}

fn number(value: Option<Decimal>) -> Option<String> {
    value.map(|value| value.normalize().to_string())
}

fn flag(value: Option<bool>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn ms(value: Option<DateTime<Utc>>) -> Option<String> {
    value.map(|value| value.timestamp_millis().to_string())
}

fn span(created_at: DateTime<Utc>, updated_at: DateTime<Utc>) -> String {
    format!("{}..{}", created_at.timestamp_millis(), updated_at.timestamp_millis())
}

fn product(name: &str, row: &ProductRow) -> String {
    let mut line = format!("product {name} {}", span(row.created_at, row.updated_at));
    line += &columns([
        ("name", row.name.clone()),
        ("category", row.category.clone()),
        ("sku", row.sku.clone()),
        ("barcode", row.barcode.clone()),
        ("price", number(row.price)),
        ("price_bs", number(row.price_bs)),
        ("price_usd", number(row.price_usd)),
        ("cost_bs", number(row.cost_bs)),
        ("cost_usd", number(row.cost_usd)),
        ("track_inventory", flag(row.track_inventory)),
        ("is_active", flag(row.is_active)),
        ("low_stock_threshold", number(row.low_stock_threshold)),
    ]);
    for (key, json) in &row.attributes {
        write!(line, " attributes.{key}={json}").expect("a text takes all");
    }
    line
}

fn customer(name: &str, row: &CustomerRow) -> String {
    let columns = columns([
        ("name", row.name.clone()),
        ("document_id", row.document_id.clone()),
        ("phone", row.phone.clone()),
        ("email", row.email.clone()),
        ("address", row.address.clone()),
        ("credit_limit", number(row.credit_limit)),
        ("notes", row.notes.clone()),
    ]);
    format!("customer {name} {}{columns}", span(row.created_at, row.updated_at))
}

fn session(name: &str, row: &SessionRow) -> String {
    let columns = columns([
        ("register_id", row.register_id.clone()),
        ("opened_at", ms(row.opened_at)),
        ("opened_by", row.opened_by.clone()),
        ("opening_amount", number(row.opening_amount)),
        ("opening_amount_bs", number(row.opening_amount_bs)),
        ("opening_amount_usd", number(row.opening_amount_usd)),
        ("closed_at", ms(row.closed_at)),
        ("closed_by", row.closed_by.clone()),
        ("closing_amount", number(row.closing_amount)),
        ("expected", row.expected.clone()),
        ("counted", row.counted.clone()),
        ("notes", row.notes.clone()),
        ("opened_event_id", row.opened_event_id.clone()),
        ("closed_event_id", row.closed_event_id.clone()),
    ]);
    format!("session {name}{columns}")
}

/// `store by a home_node=north default_warehouse_id=W1`
fn store(names: &Names, row: &DeclaredStore) -> String {
    let columns = columns([
        ("home_node", Some(row.home_node.clone())),
        ("default_warehouse_id", row.default_warehouse_id.map(|id| names.get(id).to_owned())),
    ]);
    format!("store by {}{columns}", row.declared_by)
}

fn series(name: &str, row: &SeriesRow) -> String {
    let columns = columns([
        ("name", row.name.clone()),
        ("prefix", row.prefix.clone()),
        ("next_number", Some(row.next_number.to_string())),
        ("owner_node", row.owner_node.clone()),
    ]);
    format!("series {name} by {}{columns}", row.declared_by)
}

/// `conflict P1 price winner b: a price_usd=1 | b price_usd=2`
fn conflict(name: &str, row: &ConflictRow) -> String {
    let values = |values: &BTreeMap<String, String>| -> String {
        values.iter().map(|(field, json)| format!(" {field}={}", json.trim_matches('"'))).collect()
    };
    let sides: Vec<String> =
        row.versions.iter().map(|side| format!("{}{}", side.event_id, values(&side.values))).collect();
    format!("conflict {name} {} winner {}: {}", row.field, row.winner_event_id, sides.join(" | "))
}
