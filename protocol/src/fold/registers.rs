//! Products, customers and cash sessions: registers (rules 1 and 2).

use super::tables::{ConflictRow, CustomerRow, PriceVersion, ProductRow, SessionRow};
use super::{Said, Tables};
use crate::clock::VectorClock;
use crate::conflict::{PRICE, PRICE_FIELDS, PRICE_WINDOW, conflict_id};
use crate::payload::FieldWrites;
use crate::standing::Linked;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::Value;
use std::collections::BTreeMap;
use uuid::Uuid;

/// One write to one field.
#[derive(Clone, Copy)]
struct Version<'a> {
    /// JSON text.
    value: &'a str,
    event: &'a Linked,
    clock: &'a VectorClock,
}

/// An entity's fields, each with the versions that its register keeps, by Key: the last one is its value.
struct Entity<'a> {
    created_at: DateTime<Utc>,
    fields: BTreeMap<&'a str, Vec<Version<'a>>>,
}

/// "Any event of an entity makes its row."
fn entities<'a>(events: &[Said<'a, FieldWrites>]) -> BTreeMap<Uuid, Entity<'a>> {
    let mut entities: BTreeMap<Uuid, Entity<'a>> = BTreeMap::new();
    for Said { event, clock, says: writes } in events {
        // By Key, so the first event is the earliest.
        let created_at = event.key.created_at;
        let entity = entities
            .entry(writes.entity_id)
            .or_insert_with(|| Entity { created_at, fields: BTreeMap::new() });
        // "A key that is present writes (null too), an absent one does not."
        for (field, value) in &writes.fields {
            entity.fields.entry(field).or_default().push(Version { value, event, clock });
        }
    }
    for entity in entities.values_mut() {
        for versions in entity.fields.values_mut() {
            *versions = undominated(versions);
        }
    }
    entities
}

/// "A register keeps the versions that no other version dominates by Clock."
fn undominated<'a>(versions: &[Version<'a>]) -> Vec<Version<'a>> {
    // What dominates is mostly late: looked for from the end, it is found soon.
    let dominated =
        |version: &Version<'_>| versions.iter().rev().any(|other| version.clock.is_before(other.clock));
    versions.iter().filter(|version| !dominated(version)).copied().collect()
}

impl<'a> Entity<'a> {
    fn versions(&self, field: &str) -> &[Version<'a>] {
        self.fields.get(field).map_or(&[], Vec::as_slice)
    }

    /// "Its value is the version with the greatest Key."
    fn winner(&self, field: &str) -> Option<&Version<'a>> {
        self.versions(field).last()
    }

    fn value(&self, field: &str) -> Option<Value> {
        self.winner(field).and_then(|version| serde_json::from_str(version.value).ok())
    }

    fn text(&self, field: &str) -> Option<String> {
        Some(self.value(field)?.as_str()?.to_owned())
    }

    fn decimal(&self, field: &str) -> Option<Decimal> {
        self.value(field)?.as_str()?.parse().ok()
    }

    fn flag(&self, field: &str) -> Option<bool> {
        self.value(field)?.as_bool()
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        let all = self.fields.keys().filter_map(|field| {
            let value = self.winner(field)?.value;
            Some((field.strip_prefix("attributes.")?.to_owned(), value.to_owned()))
        });
        all.collect()
    }

    /// "updated_at = the greatest of its winners"
    fn updated_at(&self) -> DateTime<Utc> {
        let winners = self.fields.keys().filter_map(|field| self.winner(field));
        winners.map(|version| version.event.key.created_at).max().unwrap_or(self.created_at)
    }
}

