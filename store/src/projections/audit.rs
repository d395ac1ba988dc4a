//! `conflict_audit_log`: what this node met and how it was decided. Written after the rows are committed, so that
//! a failure here never fails a sync; a crash in between loses the log's row and nothing else.

use crate::Error;
use sqlx::{PgConnection, PgPool};
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::conflict::{Conflict, Version, conflict_id};
use velox_protocol::payload::Payload;
use velox_protocol::standing::Linked;

/// Longest time that projectors are held up by the log.
const LIMIT: Duration = Duration::from_secs(2);

/// The server gives up before we do: a session that we gave up would be waiting on, and be missing to projectors.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '1500ms'";

/// Key of the advisory lock under which the log is written.
const AUDIT_LOCK: i64 = 0x7665_6c6f_785f_6175;

/// Most losers that a row of the log names, the latest ones: who all takes part in an open conflict stands there.
const LOSERS: usize = 16;

/// A conflict that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Met {
    store_id: Uuid,
    id: Uuid,
    entity_type: &'static str,
    entity_id: Uuid,
    field: String,
    winner: String,
    losers: Vec<String>,
    strategy: &'static str,
}

/// An open conflict that is none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(super) store_id: Uuid,
    pub(super) id: Uuid,
    /// The event that stands now.
    pub(super) winner: String,
}

/// What a batch has to tell the log.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(super) met: Vec<Met>,
    pub(super) closed: Vec<Closed>,
}

impl Met {
    /// Two events made the same thing: one stands for both.
    pub(super) fn absorbed(store_id: Uuid, event: &Linked, by: &str) -> Self {
        let (entity_type, entity_id) = match &event.payload {
            Payload::Sale(sale) => ("sale", sale.sale_id),
            Payload::Void(void) => ("void", void.sale_id),
            Payload::Debt(debt) => ("debt", debt.debt_id),
            Payload::Payment(payment) => ("payment", payment.payment_id),
            Payload::Ledger(entry) => ("ledger_entry", entry.entry_id),
            Payload::Stock(stock) => (
                "stock_movement",
                stock.movement_id.unwrap_or_else(|| stock.key(store_id, &event.key.event_id, 0)),
            ),
            Payload::Session(writes) => ("cash_session", writes.entity_id),
            Payload::Product(writes) => ("product", writes.entity_id),
            Payload::Customer(writes) => ("customer", writes.entity_id),
            Payload::Store(_) => ("store", store_id),
            Payload::Series(series) => ("fiscal_series", series.series_id),
        };
        let loser = &event.key.event_id;
        Met {
            store_id,
            id: Uuid::new_v5(&store_id, format!("absorbed:{loser}:{by}").as_bytes()),
            entity_type,
            entity_id,
            field: "id".to_owned(),
            winner: by.to_owned(),
            losers: vec![loser.clone()],
            strategy: "awset",
        }
    }

    /// Concurrent edits of one field.
    pub(super) fn edited(
        store_id: Uuid,
        entity_type: &'static str,
        entity_id: Uuid,
        conflict: &Conflict,
    ) -> Self {
        let event = |version: &Version| version.stamp.key.event_id.clone();
        let losers = conflict.losers();
        Met {
            store_id,
            id: conflict_id(store_id, entity_id, &conflict.field),
            entity_type,
            entity_id,
            field: conflict.field.clone(),
            winner: event(conflict.winner()),
            losers: losers[losers.len().saturating_sub(LOSERS)..].iter().map(event).collect(),
            strategy: if conflict.is_open { "mvr" } else { "lww" },
        }
    }
}

impl Audit {
    fn is_empty(&self) -> bool {
        self.met.is_empty() && self.closed.is_empty()
    }

    /// Writes to the log. What goes wrong is only told.
    pub(crate) async fn log(self, pool: &PgPool) {
        if self.is_empty() {
            return;
        }
        let written = tokio::time::timeout(LIMIT, self.write(pool)).await;
        let error: Box<dyn std::error::Error + Send + Sync> = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.into(),
            Err(elapsed) => elapsed.into(),
        };
        let error: &(dyn std::error::Error + 'static) = &*error;
        tracing::warn!(error, conflicts = self.met.len(), "the conflict audit was not written");
    }

