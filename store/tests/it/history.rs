//! Random histories over few ids, so that events meet in every way, and what their registers must show.

use crate::story::{self, Told};
use crate::tables::Tables;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rust_decimal::Decimal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use uuid::Uuid;
use velox_protocol::clock::{Key, VectorClock};
use velox_protocol::payload::{FieldWrites, Payload};
use velox_protocol::standing::Exception;

/// Most events of one history.
const MOST_EVENTS: usize = 22;

/// One store's events, as lines of a story.
#[derive(Clone)]
pub(crate) struct History(Vec<String>);

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\n")?;
        self.0.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

impl History {
    pub(crate) fn told(&self, store_id: Uuid) -> Vec<Told> {
        story::events(store_id, &self.0.join("\n"))
    }
}

/// Up to five tills and v1's node at up to six times.
pub(crate) fn histories() -> impl Strategy<Value = History> {
    let linked = prop_oneof![
        6 => r"sale S[1-3]( fiao=C1)?( usd=[48])?( bs=[48])?( req=r[1-3])?( env=r[1-3])?( at=W1)?( P[12](:V1)?x[1-3]){0,2}",
        2 => r"void S[1-3]( by=u[12])?( reason=[ab])?",
        4 => r"debt D[12]( sale=S[1-3])? (usd|bs|amount)=[1-8]( left=[1-4])?",
        4 => r"pay M[1-3] (D[12]|debt\(S[1-3]\)) (usd|bs|amount)=[1-5]( usd=[1-5])?( req=r[12])?( env=r[12])?",
        4 => r"entry (L[12]|S[1-3]) (sale|income)( sale=S[1-3])?( req=r[1-3])?( sreq=r[1-3])?",
        2 => r"receive (K[12]|-)( at=W1)? P[12]x[1-3]( P[12]x[1-3]){0,2}",
        1 => r"(adjust|delta) (K[12]|-) P[12]x-?[1-3]",
    ];
    let fields = prop_oneof![
        4 => r"(ProductCreated|ProductUpdated) P[12]( name=(a|b|null))?( price_usd=[1-3])?( colour=(red|null))?( patch\.name=[cd])?( is_active=(true|false))?",
        1 => r"ProductDeactivated P[12]",
        2 => r"PriceChanged P[12]( price_bs=[1-3])?( price_usd=(1|2|null))?",
        2 => r"(CustomerCreated|CustomerUpdated) C[12]( name=(a|b|null))?( credit_limit=[1-3])?( notes=[ab])?",
        2 => r"open X[12]( opening_amount=[1-3])?( note=[ab])?( by=u[12])?( opened_at=1970-01-0[1-3]T00:00:00Z)?",
        2 => r"close X[12]( closing_amount=[1-3])?( note=[ab])?( by=u[12])?",
    ];
    let unread = "(sale !none|sale S1 Pxmany|debt D1|Unheard P1|ProductUpdated P1 version=2)";
    let clock = "( seq=[0-3])?( clock=[abc]:[1-3](,[abc]:[1-3])?)?";
    let verb = prop_oneof![
        20 => (linked, Just(String::new())),
        9 => (fields, clock),
        1 => (unread, Just(String::new())),
    ];
    let place = "[1-6](/node|/a|/b|/c|/d|)";
    prop::collection::vec((place, verb), 0..MOST_EVENTS).prop_map(|lines| {
        let line = |(i, (place, (verb, clock))): (usize, (String, (String, String)))| {
            format!("e{i}@{place} {verb}{clock}")
        };
        History(lines.into_iter().enumerate().map(line).collect())
    })
}

/// Rule 1 word by word, a field a line: of the versions that no other one dominates, the one with the greatest key.
pub(crate) fn registers(told: &[Told]) -> Vec<String> {
    let mut entities: BTreeMap<String, Vec<(&Told, &FieldWrites)>> = BTreeMap::new();
    for event in told {
        let (kind, writes) = match &event.meaning {
            Some(Payload::Product(writes)) => ("product", writes),
            Some(Payload::Customer(writes)) => ("customer", writes),
            Some(Payload::Session(writes)) => ("session", writes),
            _ => continue,
        };
        entities.entry(format!("{kind} {}", writes.entity_id)).or_default().push((event, writes));
    }
    let mut lines = Vec::new();
    for (entity, writes) in &entities {
        let session = entity.starts_with("session");
        let mut updated = None;
        for (field, (key, value)) in winners(writes) {
            updated = updated.max(Some(key.created_at));
            match (session, shown(value)) {
                (true, _) => lines.push(format!("{entity} {field}_event_id {}", key.event_id)),
                (false, Some(value)) => lines.push(format!("{entity} {field} {value}")),
                (false, None) => {}
            }
        }
        let created = writes.iter().map(|(event, _)| event.event.created_at).min().expect("an event");
        if !session {
            lines.push(format!("{entity} created_at {}", created.timestamp_millis()));
            lines.push(format!("{entity} updated_at {}", updated.unwrap_or(created).timestamp_millis()));
        }
    }
    lines.sort();
    lines
}

