//! One life of one child: made, run, ended, with its end reported whatever it was.
//!
//! Never here: what follows from an end (the supervisor's to decide).

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task,
    time::Duration,
};

use actix::{ActorContext, Addr, Arbiter, AsyncContext, Context, Handler, dev::ContextFut};
use actix_rt::ArbiterHandle;
use futures_util::{
    FutureExt,
    future::{AbortHandle, AbortRegistration, Abortable, BoxFuture},
};
use tokio::{
    sync::{Mutex, oneshot},
    time::timeout,
};

use super::Made;
use crate::{
    handles::{Identity, Slot, State},
    message::{Drain, Worker},
};

/// How long a new incarnation waits for the one before it to be gone. Longer than any abort takes, unless a call
/// blocks the thread; then two of a kind must not run beside each other, and failing to start escalates.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(5);

/// How an incarnation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It stopped by itself, or when told to.
    Normal,
    /// It panicked.
    Panic(String),
    /// It could not be made.
    Failed(String),
    /// A supervisor that gave up.
    Escalated(String),
    /// It was cut off.
    Aborted,
    /// It was cut off, because it made no progress.
    Hung,
    /// Its arbiter is gone, and it with it.
    Lost,
}

/// What a supervisor that gives up unwinds with, so that it can be told from a panic.
pub(super) struct Escalated(pub(super) String);

/// A child without its type.
pub(super) trait Life: Send + Sync {
    /// Starts an incarnation; the future is how it ends. With `own`, the arbiter ends with it.
    fn launch(
        self: Arc<Self>,
        on: &ArbiterHandle,
        own: bool,
        mailbox: usize,
    ) -> (AbortHandle, BoxFuture<'static, Exit>);

    /// Closes the handle and tells the actor to finish; false when there is none to tell.
    fn drain(&self, within: Duration) -> bool;

    /// Closes the handle: whoever asks is told `Restarting`.
    fn close(&self);

    /// Resolves when no incarnation lives.
    fn gone(&self) -> BoxFuture<'_, ()>;
}

type Make<A> = dyn Fn(&Identity, &mut Context<A>) -> Made<A> + Send + Sync;

/// An actor that is made and not yet run, and its one address.
type Born<A> = (Arc<Addr<A>>, ContextFut<A, Context<A>>);

/// [`Life`] of an actor type.
pub(super) struct Host<A: Worker> {
    slot: Arc<Slot<A>>,
    identity: Identity,
    make: Box<Make<A>>,
    // Held by the living incarnation, so that there is at most one, also over restarts of supervisors.
    turn: Mutex<()>,
}

impl<A: Worker + Handler<Drain>> Host<A> {
    pub(super) fn new<F>(slot: Arc<Slot<A>>, identity: Identity, make: F) -> Self
    where
        F: Fn(&Identity, &mut Context<A>) -> Made<A> + Send + Sync + 'static,
    {
        Self { slot, identity, make: Box::new(make), turn: Mutex::new(()) }
    }

    async fn live(&self, mailbox: usize, registration: AbortRegistration) -> Exit {
        let Ok(_turn) = timeout(PREDECESSOR_LIMIT, self.turn.lock()).await else {
            return Exit::Failed("the incarnation before it does not end".to_owned());
        };
        if registration.handle().is_aborted() {
            return Exit::Aborted;
        }
        let (addr, mut actor) = match catch_unwind(AssertUnwindSafe(|| self.make(mailbox))) {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => return Exit::Failed(format!("cannot start: {error}")),
            Err(panic) => return exit_of(panic),
        };
        self.slot.fill(addr.clone());
        // The catch sits directly on the actor: it is dropped after the unwinding and not during it, where a panic in
        // its Drop would end the process.
        let ended = Abortable::new(AssertUnwindSafe(&mut actor).catch_unwind(), registration).await;
        // First of all, so that whoever is told of a lost message finds the handle closed.
        self.slot.leave(&addr);
        let exit = match ended {
            Ok(Ok(())) => Exit::Normal,
            Ok(Err(panic)) => exit_of(panic),
            Err(_) => Exit::Aborted,
        };
        if !matches!(exit, Exit::Aborted | Exit::Escalated(_)) {
            self.identity.stats().set_state(State::Restarting);
        }
        bury(actor, exit)
    }

    fn make(&self, mailbox: usize) -> Made<Born<A>> {
        let mut ctx = Context::new();
        ctx.set_mailbox_capacity(mailbox);
        let actor = (self.make)(&self.identity, &mut ctx)?;
        Ok((Arc::new(ctx.address()), ctx.into_future(actor)))
    }
}

impl<A: Worker + Handler<Drain>> Life for Host<A> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that starts actors, and reports how they end"
    )]
    fn launch(
        self: Arc<Self>,
        on: &ArbiterHandle,
        own: bool,
        mailbox: usize,
    ) -> (AbortHandle, BoxFuture<'static, Exit>) {
        let (told, exit) = oneshot::channel();
        let (abort, registration) = AbortHandle::new_pair();
        // In two steps because the actor, made over there, need not be Send. A dead arbiter drops `told` with the
        // closure, and so does one that dies later with the task.
        on.spawn_fn(move || {
            actix_rt::spawn(async move {
                let exit = self.live(mailbox, registration).await;
                // A supervisor that is gone needs no report.
                let _ = told.send(exit);
                if own {
                    Arbiter::current().stop();
                }
            });
        });
        (abort, exit.map(|exit| exit.unwrap_or(Exit::Lost)).boxed())
    }

    #[expect(clippy::disallowed_methods, reason = "the order to drain must get through a full mailbox")]
    fn drain(&self, within: Duration) -> bool {
        let addr = self.slot.empty().filter(|addr| addr.connected());
        if let Some(addr) = &addr {
            addr.do_send(Drain { within });
        }
        addr.is_some()
    }

    fn close(&self) {
        self.slot.empty();
    }

    fn gone(&self) -> BoxFuture<'_, ()> {
        self.turn.lock().map(drop).boxed()
    }
}

/// Ends what is left of an actor. Its last acts may panic too; each is caught alone, since two at once would end the
/// process.
fn bury<A: Worker>(mut actor: ContextFut<A, Context<A>>, exit: Exit) -> Exit {
    let stopped = catch_unwind(AssertUnwindSafe(|| {
        if exit != Exit::Normal {
            // One poll of a context that is told to stop runs `stopping` and `stopped` and nothing else.
            actor.ctx().stop();
            let _ = Pin::new(&mut actor).poll(&mut task::Context::from_waker(task::Waker::noop()));
        }
    }));
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(actor)));
    match (exit, stopped.and(dropped)) {
        (Exit::Normal | Exit::Aborted, Err(panic)) => exit_of(panic),
        (exit, _) => exit,
    }
}

fn exit_of(panic: Box<dyn Any + Send>) -> Exit {
    match panic.downcast::<Escalated>() {
        Ok(escalated) => Exit::Escalated(escalated.0),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Exit::Panic(text.unwrap_or_else(|| "with a payload that is no text".to_owned()))
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("stopped unasked"),
            Self::Panic(text) => write!(f, "panicked: {text}"),
            Self::Failed(reason) => f.write_str(reason),
            Self::Escalated(reason) => write!(f, "gave up: {reason}"),
            Self::Aborted => f.write_str("was cut off"),
            Self::Hung => f.write_str("made no progress and was cut off"),
            Self::Lost => f.write_str("its arbiter is gone"),
        }
    }
}
