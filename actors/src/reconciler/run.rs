//! One run: a store with a peer, under a lease that is kept up, every write with its fence.
//!
//! Never here: when runs are.

use crate::Deps;
use crate::peer::v1::reconcile::{CompareError, Comparison, Gaps};
use crate::peer::v1::{self, V1Client};
use crate::peer::{DEADLINE, Failure, PeerClient, Request};
use crate::reconciler::Reconcile;
use crate::relay::{RelayHandle, WakeRelay, Wire};
use crate::sync_ingest::{Ingest, IngestError};
use crate::trace::well_formed;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;
use velox_protocol::federation::RelayBody;
use velox_protocol::reconcile::EventName;
use velox_protocol::reconciled::{KindCounts, Reconciled};
use velox_protocol::relayed::{self, Incoming};
use velox_protocol::v1::Kind;
use velox_store::{Error, Fence, Held, Hop, Leases, NewEvent, NewPush, ReconcileError, Store};

/// Where native nodes compare.
pub(crate) const RECONCILE_PATH: &str = "/sync/federation/reconcile";
/// Where they give each other events.
pub(crate) const EVENTS_PATH: &str = "/sync/federation/events";
/// Events that are fetched at once: their payloads may have 1 MiB each, and an answer 16 MiB at most.
const FETCH: usize = 100;

/// Whom a run tells that it goes on.
pub type Alive<'a> = &'a (dyn Fn() + Sync);

/// Where fetched events go.
#[derive(Clone)]
pub enum Sink {
    /// The node's writers.
    Node(Ingest),
    /// The database: of a command that works beside a node.
    Database(Store),
}

/// With whom logs are compared.
#[derive(Clone)]
pub struct Partner {
    /// How it is spoken to.
    pub wire: Wire,
    /// Who sends it what it lacks; `None`: somebody in another process.
    pub relay: Option<RelayHandle>,
}

impl Partner {
    /// Whether its breaker holds calls back. A command knows of none.
    fn is_held_back(&self) -> bool {
        self.relay.as_ref().is_some_and(|handle| handle.view.status().breaker == "OPEN")
    }
}

/// Why a run ended early.
enum Stop {
    /// The lease is another's.
    Lost,
    /// This node ends.
    Ending,
    /// The peer.
    Peer(Failure),
    /// This node's database.
    Database(Error),
    /// What the peer said cannot be.
    Nonsense(&'static str),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Fenced => Stop::Lost,
            error => Stop::Database(error),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Peer(failure)
    }
}

impl From<CompareError> for Stop {
    fn from(error: CompareError) -> Self {
        match error {
            CompareError::Peer(failure) => Stop::Peer(failure),
            CompareError::Store(error) => error.into(),
        }
    }
}

impl From<ReconcileError<Failure>> for Stop {
    fn from(error: ReconcileError<Failure>) -> Self {
        match error {
            ReconcileError::Store(error) => error.into(),
            ReconcileError::Exchange(failure) => Stop::Peer(failure),
            ReconcileError::Malformed(_) | ReconcileError::Unexpected | ReconcileError::Set(_) => {
                Stop::Nonsense("its part of the comparison cannot be read")
            }
        }
    }
}

impl Stop {
    fn reason(&self) -> String {
        match self {
            Stop::Lost => "lease_lost".to_owned(),
            Stop::Ending => "node_stops".to_owned(),
            Stop::Peer(failure) => format!("peer_failed: {failure}"),
            Stop::Database(error) => format!("database_failed: {error}"),
            Stop::Nonsense(what) => format!("peer_failed: {what}"),
        }
    }
}

