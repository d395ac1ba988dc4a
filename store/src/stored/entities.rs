//! Products, customers, cash sessions, and what is open about them.

use super::foreign;
use crate::Error;
use chrono::DateTime;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::fold::{ConflictRow, CustomerRow, PriceVersion, ProductRow, SessionRow};

/// Key -> value, as JSON texts.
type Texts = BTreeMap<String, Box<RawValue>>;

fn texts(values: Texts) -> BTreeMap<String, String> {
    values.into_iter().map(|(key, value)| (key, value.get().to_owned())).collect()
}

/// Products.
pub(super) async fn products(
    connection: &mut PgConnection,
    store_id: Uuid,
) -> Result<BTreeMap<Uuid, ProductRow>, Error> {
    let rows = sqlx::query!(
        r#"SELECT id, name, category, sku, barcode, price, price_bs, price_usd, cost_bs, cost_usd, track_inventory,
               is_active, low_stock_threshold, attributes AS "attributes: Json<Texts>", created_at, updated_at
           FROM products WHERE store_id = $1"#,
        store_id
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let product = ProductRow {
                name: row.name,
                category: row.category,
                sku: row.sku,
                barcode: row.barcode,
                price: row.price,
                price_bs: row.price_bs,
                price_usd: row.price_usd,
                cost_bs: row.cost_bs,
                cost_usd: row.cost_usd,
                track_inventory: row.track_inventory,
                is_active: row.is_active,
                low_stock_threshold: row.low_stock_threshold,
                attributes: texts(row.attributes.0),
                created_at: row.created_at,
                updated_at: row.updated_at,
            };
            (row.id, product)
        })
        .collect())
}

/// Customers.
pub(super) async fn customers(
    connection: &mut PgConnection,
    store_id: Uuid,
) -> Result<BTreeMap<Uuid, CustomerRow>, Error> {
    let rows = sqlx::query!(
        "SELECT id, name, document_id, phone, email, address, credit_limit, notes, created_at, updated_at
         FROM customers WHERE store_id = $1",
        store_id
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let customer = CustomerRow {
                name: row.name,
                document_id: row.document_id,
                phone: row.phone,
                email: row.email,
                address: row.address,
                credit_limit: row.credit_limit,
                notes: row.notes,
                created_at: row.created_at,
                updated_at: row.updated_at,
            };
            (row.id, customer)
        })
        .collect())
}

/// Cash sessions.
pub(super) async fn sessions(
    connection: &mut PgConnection,
    store_id: Uuid,
) -> Result<BTreeMap<Uuid, SessionRow>, Error> {
    let rows = sqlx::query!(
        r#"SELECT id, register_id, opened_at, opened_by, opening_amount, opening_amount_bs, opening_amount_usd,
               closed_at, closed_by, closing_amount, expected::text AS expected, counted::text AS counted, notes,
               opened_event_id, closed_event_id
           FROM cash_sessions WHERE store_id = $1"#,
        store_id
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let session = SessionRow {
                register_id: row.register_id,
                opened_at: row.opened_at,
                opened_by: row.opened_by,
                opening_amount: row.opening_amount,
                opening_amount_bs: row.opening_amount_bs,
                opening_amount_usd: row.opening_amount_usd,
                closed_at: row.closed_at,
                closed_by: row.closed_by,
                closing_amount: row.closing_amount,
                expected: row.expected,
                counted: row.counted,
                notes: row.notes,
                opened_event_id: row.opened_event_id,
                closed_event_id: row.closed_event_id,
            };
            (row.id, session)
        })
        .collect())
}

/// One element of `open_conflicts.versions`.
#[derive(Debug, Deserialize)]
struct Version {
    event_id: String,
    device_id: String,
    created_at: i64,
    values: Texts,
}

/// Open conflicts.
pub(super) async fn conflicts(
    connection: &mut PgConnection,
    store_id: Uuid,
) -> Result<BTreeMap<Uuid, ConflictRow>, Error> {
    let rows = sqlx::query!(
        r#"SELECT id, entity_id, field, winner_event_id, versions AS "versions: Json<Vec<Version>>"
           FROM open_conflicts WHERE store_id = $1"#,
        store_id
    )
    .fetch_all(connection)
    .await?;
    let mut conflicts = BTreeMap::new();
    for row in rows {
        let version = |version: Version| {
            let ms = version.created_at;
            let created_at = DateTime::from_timestamp_millis(ms)
                .ok_or_else(|| foreign("open_conflicts", format!("created_at {ms}")))?;
            Ok(PriceVersion {
                event_id: version.event_id,
                device_id: version.device_id,
                created_at,
                values: texts(version.values),
            })
        };
        let versions: Result<Vec<PriceVersion>, Error> = row.versions.0.into_iter().map(version).collect();
        let conflict = ConflictRow {
            entity_id: row.entity_id,
            field: row.field,
            winner_event_id: row.winner_event_id,
            versions: versions?,
        };
        conflicts.insert(row.id, conflict);
    }
    Ok(conflicts)
}
