//! The little language of the histories: from text to events, as a push would bring them, and from rows to text.
//!
//! A history has one event a line: `name@ms/device verb id …`; the device may be left out, `/node` is v1's
//! pseudo-device. Capitalised words are ids, `debt(S1)` is the debt that the sale S1 makes by itself, `!x` is
//! the text `x` in the place of an id. Of the envelope: `seq=1`, `clock=a:1,b:2`, `env=` (its request id), `by=`.

use crate::tables::Tables;
use chrono::DateTime;
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use uuid::Uuid;
use velox_protocol::V1_NODE_DEVICE;
use velox_protocol::event::{self, Event, Sender};
use velox_protocol::payload::{Payload, derived_debt_id};
use velox_protocol::standing::{Exception, Linked, StockKey};
use velox_store::NewEvent;

/// An event at the door, and what its payload means if it means anything.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) event: Event,
    pub(crate) meaning: Option<Payload>,
}

impl Told {
    /// Reads the text of one element of a push.
    pub(crate) fn read(store_id: Uuid, device_id: &str, text: &str) -> Self {
        let sender = Sender {
            store_id,
            device_id,
            client_version: "1.0.0",
            user_id: None,
            now: DateTime::from_timestamp_millis(1_000).expect("a time"),
        };
        let received = event::read(text, &sender).unwrap_or_else(|refused| panic!("{refused:?}: {text}"));
        Told { event: received.event, meaning: received.meaning }
    }

    pub(crate) fn new_event(&self) -> NewEvent {
        let request = self.event.request_id.as_deref();
        let links = self.meaning.iter().flat_map(|payload| payload.links(self.event.store_id, request));
        NewEvent { event: self.event.clone(), links: links.collect() }
    }

    /// As `velox_protocol::standing` resolves it; `None`: of a kind that is not linked.
    pub(crate) fn linked(&self) -> Option<Linked> {
        let payload = self.meaning.clone()?;
        let linked = !matches!(payload, Payload::Product(_) | Payload::Customer(_) | Payload::Session(_));
        linked.then(|| Linked {
            key: self.event.key(),
            request_id: self.event.request_id.clone(),
            actor: self.event.actor_user_id.clone(),
            payload,
        })
    }
}

/// What a word of a history in one store stands for.
pub(crate) fn id(store_id: Uuid, name: &str) -> Uuid {
    match name.strip_prefix("debt(").and_then(|rest| rest.strip_suffix(')')) {
        Some(sale) => derived_debt_id(store_id, id(store_id, sale)),
        None => Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
    }
}

/// Reads a history; empty lines are passed over.
pub(crate) fn events(store_id: Uuid, history: &str) -> Vec<Told> {
    let lines = history.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| event(store_id, line)).collect()
}

fn event(store_id: Uuid, line: &str) -> Told {
    let mut words = line.split(' ');
    let (name, place) = words.next().and_then(|word| word.split_once('@')).expect(line);
    let (ms, device) = place.split_once('/').unwrap_or((place, "till"));
    let verb = words.next().expect(line);
    let (own, event_type) = kind(verb);
    let mut envelope = Map::from_iter([
        ("event_id".to_owned(), json!(name)),
        ("created_at".to_owned(), json!(ms.parse::<i64>().expect(line))),
        ("type".to_owned(), json!(event_type)),
    ]);
    let mut story = Words { store_id, verb, fields: Map::new(), items: Vec::new() };
    match words.next().expect(line) {
        "-" => {}
        word => match word.strip_prefix('!') {
            Some(text) => drop(story.fields.insert(own.to_owned(), json!(text))),
            None => drop(story.fields.insert(own.to_owned(), json!(id(store_id, word)))),
        },
    }
    for word in words {
        match word.split_once('=') {
            Some(("env", request)) => drop(envelope.insert("request_id".to_owned(), json!(request))),
            Some(("seq", seq)) => {
                drop(envelope.insert("seq".to_owned(), json!(seq.parse::<i64>().expect(line))))
            }
            Some(("by", user)) => drop(envelope.insert("actor".to_owned(), json!({"user_id": user}))),
            Some(("version", n)) => {
                drop(envelope.insert("version".to_owned(), json!(n.parse::<i32>().expect(line))))
            }
            Some(("clock", entries)) => drop(envelope.insert("vector_clock".to_owned(), clock(entries))),
            Some((key, value)) => story.field(key, value),
            None => story.word(word),
        }
    }
    envelope.insert("payload".to_owned(), story.payload());
    let device = if device == "node" { V1_NODE_DEVICE } else { device };
    Told::read(store_id, device, &Value::Object(envelope).to_string())
}

/// The key of the entity's own id, and the type; a verb that is none of ours is a type.
fn kind(verb: &str) -> (&'static str, &str) {
    match verb {
        "sale" => ("sale_id", "SaleCreated"),
        "void" => ("sale_id", "SaleVoided"),
        "debt" => ("debt_id", "DebtCreated"),
        "pay" => ("payment_id", "DebtPaymentRecorded"),
        "entry" => ("entry_id", "CashLedgerEntryCreated"),
        "receive" => ("movement_id", "StockReceived"),
        "adjust" => ("movement_id", "StockAdjusted"),
        "delta" => ("movement_id", "StockDeltaApplied"),
        "open" => ("session_id", "CashSessionOpened"),
        "close" => ("session_id", "CashSessionClosed"),
        _ if verb.starts_with("Customer") => ("customer_id", verb),
        _ => ("product_id", verb),
    }
}

