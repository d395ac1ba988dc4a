//! Faults of single requests, as a client and its upstream see them.

use crate::upstream::{Got, IMPATIENCE, Upstream, answered, client, got, got_within};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;
use std::time::Duration;
use velox_chaos::cluster::wait_until;
use velox_chaos::faulty_network::{Answer, Fault, Link, Rule};

struct Net {
    upstream: Upstream,
    link: Link,
    client: reqwest::Client,
}

impl Net {
    fn new() -> Self {
        let upstream = Upstream::start();
        Net { link: Link::to(upstream.address).expect("a link"), upstream, client: client() }
    }

    fn post(&self, path: &str, body: &str) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", self.link.url())).body(body.to_owned())
    }

    fn deliveries(&self) -> Vec<u32> {
        self.link.log().iter().map(|passage| passage.deliveries).collect()
    }
}

#[tokio::test]
async fn garbage_is_answered_without_asking_the_upstream() {
    let net = Net::new();
    let statuses = [401, 403, 404, 413, 429, 500, 503];
    let answers = statuses.map(|status| Answer::new(status).header("retry-after", "7").body("no"));
    for answer in answers.into_iter().chain([
        Answer::new(200),
        Answer::html(),
        Answer::json("{}"),
        Answer::redirect(302, "http://127.0.0.1:1/elsewhere"),
    ]) {
        let rule = net.link.inject(Rule::new(Fault::Answer(answer.clone())));
        let response = net.post("/", "x").send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), answer.status);
        for (name, value) in &answer.headers {
            assert_eq!(response.headers()[name], value.as_str());
        }
        assert_eq!(response.bytes().await.expect("a body"), answer.body);
        net.link.remove(rule);
    }
    assert_eq!(net.upstream.seen().len(), 0);
    assert_eq!(net.link.traffic().connections, 1, "the connection lives on");
    assert!(net.link.log().iter().all(|passage| passage.fault == Some("answer") && passage.status.is_some()));
}

