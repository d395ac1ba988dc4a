//! The lease's key in Redis: the lease's name, with the holder as its value, expired by Redis.
//!
//! A connection a call: a lease is asked for every few minutes, and one that is made anew knows nothing of a Redis that
//! died. Never here: tokens, and what happens where Redis does not answer.

use crate::Error;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError};
use std::time::Duration;

/// Longest wait for Redis, connection and answer together: PostgreSQL can decide as well, so nobody waits for long.
const LIMIT: Duration = Duration::from_millis(1_500);

/// Removes the key if it is the holder's.
const DELETE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
/// Keeps the key for longer if it is the holder's.
const EXTEND: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
/// Sets the key if it is free or the holder's.
const ENTER: &str = "local holder = redis.call('GET', KEYS[1])
    if holder and holder ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1";

/// Redis did not answer, or not as one that keeps leases.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer within {} ms", LIMIT.as_millis())]
    Silent,
    #[error("Redis failed")]
    Redis(#[from] RedisError),
}

/// Keeps leases in Redis.
#[derive(Debug, Clone)]
pub(super) struct RedisKeeper {
    client: Client,
}

impl RedisKeeper {
    /// Opens no connection.
    pub(super) fn open(url: &str) -> Result<Self, Error> {
        if url.starts_with("rediss:") {
            // The first one stands; without one the client would panic where several are compiled in.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        // The client's own words might quote a password.
        let client = Client::open(url)
            .map_err(|_| Error::Configuration("the URL of Redis is none that can be read".to_owned()))?;
        Ok(RedisKeeper { client })
    }

    /// Sets the key if it is free. Whether it was.
    pub(super) async fn take(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, Failure> {
        let mut set = redis::cmd("SET");
        set.arg(name).arg(holder).arg("NX").arg("PX").arg(millis(ttl));
        let ok: Option<String> = self.ask(&set).await?;
        Ok(ok.is_some())
    }

    /// Removes the key if it is the holder's. Whether it was.
    pub(super) async fn delete(&self, name: &str, holder: &str) -> Result<bool, Failure> {
        self.ask(redis::cmd("EVAL").arg(DELETE).arg(1).arg(name).arg(holder)).await
    }

    /// Keeps the key for `ttl` from now if it is the holder's. Whether it is.
    pub(super) async fn extend(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, Failure> {
        self.ask(redis::cmd("EVAL").arg(EXTEND).arg(1).arg(name).arg(holder).arg(millis(ttl))).await
    }

    /// Sets the key if it is free or the holder's. Whether it was.
    pub(super) async fn enter(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, Failure> {
        self.ask(redis::cmd("EVAL").arg(ENTER).arg(1).arg(name).arg(holder).arg(millis(ttl))).await
    }

    /// A request that may have been done also where no answer came.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        let ask = async {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(LIMIT))
                .set_response_timeout(Some(LIMIT));
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            Ok(command.query_async(&mut connection).await?)
        };
        tokio::time::timeout(LIMIT, ask).await.unwrap_or(Err(Failure::Silent))
    }
}

/// At least one: Redis refuses less.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}
