//! Projecting all events of a store that are not projected as they should be, however many and however old.

use super::suspects;
use crate::outbox::RetryPolicy;
use crate::{Error, Healed, Orphan, Store};
use sqlx::Connection as _;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Events that are projected by one transaction.
const BATCH: usize = 500;

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealedAll {
    /// Events that were looked at: all that are stuck.
    pub stuck: u64,
    /// Those that are in order now.
    pub healed: u64,
    /// Those that somebody else had at that moment.
    pub busy: u64,
    /// Those that still fail.
    pub failed: Vec<StillMissing>,
}

/// An event that cannot be projected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillMissing {
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Why.
    pub error: String,
}

impl Store {
    /// Projects every event of the store that is without its rows, has failed or waits for long. Like a healer, but
    /// for all of them: a batch at a time, and where a batch fails one by one. `with_coming`: also what has come just
    /// now and is on its way.
    ///
    /// # Errors
    /// The database's, where it is not the events' fault; what was healed until then is healed.
    #[tracing::instrument(name = "db.triage.heal", level = "debug", skip_all)]
    pub async fn heal_all(
        &self,
        store_id: Uuid,
        with_coming: bool,
        policy: RetryPolicy,
        keep: bool,
    ) -> Result<HealedAll, Error> {
        let mut connection = self.questioner().await?;
        let found = suspects(&mut connection, store_id).await;
        // One that does not close is dropped all the same.
        let _ = connection.close().await;
        let orphans: Vec<Orphan> = found?
            .into_iter()
            .filter(|suspect| with_coming || !suspect.on_its_way)
            .map(|suspect| Orphan {
                event_id: suspect.event_id,
                event_type: suspect.event_type,
                failed_since: suspect.failed_since,
            })
            .collect();
        let mut healed = HealedAll { stuck: orphans.len() as u64, ..HealedAll::default() };
        for batch in orphans.chunks(BATCH) {
            match self.heal_batch(store_id, batch, keep, &mut healed).await {
                Ok(true) => {}
                Ok(false) => self.heal_each(store_id, batch, policy, keep, &mut healed).await?,
                Err(Error::Unavailable(error)) => return Err(Error::Unavailable(error)),
                Err(_) => self.heal_each(store_id, batch, policy, keep, &mut healed).await?,
            }
        }
        Ok(healed)
    }

    /// False: not all of them could be had.
    async fn heal_batch(
        &self,
        store_id: Uuid,
        batch: &[Orphan],
        keep: bool,
        healed: &mut HealedAll,
    ) -> Result<bool, Error> {
        let ids: Vec<String> = batch.iter().map(|orphan| orphan.event_id.clone()).collect();
        self.requeue_projection(store_id, &ids).await?;
        let Some(claim) = self.claim_events(store_id, &ids, keep).await? else { return Ok(false) };
        if claim.entries.len() < ids.len() {
            return Ok(false);
        }
        let report = claim.project().await?;
        let mut failed: BTreeMap<String, String> =
            report.failed.into_iter().map(|failure| (failure.event_id, failure.reason)).collect();
        let missing: Vec<String> = sqlx::query_scalar!(
            r#"SELECT event_id AS "event_id!" FROM event_gaps WHERE store_id = $1 AND event_id = ANY($2)"#,
            store_id,
            &ids
        )
        .fetch_all(&self.pool)
        .await?;
        for event_id in missing {
            failed.entry(event_id).or_insert_with(|| crate::orphans::STILL_MISSING.to_owned());
        }
        healed.healed += (batch.len() - failed.len().min(batch.len())) as u64;
        healed.failed.extend(batch.iter().filter_map(|orphan| {
            let error = failed.get(&orphan.event_id)?.clone();
            Some(StillMissing {
                event_id: orphan.event_id.clone(),
                event_type: orphan.event_type.clone(),
                error,
            })
        }));
        Ok(true)
    }

    async fn heal_each(
        &self,
        store_id: Uuid,
        batch: &[Orphan],
        policy: RetryPolicy,
        keep: bool,
        healed: &mut HealedAll,
    ) -> Result<(), Error> {
        for orphan in batch {
            match self.heal_orphan(store_id, orphan, policy, keep).await {
                Ok(Healed::Healed) => healed.healed += 1,
                Ok(Healed::Busy) | Err(Error::Conflict(_)) => healed.busy += 1,
                Ok(Healed::Failed(error)) => healed.failed.push(StillMissing {
                    event_id: orphan.event_id.clone(),
                    event_type: orphan.event_type.clone(),
                    error,
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
