//! The little language of the histories in `standing_tests.rs`: from text to events, from rows to text.

use crate::V1_NODE_DEVICE;
use crate::clock::Key;
use crate::json::Json;
use crate::payload::{Payload, derived_debt_id};
use crate::standing::{Exception, Linked, Rows, StockKey, resolve};
use chrono::DateTime;
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use uuid::Uuid;

pub(super) const STORE: Uuid = Uuid::from_u128(0x5701e);

fn id(name: &str) -> Uuid {
    match name.strip_prefix("debt(").and_then(|rest| rest.strip_suffix(')')) {
        Some(sale) => derived_debt_id(STORE, id(sale)),
        None => Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
    }
}

/// Reads a history through the crate's own readers.
pub(super) fn events(history: &str) -> Vec<Linked> {
    history.lines().map(|line| event(line.trim())).collect()
}

fn event(line: &str) -> Linked {
    let mut words = line.split(' ');
    let (name, place) = words.next().and_then(|w| w.split_once('@')).expect(line);
    let (time, device) = place.split_once('/').unwrap_or((place, "till"));
    let verb = words.next().expect(line);
    let mut fields = Map::new();
    let mut request_id = None;
    let mut items = Vec::new();
    let (own, event_type) = match verb {
        "sale" => ("sale_id", "SaleCreated"),
        "void" => ("sale_id", "SaleVoided"),
        "debt" => ("debt_id", "DebtCreated"),
        "pay" => ("payment_id", "DebtPaymentRecorded"),
        "entry" => ("entry_id", "CashLedgerEntryCreated"),
        "stock" => ("movement_id", "StockReceived"),
        "declare" => ("store_id", "StoreDeclared"),
        "series" => ("series_id", "FiscalSeriesDeclared"),
        _ => panic!("{line}"),
    };
    let word = words.next().expect(line);
    fields.insert(own.into(), if word == "-" { Value::Null } else { json!(id(word)) });
    for word in words {
        match word.split_once('=') {
            Some(("env", request)) => request_id = Some(request.to_owned()),
            Some((key, value)) => field(verb, key, value, &mut fields),
            None if word == "fiao" => drop(fields.insert("payment_method".into(), "FIAO".into())),
            None if word.starts_with('P') => items.push(item(word)),
            None if verb == "pay" => drop(fields.insert("debt_id".into(), json!(id(word)))),
            None => drop(fields.insert("entry_type".into(), word.into())),
        }
    }
    match (verb, items.len()) {
        ("stock", 1) => fields.extend(items.remove(0)),
        (_, 0) => {}
        _ => drop(fields.insert("items".into(), items.into())),
    }
    let text = Value::Object(fields).to_string();
    Linked {
        key: Key {
            created_at: DateTime::from_timestamp_millis(time.parse().expect(line)).expect(line),
            device_id: if device == "node" { V1_NODE_DEVICE } else { device }.to_owned(),
            event_id: name.to_owned(),
        },
        request_id,
        actor: None,
        payload: Payload::read(event_type, &Json::parse(&text).expect("JSON")).expect(line),
    }
}

fn field(verb: &str, key: &str, value: &str, fields: &mut Map<String, Value>) {
    let mut metadata = |key: &str, value: Value| {
        fields.entry("metadata").or_insert_with(|| json!({}))[key] = value;
    };
    match (verb, key) {
        ("entry", "sale") => metadata("sale_id", json!(id(value))),
        ("entry", "sreq") => metadata("sale_request_id", value.into()),
        (_, "sale") => drop(fields.insert("sale_id".into(), json!(id(value)))),
        (_, "fiao") => {
            fields.insert("payment_method".into(), "FIAO".into());
            fields.insert("customer_id".into(), json!(id(value)));
        }
        (_, "req") => drop(fields.insert("request_id".into(), value.into())),
        (_, "at") => drop(fields.insert("warehouse_id".into(), json!(id(value)))),
        (_, "left") => drop(fields.insert("remaining_amount".into(), value.into())),
        ("sale", _) => drop(fields.insert(format!("total_{key}"), value.into())),
        ("declare" | "series", _) => drop(fields.insert(key.to_owned(), value.into())),
        (_, "amount") => drop(fields.insert("amount".into(), value.into())),
        (_, currency) => drop(fields.insert(format!("amount_{currency}"), value.into())),
    }
}

