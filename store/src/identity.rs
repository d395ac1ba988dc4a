//! Who this node is, and whether its database is still the one that it was.
//!
//! A database that was restored from a backup, copied, or promoted after a failover has lost a part of its past, which
//! others know. So it gets another incarnation: peers and tills notice by that, and the node does not write under a
//! sequence that it may have used. Never here: backups themselves (see `crate::backup`).

use crate::{Error, MIGRATOR, Store};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// What tells a node's database from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node_id: String,
    /// Tells its database from an earlier state of itself.
    pub incarnation: Uuid,
    /// When it was last found to be restored.
    pub restored_at: Option<DateTime<Utc>>,
    /// The newest migration.
    pub schema_version: i64,
}

impl Store {
    /// Who this node is: made at the first start and kept in the database, which all pods share.
    ///
    /// # Errors
    /// [`Error::Configuration`] where another id is configured than the database holds.
    #[tracing::instrument(name = "db.node_id", level = "debug", skip_all)]
    pub async fn node_id(&self, configured: Option<&str>, fresh: &str) -> Result<String, Error> {
        sqlx::query!(
            "INSERT INTO node_identity (node_id) VALUES ($1) ON CONFLICT DO NOTHING",
            configured.unwrap_or(fresh)
        )
        .execute(&self.pool)
        .await?;
        let node_id = sqlx::query_scalar!("SELECT node_id FROM node_identity").fetch_one(&self.pool).await?;
        match configured {
            Some(other) if other != node_id => Err(Error::Configuration(format!(
                "VELOX_NODE_ID is {other}, but this database belongs to node {node_id}"
            ))),
            _ => Ok(node_id),
        }
    }

    /// What tells this node's database from others.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.identity", level = "debug", skip_all)]
    pub async fn identity(&self) -> Result<Identity, Error> {
        let row = sqlx::query!("SELECT node_id, incarnation, restored_at FROM node_identity")
            .fetch_one(&self.pool)
            .await?;
        // A node serves after its migrations.
        let schema_version = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
        Ok(Identity {
            node_id: row.node_id,
            incarnation: row.incarnation,
            restored_at: row.restored_at,
            schema_version,
        })
    }

    /// Whether the database was found to be restored so lately.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.was_restored", level = "debug", skip_all)]
    pub async fn was_restored(&self, lately: Duration) -> Result<bool, Error> {
        let restored = sqlx::query_scalar!(
            r#"SELECT coalesce(max(restored_at) > now() - make_interval(secs => $1), false) AS "restored!"
               FROM node_identity"#,
            lately.as_secs_f64()
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(restored)
    }

    /// Looks whether this is still the database that the node had, and makes its incarnation anew where it is not.
    /// `true`: it was. Before anything is written as the node; of several pods one does it.
    ///
    /// Sees a restore into another database, a copy, and a promoted replica. Not a disk that was put back to an earlier
    /// state: nothing in it tells.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.notice_restore", level = "debug", skip_all)]
    pub async fn notice_restore(&self) -> Result<bool, Error> {
        let mut transaction = self.begin_durable().await?;
        let known = sqlx::query!("SELECT database_id FROM node_identity FOR UPDATE")
            .fetch_optional(&mut *transaction)
            .await?;
        let (Some(known), Some(current)) = (known, database_id(&mut transaction).await?) else {
            return Ok(false);
        };
        if known.database_id.as_ref() == Some(&current) {
            return Ok(false);
        }
        // A database of before this was looked at is taken as it is.
        let restored = known.database_id.is_some();
        if restored {
            renew(&mut transaction).await?;
        }
        sqlx::query!("UPDATE node_identity SET database_id = $1", current).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(restored)
    }
}

/// What only this database has: no copy, no restored one, and none that a replica went on with. `None`: the server does
/// not let us know.
async fn database_id(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    let id = sqlx::query_scalar!(
        "SELECT CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')
                     AND has_function_privilege('pg_control_checkpoint()', 'EXECUTE')
                THEN (SELECT system_identifier FROM pg_control_system()) || '.'
                     || (SELECT timeline_id FROM pg_control_checkpoint()) || '.'
                     || (SELECT oid FROM pg_database WHERE datname = current_database()) END"
    )
    .fetch_one(connection)
    .await?;
    Ok(id)
}

/// Another incarnation. What the database holds of the present of its earlier self is forgotten: who had which lease,
/// and how it went with peers.
pub(crate) async fn renew(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("UPDATE node_identity SET incarnation = gen_random_uuid(), restored_at = now()")
        .execute(&mut *connection)
        .await?;
    sqlx::query!("UPDATE leases SET holder = NULL, expires_at = NULL, token = token + 1")
        .execute(&mut *connection)
        .await?;
    sqlx::query!("DELETE FROM peer_breakers").execute(connection).await?;
    Ok(())
}
