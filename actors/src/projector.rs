//! Projector: one an entity. Claims due outbox entries, projects them, and isolates the one that fails.
//!
//! Never here: what an event's rows are (see `velox_store`), or when to look (see [`crate::outbox_pump`]).

use crate::Deps;
use crate::fault::InjectedFault;
use crate::handles::Identity;
use crate::message::{TracedHandler, Worker};
use crate::metrics::OfEntity;
use crate::supervised;
use crate::trace::{self, BatchSpans};
use actix::{Actor, Context, Message, ResponseActFuture, WrapFuture};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::catalogue::Entity;
use velox_store::{BatchReport, Claim, Entry, Error};

/// Most entries of one transaction.
const BATCH: i64 = 500;

/// Work off one batch.
#[derive(Debug, Clone, Copy)]
pub struct Project;

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Projected {
    /// Entries that are done.
    pub done: usize,
    /// Attempts that failed.
    pub failed: usize,
    /// Milliseconds from the arrival of the events to their rows, added up.
    pub total_ms: i64,
    /// Whether more may be due already.
    pub more: bool,
    /// When an entry that failed is due again.
    pub retry_in: Option<Duration>,
    /// The database was away: try again later.
    pub unavailable: bool,
    /// A payment waits for its debt that did not before.
    pub awaits_debt: bool,
}

impl Message for Project {
    type Result = Projected;
}

/// Entries that were under way when a projector died; outlives it.
#[derive(Debug, Clone, Default)]
pub struct Suspects(Arc<Mutex<Vec<Suspect>>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Suspect {
    store_id: Uuid,
    event_id: String,
    failures: i32,
}

impl Suspects {
    fn lock(&self) -> MutexGuard<'_, Vec<Suspect>> {
        // A list of ids is whole whatever happened to its holder.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, suspects: Vec<Suspect>) {
        *self.lock() = suspects;
    }

    fn take(&self) -> Vec<Suspect> {
        std::mem::take(&mut *self.lock())
    }
}

impl From<&Entry> for Suspect {
    fn from(entry: &Entry) -> Self {
        Suspect { store_id: entry.store_id, event_id: entry.event_id.clone(), failures: entry.retry_count }
    }
}

/// Projects the events of one entity.
pub struct Projector {
    me: Identity,
    deps: Deps,
    entity: Entity,
    suspects: Suspects,
}

impl Projector {
    /// A projector; `suspects` is the same over all its lives.
    pub fn new(me: &Identity, deps: Deps, entity: Entity, suspects: Suspects) -> Self {
        Projector { me: me.clone(), deps, entity, suspects }
    }
}

supervised!(Projector);

impl Actor for Projector {
    type Context = Context<Self>;
}

impl Worker for Projector {
    // A fault counts once per entry and attempt, not once per message.
    const CHECKS_FAULTS: bool = false;

    fn identity(&self) -> &Identity {
        &self.me
    }
}

impl TracedHandler<Project> for Projector {
    const SPAN: &'static str = "projector.batch";
    const ATOMIC: bool = true;

    fn receive(&mut self, _: Project, _: &mut Context<Self>) -> ResponseActFuture<Self, Projected> {
        let work = Work {
            me: self.me.clone(),
            deps: self.deps.clone(),
            entity: self.entity,
            suspects: self.suspects.clone(),
        };
        let run = async move {
            match work.run().await {
                Ok(projected) => projected,
                Err(error) => {
                    work.suspects.set(Vec::new());
                    work.me.stats().note_error(&error);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, entity = work.entity.name(), "projection waits for the database");
                    Projected { unavailable: true, ..Projected::default() }
                }
            }
        };
        Box::pin(run.into_actor(self))
    }
}

/// One batch's work.
struct Work {
    me: Identity,
    deps: Deps,
    entity: Entity,
    suspects: Suspects,
}

