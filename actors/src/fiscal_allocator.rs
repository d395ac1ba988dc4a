//! FiscalAllocator: hands out fiscal numbers one request after the other, closes ranges whose time is over, and tells of
//! numbers that two sales bear.
//!
//! Its order only spares pods of one node the tries of a transaction: that no number is handed out twice is the
//! database's doing. No sale waits for it. Never here: whose a series is, when a device gets its range again (see
//! `velox_protocol::fiscal`).

use crate::Deps;
use crate::handles::Identity;
use crate::message::{Traced, TracedHandler, Worker};
use crate::supervised;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Message, ResponseActFuture, WrapFuture};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;
use velox_store::{Consumed, Error, FiscalDuplicate, NewNotification, NewRange, Reported, Reserved, Store};

/// How often new sales are looked at for numbers that another one bears.
const LOOK_PERIOD: Duration = Duration::from_secs(60);
/// How far back: their rows may come later than they do.
const LOOK_BACK: Duration = Duration::from_secs(900);
/// How often ranges are closed whose time is over, and all sales looked at. The end of a range counts without that.
const RECLAIM_PERIOD: Duration = Duration::from_secs(3_600);

/// Gives a device a range.
#[derive(Debug, Clone)]
pub struct Reserve(pub NewRange);

impl Message for Reserve {
    /// What came of it, or why nothing did.
    type Result = Result<Reserved, String>;
}

/// Takes a device's next number.
#[derive(Debug, Clone)]
pub struct Consume {
    /// The shop.
    pub store_id: Uuid,
    /// The series.
    pub series_id: Uuid,
    /// The till.
    pub device_id: String,
    /// What it is for; repeats get the same number.
    pub sale_id: Option<Uuid>,
}

impl Message for Consume {
    /// What came of it, or why nothing did.
    type Result = Result<Consumed, String>;
}

/// How far a device has come with a range.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// The shop.
    pub store_id: Uuid,
    /// The range.
    pub range_id: Uuid,
    /// The last number that it has used.
    pub used_up_to: i64,
}

impl Message for Report {
    /// What came of it, or why nothing did.
    type Result = Result<Reported, String>;
}

/// The period has passed.
#[derive(Debug, Clone, Copy)]
struct Tick;

impl Message for Tick {
    type Result = ();
}

/// Hands out numbers.
pub struct FiscalAllocator {
    me: Identity,
    deps: Deps,
    running: bool,
    reclaimed: Option<Instant>,
}

impl FiscalAllocator {
    /// An allocator of all series that this node owns.
    pub fn new(me: &Identity, deps: Deps) -> Self {
        FiscalAllocator { me: me.clone(), deps, running: false, reclaimed: None }
    }
}

supervised!(FiscalAllocator);

impl Actor for FiscalAllocator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.notify(Traced::new(Tick));
        ctx.run_interval(LOOK_PERIOD, |_, ctx| ctx.notify(Traced::new(Tick)));
    }
}

impl Worker for FiscalAllocator {
    fn identity(&self) -> &Identity {
        &self.me
    }
}

impl TracedHandler<Tick> for FiscalAllocator {
    const SPAN: &'static str = "fiscal_allocator.tick";

    fn receive(&mut self, _: Tick, _: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        if self.running {
            return crate::message::answer(());
        }
        self.running = true;
        let began = Instant::now();
        let reclaims = self.reclaimed.is_none_or(|last| began - last >= RECLAIM_PERIOD);
        let (store, now) = (self.deps.store.clone(), self.deps.clock.now());
        let work = async move {
            if reclaims {
                let closed = store.reclaim_fiscal_ranges(now).await?;
                if closed > 0 {
                    tracing::info!(closed, "fiscal ranges expired");
                }
            }
            tell_duplicates(&store, (!reclaims).then_some(LOOK_BACK)).await
        };
        Box::pin(work.into_actor(self).map(move |done, me, _| {
            me.running = false;
            match done {
                Ok(()) if reclaims => me.reclaimed = Some(began),
                Ok(()) => {}
                Err(error) => {
                    me.me.stats().note_error(&error);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the allocator waits for the database"
                    );
                }
            }
        }))
    }
}

