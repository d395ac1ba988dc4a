//! What a relay shows of itself, readable without asking it.

use crate::breaker::BreakerState;
use crate::peer::Failure;
use chrono::{DateTime, Utc};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How it goes with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayStatus {
    /// `CLOSED`, `OPEN` or `HALF_OPEN`
    pub breaker: &'static str,
    /// When the peer last answered as it should.
    pub last_success_at: Option<DateTime<Utc>>,
    /// The last failure, and when.
    pub last_error: Option<(String, DateTime<Utc>)>,
    /// The last event that the peer refused: the event, its reason, and when.
    pub last_refusal: Option<(String, String, DateTime<Utc>)>,
}

/// Kept over the restarts of its relay.
#[derive(Debug)]
pub struct RelayView(Mutex<RelayStatus>);

impl Default for RelayView {
    fn default() -> Self {
        RelayView(Mutex::new(RelayStatus {
            breaker: BreakerState::Closed { failures: 0 }.name(),
            last_success_at: None,
            last_error: None,
            last_refusal: None,
        }))
    }
}

impl RelayView {
    /// How it stands now.
    pub fn status(&self) -> RelayStatus {
        self.lock().clone()
    }

    pub(super) fn breaker(&self, state: BreakerState) {
        self.lock().breaker = state.name();
    }

    pub(super) fn succeeded(&self, now: DateTime<Utc>) {
        self.lock().last_success_at = Some(now);
    }

    pub(super) fn failed(&self, failure: &Failure, now: DateTime<Utc>) {
        self.lock().last_error = Some((failure.to_string(), now));
    }

    pub(super) fn refused(&self, event_id: &str, reason: &str, now: DateTime<Utc>) {
        self.lock().last_refusal = Some((event_id.to_owned(), reason.to_owned(), now));
    }

    fn lock(&self) -> MutexGuard<'_, RelayStatus> {
        // A few independent fields are whole whatever happened to a holder.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