    async fn write(&self, pool: &PgPool) -> Result<(), Error> {
        let mut transaction = pool.begin_with(BEGIN).await?;
        // Who writes second sees what the first has written: a conflict may be decided before it was written down.
        sqlx::query!("SELECT pg_advisory_xact_lock($1)", AUDIT_LOCK).execute(&mut *transaction).await?;
        if !self.closed.is_empty() {
            sqlx::query!(
                "UPDATE conflict_audit_log a
                 SET resolved_at = e.created_at, resolved_by = coalesce(e.actor_user_id, e.device_id)
                 FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS c(store_id, id, event_id)
                 JOIN effective_events e USING (store_id, event_id)
                 WHERE a.store_id = c.store_id AND a.id = c.id AND a.resolved_at IS NULL",
                &self.closed.iter().map(|c| c.store_id).collect::<Vec<_>>(),
                &self.closed.iter().map(|c| c.id).collect::<Vec<_>>(),
                &self.closed.iter().map(|c| c.winner.as_str()).collect::<Vec<_>>() as &[&str]
            )
            .execute(&mut *transaction)
            .await?;
        }
        let stores: Vec<Uuid> = self.met.iter().map(|m| m.store_id).collect();
        let ids: Vec<Uuid> = self.met.iter().map(|m| m.id).collect();
        let winners: Vec<&str> = self.met.iter().map(|m| m.winner.as_str()).collect();
        let losers: Vec<String> =
            self.met.iter().map(|m| serde_json::to_string(&m.losers).unwrap_or_default()).collect();
        // What was met before under this id and is decided keeps its row, under an id of its own.
        sqlx::query!(
            "UPDATE conflict_audit_log a SET id = gen_random_uuid()
             FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS m(store_id, id, winner, losers)
             WHERE a.store_id = m.store_id AND a.id = m.id AND a.resolved_at IS NOT NULL
               AND (a.winner_event_id <> m.winner
                    OR a.loser_event_ids <> ARRAY(SELECT jsonb_array_elements_text(m.losers::jsonb)))",
            &stores,
            &ids,
            &winners as &[&str],
            &losers
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "INSERT INTO conflict_audit_log (store_id, id, entity_type, entity_id, field, winner_event_id,
                 loser_event_ids, strategy, winner_payload, loser_payloads, resolved_at)
             SELECT m.store_id, m.id, m.entity_type, m.entity_id, m.field, m.winner, l.ids, m.strategy,
                 (SELECT e.payload FROM effective_events e WHERE e.store_id = m.store_id AND e.event_id = m.winner),
                 (SELECT json_agg(e.payload ORDER BY x.place) FROM unnest(l.ids) WITH ORDINALITY AS x(event_id, place)
                  JOIN effective_events e ON e.store_id = m.store_id AND e.event_id = x.event_id),
                 CASE WHEN m.strategy = 'mvr' THEN NULL ELSE now() END
             FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[])
                 AS m(store_id, id, entity_type, entity_id, field, winner, losers, strategy)
             CROSS JOIN LATERAL (SELECT ARRAY(SELECT jsonb_array_elements_text(m.losers::jsonb)) AS ids) AS l
             ON CONFLICT (store_id, id) DO UPDATE
             SET winner_event_id = EXCLUDED.winner_event_id, loser_event_ids = EXCLUDED.loser_event_ids,
                 strategy = EXCLUDED.strategy, winner_payload = EXCLUDED.winner_payload,
                 loser_payloads = EXCLUDED.loser_payloads, resolved_at = EXCLUDED.resolved_at
             WHERE conflict_audit_log.resolved_at IS NULL",
            &stores,
            &ids,
            &self.met.iter().map(|m| m.entity_type).collect::<Vec<_>>() as &[&str],
            &self.met.iter().map(|m| m.entity_id).collect::<Vec<_>>(),
            &self.met.iter().map(|m| m.field.as_str()).collect::<Vec<_>>() as &[&str],
            &winners as &[&str],
            &losers,
            &self.met.iter().map(|m| m.strategy).collect::<Vec<_>>() as &[&str]
        )
        .execute(&mut *transaction)
        .await?;
        self.close_decided(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// What was met as open and was decided before it came into the log: by the event that names it, else by the latest
    /// one of its entity.
    async fn close_decided(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let open: Vec<&Met> = self.met.iter().filter(|met| met.strategy == "mvr").collect();
        if open.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "UPDATE conflict_audit_log a
             SET resolved_at = coalesce(d.created_at, now()), resolved_by = coalesce(d.actor_user_id, d.device_id)
             FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS m(store_id, id, entity_id)
             LEFT JOIN LATERAL (
                 SELECT e.created_at, e.actor_user_id, e.device_id FROM links l
                 JOIN effective_events e ON e.store_id = l.store_id AND e.event_id = l.event_id
                 WHERE l.store_id = m.store_id AND l.id = m.entity_id
                 ORDER BY e.payload->'metadata'->>'conflict_id' = m.id::text DESC NULLS LAST, e.created_at DESC,
                     e.device_id DESC, e.event_id DESC LIMIT 1) AS d ON true
             WHERE a.store_id = m.store_id AND a.id = m.id AND a.resolved_at IS NULL
               AND NOT EXISTS (SELECT 1 FROM open_conflicts o WHERE o.store_id = m.store_id AND o.id = m.id)",
            &open.iter().map(|met| met.store_id).collect::<Vec<_>>(),
            &open.iter().map(|met| met.id).collect::<Vec<_>>(),
            &open.iter().map(|met| met.entity_id).collect::<Vec<_>>()
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
