//! The envelope that every message travels in, and what happens when one arrives.
//!
//! The envelope carries the sender's span over threads, the way back for the answer, and the receiver's queue count.
//! On arrival the handler runs in a child span, after the injected-fault check, as a future *of its actor*, so that a
//! panic in it kills (and thereby restarts) the actor. Never here: any particular message, and sending (`handles`).
//!
//! An actor takes part in four steps: keep the [`Identity`] its factory is given, implement [`Worker`], call
//! [`supervised!`](crate::supervised) for the type, implement [`TracedHandler`] per message.

use std::{
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFuture, ActorFutureExt, AsyncContext, Context, Message, ResponseActFuture,
    WrapFuture, fut,
};
use tokio::sync::oneshot;
use tracing::Span;

use crate::{
    fault::{FaultAction, InjectedFault},
    handles::{Identity, Queued},
};

/// An actor that a supervisor can run.
pub trait Worker: Actor<Context = Context<Self>> {
    /// Whether the envelope consumes an injected fault per message. False for actors that ask for faults themselves,
    /// once per piece of work.
    const CHECKS_FAULTS: bool = true;

    /// What the factory was given.
    fn identity(&self) -> &Identity;

    /// Called once at shutdown, after every message queued before it has begun: begin nothing new (cancel timers,
    /// release leases) and finish within `within`. Messages in flight, and work marked with
    /// [`begin`](crate::handles::ActorStats::begin), are waited for anyway; then the actor is stopped.
    fn drain(&mut self, within: Duration, ctx: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        let _ = (within, ctx);
        answer(())
    }
}

/// How a [`Worker`] handles one kind of message.
pub trait TracedHandler<M: Message>: Worker {
    /// Name of the span the handler runs in, e.g. `relay.send`.
    const SPAN: &'static str;

    /// One at a time: while this message is worked on, the actor takes no other. Else handlers interleave.
    const ATOMIC: bool = false;

    /// Handles the message. A panic here or in the returned future is the actor's death; the asker gets
    /// [`AskError::Lost`](crate::handles::AskError::Lost).
    fn receive(&mut self, msg: M, ctx: &mut Context<Self>) -> ResponseActFuture<Self, M::Result>;

    /// The answer to give when an injected `error` struck the message; `None` leaves the asker without one (`Lost`).
    fn injected(fault: InjectedFault) -> Option<M::Result> {
        let _ = fault;
        None
    }
}

/// A message in its envelope.
pub struct Traced<M: Message> {
    msg: M,
    span: Span,
    reply: Option<oneshot::Sender<M::Result>>,
    queued: Option<Queued>,
}

/// Tells an actor to finish what it does and stop. Only supervisors send it.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    pub(crate) within: Duration,
}

/// An [`ActorFuture`] that is polled inside a span.
struct InSpan<F> {
    span: Span,
    inner: F,
}

/// Makes an actor type able to receive [`Traced`] messages and [`Drain`]. A generic implementation for every
/// [`Worker`] is what coherence forbids, hence one call per type.
#[macro_export]
macro_rules! supervised {
    ($actor:ty) => {
        impl<M> ::actix::Handler<$crate::message::Traced<M>> for $actor
        where
            M: ::actix::Message + 'static,
            $actor: $crate::message::TracedHandler<M>,
        {
            type Result = ();

            fn handle(&mut self, msg: $crate::message::Traced<M>, ctx: &mut Self::Context) {
                $crate::message::deliver(self, msg, ctx);
            }
        }

        impl ::actix::Handler<$crate::message::Drain> for $actor {
            type Result = ();

            fn handle(&mut self, msg: $crate::message::Drain, ctx: &mut Self::Context) {
                $crate::message::drain(self, msg, ctx);
            }
        }
    };
}

impl<M: Message> Traced<M> {
    /// An envelope without a way back, for messages that an actor sends to itself (`ctx.notify`).
    pub fn new(msg: M) -> Self {
        Self { msg, span: Span::current(), reply: None, queued: None }
    }

    pub(crate) fn addressed(msg: M, reply: Option<oneshot::Sender<M::Result>>, queued: Queued) -> Self {
        Self { msg, span: Span::current(), reply, queued: Some(queued) }
    }
}

// The answer travels through the envelope's own channel: so a full mailbox, a dead actor and a lost answer can be told
// apart, which actix's request cannot.
impl<M: Message> Message for Traced<M> {
    type Result = ();
}

impl Message for Drain {
    type Result = ();
}

/// An answer that is there at once.
pub fn answer<A: Actor, R: 'static>(result: R) -> ResponseActFuture<A, R> {
    Box::pin(fut::ready(result))
}

/// Opens the envelope and runs the handler; called by [`supervised!`](crate::supervised).
pub fn deliver<A, M>(actor: &mut A, envelope: Traced<M>, ctx: &mut Context<A>)
where
    A: TracedHandler<M>,
    M: Message + 'static,
{
    let Traced { msg, span, reply, queued } = envelope;
    drop(queued);
    let me = actor.identity();
    let busy = me.stats().begin();
    let span =
        tracing::info_span!(parent: &span, "actor.handle", otel.name = A::SPAN, actor.name = me.name());
    let fault = if A::CHECKS_FAULTS { me.faults().take(me.name()) } else { None };
    let inner = span.in_scope(|| match fault {
        None => Box::pin(actor.receive(msg, ctx).map(|result, _, _| Some(result))),
        Some(fault) => struck(actor, msg, fault),
    });
    let work = InSpan { span, inner }.map(move |result, _, _| {
        busy.done();
        if let (Some(result), Some(reply)) = (result, reply) {
            // An asker that gave up is no failure of the work.
            let _ = reply.send(result);
        }
    });
    if A::ATOMIC {
        ctx.wait(work);
    } else {
        ctx.spawn(work);
    }
}

