//! What a relay shows of itself, readable without asking it.

use crate::breaker::BreakerState;
use crate::peer::Failure;
use chrono::{DateTime, Utc};
use std::sync::{Mutex, MutexGuard, PoisonError};
use velox_protocol::federation::NodeIdentity;
use velox_store::OutboxDone;

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
pub struct RelayView {
    status: Mutex<RelayStatus>,
    who: Mutex<Who>,
    work: Mutex<OutboxDone>,
}

/// What the peer says of itself.
#[derive(Debug, Default)]
struct Who {
    /// Last.
    heard: Option<NodeIdentity>,
    /// Last, of what the database knows.
    noted: Option<NodeIdentity>,
}

impl Default for RelayView {
    fn default() -> Self {
        let status = RelayStatus {
            breaker: BreakerState::Closed { failures: 0 }.name(),
            last_success_at: None,
            last_error: None,
            last_refusal: None,
        };
        RelayView { status: Mutex::new(status), who: Mutex::default(), work: Mutex::default() }
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

    /// The peer has said who it is. `true`: the relay has to take note of it.
    pub fn hears(&self, identity: NodeIdentity) -> bool {
        let mut who = locked(&self.who);
        who.heard = Some(identity);
        who.heard != who.noted
    }

    /// What has to be noted.
    pub(super) fn unnoted(&self) -> Option<NodeIdentity> {
        let who = locked(&self.who);
        who.heard.clone().filter(|heard| Some(heard) != who.noted.as_ref())
    }

    pub(super) fn noted(&self, identity: NodeIdentity) {
        locked(&self.who).noted = Some(identity);
    }

    pub(super) fn worked(&self, work: OutboxDone) {
        let mut sum = locked(&self.work);
        sum.done += work.done;
        sum.failed += work.failed;
        sum.total_ms += work.total_ms;
    }

    /// What was done since the last call.
    pub(super) fn take_work(&self) -> OutboxDone {
        std::mem::take(&mut *locked(&self.work))
    }

    fn lock(&self) -> MutexGuard<'_, RelayStatus> {
        locked(&self.status)
    }
}

/// A few independent fields are whole whatever happened to a holder.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
