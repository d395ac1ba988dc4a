//! One exchange with a peer: claim, send, mark. Pure decisions about batches stand in [`Delivery`].
//!
//! Never here: the breaker, and when the next exchange is.

use crate::Deps;
use crate::breaker::{Breaker, BreakerPolicy, BreakerState};
use crate::peer::v1::V1Client;
use crate::peer::{DEADLINE, Failure, OwnIdentity, Peer, PeerClient, Relayed};
use crate::relay::RelayView;
use crate::trace::{self, BatchSpans};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;
use velox_protocol::federation::MAX_RELAYED;
use velox_store::{Error, OutboxDone, Refusal, RelayClaim, RelayEntry, Store};

/// How long claimed entries are ours: an exchange's deadline and the time to mark it.
const LOCK: Duration = Duration::from_secs(15);
/// Most bytes of payloads in a request; a peer takes 16 MiB.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// So often a peer that is well otherwise fails at an event before that counts as its refusal.
const STRIKES: u32 = 3;

/// How a peer is spoken to.
#[derive(Clone)]
pub enum Wire {
    /// A native node.
    Velox(PeerClient),
    /// A v1 node.
    V1(V1Client),
}

impl Wire {
    /// The peer at its other end.
    pub fn peer(&self) -> &Arc<Peer> {
        match self {
            Wire::Velox(client) => client.peer(),
            Wire::V1(client) => client.peer(),
        }
    }

    /// A native peer's.
    pub(super) fn own(&self) -> Option<&OwnIdentity> {
        match self {
            Wire::Velox(client) => Some(client.own()),
            Wire::V1(_) => None,
        }
    }

    pub(super) fn batch(&self) -> usize {
        match self {
            Wire::Velox(_) => MAX_RELAYED,
            Wire::V1(_) => 1,
        }
    }

    /// Whether the peer is there and takes this node for what it is, outside of any breaker.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self, limit: Duration) -> Result<(), Failure> {
        match self {
            Wire::Velox(client) => client.probe(limit).await.map(drop),
            Wire::V1(client) => client.status(limit).await,
        }
    }

    async fn relay(&self, entries: &[RelayEntry]) -> Result<Relayed, Failure> {
        match (self, entries) {
            (Wire::Velox(client), _) => client.relay(entries).await,
            (Wire::V1(client), [entry, ..]) => client.relay(entry).await,
            (Wire::V1(_), []) => Ok(Relayed::default()),
        }
    }

    /// Whether the peer would take events. A native one says who it is.
    async fn trial(&self, view: &RelayView) -> Result<Done, Failure> {
        match self {
            Wire::Velox(client) => hear(view, &client.relay(&[]).await?),
            Wire::V1(client) => client.status(DEADLINE).await?,
        }
        Ok(Done::Tried)
    }

    /// Whether a peer that failed at something is well otherwise; a trial where that is known by no less.
    async fn check(&self, view: &RelayView) -> Result<Done, Failure> {
        match self {
            Wire::Velox(_) => self.trial(view).await,
            Wire::V1(client) => client.ping(DEADLINE).await.map(|()| Done::Answers),
        }
    }

    /// Why an event can never be sent to this peer.
    fn unsendable(&self, entry: &RelayEntry) -> Option<&'static str> {
        match self {
            Wire::Velox(_) => None,
            Wire::V1(_) => V1Client::unsendable(entry),
        }
    }
}

/// An event that went alone when the peer failed.
pub(super) type Suspect = (Uuid, String);

/// What is sent next, and what is known against single events.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    most: usize,
    limit: usize,
    strikes: BTreeMap<Suspect, u32>,
    /// Put off for their strikes since the peer last took something.
    put_off: BTreeSet<Suspect>,
    /// Whether the peer is well is to be found out first.
    pub(super) wants_trial: bool,
}

/// What a peer's failures at an event say of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guilt {
    /// The peer refuses it.
    Refused,
    /// The peer fails at others as well and has taken nothing since: it is put off, and nothing of it is spent.
    Shared,
}