/// Compares as wanted: an element a store and peer. `alive` is called at each portion of the work.
///
/// # Errors
/// A store list that cannot be read, or a peer that is not configured, for people.
pub async fn reconcile(
    deps: &Deps,
    leases: &Leases,
    partners: &[Partner],
    sink: &Sink,
    wanted: &Reconcile,
    ending: watch::Receiver<bool>,
    alive: Alive<'_>,
) -> Result<Vec<Reconciled>, String> {
    let is_wanted =
        |partner: &&Partner| wanted.peer.as_ref().is_none_or(|name| *name == partner.wire.peer().name);
    // By hand somebody wants to know, and a peer that is back has closed its breaker.
    let of_period = wanted.store_id.is_none() && wanted.peer.is_none();
    let partners: Vec<&Partner> =
        partners.iter().filter(is_wanted).filter(|partner| !(of_period && partner.is_held_back())).collect();
    if let (Some(name), []) = (&wanted.peer, partners.as_slice()) {
        return Err(format!("no peer is called {name}"));
    }
    let stores = match wanted.store_id {
        Some(store_id) => vec![store_id],
        None => {
            let stores = deps.store.stores().await.map_err(|error| error.to_string())?;
            stores.into_iter().map(|store| store.store_id).collect()
        }
    };
    let mut reports = Vec::new();
    for store_id in stores {
        for partner in partners.iter().filter(|partner| partner.wire.peer().serves(store_id)) {
            let (dry_run, after_outage, ending) = (wanted.dry_run, wanted.after_outage, ending.clone());
            let run = Run { deps, leases, sink, partner, store_id, dry_run, after_outage, ending, alive };
            let report = run.go().await;
            log(&report, wanted.dry_run);
            reports.push(report);
        }
    }
    Ok(reports)
}

fn log(report: &Reconciled, dry_run: bool) {
    let (store_id, peer) = (report.store_id, &report.peer);
    let (differences, rounds, ms) = (report.differences(), report.rounds, report.duration_ms);
    match &report.reason {
        Some(reason) => tracing::warn!(%store_id, peer, reason, differences, "a reconciliation ended early"),
        None if differences > 0 => {
            tracing::info!(%store_id, peer, differences, rounds, ms, dry_run, "a reconciliation found differences");
        }
        None => tracing::debug!(%store_id, peer, rounds, ms, "the logs are the same"),
    }
}

struct Run<'a> {
    deps: &'a Deps,
    leases: &'a Leases,
    sink: &'a Sink,
    partner: &'a Partner,
    store_id: Uuid,
    dry_run: bool,
    after_outage: bool,
    ending: watch::Receiver<bool>,
    alive: Alive<'a>,
}

