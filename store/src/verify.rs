//! The invariants that can be read off the tables, and the tables beside the model: `velox verify`.

mod model;

use crate::{Error, Store};
use serde::Serialize;
use uuid::Uuid;

/// Most examples of one kind that are shown.
const EXAMPLES: i64 = 20;
/// Most rows of a store that are shown to differ from the model.
const MODEL_EXAMPLES: usize = 20;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which invariant, such as `INV-3`.
    pub invariant: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// The shop.
    pub store_id: Uuid,
    /// The event, sale, debt or product.
    pub id: String,
    /// What it is instead of what it should be, where that is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

struct Found {
    store_id: Uuid,
    id: String,
}

impl Store {
    /// Looks for what must not be; empty: nothing was found. At most 20 examples of each kind.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.verify", level = "debug", skip_all)]
    pub async fn verify(&self, store_id: Option<Uuid>) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        let mut add = |invariant, what, found: Vec<Found>| {
            let finding =
                |f: Found| Finding { invariant, what, store_id: f.store_id, id: f.id, detail: String::new() };
            findings.extend(found.into_iter().map(finding));
        };
        add("INV-2", "an event makes more than one sale", self.doubled_sales(store_id).await?);
        add("INV-2", "a sale has more than one debt", self.doubled_debts(store_id).await?);
        add("INV-3", "stock differs from the sum of its movements", self.wrong_stock(store_id).await?);
        add("INV-3", "a sale's movements differ from its lines", self.wrong_sale_movements(store_id).await?);
        add("INV-3", "a sale's lines have gaps or no sale", self.stray_lines(store_id).await?);
        add("INV-3", "a debt's status contradicts its remaining amount", self.wrong_debts(store_id).await?);
        add("INV-4", "a processed event has no row", self.missing_rows(store_id).await?);
        add("INV-4", "a queued entry has no event", self.entries_without_event(store_id).await?);
        for store_id in self.stores_with_events(store_id).await? {
            let different = self.differences_from_model(store_id).await?;
            findings.extend(different.into_iter().take(MODEL_EXAMPLES).map(|difference| {
                let (id, detail) = difference.split_once(": ").unwrap_or((&difference, ""));
                let (id, detail) = (id.to_owned(), detail.to_owned());
                Finding {
                    invariant: "INV-3",
                    what: "a row is not what the events make",
                    store_id,
                    id,
                    detail,
                }
            }));
        }
        Ok(findings)
    }

    async fn doubled_sales(&self, store_id: Option<Uuid>) -> Result<Vec<Found>, Error> {
        let found = sqlx::query_as!(
            Found,
            r#"SELECT store_id AS "store_id!", event_id AS "id!" FROM sales
               WHERE $1::uuid IS NULL OR store_id = $1
               GROUP BY store_id, event_id HAVING count(*) > 1 LIMIT $2"#,
            store_id,
            EXAMPLES
        );
        Ok(found.fetch_all(&self.pool).await?)
    }

    async fn doubled_debts(&self, store_id: Option<Uuid>) -> Result<Vec<Found>, Error> {
        let found = sqlx::query_as!(
            Found,
            r#"SELECT store_id AS "store_id!", sale_id::text AS "id!" FROM debts
               WHERE sale_id IS NOT NULL AND ($1::uuid IS NULL OR store_id = $1)
               GROUP BY store_id, sale_id HAVING count(*) > 1 LIMIT $2"#,
            store_id,
            EXAMPLES
        );
        Ok(found.fetch_all(&self.pool).await?)
    }

    async fn wrong_stock(&self, store_id: Option<Uuid>) -> Result<Vec<Found>, Error> {
        let found = sqlx::query_as!(
            Found,
            r#"SELECT coalesce(w.store_id, m.store_id) AS "store_id!",
                   coalesce(w.product_id, m.product_id)::text AS "id!"
               FROM warehouse_stock w FULL JOIN (
                   SELECT store_id, product_id, variant_id, warehouse_id, sum(qty_delta) AS stock
                   FROM stock_movements GROUP BY 1, 2, 3, 4
               ) m USING (store_id, product_id, variant_id, warehouse_id)
               WHERE w.stock IS DISTINCT FROM m.stock AND ($1::uuid IS NULL OR store_id = $1) LIMIT $2"#,
            store_id,
            EXAMPLES
        );
        Ok(found.fetch_all(&self.pool).await?)
    }

    async fn wrong_sale_movements(&self, store_id: Option<Uuid>) -> Result<Vec<Found>, Error> {
        let found = sqlx::query_as!(
            Found,
            r#"SELECT s.store_id AS "store_id!", s.id::text AS "id!" FROM sales s
               WHERE ($1::uuid IS NULL OR s.store_id = $1) AND EXISTS (
                   SELECT 1 FROM (
                       SELECT product_id, coalesce(variant_id, '00000000-0000-0000-0000-000000000000'::uuid) AS variant_id,
                           CASE WHEN s.voided_at IS NULL THEN -sum(qty) ELSE 0 END AS qty, count(*) AS lines
                       FROM sale_items i WHERE i.store_id = s.store_id AND i.sale_id = s.id GROUP BY 1, 2
                   ) i FULL JOIN (
                       SELECT product_id, variant_id, sum(qty_delta) AS qty FROM stock_movements m
                       WHERE m.store_id = s.store_id AND m.sale_id = s.id
                         AND m.product_id IN (SELECT product_id FROM sale_items x
                             WHERE x.store_id = s.store_id AND x.sale_id = s.id)
                       GROUP BY 1, 2
                   ) m USING (product_id, variant_id)
                   -- Lines are rounded one by one, the movement once.
                   WHERE abs(coalesce(i.qty, 0) - coalesce(m.qty, 0)) > 0.0005 * (coalesce(i.lines, 0) + 1))
               LIMIT $2"#,
            store_id,
            EXAMPLES
        );
        Ok(found.fetch_all(&self.pool).await?)
    }

    /// The model compares lines in their order, whatever their numbers, and those of sales that are there.
    async fn stray_lines(&self, store_id: Option<Uuid>) -> Result<Vec<Found>, Error> {
        let found = sqlx::query_as!(
            Found,
            r#"SELECT i.store_id AS "store_id!", i.sale_id::text AS "id!" FROM sale_items i
               WHERE $1::uuid IS NULL OR i.store_id = $1
               GROUP BY i.store_id, i.sale_id
               HAVING min(i.line_no) <> 1 OR max(i.line_no) <> count(*) OR NOT EXISTS (SELECT 1 FROM sales s
                   WHERE s.store_id = i.store_id AND s.id = i.sale_id)
               LIMIT $2"#,
            store_id,
            EXAMPLES
        );
        Ok(found.fetch_all(&self.pool).await?)
    }

    async fn wrong_debts(&self, store_id: Option<Uuid>) -> Result<Vec<Found>, Error> {
        let found = sqlx::query_as!(
            Found,
            r#"SELECT d.store_id AS "store_id!", d.id::text AS "id!" FROM debts d
               LEFT JOIN sales s ON s.store_id = d.store_id AND s.id = d.sale_id
               WHERE ($1::uuid IS NULL OR d.store_id = $1) AND (
                   (d.status IN ('paid', 'cancelled')) <> (d.remaining_amount = 0)
                   OR (d.status = 'cancelled') <> (s.voided_at IS NOT NULL)
                   -- Which of a payment's amounts counts is not seen here: only where each one would do.
                   OR (d.status = 'pending' AND EXISTS (SELECT 1 FROM debt_payments p
                       WHERE p.store_id = d.store_id AND p.debt_id = d.id
                       HAVING max(least(p.amount, p.amount_bs, p.amount_usd)) > 0.01
                         AND min(least(p.amount, p.amount_bs, p.amount_usd)) >= 0)))
               LIMIT $2"#,
            store_id,
            EXAMPLES
        );
        Ok(found.fetch_all(&self.pool).await?)
    }

    async fn missing_rows(&self, store_id: Option<Uuid>) -> Result<Vec<Found>, Error> {
        let found = sqlx::query_as!(
            Found,
            r#"SELECT e.store_id AS "store_id!", e.event_id AS "id!" FROM event_status e
               WHERE e.projection_status = 'processed' AND ($1::uuid IS NULL OR e.store_id = $1)
                 AND CASE e.type
                     WHEN 'SaleCreated' THEN NOT EXISTS (SELECT 1 FROM sales r
                         WHERE r.store_id = e.store_id AND r.event_id = e.event_id)
                     WHEN 'SaleVoided' THEN NOT EXISTS (SELECT 1 FROM sales r
                         WHERE r.store_id = e.store_id AND r.void_event_id = e.event_id)
                     WHEN 'DebtCreated' THEN NOT EXISTS (SELECT 1 FROM debts r
                         WHERE r.store_id = e.store_id AND r.event_id = e.event_id)
                     WHEN 'DebtPaymentRecorded' THEN NOT EXISTS (SELECT 1 FROM debt_payments r
                         WHERE r.store_id = e.store_id AND r.event_id = e.event_id)
                     WHEN 'DebtPaymentAdded' THEN NOT EXISTS (SELECT 1 FROM debt_payments r
                         WHERE r.store_id = e.store_id AND r.event_id = e.event_id)
                     WHEN 'CashLedgerEntryCreated' THEN NOT EXISTS (SELECT 1 FROM cash_ledger_entries r
                         WHERE r.store_id = e.store_id AND r.event_id = e.event_id)
                     WHEN 'StoreDeclared' THEN NOT EXISTS (SELECT 1 FROM stores r
                         WHERE r.store_id = e.store_id AND r.declared_by = e.event_id)
                     WHEN 'FiscalSeriesDeclared' THEN NOT EXISTS (SELECT 1 FROM fiscal_series r
                         WHERE r.store_id = e.store_id AND r.declared_by = e.event_id)
                     WHEN 'StockReceived' THEN NOT EXISTS (SELECT 1 FROM stock_movements r
                         WHERE r.store_id = e.store_id AND r.event_id = e.event_id)
                     WHEN 'StockAdjusted' THEN NOT EXISTS (SELECT 1 FROM stock_movements r
                         WHERE r.store_id = e.store_id AND r.event_id = e.event_id)
                     WHEN 'StockDeltaApplied' THEN NOT EXISTS (SELECT 1 FROM stock_movements r
                         WHERE r.store_id = e.store_id AND r.event_id = e.event_id)
                     ELSE false END
                 -- A list of nothing moves nothing.
                 AND NOT EXISTS (SELECT 1 FROM effective_events l WHERE l.store_id = e.store_id AND l.event_id = e.event_id
                     AND l.type LIKE 'Stock%' AND (l.payload->'items')::text ~ '^\[\s*\]$')
               LIMIT $2"#,
            store_id,
            EXAMPLES
        );
        Ok(found.fetch_all(&self.pool).await?)
    }

    async fn entries_without_event(&self, store_id: Option<Uuid>) -> Result<Vec<Found>, Error> {
        let found = sqlx::query_as!(
            Found,
            r#"SELECT o.store_id AS "store_id!", o.event_id AS "id!" FROM outbox_entries o
               WHERE ($1::uuid IS NULL OR o.store_id = $1) AND NOT EXISTS (SELECT 1 FROM events e
                   WHERE e.store_id = o.store_id AND e.event_id = o.event_id) LIMIT $2"#,
            store_id,
            EXAMPLES
        );
        Ok(found.fetch_all(&self.pool).await?)
    }
}
