//! Who asks, and of which shops: read from whatever a database of any version has, since triage is to find what it lacks.
//!
//! The texts are not checked against the schema when they are compiled: they are asked where it is not as it should be.

use crate::{Error, Store};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

/// The identity as every version of the schema has it.
const IDENTITY: &str = "SELECT node_id, incarnation FROM node_identity";
/// The shops; their names, where the table has them.
const STORES: &str =
    "SELECT store_id, coalesce(to_jsonb(s)->>'name', '') AS name FROM stores s ORDER BY store_id";
/// The same without that table.
const STORES_OF_EVENTS: &str = "SELECT DISTINCT store_id, '' AS name FROM events ORDER BY store_id";

/// What peers must know of a node that asks them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asker {
    /// The node.
    pub node_id: String,
    /// Tells its database from an earlier state of itself.
    pub incarnation: Uuid,
}

impl Store {
    /// Who this node is, whatever its schema lacks. Nobody in particular where it does not say; then peers refuse.
    ///
    /// # Errors
    /// The database's, where it is away.
    #[tracing::instrument(name = "db.triage.asker", level = "debug", skip_all)]
    pub async fn asker(&self) -> Result<Asker, Error> {
        match read(&mut *self.pool.acquire().await?).await {
            Err(error) if !error.is_transient() => Ok(Asker::default()),
            read => read,
        }
    }

    /// The shops that can be looked at, with their names, whatever the schema lacks.
    ///
    /// # Errors
    /// The database's, where it is away or has no log.
    #[tracing::instrument(name = "db.triage.stores", level = "debug", skip_all)]
    pub async fn stores_to_examine(&self) -> Result<Vec<(Uuid, String)>, Error> {
        let rows = match sqlx::query(STORES).fetch_all(&self.pool).await.map_err(Error::from) {
            Err(error) if !error.is_transient() => {
                sqlx::query(STORES_OF_EVENTS).fetch_all(&self.pool).await?
            }
            rows => rows?,
        };
        let read = |row: &sqlx::postgres::PgRow| Ok((row.try_get("store_id")?, row.try_get("name")?));
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
    }
}

pub(super) async fn read(connection: &mut PgConnection) -> Result<Asker, Error> {
    let row = sqlx::query(IDENTITY).fetch_one(connection).await?;
    Ok(Asker { node_id: row.try_get("node_id")?, incarnation: row.try_get("incarnation")? })
}
