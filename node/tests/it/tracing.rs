//! One trace from the till through both nodes, told to a real collector; and what a dead one costs: nothing.

mod collector;

use crate::pair::{KEY, free_address, peer};
use crate::process::{Home, Served};
use crate::support::{Answer, Client, Till, body, sale, wait};
use collector::{Collector, Trace};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use velox_store::testing::TestDatabase;

const PUSH: &str = "POST /sync/push";
const RELAY: &str = "POST /sync/federation/relay";
/// What a trace of a sale has of the node that its till speaks to, and of that node's peer.
const HERE: [&str; 5] = [PUSH, "sync_ingest.commit", "sync_ingest.write", "projector.project", "relay.send"];
const THERE: [&str; 2] = ["sync_ingest.commit", "projector.project"];

/// The context of a till's request.
struct Asked {
    trace: String,
    span: String,
}

impl Asked {
    fn new() -> Self {
        let (trace, span) = (rand::random::<u128>() | 1, rand::random::<u64>() | 1);
        Asked { trace: format!("{trace:032x}"), span: format!("{span:016x}") }
    }

    async fn push(&self, client: &Client, till: &Till, sale: &Value) -> Answer {
        let request = client.request("POST", "/sync/push").bearer_auth(&till.token);
        let request = request.header("traceparent", format!("00-{}-{}-01", self.trace, self.span));
        let request = request.header("baggage", "till=a-secret-of-the-till");
        let answer = client.send(request.json(&body(till, std::slice::from_ref(sale)))).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer
    }

    /// Waits until both nodes have told all of the trace.
    async fn whole(&self, collector: &Collector) -> Trace {
        let names = [("node-a", &HERE[..]), ("node-b", &THERE[..])];
        let has_all = |trace: &Trace| {
            names.iter().all(|(node, names)| names.iter().all(|name| !trace.named(node, name).is_empty()))
        };
        wait("spans of both nodes in one tree", async || {
            let trace = collector.of(&self.trace);
            has_all(&trace) && trace.is_tree_under(&self.span)
        })
        .await;
        collector.of(&self.trace)
    }
}

/// A node as a process, over a database of its own.
struct Node {
    home: Home,
    database: TestDatabase,
    variables: Vec<(&'static str, String)>,
}

impl Node {
    async fn new(name: &str, endpoint: Option<&str>) -> Self {
        let database = TestDatabase::create(&velox_store::MIGRATOR).await;
        let mut variables = vec![
            ("VELOX_DATABASE_URL", database.url().to_owned()),
            ("VELOX_DB_MAX_CONNECTIONS", "12".to_owned()),
            ("VELOX_BREAKER_OPEN_MS", "300".to_owned()),
            ("OTEL_SERVICE_NAME", name.to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ];
        if let Some(endpoint) = endpoint {
            variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.to_owned()));
        }
        Node { home: Home::new(), database, variables }
    }

    /// `node-a` and `node-b`, each the other's peer.
    async fn pair(collector: &Collector) -> (Self, Self) {
        let endpoint = collector.endpoint();
        let (mut a, mut b) =
            (Node::new("node-a", Some(&endpoint)).await, Node::new("node-b", Some(&endpoint)).await);
        a.variables.push(("VELOX_PEERS", peer("b", b.home.address(), KEY)));
        b.variables.push(("VELOX_PEERS", peer("a", a.home.address(), KEY)));
        (a, b)
    }

    async fn serve(&self) -> Served {
        let variables: Vec<(&str, &str)> = self.variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
        self.home.serve(&variables).await
    }
}

fn id_of(sale: &Value) -> &str {
    sale["event_id"].as_str().expect("an id")
}

/// The shop's own declaration, which goes to the peer too under a trace of its own, does not.
async fn undeclared(node: &Node) {
    let pool = node.database.pool().await;
    let declared =
        "DELETE FROM outbox_entries WHERE event_type = 'StoreDeclared' AND target = 'federation-relay'";
    sqlx::query(declared).execute(&pool).await.expect("a deletion");
    pool.close().await;
}

