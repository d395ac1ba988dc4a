//! Mending this node's own side of a store: its tables, then every event that is not projected as it should be.
//!
//! One at a time at a node, and again and again. Never here: what peers lack.

use crate::orphan_healer::Healing;
use uuid::Uuid;
use velox_protocol::triage::{EXAMPLES, Failing, Mended};
use velox_store::{Error, Repaired, Store};

/// Repairs the schema where it is not as the migrations make it, fills what was lost with it by a rebuild of all stores,
/// and projects what is stuck. `with_coming`: also what has come just now. Nothing where the node is being mended already.
///
/// # Errors
/// The database's, where it is away.
pub async fn mend(
    store: &Store,
    store_id: Uuid,
    with_coming: bool,
    healing: Healing,
) -> Result<Mended, Error> {
    let Some(mending) = store.begin_mending().await? else {
        return Ok(Mended { being_mended: true, ..Mended::default() });
    };
    let mended = mend_alone(store, store_id, with_coming, healing).await;
    mending.end().await;
    mended
}

async fn mend_alone(
    store: &Store,
    store_id: Uuid,
    with_coming: bool,
    healing: Healing,
) -> Result<Mended, Error> {
    let mut mended = Mended::default();
    if !store.schema_differences().await?.is_empty() {
        mend_schema(store, &mut mended).await?;
    }
    let healed = store.heal_all(store_id, with_coming, healing.retry, healing.keep).await?;
    mended.stuck = healed.stuck;
    mended.healed = healed.healed;
    mended.busy = healed.busy;
    mended.failed_count = healed.failed.len() as u64;
    for failed in &healed.failed {
        let (event_id, event_type, reason) = (&failed.event_id, &failed.event_type, &failed.error);
        tracing::error!(%store_id, event_id, event_type, reason, "an event cannot be projected");
    }
    mended.failed = healed
        .failed
        .into_iter()
        .take(EXAMPLES)
        .map(|failed| Failing {
            event_id: failed.event_id,
            event_type: failed.event_type,
            error: failed.error,
        })
        .collect();
    Ok(mended)
}

async fn mend_schema(store: &Store, mended: &mut Mended) -> Result<(), Error> {
    note(mended, store.repair_schema().await?);
    // Also by a repair that was cut short.
    if !store.is_rebuild_due().await? {
        return Ok(());
    }
    match store.rebuild_all(None).await {
        Ok(rebuilt) => {
            mended.rebuilt = rebuilt.iter().map(|store| store.differences).sum();
            store.rebuild_is_done().await?;
        }
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => mended.refused.push(format!("making the tables anew: {}", error.describe())),
    }
    // What came empty is filled now, and may not be empty any more.
    note(mended, store.repair_schema().await?);
    Ok(())
}

fn note(mended: &mut Mended, repaired: Vec<Repaired>) {
    for Repaired { statement, error, .. } in repaired {
        match error {
            None => mended.statements.push(statement),
            Some(error) => mended.refused.push(format!("{statement}: {error}")),
        }
    }
}
