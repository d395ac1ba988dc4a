//! Trace context on its way out of this process.
//!
//! Never here: taking it in (the HTTP server does), and spans of messages (see [`crate::message`]).

use opentelemetry::trace::TraceContextExt;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// W3C's `traceparent` of the present span; `None` where no traces are exported.
pub fn current() -> Option<String> {
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    let flags = span.trace_flags().to_u8();
    span.is_valid().then(|| format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()))
}

/// The request with the present span as its parent.
pub(crate) fn inject(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    match current() {
        Some(parent) => request.header("traceparent", parent),
        None => request,
    }
}
