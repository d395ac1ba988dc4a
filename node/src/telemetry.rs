//! Logs and traces: what the process writes, and what it sends to a collector.
//!
//! Log records go to standard error, one a line, whatever text they carry. Spans go to a collector
//! only where `OTEL_EXPORTER_OTLP_ENDPOINT` is set, through a bounded queue and a thread of its own:
//! a collector that is down costs spans, never a request. What never will be here: metrics, and any
//! knowledge of HTTP (the server's spans are in `http::trace`).

use std::time::Duration;

use opentelemetry::{global, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{DynFilterFn, FilterExt as _, FilterFn},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::config::{Config, LogFormat, OtelConfig, OtlpProtocol};

mod lines;

/// Service name where neither `OTEL_SERVICE_NAME` nor the resource attributes give one.
const SERVICE_NAME: &str = "velox-node";

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `VELOX_LOG` is no filter.
    #[error("log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The exporter refuses its settings.
    #[error("trace exporter: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The exporter's runtime could not be started.
    #[error("trace exporter: {0}")]
    Runtime(#[from] std::io::Error),
    /// Something else has installed a subscriber in this process.
    #[error("logging: {0}")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// The running telemetry of the process. Keep it until the end and call [`Telemetry::shutdown`].
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<Traces>,
}

impl Telemetry {
    /// Installs logging and, where configured, the export of traces for the whole process: once, by
    /// `main`.
    pub fn install(config: &Config) -> Result<Self, TelemetryError> {
        let traces = Traces::start(&config.otel)?;
        let logs = log_layer(&config.log, config.log_format, std::io::stderr)?;
        let spans = traces.as_ref().map(|traces| span_layer(traces.tracer()));
        tracing_subscriber::registry().with(logs).with(spans).try_init()?;
        global::set_text_map_propagator(TraceContextPropagator::new());
        Ok(Self { traces })
    }

    /// Sends what is still queued and ends the exporter; waits for `limit` at most, and *blocks* the
    /// calling thread, so it comes after the server has ended.
    pub fn shutdown(self, limit: Duration) {
        if let Some(traces) = self.traces {
            traces.shutdown(limit);
        }
    }
}

/// The provider of traces, and the runtime that its gRPC transport lives on.
#[derive(Debug)]
struct Traces {
    provider: SdkTracerProvider,
    /// gRPC wants a reactor. With one of its own it works on while `main` waits for the last flush,
    /// and no request shares a thread with it.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Traces {
    fn start(otel: &OtelConfig) -> Result<Option<Self>, TelemetryError> {
        let Some(endpoint) = otel.traces_endpoint.clone() else {
            return Ok(None);
        };
        let (exporter, runtime) = match otel.protocol {
            OtlpProtocol::Grpc => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name("otlp")
                    .enable_all()
                    .build()?;
                let entered = runtime.enter();
                let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
                drop(entered);
                (exporter, Some(runtime))
            }
            OtlpProtocol::HttpProtobuf => {
                // The client asks for it even where it speaks plain HTTP. An error says that somebody
                // has installed one before, which is as good.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let builder = SpanExporter::builder().with_http().with_endpoint(endpoint);
                (builder.with_protocol(Protocol::HttpBinary).build()?, None)
            }
        };
        // Queue, batch and delay are OTEL_BSP_*, the sampler OTEL_TRACES_SAMPLER: read by the SDK.
        let provider =
            SdkTracerProvider::builder().with_resource(resource(otel)).with_batch_exporter(exporter).build();
        Ok(Some(Self { provider, runtime }))
    }

    fn tracer(&self) -> SdkTracer {
        self.provider.tracer(SERVICE_NAME)
    }

    fn shutdown(self, limit: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(limit) {
            tracing::warn!(%error, "not all spans reached the collector");
        }
        if let Some(runtime) = self.runtime {
            // Never waits, and may be called on a runtime's thread, where a plain drop would panic.
            runtime.shutdown_background();
        }
    }
}

