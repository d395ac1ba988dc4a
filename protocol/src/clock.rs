//! Vector clocks and keys: what an event knew of the others, and the total order beside it.

use crate::json::Json;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Largest counter that is kept: 2^53, beyond which JavaScript cannot count.
pub const MAX_COUNTER: i64 = 1 << 53;

/// Device -> counter. An absent device counts 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VectorClock(pub BTreeMap<String, i64>);

impl VectorClock {
    /// The entries that are integers 0..=2^53; the others are left out.
    pub fn read(value: &Json<'_>) -> Self {
        let entries = value.as_object().unwrap_or_default().iter();
        VectorClock(
            entries
                .filter_map(|m| {
                    let counter = m.value.as_i64().filter(|n| (0..=MAX_COUNTER).contains(n))?;
                    Some((m.key.to_string(), counter))
                })
                .collect(),
        )
    }

    /// C(e): the sent entries with the device's own replaced by `seq` if that is at least 1, else the sent
    /// one, else the time in milliseconds.
    pub fn of_event(&self, device: &str, seq: Option<i64>, created_at: DateTime<Utc>) -> Self {
        let mut clock = self.clone();
        match seq {
            Some(seq) if seq >= 1 => {
                clock.0.insert(device.to_owned(), seq);
            }
            _ => {
                clock.0.entry(device.to_owned()).or_insert_with(|| created_at.timestamp_millis().max(0));
            }
        }
        clock
    }

    /// Takes over what `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        for (device, counter) in &other.0 {
            let mine = self.0.entry(device.clone()).or_default();
            *mine = (*mine).max(*counter);
        }
    }

    /// Whether `self < other`: entrywise at most, and not equal. A strict partial order.
    pub fn is_before(&self, other: &Self) -> bool {
        let count = |clock: &Self, device: &String| clock.0.get(device).copied().unwrap_or(0);
        let at_most = self.0.iter().all(|(device, counter)| *counter <= count(other, device));
        at_most && other.0.iter().any(|(device, counter)| *counter > count(self, device))
    }

    /// `dev:n|dev:n`, sorted: what `causal_digest` is the SHA-256 of.
    pub fn digest_text(&self) -> String {
        let mut entries: Vec<String> = self.0.iter().map(|(device, n)| format!("{device}:{n}")).collect();
        // By the entry, not by the device: one id may be the beginning of another.
        entries.sort_unstable();
        entries.join("|")
    }
}

/// The total order of events: `(created_at, device_id, event_id)`, texts bytewise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The device's time.
    pub created_at: DateTime<Utc>,
    /// The writing device.
    pub device_id: String,
    /// The event.
    pub event_id: String,
}

impl Key {
    /// Order without cloning.
    pub fn order(a: (DateTime<Utc>, &str, &str), b: (DateTime<Utc>, &str, &str)) -> Ordering {
        a.cmp(&b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(text: &str) -> VectorClock {
        VectorClock::read(&Json::parse(text).expect("JSON"))
    }

    #[test]
    fn only_sound_counters_are_kept() {
        assert_eq!(
            clock(r#"{"a":1,"b":-1,"c":9007199254740992,"d":9007199254740993,"e":"1","f":1.5,"g":0}"#),
            clock(r#"{"a":1,"c":9007199254740992,"g":0}"#)
        );
    }

    #[test]
    fn seq_replaces_the_own_entry() {
        let at = DateTime::from_timestamp_millis(77).expect("time");
        let sent = clock(r#"{"till":5,"other":2}"#);
        assert_eq!(sent.of_event("till", Some(9), at), clock(r#"{"till":9,"other":2}"#));
        assert_eq!(sent.of_event("till", Some(0), at), sent);
        assert_eq!(VectorClock::default().of_event("till", None, at), clock(r#"{"till":77}"#));
    }

    #[test]
    fn the_digest_is_of_sorted_entries() {
        assert_eq!(clock(r#"{"a":2,"a0":1,"b":3}"#).digest_text(), "a0:1|a:2|b:3");
    }

    #[test]
    fn before_is_a_strict_partial_order() {
        assert!(clock(r#"{"a":1}"#).is_before(&clock(r#"{"a":1,"b":1}"#)));
        assert!(!clock(r#"{"a":1}"#).is_before(&clock(r#"{"a":1}"#)));
        assert!(!clock(r#"{"a":2}"#).is_before(&clock(r#"{"a":1,"b":1}"#)));
        assert!(!clock(r#"{"a":0}"#).is_before(&clock("{}")));
    }
}
