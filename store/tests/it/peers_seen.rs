//! What pods share about peers: how it went, nonces, breakers.

use crate::shop::Shop;
use futures_util::future::join_all;
use std::time::Duration;
use uuid::Uuid;
use velox_store::{Error, PeerSeen};

/// As far as a peer was heard of, in seconds ago: contact, success, error.
async fn ages(shop: &Shop, peer: &str) -> [Option<i64>; 3] {
    let sql = format!(
        "SELECT ARRAY[last_contact_at, last_success_at, last_error_at] FROM peers_seen WHERE peer = '{peer}'"
    );
    let times: Vec<Option<chrono::DateTime<chrono::Utc>>> = shop.value(&sql).await;
    let now: chrono::DateTime<chrono::Utc> = shop.value("SELECT clock_timestamp()").await;
    let ages: Vec<Option<i64>> =
        times.into_iter().map(|at| Some((now - at?).num_seconds() / 1_000 * 1_000)).collect();
    ages.try_into().expect("three times")
}

/// An hour passes for what was noted so far.
async fn an_hour_passes(shop: &Shop) {
    shop.run(
        "UPDATE peers_seen SET last_contact_at = last_contact_at - interval '1 h',
             last_success_at = last_success_at - interval '1 h', last_error_at = last_error_at - interval '1 h'",
    )
    .await;
}

/// An hour, to the thousand seconds.
const HOUR: Option<i64> = Some(3_000);
const NOW: Option<i64> = Some(0);

#[tokio::test]
async fn the_last_contact_success_and_error_of_a_peer_are_known() {
    let shop = Shop::open().await;
    let store = &shop.store;
    store.note_peer_contact("p").await.expect("a note");
    assert_eq!(ages(&shop, "p").await, [NOW, None, None]);
    an_hour_passes(&shop).await;
    store.note_peer_error("p", "it was not reached", false).await.expect("a note");
    assert_eq!(ages(&shop, "p").await, [HOUR, None, NOW], "silence is no contact");
    store.note_peer_error("p", &"x".repeat(5_000), true).await.expect("a note");
    assert_eq!(ages(&shop, "p").await, [NOW, None, NOW], "a wrong answer is");
    an_hour_passes(&shop).await;
    store.note_peer_success("p").await.expect("a note");
    assert_eq!(ages(&shop, "p").await, [NOW, NOW, HOUR]);
    an_hour_passes(&shop).await;
    store.note_peer_contact("p").await.expect("a note");
    assert_eq!(ages(&shop, "p").await, [NOW, HOUR, Some(7_000)]);
    store.note_peer_success("p").await.expect("a note");
    store.note_peer_error("p", "again", true).await.expect("a note");
    store.note_peer_success("p").await.expect("a note");
    let ends_well = "SELECT last_success_at >= last_error_at FROM peers_seen";
    assert!(shop.value::<bool>(ends_well).await, "however soon it comes after the error");

    store.note_peer_success("o").await.expect("a note");
    let seen = store.peers_seen().await.expect("peers");
    let names: Vec<&str> = seen.iter().map(|peer| peer.peer.as_str()).collect();
    assert_eq!(names, ["o", "p"]);
    let PeerSeen { last_error, node_id, incarnation, .. } = &seen[1];
    assert_eq!((last_error.as_deref(), node_id, incarnation), (Some("again"), &None, &None));
    store.note_peer_error("p", &"é".repeat(5_000), true).await.expect("a note");
    let seen = store.peers_seen().await.expect("peers");
    assert_eq!(seen[1].last_error.as_ref().map(|text| text.chars().count()), Some(1_000));
}

#[tokio::test]
async fn a_busy_peer_costs_a_row_a_second() {
    let shop = Shop::open().await;
    let mut written: Vec<[Option<chrono::DateTime<chrono::Utc>>; 2]> = Vec::new();
    for _ in 0..50 {
        shop.store.note_peer_contact("o").await.expect("a note");
        shop.store.note_peer_success("p").await.expect("a note");
        let seen = shop.store.peers_seen().await.expect("peers");
        written.push([seen[0].last_contact_at, seen[1].last_success_at]);
    }
    for of in [0, 1] {
        let mut times: Vec<_> = written.iter().map(|times| times[of].expect("a time")).collect();
        times.dedup();
        let apart = times.windows(2).map(|pair| (pair[1] - pair[0]).num_milliseconds());
        assert_eq!(apart.filter(|ms| *ms < 1_000).count(), 0, "{times:?}");
    }
}

