//! The little language of the histories: from text to events, as a push would bring them, and from rows to text.
//! For tests alone (feature `testing`): a text that it does not understand is a panic.
//!
//! A history has one event a line: `name@ms/device verb id …`; the device may be left out, `/node` is v1's
//! pseudo-device. The same name on two lines makes two forms of one event. A verb is one of [`VERBS`] or a type.
//!
//! - Capitalised words are ids, `debt(S1)` is the debt that the sale S1 makes by itself, `-` stands for no id,
//!   `!x` for the text `x` in the place of an id.
//! - Of the envelope: `seq=1`, `clock=a:1,b:2`, `env=` (its request id), `by=` (who acts), `version=2`.
//! - Items: `P1x2`, of a variant `P1:V1x2`, weighed `P1~0.755`. A stock event's only item stands flat, unless the
//!   word `listed` is there.
//! - Ids by name: `sale=S1`, `session=`, `customer=`, `at=` (the warehouse, of a declared store the default one),
//!   `fiao=C1` (on credit, the customer).
//! - Others: `usd=` and `bs=` (of the total or the amount), `left=` (the remaining amount), `req=` (the payload's
//!   request id), `sreq=` (`metadata.sale_request_id`). Every other `key=value` is a text in the payload, but for
//!   `true`, `false` and `null`; `object.key=value` stands in an object.
//!
//! Rows are shown as [`lines`] says.

mod rows;
mod table;

pub use rows::lines;
pub use table::{History, histories};

use crate::V1_NODE_DEVICE;
use crate::event::{self, Event, Sender};
use crate::payload::{Payload, derived_debt_id};
use chrono::DateTime;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Short names of types: verb, key of the entity's own id, type.
pub const VERBS: [(&str, &str, &str); 12] = [
    ("sale", "sale_id", "SaleCreated"),
    ("void", "sale_id", "SaleVoided"),
    ("debt", "debt_id", "DebtCreated"),
    ("pay", "payment_id", "DebtPaymentRecorded"),
    ("entry", "entry_id", "CashLedgerEntryCreated"),
    ("receive", "movement_id", "StockReceived"),
    ("adjust", "movement_id", "StockAdjusted"),
    ("delta", "movement_id", "StockDeltaApplied"),
    ("open", "session_id", "CashSessionOpened"),
    ("close", "session_id", "CashSessionClosed"),
    ("declare", "store_id", "StoreDeclared"),
    ("series", "series_id", "FiscalSeriesDeclared"),
];

/// An event at the door, and what its payload means if it means anything.
#[derive(Debug, Clone)]
pub struct Told {
    /// As it is stored.
    pub event: Event,
    /// As it is projected.
    pub meaning: Option<Payload>,
}

impl Told {
    /// Reads the text of one element of a push.
    pub fn read(store_id: Uuid, device_id: &str, text: &str) -> Self {
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
}

/// What a word of a history in one store stands for.
pub fn id(store_id: Uuid, name: &str) -> Uuid {
    match name.strip_prefix("debt(").and_then(|rest| rest.strip_suffix(')')) {
        Some(sale) => derived_debt_id(store_id, id(store_id, sale)),
        None => Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
    }
}

/// Reads a history; empty lines are passed over.
pub fn events(store_id: Uuid, history: &str) -> Vec<Told> {
    let lines = history.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| event(store_id, line)).collect()
}

fn event(store_id: Uuid, line: &str) -> Told {
    let mut words = line.split_whitespace();
    let (name, place) = words.next().and_then(|word| word.split_once('@')).expect(line);
    let (ms, device) = place.split_once('/').unwrap_or((place, "till"));
    let verb = words.next().expect(line);
    let (own, event_type) = kind(verb);
    let mut envelope = Map::from_iter([
        ("event_id".to_owned(), json!(name)),
        ("created_at".to_owned(), json!(ms.parse::<i64>().expect(line))),
        ("type".to_owned(), json!(event_type)),
    ]);
    let mut story = Words { store_id, verb, fields: Map::new(), items: Vec::new(), listed: verb == "sale" };
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
    match VERBS.iter().find(|(short, ..)| *short == verb) {
        Some((_, own, event_type)) => (own, event_type),
        None if verb.starts_with("Customer") => ("customer_id", verb),
        None => ("product_id", verb),
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
    listed: bool,
}

impl Words<'_> {
    fn id(&self, name: &str) -> Value {
        json!(id(self.store_id, name))
    }

    fn word(&mut self, word: &str) {
        match (self.verb, word) {
            (_, "fiao") => drop(self.fields.insert("payment_method".into(), "FIAO".into())),
            (_, "listed") => self.listed = true,
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
            ("declare", "at") => ("default_warehouse_id".to_owned(), named),
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

    fn payload(mut self) -> Value {
        if self.listed || self.items.len() > 1 {
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