#[actix_web::test]
async fn a_sale_is_one_trace_through_both_nodes() {
    let collector = Collector::start();
    let (a, b) = Node::pair(&collector).await;
    let (at_a, at_b) = (a.serve().await, b.serve().await);
    let till = at_a.client.till().await;
    wait("the shop's declaration at the peer", async || {
        at_a.client.admin("/sync/federation/status").await["queue"]["waiting"] == 0
    })
    .await;
    let (asked, sale) = (Asked::new(), sale());
    asked.push(&at_a.client, &till, &sale).await;
    let trace = asked.whole(&collector).await;

    let (pushed, sent) = (trace.the("node-a", PUSH), trace.the("node-a", "relay.send"));
    let (relayed, stored) = (trace.the("node-b", RELAY), trace.the("node-b", "sync_ingest.commit"));
    let edges = [
        (&pushed.parent, &asked.span),
        (&trace.the("node-a", "sync_ingest.commit").parent, &pushed.id),
        (&trace.the("node-a", "projector.project").parent, &pushed.id),
        (&sent.parent, &pushed.id),
        (&relayed.parent, &sent.id),
        (&stored.parent, &relayed.id),
        (&trace.the("node-b", "projector.project").parent, &stored.id),
    ];
    for (child, parent) in edges {
        assert_eq!(child, parent, "{trace:#?}");
    }
    for (service, actor) in
        [("node-a", "projector.sale"), ("node-b", "projector.sale"), ("node-a", "relay.b")]
    {
        let name = if actor == "relay.b" { "relay.send" } else { "projector.project" };
        let told = &trace.the(service, name).attributes;
        assert_eq!(told["actor.name"], actor);
        assert_eq!(told["store_id"], till.store_id.to_string());
        assert_eq!((told["event_ids"].as_str(), told["events"].as_str()), (id_of(&sale), "1"));
    }
    assert_eq!(sent.attributes["peer"], "b");
    // The work of the database, too, stands where it was done.
    let inserts =
        trace.named("node-a", "db.events.ingest").len() + trace.named("node-b", "db.events.ingest").len();
    assert_eq!(inserts, 2, "{trace:#?}");
    let everything = format!("{:?}", collector.all());
    assert!(!everything.contains("a-secret-of-the-till") && !everything.contains(&till.token));
    at_a.stop().await;
    at_b.stop().await;
    a.database.close().await;
    b.database.close().await;
}

#[actix_web::test]
async fn a_trace_goes_on_after_the_peers_outage_and_a_killed_node() {
    let collector = Collector::start();
    let (a, b) = Node::pair(&collector).await;
    let at_a = a.serve().await;
    let till = at_a.client.till().await;
    undeclared(&a).await;
    let asked = Asked::new();
    asked.push(&at_a.client, &till, &sale()).await;
    // A killed node takes with it what it has not told yet.
    wait("the spans of the node that is there", async || {
        let trace = collector.of(&asked.trace);
        !trace.named("node-a", "projector.project").is_empty() && trace.is_tree_under(&asked.span)
    })
    .await;
    at_a.kill().await;
    let at_a = a.serve().await;
    let at_b = b.serve().await;
    let trace = asked.whole(&collector).await;
    let relayed = trace.the("node-b", RELAY);
    let sent = trace.named("node-a", "relay.send").into_iter().find(|span| span.id == relayed.parent);
    let sent = sent.expect("the request of the peer's span");
    assert!(!sent.failed, "{trace:#?}");
    assert_eq!(sent.parent, trace.the("node-a", PUSH).id);
    at_a.stop().await;
    at_b.stop().await;
    a.database.close().await;
    b.database.close().await;
}

#[actix_web::test]
async fn sales_that_travel_together_keep_their_own_traces() {
    let collector = Collector::start();
    let (a, b) = Node::pair(&collector).await;
    let at_a = a.serve().await;
    let till = at_a.client.till().await;
    let asked: Vec<(Asked, Value)> = (0..3).map(|_| (Asked::new(), sale())).collect();
    for (asked, sale) in &asked {
        asked.push(&at_a.client, &till, sale).await;
        wait("the push's spans", async || {
            let trace = collector.of(&asked.trace);
            HERE[..4].iter().all(|name| !trace.named("node-a", name).is_empty())
        })
        .await;
    }
    // A node that begins anew sends all at once to a peer that is there.
    at_a.kill().await;
    let at_b = b.serve().await;
    let at_a = a.serve().await;
    let mut exchanges = BTreeSet::new();
    for (asked, sale) in &asked {
        let trace = asked.whole(&collector).await;
        let stored = trace.the("node-b", "sync_ingest.commit");
        let sent = trace.0.iter().find(|span| span.id == stored.parent).expect("a parent");
        assert_eq!((sent.service.as_str(), sent.name.as_str()), ("node-a", "relay.send"));
        assert_eq!(sent.attributes["event_ids"], id_of(sale));
        assert_eq!(trace.the("node-b", "projector.project").parent, stored.id);
        exchanges.extend(sent.links.clone());
    }
    let [exchange] = Vec::from_iter(exchanges).try_into().expect("one request took all three");
    wait("the request's own trace", async || !collector.of(&exchange).named("node-b", RELAY).is_empty())
        .await;
    let exchange = collector.of(&exchange);
    assert_eq!(exchange.the("node-b", RELAY).parent, exchange.the("node-a", "relay.exchange").id);
    at_a.stop().await;
    at_b.stop().await;
    a.database.close().await;
    b.database.close().await;
}

