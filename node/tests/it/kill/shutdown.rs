//! Ends that are not kills: SIGTERM once, twice, with something that hangs; and a tree that gives up.

use super::{nothing_is_missing, tills};
use crate::load::Load;
use crate::process::{Home, Served, signal};
use crate::support::{Client, Till, sale, wait};
use futures_util::future::{join, join_all, join3};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From the signal to the end of the process.
const LIMIT: Duration = Duration::from_secs(20);

/// Makes the next message to each writer meet a fault.
async fn strike_writers(client: &Client, fault: &str) {
    for shard in 0..2 {
        let actor = format!("sync_ingest.{shard}");
        client.fault(json!({ "actor": actor, "fault": fault, "times": 1, "delay_ms": 3000 })).await;
    }
}

/// Sends SIGTERM, sees the node not ready from some moment on, and tells how long its end took.
async fn tell(served: &mut Served) -> Duration {
    let began = Instant::now();
    signal("TERM", served.pid());
    let client = served.client.clone();
    wait("the node to say that it is on its way out", async || {
        let answer = client.request("GET", "/readyz").send().await.expect("an answer before the door closes");
        let status = answer.status();
        let draining = answer.json::<Value>().await.expect("JSON")["draining"] == true;
        assert_eq!(status == 503, draining);
        draining
    })
    .await;
    while served.runs() {
        assert!(!client.is_ready().await, "ready again on its way out");
        sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

/// A push that is inside a writer when `then` runs.
async fn with_a_push_inside<T>(
    client: &Client,
    till: &Till,
    fault: &str,
    then: impl Future<Output = T>,
) -> (Option<u16>, T) {
    strike_writers(client, fault).await;
    let sales = [sale()];
    let push = async { client.reach(till, &sales).await.map(|answer| answer.status) };
    let inside = async {
        wait("the push to be with a writer", async || client.faults().await.len() == 1).await;
        then.await
    };
    join(push, inside).await
}

#[actix_web::test]
async fn told_to_end_under_load_it_finishes_what_is_in_flight_and_exits_with_zero() {
    let home = Home::new();
    let mut served = home.serve(&[]).await;
    let client = served.client.clone();
    let tills = tills(&client, 5).await;
    let load = Load::default();
    strike_writers(&client, "delay").await;
    let slow = sale();
    let push = async { client.push(&tills[0], std::slice::from_ref(&slow)).await };
    let sell = async {
        wait("the push to be with a writer", async || client.faults().await.len() == 1).await;
        join_all(tills[1..].iter().map(|till| load.sell(&client, till))).await;
    };
    let told = async {
        load.more(20).await;
        let took = tell(&mut served).await;
        let status = served.ended().await;
        assert_eq!(status.code(), Some(0), "{}", served.log());
        assert!(took < LIMIT, "it took {took:?}");
        assert_eq!(home.postmaster(), None);
        let again = home.serve(&[]).await;
        load.more(5).await;
        load.end();
        again
    };
    let (answer, (), again) = join3(push, sell, told).await;
    assert_eq!(answer["accepted"][0]["event_id"], slow["event_id"]);
    let mut acknowledged = load.acknowledged();
    acknowledged.extend(slow["event_id"].as_str().map(str::to_owned));
    nothing_is_missing(&home, &again, &acknowledged).await;
    again.stop().await;
}

#[actix_web::test]
async fn told_twice_it_ends_at_once() {
    let home = Home::new();
    let mut served = home.serve(&[]).await;
    let client = served.client.clone();
    let till = client.till().await;
    let twice = async {
        signal("TERM", served.pid());
        wait("the node to say that it is not ready", async || !client.is_ready().await).await;
        assert!(served.runs(), "nothing held it");
        let began = Instant::now();
        signal("TERM", served.pid());
        let status = served.ended().await;
        assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
        assert_eq!(status.code(), Some(130), "{}", served.log());
    };
    let (answer, ()) = with_a_push_inside(&client, &till, "hang", twice).await;
    assert_eq!(answer, None, "it was cut off");
}

#[actix_web::test]
async fn what_hangs_does_not_keep_it_from_ending_in_time() {
    let home = Home::new();
    let mut served = home.serve(&[]).await;
    let client = served.client.clone();
    let till = client.till().await;
    let told = tell(&mut served);
    let (answer, took) = with_a_push_inside(&client, &till, "hang", told).await;
    assert!(took < LIMIT, "it took {took:?}");
    assert_ne!(answer, Some(200));
    let status = served.ended().await;
    assert_eq!(status.code(), Some(0), "{}", served.log());
    assert_eq!(home.postmaster(), None);
}

#[actix_web::test]
async fn panics_without_end_make_it_give_up_and_say_why() {
    let home = Home::new();
    let mut served = home.serve(&[]).await;
    let client = served.client.clone();
    let tills = tills(&client, 4).await;
    let load = Load::default();
    let gives_up = async {
        load.more(10).await;
        for shard in 0..2 {
            client.fault(json!({ "actor": format!("sync_ingest.{shard}"), "fault": "panic" })).await;
        }
        wait("readiness to name the writers", async || {
            let answer = client.request("GET", "/readyz").send().await;
            let Ok(answer) = answer else { return false };
            answer.status() == 503 && answer.text().await.is_ok_and(|text| text.contains("sync_ingest"))
        })
        .await;
        let status = served.ended().await;
        let log = served.log();
        assert_eq!(status.code(), Some(1), "{log}");
        let last = log.lines().rev().find(|line| line.contains("gave up")).expect("a reason in the log");
        assert!(last.contains("IngestSupervisor") && last.contains("injected panic"), "{last}");
        assert_eq!(home.postmaster(), None);
        let again = home.serve(&[]).await;
        load.more(5).await;
        load.end();
        again
    };
    let sell = join_all(tills.iter().map(|till| load.sell(&client, till)));
    let (_, again) = join(sell, gives_up).await;
    nothing_is_missing(&home, &again, &load.acknowledged()).await;
    again.stop().await;
}
