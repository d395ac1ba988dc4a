//! Tills: their tokens (hashed), when they were last heard, how far they have pulled.

use crate::{Error, Store};
use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

/// SHA-256 of a device token; the token itself is never stored.
pub type TokenHash = [u8; 32];

/// A registered till.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceRow {
    /// The shop.
    pub store_id: Uuid,
    /// The till.
    pub device_id: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When its token was withdrawn.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When its last event came.
    pub last_seen_at: Option<DateTime<Utc>>,
}

/// The end of what a device was last given by a pull.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PullPosition {
    /// `received_at` of the last event.
    pub received_at: DateTime<Utc>,
    /// Its id.
    pub event_id: String,
}

impl Store {
    /// The store and device of a token that is not withdrawn.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.devices.by_token", level = "debug", skip_all)]
    pub async fn device_by_token(&self, token_hash: &[u8]) -> Result<Option<(Uuid, String)>, Error> {
        let row = sqlx::query!(
            "SELECT store_id, device_id FROM devices WHERE token_hash = $1 AND revoked_at IS NULL",
            token_hash
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| (row.store_id, row.device_id)))
    }

    /// Makes a device known, as a v1 JWT's push does; a known one stays as it is.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.register_device", level = "debug", skip_all)]
    pub async fn register_device(&self, store_id: Uuid, device_id: &str) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO devices (store_id, device_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            store_id,
            device_id
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Gives a device a token; its old one dies. `Ok(false)`: the store is unknown.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.set_device_token", level = "debug", skip_all)]
    pub async fn set_device_token(
        &self,
        store_id: Uuid,
        device_id: &str,
        token_hash: &TokenHash,
    ) -> Result<bool, Error> {
        let done = sqlx::query!(
            "INSERT INTO devices (store_id, device_id, token_hash)
             SELECT $1, $2, $3 FROM stores WHERE store_id = $1
             ON CONFLICT (store_id, device_id) DO UPDATE SET token_hash = EXCLUDED.token_hash, revoked_at = NULL",
            store_id,
            device_id,
            token_hash.as_slice()
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Withdraws a device's token. `Ok(false)`: no such device.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.revoke_device", level = "debug", skip_all)]
    pub async fn revoke_device(&self, store_id: Uuid, device_id: &str) -> Result<bool, Error> {
        let done = sqlx::query!(
            "UPDATE devices SET revoked_at = coalesce(revoked_at, now()), token_hash = NULL
             WHERE store_id = $1 AND device_id = $2",
            store_id,
            device_id
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Devices of one store or of all, by id.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.devices", level = "debug", skip_all)]
    pub async fn devices(&self, store_id: Option<Uuid>) -> Result<Vec<DeviceRow>, Error> {
        let rows = sqlx::query_as!(
            DeviceRow,
            r#"SELECT d.store_id, d.device_id, d.created_at, d.revoked_at,
                   (SELECT max(e.received_at) FROM (SELECT received_at FROM events
                        WHERE store_id = d.store_id AND device_id = d.device_id
                        ORDER BY seq DESC NULLS LAST LIMIT 1) e) AS last_seen_at
               FROM devices d WHERE $1::uuid IS NULL OR d.store_id = $1 ORDER BY d.store_id, d.device_id"#,
            store_id
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// Remembers what a device was given.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.set_pull_position", level = "debug", skip_all)]
    pub async fn set_pull_position(
        &self,
        store_id: Uuid,
        device_id: &str,
        position: &PullPosition,
    ) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE devices SET pull_checkpoint = $3, pull_event_id = $4 WHERE store_id = $1 AND device_id = $2",
            store_id,
            device_id,
            position.received_at,
            position.event_id
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
