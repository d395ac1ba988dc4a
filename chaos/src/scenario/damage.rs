//! Damage and looks that no call of a node offers, by SQL in the database of an embedded PostgreSQL.
//!
//! Never here: what the damage is for.

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::cluster::Pod;

/// Statements that keep the event log from being written, until the connection ends.
const HOLD_WRITERS: &str = "BEGIN; LOCK TABLE events IN SHARE MODE";

/// What an operator counts in a node's tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub(super) struct Counts {
    pub(super) gaps: i64,
    pub(super) dead: i64,
    pub(super) pending: i64,
    pub(super) failed: i64,
}

async fn connect(pod: &Pod) -> Result<PgConnection> {
    let options = pod.database()?.application_name("velox-chaos");
    options.connect().await.context("the node's database")
}

/// Runs statements of ours as PostgreSQL's superuser.
pub(super) async fn execute(pod: &Pod, statements: String) -> Result<()> {
    let mut connection = connect(pod).await?;
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await?;
    Ok(connection.close().await?)
}

/// Takes events out of a log as no program can.
pub(super) async fn lose_events(pod: &Pod, event_ids: &[String]) -> Result<()> {
    let list = event_ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(",");
    let deletion = format!("DELETE FROM events WHERE event_id IN ({list})");
    execute(pod, format!("BEGIN; SET LOCAL session_replication_role = replica; {deletion}; COMMIT")).await
}

/// Takes away all that waits for a peer; how much that was.
pub(super) async fn lose_relays(pod: &Pod) -> Result<u64> {
    let mut connection = connect(pod).await?;
    let gone = connection.execute("DELETE FROM outbox_entries WHERE target = 'federation-relay'").await?;
    connection.close().await?;
    Ok(gone.rows_affected())
}

/// Keeps every writer of the event log waiting, until what is returned is dropped.
pub(super) async fn hold_writers(pod: &Pod) -> Result<PgConnection> {
    let mut connection = connect(pod).await?;
    connection.execute(HOLD_WRITERS).await?;
    Ok(connection)
}

/// Counts gaps, entries and failed events.
pub(super) async fn counts(pod: &Pod) -> Result<Counts> {
    let mut connection = connect(pod).await?;
    let counts = sqlx::query_as(
        "SELECT (SELECT count(*) FROM event_gaps g WHERE NOT EXISTS (SELECT 1 FROM outbox_entries o
                    WHERE o.store_id = g.store_id AND o.event_id = g.event_id AND o.target = 'projection')) AS gaps,
                (SELECT count(*) FROM outbox_entries WHERE status = 'dead') AS dead,
                (SELECT count(*) FROM outbox_entries WHERE status = 'pending') AS pending,
                (SELECT count(*) FROM event_exceptions WHERE status = 'failed') AS failed",
    );
    let counts = counts.fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(counts)
}
