//! The decision of a concurrent edit (01, rule 2): what the event says that dominates all present versions.
//!
//! It dominates by its clock alone, so that it needs no rule of its own: tills and nodes of v1 follow it too, and it
//! can be decided again. Never here: who may decide, or the seq of the event.

use crate::clock::VectorClock;
use crate::conflict::{self, Conflict, PRICE, PRICE_FIELDS, Version};
use crate::crdt::register::{Registers, Stamp};
use crate::decimal::{self, Column};
use crate::json::{Json, Member};
use serde_json::json;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Why an event of the node changes a field; for whoever reads the log.
const REASON: &str = "conflict resolved";
/// What begins the name of a field that has no column.
const ATTRIBUTE: &str = "attributes.";

/// What is edited by fields of its own, so that one of them can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    /// A product.
    Product,
    /// A customer.
    Customer,
}

impl Edited {
    /// By the `entity_type` of a conflict; `None`: it is not decided field by field.
    pub fn of(entity_type: &str) -> Option<Self> {
        match entity_type {
            "product" => Some(Edited::Product),
            "customer" => Some(Edited::Customer),
            _ => None,
        }
    }
}

/// What a decision is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Of which kind.
    pub edited: Edited,
    /// The product or customer.
    pub entity_id: Uuid,
    /// The conflict's field; [`PRICE`] of a product stands for all currencies.
    pub field: String,
}

/// The node's event before it has an id, a time and a seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// PriceChanged, ProductUpdated or CustomerUpdated.
    pub event_type: &'static str,
    /// The payload, as JSON text.
    pub payload: String,
    /// The merge of what it decides; the node's own entry is still to be added.
    pub clock: VectorClock,
}

impl Subject {
    /// The concurrent edit of this field, if there still is one.
    pub fn conflict(&self, registers: &Registers) -> Option<Conflict> {
        if self.is_price() {
            return conflict::price(registers);
        }
        conflict::conflicts(registers).into_iter().find(|conflict| conflict.field == self.field)
    }

    /// The decision for `chosen`, an object of the conflict's fields. A currency that has versions and is not chosen
    /// keeps its present value, so that nothing of the price stays in conflict.
    ///
    /// # Errors
    /// What is wrong with `chosen`, for a person. The kinds of other fields than prices are left to the reader of
    /// payloads.
    pub fn resolve(
        &self,
        registers: &Registers,
        chosen: &Json<'_>,
        conflict_id: Uuid,
        resolved_by: &str,
    ) -> Result<Resolution, String> {
        let mut values = self.chosen(chosen)?;
        let mut clock = VectorClock::default();
        let mut resolves: BTreeMap<&str, &Stamp> = BTreeMap::new();
        for field in self.fields() {
            for (_, stamp) in registers.versions(field) {
                clock.merge(&stamp.clock);
                resolves.insert(&stamp.key.event_id, stamp);
            }
            if let Some((value, _)) = registers.value(field)
                && !values.contains_key(field)
            {
                values.insert(field.to_owned(), price_text(field, &parsed(value)?)?);
            }
        }
        let resolves: Vec<&str> = resolves.into_keys().collect();
        let mut metadata =
            json!({ "resolves": resolves, "conflict_id": conflict_id, "resolved_by": resolved_by });
        let (id, event_type) = match self.edited {
            Edited::Product if self.is_price() => ("product_id", "PriceChanged"),
            Edited::Product => ("product_id", "ProductUpdated"),
            Edited::Customer => ("customer_id", "CustomerUpdated"),
        };
        let mut members = vec![format!(r#""{id}":"{}""#, self.entity_id)];
        for (field, value) in values {
            let key = field.strip_prefix(ATTRIBUTE).unwrap_or(&field);
            members.push(format!("{}:{value}", json!(key)));
        }
        if event_type == "PriceChanged" {
            members.push(format!(r#""reason":"{REASON}""#));
        } else {
            // Beside the fields of a product it would be one of them.
            metadata["reason"] = json!(REASON);
        }
        members.push(format!(r#""metadata":{metadata}"#));
        Ok(Resolution { event_type, payload: format!("{{{}}}", members.join(",")), clock })
    }

    fn is_price(&self) -> bool {
        self.edited == Edited::Product && self.field == PRICE
    }

    fn fields(&self) -> Vec<&str> {
        if self.is_price() { PRICE_FIELDS.to_vec() } else { vec![&self.field] }
    }

    /// Field -> value as JSON text, as the payload will have it.
    fn chosen(&self, chosen: &Json<'_>) -> Result<BTreeMap<String, String>, String> {
        let members = chosen.as_object().ok_or("value is no object")?;
        if members.is_empty() {
            return Err("value names no field".to_owned());
        }
        let fields = self.fields();
        let read = |member: &Member<'_>| {
            let field = member.key.as_ref();
            if !fields.contains(&field) {
                return Err(format!(
                    "value names a field that is not of this conflict, which is over {}",
                    self.field
                ));
            }
            let text =
                if self.is_price() { price_text(field, &member.value)? } else { member.raw.to_owned() };
            Ok((field.to_owned(), text))
        };
        members.iter().map(read).collect()
    }
}

/// A price as a JSON number: v1's tills calculate with it. `null` where there is none.
fn price_text(field: &str, value: &Json<'_>) -> Result<String, String> {
    if value.is_blank() {
        return Ok("null".to_owned());
    }
    let price = decimal::read(value, Column::Price).map_err(|what| format!("{field} {what}"))?;
    Ok(Column::Price.round(price).normalize().to_string())
}

fn parsed(value: &str) -> Result<Json<'_>, String> {
    Json::parse(value).map_err(|error| error.to_string())
}

/// Whose version is kept, as v1's tills put it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `keep_mine`
    Mine,
    /// `take_theirs`
    Theirs,
}

impl Conflict {
    /// The version that a till means. Its own is the one of `device` with the greatest key, else the event `last`,
    /// which arrived last; the other side's is the one with the greatest key of all others.
    pub fn side(&self, side: Side, device: Option<&str>, last: Option<&str>) -> &Version {
        let newest = |is_wanted: &dyn Fn(&Version) -> bool| self.versions.iter().rev().find(|v| is_wanted(v));
        let own = newest(&|version| Some(version.stamp.key.device_id.as_str()) == device)
            .or_else(|| newest(&|version| Some(version.stamp.key.event_id.as_str()) == last));
        let mine = own.unwrap_or_else(|| self.winner());
        match side {
            Side::Mine => mine,
            Side::Theirs => newest(&|version| version != mine).unwrap_or(mine),
        }
    }
}

impl Version {
    /// The values as the JSON text of an object, to choose them.
    pub fn values_text(&self) -> String {
        let members: Vec<String> =
            self.values.iter().map(|(field, value)| format!("{}:{value}", json!(field))).collect();
        format!("{{{}}}", members.join(","))
    }
}

#[cfg(test)]
#[path = "resolution_tests.rs"]
mod tests;