fn resource(otel: &OtelConfig) -> Resource {
    let builder = Resource::builder();
    match (&otel.service_name, otel.service_named_by_attributes) {
        (Some(name), _) => builder.with_service_name(name.clone()).build(),
        (None, true) => builder.build(),
        (None, false) => builder.with_service_name(SERVICE_NAME).build(),
    }
}

/// Records as lines. The filter is this layer's own: `VELOX_LOG=warn` must not cost the traces.
fn log_layer<S, W>(
    filter: &str,
    format: LogFormat,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A layer remembers what its filter has answered last on this thread, and goes by that where the answer for a place
    // is always the same. A bare question whether something is wanted, such as sqlx asks after each query, would
    // thereby cost the next span or line. So every place is asked anew.
    let always = DynFilterFn::new(|_, _| true).with_max_level_hint(LevelFilter::TRACE);
    let filter = EnvFilter::try_new(filter)?.and(always);
    let plain = fmt::layer().with_ansi(false).with_writer(lines::OneLine(writer));
    Ok(match format {
        LogFormat::Pretty => plain.with_filter(filter).boxed(),
        LogFormat::Json => plain.json().with_current_span(false).with_filter(filter).boxed(),
    })
}

/// Spans of this system alone: those of the exporter's own HTTP client would feed on themselves.
fn span_layer<S>(tracer: SdkTracer) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let ours = |metadata: &Metadata<'_>| {
        let target = metadata.target();
        // A span that is for traces alone, such as a query's, is of level debug: where none are exported it costs a
        // comparison, and it never stands in a log line.
        let most = if metadata.is_span() { LevelFilter::DEBUG } else { LevelFilter::INFO };
        target.starts_with("velox") && *metadata.level() <= most
    };
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_filter(FilterFn::new(ours).with_max_level_hint(LevelFilter::DEBUG))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        net::TcpListener,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat, work: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = log_layer(filter, format, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const NASTY: &str = "a\nINFO forged\r\u{1b}[2J\u{9b}31m\u{202e}\"z";

    #[test]
    fn a_record_is_one_line_in_both_formats() {
        for format in [LogFormat::Pretty, LogFormat::Json] {
            let text = logged("info", format, || {
                let span = tracing::info_span!("work", request_id = NASTY);
                span.in_scope(|| tracing::info!(text = NASTY, shown = %NASTY, "{NASTY}"));
            });
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.ends_with('\n'));
            let control = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!text.trim_end_matches('\n').contains(control), "{text:?}");
        }
    }

    #[test]
    fn json_records_keep_the_text() {
        let text = logged("info", LogFormat::Json, || {
            let span = tracing::info_span!("work", request_id = "r-1");
            span.in_scope(|| tracing::info!(text = NASTY, "hello"));
        });
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["fields"]["text"], NASTY);
        assert_eq!(record["spans"][0]["request_id"], "r-1");
    }

    #[test]
    fn the_filter_filters_and_a_bad_one_is_an_error() {
        let text = logged("warn", LogFormat::Pretty, || {
            tracing::info!("quiet");
            tracing::warn!("loud");
        });
        assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
        let bad: Result<Box<dyn Layer<tracing_subscriber::Registry> + Send + Sync>, _> =
            log_layer("x=loudest", LogFormat::Pretty, io::sink);
        assert!(matches!(bad, Err(TelemetryError::Filter(_))));
    }

    fn otel(endpoint: String, protocol: OtlpProtocol) -> OtelConfig {
        OtelConfig { traces_endpoint: Some(endpoint), protocol, ..OtelConfig::default() }
    }

    /// Keeps names of finished spans; the SDK's own exporter of that kind is behind a feature.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl opentelemetry_sdk::trace::SpanExporter for Kept {
        async fn export(
            &self,
            batch: Vec<opentelemetry_sdk::trace::SpanData>,
        ) -> opentelemetry_sdk::error::OTelSdkResult {
            self.0.lock().unwrap().extend(batch.into_iter().map(|span| span.name.into_owned()));
            Ok(())
        }
    }

    #[test]
    fn a_question_whether_something_is_wanted_costs_neither_a_span_nor_a_line() {
        let (sink, kept) = (Sink::default(), Kept::default());
        let writer = sink.clone();
        let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
        let logs = log_layer("info", LogFormat::Pretty, move || writer.clone()).unwrap();
        let layers = tracing_subscriber::registry().with(logs).with(span_layer(provider.tracer("test")));
        tracing::subscriber::with_default(layers, || {
            // Wanted as a line alone, then as a span alone.
            for _ in 0..2 {
                assert!(tracing::enabled!(target: "hyper", tracing::Level::INFO));
                tracing::info_span!(target: "velox_node", "asked-before").in_scope(|| {});
                assert!(tracing::span_enabled!(target: "velox_store", tracing::Level::DEBUG));
                tracing::info!("asked before");
            }
        });
        assert_eq!(*kept.0.lock().unwrap(), ["asked-before", "asked-before"]);
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("asked before").count(), 2, "{text}");
    }

    #[test]
    fn spans_for_traces_alone_are_exported_and_are_no_log_lines() {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
        let layers = tracing_subscriber::registry().with(span_layer(provider.tracer("test")));
        tracing::subscriber::with_default(layers, || {
            tracing::debug_span!(target: "velox_actors::trace", "ours").in_scope(|| {});
            tracing::debug_span!(target: "sqlx", "theirs").in_scope(|| {});
        });
        assert_eq!(*kept.0.lock().unwrap(), ["ours"]);
        let text = logged("info", LogFormat::Pretty, || {
            tracing::debug_span!(target: "velox_actors::trace", "ours").in_scope(|| tracing::info!("hello"));
        });
        assert!(text.contains("hello") && !text.contains("ours"), "{text}");
    }

    #[test]
    fn without_an_endpoint_spans_for_traces_alone_cost_a_comparison() {
        let logs = log_layer("info", LogFormat::Pretty, io::sink).unwrap();
        let nothing: Option<Traces> = None;
        let spans = nothing.as_ref().map(|traces| span_layer(traces.tracer()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs).with(spans), || {
            assert_eq!(LevelFilter::current(), LevelFilter::INFO);
            assert!(!tracing::span_enabled!(target: "velox_actors::trace", tracing::Level::DEBUG));
        });
    }

    #[test]
    fn no_endpoint_starts_nothing() {
        assert!(Traces::start(&OtelConfig::default()).unwrap().is_none());
        Telemetry::default().shutdown(Duration::from_secs(1));
    }

    /// A listener that accepts and never answers: the worst kind of collector.
    #[test]
    fn a_silent_collector_blocks_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        for protocol in [OtlpProtocol::HttpProtobuf, OtlpProtocol::Grpc] {
            let traces = Traces::start(&otel(format!("{base}/v1/traces"), protocol)).unwrap().unwrap();
            let layer = span_layer(traces.tracer());
            #[expect(clippy::disallowed_methods, reason = "the test measures what real time passes")]
            let start = std::time::Instant::now();
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                for _ in 0..5_000 {
                    tracing::info_span!(target: "velox_node", "busy").in_scope(|| {});
                }
            });
            traces.shutdown(Duration::from_millis(300));
            assert!(start.elapsed() < Duration::from_secs(3), "{protocol}: {:?}", start.elapsed());
        }
    }

    #[test]
    fn spans_reach_a_collector_at_shutdown() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let collector = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            let mut chunk = [0; 4096];
            while !seen.windows(7).any(|window| window == b"my-span") {
                let read = io::Read::read(&mut stream, &mut chunk).unwrap();
                assert_ne!(read, 0, "the exporter hung up early");
                seen.extend_from_slice(&chunk[..read]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            String::from_utf8_lossy(&seen).into_owned()
        });
        let traces = Traces::start(&otel(endpoint, OtlpProtocol::HttpProtobuf)).unwrap().unwrap();
        let layer = span_layer(traces.tracer());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info_span!(target: "velox_node", "my-span").in_scope(|| {});
            tracing::info_span!(target: "hyper", "other-span").in_scope(|| {});
        });
        traces.shutdown(Duration::from_secs(5));
        let seen = collector.join().unwrap();
        assert!(seen.starts_with("POST /v1/traces") && seen.contains(SERVICE_NAME), "{seen}");
        assert!(!seen.contains("other-span"));
    }
}
