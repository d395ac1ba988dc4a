//! Products, customers and cash sessions: one read and one write a table for a whole batch.

use super::audit::Audit;
use super::entities::{Batch, EntityKey, Kind, Merged, State, States, Stored, merge};
use crate::Error;
use crate::outbox::Entry;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;
use velox_protocol::crdt::register::Registers;
use velox_protocol::payload::{FieldWrites, LinkKind, Payload};

/// The three kinds.
const PRODUCT: Kind = Kind {
    link: LinkKind::Product,
    name: "product",
    writes: |_, payload| if let Payload::Product(writes) = payload { Some(writes) } else { None },
};
const CUSTOMER: Kind = Kind {
    link: LinkKind::Customer,
    name: "customer",
    writes: |_, payload| if let Payload::Customer(writes) = payload { Some(writes) } else { None },
};
const SESSION: Kind = Kind {
    link: LinkKind::Session,
    name: "cash_session",
    // A session's register is the whole event: who acted belongs to it.
    writes: |entry, payload| {
        if let Payload::Session(writes) = payload { Some(signed(entry, &writes)) } else { None }
    },
};

pub(super) async fn products(
    connection: &mut PgConnection,
    batch: &Batch,
    audit: &mut Audit,
) -> Result<(), Error> {
    let (stores, ids): (Vec<Uuid>, Vec<Uuid>) = batch.keys().into_iter().unzip();
    let stored = sqlx::query_as!(
        Stored,
        r#"SELECT p.store_id, p.id, p.created_at, p.registers AS "registers: Json<Registers>"
           FROM unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
           JOIN products p USING (store_id, id)"#,
        &stores,
        &ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let Merged { states, gone } = merge(connection, PRODUCT, batch, stored, audit).await?;
    if let Some((stores, ids)) = columns(gone) {
        sqlx::query!(
            "DELETE FROM products t USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
             WHERE t.store_id = k.store_id AND t.id = k.id",
            &stores,
            &ids
        )
        .execute(&mut *connection)
        .await?;
    }
    let rows = Rows(&states);
    sqlx::query!(
        "INSERT INTO products (store_id, id, name, category, sku, barcode, price, price_bs, price_usd, cost_bs,
             cost_usd, track_inventory, is_active, low_stock_threshold, attributes, created_at, updated_at, registers)
         SELECT store_id, id, name, category, sku, barcode, price, price_bs, price_usd, cost_bs, cost_usd,
             track_inventory, is_active, threshold, attributes::json, created_at, updated_at, registers::json
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::numeric[],
             $8::numeric[], $9::numeric[], $10::numeric[], $11::numeric[], $12::bool[], $13::bool[], $14::numeric[],
             $15::text[], $16::timestamptz[], $17::timestamptz[], $18::text[])
             AS n(store_id, id, name, category, sku, barcode, price, price_bs, price_usd, cost_bs, cost_usd,
                 track_inventory, is_active, threshold, attributes, created_at, updated_at, registers)
         ON CONFLICT (store_id, id) DO UPDATE SET name = EXCLUDED.name, category = EXCLUDED.category,
             sku = EXCLUDED.sku, barcode = EXCLUDED.barcode, price = EXCLUDED.price, price_bs = EXCLUDED.price_bs,
             price_usd = EXCLUDED.price_usd, cost_bs = EXCLUDED.cost_bs, cost_usd = EXCLUDED.cost_usd,
             track_inventory = EXCLUDED.track_inventory, is_active = EXCLUDED.is_active,
             low_stock_threshold = EXCLUDED.low_stock_threshold, attributes = EXCLUDED.attributes,
             created_at = EXCLUDED.created_at, updated_at = EXCLUDED.updated_at, registers = EXCLUDED.registers",
        &rows.stores(),
        &rows.ids(),
        &rows.texts("name") as &[Option<String>],
        &rows.texts("category") as &[Option<String>],
        &rows.texts("sku") as &[Option<String>],
        &rows.texts("barcode") as &[Option<String>],
        &rows.decimals("price") as &[Option<Decimal>],
        &rows.decimals("price_bs") as &[Option<Decimal>],
        &rows.decimals("price_usd") as &[Option<Decimal>],
        &rows.decimals("cost_bs") as &[Option<Decimal>],
        &rows.decimals("cost_usd") as &[Option<Decimal>],
        &rows.flags("track_inventory") as &[Option<bool>],
        &rows.flags("is_active") as &[Option<bool>],
        &rows.decimals("low_stock_threshold") as &[Option<Decimal>],
        &rows.attributes(),
        &rows.created_at(),
        &rows.updated_at(),
        &rows.registers()
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn customers(
    connection: &mut PgConnection,
    batch: &Batch,
    audit: &mut Audit,
) -> Result<(), Error> {
    let (stores, ids): (Vec<Uuid>, Vec<Uuid>) = batch.keys().into_iter().unzip();
    let stored = sqlx::query_as!(
        Stored,
        r#"SELECT c.store_id, c.id, c.created_at, c.registers AS "registers: Json<Registers>"
           FROM unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
           JOIN customers c USING (store_id, id)"#,
        &stores,
        &ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let Merged { states, gone } = merge(connection, CUSTOMER, batch, stored, audit).await?;
    if let Some((stores, ids)) = columns(gone) {
        sqlx::query!(
            "DELETE FROM customers t USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
             WHERE t.store_id = k.store_id AND t.id = k.id",
            &stores,
            &ids
        )
        .execute(&mut *connection)
        .await?;
    }
    let rows = Rows(&states);
    sqlx::query!(
        "INSERT INTO customers (store_id, id, name, document_id, phone, email, address, credit_limit, notes,
             created_at, updated_at, registers)
         SELECT store_id, id, name, document_id, phone, email, address, credit_limit, notes, created_at, updated_at,
             registers::json
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
             $8::numeric[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::text[])
             AS n(store_id, id, name, document_id, phone, email, address, credit_limit, notes, created_at, updated_at,
                 registers)
         ON CONFLICT (store_id, id) DO UPDATE SET name = EXCLUDED.name, document_id = EXCLUDED.document_id,
             phone = EXCLUDED.phone, email = EXCLUDED.email, address = EXCLUDED.address,
             credit_limit = EXCLUDED.credit_limit, notes = EXCLUDED.notes, created_at = EXCLUDED.created_at,
             updated_at = EXCLUDED.updated_at, registers = EXCLUDED.registers",
        &rows.stores(),
        &rows.ids(),
        &rows.texts("name") as &[Option<String>],
        &rows.texts("document_id") as &[Option<String>],
        &rows.texts("phone") as &[Option<String>],
        &rows.texts("email") as &[Option<String>],
        &rows.texts("address") as &[Option<String>],
        &rows.decimals("credit_limit") as &[Option<Decimal>],
        &rows.texts("notes") as &[Option<String>],
        &rows.created_at(),
        &rows.updated_at(),
        &rows.registers()
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn sessions(
    connection: &mut PgConnection,
    batch: &Batch,
    audit: &mut Audit,
) -> Result<(), Error> {
    let (stores, ids): (Vec<Uuid>, Vec<Uuid>) = batch.keys().into_iter().unzip();
    let stored = sqlx::query_as!(
        Stored,
        r#"SELECT s.store_id, s.id, NULL::timestamptz AS created_at, s.registers AS "registers: Json<Registers>"
           FROM unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
           JOIN cash_sessions s USING (store_id, id)"#,
        &stores,
        &ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let Merged { states, gone } = merge(connection, SESSION, batch, stored, audit).await?;
    if let Some((stores, ids)) = columns(gone) {
        sqlx::query!(
            "DELETE FROM cash_sessions t USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
             WHERE t.store_id = k.store_id AND t.id = k.id",
            &stores,
            &ids
        )
        .execute(&mut *connection)
        .await?;
    }
    let rows = Rows(&states);
    let side = |field: &str| -> Vec<Side> { rows.each(|state| Side::of(&state.registers, field)) };
    let (opened, closed) = (side("opened"), side("closed"));
    let note = |(open, close): (&Side, &Side)| close.text("notes").or_else(|| open.text("notes"));
    let notes: Vec<Option<String>> = opened.iter().zip(&closed).map(note).collect();
    sqlx::query!(
        "INSERT INTO cash_sessions (store_id, id, register_id, opened_at, opened_by, opening_amount,
             opening_amount_bs, opening_amount_usd, closed_at, closed_by, closing_amount, expected, counted, notes,
             opened_event_id, closed_event_id, registers)
         SELECT store_id, id, register_id, opened_at, opened_by, amount, amount_bs, amount_usd, closed_at, closed_by,
             closing_amount, expected::json, counted::json, notes, opened_event_id, closed_event_id, registers::json
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::numeric[], $7::numeric[],
             $8::numeric[], $9::timestamptz[], $10::text[], $11::numeric[], $12::text[], $13::text[], $14::text[],
             $15::text[], $16::text[], $17::text[])
             AS n(store_id, id, register_id, opened_at, opened_by, amount, amount_bs, amount_usd, closed_at, closed_by,
                 closing_amount, expected, counted, notes, opened_event_id, closed_event_id, registers)
         ON CONFLICT (store_id, id) DO UPDATE SET register_id = EXCLUDED.register_id, opened_at = EXCLUDED.opened_at,
             opened_by = EXCLUDED.opened_by, opening_amount = EXCLUDED.opening_amount,
             opening_amount_bs = EXCLUDED.opening_amount_bs, opening_amount_usd = EXCLUDED.opening_amount_usd,
             closed_at = EXCLUDED.closed_at, closed_by = EXCLUDED.closed_by, closing_amount = EXCLUDED.closing_amount,
             expected = EXCLUDED.expected, counted = EXCLUDED.counted, notes = EXCLUDED.notes,
             opened_event_id = EXCLUDED.opened_event_id, closed_event_id = EXCLUDED.closed_event_id,
             registers = EXCLUDED.registers",
        &rows.stores(),
        &rows.ids(),
        &opened.iter().map(|side| side.text("register_id")).collect::<Vec<_>>() as &[Option<String>],
        &opened.iter().map(Side::at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &opened.iter().map(|side| side.text("by")).collect::<Vec<_>>() as &[Option<String>],
        &opened.iter().map(|side| side.decimal("amount")).collect::<Vec<_>>() as &[Option<Decimal>],
        &opened.iter().map(|side| side.decimal("amount_bs")).collect::<Vec<_>>() as &[Option<Decimal>],
        &opened.iter().map(|side| side.decimal("amount_usd")).collect::<Vec<_>>() as &[Option<Decimal>],
        &closed.iter().map(Side::at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &closed.iter().map(|side| side.text("by")).collect::<Vec<_>>() as &[Option<String>],
        &closed.iter().map(|side| side.decimal("amount")).collect::<Vec<_>>() as &[Option<Decimal>],
        &closed.iter().map(|side| side.text("expected")).collect::<Vec<_>>() as &[Option<String>],
        &closed.iter().map(|side| side.text("counted")).collect::<Vec<_>>() as &[Option<String>],
        &notes as &[Option<String>],
        &opened.iter().map(|side| side.event_id.clone()).collect::<Vec<_>>() as &[Option<String>],
        &closed.iter().map(|side| side.event_id.clone()).collect::<Vec<_>>() as &[Option<String>],
        &rows.registers()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Columns of store and id, if there are any.
fn columns(keys: Vec<EntityKey>) -> Option<(Vec<Uuid>, Vec<Uuid>)> {
    (!keys.is_empty()).then(|| keys.into_iter().unzip())
}

/// The session's register with who acted and, where the payload names no time, the event's.
pub(super) fn signed(entry: &Entry, writes: &FieldWrites) -> FieldWrites {
    let fields = writes.fields.iter().map(|(field, text)| {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        value["by"] = entry.actor_user_id.clone().into();
        if value["at"].is_null() {
            value["at"] = entry.created_at.timestamp_millis().into();
        }
        (field.clone(), value.to_string())
    });
    FieldWrites { entity_id: writes.entity_id, fields: fields.collect() }
}

/// The value of one of a session's two registers.
struct Side {
    value: serde_json::Value,
    event_id: Option<String>,
}

impl Side {
    fn of(registers: &Registers, field: &str) -> Self {
        match registers.value(field) {
            Some((text, stamp)) => Side {
                value: serde_json::from_str(text).unwrap_or_default(),
                event_id: Some(stamp.key.event_id.clone()),
            },
            None => Side { value: serde_json::Value::Null, event_id: None },
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        self.value.get(key)?.as_str().map(str::to_owned)
    }

    fn decimal(&self, key: &str) -> Option<Decimal> {
        self.value.get(key)?.as_str()?.parse().ok()
    }

    fn at(&self) -> Option<DateTime<Utc>> {
        let at = self.value.get("at")?;
        match at.as_i64() {
            Some(ms) => DateTime::from_timestamp_millis(ms),
            None => at.as_str()?.parse().ok(),
        }
    }
}

/// Columns of merged entities.
struct Rows<'a>(&'a States);

impl Rows<'_> {
    fn each<T>(&self, value: impl Fn(&State) -> T) -> Vec<T> {
        self.0.values().map(value).collect()
    }

    fn stores(&self) -> Vec<Uuid> {
        self.0.keys().map(|(store, _)| *store).collect()
    }

    fn ids(&self) -> Vec<Uuid> {
        self.0.keys().map(|(_, id)| *id).collect()
    }

    /// A field's value, parsed; `null` and what a column cannot show are none.
    fn values<T>(&self, field: &str, parse: impl Fn(serde_json::Value) -> Option<T>) -> Vec<Option<T>> {
        self.each(|state| parse(serde_json::from_str(state.registers.value(field)?.0).ok()?))
    }

    fn texts(&self, field: &str) -> Vec<Option<String>> {
        self.values(field, |value| value.as_str().map(str::to_owned))
    }

    fn decimals(&self, field: &str) -> Vec<Option<Decimal>> {
        self.values(field, |value| value.as_str()?.parse().ok())
    }

    fn flags(&self, field: &str) -> Vec<Option<bool>> {
        self.values(field, |value| value.as_bool())
    }

    fn attributes(&self) -> Vec<String> {
        self.each(|state| {
            let members: Vec<String> = state
                .registers
                .fields()
                .filter_map(|field| {
                    let name = field.strip_prefix("attributes.")?;
                    let (value, _) = state.registers.value(field)?;
                    Some(format!("{}:{value}", serde_json::Value::from(name)))
                })
                .collect();
            format!("{{{}}}", members.join(","))
        })
    }

    fn created_at(&self) -> Vec<DateTime<Utc>> {
        self.each(|state| state.created_at)
    }

    /// The greatest time of the winners.
    fn updated_at(&self) -> Vec<DateTime<Utc>> {
        self.each(|state| {
            let winners = state.registers.fields().filter_map(|field| state.registers.value(field));
            winners.map(|(_, stamp)| stamp.key.created_at).max().unwrap_or(state.created_at)
        })
    }

    fn registers(&self) -> Vec<String> {
        self.each(|state| serde_json::to_string(&state.registers).unwrap_or_default())
    }
}
