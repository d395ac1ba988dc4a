//! Shops.
//!
//! Never here: who this node is (see `crate::identity`).

use crate::node_events::{Author, Draft, NodeStamp};
use crate::projections::{self, Family};
use crate::relay::Relays;
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::home;

/// A shop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreRow {
    /// The shop.
    pub store_id: Uuid,
    /// For people.
    pub name: String,
    /// The node that grants its escrow; `None`: nobody has declared it.
    pub home_node: Option<String>,
    /// When it was registered here.
    pub created_at: DateTime<Utc>,
}

/// The answer to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedStore {
    /// The shop as it stands.
    pub store: StoreRow,
    /// Whether it is new.
    pub created: bool,
}

impl Store {
    /// Registers a shop that a peer knows, without a name of its own.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.ensure_store", level = "debug", skip_all)]
    pub async fn ensure_store(&self, store_id: Uuid) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO stores (store_id, name) VALUES ($1::uuid, $1::uuid::text) ON CONFLICT DO NOTHING",
            store_id
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Registers a shop, or gives a known one its new name. Where no StoreDeclared of it is known, the node writes one
    /// and is its home.
    ///
    /// # Errors
    /// The database's; then nothing is written, or the outcome is unknown.
    #[tracing::instrument(name = "db.create_store", level = "debug", skip_all)]
    pub async fn create_store(
        &self,
        store_id: Uuid,
        name: &str,
        stamp: &NodeStamp,
    ) -> Result<CreatedStore, Error> {
        let made = self.try_create_store(store_id, name, stamp).await;
        if made.as_ref().is_err_and(Error::is_read_only) {
            self.renew_sessions(&self.pool).await;
        }
        made
    }

    async fn try_create_store(
        &self,
        store_id: Uuid,
        name: &str,
        stamp: &NodeStamp,
    ) -> Result<CreatedStore, Error> {
        let mut transaction = self.begin_durable().await?;
        // Before the row, as projectors take them; and of two who declare a store the second sees the first.
        projections::lock(&mut transaction, Family::Linked, [store_id].into()).await?;
        let created = sqlx::query_scalar!(
            r#"INSERT INTO stores (store_id, name) VALUES ($1, $2)
               ON CONFLICT (store_id) DO UPDATE SET name = EXCLUDED.name RETURNING (xmax = 0) AS "created!""#,
            store_id,
            name
        )
        .fetch_one(&mut *transaction)
        .await?;
        if !is_declared(&mut transaction, store_id).await? {
            declare(&mut transaction, store_id, name, stamp, &self.relays).await?;
        }
        let store = sqlx::query_as!(
            StoreRow,
            "SELECT store_id, name, home_node, created_at FROM stores WHERE store_id = $1",
            store_id
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(CreatedStore { store, created })
    }

    /// All shops, by id.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.stores", level = "debug", skip_all)]
    pub async fn stores(&self) -> Result<Vec<StoreRow>, Error> {
        let rows = sqlx::query_as!(
            StoreRow,
            "SELECT store_id, name, home_node, created_at FROM stores ORDER BY store_id"
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// Whether a shop is registered.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.store_exists", level = "debug", skip_all)]
    pub async fn store_exists(&self, store_id: Uuid) -> Result<bool, Error> {
        let known = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM stores WHERE store_id = $1) AS "known!""#,
            store_id
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(known)
    }
}

/// Whether a declaration is known: it stands, or is on its way to its projector.
async fn is_declared(connection: &mut PgConnection, store_id: Uuid) -> Result<bool, Error> {
    let declared = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM stores WHERE store_id = $1 AND declared_by IS NOT NULL)
               OR EXISTS (SELECT 1 FROM outbox_entries
                   WHERE store_id = $1 AND event_type = 'StoreDeclared' AND target = 'projection' AND entity = 'store'
                     AND peer = '' AND status = 'pending') AS "declared!""#,
        store_id
    )
    .fetch_one(connection)
    .await?;
    Ok(declared)
}

/// Writes that this node is the store's home, with the rows of that.
async fn declare(
    connection: &mut PgConnection,
    store_id: Uuid,
    name: &str,
    stamp: &NodeStamp,
    relays: &Relays,
) -> Result<(), Error> {
    let author = Author::next(connection, store_id).await?;
    let payload = home::declaration(&author.node_id, name);
    let draft = Draft { event_type: "StoreDeclared", payload: &payload, clock: VectorClock::default() };
    if let Err(refused) = author.write(connection, draft, stamp, relays).await? {
        return Err(Error::Inconsistent { table: "events", what: refused });
    }
    projections::project_own(connection, store_id, &stamp.event_id.to_string()).await
}
