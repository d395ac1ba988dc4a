//! Sales, debts, payments, ledger entries and stock.

use super::{Ids, foreign};
use crate::Error;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::standing::{
    DebtRow, DebtStatus, ItemRow, LedgerRow, MovementRow, PaymentRow, SaleRow, StockKey, VoidMark,
};

/// Kinds of movements, as the table has them.
const MOVEMENT_KINDS: [&str; 5] = ["sale", "void", "received", "adjusted", "delta"];

/// Sales with their lines.
pub(crate) async fn sales(
    connection: &mut PgConnection,
    store_id: Uuid,
    ids: Ids<'_>,
) -> Result<BTreeMap<Uuid, SaleRow>, Error> {
    let mut lines = items(connection, store_id, ids).await?;
    let rows = sqlx::query!(
        "SELECT id, device_id, session_id, customer_id, warehouse_id, currency, exchange_rate, total, total_bs,
             total_usd, payment_method, series_id, invoice_number, fiscal_number, sold_at, created_at, created_by,
             voided_at, voided_by, void_reason, void_event_id, note, event_id
         FROM sales WHERE store_id = $1 AND ($2::uuid[] IS NULL OR id = ANY($2))",
        store_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    let mut sales: BTreeMap<Uuid, SaleRow> = BTreeMap::new();
    for row in rows {
        let void = row.voided_at.map(|voided_at| VoidMark {
            voided_at,
            voided_by: row.voided_by,
            reason: row.void_reason,
            event_id: row.void_event_id.unwrap_or_default(),
        });
        let sale = SaleRow {
            device_id: row.device_id,
            session_id: row.session_id,
            customer_id: row.customer_id,
            warehouse_id: row.warehouse_id,
            currency: row.currency,
            exchange_rate: row.exchange_rate,
            total: row.total,
            total_bs: row.total_bs,
            total_usd: row.total_usd,
            payment_method: row.payment_method,
            series_id: row.series_id,
            invoice_number: row.invoice_number,
            fiscal_number: row.fiscal_number,
            sold_at: row.sold_at,
            created_at: row.created_at,
            created_by: row.created_by,
            note: row.note,
            event_id: row.event_id,
            void,
            items: lines.remove(&row.id).unwrap_or_default(),
        };
        sales.insert(row.id, sale);
    }
    Ok(sales)
}

async fn items(
    connection: &mut PgConnection,
    store_id: Uuid,
    ids: Ids<'_>,
) -> Result<BTreeMap<Uuid, Vec<ItemRow>>, Error> {
    let rows = sqlx::query!(
        "SELECT sale_id, product_id, variant_id, name, qty, unit_price, unit_price_bs, unit_price_usd, discount_bs,
             discount_usd
         FROM sale_items WHERE store_id = $1 AND ($2::uuid[] IS NULL OR sale_id = ANY($2))
         ORDER BY sale_id, line_no",
        store_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    let mut items: BTreeMap<Uuid, Vec<ItemRow>> = BTreeMap::new();
    for row in rows {
        items.entry(row.sale_id).or_default().push(ItemRow {
            product_id: row.product_id,
            variant_id: row.variant_id,
            name: row.name,
            qty: row.qty,
            unit_price: row.unit_price,
            unit_price_bs: row.unit_price_bs,
            unit_price_usd: row.unit_price_usd,
            discount_bs: row.discount_bs,
            discount_usd: row.discount_usd,
        });
    }
    Ok(items)
}

/// Debts.
pub(crate) async fn debts(
    connection: &mut PgConnection,
    store_id: Uuid,
    ids: Ids<'_>,
) -> Result<BTreeMap<Uuid, DebtRow>, Error> {
    let rows = sqlx::query!(
        "SELECT id, customer_id, sale_id, total_amount, remaining_amount, amount_bs, amount_usd, overpaid_amount,
             status, currency, derived, notes, due_at, created_at, created_by, updated_at, event_id
         FROM debts WHERE store_id = $1 AND ($2::uuid[] IS NULL OR id = ANY($2))",
        store_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    let mut debts = BTreeMap::new();
    for row in rows {
        let status = DebtStatus::of_name(&row.status)
            .ok_or_else(|| foreign("debts", format!("status {}", row.status)))?;
        let debt = DebtRow {
            customer_id: row.customer_id,
            sale_id: row.sale_id,
            total_amount: row.total_amount,
            remaining_amount: row.remaining_amount,
            amount_bs: row.amount_bs,
            amount_usd: row.amount_usd,
            overpaid_amount: row.overpaid_amount,
            status,
            currency: row.currency,
            derived: row.derived,
            notes: row.notes,
            due_at: row.due_at,
            created_at: row.created_at,
            created_by: row.created_by,
            updated_at: row.updated_at,
            event_id: row.event_id,
        };
        debts.insert(row.id, debt);
    }
    Ok(debts)
}

/// Payments.
pub(crate) async fn payments(
    connection: &mut PgConnection,
    store_id: Uuid,
    ids: Ids<'_>,
) -> Result<BTreeMap<Uuid, PaymentRow>, Error> {
    let rows = sqlx::query!(
        "SELECT id, debt_id, amount, amount_bs, amount_usd, payment_method, reference, paid_at, paid_by, notes, event_id
         FROM debt_payments WHERE store_id = $1 AND ($2::uuid[] IS NULL OR id = ANY($2))",
        store_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let payment = PaymentRow {
                debt_id: row.debt_id,
                amount: row.amount,
                amount_bs: row.amount_bs,
                amount_usd: row.amount_usd,
                payment_method: row.payment_method,
                reference: row.reference,
                paid_at: row.paid_at,
                paid_by: row.paid_by,
                notes: row.notes,
                event_id: row.event_id,
            };
            (row.id, payment)
        })
        .collect())
}

/// Ledger entries.
pub(crate) async fn ledger(
    connection: &mut PgConnection,
    store_id: Uuid,
    ids: Ids<'_>,
) -> Result<BTreeMap<Uuid, LedgerRow>, Error> {
    let rows = sqlx::query!(
        "SELECT id, session_id, entry_type, amount, amount_bs, amount_usd, currency, reason, created_at, event_id
         FROM cash_ledger_entries WHERE store_id = $1 AND ($2::uuid[] IS NULL OR id = ANY($2))",
        store_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let entry = LedgerRow {
                session_id: row.session_id,
                entry_type: row.entry_type,
                amount: row.amount,
                amount_bs: row.amount_bs,
                amount_usd: row.amount_usd,
                currency: row.currency,
                reason: row.reason,
                created_at: row.created_at,
                event_id: row.event_id,
            };
            (row.id, entry)
        })
        .collect())
}