fn clock(entries: &str) -> Value {
    let entry = |entry: &str| {
        let (device, counter) = entry.split_once(':').expect("device:counter");
        (device.to_owned(), json!(counter.parse::<i64>().expect("a counter")))
    };
    entries.split(',').map(entry).collect::<Map<_, _>>().into()
}

/// The words of a line after the id.
struct Words<'a> {
    store_id: Uuid,
    verb: &'a str,
    fields: Map<String, Value>,
    items: Vec<Map<String, Value>>,
}

impl Words<'_> {
    fn id(&self, name: &str) -> Value {
        json!(id(self.store_id, name))
    }

    fn word(&mut self, word: &str) {
        match (self.verb, word) {
            (_, "fiao") => drop(self.fields.insert("payment_method".into(), "FIAO".into())),
            ("pay", debt) => drop(self.fields.insert("debt_id".into(), self.id(debt))),
            ("entry", kind) => drop(self.fields.insert("entry_type".into(), kind.into())),
            (_, item) => self.items.push(self.item(item)),
        }
    }

    fn field(&mut self, key: &str, value: &str) {
        let named = self.id(value);
        let (key, value) = match (self.verb, key) {
            ("entry", "sale") => return self.inner("metadata", "sale_id", named),
            ("entry", "sreq") => return self.inner("metadata", "sale_request_id", json!(value)),
            (_, "sale") => ("sale_id".to_owned(), named),
            (_, "at") => ("warehouse_id".to_owned(), named),
            (_, "session") => ("session_id".to_owned(), named),
            (_, "customer") => ("customer_id".to_owned(), named),
            (_, "fiao") => {
                self.fields.insert("payment_method".to_owned(), json!("FIAO"));
                ("customer_id".to_owned(), named)
            }
            (_, "req") => ("request_id".to_owned(), json!(value)),
            (_, "left") => ("remaining_amount".to_owned(), json!(value)),
            ("sale", "usd" | "bs") => (format!("total_{key}"), json!(value)),
            (_, "usd" | "bs") => (format!("amount_{key}"), json!(value)),
            _ => match key.split_once('.') {
                Some((object, key)) => return self.inner(object, key, plain(value)),
                None => (key.to_owned(), plain(value)),
            },
        };
        self.fields.insert(key, value);
    }

    fn inner(&mut self, object: &str, key: &str, value: Value) {
        self.fields.entry(object).or_insert_with(|| json!({}))[key] = value;
    }

    /// `P1x2`, of a variant `P1:V1x2`, weighed `P1~0.755`.
    fn item(&self, word: &str) -> Map<String, Value> {
        let (product, qty) = word.split_once(['x', '~']).expect(word);
        let (product, variant) = product.split_once(':').unwrap_or((product, ""));
        let variant = if variant.is_empty() { Value::Null } else { self.id(variant) };
        let mut item =
            Map::from_iter([("product_id".into(), self.id(product)), ("variant_id".into(), variant)]);
        let qty_key = if matches!(self.verb, "adjust" | "delta") { "qty_delta" } else { "qty" };
        if word.contains('~') {
            item.extend([("is_weight_product".into(), true.into()), ("weight_value".into(), qty.into())]);
            item.insert(qty_key.into(), 1.into());
        } else {
            item.insert(qty_key.into(), qty.into());
        }
        item
    }

    /// A stock event's only item stands flat, a sale's always in a list.
    fn payload(mut self) -> Value {
        if self.verb == "sale" || self.items.len() > 1 {
            self.fields.insert("items".to_owned(), self.items.into());
        } else if let Some(only) = self.items.pop() {
            self.fields.extend(only);
        }
        self.fields.into()
    }
}

fn plain(value: &str) -> Value {
    match value {
        "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        text => text.into(),
    }
}

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
pub(crate) fn lines(store_id: Uuid, tables: &Tables, text: &str) -> Vec<String> {
    let names = Names::of(store_id, text);
    let mut lines = Vec::new();
    for (id, sale) in &tables.rows.sales {
        let void = sale.void.as_ref().map(|v| format!(" void {}", v.event_id)).unwrap_or_default();
        let name = names.get(*id);
        lines.push(format!("sale {name} by {}{void}", sale.event_id));
        for (item, line) in sale.items.iter().zip(1..) {
            lines.push(format!("item {name}.{line} {} {}", names.get(item.product_id), item.qty.normalize()));
        }
    }
    for movement in tables.rows.movements.values() {
        let (stock, qty) = (names.stock(movement.key), movement.qty_delta.normalize());
        lines.push(format!("move {stock} {qty} {} by {}", movement.kind, movement.event_id));
    }
    for (key, stock) in &tables.stock {
        lines.push(format!("stock {} {}", names.stock(*key), stock.normalize()));
    }
    lines.extend(debts(tables, &names));
    for (id, entry) in &tables.rows.ledger {
        lines.push(format!("entry {} by {}", names.get(*id), entry.event_id));
    }
    for (event, exception) in &tables.rows.exceptions {
        lines.push(match exception {
            Exception::Absorbed(by) => format!("{event} absorbed by {by}"),
            Exception::Waiting(id) => format!("{event} waits for {}", names.get(id.parse().expect("an id"))),
        });
    }
    lines.extend(tables.unread.iter().map(|(event, (status, reason))| format!("{event} {status}: {reason}")));
    lines.sort();
    lines
}

fn debts(tables: &Tables, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, debt) in &tables.rows.debts {
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
    for (id, paid) in &tables.rows.payments {
        let (id, debt) = (names.get(*id), names.get(paid.debt_id));
        lines.push(format!("pay {id} of {debt} {} by {}", paid.amount.normalize(), paid.event_id));
    }
    lines
}
