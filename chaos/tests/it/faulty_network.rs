//! Faults of whole connections, and what a link says of what it carried.

use crate::upstream::{Got, IMPATIENCE, Upstream, answered, client, got, got_within};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use velox_chaos::cluster::wait_until;
use velox_chaos::faulty_network::{Direction, Link, Pace, Traffic, Wire};

fn link(upstream: &Upstream) -> Link {
    Link::to(upstream.address).expect("a link")
}

/// How long something took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    #[expect(clippy::disallowed_methods, reason = "a delay is measured")]
    let begun = Instant::now();
    (work.await, begun.elapsed())
}

#[tokio::test]
async fn a_whole_link_carries_everything_and_says_what() {
    let upstream = Upstream::start();
    let (link, client) = (link(&upstream), client());
    assert_eq!(got(client.post(format!("{}/a?b=1", link.url())).body("hello")).await, answered(1));
    assert_eq!(got(client.get(format!("{}/chunked", link.url()))).await, answered(2));
    let big = "x".repeat(3 << 20);
    assert_eq!(got(client.post(link.url()).body(big.clone())).await, answered(3));
    let log = link.log();
    let lines: Vec<_> = log.iter().map(|passage| (passage.method.as_str(), passage.path.as_str())).collect();
    assert_eq!(lines, [("POST", "/a?b=1"), ("GET", "/chunked"), ("POST", "/")]);
    for passage in &log {
        assert_eq!((passage.fault, passage.deliveries, passage.status), (None, 1, passage.upstream_status));
    }
    assert!((60..400).contains(&log[0].bytes_there) && (60..400).contains(&log[0].bytes_back), "{log:?}");
    let traffic = link.traffic();
    assert_eq!((traffic.connections, traffic.requests, traffic.deliveries), (1, 3, 3), "kept alive");
    assert_eq!(traffic.bytes_there, log.iter().map(|passage| passage.bytes_there).sum::<u64>());
    assert_eq!(traffic.bytes_back, log.iter().map(|passage| passage.bytes_back).sum::<u64>());
    assert!(traffic.bytes_there > big.len() as u64);
    link.forget();
    assert_eq!((link.traffic(), link.log()), (Traffic::default(), Vec::new()));
}

#[tokio::test]
async fn a_cut_breaks_what_is_there_and_what_comes_until_the_heal() {
    let upstream = Upstream::start();
    let (link, client) = (link(&upstream), client());
    let mut idle = TcpStream::connect(link.address()).await.expect("a connection");
    assert_eq!(got(client.get(link.url())).await, answered(1));
    link.cut();
    let read = idle.read(&mut [0]).await;
    assert!(read.is_err(), "an idle connection is reset: {read:?}");
    for _ in 0..3 {
        assert_eq!(got(client.get(link.url())).await, Got::Broken);
    }
    assert_eq!(upstream.seen().len(), 1);
    link.heal();
    assert_eq!(got(client.get(link.url())).await, answered(2));
}

#[tokio::test]
async fn a_cut_breaks_a_request_that_waits_for_its_answer() {
    let upstream = Upstream::start();
    let (link, client) = (link(&upstream), client());
    link.set(Wire::NoAnswers);
    let asked = got(client.get(link.url()));
    let cut = async {
        wait_until("the request's arrival", async || match upstream.seen().len() {
            0 => Err("not there".to_owned()),
            _ => Ok(()),
        })
        .await
        .expect("a request");
        link.cut();
    };
    assert_eq!(tokio::join!(asked, cut).0, Got::Broken);
}

#[tokio::test]
async fn without_answers_requests_arrive_and_nobody_hears_of_it() {
    let upstream = Upstream::start();
    let (link, client) = (link(&upstream), client());
    link.set(Wire::NoAnswers);
    assert_eq!(got_within(IMPATIENCE, client.get(link.url())).await, Got::Nothing);
    assert_eq!(upstream.seen(), ["/"]);
    let passage = &link.log()[0];
    assert_eq!((passage.deliveries, passage.upstream_status, passage.status), (1, Some(200), None));
}

