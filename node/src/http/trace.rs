//! The server span of every request, with the caller's trace as its parent.
//!
//! Only `traceparent` and `tracestate` are looked at: `baggage` from outside would be carried to
//! peers and is ignored. What never will be here: anything of a request's body, its query (it may
//! name devices) or its credential.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header::HeaderMap},
};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_actix_web::RootSpanBuilder;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use velox_actors::trace;

use super::request_id::RequestId;

/// Longest `tracestate` that is taken over; W3C asks for at least this much to be carried.
const MAX_TRACESTATE: usize = 512;

/// Route of requests that match none: one label for all of them.
const NO_ROUTE: &str = "(none)";

/// Makes the span of a request: `.wrap(TracingLogger::<HttpSpan>::new())`, inside
/// [`request_id`](super::request_id::request_id).
#[derive(Debug)]
pub struct HttpSpan;

impl RootSpanBuilder for HttpSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let method = method_label(request.method());
        let route = request.match_pattern().unwrap_or_else(|| NO_ROUTE.to_owned());
        let id = RequestId::of(request);
        let span = tracing::info_span!(
            "http",
            otel.name = %format_args!("{method} {route}"),
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = method,
            http.route = %route,
            http.response.status_code = Empty,
            request_id = id.as_ref().map(RequestId::as_str),
            trace_id = Empty,
        );
        let parent = parent(request.headers());
        let remote = parent.span().span_context().clone();
        // Fails only where no traces are exported, and then there is nothing to hang it on.
        let _ = span.set_parent(parent);
        let own = span.context().span().span_context().trace_id();
        if own != opentelemetry::TraceId::INVALID {
            span.record("trace_id", tracing::field::display(own));
        } else if remote.is_valid() {
            span.record("trace_id", tracing::field::display(remote.trace_id()));
        }
        span
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        let status = match outcome {
            Ok(answer) => answer.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        record_status(&span, status);
    }
}

fn record_status(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    // By OpenTelemetry's rule a server span fails by 5xx alone: a 4xx is the caller's.
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// The method as a bounded label.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

/// The caller's trace; an empty context where the headers name none or name it badly.
fn parent(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &TraceHeaders::of(headers))
}

/// The `traceparent` under which work for this request goes on: the present span's where traces are exported,
/// else the caller's own.
pub fn trace_parent(headers: &HeaderMap) -> Option<String> {
    trace::current().or_else(|| TraceHeaders::of(headers).traceparent.map(str::to_owned))
}

struct TraceHeaders<'a> {
    traceparent: Option<&'a str>,
    tracestate: Option<String>,
}

impl<'a> TraceHeaders<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut parents = headers.get_all("traceparent");
        let first = parents.next().and_then(|value| value.to_str().ok());
        // Two parents are none: nobody could say which is meant.
        let traceparent =
            if parents.next().is_some() { None } else { first.filter(|text| trace::well_formed(text)) };
        let states: Option<Vec<_>> = headers.get_all("tracestate").map(|value| value.to_str().ok()).collect();
        let tracestate = states.map(|states| states.join(",")).filter(|state| state.len() <= MAX_TRACESTATE);
        Self { traceparent, tracestate }
    }
}

impl Extractor for TraceHeaders<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

#[cfg(test)]
mod tests;
