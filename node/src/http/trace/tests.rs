//! Tests of the parent and of what a span carries.

use std::sync::{Arc, Mutex};

use actix_web::{
    App, HttpResponse,
    http::header::{HeaderName, HeaderValue},
    middleware::from_fn,
    test::{self, TestRequest},
    web,
};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tracing_actix_web::TracingLogger;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::http::request_id::{X_REQUEST_ID, request_id};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn sound() -> String {
    format!("00-{TRACE}-00f067aa0ba902b7-01")
}

#[actix_web::test]
async fn a_sound_parent_is_taken() {
    let context =
        parent(&headers(&[("traceparent", &sound()), ("tracestate", "a=1,b=2"), ("baggage", "k=v")]));
    let span = context.span();
    assert_eq!(span.span_context().trace_id().to_string(), TRACE);
    assert_eq!(span.span_context().trace_state().get("b"), Some("2"));
}

#[actix_web::test]
async fn bad_parents_are_ignored() {
    for bad in [
        "",
        "x",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-zzf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert!(!parent(&headers(&[("traceparent", bad)])).span().span_context().is_valid(), "{bad}");
    }
    let two = headers(&[("traceparent", &sound()), ("traceparent", &sound())]);
    assert!(!parent(&two).span().span_context().is_valid());
}

#[actix_web::test]
async fn a_long_tracestate_is_dropped_and_the_parent_kept() {
    let long = format!("a={}", "x".repeat(MAX_TRACESTATE));
    let context = parent(&headers(&[("traceparent", &sound()), ("tracestate", &long)]));
    assert!(context.span().span_context().is_valid());
    assert_eq!(context.span().span_context().trace_state().get("a"), None);
}

/// Keeps finished spans; the SDK's own is behind a feature that a release does not need.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key.as_str() == name).map(|pair| pair.value.to_string())
}

#[actix_web::test]
async fn the_span_has_parent_route_status_and_request_id() {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let app = test::init_service(
        App::new()
            .route("/sales/{id}", web::get().to(HttpResponse::InternalServerError))
            .wrap(TracingLogger::<HttpSpan>::new())
            .wrap(from_fn(request_id)),
    )
    .await;
    for uri in ["/sales/secret-id?device_id=d", "/else/where"] {
        let request = TestRequest::get()
            .uri(uri)
            .insert_header(("traceparent", sound()))
            .insert_header((X_REQUEST_ID, "r-1"))
            .to_request();
        test::call_and_read_body(&app, request).await;
    }
    let spans = kept.0.lock().unwrap();
    assert_eq!(spans.len(), 2);
    let span = &spans[0];
    assert_eq!(span.name, "GET /sales/{id}");
    assert_eq!(span.span_context.trace_id().to_string(), TRACE);
    assert_eq!(span.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert_eq!(span.span_kind, opentelemetry::trace::SpanKind::Server);
    assert_eq!(attribute(span, "http.request.method").as_deref(), Some("GET"));
    assert_eq!(attribute(span, "http.route").as_deref(), Some("/sales/{id}"));
    assert_eq!(attribute(span, "http.response.status_code").as_deref(), Some("500"));
    assert_eq!(attribute(span, "request_id").as_deref(), Some("r-1"));
    assert!(matches!(span.status, opentelemetry::trace::Status::Error { .. }));
    assert!(!format!("{:?}", span.attributes).contains("secret-id"));
    assert_eq!(spans[1].name, format!("GET {NO_ROUTE}"));
}

#[actix_web::test]
async fn methods_are_a_bounded_label() {
    assert_eq!(method_label(&Method::POST), "POST");
    assert_eq!(method_label(&Method::from_bytes(b"BREW").unwrap()), "_OTHER");
}