impl Work {
    async fn run(&self) -> Result<Projected, Error> {
        let suspects = self.suspects.take();
        if let [culprit] = suspects.as_slice() {
            let mut projected = Projected { more: true, ..Projected::default() };
            self.fail(culprit, "the projector died of this event", &mut projected).await?;
            return Ok(projected);
        }
        if !suspects.is_empty() {
            return self.one_by_one(suspects, &HashMap::new()).await;
        }
        let keep = self.keep();
        let Some(claim) = self.deps.store.claim_projection(self.entity.name(), BATCH, keep).await? else {
            return Ok(Projected::default());
        };
        let batch: Vec<Suspect> = claim.entries.iter().map(Suspect::from).collect();
        self.suspects.set(batch.clone());
        let struck = self.strike(&batch).await;
        let more = claim.entries.len() as i64 == BATCH;
        if !struck.is_empty() {
            drop(claim);
            return self.one_by_one(batch, &struck).await;
        }
        match self.project(claim).await {
            Ok(projected) => {
                self.suspects.set(Vec::new());
                Ok(Projected { more, ..projected })
            }
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    entries = batch.len(),
                    "a batch failed; its entries are projected one by one"
                );
                self.one_by_one(batch, &HashMap::new()).await
            }
        }
    }

    fn keep(&self) -> bool {
        !self.deps.settings.outbox_retention.is_zero()
    }

    /// Injected faults: once per entry and attempt.
    async fn strike(&self, batch: &[Suspect]) -> HashMap<String, InjectedFault> {
        let mut struck = HashMap::new();
        for suspect in batch {
            let Some(action) = self.me.faults().take(self.me.name()) else {
                continue;
            };
            if let Err(fault) = action.strike(self.me.name()).await {
                struck.insert(suspect.event_id.clone(), fault);
            }
        }
        struck
    }

    async fn project(&self, claim: Claim) -> Result<Projected, Error> {
        let arrivals: Vec<_> = claim.entries.iter().map(|entry| entry.queued_at).collect();
        let spans = self.spans(&claim);
        let report = spans.within(claim.project()).await.inspect_err(|error| spans.failed(error))?;
        let now = self.deps.clock.now();
        let metrics = &self.deps.metrics;
        let mut total_ms = 0;
        for arrival in arrivals {
            let lag = (now - arrival).num_microseconds().unwrap_or(0).max(0);
            metrics.projection_lag_seconds.observe(lag as f64 / 1e6);
            total_ms += lag / 1_000;
        }
        metrics.projected_events.get_or_create(&self.label()).inc_by(report.done as u64);
        log_failures(&report);
        let awaits_debt = report.awaits_debt;
        Ok(Projected { done: report.done, total_ms, awaits_debt, ..Projected::default() })
    }

    /// The spans of the projection, under the traces of the requests that brought the events.
    fn spans(&self, claim: &Claim) -> BatchSpans {
        let work = trace::Work {
            name: "projector.project",
            kind: "internal",
            whole: None,
            actor: self.me.name(),
            peer: None,
            now: self.deps.clock.now(),
        };
        BatchSpans::open(&work, claim.entries.iter().map(trace::Part::from))
    }

    fn label(&self) -> OfEntity {
        OfEntity { entity: self.entity.name().to_owned() }
    }

    /// Each entry in a transaction of its own, so that the one that fails holds back nobody.
    async fn one_by_one(
        &self,
        batch: Vec<Suspect>,
        struck: &HashMap<String, InjectedFault>,
    ) -> Result<Projected, Error> {
        // From here on each is suspected alone, while it is worked on.
        self.suspects.set(Vec::new());
        let mut all = Projected { more: true, ..Projected::default() };
        for suspect in batch {
            if let Some(fault) = struck.get(&suspect.event_id) {
                self.fail(&suspect, &fault.to_string(), &mut all).await?;
                continue;
            }
            let store = &self.deps.store;
            let Some(claim) = store.claim_one(suspect.store_id, &suspect.event_id, self.keep()).await? else {
                continue;
            };
            self.suspects.set(vec![suspect.clone()]);
            match self.project(claim).await {
                Ok(one) => {
                    all.done += one.done;
                    all.total_ms += one.total_ms;
                    all.awaits_debt |= one.awaits_debt;
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    let reason = error.describe();
                    self.fail(&suspect, &reason, &mut all).await?;
                }
            }
            self.suspects.set(Vec::new());
        }
        Ok(all)
    }

    async fn fail(&self, suspect: &Suspect, reason: &str, projected: &mut Projected) -> Result<(), Error> {
        let policy = self.deps.settings.projection_retry;
        let failures = suspect.failures + 1;
        let dead = self
            .deps
            .store
            .fail_projection(suspect.store_id, &suspect.event_id, failures, reason, policy)
            .await?;
        self.deps.metrics.projection_failures.get_or_create(&self.label()).inc();
        projected.failed += 1;
        let (store_id, event_id) = (suspect.store_id, &suspect.event_id);
        match dead {
            Some(true) => {
                tracing::error!(%store_id, event_id, reason, failures, "projection entry is dead");
            }
            Some(false) => {
                let wait = policy.wait(failures);
                tracing::warn!(%store_id, event_id, reason, failures, ?wait, "projection failed and is tried again");
                projected.retry_in = Some(projected.retry_in.map_or(wait, |other| other.min(wait)));
            }
            None => {}
        }
        Ok(())
    }
}

fn log_failures(report: &BatchReport) {
    for failure in &report.failed {
        let (store_id, event_id, reason) = (failure.store_id, &failure.event_id, &failure.reason);
        tracing::warn!(%store_id, event_id, reason, "the event's meaning is unclear; it is stored and shown as failed");
    }
}