impl Delivery {
    pub(super) fn new(most: usize) -> Self {
        Delivery { most, limit: most, strikes: BTreeMap::new(), put_off: BTreeSet::new(), wants_trial: false }
    }

    /// Begins with a trial, so that both sides learn who the other is.
    pub(super) fn greeting(self) -> Self {
        Delivery { wants_trial: true, ..self }
    }

    /// Something small went through after something larger did not.
    pub(super) fn is_cautious(&self) -> bool {
        self.limit < self.most
    }

    /// Whether what is due may be what the peer fails at, so that it says little about the peer.
    pub(super) fn has_suspects(&self) -> bool {
        !self.strikes.is_empty()
    }

    pub(super) fn went_well(&mut self, taken: &[Suspect]) {
        self.limit = (self.limit * 2).min(self.most);
        self.strikes.retain(|suspect, _| !taken.contains(suspect));
        self.put_off.clear();
        self.wants_trial = false;
    }

    pub(super) fn tried(&mut self) {
        self.wants_trial = false;
    }

    pub(super) fn halve(&mut self) {
        self.limit = (self.limit / 2).max(1);
    }

    /// It waits now; the next time it begins anew.
    pub(super) fn puts_off(&mut self, suspect: Suspect) {
        self.strikes.remove(&suspect);
        self.put_off.insert(suspect);
    }

    /// A trial follows, to tell whether the peer or what was sent is at fault.
    pub(super) fn went_badly(&mut self, failure: &Failure, suspect: Option<Suspect>) {
        if self.wants_trial {
            // It was the trial that failed: the peer is at fault, and nobody else.
            self.strikes.clear();
            return;
        }
        self.halve();
        self.wants_trial = true;
        if let Some(suspect) = suspect.filter(|_| failure.is_server_error()) {
            *self.strikes.entry(suspect).or_insert(0) += 1;
        }
    }

    /// Whether the peer has failed at this event often enough while it was well.
    fn guilt(&self, suspect: &Suspect) -> Option<Guilt> {
        self.strikes.get(suspect).filter(|strikes| **strikes >= STRIKES)?;
        let mut suspects = self.put_off.iter().chain(self.strikes.keys());
        let alone = suspects.all(|other| other == suspect);
        Some(if alone { Guilt::Refused } else { Guilt::Shared })
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Send what is due.
    Deliver,
    /// Find out whether the peer would take events.
    Trial,
    /// Find out whether the peer that has just failed is well otherwise.
    Check,
}

/// What became of it.
pub(super) enum Done {
    /// Nothing is due.
    Nothing,
    /// The peer named all that it was sent, and took these. `more`: further entries may be due.
    Delivered { more: bool, taken: Vec<Suspect> },
    /// The peer is well.
    Tried,
    /// Somebody is there, which is no success of an exchange.
    Answers,
    /// Nothing was sent: what was due cannot be.
    PutAside,
    /// Nothing was sent: the peer fails at this event, which waits now.
    PutOff(Suspect),
    /// The peer wants less at once.
    TooLarge,
    /// `suspect`: the event that went alone.
    Failed { failure: Failure, suspect: Option<Suspect> },
    /// This node's own database failed.
    Unavailable(String),
}

impl Step {
    pub(super) async fn run(self, deps: Deps, wire: Wire, view: Arc<RelayView>, delivery: Delivery) -> Done {
        let done = match self {
            Step::Trial => Ok(tried(wire.trial(&view).await)),
            Step::Check => Ok(tried(wire.check(&view).await)),
            Step::Deliver => Exchange { deps, wire, view, delivery }.run().await,
        };
        done.unwrap_or_else(|error| Done::Unavailable(error.to_string()))
    }
}

fn hear(view: &RelayView, relayed: &Relayed) {
    if let Some(identity) = &relayed.by {
        view.hears(identity.clone());
    }
}

fn tried(outcome: Result<Done, Failure>) -> Done {
    outcome.unwrap_or_else(|failure| Done::Failed { failure, suspect: None })
}

struct Exchange {
    deps: Deps,
    wire: Wire,
    view: Arc<RelayView>,
    delivery: Delivery,
}

impl Exchange {
    async fn run(self) -> Result<Done, Error> {
        let peer = self.wire.peer().clone();
        let limit = self.delivery.limit;
        let token = Uuid::from_u128(rand::random());
        let mut claim = self.deps.store.claim_relay(&peer.name, token, limit as i64, LOCK).await?;
        if claim.entries.is_empty() {
            return Ok(Done::Nothing);
        }
        let mut more = claim.entries.len() == limit;
        let rest = beyond_bounds(&mut claim);
        more |= !rest.is_empty();
        self.deps.store.release_relay(&claim, &rest).await?;
        if self.put_aside(&mut claim).await? {
            return Ok(Done::PutAside);
        }
        if let [only] = claim.entries.as_slice()
            && let Some(guilt) = self.delivery.guilt(&id(only))
        {
            self.put_off(&claim, only, guilt).await?;
            return Ok(Done::PutOff(id(only)));
        }
        let sent_at = self.deps.clock.now();
        let spans = self.spans(&mut claim);
        let answer = spans.within(self.wire.relay(&claim.entries)).await;
        #[cfg(feature = "sabotage")]
        let answer = self.deps.settings.heard(answer, &claim);
        match answer {
            Ok(relayed) => {
                hear(&self.view, &relayed);
                self.mark(&claim, relayed, sent_at, more).await
            }
            Err(failure) => {
                spans.failed(&failure);
                self.give_back(&claim, failure).await
            }
        }
    }

