//! An actor that misbehaves as told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use actix::{Actor, ActorContext, Arbiter, AsyncContext, Context, Message, ResponseActFuture, WrapFuture};
use tokio::sync::Semaphore;

use crate::{
    fault::InjectedFault,
    handles::Identity,
    message::{Traced, TracedHandler, Worker, answer},
    supervised,
};

/// How the next incarnations (as many as said) misbehave, and what all of them noted.
#[derive(Default)]
pub(super) struct Script {
    pub(super) fail_factory: AtomicU32,
    pub(super) panic_factory: AtomicU32,
    pub(super) panic_started: AtomicU32,
    pub(super) panic_stopped: AtomicU32,
    pub(super) panic_drop: AtomicU32,
    pub(super) alive: AtomicU32,
    pub(super) most_alive: AtomicU32,
    pub(super) log: Mutex<Vec<String>>,
}

impl Script {
    pub(super) fn take(count: &AtomicU32) -> bool {
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }

    pub(super) fn note(&self, text: impl Into<String>) {
        self.log.lock().unwrap().push(text.into());
    }
}

pub(super) struct Probe {
    pub(super) me: Identity,
    pub(super) script: Arc<Script>,
    pub(super) sum: u64,
    pub(super) gate: Arc<Semaphore>,
}

supervised!(Probe);

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        assert!(!Script::take(&self.script.panic_started), "in started");
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        assert!(!Script::take(&self.script.panic_stopped), "in stopped");
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.script.alive.fetch_sub(1, Ordering::SeqCst);
        self.script.note(format!("{} gone", self.me.name()));
        assert!(!Script::take(&self.script.panic_drop), "in drop");
    }
}

impl Worker for Probe {
    fn identity(&self) -> &Identity {
        &self.me
    }

    fn drain(&mut self, _: Duration, _: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        self.script.note(format!("{} drains", self.me.name()));
        answer(())
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Do {
    Add(u64),
    Panic,
    PanicLater,
    Stop,
    WaitForGate,
    BlockThread,
    TellMyself,
}

impl Message for Do {
    type Result = Result<u64, InjectedFault>;
}

impl TracedHandler<Do> for Probe {
    const SPAN: &'static str = "probe.do";

    fn receive(
        &mut self,
        msg: Do,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<u64, InjectedFault>> {
        match msg {
            Do::Add(n) => self.sum += n,
            Do::Panic => panic!("in a handler"),
            Do::Stop => ctx.stop(),
            Do::BlockThread => std::thread::sleep(Duration::from_secs(3)),
            Do::TellMyself => ctx.notify(Traced::new(Do::Add(100))),
            Do::PanicLater => {
                let later = async {
                    tokio::task::yield_now().await;
                    panic!("in a future")
                };
                return Box::pin(later.into_actor(self));
            }
            Do::WaitForGate => {
                let (gate, script) = (self.gate.clone(), self.script.clone());
                let wait = async move {
                    gate.acquire().await.expect("gates are not closed").forget();
                    script.note("passed the gate");
                    Ok(0)
                };
                return Box::pin(wait.into_actor(self));
            }
        }
        answer(Ok(self.sum))
    }

    fn injected(fault: InjectedFault) -> Option<Result<u64, InjectedFault>> {
        Some(Err(fault))
    }
}

/// Same as [`Do`], one at a time.
pub(super) struct InTurn(pub(super) Do);

impl Message for InTurn {
    type Result = Result<u64, InjectedFault>;
}

impl TracedHandler<InTurn> for Probe {
    const SPAN: &'static str = "probe.in_turn";
    const ATOMIC: bool = true;

    fn receive(
        &mut self,
        msg: InTurn,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<u64, InjectedFault>> {
        self.receive(msg.0, ctx)
    }
}

pub(super) struct WhereAreYou;

impl Message for WhereAreYou {
    type Result = actix_rt::ArbiterHandle;
}

impl TracedHandler<WhereAreYou> for Probe {
    const SPAN: &'static str = "probe.where";

    fn receive(
        &mut self,
        _: WhereAreYou,
        _: &mut Context<Self>,
    ) -> ResponseActFuture<Self, actix_rt::ArbiterHandle> {
        answer(Arbiter::current())
    }
}
