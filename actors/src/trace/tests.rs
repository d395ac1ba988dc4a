//! Tests of batches' spans and of the contexts that are carried on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tracing_subscriber::layer::SubscriberExt;
use velox_store::{Hop, NewEvent};

use super::*;

/// Keeps finished spans; the SDK's own is behind a feature that a release does not need.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// What was exported during `work`.
fn exported(work: impl FnOnce()) -> Vec<SpanData> {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
    kept.0.lock().unwrap().clone()
}

fn context_of(trace: u128, span: u64) -> String {
    format!("00-{trace:032x}-{span:016x}-01")
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn work(whole: Option<&'static str>) -> Work<'static> {
    Work { name: "relay.send", kind: "client", whole, actor: "relay.b", peer: Some("b"), now: now() }
}

fn part<'a>(trace_parent: Option<&'a str>, event_id: &'a str) -> Part<'a> {
    Part { trace_parent, store_id: Uuid::from_u128(7), event_id, since: now() }
}

fn attributes(span: &SpanData) -> BTreeMap<String, String> {
    span.attributes.iter().map(|pair| (pair.key.to_string(), pair.value.to_string())).collect()
}

#[test]
fn only_sound_contexts_are_taken() {
    let sound = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let context = parse(sound).unwrap();
    assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
    assert!(context.is_remote() && context.is_sampled());
    assert!(well_formed("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-will-come"));
    assert!(!parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap().is_sampled());
    for bad in [
        "",
        "00",
        "00-trace",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert!(!well_formed(bad), "{bad}");
    }
}

#[test]
fn a_batch_of_one_request_is_worked_on_in_its_trace() {
    let came = context_of(1, 2);
    let mut carried = None;
    let spans = exported(|| {
        let spans = BatchSpans::open(
            &work(Some("relay.exchange")),
            [part(Some(&came), "e1"), part(Some(&came), "e2")].into_iter(),
        );
        carried = spans.context(&came);
        futures_util::FutureExt::now_or_never(spans.within(async {
            assert_eq!(current(), carried);
        }))
        .unwrap();
        spans.failed(&"the peer did not answer in time");
    });
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((span.name.as_ref(), span.parent_span_id), ("relay.send", SpanId::from(2)));
    let own = context_of(1, u64::from_be_bytes(span.span_context.span_id().to_bytes()));
    assert_eq!(carried, Some(own));
    let told = attributes(span);
    assert_eq!((told["event_ids"].as_str(), told["events"].as_str()), ("e1,e2", "2"));
    assert_eq!((told["actor.name"].as_str(), told["peer"].as_str()), ("relay.b", "b"));
    assert_eq!(told["store_id"], Uuid::from_u128(7).to_string());
    assert_eq!(span.status, opentelemetry::trace::Status::error("the peer did not answer in time"));
}

#[test]
fn requests_that_are_worked_on_together_keep_their_traces() {
    let (one, two) = (context_of(1, 2), context_of(3, 4));
    let parts =
        [part(Some(&one), "e1"), part(None, "e2"), part(Some(&two), "e3"), part(Some("nonsense"), "e4")];
    let spans = exported(|| drop(BatchSpans::open(&work(Some("relay.exchange")), parts.into_iter())));
    let named = |name: &str| -> Vec<&SpanData> { spans.iter().filter(|span| span.name == name).collect() };
    let [exchange] = named("relay.exchange")[..] else { panic!("{spans:?}") };
    let parents: Vec<String> = {
        let sent = named("relay.send");
        assert!(sent.iter().all(|span| span.links.links[0].span_context == exchange.span_context));
        let mut parents: Vec<_> = sent.iter().map(|span| span.parent_span_id.to_string()).collect();
        parents.sort();
        parents
    };
    assert_eq!(parents, ["0000000000000002", "0000000000000004"]);
}

#[test]
fn a_batch_has_a_bounded_number_of_spans_and_of_named_events() {
    let contexts: Vec<String> = (1..=60).map(|n| context_of(n, 1)).collect();
    let parts = contexts.iter().map(|context| part(Some(context), "e"));
    let mut known = 0;
    let spans = exported(|| {
        let spans = BatchSpans::open(&work(None), parts);
        known = contexts.iter().filter(|context| spans.context(context).is_some()).count();
    });
    assert_eq!((spans.len(), known), (MAX_SPANS, MAX_SPANS));
    let many = (0..500).map(|_| part(Some(&contexts[0]), "e"));
    let spans = exported(|| drop(BatchSpans::open(&work(None), many)));
    let told = attributes(&spans[0]);
    assert_eq!((told["events"].as_str(), told["event_ids"].as_str()), ("500", "e,e,e,e,e,e,e,e,e,e"));
}

#[test]
fn work_that_waited_long_links_to_its_trace() {
    let came = context_of(1, 2);
    let old = Part { since: now() - TimeDelta::minutes(6), ..part(Some(&came), "e1") };
    let spans = exported(|| drop(BatchSpans::open(&work(None), [old].into_iter())));
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
    assert_eq!(Some(spans[0].links.links[0].span_context.clone()), parse(&came));
}

#[test]
fn nothing_is_made_where_nobody_wants_spans() {
    let came = context_of(1, 2);
    let looked_at = std::iter::from_fn(|| -> Option<Part<'_>> { panic!("a part was looked at") });
    let spans = BatchSpans::open(&work(Some("relay.exchange")), looked_at);
    assert!(spans.context(&came).is_none() && spans.spans.is_empty() && spans.around.is_none());
    let mut push = relayed(&[&came]);
    take_over(&work(None), &mut push);
    assert_eq!(contexts(&push), [came]);
}

fn relayed(contexts: &[&str]) -> NewPush {
    let event = |trace_parent: &&str| {
        let sender = velox_protocol::event::Sender {
            store_id: Uuid::from_u128(7),
            device_id: "till",
            client_version: "1",
            user_id: None,
            now: now(),
        };
        let text = r#"{"event_id":"00000000-0000-4000-8000-000000000001","seq":1,"type":"Unknown","version":1,
            "created_at":1700000000000,"payload":{}}"#;
        let received = velox_protocol::event::read(text, &sender).unwrap();
        let hop = Some(Hop { origin_node: None, trace_parent: Some((*trace_parent).to_owned()) });
        NewEvent { event: received.event, links: Vec::new(), hop }
    };
    let events = contexts.iter().map(event).collect();
    NewPush { events, from_peer: Some("a".to_owned()), ..NewPush::default() }
}

fn contexts(push: &NewPush) -> Vec<String> {
    push.events.iter().filter_map(|new| new.hop.as_ref()?.trace_parent.clone()).collect()
}

#[test]
fn what_a_peer_sends_goes_on_under_spans_of_this_node() {
    let (one, two) = (context_of(1, 2), context_of(3, 4));
    let mut push = relayed(&[&one, &two, &one]);
    let mut here = None;
    let spans = exported(|| {
        let span = tracing::info_span!("sync_ingest.commit");
        span.set_parent(Context::new().with_remote_span_context(parse(&context_of(3, 9)).unwrap())).unwrap();
        span.in_scope(|| {
            here = current();
            drop(take_over(&work(None), &mut push));
        });
    });
    let [first, second, third] = contexts(&push).try_into().unwrap();
    let own = spans.iter().find(|span| span.name == "relay.send").unwrap();
    assert_eq!(own.parent_span_id, SpanId::from(2));
    assert_eq!(first, context_of(1, u64::from_be_bytes(own.span_context.span_id().to_bytes())));
    assert_eq!((Some(second), third), (here, first));
    assert_eq!(spans.len(), 2, "one for the trace that is not the request's");
}