    /// The spans of the sending, under the traces of the requests that brought the events; the peer goes on under
    /// them.
    fn spans(&self, claim: &mut RelayClaim) -> BatchSpans {
        let peer = &self.wire.peer().name;
        let work = trace::Work {
            name: "relay.send",
            kind: "client",
            whole: Some("relay.exchange"),
            actor: &format!("relay.{peer}"),
            peer: Some(peer),
            now: self.deps.clock.now(),
        };
        let spans = BatchSpans::open(&work, claim.entries.iter().map(trace::Part::from));
        for sent in claim.entries.iter_mut().filter_map(|entry| entry.trace_parent.as_mut()) {
            *sent = spans.context(sent).unwrap_or_else(|| std::mem::take(sent));
        }
        spans
    }

    /// Marks what can never be sent as done, with the reason; whether nothing is left.
    async fn put_aside(&self, claim: &mut RelayClaim) -> Result<bool, Error> {
        let mut aside: BTreeMap<&'static str, Vec<Suspect>> = BTreeMap::new();
        for entry in &claim.entries {
            if let Some(reason) = self.wire.unsendable(entry) {
                aside.entry(reason).or_default().push(id(entry));
            }
        }
        let (keep, now) = (!self.deps.settings.outbox_retention.is_zero(), self.deps.clock.now());
        for (reason, entries) in aside {
            let store = &self.deps.store;
            let done = store.finish_relay(claim, &entries, &HashMap::new(), now, Some(reason), keep).await?;
            self.deps.metrics.relayed("not_sent", done);
            tracing::info!(peer = claim.peer, reason, events = done, "events are not sent to a peer");
        }
        claim.entries.retain(|entry| self.wire.unsendable(entry).is_none());
        Ok(claim.entries.is_empty())
    }

    /// Lets an event wait that the peer fails at.
    async fn put_off(&self, claim: &RelayClaim, entry: &RelayEntry, guilt: Guilt) -> Result<(), Error> {
        let reason =
            format!("the peer fails at this event: {STRIKES} times in a row, while it is well otherwise");
        if guilt == Guilt::Refused {
            return self.refuse(claim, &[refusal(entry, reason)]).await;
        }
        let wait = Refusal { failures: entry.retry_count, ..refusal(entry, reason) };
        self.deps.store.refuse_relay(claim, &[wait], self.deps.settings.relay_retry).await.map(drop)
    }

