//! One repair of a node at a time, whoever began it: a call, a command, another pod.

use crate::{Error, Store};
use sqlx::{Connection as _, PgConnection};

/// Key of the advisory lock that a repair holds: "mend".
const LOCK: i64 = 0x6d65_6e64;

/// The right to mend this node, as long as it lives. It goes with the connection, however that ends.
#[derive(Debug)]
pub struct Mending(PgConnection);

impl Store {
    /// Begins a repair. `None`: somebody else is at it.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.triage.begin_mending", level = "debug", skip_all)]
    pub async fn begin_mending(&self) -> Result<Option<Mending>, Error> {
        let mut connection = self.questioner().await?;
        let is_ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut connection)
            .await?;
        Ok(is_ours.then_some(Mending(connection)))
    }
}

impl Mending {
    /// Lets others mend.
    pub async fn end(self) {
        // One that does not close is dropped all the same.
        let _ = self.0.close().await;
    }
}
