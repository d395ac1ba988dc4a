//! Whether the database can be worked with.

use crate::{Error, MIGRATOR, Store};

/// What `/readyz` asks of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// All migrations of this version are applied.
    pub migrated: bool,
    /// It takes writes.
    pub writable: bool,
}

impl Store {
    /// Asks the database for its state.
    ///
    /// # Errors
    /// The database's: then it is not reachable.
    #[tracing::instrument(name = "db.readiness", level = "debug", skip_all)]
    pub async fn readiness(&self) -> Result<Readiness, Error> {
        let latest = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
        let row = sqlx::query!(
            r#"SELECT NOT (pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean) AS "writable!",
                   to_regclass('_sqlx_migrations') IS NOT NULL AS "tracked!""#
        )
        .fetch_one(&self.pool)
        .await?;
        if !row.writable {
            self.renew_sessions(&self.pool).await;
        }
        if !row.tracked {
            return Ok(Readiness { migrated: false, writable: row.writable });
        }
        // sqlx's own table, which exists only once a migration has run.
        let applied: Option<i64> =
            sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
                .fetch_one(&self.pool)
                .await?;
        Ok(Readiness { migrated: applied >= Some(latest), writable: row.writable })
    }
}
