//! Concurrent edits of one field (01, rules 1 and 2): which are there, and which of them a person has to decide.
//!
//! A pure function of an entity's registers, so that all nodes with the same events see the same conflicts.

use crate::crdt::register::{Registers, Stamp};
use chrono::Duration;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Prices that come from different devices within this time of each other are decided by a person.
pub const PRICE_WINDOW: Duration = Duration::minutes(15);
/// The registers of a product's price: one a currency, one conflict over all.
pub const PRICE_FIELDS: [&str; 3] = ["price", "price_bs", "price_usd"];
/// The field of a price conflict.
pub const PRICE: &str = "price";

/// A conflict's id: the same on all nodes.
pub fn conflict_id(store_id: Uuid, entity_id: Uuid, field: &str) -> Uuid {
    Uuid::new_v5(&store_id, format!("conflict:{entity_id}:{field}").as_bytes())
}

/// One side of a conflict: an event and what it says of the fields in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Whose it is.
    pub stamp: Stamp,
    /// Field -> value, as JSON text.
    pub values: BTreeMap<String, String>,
}

/// A concurrent edit: versions with different values, none of which dominates another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The field; [`PRICE`] stands for all currencies.
    pub field: String,
    /// By key; the last one is the present winner.
    pub versions: Vec<Version>,
    /// Whether a person has to decide; else the last writer has won.
    pub is_open: bool,
}

impl Conflict {
    /// The version with the greatest key.
    pub fn winner(&self) -> &Version {
        // A conflict has at least two versions.
        &self.versions[self.versions.len() - 1]
    }

    /// All but the winner, by key.
    pub fn losers(&self) -> &[Version] {
        &self.versions[..self.versions.len() - 1]
    }
}

/// The concurrent edits of a product or customer, by field; those of a product's prices as one.
pub fn conflicts(registers: &Registers) -> Vec<Conflict> {
    let mut found = Vec::new();
    for field in registers.fields().filter(|field| !PRICE_FIELDS.contains(field)) {
        found.extend(concurrent(registers, field, &[field]));
    }
    found.extend(price(registers));
    found
}

/// The concurrent edit of a product's price, if there is one.
pub fn price(registers: &Registers) -> Option<Conflict> {
    let mut conflict = concurrent(registers, PRICE, &PRICE_FIELDS)?;
    conflict.is_open = PRICE_FIELDS.iter().any(|field| {
        let Some((value, winner)) = registers.value(field) else { return false };
        registers.versions(field).any(|(other, stamp)| {
            let apart = (stamp.key.created_at - winner.key.created_at).abs();
            other != value && stamp.key.device_id != winner.key.device_id && apart <= PRICE_WINDOW
        })
    });
    Some(conflict)
}

/// The versions of those fields whose values differ.
fn concurrent(registers: &Registers, name: &str, fields: &[&str]) -> Option<Conflict> {
    let mut versions: BTreeMap<_, Version> = BTreeMap::new();
    for field in fields {
        let mut values = registers.versions(field).map(|(value, _)| value);
        let first = values.next();
        if values.all(|value| Some(value) == first) {
            continue;
        }
        for (value, stamp) in registers.versions(field) {
            let version = versions
                .entry(&stamp.key)
                .or_insert_with(|| Version { stamp: stamp.clone(), values: BTreeMap::new() });
            version.values.insert((*field).to_owned(), value.to_owned());
        }
    }
    let versions: Vec<Version> = versions.into_values().collect();
    (!versions.is_empty()).then(|| Conflict { field: name.to_owned(), versions, is_open: false })
}

#[cfg(test)]
#[path = "conflict_tests.rs"]
mod tests;