#[tokio::test]
async fn a_peer_whose_database_became_another_is_noticed_once() {
    let shop = Shop::open().await;
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let note = async |node: &str, incarnation| {
        shop.store.note_peer_identity("p", node, incarnation).await.expect("a note")
    };
    assert_eq!(note("node", one).await, None, "nothing was known");
    shop.store.note_peer_success("p").await.expect("a note");
    assert_eq!(note("node", one).await, None);
    let pods = [shop.store.clone(), shop.pod(), shop.pod()];
    let told = join_all(pods.iter().map(|pod| pod.note_peer_identity("p", "node", other))).await;
    let told: Vec<_> = told.into_iter().filter_map(|told| told.expect("a note")).collect();
    assert_eq!(told, [("node".to_owned(), one)]);
    assert_eq!(note("node 2", other).await, Some(("node".to_owned(), other)));
    let seen = shop.store.peers_seen().await.expect("peers");
    assert_eq!((seen[0].node_id.as_deref(), seen[0].incarnation), (Some("node 2"), Some(other)));
    assert!(seen[0].last_success_at.is_some(), "the rest stays");
}

#[tokio::test]
async fn a_nonce_is_taken_once_whichever_pod_gets_it() {
    let shop = Shop::open().await;
    let take = async |key: &str, nonce: &str| shop.store.take_nonce(key, nonce).await.expect("an answer");
    assert!(take("key", "n").await);
    assert!(!take("key", "n").await);
    assert!(take("key 2", "n").await, "another key's");
    assert!(take("key", "N").await);
    let pods = [shop.store.clone(), shop.pod(), shop.pod()];
    for round in 0..10 {
        let nonce = format!("round {round}");
        let took = join_all((0..12).map(|n| pods[n % 3].take_nonce("key", &nonce))).await;
        let took = took.into_iter().filter(|took| *took.as_ref().expect("an answer")).count();
        assert_eq!(took, 1, "{nonce}");
    }
    shop.run("ALTER TABLE peer_nonces RENAME TO away").await;
    shop.store.take_nonce("key", "n").await.expect_err("nobody knows");
}

#[tokio::test]
async fn nonces_are_forgotten_when_they_are_old() {
    let shop = Shop::open().await;
    for nonce in ["a", "b", "c"] {
        assert!(shop.store.take_nonce("key", nonce).await.expect("an answer"));
    }
    shop.run("UPDATE peer_nonces SET seen_at = now() - interval '700 s' WHERE nonce <> 'c'").await;
    let clean = async |secs| shop.store.clean_nonces(Duration::from_secs(secs)).await.expect("a count");
    assert_eq!(clean(800).await, 0);
    assert_eq!(clean(600).await, 2);
    assert!(shop.store.take_nonce("key", "a").await.expect("an answer"));
    assert!(!shop.store.take_nonce("key", "c").await.expect("an answer"));
}

#[tokio::test]
async fn a_breaker_stands_after_a_restart_where_it_stood() {
    let shop = Shop::open().await;
    assert_eq!(shop.store.breaker_of("p").await.expect("an answer"), None);
    let save = async |state: &str, failures, successes| {
        shop.store.save_breaker("p", state, failures, successes).await.expect("a save");
        // As long ago as it is read to be.
        let kept = shop.pod().breaker_of("p").await.expect("an answer").expect("a breaker");
        assert_eq!((kept.state.as_str(), kept.failures, kept.successes), (state, failures, successes));
        let changed = "UPDATE peer_breakers SET opened_at = opened_at - interval '100 s',
                       changed_at = changed_at - interval '100 s' RETURNING changed_at < now() - interval '150 s'";
        let is_old: bool = shop.value(changed).await;
        (kept.opened_ago.map(|ago| ago.as_secs() / 100), is_old)
    };
    assert_eq!(save("CLOSED", 3, 0).await, (None, false));
    assert_eq!(save("CLOSED", 4, 0).await, (None, true), "its state did not change");
    assert_eq!(save("OPEN", 0, 0).await, (Some(0), false));
    assert_eq!(save("OPEN", 0, 0).await, (Some(1), true), "it opened then");
    assert_eq!(save("HALF_OPEN", 0, 0).await, (Some(2), false));
    assert_eq!(save("HALF_OPEN", 0, 2).await, (Some(3), true));
    assert_eq!(save("OPEN", 0, 0).await, (Some(0), false), "it opened anew");
    assert_eq!(save("CLOSED", 0, u32::MAX / 2).await, (None, false));
    let error = shop.store.save_breaker("p", "AJAR", 0, 0).await.expect_err("no state");
    assert!(matches!(error, Error::Data(_)), "{error:?}");
    shop.run("UPDATE peer_breakers SET opened_at = now() + interval '1 h'").await;
    let kept = shop.store.breaker_of("p").await.expect("an answer").expect("a breaker");
    assert_eq!(kept.opened_ago, Some(Duration::ZERO), "a clock that was put back");
    assert_eq!(shop.store.breaker_of("q").await.expect("an answer"), None);
}
