//! The distributed lease: who may do what only one pod should do at a time, and until when.
//!
//! Redis decides where it is configured and reachable, PostgreSQL's row where it is not. Neither can be trusted to
//! name one holder at any time (Redis may be flushed, a holder may sleep past its time), so that every acquisition
//! draws a greater token from PostgreSQL, and whatever a holder writes compares it in the transaction of the write:
//! see [`check_fence`]. It is expired by the clock of who keeps it alone. Never here: what is done under a lease, when
//! it is renewed, or what a holder is called.

mod postgres;
mod redis;

use self::redis::RedisKeeper;
use crate::{Error, Store};
use sqlx::PgConnection;
use std::time::Duration;

/// What tells the holder of a lease from those before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence {
    /// The lease's name.
    pub lease: String,
    /// Greater with every acquisition.
    pub token: i64,
}

/// A lease that was given to us. It may be another's by now: only its fence knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The lease's name.
    pub name: String,
    /// What we are called.
    pub holder: String,
    /// To be given to every write under the lease.
    pub fence: Fence,
    /// Redis gave it; else PostgreSQL did.
    in_redis: bool,
}

/// Gives out leases. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases {
    store: Store,
    redis: Option<RedisKeeper>,
}

impl Leases {
    /// Leases of this store's database; with a Redis that decides who gets one. Opens no connection.
    ///
    /// `redis_url`: `redis://`, `rediss://` or `unix://`.
    ///
    /// # Errors
    /// [`Error::Configuration`] where the URL is none.
    pub fn new(store: Store, redis_url: Option<&str>) -> Result<Self, Error> {
        let redis = redis_url.map(RedisKeeper::open).transpose()?;
        Ok(Leases { store, redis })
    }

    /// Takes a lease for `ttl`; `Ok(None)`: somebody has it. `holder` is unique among all that ask.
    ///
    /// Waits for writes under the lease that are being committed, see [`check_fence`].
    ///
    /// # Errors
    /// PostgreSQL's, without which nothing could be written under the lease. A failure of Redis is none.
    #[tracing::instrument(name = "db.leases.acquire", level = "debug", skip_all, fields(name))]
    pub async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Held>, Error> {
        let given = match &self.redis {
            Some(redis) => heard(redis.take(name, holder, ttl).await, name),
            None => None,
        };
        let token = match (given, &self.redis) {
            (Some(false), _) => None,
            (Some(true), Some(redis)) => match postgres::seize(&self.store, name, holder, ttl).await {
                Ok(token) => Some(token),
                Err(error) => {
                    // Nobody else need wait until the key expires.
                    heard(redis.delete(name, holder).await, name);
                    return Err(error);
                }
            },
            _ => postgres::take(&self.store, name, holder, ttl).await?,
        };
        Ok(token.map(|token| Held {
            name: name.to_owned(),
            holder: holder.to_owned(),
            fence: Fence { lease: name.to_owned(), token },
            in_redis: given == Some(true),
        }))
    }

    /// Keeps a lease for `ttl` from now. `Ok(false)`: it is not ours any more, also where it has only expired.
    ///
    /// # Errors
    /// PostgreSQL's; it may still be ours then.
    #[tracing::instrument(name = "db.leases.renew", level = "debug", skip_all, fields(name = held.name))]
    pub async fn renew(&self, held: &Held, ttl: Duration) -> Result<bool, Error> {
        if !postgres::extend(&self.store, held, ttl).await? {
            return Ok(false);
        }
        let Some(redis) = &self.redis else { return Ok(true) };
        if held.in_redis {
            let kept = redis.extend(&held.name, &held.holder, ttl).await;
            return Ok(heard(kept, &held.name) != Some(false));
        }
        // It was away when we got the lease. Now it may be back, where others would ask it alone. Whoever it gave the
        // lease to meanwhile draws a token, so that the row stays right.
        heard(redis.enter(&held.name, &held.holder, ttl).await, &held.name);
        Ok(true)
    }

    /// Gives a lease back. `Ok(false)`: it was not ours any more, and whoever has it keeps it.
    ///
    /// # Errors
    /// PostgreSQL's; it expires by itself then.
    #[tracing::instrument(name = "db.leases.release", level = "debug", skip_all, fields(name = held.name))]
    pub async fn release(&self, held: &Held) -> Result<bool, Error> {
        // PostgreSQL first: as long as the key is there nobody draws a new token, so that the row says whether it was
        // ours.
        let freed = postgres::free(&self.store, held).await;
        let Some(redis) = &self.redis else { return freed };
        // Also where PostgreSQL gave it: a key may stand from a request whose answer did not come.
        let deleted = heard(redis.delete(&held.name, &held.holder).await, &held.name);
        Ok(freed? && !(held.in_redis && deleted == Some(false)))
    }
}

/// What Redis has answered; `None`: nothing, so PostgreSQL decides.
fn heard(answer: Result<bool, redis::Failure>, name: &str) -> Option<bool> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, lease = name, "Redis does not keep leases now; PostgreSQL decides");
            None
        }
    }
}

/// Refuses the caller's transaction if the lease was given to somebody else since. To be called first in the
/// transaction of every write under a lease.
///
/// `FOR SHARE` orders the write with acquisitions, whose UPDATE it excludes (`FOR KEY SHARE` would not): one that is
/// under way is waited for, and its token is the one that is read then; one that begins later waits until the write
/// is committed. So whoever has a lease sees all that was written under it before, and nothing is written after.
/// Writes under one lease do not wait for each other.
///
/// # Errors
/// [`Error::Fenced`], or the database's.
pub(crate) async fn check_fence(connection: &mut PgConnection, fence: &Fence) -> Result<(), Error> {
    let token = postgres::token_for_share(connection, &fence.lease).await?;
    if token == Some(fence.token) { Ok(()) } else { Err(Error::Fenced) }
}