fn winners<'a>(writes: &[(&'a Told, &'a FieldWrites)]) -> BTreeMap<&'a str, (Key, &'a str)> {
    let mut versions: BTreeMap<&str, Vec<(Key, VectorClock, &str)>> = BTreeMap::new();
    for (told, writes) in writes {
        let event = &told.event;
        let sent = event.vector_clock.clone().unwrap_or_default();
        let clock = sent.of_event(&event.device_id, event.seq, event.created_at);
        for (field, value) in &writes.fields {
            versions.entry(field).or_default().push((event.key(), clock.clone(), value));
        }
    }
    let winner = |versions: Vec<(Key, VectorClock, &'a str)>| {
        let stands = |clock: &VectorClock| !versions.iter().any(|(_, other, _)| clock.is_before(other));
        let standing = versions.iter().filter(|(_, clock, _)| stands(clock));
        let (key, _, value) = standing.max_by_key(|(key, ..)| key).expect("a finite order has maxima");
        (key.clone(), *value)
    };
    versions.into_iter().map(|(field, versions)| (field, winner(versions))).collect()
}

/// A register's JSON text as a column shows it.
fn shown(json: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json).expect("a register's value");
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.parse::<Decimal>().map_or(text, |d| d.normalize().to_string())),
        other => Some(other.to_string()),
    }
}

/// What the tables show of the registers, in the same lines.
pub(crate) fn shown_registers(tables: &Tables) -> Vec<String> {
    let mut lines = Vec::new();
    for (entity, row) in &tables.entities {
        let row: serde_json::Map<String, Value> = serde_json::from_str(row).expect("a row");
        let session = entity.starts_with("session");
        let attributes = row.get("attributes").and_then(Value::as_object).cloned().unwrap_or_default();
        let attributes = attributes.into_iter().map(|(key, value)| (format!("attributes.{key}"), value));
        let columns = row.into_iter().filter(|(column, _)| {
            let state = ["store_id", "id", "registers", "attributes"].contains(&column.as_str());
            !state && (!session || column.ends_with("_event_id"))
        });
        for (column, value) in columns.chain(attributes) {
            let value = match (&value, column.as_str()) {
                (Value::String(text), "created_at" | "updated_at") => {
                    let at: chrono::DateTime<chrono::Utc> = text.parse().expect("a time");
                    Some(at.timestamp_millis().to_string())
                }
                _ => shown(&value.to_string()),
            };
            // A number of a NUMERIC column and the digits of a register are written alike.
            let value = value.map(|v| v.parse::<Decimal>().map_or(v, |d| d.normalize().to_string()));
            lines.extend(value.map(|value| format!("{entity} {column} {value}")));
        }
    }
    lines.sort();
    lines
}

#[test]
fn the_random_histories_reach_every_rule() {
    let store = Uuid::from_u128(1);
    let mut runner = TestRunner::deterministic();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    for _ in 0..1_000 {
        let told = histories().new_tree(&mut runner).expect("a history").current().told(store);
        let linked: Vec<_> = told.iter().filter_map(Told::linked).collect();
        let tables = Tables::resolved(store, &linked);
        for event in &linked {
            let status = match tables.rows.exceptions.get(&event.key.event_id) {
                Some(Exception::Absorbed(_)) => "absorbed",
                Some(Exception::Waiting(_)) => "waiting",
                None => "standing",
            };
            let kind = match &event.payload {
                Payload::Sale(_) => "sale",
                Payload::Void(_) => "void",
                Payload::Debt(_) => "debt",
                Payload::Payment(_) => "payment",
                Payload::Ledger(_) => "entry",
                _ => "movement",
            };
            reached.insert(format!("{status} {kind}"));
        }
        for debt in tables.rows.debts.values() {
            let kind = if debt.derived { "derived" } else { "stated" };
            reached.insert(format!("{kind} debt {}", debt.status.name()));
            reached.extend((debt.overpaid_amount > Decimal::ZERO).then(|| "overpaid debt".to_owned()));
        }
        let negative = tables.stock.values().any(|stock| *stock < Decimal::ZERO);
        reached.extend(negative.then(|| "negative stock".to_owned()));
        reached.extend(told.iter().any(|event| event.meaning.is_none()).then(|| "unread event".to_owned()));
    }
    let kinds = ["sale", "void", "debt", "payment", "entry", "movement"];
    let mut all: BTreeSet<String> =
        kinds.iter().flat_map(|kind| [format!("standing {kind}"), format!("absorbed {kind}")]).collect();
    for debt in ["derived", "stated"] {
        all.extend(["pending", "partial", "paid", "cancelled"].map(|status| format!("{debt} debt {status}")));
    }
    let rest = ["waiting void", "waiting payment", "overpaid debt", "negative stock", "unread event"];
    all.extend(rest.map(str::to_owned));
    assert_eq!(reached, all);
}
