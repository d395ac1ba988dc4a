//! OrphanHealer: looks for events whose rows are missing, whatever their status says, and projects them anew.
//!
//! On its period all active shops, and one by hand. Safe at once in two places: an event is claimed before it is
//! projected. Never here: what is missing (see `velox_store::Store::orphans`).

use crate::Deps;
use crate::handles::Identity;
use crate::message::{Traced, TracedHandler, Worker};
use crate::supervised;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Message, ResponseActFuture, WrapFuture};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;
use velox_store::{Error, Healed, Orphans, RetryPolicy, Store};

/// Most orphans of one run: what a broken projector leaves must not keep everything else waiting.
pub const MOST: u32 = 50;
/// How often those are tried on the period that are known to fail: what an event means seldom changes by itself.
const FAILED_AGAIN: Duration = Duration::from_secs(3_600);
/// What has come since is looked at on every period, however long the week is.
const LATELY: TimeDelta = TimeDelta::minutes(10);

/// What a run did in a shop.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct HealReport {
    /// Events that were looked at.
    pub checked: u64,
    /// Orphans whose rows are there again.
    pub healed: u64,
    /// Orphans that could not be projected.
    pub failed: u64,
    /// Each orphan.
    pub details: Vec<HealedEvent>,
}

/// What became of an orphan.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HealedEvent {
    /// The event.
    pub event_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// `healed` or `failed`
    pub status: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Heals a shop, the failed events with it.
#[derive(Debug, Clone, Copy)]
pub struct Heal {
    /// The shop.
    pub store_id: Uuid,
}

impl Message for Heal {
    /// What was done, or why nothing was.
    type Result = Result<HealReport, String>;
}

/// The period has passed.
#[derive(Debug, Clone, Copy)]
struct Tick;

impl Message for Tick {
    type Result = ();
}

/// How a projection is tried.
#[derive(Debug, Clone, Copy)]
pub struct Healing {
    /// Retries of entries that still have some.
    pub retry: RetryPolicy,
    /// Whether done entries are kept.
    pub keep: bool,
}

/// Heals at most [`MOST`] orphans of a shop, one by one, each logged. `with_failed`: also those that are known to fail,
/// after the others.
///
/// # Errors
/// The database's; what was healed until then is healed.
pub async fn heal(
    store: &Store,
    store_id: Uuid,
    with_failed: bool,
    healing: Healing,
) -> Result<HealReport, Error> {
    let first = store.orphans(store_id, with_failed, MOST, None).await?;
    let mut report = HealReport::default();
    if first.next.is_none() {
        mend(store, store_id, first, healing, &mut report).await?;
        return Ok(report);
    }
    // A long week is looked at in portions, of which an early one must not spend the run on what fails anyway.
    for with_failed in [Some(false), with_failed.then_some(true)].into_iter().flatten() {
        let mut after = None;
        report.checked = 0;
        loop {
            let found = store.orphans(store_id, with_failed, report.left(), after).await?;
            after = found.next;
            mend(store, store_id, found, healing, &mut report).await?;
            if after.is_none() || report.left() == 0 {
                break;
            }
        }
    }
    Ok(report)
}

impl HealReport {
    /// How many more the run may heal.
    fn left(&self) -> u32 {
        MOST.saturating_sub(u32::try_from(self.details.len()).unwrap_or(MOST))
    }
}

async fn mend(
    store: &Store,
    store_id: Uuid,
    found: Orphans,
    healing: Healing,
    report: &mut HealReport,
) -> Result<(), Error> {
    report.checked += found.checked;
    for orphan in found.orphans {
        let (event_id, event_type) = (&orphan.event_id, &orphan.event_type);
        let error = match store.heal_orphan(store_id, &orphan, healing.retry, healing.keep).await? {
            Healed::Busy => continue,
            Healed::Healed => {
                tracing::warn!(%store_id, event_id, event_type, "an event without its rows was projected anew");
                report.healed += 1;
                None
            }
            Healed::Failed(reason) => {
                tracing::error!(%store_id, event_id, event_type, reason, "an event without its rows cannot be projected");
                report.failed += 1;
                Some(reason)
            }
        };
        let status = if error.is_none() { "healed" } else { "failed" };
        report.details.push(HealedEvent {
            event_id: orphan.event_id,
            event_type: orphan.event_type,
            status,
            error,
        });
    }
    Ok(())
}

