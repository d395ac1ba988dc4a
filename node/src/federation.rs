//! The configured peers as the node works with them: their wires, and whose key is whose.
//!
//! Never here: requests, the outbox.

use crate::config::{PeerConfig, PeerProtocol};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use velox_actors::handles::ChildRef;
use velox_actors::peer::v1::V1Client;
use velox_actors::peer::{OwnIdentity, Peer, PeerClient, PeerKey, Protocol};
use velox_actors::reconciler::Reconciler;
use velox_actors::relay::{RelayHandle, WakeRelay, Wire};
use velox_protocol::federation::NodeIdentity;
use velox_protocol::signature::key_id;
use velox_protocol::time::Clock;

/// Peers that are told facts at once: each has the node read the whole log of a store.
const TOLD_AT_ONCE: usize = 2;

/// Everybody this node federates with.
pub struct Federation {
    /// In the configured order.
    pub relays: Vec<RelayHandle>,
    /// Compares logs with them.
    pub reconciler: ChildRef<Reconciler>,
    /// Room for peers that ask what this node knows of a store.
    pub examinations: Arc<Semaphore>,
    /// Native peers' keys by their ids; of a peer that rotates two.
    keys: HashMap<String, (Arc<Peer>, PeerKey)>,
}

impl Federation {
    /// Over running relays.
    pub fn new(relays: Vec<RelayHandle>, reconciler: ChildRef<Reconciler>) -> Self {
        let native = relays.iter().map(|relay| relay.wire.peer()).filter(|p| p.protocol == Protocol::Velox);
        let keys = native
            .flat_map(|peer| peer.keys.iter().map(|key| (key_id(key.expose()), (peer.clone(), key.clone()))))
            .collect();
        let examinations = Arc::new(Semaphore::new(TOLD_AT_ONCE));
        Federation { relays, reconciler, examinations, keys }
    }

    /// Has the relays of these peers look for work now. Lost, it costs one poll period.
    pub fn wake(&self, peers: &[String]) {
        for relay in self.relays.iter().filter(|relay| peers.contains(&relay.wire.peer().name)) {
            if let Err(error) = relay.relay.try_tell(WakeRelay) {
                tracing::debug!(%error, "a relay was not woken");
            }
        }
    }

    /// A peer has said who it is.
    pub fn hears(&self, peer: &str, identity: NodeIdentity) {
        let relay = self.relays.iter().find(|relay| relay.wire.peer().name == peer);
        if relay.is_some_and(|relay| relay.view.hears(identity)) {
            self.wake(&[peer.to_owned()]);
        }
    }

    /// The native peer that has this key.
    pub fn by_key(&self, key_id: &str) -> Option<(&Arc<Peer>, &PeerKey)> {
        self.keys.get(key_id).map(|(peer, key)| (peer, key))
    }
}

/// The peers as they are configured.
pub fn peers(configured: &[PeerConfig]) -> Vec<Arc<Peer>> {
    let peer = |peer: &PeerConfig| {
        Arc::new(Peer {
            name: peer.name.clone(),
            url: peer.url.clone(),
            keys: peer.keys.iter().map(|key| PeerKey::new(key.expose())).collect(),
            stores: peer.stores.as_ref().map(|stores| stores.iter().copied().collect()),
            protocol: match peer.protocol {
                PeerProtocol::Velox => Protocol::Velox,
                PeerProtocol::V1 => Protocol::V1,
            },
        })
    };
    configured.iter().map(peer).collect()
}

/// A wire to each peer, for this node.
///
/// # Errors
/// Where no TLS can be set up.
pub fn wires(peers: &[Arc<Peer>], own: &OwnIdentity, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<Wire>> {
    // An error says that somebody has installed one before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wire = |peer: &Arc<Peer>| {
        Ok(match peer.protocol {
            Protocol::Velox => Wire::Velox(PeerClient::new(peer.clone(), own.clone(), clock.clone())?),
            Protocol::V1 => Wire::V1(V1Client::new(peer.clone())?),
        })
    };
    peers.iter().map(wire).collect()
}
