//! Registers (01, rule 1): the fields of an entity, each with the versions that no other one dominates.
//!
//! Never only the winner of pairwise comparisons: "clock first, then time" is not transitive, and the result
//! would depend on the order of arrival. Never here: which event writes which field.

mod packed;

use crate::clock::{Key, VectorClock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An event's place in the total order and what it had seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The total order.
    pub key: Key,
    /// C(e).
    pub clock: VectorClock,
}

/// The registers of one entity. Serialises without repeating a device's or an event's id, so that an entity that
/// many tills edit stays a small row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "packed::Packed", try_from = "packed::Stored")]
pub struct Registers {
    /// Event id -> stamp, of the events that have a version in some field.
    stamps: BTreeMap<String, Stamp>,
    /// Field -> its versions: event id -> value as JSON text.
    fields: BTreeMap<String, BTreeMap<String, String>>,
}

impl Registers {
    /// Merges one event's writes. Commutative, associative and idempotent; linear in the versions of the fields.
    pub fn write(&mut self, stamp: &Stamp, writes: &[(String, String)]) {
        let event_id = &stamp.key.event_id;
        let mut lost = false;
        for (field, value) in writes {
            let versions = self.fields.entry(field.clone()).or_default();
            let dominated = versions.keys().any(|other| stamp.clock.is_before(&self.stamps[other].clock));
            if dominated {
                continue;
            }
            let before = versions.len();
            versions.retain(|other, _| !self.stamps[other].clock.is_before(&stamp.clock));
            lost |= versions.len() < before;
            versions.insert(event_id.clone(), value.clone());
            self.stamps.entry(event_id.clone()).or_insert_with(|| stamp.clone());
        }
        if lost {
            let fields = &self.fields;
            self.stamps.retain(|event, _| fields.values().any(|versions| versions.contains_key(event)));
        }
    }

    /// A field's value: of the version with the greatest key.
    pub fn value(&self, field: &str) -> Option<(&str, &Stamp)> {
        self.versions(field).max_by_key(|(_, stamp)| &stamp.key)
    }

    /// The versions of a field that no other one dominates: value as JSON text, and whose it is.
    pub fn versions(&self, field: &str) -> impl Iterator<Item = (&str, &Stamp)> {
        let versions = self.fields.get(field).into_iter().flatten();
        versions.map(|(event, value)| (value.as_str(), &self.stamps[event]))
    }

    /// The names of all fields that were ever written.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;
    use chrono::DateTime;

    fn stamp(event: &str, ms: i64, clock: &str) -> Stamp {
        Stamp {
            key: Key {
                created_at: DateTime::from_timestamp_millis(ms).expect("time"),
                device_id: "till".to_owned(),
                event_id: event.to_owned(),
            },
            clock: VectorClock::read(&Json::parse(clock).expect("JSON")),
        }
    }

    fn merged(order: &[usize], events: &[(Stamp, &str)]) -> Registers {
        let mut registers = Registers::default();
        for i in order {
            let (stamp, value) = &events[*i];
            registers.write(stamp, &[("price".to_owned(), (*value).to_owned())]);
        }
        registers
    }

    #[test]
    fn three_versions_whose_pairwise_order_is_a_cycle_converge() {
        // b knows a but carries an older time; c is concurrent to both and lies between them in time.
        let events = [
            (stamp("a", 300, r#"{"x":1}"#), "1"),
            (stamp("b", 100, r#"{"x":2}"#), "2"),
            (stamp("c", 200, r#"{"y":1}"#), "3"),
        ];
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let first = merged(&orders[0], &events);
        assert_eq!(first.value("price").expect("written").0, "3");
        for order in &orders {
            assert_eq!(merged(order, &events), first);
        }
        assert_eq!(merged(&[2, 2, 1, 0, 1], &events), first);
    }
}