/// Finishes what is under way, then stops the actor; called by [`supervised!`](crate::supervised).
pub fn drain<A: Worker>(actor: &mut A, msg: Drain, ctx: &mut Context<A>) {
    let stats = actor.identity().stats().clone();
    let finish = actor
        .drain(msg.within, ctx)
        .then(move |(), actor: &mut A, _| async move { stats.idle().await }.into_actor(actor))
        .map(|(), _, ctx: &mut Context<A>| ctx.stop());
    ctx.spawn(finish);
}

fn struck<A, M>(actor: &A, msg: M, fault: FaultAction) -> ResponseActFuture<A, Option<M::Result>>
where
    A: TracedHandler<M>,
    M: Message + 'static,
{
    let me = actor.identity().clone();
    let strike = async move { fault.strike(me.name()).await }.into_actor(actor);
    Box::pin(strike.then(|struck, actor: &mut A, ctx: &mut Context<A>| -> ResponseActFuture<A, _> {
        match struck {
            Ok(()) => Box::pin(actor.receive(msg, ctx).map(|result, _, _| Some(result))),
            Err(fault) => {
                actor.identity().stats().note_error(&fault);
                answer(if fault.dropped { None } else { A::injected(fault) })
            }
        }
    }))
}

impl<A: Actor, F: ActorFuture<A> + Unpin> ActorFuture<A> for InSpan<F> {
    type Output = F::Output;

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut A::Context,
        task: &mut task::Context<'_>,
    ) -> Poll<F::Output> {
        let Self { span, inner } = &mut *self;
        let _entered = span.enter();
        Pin::new(inner).poll(actor, ctx, task)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span,
    };

    use super::*;
    use crate::{
        fault::Faults,
        handles::{ActorStats, Kind},
    };

    struct Echo(Identity);

    supervised!(Echo);

    impl Actor for Echo {
        type Context = Context<Self>;
    }

    impl Worker for Echo {
        fn identity(&self) -> &Identity {
            &self.0
        }
    }

    struct Ping;

    impl Message for Ping {
        type Result = &'static str;
    }

    impl TracedHandler<Ping> for Echo {
        const SPAN: &'static str = "echo.ping";

        fn receive(&mut self, _: Ping, _: &mut Context<Self>) -> ResponseActFuture<Self, &'static str> {
            tracing::info!("received");
            let later = async {
                tokio::task::yield_now().await;
                tracing::info!("worked");
                "pong"
            };
            Box::pin(later.into_actor(self))
        }
    }

    /// Writes down spans (numbered from 1, with their explicit parent) and events with the span they happened in.
    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Recorded>>);

    #[derive(Default)]
    struct Recorded {
        spans: u64,
        entered: Vec<u64>,
        lines: Vec<String>,
    }

    #[derive(Default)]
    struct Fields(String);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            self.0 += &format!(" {}={value:?}", field.name());
        }
    }

    impl Subscriber for Recorder {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
            let mut recorded = self.0.lock().unwrap();
            recorded.spans += 1;
            let (id, mut fields) = (recorded.spans, Fields::default());
            span.record(&mut fields);
            let parent = span.parent().map(span::Id::into_u64);
            recorded.lines.push(format!("{id} {} under {parent:?}{}", span.metadata().name(), fields.0));
            span::Id::from_u64(id)
        }

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let mut recorded = self.0.lock().unwrap();
            let line = format!("event in {:?}{}", recorded.entered.last(), fields.0);
            recorded.lines.push(line);
        }

        fn enter(&self, span: &span::Id) {
            self.0.lock().unwrap().entered.push(span.into_u64());
        }

        fn exit(&self, _: &span::Id) {
            self.0.lock().unwrap().entered.pop();
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    }

    #[actix::test]
    async fn a_handler_runs_in_a_child_of_the_senders_span() {
        let recorder = Recorder::default();
        let _guard = tracing::subscriber::set_default(recorder.clone());
        let stats = Arc::new(ActorStats::new("echo.0", Kind::Worker, Vec::new()));
        let addr = Echo(Identity::new(stats.clone(), Faults::disabled())).start();
        let (reply, answer) = oneshot::channel();
        let span = tracing::info_span!("request");
        addr.try_send(Traced { msg: Ping, span, reply: Some(reply), queued: None }).unwrap();
        assert_eq!(answer.await, Ok("pong"));
        assert_eq!(stats.snapshot().handled, 1);
        let lines = recorder.0.lock().unwrap().lines.clone();
        let expected = [
            "1 request under None",
            r#"2 actor.handle under Some(1) otel.name="echo.ping" actor.name="echo.0""#,
            "event in Some(2) message=received",
            "event in Some(2) message=worked",
        ];
        assert_eq!(lines, expected);
    }
}