#[tokio::test]
async fn half_an_answer_breaks_off() {
    let net = Net::new();
    net.link.inject(Rule::new(Fault::Answer(Answer::json(r#"{"accepted":[]}"#).half())).times(1));
    net.link.inject(Rule::new(Fault::Answer(Answer::new(200).half())).times(1));
    net.link.inject(Rule::new(Fault::HalfAnswer).times(1));
    for _ in 0..3 {
        assert_eq!(got(net.post("/", "x")).await, Got::Broken);
    }
    assert_eq!(net.deliveries(), [0, 0, 1]);
    assert!(net.link.log().iter().all(|passage| passage.status.is_none() && passage.bytes_back > 0));
    assert_eq!(got(net.post("/", "x")).await, answered(2));
}

#[tokio::test]
async fn a_rule_meets_what_it_names_and_only_so_often() {
    let net = Net::new();
    let refused = || Fault::Answer(Answer::new(500));
    let rule = Rule::new(refused()).method("POST").path("/sync/").body("SaleVoided").times(2);
    let rule = net.link.inject(rule);
    assert_eq!(got(net.post("/other", "SaleVoided")).await, answered(1));
    assert_eq!(got(net.post("/sync/push", "SaleCreated")).await, answered(2));
    assert_eq!(
        got(net.client.get(format!("{}/sync/x", net.link.url())).body("SaleVoided")).await,
        answered(3)
    );
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(b"a SaleVoided within").expect("a vector");
    let packed = packed.finish().expect("a vector");
    let packed = net
        .client
        .post(format!("{}/sync/push", net.link.url()))
        .header("content-encoding", "gzip")
        .body(packed);
    assert_eq!(got(packed).await, Got::Answer(500, String::new()));
    assert_eq!(got(net.post("/sync/push", "SaleVoided")).await, Got::Answer(500, String::new()));
    assert_eq!(got(net.post("/sync/push", "SaleVoided")).await, answered(4));
    assert_eq!(net.link.hits(rule), 2);
    net.link.inject(Rule::new(refused()));
    assert_eq!(got(net.post("/", "")).await, Got::Answer(500, String::new()));
    net.link.heal();
    assert_eq!(got(net.post("/", "")).await, answered(5));
}

#[tokio::test]
async fn a_lost_request_and_a_lost_answer_look_alike_to_the_client() {
    let net = Net::new();
    net.link.inject(Rule::new(Fault::LoseRequest).times(1));
    net.link.inject(Rule::new(Fault::LoseAnswer).times(1));
    assert_eq!(got(net.post("/one", "")).await, Got::Broken);
    assert_eq!(got(net.post("/two", "")).await, Got::Broken);
    assert_eq!(net.upstream.seen(), ["/two"]);
    assert_eq!(net.deliveries(), [0, 1]);
    assert_eq!(net.link.log()[1].upstream_status, Some(200));
}

#[tokio::test]
async fn silence_is_never_answered_and_others_are() {
    let net = Net::new();
    net.link.inject(Rule::new(Fault::Silence).path("/relay"));
    let (silent, other) =
        tokio::join!(got_within(IMPATIENCE, net.post("/relay", "")), got(net.post("/probe", "")));
    assert_eq!((silent, other), (Got::Nothing, answered(1)));
}

#[tokio::test]
async fn a_slow_request_arrives_after_those_that_came_later() {
    let net = Net::new();
    net.link.inject(Rule::new(Fault::Slow(Duration::from_millis(300))).path("/slow"));
    let (slow, quick) = tokio::join!(got(net.post("/slow", "")), got(net.post("/quick", "")));
    assert_eq!((slow, quick), (answered(2), answered(1)));
}

#[tokio::test]
async fn an_altered_answer_is_the_upstreams_but_for_what_was_changed() {
    let net = Net::new();
    net.link.inject(Rule::new(Fault::alter(|answer| {
        answer.status = 202;
        answer.body.extend_from_slice(b" and more");
    })));
    let response = net.post("/chunked", "").send().await.expect("an answer");
    assert_eq!(response.status().as_u16(), 202);
    assert_eq!(response.text().await.expect("a body"), "answer 1 and more");
    let response = net.post("/", "").send().await.expect("an answer");
    assert_eq!(response.headers()["x-from"], "upstream");
    assert_eq!(net.upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_duplicate_is_delivered_twice_and_answered_once() {
    let net = Net::new();
    net.link.inject(Rule::new(Fault::Duplicate).body("twice"));
    assert_eq!(got(net.post("/a", "twice")).await, answered(1));
    assert_eq!(net.upstream.seen(), ["/a twice", "/a twice"]);
    assert_eq!(got(net.post("/b", "once")).await, answered(3));
    assert_eq!(net.deliveries(), [2, 1]);
    let log = net.link.log();
    assert_eq!(log[0].bytes_there % 2, 0);
    assert_eq!(net.link.traffic().deliveries, 3);
}

#[tokio::test]
async fn a_reordered_request_comes_after_the_next_one_that_fits() {
    let net = Net::new();
    net.link.inject(Rule::new(Fault::Reorder).path("/relay").times(1));
    assert_eq!(got(net.post("/relay", "first")).await, Got::Broken);
    assert_eq!(got(net.post("/probe", "")).await, answered(1));
    assert_eq!(net.upstream.seen(), ["/probe"]);
    assert_eq!(got(net.post("/relay", "second")).await, answered(2));
    assert_eq!(net.upstream.seen(), ["/probe", "/relay second", "/relay first"]);
    assert_eq!(got(net.post("/relay", "third")).await, answered(4));
    assert_eq!(net.deliveries(), [1, 1, 1, 1]);
    let first = &net.link.log()[0];
    assert_eq!((first.fault, first.status, first.upstream_status), (Some("reorder"), None, Some(200)));
}

#[tokio::test]
async fn what_was_kept_can_be_replayed_in_its_order() {
    let net = Net::new();
    net.link.inject(Rule::new(Fault::Keep).path("/relay"));
    for n in 1..=3 {
        assert_eq!(got(net.post("/relay", &n.to_string())).await, answered(n));
    }
    net.link.forget();
    net.link.replay();
    wait_until("three replays", async || {
        let log = net.link.log();
        let done = log.len() == 3 && log.iter().all(|passage| passage.upstream_status == Some(200));
        if done { Ok(()) } else { Err(format!("{log:?}")) }
    })
    .await
    .expect("replays");
    assert_eq!(net.upstream.seen()[3..], ["/relay 1", "/relay 2", "/relay 3"]);
    assert!(net.link.log().iter().all(|passage| passage.fault == Some("replay") && passage.status.is_none()));
}
