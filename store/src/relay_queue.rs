//! Queues known events for a peer that lacks them, beside what is queued as events come. Never here: what a peer
//! lacks, and claims (see `crate::relay`).

use crate::lease::{Fence, check_fence};
use crate::{Error, Store};
use uuid::Uuid;
use velox_protocol::catalogue::{TYPES, UNKNOWN_PRIORITY};

impl Store {
    /// Queues these events of a store for a peer, under a lease where a fence is given. Unknown ids are passed over, and
    /// what waits for the peer already; an entry that is dead, or kept as processed, begins anew. Answers how many wait
    /// now that did not before.
    ///
    /// `event_ids`: as many as a page holds; all are queued by one statement.
    ///
    /// # Errors
    /// [`Error::Fenced`] where the lease was given to somebody else, and the database's; nothing is queued then, or where
    /// the answer to the commit is lost all of it.
    #[tracing::instrument(name = "db.relay.queue", level = "debug", skip_all, fields(peer))]
    pub async fn queue_relay(
        &self,
        fence: Option<&Fence>,
        store_id: Uuid,
        peer: &str,
        event_ids: &[String],
    ) -> Result<u64, Error> {
        let types: Vec<&str> = TYPES.iter().map(|info| info.name).collect();
        let priorities: Vec<i16> = TYPES.iter().map(|info| info.priority).collect();
        let mut transaction = self.pool.begin().await?;
        if let Some(fence) = fence {
            check_fence(&mut transaction, fence).await?;
        }
        let queued = sqlx::query!(
            r#"INSERT INTO outbox_entries (store_id, event_id, event_type, target, peer, priority, created_at,
                   trace_parent)
               SELECT e.store_id, e.event_id, f.type, 'federation-relay', $3, coalesce(t.priority, $6), e.received_at,
                   e.trace_parent
               FROM events e JOIN effective_events f USING (store_id, event_id)
               LEFT JOIN unnest($4::text[], $5::int2[]) AS t(type, priority) ON t.type = f.type
               WHERE e.store_id = $1 AND e.event_id = ANY($2)
               -- In one order, so that two who queue the same events do not wait for each other.
               ORDER BY e.event_id
               ON CONFLICT (store_id, event_id, target, peer) DO UPDATE
               SET event_type = EXCLUDED.event_type, priority = EXCLUDED.priority, status = 'pending', retry_count = 0,
                   next_attempt_at = NULL, error = NULL, processed_at = NULL, locked_until = NULL, claim_token = NULL
               WHERE outbox_entries.status <> 'pending'"#,
            store_id,
            event_ids,
            peer,
            &types as &[&str],
            &priorities,
            UNKNOWN_PRIORITY
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(queued.rows_affected())
    }
}
