//! Trace context: in and out of this process, and over the rows in which work waits.
//!
//! An event keeps the W3C `traceparent` of the request that brought it. Work on a batch of such events happens in one
//! span a request, each under its own trace: see [`BatchSpans`]. Only `traceparent` is carried on, never `baggage`.
//! Never here: spans of messages (see [`crate::message`]), and where spans are sent.

use std::{collections::HashMap, fmt, future::Future};

use chrono::{DateTime, TimeDelta, Utc};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::{Instrument, Level, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;
use velox_store::{Entry, NewPush, RelayEntry};

/// Most spans of one batch; what other requests brought is worked on without one, and keeps the context it has.
const MAX_SPANS: usize = 50;
/// Most event ids that a span names.
const MAX_IDS: usize = 10;
/// Work that has waited longer begins a trace of its own, with a link: collectors take a trace for ended by then.
const LINK_AFTER: TimeDelta = TimeDelta::minutes(5);

/// W3C's `traceparent` of the present span; `None` where no traces are exported.
pub fn current() -> Option<String> {
    of(&Span::current())
}

/// W3C's form, which propagators take more lightly: they would fill up an id that is too short.
pub fn well_formed(traceparent: &str) -> bool {
    parse(traceparent).is_some()
}

/// The request with the present span as its parent.
pub(crate) fn inject(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    match current() {
        Some(parent) => request.header("traceparent", parent),
        None => request,
    }
}

/// Whether spans that are for traces alone are wanted by anybody.
pub(crate) fn is_exported() -> bool {
    tracing::span_enabled!(Level::DEBUG)
}

fn of(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span().span_context().clone();
    let flags = span.trace_flags().to_u8();
    span.is_valid().then(|| format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()))
}

fn parse(traceparent: &str) -> Option<SpanContext> {
    let hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let mut parts = traceparent.split('-');
    let head = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let lengths = head.map(str::len) == [2, 32, 16, 2];
    let [version, trace, span, flags] = head;
    // Only a later version than 00 may go on after the flags.
    let ends = version != "00" || parts.next().is_none();
    if !lengths || !head.into_iter().all(hex) || version == "ff" || !ends {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

/// What is done to a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work<'a> {
    /// Name of the spans, such as `relay.send`.
    pub(crate) name: &'static str,
    /// OpenTelemetry's kind of the spans.
    pub(crate) kind: &'static str,
    /// Name of the span around a batch that several requests brought; none: the present span is around it.
    pub(crate) whole: Option<&'static str>,
    /// Who does it.
    pub(crate) actor: &'a str,
    /// With whom.
    pub(crate) peer: Option<&'a str>,
    /// The present time.
    pub(crate) now: DateTime<Utc>,
}

/// An event of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The context that it came with.
    pub(crate) trace_parent: Option<&'a str>,
    /// The shop.
    pub(crate) store_id: Uuid,
    /// The event.
    pub(crate) event_id: &'a str,
    /// Since when it waits.
    pub(crate) since: DateTime<Utc>,
}

impl<'a> From<&'a Entry> for Part<'a> {
    fn from(entry: &'a Entry) -> Self {
        Part {
            trace_parent: entry.trace_parent.as_deref(),
            store_id: entry.store_id,
            event_id: &entry.event_id,
            since: entry.queued_at,
        }
    }
}

impl<'a> From<&'a RelayEntry> for Part<'a> {
    fn from(entry: &'a RelayEntry) -> Self {
        Part {
            trace_parent: entry.trace_parent.as_deref(),
            store_id: entry.store_id,
            event_id: &entry.event_id,
            since: entry.queued_at,
        }
    }
}

/// The spans of a batch: one a request that brought some of it, under that request's trace, until they are dropped.
#[derive(Debug)]
pub(crate) struct BatchSpans {
    around: Span,
    /// By the context that the events came with.
    spans: HashMap<String, Span>,
}

/// What one request brought.
struct Group {
    parent: SpanContext,
    store_id: Uuid,
    since: DateTime<Utc>,
    events: usize,
    ids: String,
}

impl BatchSpans {
    /// None at all.
    pub(crate) fn none() -> Self {
        BatchSpans { around: Span::none(), spans: HashMap::new() }
    }