    async fn mark(
        &self,
        claim: &RelayClaim,
        relayed: Relayed,
        sent_at: chrono::DateTime<chrono::Utc>,
        more: bool,
    ) -> Result<Done, Error> {
        let keep = !self.deps.settings.outbox_retention.is_zero();
        let store = &self.deps.store;
        let done = store.finish_relay(claim, &relayed.accepted, &relayed.hashes, sent_at, None, keep).await?;
        let metrics = &self.deps.metrics;
        metrics.relayed("accepted", done);
        let now = self.deps.clock.now();
        let taken: HashSet<&Suspect> = relayed.accepted.iter().collect();
        let times = claim.entries.iter().filter(|entry| taken.contains(&id(entry)));
        let total_ms = times.map(|entry| (now - entry.queued_at).num_milliseconds().max(0)).sum();
        let failed = relayed.refused.len() as i64;
        self.view.worked(OutboxDone { done: i64::try_from(done).unwrap_or(0), failed, total_ms });
        let refusals: Vec<Refusal> = relayed
            .refused
            .iter()
            .filter_map(|(store_id, event_id, reason)| {
                let of = |e: &&RelayEntry| (e.store_id, &e.event_id) == (*store_id, event_id);
                claim.entries.iter().find(of).map(|entry| refusal(entry, reason.clone()))
            })
            .collect();
        self.refuse(claim, &refusals).await?;
        if relayed.unnamed.is_empty() {
            return Ok(Done::Delivered { more, taken: relayed.accepted });
        }
        store.release_relay(claim, &relayed.unnamed).await?;
        let failure = Failure::Malformed("it does not name all events that were sent");
        Ok(Done::Failed { failure, suspect: None })
    }

    async fn refuse(&self, claim: &RelayClaim, refusals: &[Refusal]) -> Result<(), Error> {
        let policy = self.deps.settings.relay_retry;
        let dead = self.deps.store.refuse_relay(claim, refusals, policy).await?;
        let peer = &claim.peer;
        for Refusal { store_id, event_id, error, failures } in refusals {
            self.view.refused(event_id, error, self.deps.clock.now());
            if dead.iter().any(|(s, e)| (s, e) == (store_id, event_id)) {
                tracing::error!(%store_id, event_id, peer, error, failures, "relay entry is dead");
            } else {
                tracing::warn!(%store_id, event_id, peer, error, failures, "the peer refused an event");
            }
        }
        self.deps.metrics.relayed("refused", refusals.len() as u64);
        Ok(())
    }

