//! The note that a table was repaired and does not have yet what its events say: a comment on the table, written in the
//! transaction of the repair and taken away after the rebuild, so that a repair that is cut short is gone on with.

use crate::{Error, Store};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::collections::BTreeSet;

/// The comment.
const DUE: &str = "velox: a rebuild is due";
/// Statements that leave a table without what its events say, until it is rebuilt.
const NEEDS_REBUILD: [&str; 4] = ["ADD COLUMN", "ALTER COLUMN", "CREATE TABLE", "DELETE FROM"];
/// What a column gets once it is filled.
const STRICT: &str = " SET NOT NULL";
/// not_null_violation
const EMPTY: &str = "23502";

impl Store {
    /// Whether a repaired table waits for its rebuild.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.schema.due", level = "debug", skip_all)]
    pub async fn is_rebuild_due(&self) -> Result<bool, Error> {
        Ok(!tables(&mut *self.pool.acquire().await?).await?.is_empty())
    }

    /// Notes that all stores are rebuilt.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.schema.rebuilt", level = "debug", skip_all)]
    pub async fn rebuild_is_done(&self) -> Result<(), Error> {
        let mut owner = PgConnection::connect_with(&self.pool.connect_options()).await?;
        for table in tables(&mut owner).await? {
            let cleared = format!("COMMENT ON TABLE public.{table} IS NULL");
            sqlx::raw_sql(AssertSqlSafe(cleared)).execute(&mut owner).await?;
        }
        // One that does not close is dropped all the same.
        let _ = owner.close().await;
        Ok(())
    }
}

/// Tables that wait for their rebuild.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<BTreeSet<String>, Error> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND obj_description(oid, 'pg_class') = $1",
    )
    .bind(DUE)
    .fetch_all(connection)
    .await?;
    Ok(tables.into_iter().collect())
}

/// Runs a statement that repairs a table, and notes in its transaction that a rebuild is due where one is. `false`: it is
/// to be run after the rebuild.
pub(super) async fn run(
    owner: &mut PgConnection,
    table: &str,
    statement: &str,
    due: &mut BTreeSet<String>,
) -> Result<bool, Error> {
    let noted = format!("COMMENT ON TABLE public.{table} IS '{DUE}'");
    let is_strict = statement.ends_with(STRICT);
    if is_strict && due.contains(table) {
        return Ok(false);
    }
    let needs = !is_strict && NEEDS_REBUILD.iter().any(|part| statement.contains(part));
    // Several statements at once are one transaction.
    let text = if needs { format!("{statement}; {noted}") } else { statement.to_owned() };
    let ran = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *owner).await;
    let is_empty = |error: &sqlx::Error| {
        error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == EMPTY)
    };
    match ran {
        Err(error) if is_strict && is_empty(&error) => {
            sqlx::raw_sql(AssertSqlSafe(noted)).execute(owner).await?;
            due.insert(table.to_owned());
            Ok(false)
        }
        Err(error) => Err(error.into()),
        Ok(_) => {
            if needs {
                due.insert(table.to_owned());
            }
            Ok(true)
        }
    }
}
