//! Who this node is, as it tells its peers.
//!
//! Another pod may find at its start that the database was restored, so it is read again now and then. Never here: when
//! an incarnation is made anew.

use arc_swap::ArcSwap;
use std::sync::Arc;
use velox_protocol::federation::NodeIdentity;
use velox_store::{Error, Store};

/// Shared by all that speak for the node.
#[derive(Debug, Clone)]
pub struct OwnIdentity(Arc<ArcSwap<NodeIdentity>>);

impl OwnIdentity {
    /// As the database has it.
    ///
    /// # Errors
    /// The database's.
    pub async fn read(store: &Store) -> Result<Self, Error> {
        Ok(OwnIdentity::from(current(store).await?))
    }

    /// As triage reads it, which asks beside a database that lacks something.
    ///
    /// # Errors
    /// The database's, where it is away.
    pub async fn asking(store: &Store) -> Result<Self, Error> {
        let asker = store.asker().await?;
        Ok(OwnIdentity::from(NodeIdentity { node_id: asker.node_id, incarnation: asker.incarnation }))
    }

    /// As it was read last.
    pub fn get(&self) -> Arc<NodeIdentity> {
        self.0.load_full()
    }

    /// Reads it again.
    ///
    /// # Errors
    /// The database's; it stays as it was then.
    pub async fn refresh(&self, store: &Store) -> Result<(), Error> {
        self.0.store(Arc::new(current(store).await?));
        Ok(())
    }
}

impl From<NodeIdentity> for OwnIdentity {
    fn from(identity: NodeIdentity) -> Self {
        OwnIdentity(Arc::new(ArcSwap::from_pointee(identity)))
    }
}

async fn current(store: &Store) -> Result<NodeIdentity, Error> {
    let identity = store.identity().await?;
    Ok(NodeIdentity { node_id: identity.node_id, incarnation: identity.incarnation })
}