#[actix_web::test]
async fn what_a_till_adds_to_its_trace_is_not_sent_to_a_peer() {
    let listener = tokio::net::TcpListener::bind(free_address()).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let collector = Collector::start();
    let mut node = Node::new("node-a", Some(&collector.endpoint())).await;
    node.variables.push(("VELOX_PEERS", peer("b", address, KEY)));
    let served = node.serve().await;
    let till = served.client.till().await;
    undeclared(&node).await;
    let asked = Asked::new();
    asked.push(&served.client, &till, &sale()).await;
    let heard = async {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut heard = Vec::new();
            while stream.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&heard).to_lowercase();
                if text.contains("\r\n\r\n") && text.contains(&asked.trace) {
                    return text;
                }
                if text.contains("\r\n\r\n") {
                    let all_is_well =
                        "HTTP/1.1 200 OK\r\ncontent-length: 29\r\n\r\n{\"accepted\":[],\"rejected\":[]}";
                    let _ = stream.write_all(all_is_well.as_bytes()).await;
                    heard.clear();
                }
            }
        }
    };
    let heard = tokio::time::timeout(crate::support::PATIENCE, heard).await.expect("a relay");
    assert!(heard.contains("traceparent: 00-"), "{heard}");
    assert!(!heard.contains("baggage") && !heard.contains("a-secret-of-the-till"), "{heard}");
    served.kill().await;
    node.database.close().await;
}

/// A node that is measured.
struct Measured {
    node: Node,
    served: Served,
    till: Till,
    times: Vec<Duration>,
}

impl Measured {
    async fn start(endpoint: Option<&str>) -> Self {
        let mut node = Node::new("node-a", endpoint).await;
        node.variables.push(("OTEL_BSP_MAX_QUEUE_SIZE", "256".to_owned()));
        node.variables.push(("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64".to_owned()));
        let served = node.serve().await;
        let till = served.client.till().await;
        Measured { node, served, till, times: Vec::new() }
    }

    async fn push(&mut self) {
        let (asked, sale, began) = (Asked::new(), sale(), Instant::now());
        asked.push(&self.served.client, &self.till, &sale).await;
        self.times.push(began.elapsed());
    }

    /// The median time of a push, how long the node took to end, and what it wrote.
    async fn end(mut self) -> (Duration, Duration, String) {
        self.served.client.projected().await;
        self.times.sort();
        let began = Instant::now();
        self.served.stop().await;
        let end = began.elapsed();
        self.node.database.close().await;
        let log = std::fs::read_to_string(self.node.home.path("node.log")).expect("a log");
        (self.times[self.times.len() / 2], end, log)
    }
}

#[actix_web::test]
async fn a_dead_or_silent_collector_costs_spans_and_nothing_else() {
    let nobody = format!("http://{}", free_address());
    // Takes connections, by its backlog, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silence = format!("http://{}", silent.local_addr().expect("an address"));
    let mut nodes = Vec::new();
    for endpoint in [None, Some(nobody.as_str()), Some(silence.as_str())] {
        nodes.push(Measured::start(endpoint).await);
    }
    // In turn, so that whatever else the machine does slows down all of them.
    for _ in 0..150 {
        for node in &mut nodes {
            node.push().await;
        }
    }
    let (mut ended, mut logs) = (Vec::new(), Vec::new());
    for node in nodes {
        let (median, end, log) = node.end().await;
        ended.push((median, end));
        logs.push(log);
    }
    let [alone, dead, silent] = ended.try_into().expect("three");
    for (median, end) in [dead, silent] {
        // A push that waited for a collector would wait for seconds, and an end without a limit for 10 of them.
        assert!(median < alone.0 * 2 + Duration::from_millis(20), "{median:?}, alone {:?}", alone.0);
        assert!(end < alone.1 + Duration::from_secs(5), "{end:?}, alone {:?}", alone.1);
    }
    // What does not fit into the queue is dropped, not kept.
    let dropped =
        logs[2].lines().any(|line| line.contains("SpansDropped") && line.contains("max_queue_size=256"));
    assert!(dropped, "{}", logs[2]);
}