    /// Opens the spans; where no traces are exported there are none, and the parts are not looked at.
    pub(crate) fn open<'a>(work: &Work<'_>, parts: impl Iterator<Item = Part<'a>>) -> Self {
        if !is_exported() {
            return BatchSpans::none();
        }
        let (groups, strangers) = grouped(parts);
        let is_one = (groups.len(), strangers) == (1, 0);
        let around = match work.whole {
            Some(whole) if !is_one => tracing::debug_span!(
                parent: None, "batch", otel.name = whole, otel.kind = work.kind, otel.status_code = Empty,
                otel.status_description = Empty, actor.name = work.actor, peer = work.peer
            ),
            _ => Span::current(),
        };
        let linked = |(key, group): (&str, Group)| {
            let span = group.open(work);
            span.follows_from(around.id());
            (key.to_owned(), span)
        };
        let spans: HashMap<String, Span> = groups.into_iter().map(linked).collect();
        let only = spans.values().next().filter(|_| is_one).cloned();
        BatchSpans { around: only.unwrap_or(around), spans }
    }

    /// Does the batch's work: in the request's own span where one request brought all of it.
    pub(crate) async fn within<F: Future>(&self, work: F) -> F::Output {
        work.instrument(self.around.clone()).await
    }

    /// The context for what follows from the work on parts that came with `trace_parent`; none: as they came.
    pub(crate) fn context(&self, trace_parent: &str) -> Option<String> {
        self.spans.get(trace_parent).and_then(of)
    }

    /// The work has failed.
    pub(crate) fn failed(&self, error: &dyn fmt::Display) {
        for span in self.spans.values().chain([&self.around]) {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", tracing::field::display(error));
        }
    }
}

impl Group {
    fn open(self, work: &Work<'_>) -> Span {
        let span = tracing::debug_span!(
            parent: None, "batch.part", otel.name = work.name, otel.kind = work.kind, otel.status_code = Empty,
            otel.status_description = Empty, actor.name = work.actor, peer = work.peer, store_id = %self.store_id,
            events = self.events, event_ids = self.ids
        );
        if work.now - self.since > LINK_AFTER {
            span.add_link(self.parent);
        } else {
            // Fails only where no traces are exported, and then there is nothing to hang it on.
            let _ = span.set_parent(Context::new().with_remote_span_context(self.parent));
        }
        span
    }
}

/// The parts by the request that brought them, up to the bound, and how many have no place there.
fn grouped<'a>(parts: impl Iterator<Item = Part<'a>>) -> (HashMap<&'a str, Group>, usize) {
    let (mut groups, mut strangers) = (HashMap::<&str, Group>::new(), 0);
    for part in parts {
        let known = part.trace_parent.and_then(|key| groups.get_mut(key));
        if let Some(group) = known {
            group.add(&part);
            continue;
        }
        let new = part.trace_parent.filter(|_| groups.len() < MAX_SPANS);
        let Some((key, parent)) = new.and_then(|key| Some((key, parse(key)?))) else {
            strangers += 1;
            continue;
        };
        let (store_id, since) = (part.store_id, part.since);
        let mut group = Group { parent, store_id, since, events: 0, ids: String::new() };
        group.add(&part);
        groups.insert(key, group);
    }
    (groups, strangers)
}

impl Group {
    fn add(&mut self, part: &Part<'_>) {
        if self.events < MAX_IDS {
            let comma = if self.events == 0 { "" } else { "," };
            self.ids.push_str(comma);
            self.ids.push_str(part.event_id);
        }
        self.events += 1;
        self.since = self.since.min(part.since);
    }
}

/// Hangs a peer's events under spans of this node, and what follows from them under those: under the present span
/// where that is of their trace already, else under one a request that brought them.
pub(crate) fn take_over(work: &Work<'_>, push: &mut NewPush) -> BatchSpans {
    if push.from_peer.is_none() || !is_exported() {
        return BatchSpans::none();
    }
    let (here, present) = (current(), Span::current().context().span().span_context().trace_id());
    let is_here = |text: &str| here.is_some() && parse(text).is_some_and(|sent| sent.trace_id() == present);
    let parts = push.events.iter().filter_map(|new| {
        let trace_parent = new.hop.as_ref()?.trace_parent.as_deref().filter(|text| !is_here(text))?;
        let (store_id, event_id) = (new.event.store_id, new.event.event_id.as_str());
        Some(Part { trace_parent: Some(trace_parent), store_id, event_id, since: work.now })
    });
    let parts: Vec<Part<'_>> = parts.collect();
    let spans = if parts.is_empty() { BatchSpans::none() } else { BatchSpans::open(work, parts.into_iter()) };
    for hop in push.events.iter_mut().filter_map(|new| new.hop.as_mut()) {
        let Some(sent) = &mut hop.trace_parent else { continue };
        let ours = if is_here(sent) { here.clone() } else { spans.context(sent) };
        *sent = ours.unwrap_or_else(|| std::mem::take(sent));
    }
    spans
}

#[cfg(test)]
mod tests;
