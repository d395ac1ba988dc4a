//! Triage of a store over this node and its peers: asking all of them, and mending what is found.
//!
//! The same for the call of the admin and for the command. Never here: what is asked of a database (see `velox_store`),
//! the verdict (see `velox_protocol::triage`).

pub mod fix;
pub mod markdown;
pub mod text;

use chrono::{DateTime, Utc};
use futures_util::future::{join, join_all};
use uuid::Uuid;
use velox_actors::relay::Wire;
use velox_actors::triage;
use velox_protocol::triage::verdict::Report;
use velox_store::{Error, Store};

/// Asks this node and each peer that serves the store, at once, and judges.
///
/// # Errors
/// This node's own database's.
pub async fn examine(
    store: &Store,
    wires: &[Wire],
    store_id: Uuid,
    now: DateTime<Utc>,
) -> Result<Report, Error> {
    let serving = wires.iter().filter(|wire| wire.peer().serves(store_id));
    let peers = join_all(serving.map(|wire| triage::ask(store, wire, store_id, now)));
    let (ours, peers) = join(store.triage(store_id, env!("CARGO_PKG_VERSION")), peers).await;
    let peers = peers.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Report::of(store_id, now, ours?, peers))
}
