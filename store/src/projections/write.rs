//! Rows of sales, debts, payments and ledger entries: what is no more goes, what differs is written.

use super::diff::Changes;
use crate::Error;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;
use velox_protocol::standing::{DebtRow, ItemRow, LedgerRow, PaymentRow, SaleRow};

/// Sales and their lines, in one round trip.
#[expect(clippy::too_many_lines, reason = "one statement of 37 columns reads best in one piece")]
pub(super) async fn sales(
    connection: &mut PgConnection,
    changes: &Changes<'_, Uuid, SaleRow>,
) -> Result<(), Error> {
    let (stores, ids) = changes.removed_columns();
    if !ids.is_empty() {
        sqlx::query!(
            "WITH gone AS (DELETE FROM sales s USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
                 WHERE s.store_id = k.store_id AND s.id = k.id)
             DELETE FROM sale_items i USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
             WHERE i.store_id = k.store_id AND i.sale_id = k.id",
            &stores,
            &ids
        )
        .execute(&mut *connection)
        .await?;
    }
    let (stores, ids) = changes.written_columns();
    if ids.is_empty() {
        return Ok(());
    }
    let void = |row: &SaleRow| row.void.clone();
    let rows: Vec<(Uuid, Uuid, i32, &ItemRow)> = changes
        .written
        .iter()
        .flat_map(|(store, id, sale)| {
            (1..).zip(&sale.items).map(move |(line, item)| (*store, **id, line, item))
        })
        .collect();
    sqlx::query!(
        "WITH sold AS (
         INSERT INTO sales (store_id, id, device_id, session_id, customer_id, warehouse_id, currency, exchange_rate,
             total, total_bs, total_usd, payment_method, series_id, invoice_number, fiscal_number, sold_at,
             created_at, created_by, voided_at, voided_by, void_reason, void_event_id, note, event_id)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[],
             $8::numeric[], $9::numeric[], $10::numeric[], $11::numeric[], $12::text[], $13::uuid[], $14::text[],
             $15::text[], $16::timestamptz[], $17::timestamptz[], $18::text[], $19::timestamptz[], $20::text[],
             $21::text[], $22::text[], $23::text[], $24::text[])
         ON CONFLICT (store_id, id) DO UPDATE SET device_id = EXCLUDED.device_id, session_id = EXCLUDED.session_id,
             customer_id = EXCLUDED.customer_id, warehouse_id = EXCLUDED.warehouse_id, currency = EXCLUDED.currency,
             exchange_rate = EXCLUDED.exchange_rate, total = EXCLUDED.total, total_bs = EXCLUDED.total_bs,
             total_usd = EXCLUDED.total_usd, payment_method = EXCLUDED.payment_method, series_id = EXCLUDED.series_id,
             invoice_number = EXCLUDED.invoice_number, fiscal_number = EXCLUDED.fiscal_number,
             sold_at = EXCLUDED.sold_at, created_at = EXCLUDED.created_at, created_by = EXCLUDED.created_by,
             voided_at = EXCLUDED.voided_at, voided_by = EXCLUDED.voided_by, void_reason = EXCLUDED.void_reason,
             void_event_id = EXCLUDED.void_event_id, note = EXCLUDED.note, event_id = EXCLUDED.event_id
         ), gone AS (
             DELETE FROM sale_items i USING unnest($1::uuid[], $2::uuid[], $25::int4[]) AS k(store_id, id, lines)
             WHERE i.store_id = k.store_id AND i.sale_id = k.id AND i.line_no > k.lines
         )
         INSERT INTO sale_items (store_id, sale_id, line_no, product_id, variant_id, name, qty, unit_price,
             unit_price_bs, unit_price_usd, discount_bs, discount_usd)
         SELECT * FROM unnest($26::uuid[], $27::uuid[], $28::int4[], $29::uuid[], $30::uuid[], $31::text[],
             $32::numeric[], $33::numeric[], $34::numeric[], $35::numeric[], $36::numeric[], $37::numeric[])
         ON CONFLICT (store_id, sale_id, line_no) DO UPDATE SET product_id = EXCLUDED.product_id,
             variant_id = EXCLUDED.variant_id, name = EXCLUDED.name, qty = EXCLUDED.qty,
             unit_price = EXCLUDED.unit_price, unit_price_bs = EXCLUDED.unit_price_bs,
             unit_price_usd = EXCLUDED.unit_price_usd, discount_bs = EXCLUDED.discount_bs,
             discount_usd = EXCLUDED.discount_usd",
        &stores,
        &ids,
        &changes.column(|row| row.device_id.as_str()) as &[&str],
        &changes.column(|row| row.session_id) as &[Option<Uuid>],
        &changes.column(|row| row.customer_id) as &[Option<Uuid>],
        &changes.column(|row| row.warehouse_id) as &[Option<Uuid>],
        &changes.column(|row| row.currency.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.exchange_rate) as &[Option<Decimal>],
        &changes.column(|row| row.total) as &[Option<Decimal>],
        &changes.column(|row| row.total_bs) as &[Option<Decimal>],
        &changes.column(|row| row.total_usd) as &[Option<Decimal>],
        &changes.column(|row| row.payment_method.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.series_id) as &[Option<Uuid>],
        &changes.column(|row| row.invoice_number.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.fiscal_number.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.sold_at),
        &changes.column(|row| row.created_at),
        &changes.column(|row| row.created_by.as_deref()) as &[Option<&str>],
        &changes.column(|row| void(row).map(|v| v.voided_at)) as &[Option<DateTime<Utc>>],
        &changes.column(|row| void(row).and_then(|v| v.voided_by)) as &[Option<String>],
        &changes.column(|row| void(row).and_then(|v| v.reason)) as &[Option<String>],
        &changes.column(|row| void(row).map(|v| v.event_id)) as &[Option<String>],
        &changes.column(|row| row.note.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.event_id.as_str()) as &[&str],
        &changes.column(|sale| i32::try_from(sale.items.len()).unwrap_or(i32::MAX)),
        &rows.iter().map(|row| row.0).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.1).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.2).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.3.product_id).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.3.variant_id).collect::<Vec<_>>() as &[Option<Uuid>],
        &rows.iter().map(|row| row.3.name.as_deref()).collect::<Vec<_>>() as &[Option<&str>],
        &rows.iter().map(|row| row.3.qty).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.3.unit_price).collect::<Vec<_>>() as &[Option<Decimal>],
        &rows.iter().map(|row| row.3.unit_price_bs).collect::<Vec<_>>() as &[Option<Decimal>],
        &rows.iter().map(|row| row.3.unit_price_usd).collect::<Vec<_>>() as &[Option<Decimal>],
        &rows.iter().map(|row| row.3.discount_bs).collect::<Vec<_>>() as &[Option<Decimal>],
        &rows.iter().map(|row| row.3.discount_usd).collect::<Vec<_>>() as &[Option<Decimal>]
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn debts(
    connection: &mut PgConnection,
    changes: &Changes<'_, Uuid, DebtRow>,
) -> Result<(), Error> {
    let (stores, ids) = changes.removed_columns();
    if !ids.is_empty() {
        sqlx::query!(
            "DELETE FROM debts d USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
             WHERE d.store_id = k.store_id AND d.id = k.id",
            &stores,
            &ids
        )
        .execute(&mut *connection)
        .await?;
    }
    let (stores, ids) = changes.written_columns();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO debts (store_id, id, customer_id, sale_id, total_amount, remaining_amount, amount_bs, amount_usd,
             overpaid_amount, status, currency, derived, notes, due_at, created_at, created_by, updated_at, event_id)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::numeric[], $6::numeric[],
             $7::numeric[], $8::numeric[], $9::numeric[], $10::text[], $11::text[], $12::bool[], $13::text[],
             $14::timestamptz[], $15::timestamptz[], $16::text[], $17::timestamptz[], $18::text[])
         ON CONFLICT (store_id, id) DO UPDATE SET customer_id = EXCLUDED.customer_id, sale_id = EXCLUDED.sale_id,
             total_amount = EXCLUDED.total_amount, remaining_amount = EXCLUDED.remaining_amount,
             amount_bs = EXCLUDED.amount_bs, amount_usd = EXCLUDED.amount_usd,
             overpaid_amount = EXCLUDED.overpaid_amount, status = EXCLUDED.status, currency = EXCLUDED.currency,
             derived = EXCLUDED.derived, notes = EXCLUDED.notes, due_at = EXCLUDED.due_at,
             created_at = EXCLUDED.created_at, created_by = EXCLUDED.created_by, updated_at = EXCLUDED.updated_at,
             event_id = EXCLUDED.event_id",
        &stores,
        &ids,
        &changes.column(|row| row.customer_id) as &[Option<Uuid>],
        &changes.column(|row| row.sale_id) as &[Option<Uuid>],
        &changes.column(|row| row.total_amount),
        &changes.column(|row| row.remaining_amount),
        &changes.column(|row| row.amount_bs) as &[Option<Decimal>],
        &changes.column(|row| row.amount_usd) as &[Option<Decimal>],
        &changes.column(|row| row.overpaid_amount),
        &changes.column(|row| row.status.name()) as &[&str],
        &changes.column(|row| row.currency.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.derived),
        &changes.column(|row| row.notes.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.due_at) as &[Option<DateTime<Utc>>],
        &changes.column(|row| row.created_at),
        &changes.column(|row| row.created_by.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.updated_at),
        &changes.column(|row| row.event_id.as_deref()) as &[Option<&str>]
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn payments(
    connection: &mut PgConnection,
    changes: &Changes<'_, Uuid, PaymentRow>,
) -> Result<(), Error> {
    let (stores, ids) = changes.removed_columns();
    if !ids.is_empty() {
        sqlx::query!(
            "DELETE FROM debt_payments p USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
             WHERE p.store_id = k.store_id AND p.id = k.id",
            &stores,
            &ids
        )
        .execute(&mut *connection)
        .await?;
    }
    let (stores, ids) = changes.written_columns();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO debt_payments (store_id, id, debt_id, amount, amount_bs, amount_usd, payment_method, reference,
             paid_at, paid_by, notes, event_id)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::numeric[], $5::numeric[], $6::numeric[],
             $7::text[], $8::text[], $9::timestamptz[], $10::text[], $11::text[], $12::text[])
         ON CONFLICT (store_id, id) DO UPDATE SET debt_id = EXCLUDED.debt_id, amount = EXCLUDED.amount,
             amount_bs = EXCLUDED.amount_bs, amount_usd = EXCLUDED.amount_usd,
             payment_method = EXCLUDED.payment_method, reference = EXCLUDED.reference, paid_at = EXCLUDED.paid_at,
             paid_by = EXCLUDED.paid_by, notes = EXCLUDED.notes, event_id = EXCLUDED.event_id",
        &stores,
        &ids,
        &changes.column(|row| row.debt_id),
        &changes.column(|row| row.amount),
        &changes.column(|row| row.amount_bs) as &[Option<Decimal>],
        &changes.column(|row| row.amount_usd) as &[Option<Decimal>],
        &changes.column(|row| row.payment_method.as_str()) as &[&str],
        &changes.column(|row| row.reference.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.paid_at),
        &changes.column(|row| row.paid_by.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.notes.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.event_id.as_str()) as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn ledger(
    connection: &mut PgConnection,
    changes: &Changes<'_, Uuid, LedgerRow>,
) -> Result<(), Error> {
    let (stores, ids) = changes.removed_columns();
    if !ids.is_empty() {
        sqlx::query!(
            "DELETE FROM cash_ledger_entries l USING unnest($1::uuid[], $2::uuid[]) AS k(store_id, id)
             WHERE l.store_id = k.store_id AND l.id = k.id",
            &stores,
            &ids
        )
        .execute(&mut *connection)
        .await?;
    }
    let (stores, ids) = changes.written_columns();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO cash_ledger_entries (store_id, id, session_id, entry_type, amount, amount_bs, amount_usd,
             currency, reason, created_at, event_id)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::numeric[], $6::numeric[],
             $7::numeric[], $8::text[], $9::text[], $10::timestamptz[], $11::text[])
         ON CONFLICT (store_id, id) DO UPDATE SET session_id = EXCLUDED.session_id,
             entry_type = EXCLUDED.entry_type, amount = EXCLUDED.amount, amount_bs = EXCLUDED.amount_bs,
             amount_usd = EXCLUDED.amount_usd, currency = EXCLUDED.currency, reason = EXCLUDED.reason,
             created_at = EXCLUDED.created_at, event_id = EXCLUDED.event_id",
        &stores,
        &ids,
        &changes.column(|row| row.session_id) as &[Option<Uuid>],
        &changes.column(|row| row.entry_type.as_str()) as &[&str],
        &changes.column(|row| row.amount) as &[Option<Decimal>],
        &changes.column(|row| row.amount_bs) as &[Option<Decimal>],
        &changes.column(|row| row.amount_usd) as &[Option<Decimal>],
        &changes.column(|row| row.currency.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.reason.as_deref()) as &[Option<&str>],
        &changes.column(|row| row.created_at),
        &changes.column(|row| row.event_id.as_str()) as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(())
}
