//! Trying projections without doing them: whether an event without rows could have some.

use crate::projections::{self, Locks, load_events};
use crate::{Error, Store};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Whoever projects the store meanwhile is waited for so long: then nothing is tried.
const PATIENCE: &str = "SET LOCAL lock_timeout = '2s'";
/// Most transactions of one trial: a batch that fails is halved until the events that fail are found.
const ATTEMPTS: usize = 64;
/// Class of errors about columns, tables and functions: syntax error or access rule violation.
const SCHEMA_CLASS: &str = "42";
/// Why an event that was projected without a complaint has no rows.
const STILL_MISSING: &str = "it can be projected, and its rows are missing all the same";

/// What became of an event that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its rows came.
    Works,
    /// It has none by right: it waits, or another stands in its place.
    Excepted,
    /// It fails.
    Fails {
        /// Why.
        reason: String,
        /// For want of a column or table.
        is_schema: bool,
    },
}

impl Store {
    /// Tries to project these events, and leaves everything as it was. `base`: events that they may need and that can be
    /// projected. Events that were not tried, or not to an end, are left out of the answer.
    pub(super) async fn try_projections(
        &self,
        store_id: Uuid,
        base: &[String],
        event_ids: &[String],
    ) -> Result<BTreeMap<String, Outcome>, Error> {
        let mut outcomes = BTreeMap::new();
        let mut batches = vec![event_ids];
        for _ in 0..ATTEMPTS {
            let Some(batch) = batches.pop() else { break };
            if batch.is_empty() {
                continue;
            }
            let mut tried = self.try_batch(store_id, base, batch).await;
            if matches!(tried, Err(Error::Conflict(_))) {
                tried = self.try_batch(store_id, base, batch).await;
            }
            match (tried, batch) {
                (Ok(tried), _) => outcomes.extend(tried),
                // Somebody else is at them, and stays there.
                (Err(Error::Conflict(_)), _) => {}
                (Err(error @ Error::Unavailable(_)), _) => return Err(error),
                (Err(error), [one]) => {
                    let outcome = Outcome::Fails { is_schema: is_schema(&error), reason: error.describe() };
                    outcomes.insert(one.clone(), outcome);
                }
                // What is wrong with a table is wrong for all.
                (Err(error), batch) if is_schema(&error) => {
                    let outcome = Outcome::Fails { is_schema: true, reason: error.describe() };
                    outcomes.extend(batch.iter().map(|event_id| (event_id.clone(), outcome.clone())));
                }
                (Err(_), batch) => {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    batches.extend([second, first]);
                }
            }
        }
        Ok(outcomes)
    }

    async fn try_batch(
        &self,
        store_id: Uuid,
        base: &[String],
        event_ids: &[String],
    ) -> Result<BTreeMap<String, Outcome>, Error> {
        let mut transaction = self.projection.begin().await?;
        sqlx::query(PATIENCE).execute(&mut *transaction).await?;
        let mut done = projections::Done::default();
        for events in [base, event_ids] {
            let keys: Vec<_> = events.iter().map(|event_id| (store_id, event_id.clone())).collect();
            let entries = load_events(&mut transaction, &keys).await?;
            done = projections::project(&mut transaction, entries, Locks::Taken).await?;
        }
        let excepted: Vec<String> = sqlx::query_scalar!(
            r#"SELECT event_id FROM event_exceptions
               WHERE store_id = $1 AND event_id = ANY($2) AND status <> 'failed'"#,
            store_id,
            event_ids
        )
        .fetch_all(&mut *transaction)
        .await?;
        let missing: Vec<String> = sqlx::query_scalar!(
            r#"SELECT event_id AS "event_id!" FROM event_gaps WHERE store_id = $1 AND event_id = ANY($2)"#,
            store_id,
            event_ids
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.rollback().await?;
        let (excepted, missing): (BTreeSet<String>, BTreeSet<String>) =
            (excepted.into_iter().collect(), missing.into_iter().collect());
        let failed: BTreeMap<&str, &str> = done.failures().collect();
        let outcome = |event_id: &String| match failed.get(event_id.as_str()) {
            Some(reason) => Outcome::Fails { reason: (*reason).to_owned(), is_schema: false },
            None if excepted.contains(event_id) => Outcome::Excepted,
            None if missing.contains(event_id) => {
                Outcome::Fails { reason: STILL_MISSING.to_owned(), is_schema: false }
            }
            None => Outcome::Works,
        };
        Ok(event_ids.iter().map(|event_id| (event_id.clone(), outcome(event_id))).collect())
    }
}

/// Whether the statement did not fit the tables.
fn is_schema(error: &Error) -> bool {
    let Error::Driver(error) = error else { return false };
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code.starts_with(SCHEMA_CLASS))
}