impl TracedHandler<Reserve> for FiscalAllocator {
    const SPAN: &'static str = "fiscal_allocator.reserve";
    const ATOMIC: bool = true;

    fn receive(
        &mut self,
        msg: Reserve,
        _: &mut Context<Self>,
    ) -> ResponseActFuture<Self, <Reserve as Message>::Result> {
        let store = self.deps.store.clone();
        let work = async move {
            let reserved = store.reserve_fiscal_range(&msg.0).await.map_err(|error| error.describe())?;
            if let Reserved::Range { range, fresh: true } = &reserved {
                let (series_id, device_id) = (range.series_id, range.device_id.as_str());
                let (first, last) = (range.range_start, range.range_end);
                tracing::info!(%series_id, device_id, first, last, "fiscal numbers were granted");
            }
            Ok(reserved)
        };
        Box::pin(work.into_actor(self))
    }

    fn injected(fault: crate::fault::InjectedFault) -> Option<<Reserve as Message>::Result> {
        Some(Err(fault.to_string()))
    }
}

impl TracedHandler<Consume> for FiscalAllocator {
    const SPAN: &'static str = "fiscal_allocator.consume";
    const ATOMIC: bool = true;

    fn receive(
        &mut self,
        msg: Consume,
        _: &mut Context<Self>,
    ) -> ResponseActFuture<Self, <Consume as Message>::Result> {
        let (store, now) = (self.deps.store.clone(), self.deps.clock.now());
        let work = async move {
            let Consume { store_id, series_id, device_id, sale_id } = msg;
            let done = store.consume_fiscal_number(store_id, series_id, &device_id, sale_id, now).await;
            done.map_err(|error| error.describe())
        };
        Box::pin(work.into_actor(self))
    }

    fn injected(fault: crate::fault::InjectedFault) -> Option<<Consume as Message>::Result> {
        Some(Err(fault.to_string()))
    }
}

impl TracedHandler<Report> for FiscalAllocator {
    const SPAN: &'static str = "fiscal_allocator.report";

    fn receive(
        &mut self,
        msg: Report,
        _: &mut Context<Self>,
    ) -> ResponseActFuture<Self, <Report as Message>::Result> {
        let (store, now) = (self.deps.store.clone(), self.deps.clock.now());
        let work = async move {
            let done = store.report_fiscal_use(msg.store_id, msg.range_id, msg.used_up_to, now).await;
            done.map_err(|error| error.describe())
        };
        Box::pin(work.into_actor(self))
    }

    fn injected(fault: crate::fault::InjectedFault) -> Option<<Report as Message>::Result> {
        Some(Err(fault.to_string()))
    }
}

/// Tells each shop of the numbers that two of its sales bear.
async fn tell_duplicates(store: &Store, lately: Option<Duration>) -> Result<(), Error> {
    for duplicate in store.fiscal_duplicates(lately).await? {
        if store.raise_notification(duplicate.store_id, &notification(&duplicate)).await? {
            let FiscalDuplicate { store_id, series_id, number, .. } = duplicate;
            tracing::error!(%store_id, %series_id, number, "two sales bear one fiscal number");
        }
    }
    Ok(())
}

fn notification(duplicate: &FiscalDuplicate) -> NewNotification {
    let FiscalDuplicate { series_id, number, sales, .. } = duplicate;
    NewNotification {
        kind: "FISCAL_DUPLICATE",
        subject: format!("{series_id} {number}"),
        title: format!("Fiscal number {number} is on {} sales", sales.len()),
        body: format!(
            "The sales {} bear the same number of series {series_id}. Void all but one of them.",
            sales.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", ")
        ),
        data: json!({ "series_id": series_id, "number": number, "sales": sales }),
    }
}
