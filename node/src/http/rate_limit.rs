//! How often a device may call: so many requests a second, and a burst.
//!
//! Counted by (store, device) after the credential is known, so a stranger's requests never spend a
//! device's allowance. What never will be here: a limit for the admin, or one by address (a shop's
//! tills share theirs).

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};
use uuid::Uuid;

use super::error::Problem;

/// After so many requests the devices that have gone quiet are forgotten.
const SWEEP_EVERY: u32 = 4096;

/// Longest wait that is asked for, in seconds, whatever the configured rate.
const MAX_WAIT: u64 = 60;

type Key = (Uuid, String);

/// The limiter of a node. Time is governor's own clock, monotonic, so that tests can set it.
pub struct RateLimit<C: Clock = DefaultClock> {
    limiter: RateLimiter<Key, DashMapStateStore<Key>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    requests: AtomicU32,
}

impl RateLimit {
    /// A limiter of `rps` requests a second and device, `burst` at once.
    pub fn new(rps: NonZeroU32, burst: NonZeroU32) -> Self {
        Self::with_clock(rps, burst, DefaultClock::default())
    }
}

impl<C: Clock> std::fmt::Debug for RateLimit<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimit").finish_non_exhaustive()
    }
}

impl<C: Clock + Clone> RateLimit<C> {
    /// As [`RateLimit::new`], by another clock.
    pub fn with_clock(rps: NonZeroU32, burst: NonZeroU32, clock: C) -> Self {
        let quota = Quota::per_second(rps).allow_burst(burst);
        Self {
            limiter: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()),
            clock,
            requests: AtomicU32::new(0),
        }
    }

    /// Counts one request; 429 with the whole seconds to wait where it is one too many.
    pub fn check(&self, store: Uuid, device: &str) -> Result<(), Problem> {
        if self.requests.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(&(store, device.to_owned())).map_err(|refused| {
            let wait = refused.wait_time_from(self.clock.now());
            let seconds = wait.as_millis().div_ceil(1000).clamp(1, MAX_WAIT.into());
            Problem::rate_limited(u32::try_from(seconds).unwrap_or(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::{ResponseError, http::header};
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limit(rps: u32, burst: u32) -> (RateLimit<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let count = |n| NonZeroU32::new(n).unwrap();
        (RateLimit::with_clock(count(rps), count(burst), clock.clone()), clock)
    }

    #[test]
    fn the_burst_passes_and_then_the_rate() {
        let (limit, clock) = limit(50, 100);
        let store = Uuid::from_u128(1);
        assert_eq!((0..150).filter(|_| limit.check(store, "d").is_ok()).count(), 100);
        clock.advance(Duration::from_secs(1));
        assert_eq!((0..150).filter(|_| limit.check(store, "d").is_ok()).count(), 50);
    }

    #[test]
    fn devices_and_stores_are_counted_apart() {
        let (limit, _clock) = limit(1, 1);
        for (store, device) in [(1, "a"), (1, "b"), (2, "a")] {
            limit.check(Uuid::from_u128(store), device).unwrap();
        }
        limit.check(Uuid::from_u128(1), "a").unwrap_err();
    }

    #[test]
    fn the_wait_is_told_in_whole_seconds() {
        let (limit, _clock) = limit(1, 1);
        limit.check(Uuid::nil(), "d").unwrap();
        let answer = limit.check(Uuid::nil(), "d").unwrap_err().error_response();
        assert_eq!(answer.status().as_u16(), 429);
        assert_eq!(answer.headers().get(header::RETRY_AFTER).unwrap(), "1");
    }

    #[test]
    fn quiet_devices_are_forgotten() {
        let (limit, clock) = limit(1000, 1);
        for device in 0..SWEEP_EVERY - 1 {
            limit.check(Uuid::nil(), &device.to_string()).unwrap();
        }
        clock.advance(Duration::from_secs(60));
        limit.check(Uuid::nil(), "last").unwrap();
        assert!(limit.limiter.len() <= 1, "{}", limit.limiter.len());
    }
}