/// Stock movements.
pub(crate) async fn movements(
    connection: &mut PgConnection,
    store_id: Uuid,
    ids: Ids<'_>,
) -> Result<BTreeMap<Uuid, MovementRow>, Error> {
    let rows = sqlx::query!(
        "SELECT id, product_id, variant_id, warehouse_id, kind, qty_delta, event_id, sale_id, created_at
         FROM stock_movements WHERE store_id = $1 AND ($2::uuid[] IS NULL OR id = ANY($2))",
        store_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    let mut movements = BTreeMap::new();
    for row in rows {
        let kind = MOVEMENT_KINDS
            .into_iter()
            .find(|kind| *kind == row.kind)
            .ok_or_else(|| foreign("stock_movements", format!("kind {}", row.kind)))?;
        let movement = MovementRow {
            key: StockKey {
                product_id: row.product_id,
                variant_id: row.variant_id,
                warehouse_id: row.warehouse_id,
            },
            kind,
            qty_delta: row.qty_delta,
            event_id: row.event_id,
            sale_id: row.sale_id,
            created_at: row.created_at,
        };
        movements.insert(row.id, movement);
    }
    Ok(movements)
}

/// Stock by product, variant and warehouse.
pub(crate) async fn stock(
    connection: &mut PgConnection,
    store_id: Uuid,
) -> Result<BTreeMap<StockKey, Decimal>, Error> {
    let rows = sqlx::query!(
        "SELECT product_id, variant_id, warehouse_id, stock FROM warehouse_stock WHERE store_id = $1",
        store_id
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let key = StockKey {
                product_id: row.product_id,
                variant_id: row.variant_id,
                warehouse_id: row.warehouse_id,
            };
            (key, row.stock)
        })
        .collect())
}