/// `P1x2`, of a variant `P1:V1x2`, weighed `P1~0.755`.
fn item(word: &str) -> Map<String, Value> {
    let (product, qty) = word.split_once(['x', '~']).expect(word);
    let (product, variant) = product.split_once(':').unwrap_or((product, ""));
    let variant = if variant.is_empty() { Value::Null } else { json!(id(variant)) };
    let mut item =
        Map::from_iter([("product_id".into(), json!(id(product))), ("variant_id".into(), variant)]);
    if word.contains('~') {
        item.extend([("is_weight_product".into(), true.into()), ("weight_value".into(), qty.into())]);
        item.insert("qty".into(), 1.into());
    } else {
        item.insert("qty".into(), qty.into());
    }
    item
}

/// The names of a history's ids.
struct Names(HashMap<Uuid, String>);

impl Names {
    fn of(history: &str) -> Self {
        let mut names = HashMap::new();
        for word in history.split(|c: char| c.is_whitespace() || "=()x~:".contains(c)) {
            names.insert(id(word), word.to_owned());
            let derived = format!("debt({word})");
            names.insert(id(&derived), derived);
        }
        Names(names)
    }

    fn get(&self, id: Uuid) -> &str {
        self.0.get(&id).map_or("?", String::as_str)
    }

    fn stock(&self, key: StockKey) -> String {
        let mut text = self.get(key.product_id).to_owned();
        if !key.variant_id.is_nil() {
            text += &format!(":{}", self.get(key.variant_id));
        }
        if key.warehouse_id != STORE {
            text += &format!("@{}", self.get(key.warehouse_id));
        }
        text
    }
}

fn lines(rows: &Rows, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, sale) in &rows.sales {
        let void = sale.void.as_ref().map(|v| format!(" void {}", v.event_id)).unwrap_or_default();
        lines.push(format!("sale {} by {}{void}", names.get(*id), sale.event_id));
    }
    for movement in rows.movements.values() {
        let (stock, qty) = (names.stock(movement.key), movement.qty_delta.normalize());
        lines.push(format!("move {stock} {qty} {} by {}", movement.kind, movement.event_id));
    }
    for (id, debt) in &rows.debts {
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
    for (id, paid) in &rows.payments {
        let (id, debt) = (names.get(*id), names.get(paid.debt_id));
        lines.push(format!("pay {id} of {debt} {} by {}", paid.amount.normalize(), paid.event_id));
    }
    for (id, entry) in &rows.ledger {
        lines.push(format!("entry {} by {}", names.get(*id), entry.event_id));
    }
    lines.extend(rows.stores.values().map(|row| format!("store {} by {}", row.home_node, row.declared_by)));
    for (id, row) in &rows.series {
        lines.push(format!("series {} {} by {}", names.get(*id), row.next_number, row.declared_by));
    }
    for (event, exception) in &rows.exceptions {
        lines.push(match exception {
            Exception::Absorbed(by) => format!("{event} absorbed by {by}"),
            Exception::Waiting(id) => format!("{event} waits for {}", names.get(id.parse().expect("an id"))),
        });
    }
    lines.sort();
    lines
}

/// Asserts that a history, its reverse and its repetition make these rows.
pub(super) fn check(history: &str, expected: &str) {
    let mut expected: Vec<String> = expected.lines().map(|line| line.trim().to_owned()).collect();
    expected.sort();
    let events = events(history);
    let rows = resolve(STORE, &events);
    assert_eq!(lines(&rows, &Names::of(&format!("{history} {}", expected.join(" ")))), expected);
    let doubled: Vec<Linked> = events.iter().rev().chain(&events).cloned().collect();
    assert_eq!(resolve(STORE, &doubled), rows, "in reverse and repeated");
}
