//! The lease's row in PostgreSQL: its token, and who has it where Redis does not say so. All times are the server's.
//!
//! `clock_timestamp()`, since `now()` is when a transaction began, which may have waited for a lock since. Never here:
//! Redis.

use super::Held;
use crate::{Error, Store};
use sqlx::PgConnection;
use std::time::Duration;

/// Takes the lease if it is free or expired, and draws its token; `None`: somebody has it.
pub(super) async fn take(
    store: &Store,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<Option<i64>, Error> {
    let mut transaction = store.begin_durable().await?;
    // A lease that somebody has is passed over without its lock, which a write under it may have.
    let token = sqlx::query_scalar!(
        r#"WITH again AS (
               UPDATE leases SET holder = $2, token = token + 1,
                   expires_at = clock_timestamp() + make_interval(secs => $3)
               WHERE name = $1 AND (holder IS NULL OR expires_at IS NULL OR expires_at <= clock_timestamp())
               RETURNING token
           ), first AS (
               INSERT INTO leases (name, holder, token, expires_at)
               SELECT $1, $2, 1, clock_timestamp() + make_interval(secs => $3)
               WHERE NOT EXISTS (SELECT 1 FROM leases WHERE name = $1)
               ON CONFLICT DO NOTHING RETURNING token
           )
           SELECT token AS "token!" FROM again UNION ALL SELECT token FROM first"#,
        name,
        holder,
        ttl.as_secs_f64()
    )
    .fetch_optional(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(token)
}

/// Draws a token for whom Redis gave the lease, whoever had it before.
pub(super) async fn seize(store: &Store, name: &str, holder: &str, ttl: Duration) -> Result<i64, Error> {
    let mut transaction = store.begin_durable().await?;
    let token = sqlx::query_scalar!(
        "INSERT INTO leases (name, holder, token, expires_at)
         VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
         ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, token = leases.token + 1,
             expires_at = clock_timestamp() + make_interval(secs => $3)
         RETURNING token",
        name,
        holder,
        ttl.as_secs_f64()
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(token)
}

/// Keeps the lease for longer; whether it is still the holder's.
pub(super) async fn extend(store: &Store, held: &Held, ttl: Duration) -> Result<bool, Error> {
    let extended = sqlx::query!(
        "UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $4)
         WHERE name = $1 AND holder = $2 AND token = $3 AND expires_at > clock_timestamp()",
        held.name,
        held.holder,
        held.fence.token,
        ttl.as_secs_f64()
    )
    .execute(&store.pool)
    .await?;
    Ok(extended.rows_affected() == 1)
}

/// Gives the lease back; whether it was still the holder's. The token stays, so that the next one is greater.
pub(super) async fn free(store: &Store, held: &Held) -> Result<bool, Error> {
    let freed = sqlx::query!(
        "UPDATE leases SET holder = NULL, expires_at = NULL
         WHERE name = $1 AND holder = $2 AND token = $3 AND expires_at > clock_timestamp()",
        held.name,
        held.holder,
        held.fence.token
    )
    .execute(&store.pool)
    .await?;
    Ok(freed.rows_affected() == 1)
}

/// The lease's token, which stays until the end of the transaction.
pub(super) async fn token_for_share(connection: &mut PgConnection, name: &str) -> Result<Option<i64>, Error> {
    let token = sqlx::query_scalar!("SELECT token FROM leases WHERE name = $1 FOR SHARE", name)
        .fetch_optional(connection)
        .await?;
    Ok(token)
}
