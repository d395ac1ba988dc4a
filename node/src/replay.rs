//! Replays by hand: which events are meant, and into which queue they go. Shared by the HTTP call and the command.
//!
//! Never here: reading a request, printing, projecting, sending.

use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;
use velox_actors::peer::Peer;
use velox_store::{Error, Store, TimeRange};

/// Most events of one replay by type: whoever means more names shorter stretches of time.
pub const MOST: u32 = 100_000;

/// What is to be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The shop.
    pub store_id: Uuid,
    /// Which events.
    pub events: Events,
    /// Into which queue.
    pub target: Target,
}

/// Which events are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Events {
    /// These.
    Ids(Vec<String>),
    /// All of these types in a stretch of their own time.
    Types(Vec<String>, TimeRange),
}

/// A queue of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// They are projected again.
    Projection,
    /// They are sent again: to this peer, or to all of the store.
    Relay(Option<String>),
}

impl Target {
    /// As an entry of the outbox names it; `peer` belongs to relays alone.
    pub fn of(target: &str, peer: Option<String>) -> Result<Self, ReplayError> {
        match (target, peer) {
            ("projection", None) => Ok(Target::Projection),
            ("federation-relay", peer) => Ok(Target::Relay(peer)),
            ("projection", Some(_)) => Err(ReplayError::PeerOfProjection),
            _ => Err(ReplayError::UnknownTarget),
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Replayed {
    /// Events that were asked for.
    pub requested: u64,
    /// Of them those that are known.
    pub found: u64,
    /// Entries that wait now: one an event and peer.
    pub queued: u64,
    /// The others.
    #[serde(rename = "missingIds")]
    pub missing: Vec<String>,
    /// To whom they are sent; empty for projections.
    pub peers: Vec<String>,
}

/// Why nothing was queued.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Neither of the two.
    #[error("target must be projection or federation-relay")]
    UnknownTarget,
    /// A projection goes to nobody.
    #[error("a peer can be named for federation-relay alone")]
    PeerOfProjection,
    /// No peer of that name serves the store.
    #[error("no peer of that name serves the store")]
    UnknownPeer,
    /// More than [`MOST`].
    #[error("more than 100000 events are meant: name a shorter stretch of time")]
    TooMany,
    /// The database's.
    #[error(transparent)]
    Store(#[from] Error),
}

/// The names of the peers that serve a store; of one alone where it is named.
///
/// # Errors
/// [`ReplayError::UnknownPeer`]
pub fn peers_of<'a>(
    peers: impl IntoIterator<Item = &'a Arc<Peer>>,
    store_id: Uuid,
    named: Option<&str>,
) -> Result<Vec<String>, ReplayError> {
    let serving = peers.into_iter().filter(|peer| peer.serves(store_id));
    let names: Vec<String> =
        serving.filter(|peer| named.is_none_or(|name| name == peer.name)).map(|p| p.name.clone()).collect();
    if named.is_some() && names.is_empty() { Err(ReplayError::UnknownPeer) } else { Ok(names) }
}

impl Replay {
    /// Queues what is meant. `peers`: all that are configured.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn run<'a>(
        self,
        store: &Store,
        peers: impl IntoIterator<Item = &'a Arc<Peer>>,
    ) -> Result<Replayed, ReplayError> {
        let peers = match &self.target {
            Target::Projection => Vec::new(),
            Target::Relay(named) => peers_of(peers, self.store_id, named.as_deref())?,
        };
        let (known, missing) = self.select(store).await?;
        let found = known.len() as u64;
        let requested = found + missing.len() as u64;
        let queued = match self.target {
            Target::Projection => {
                store.requeue_projection(self.store_id, &known).await?;
                found
            }
            Target::Relay(_) => {
                for peer in &peers {
                    store.queue_relay(None, self.store_id, peer, &known).await?;
                }
                found * peers.len() as u64
            }
        };
        Ok(Replayed { requested, found, queued, missing, peers })
    }

    /// The known events, and the ids of those that are not.
    async fn select(&self, store: &Store) -> Result<(Vec<String>, Vec<String>), ReplayError> {
        match &self.events {
            Events::Ids(ids) => {
                let known = store.known_events(self.store_id, ids).await?;
                let found: HashSet<&String> = known.iter().collect();
                let missing = ids.iter().filter(|id| !found.contains(id)).cloned().collect();
                Ok((known, missing))
            }
            Events::Types(types, range) => {
                let known = store.events_of(self.store_id, types, *range, MOST + 1).await?;
                if known.len() > MOST as usize {
                    return Err(ReplayError::TooMany);
                }
                Ok((known, Vec::new()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_one_of_two_and_only_a_relay_has_a_peer() {
        assert_eq!(Target::of("projection", None).ok(), Some(Target::Projection));
        let peer = Some("cloud".to_owned());
        assert_eq!(Target::of("federation-relay", peer.clone()).ok(), Some(Target::Relay(peer.clone())));
        assert!(matches!(Target::of("projection", peer), Err(ReplayError::PeerOfProjection)));
        assert!(matches!(Target::of("relay", None), Err(ReplayError::UnknownTarget)));
    }
}