impl Run<'_> {
    async fn go(self) -> Reconciled {
        (self.alive)();
        let began = Instant::now();
        let mut report = Reconciled::of(self.store_id, &self.partner.wire.peer().name);
        if self.dry_run {
            let stopped = self.compare(None, &mut report).await.err();
            return self.ended(report, stopped, began);
        }
        let name = format!("federation:reconcile:{}", self.store_id);
        let ttl = self.deps.settings.lease_ttl;
        let held = match self.leases.acquire(&name, &self.holder(), ttl).await {
            Ok(Some(held)) => held,
            Ok(None) => return report.because("lease_held"),
            Err(error) => return report.because(format!("lease_unavailable: {error}")),
        };
        report.lease = Some(held.holder.clone());
        let mut ending = self.ending.clone();
        let stopped = tokio::select! {
            done = self.compare(Some(&held.fence), &mut report) => done.err(),
            () = self.keep_up(&held, ttl) => Some(Stop::Lost),
            _ = ending.wait_for(|is_ending| *is_ending) => Some(Stop::Ending),
        };
        if matches!(stopped, Some(Stop::Lost)) {
            self.deps.metrics.fenced_writes.inc();
        }
        if let Err(error) = self.leases.release(&held).await {
            tracing::warn!(%error, lease = name, "a lease was not given back; it expires by itself");
        }
        self.ended(report, stopped, began)
    }

    fn ended(&self, report: Reconciled, stopped: Option<Stop>, began: Instant) -> Reconciled {
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let report = Reconciled { duration_ms, ..report };
        match stopped {
            Some(stop) => report.because(stop.reason()),
            None => report,
        }
    }

    /// Unique among all that ask for a lease.
    fn holder(&self) -> String {
        let now = self.deps.clock.now().timestamp_millis();
        format!("{}-{now}-{:016x}", std::process::id(), rand::random::<u64>())
    }

    /// Renews the lease until it is another's.
    async fn keep_up(&self, held: &Held, ttl: Duration) {
        #[cfg(feature = "sabotage")]
        if self.deps.settings.ignores_a_lost_lease() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(ttl / 3).await;
            match self.leases.renew(held, ttl).await {
                Ok(true) => {}
                Ok(false) => return,
                // It may still be ours, and every write asks.
                Err(error) => tracing::warn!(%error, "a lease was not renewed"),
            }
        }
    }

    /// The fence that is compared in the transaction of a write.
    fn compared<'a>(&self, fence: &'a Fence) -> Option<&'a Fence> {
        #[cfg(feature = "sabotage")]
        let fence = self.deps.settings.fence(fence)?;
        Some(fence)
    }

    async fn compare(&self, fence: Option<&Fence>, report: &mut Reconciled) -> Result<(), Stop> {
        match &self.partner.wire {
            Wire::Velox(client) => self.compare_native(client, fence, report).await,
            Wire::V1(client) => self.compare_with_v1(client, fence, report).await,
        }
    }

    /// Compares id lists of the last 30 days, which is all that a v1 node can.
    async fn compare_with_v1(
        &self,
        client: &V1Client,
        fence: Option<&Fence>,
        report: &mut Reconciled,
    ) -> Result<(), Stop> {
        let comparison = Comparison {
            store_id: self.store_id,
            now: self.deps.clock.now(),
            dry_run: fence.is_none(),
            after_outage: self.after_outage,
        };
        let compared = v1::reconcile::compare(client, &self.deps.store, comparison, fence).await?;
        for (kind, counts) in [
            (Kind::Sessions, &mut report.sessions),
            (Kind::Sales, &mut report.sales),
            (Kind::VoidedSales, &mut report.voids),
            (Kind::Movements, &mut report.inventory.counts),
            (Kind::Debts, &mut report.debts),
            (Kind::Payments, &mut report.debt_payments),
        ] {
            *counts = counted(compared.of(kind));
        }
        report.other = counted(compared.other);
        Ok(())
    }

    async fn compare_native(
        &self,
        client: &PeerClient,
        fence: Option<&Fence>,
        report: &mut Reconciled,
    ) -> Result<(), Stop> {
        let mut exchange = async |message: Vec<u8>| {
            (self.alive)();
            client.send(post(RECONCILE_PATH, "application/octet-stream", message)).await
        };
        let mut comparison = self.deps.store.reconciliation(self.store_id);
        loop {
            (self.alive)();
            let portion = comparison.next(&mut exchange).await;
            let summary = comparison.summary();
            report.rounds = u64::from(summary.rounds);
            (report.bytes_sent, report.bytes_received) = (summary.bytes_sent, summary.bytes_received);
            let Some(portion) = portion? else { return Ok(()) };
            self.give(&portion.missing_there, fence, report).await?;
            self.fetch(client, &portion.missing_here, fence, report).await?;
        }
    }

    /// What the peer lacks goes into the outbox.
    async fn give(
        &self,
        names: &[EventName],
        fence: Option<&Fence>,
        report: &mut Reconciled,
    ) -> Result<(), Stop> {
        for name in names {
            report.kind(&name.event_type).remote_missing_count += 1;
        }
        let Some(fence) = fence.filter(|_| !names.is_empty()) else { return Ok(()) };
        let ids: Vec<String> = names.iter().map(|name| name.event_id.clone()).collect();
        let peer = &self.partner.wire.peer().name;
        self.deps.store.queue_relay(self.compared(fence), self.store_id, peer, &ids).await?;
        for name in names {
            report.kind(&name.event_type).replayed_to_remote += 1;
        }
        if let Some(handle) = &self.partner.relay {
            // Lost, it costs one poll.
            let _ = handle.relay.try_tell(WakeRelay);
        }
        Ok(())
    }

    /// What this node lacks is fetched.
    async fn fetch(
        &self,
        client: &PeerClient,
        names: &[EventName],
        fence: Option<&Fence>,
        report: &mut Reconciled,
    ) -> Result<(), Stop> {
        for name in names {
            report.kind(&name.event_type).local_missing_count += 1;
        }
        let Some(fence) = fence else { return Ok(()) };
        for some in names.chunks(FETCH) {
            (self.alive)();
            let ids: Vec<&str> = some.iter().map(|name| name.event_id.as_str()).collect();
            let body = serde_json::json!({ "store_id": self.store_id, "event_ids": ids }).to_string();
            let answer = client.send(post(EVENTS_PATH, "application/json", body.into_bytes())).await?;
            let stored = self.store_fetched(&answer, fence).await?;
            for name in some.iter().filter(|name| stored.contains(&name.event_id)) {
                report.kind(&name.event_type).replayed_to_local += 1;
            }
        }
        Ok(())
    }

    /// Answers the ids of what is stored now.
    async fn store_fetched(&self, answer: &[u8], fence: &Fence) -> Result<Vec<String>, Stop> {
        let body: RelayBody<'_> =
            serde_json::from_slice(answer).map_err(|_| Stop::Nonsense("it gives no events"))?;
        let only_this = |store_id: Uuid| store_id == self.store_id;
        let mut push = NewPush {
            from_peer: Some(self.partner.wire.peer().name.clone()),
            fence: self.compared(fence).cloned(),
            trace_parent: crate::trace::current(),
            ..NewPush::default()
        };
        for Incoming { read, origin_node, trace_parent, .. } in
            relayed::read(&body, only_this, self.deps.clock.now())
        {
            match read {
                Ok(received) => {
                    let event = received.event;
                    let links = received
                        .meaning
                        .map(|payload| payload.links(event.store_id, event.request_id.as_deref()));
                    let trace_parent = trace_parent.filter(|text| well_formed(text));
                    let hop = Some(Hop { origin_node, trace_parent });
                    push.events.push(NewEvent { event, links: links.unwrap_or_default(), hop });
                }
                Err(refused) => {
                    let (event_id, reason) = (refused.event_id, refused.message);
                    tracing::warn!(event_id, reason, "a peer's event cannot be stored");
                }
            }
        }
        let ids = push.events.iter().map(|new| new.event.event_id.clone()).collect();
        self.sink.store(push).await?;
        Ok(ids)
    }
}

impl Sink {
    async fn store(&self, push: NewPush) -> Result<(), Stop> {
        match self {
            Sink::Node(ingest) => match ingest.push(push, Box::new(())).await {
                Ok(_) => Ok(()),
                Err(IngestError::Fenced) => Err(Stop::Lost),
                Err(IngestError::Unavailable | IngestError::Overloaded) => {
                    Err(Stop::Nonsense("this node's writers took nothing"))
                }
            },
            Sink::Database(store) => {
                store.ingest(&[push]).await?;
                Ok(())
            }
        }
    }
}

fn counted(gaps: Gaps) -> KindCounts {
    KindCounts {
        remote_missing_count: gaps.remote_missing,
        local_missing_count: gaps.local_missing,
        replayed_to_remote: gaps.replayed_to_remote,
        replayed_to_local: gaps.replayed_to_local,
    }
}

fn post<'a>(path: &'a str, content_type: &'static str, body: Vec<u8>) -> Request<'a> {
    Request { method: reqwest::Method::POST, path, content_type, body, deadline: DEADLINE }
}
