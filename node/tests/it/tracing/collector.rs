//! A collector: takes spans by OTLP over HTTP, and keeps them to be looked at.

use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// A span that has come.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Of the resource.
    pub(super) service: String,
    /// What was done.
    pub(super) name: String,
    /// In hex, as the other ids.
    pub(super) trace: String,
    pub(super) id: String,
    /// Empty: none.
    pub(super) parent: String,
    /// Traces that it links to.
    pub(super) links: Vec<String>,
    /// Whether it says that it failed.
    pub(super) failed: bool,
    pub(super) attributes: BTreeMap<String, String>,
}

/// The collector; its thread ends with the process.
pub(super) struct Collector {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Collector {
    /// One that listens.
    pub(super) fn start() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let data = web::Data::new(seen.clone());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let server = HttpServer::new(move || {
                let app = App::new().app_data(data.clone()).app_data(web::PayloadConfig::new(64 << 20));
                app.route("/v1/traces", web::post().to(take))
            });
            let server = server.workers(1).disable_signals().listen(listener).expect("a port");
            actix_web::rt::System::new().block_on(server.run())
        });
        Collector { address, seen }
    }

    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has come of a trace.
    pub(super) fn of(&self, trace: &str) -> Trace {
        let seen = self.seen.lock().expect("spans");
        Trace(seen.iter().filter(|span| span.trace == trace).cloned().collect())
    }

    /// All that has come.
    pub(super) fn all(&self) -> Vec<Seen> {
        self.seen.lock().expect("spans").clone()
    }
}

async fn take(seen: web::Data<Arc<Mutex<Vec<Seen>>>>, body: web::Bytes) -> HttpResponse {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return HttpResponse::BadRequest().finish();
    };
    let mut seen = seen.lock().expect("spans");
    for of_resource in request.resource_spans {
        let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            seen.push(Seen {
                service: resource.get("service.name").cloned().unwrap_or_default(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                failed: span.status.is_some_and(|status| status.code == 2),
                attributes: attributes(span.attributes),
            });
        }
    }
    HttpResponse::Ok().finish()
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs.into_iter().map(|pair| (pair.key, text(pair.value.and_then(|value| value.value)))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of a trace.
#[derive(Debug)]
pub(super) struct Trace(pub(super) Vec<Seen>);

impl Trace {
    /// The spans of a service that bear this name.
    pub(super) fn named(&self, service: &str, name: &str) -> Vec<&Seen> {
        self.0.iter().filter(|span| span.service == service && span.name == name).collect()
    }

    /// The only one of them.
    pub(super) fn the(&self, service: &str, name: &str) -> &Seen {
        let found = self.named(service, name);
        let [only] = found.as_slice() else {
            panic!("{} spans {name} of {service}: {self:#?}", found.len());
        };
        only
    }

    /// Whether every span hangs, over others of the trace, on the span `root`, which is not among them.
    pub(super) fn is_tree_under(&self, root: &str) -> bool {
        let mut known: BTreeSet<&str> = self.0.iter().map(|span| span.id.as_str()).collect();
        known.insert(root);
        !known.contains("") && self.0.iter().all(|span| known.contains(span.parent.as_str()))
    }
}