#[tokio::test]
async fn without_requests_connections_are_taken_and_nothing_arrives() {
    let upstream = Upstream::start();
    let (link, client) = (link(&upstream), client());
    for wire in [Wire::NoRequests, Wire::Stalled] {
        link.set(wire);
        assert_eq!(got_within(IMPATIENCE, client.get(link.url())).await, Got::Nothing, "{wire:?}");
    }
    wait_until("an impatient client to hang up", async || match link.open_connections() {
        0 => Ok(()),
        open => Err(format!("{open} open")),
    })
    .await
    .expect("no connections");
    link.heal();
    assert_eq!(got(client.get(format!("{}/later", link.url()))).await, answered(1));
    assert_eq!(upstream.seen(), ["/later"], "those who gave up are not heard of after the heal");
    assert_eq!(link.log().iter().map(|passage| passage.deliveries).collect::<Vec<_>>(), [0, 0, 1]);
}

#[tokio::test]
async fn what_was_held_goes_on_after_the_heal_for_who_waited() {
    let upstream = Upstream::start();
    let (link, client) = (link(&upstream), client());
    for wire in [Wire::Stalled, Wire::NoRequests, Wire::NoAnswers] {
        link.forget();
        link.set(wire);
        let asked = got(client.get(link.url()));
        let heal = async {
            wait_until("a held request", async || match link.traffic().requests {
                0 => Err("none".to_owned()),
                _ => Ok(()),
            })
            .await
            .expect("a request");
            link.heal();
        };
        assert!(matches!(tokio::join!(asked, heal).0, Got::Answer(200, _)), "{wire:?}");
    }
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test]
async fn a_slow_link_delays_each_way_by_itself() {
    let upstream = Upstream::start();
    let (link, client) = (link(&upstream), client());
    let pause = Duration::from_millis(150);
    link.delay(Direction::There, pause);
    let (answer, took) = timed(got(client.get(link.url()))).await;
    assert!(answer == answered(1) && took >= pause, "{took:?}");
    link.delay(Direction::Back, pause);
    let (answer, took) = timed(got(client.get(link.url()))).await;
    assert!(answer == answered(2) && took >= 2 * pause, "{took:?}");
    link.heal();
    link.pace(Direction::There, Pace { bytes_per_second: Some(100_000), ..Pace::default() });
    let (answer, took) = timed(got(client.post(link.url()).body("x".repeat(30_000)))).await;
    assert!(answer == answered(3) && took >= 2 * pause, "{took:?}");
}

#[tokio::test]
async fn an_upstream_that_is_away_breaks_connections_and_another_pod_takes_them() {
    let upstream = Upstream::start();
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let (link, client) = (Link::to(nobody).expect("a link"), client());
    assert_eq!(got(client.get(link.url())).await, Got::Broken);
    link.lead_to(vec![nobody, upstream.address]);
    assert_eq!(got(client.get(link.url())).await, answered(1));
}

#[tokio::test]
async fn what_is_no_http_passes_byte_for_byte_and_is_cut_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let link = Link::to(listener.local_addr().expect("an address")).expect("a link");
    let mut client = TcpStream::connect(link.address()).await.expect("a connection");
    client.write_all(b"*1\r\n$4\r\nPING\r\n").await.expect("a link");
    let (mut server, _) = listener.accept().await.expect("a connection");
    let mut read = [0; 14];
    server.read_exact(&mut read).await.expect("a request");
    assert_eq!(&read, b"*1\r\n$4\r\nPING\r\n");
    server.write_all(b"+PONG\r\n").await.expect("a link");
    let mut read = [0; 7];
    client.read_exact(&mut read).await.expect("an answer");
    assert_eq!(&read, b"+PONG\r\n");
    assert_eq!((link.traffic().bytes_there, link.traffic().bytes_back), (14, 7));
    link.cut();
    assert!(client.read(&mut read).await.is_err());
    assert!(server.read(&mut read).await.is_err());
}

#[tokio::test]
async fn a_dropped_link_breaks_what_it_carried() {
    let upstream = Upstream::start();
    let (link, client) = (link(&upstream), client());
    assert_eq!(got(client.get(link.url())).await, answered(1));
    let url = link.url();
    drop(link);
    assert_eq!(got(client.get(url)).await, Got::Broken);
}

#[actix_web::test]
async fn a_link_serves_an_actix_runtime_too() {
    let upstream = Upstream::start();
    let (link, client) = (link(&upstream), client());
    assert_eq!(got(client.get(link.url())).await, answered(1));
}