/// A way through a long week, portion by portion.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    /// How far it has come; `None`: not at all.
    after: Option<DateTime<Utc>>,
    /// Also those that are known to fail.
    with_failed: bool,
}

/// Looks at a shop on the period: all of a short week; of a long one what has come lately, and the next portion of the
/// rest. Answers how the sweep goes on; `None`: its end was reached.
async fn look(
    store: &Store,
    store_id: Uuid,
    healing: Healing,
    sweep: Sweep,
    lately: DateTime<Utc>,
) -> Result<Option<Sweep>, Error> {
    let mut report = HealReport::default();
    if sweep.after.is_some() {
        let found = store.orphans(store_id, false, MOST, Some(lately)).await?;
        mend(store, store_id, found, healing, &mut report).await?;
    }
    let (left, before) = (report.left(), report.healed);
    if left == 0 {
        return Ok(Some(sweep));
    }
    let found = store.orphans(store_id, sweep.with_failed, left, sweep.after).await?;
    let (next, is_full) = (found.next, found.orphans.len() >= left as usize);
    mend(store, store_id, found, healing, &mut report).await?;
    // There are more where these were; but not for ever where none of them can be healed.
    let stays = is_full && report.healed > before;
    Ok(next.map(|next| Sweep { after: if stays { sweep.after } else { Some(next) }, ..sweep }))
}

/// Finds what slipped through.
pub struct OrphanHealer {
    me: Identity,
    deps: Deps,
    running: bool,
    /// When those were last tried that are known to fail.
    failed_tried: Option<Instant>,
    /// Of shops with a long week: how far the present sweep has come.
    sweeps: BTreeMap<Uuid, Sweep>,
}

impl OrphanHealer {
    /// A healer of all shops.
    pub fn new(me: &Identity, deps: Deps) -> Self {
        OrphanHealer { me: me.clone(), deps, running: false, failed_tried: None, sweeps: BTreeMap::new() }
    }

    fn healing(&self) -> Healing {
        let settings = &self.deps.settings;
        Healing { retry: settings.projection_retry, keep: !settings.outbox_retention.is_zero() }
    }
}

supervised!(OrphanHealer);

impl Actor for OrphanHealer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.deps.settings.heal_interval, |_, ctx| ctx.notify(Traced::new(Tick)));
    }
}

impl Worker for OrphanHealer {
    fn identity(&self) -> &Identity {
        &self.me
    }
}

impl TracedHandler<Tick> for OrphanHealer {
    const SPAN: &'static str = "orphan_healer.tick";

    fn receive(&mut self, _: Tick, _: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        if self.running {
            return crate::message::answer(());
        }
        self.running = true;
        let now = Instant::now();
        let with_failed = self.failed_tried.is_none_or(|tried| now - tried >= FAILED_AGAIN);
        if with_failed {
            self.failed_tried = Some(now);
        }
        let (store, healing, alive) =
            (self.deps.store.clone(), self.healing(), self.me.stats().signs_of_life());
        let (sweeps, lately) = (self.sweeps.clone(), self.deps.clock.now() - LATELY);
        let run = async move {
            let mut ends = BTreeMap::new();
            for store_id in store.active_stores().await? {
                alive();
                let sweep = sweeps.get(&store_id).copied().unwrap_or(Sweep { after: None, with_failed });
                let end = look(&store, store_id, healing, sweep, lately).await?;
                ends.extend(end.map(|end| (store_id, end)));
            }
            Ok::<_, Error>(ends)
        };
        Box::pin(run.into_actor(self).map(|done, me, _| {
            me.running = false;
            match done {
                Ok(ends) => me.sweeps = ends,
                Err(error) => {
                    me.me.stats().note_error(&error);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the healer waits for the database"
                    );
                }
            }
        }))
    }
}

impl TracedHandler<Heal> for OrphanHealer {
    const SPAN: &'static str = "orphan_healer.heal";

    fn receive(
        &mut self,
        msg: Heal,
        _: &mut Context<Self>,
    ) -> ResponseActFuture<Self, <Heal as Message>::Result> {
        let (store, healing) = (self.deps.store.clone(), self.healing());
        let heal =
            async move { heal(&store, msg.store_id, true, healing).await.map_err(|error| error.describe()) };
        Box::pin(heal.into_actor(self))
    }

    fn injected(fault: crate::fault::InjectedFault) -> Option<<Heal as Message>::Result> {
        Some(Err(fault.to_string()))
    }
}