pub(super) fn products(store_id: Uuid, events: &[Said<'_, FieldWrites>], tables: &mut Tables) {
    for (id, product) in entities(events) {
        let row = ProductRow {
            name: product.text("name"),
            category: product.text("category"),
            sku: product.text("sku"),
            barcode: product.text("barcode"),
            price: product.decimal("price"),
            price_bs: product.decimal("price_bs"),
            price_usd: product.decimal("price_usd"),
            cost_bs: product.decimal("cost_bs"),
            cost_usd: product.decimal("cost_usd"),
            track_inventory: product.flag("track_inventory"),
            is_active: product.flag("is_active"),
            low_stock_threshold: product.decimal("low_stock_threshold"),
            attributes: product.attributes(),
            created_at: product.created_at,
            updated_at: product.updated_at(),
        };
        tables.products.insert(id, row);
        if PRICE_FIELDS.iter().any(|field| is_open(&product, field)) {
            tables.conflicts.insert(conflict_id(store_id, id, PRICE), price_conflict(id, &product));
        }
    }
}

/// "Open for a person if the versions come from different devices within 15 minutes of each other (…, judged
/// against the present winner)." Versions with the winner's value contradict nobody.
fn is_open(product: &Entity<'_>, field: &str) -> bool {
    let Some(winner) = product.winner(field) else { return false };
    product.versions(field).iter().any(|version| {
        let (one, other) = (&version.event.key, &winner.event.key);
        version.value != winner.value
            && one.device_id != other.device_id
            && (other.created_at - one.created_at).abs() <= PRICE_WINDOW
    })
}

/// "One conflict a product's price, over both currencies."
fn price_conflict(entity_id: Uuid, product: &Entity<'_>) -> ConflictRow {
    let mut versions = BTreeMap::new();
    for field in PRICE_FIELDS {
        let all = product.versions(field);
        if all.iter().all(|version| version.value == all[0].value) {
            continue;
        }
        for version in all {
            let key = &version.event.key;
            let side = versions.entry(key).or_insert_with(|| PriceVersion {
                event_id: key.event_id.clone(),
                device_id: key.device_id.clone(),
                created_at: key.created_at,
                values: BTreeMap::new(),
            });
            side.values.insert(field.to_owned(), version.value.to_owned());
        }
    }
    let versions: Vec<PriceVersion> = versions.into_values().collect();
    let winner_event_id = versions.last().map(|side| side.event_id.clone()).unwrap_or_default();
    ConflictRow { entity_id, field: PRICE.to_owned(), winner_event_id, versions }
}

pub(super) fn customers(events: &[Said<'_, FieldWrites>], tables: &mut Tables) {
    for (id, customer) in entities(events) {
        let row = CustomerRow {
            name: customer.text("name"),
            document_id: customer.text("document_id"),
            phone: customer.text("phone"),
            email: customer.text("email"),
            address: customer.text("address"),
            credit_limit: customer.decimal("credit_limit"),
            notes: customer.text("notes"),
            created_at: customer.created_at,
            updated_at: customer.updated_at(),
        };
        tables.customers.insert(id, row);
    }
}

/// "Sessions: two, 'opened' and 'closed', each the whole event."
pub(super) fn sessions(events: &[Said<'_, FieldWrites>], tables: &mut Tables) {
    for (id, session) in entities(events) {
        let opened = Side::of(&session, "opened");
        let closed = Side::of(&session, "closed");
        let row = SessionRow {
            register_id: opened.text("register_id"),
            opened_at: opened.at(),
            opened_by: opened.by(),
            opening_amount: opened.decimal("amount"),
            opening_amount_bs: opened.decimal("amount_bs"),
            opening_amount_usd: opened.decimal("amount_usd"),
            closed_at: closed.at(),
            closed_by: closed.by(),
            closing_amount: closed.decimal("amount"),
            expected: closed.text("expected"),
            counted: closed.text("counted"),
            notes: closed.text("notes").or_else(|| opened.text("notes")),
            opened_event_id: opened.event_id(),
            closed_event_id: closed.event_id(),
        };
        tables.sessions.insert(id, row);
    }
}

/// The event that opened or closed a session, if there is one.
struct Side<'a> {
    event: Option<&'a Linked>,
    value: Value,
}

impl<'a> Side<'a> {
    fn of(session: &Entity<'a>, field: &str) -> Self {
        let event = session.winner(field).map(|version| version.event);
        Side { event, value: session.value(field).unwrap_or_default() }
    }

    fn text(&self, key: &str) -> Option<String> {
        Some(self.value.get(key)?.as_str()?.to_owned())
    }

    fn decimal(&self, key: &str) -> Option<Decimal> {
        self.value.get(key)?.as_str()?.parse().ok()
    }

    /// The payload's time, else the event's.
    fn at(&self) -> Option<DateTime<Utc>> {
        let stated = self.value.get("at").and_then(Value::as_str).and_then(|at| at.parse().ok());
        stated.or(self.event.map(|event| event.key.created_at))
    }

    fn by(&self) -> Option<String> {
        self.event.and_then(|event| event.actor.clone())
    }

    fn event_id(&self) -> Option<String> {
        self.event.map(|event| event.key.event_id.clone())
    }
}