    async fn give_back(&self, claim: &RelayClaim, failure: Failure) -> Result<Done, Error> {
        let ids: Vec<Suspect> = claim.entries.iter().map(id).collect();
        let alone = <[Suspect; 1]>::try_from(ids.clone()).ok().map(|[only]| only);
        match (failure, claim.entries.as_slice()) {
            // There is nothing left to split.
            (Failure::TooLarge, [only]) => {
                let refusal = refusal(only, Failure::TooLarge.to_string());
                self.refuse(claim, &[refusal]).await?;
                Ok(Done::Delivered { more: true, taken: Vec::new() })
            }
            (Failure::TooLarge, _) => {
                self.deps.store.release_relay(claim, &ids).await?;
                Ok(Done::TooLarge)
            }
            (failure, _) => {
                self.deps.metrics.relayed("failed", 1);
                self.deps.store.release_relay(claim, &ids).await?;
                Ok(Done::Failed { failure, suspect: alone })
            }
        }
    }
}

fn id(entry: &RelayEntry) -> Suspect {
    (entry.store_id, entry.event_id.clone())
}

fn refusal(entry: &RelayEntry, error: String) -> Refusal {
    let failures = entry.retry_count + 1;
    Refusal { store_id: entry.store_id, event_id: entry.event_id.clone(), error, failures }
}

/// Takes off what would make a request too long, or whose id another store's event bears: an answer names events by
/// their ids alone.
fn beyond_bounds(claim: &mut RelayClaim) -> Vec<Suspect> {
    let (mut bytes, mut ids) = (0, HashSet::new());
    let (mut kept, mut rest) = (Vec::new(), Vec::new());
    for entry in std::mem::take(&mut claim.entries) {
        bytes += entry
            .forms
            .iter()
            .map(|form| form.payload.len() + form.delta_payload.as_ref().map_or(0, String::len))
            .sum::<usize>();
        if kept.is_empty() || rest.is_empty() && bytes <= MAX_BYTES && !ids.contains(&entry.event_id) {
            ids.insert(entry.event_id.clone());
            kept.push(entry);
        } else {
            rest.push(id(&entry));
        }
    }
    claim.entries = kept;
    rest
}

/// Keeps the breaker's state over a restart. Where it cannot be, the next start begins with an older one.
pub(super) async fn keep_breaker(store: &Store, peer: &str, state: BreakerState) {
    let (failures, successes) = match state {
        BreakerState::Closed { failures } => (failures, 0),
        BreakerState::Open { .. } => (0, 0),
        BreakerState::HalfOpen { successes } => (0, successes),
    };
    if let Err(error) = store.save_breaker(peer, state.name(), failures, successes).await {
        tracing::warn!(%error, peer, "the breaker's state was not kept");
    }
}

/// The breaker as it stood before a restart.
pub(super) async fn kept_breaker(
    store: &Store,
    peer: &str,
    policy: BreakerPolicy,
) -> Result<Option<Breaker>, Error> {
    let kept = store.breaker_of(peer).await?;
    Ok(kept.map(|kept| {
        let counted = if kept.state == "HALF_OPEN" { kept.successes } else { kept.failures };
        let open_for = kept.opened_ago.unwrap_or_default();
        Breaker::restored(policy, &kept.state, counted, open_for, Instant::now())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspect(n: u128) -> Suspect {
        (Uuid::from_u128(n), String::new())
    }

    /// The peer fails at the event, and is well otherwise.
    fn fails_at(delivery: &mut Delivery, n: u128) {
        delivery.went_badly(&Failure::Status { status: 500, retry_after: None }, Some(suspect(n)));
        delivery.tried();
    }

    #[test]
    fn an_event_is_guilty_at_the_third_strike_and_begins_anew_when_it_was_put_off() {
        let mut delivery = Delivery::new(1);
        for guilt in [None, None, Some(Guilt::Refused)] {
            fails_at(&mut delivery, 1);
            assert_eq!(delivery.guilt(&suspect(1)), guilt);
        }
        delivery.puts_off(suspect(1));
        assert_eq!(delivery.guilt(&suspect(1)), None);
        (0..3).for_each(|_| fails_at(&mut delivery, 1));
        assert_eq!(delivery.guilt(&suspect(1)), Some(Guilt::Refused), "nobody else was ever suspected");
    }

    #[test]
    fn what_the_peer_fails_at_together_with_others_is_not_its_own_fault_until_something_goes_well() {
        let mut delivery = Delivery::new(1);
        (0..3).for_each(|_| fails_at(&mut delivery, 1));
        fails_at(&mut delivery, 2);
        assert_eq!(delivery.guilt(&suspect(1)), Some(Guilt::Shared));
        delivery.puts_off(suspect(1));
        (0..2).for_each(|_| fails_at(&mut delivery, 2));
        assert_eq!(delivery.guilt(&suspect(2)), Some(Guilt::Shared));
        delivery.went_well(&[suspect(3)]);
        assert_eq!(delivery.guilt(&suspect(2)), Some(Guilt::Refused), "the peer takes others");
        delivery.went_well(&[suspect(2)]);
        assert!(!delivery.has_suspects());
    }

    #[test]
    fn a_peer_that_is_not_well_clears_every_suspect() {
        let mut delivery = Delivery::new(1);
        (0..2).for_each(|_| fails_at(&mut delivery, 1));
        delivery.went_badly(&Failure::Status { status: 503, retry_after: None }, Some(suspect(1)));
        delivery.went_badly(&Failure::Timeout, None);
        assert!(!delivery.has_suspects(), "its check failed too");
        delivery.tried();
        delivery.went_badly(&Failure::Timeout, Some(suspect(1)));
        assert!(!delivery.has_suspects(), "silence is nobody's fault");
    }
}
