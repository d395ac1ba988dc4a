//! The circuit breaker of a peer: a pure state machine, one function a state. Time comes in.
//!
//! Never here: what a failure is, waiting, keeping the state over a restart.

use std::time::Duration;
use tokio::time::Instant;

/// When a breaker opens, and how it closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it.
    pub failures: u32,
    /// Successes in a row that close it.
    pub successes: u32,
    /// How long it stays open before the first trial.
    pub open: Duration,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything goes through; so many failures in a row so far.
    Closed {
        /// Of [`BreakerPolicy::failures`].
        failures: u32,
    },
    /// Nothing goes through until then.
    Open {
        /// When the first trial may go.
        until: Instant,
    },
    /// One trial at a time; so many successes in a row so far.
    HalfOpen {
        /// Of [`BreakerPolicy::successes`].
        successes: u32,
    },
}

impl BreakerState {
    /// As logs, the database and the status say it.
    pub const fn name(self) -> &'static str {
        match self {
            BreakerState::Closed { .. } => "CLOSED",
            BreakerState::Open { .. } => "OPEN",
            BreakerState::HalfOpen { .. } => "HALF_OPEN",
        }
    }
}

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Whatever there is.
    All,
    /// One request, and its outcome before the next.
    Trial,
    /// Nothing before then.
    NotBefore(Instant),
}

/// How an exchange with the peer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// A well-formed answer.
    Success,
    /// Anything else.
    Failure,
}

/// The breaker of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
}

impl Breaker {
    /// A closed one.
    pub const fn new(policy: BreakerPolicy) -> Self {
        Breaker { policy, state: BreakerState::Closed { failures: 0 } }
    }

    /// One that stood elsewhere before a restart. `open_for`: how long ago it opened.
    pub fn restored(
        policy: BreakerPolicy,
        name: &str,
        counted: u32,
        open_for: Duration,
        now: Instant,
    ) -> Self {
        let state = match name {
            "OPEN" => BreakerState::Open { until: now + policy.open.saturating_sub(open_for) },
            "HALF_OPEN" => BreakerState::HalfOpen { successes: counted.min(policy.successes - 1) },
            _ => BreakerState::Closed { failures: counted.min(policy.failures - 1) },
        };
        Breaker { policy, state }
    }

    /// Where it stands.
    pub const fn state(&self) -> BreakerState {
        self.state
    }

    /// What may be sent now; an open one whose time has passed becomes half open.
    pub fn admit(&mut self, now: Instant) -> Admission {
        if let BreakerState::Open { until } = self.state {
            if now < until {
                return Admission::NotBefore(until);
            }
            self.state = BreakerState::HalfOpen { successes: 0 };
        }
        match self.state {
            BreakerState::HalfOpen { .. } => Admission::Trial,
            _ => Admission::All,
        }
    }

    /// Takes note of an exchange; true where the state is another now.
    pub fn record(&mut self, exchange: Exchange, now: Instant) -> bool {
        let before = self.state.name();
        self.state = match self.state {
            BreakerState::Closed { failures } => self.closed(failures, exchange, now),
            BreakerState::HalfOpen { successes } => self.half_open(successes, exchange, now),
            BreakerState::Open { until } => self.open(until, exchange),
        };
        self.state.name() != before
    }

    fn closed(&self, failures: u32, exchange: Exchange, now: Instant) -> BreakerState {
        match exchange {
            Exchange::Success => BreakerState::Closed { failures: 0 },
            Exchange::Failure if failures + 1 < self.policy.failures => {
                BreakerState::Closed { failures: failures + 1 }
            }
            Exchange::Failure => self.opened(now),
        }
    }

    fn half_open(&self, successes: u32, exchange: Exchange, now: Instant) -> BreakerState {
        match exchange {
            Exchange::Failure => self.opened(now),
            Exchange::Success if successes + 1 < self.policy.successes => {
                BreakerState::HalfOpen { successes: successes + 1 }
            }
            Exchange::Success => BreakerState::Closed { failures: 0 },
        }
    }

    /// An exchange that was under way when it opened tells nothing new.
    fn open(&self, until: Instant, _: Exchange) -> BreakerState {
        BreakerState::Open { until }
    }

    fn opened(&self, now: Instant) -> BreakerState {
        BreakerState::Open { until: now + self.policy.open }
    }
}

#[cfg(test)]
mod tests {
    use super::Exchange::{Failure, Success};
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy { failures: 5, successes: 3, open: Duration::from_secs(60) };

    /// A breaker that has gone through these at `now`.
    fn after(exchanges: &[Exchange], now: Instant) -> Breaker {
        let mut breaker = Breaker::new(POLICY);
        for exchange in exchanges {
            breaker.admit(now);
            breaker.record(*exchange, now);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_four_do_not() {
        let now = Instant::now();
        assert_eq!(after(&[Failure; 4], now).state(), BreakerState::Closed { failures: 4 });
        assert_eq!(after(&[Failure; 5], now).state(), BreakerState::Open { until: now + POLICY.open });
        let broken_row = [Failure, Failure, Failure, Failure, Success, Failure, Failure, Failure, Failure];
        assert_eq!(after(&broken_row, now).state(), BreakerState::Closed { failures: 4 });
    }

    #[test]
    fn an_open_one_admits_nothing_for_sixty_seconds_and_then_one_trial() {
        let opened = Instant::now();
        let mut breaker = after(&[Failure; 5], opened);
        let due = opened + POLICY.open;
        assert_eq!(breaker.admit(opened), Admission::NotBefore(due));
        assert_eq!(breaker.admit(due - Duration::from_millis(1)), Admission::NotBefore(due));
        assert_eq!(breaker.admit(due), Admission::Trial);
        assert_eq!(breaker.state(), BreakerState::HalfOpen { successes: 0 });
    }

    #[test]
    fn three_successes_close_a_half_open_one_and_one_failure_opens_it_anew() {
        let opened = Instant::now();
        let now = opened + POLICY.open;
        let mut half_open = after(&[Failure; 5], opened);
        half_open.admit(now);
        let mut closing = half_open;
        assert!(!closing.record(Success, now) && !closing.record(Success, now));
        assert_eq!(closing.admit(now), Admission::Trial);
        assert!(closing.record(Success, now));
        assert_eq!(closing.state(), BreakerState::Closed { failures: 0 });
        assert_eq!(closing.admit(now), Admission::All);
        let mut failing = half_open;
        failing.record(Success, now);
        assert!(failing.record(Failure, now));
        assert_eq!(failing.state(), BreakerState::Open { until: now + POLICY.open });
        assert!(!failing.record(Success, now), "a late answer does not close an open one");
    }

    #[test]
    fn a_restart_keeps_where_it_stood_and_the_time_that_is_left() {
        let now = Instant::now();
        let restored = |name, counted, ago| {
            Breaker::restored(POLICY, name, counted, Duration::from_secs(ago), now).state()
        };
        assert_eq!(restored("OPEN", 0, 20), BreakerState::Open { until: now + Duration::from_secs(40) });
        assert_eq!(restored("OPEN", 0, 90), BreakerState::Open { until: now });
        assert_eq!(restored("HALF_OPEN", 2, 0), BreakerState::HalfOpen { successes: 2 });
        assert_eq!(restored("HALF_OPEN", 9, 0), BreakerState::HalfOpen { successes: 2 });
        assert_eq!(restored("CLOSED", 4, 0), BreakerState::Closed { failures: 4 });
        assert_eq!(restored("", 9, 0), BreakerState::Closed { failures: 4 });
    }
}
