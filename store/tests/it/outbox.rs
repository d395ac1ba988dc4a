//! The outbox beside its claims: failures, retention, figures, notifications.

use crate::shop::Shop;
use std::time::Duration;
use velox_store::OutboxDone;
use velox_store::{OutboxCounts, RetryPolicy};

const POLICY: RetryPolicy = RetryPolicy { max_retries: 10, base: Duration::from_secs(1) };

#[test]
fn the_wait_doubles_and_is_bounded() {
    let waits: Vec<u64> = [1, 2, 3, 9, 10, 100].iter().map(|n| POLICY.wait(*n).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 256, 300, 300]);
    assert_eq!(RetryPolicy { base: Duration::ZERO, ..POLICY }.wait(5), Duration::ZERO);
}

#[tokio::test]
async fn an_entry_dies_of_its_tenth_failure() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1").await;
    for failures in 1..=10 {
        let error = format!("failure {failures}");
        let dead =
            shop.store.fail_projection(shop.id, "a", failures, &error, POLICY).await.expect("a failure");
        assert_eq!(dead, Some(failures == 10));
        let entry: (i32, String, String, i64) = sqlx::query_as(
            "SELECT retry_count, error, status, extract(epoch FROM next_attempt_at - now())::int8 FROM outbox_entries",
        )
        .fetch_one(&shop.pool)
        .await
        .expect("the entry");
        let status = if failures == 10 { "dead" } else { "pending" };
        assert_eq!((entry.0, entry.1, entry.2.as_str()), (failures, error, status));
        let wait = POLICY.wait(failures).as_secs() as i64;
        assert!((wait - 5..=wait).contains(&entry.3), "{} instead of {wait} s", entry.3);
        let exceptions: i64 = shop.value("SELECT count(*) FROM event_exceptions").await;
        assert_eq!(exceptions, i64::from(failures == 10));
    }
    let noted: (String, String, i32) =
        sqlx::query_as("SELECT status, reason, attempts FROM event_exceptions")
            .fetch_one(&shop.pool)
            .await
            .expect("it");
    assert_eq!(noted, ("failed".to_owned(), "failure 10".to_owned(), 10));
    let dead = OutboxCounts { target: "projection".to_owned(), status: "dead".to_owned(), count: 1 };
    assert_eq!(shop.store.outbox_counts().await.expect("counts"), [dead]);
    let again = shop.store.fail_projection(shop.id, "a", 11, "x", POLICY).await.expect("a failure");
    assert_eq!(again, None, "what is dead or gone fails no more");
}

#[tokio::test]
async fn a_failure_of_one_store_is_not_that_of_another_with_the_same_event_id() {
    let shop = Shop::open().await;
    let other = uuid::Uuid::from_u128(77);
    shop.tell("a@1 sale S1 usd=1").await;
    shop.bring(crate::story::events(other, "a@1 sale S1 usd=1")).await;
    shop.store.fail_projection(other, "a", 10, "it broke", POLICY).await.expect("a failure");
    assert_eq!(shop.project().await.done, 1);
    shop.check("sale S1 by a").await;
}

#[tokio::test]
async fn kept_entries_are_processed_and_cleaned_up_by_age() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1\nb@2 sale S2 usd=1").await;
    let claim = shop.store.claim_projection("sale", 1, true).await.expect("a claim").expect("an entry");
    claim.project().await.expect("a projection");
    let claim = shop.store.claim_one(shop.id, "b", true).await.expect("a claim").expect("an entry");
    claim.project().await.expect("a projection");
    let kept = "SELECT count(*) FROM outbox_entries WHERE status = 'processed' AND processed_at <= now()";
    assert_eq!(shop.value::<i64>(kept).await, 2);
    assert_eq!(shop.store.outbox_counts().await.expect("counts"), [], "they are no backlog");
    assert!(shop.store.claim_projection("sale", 9, true).await.expect("a claim").is_none());
    assert_eq!(shop.status("a").await, "processed");

    shop.run("UPDATE outbox_entries SET processed_at = now() - interval '2 h' WHERE event_id = 'a'").await;
    assert_eq!(shop.store.clean_outbox(Duration::from_secs(3600)).await.expect("a clean-up"), 1);
    assert_eq!(shop.store.clean_outbox(Duration::ZERO).await.expect("a clean-up"), 1);
    shop.tell("c@3 sale S3 usd=1").await;
    assert_eq!(shop.store.clean_outbox(Duration::ZERO).await.expect("a clean-up"), 0, "pending ones stay");

    // A kept entry is no obstacle to a replay.
    let claim = shop.store.claim_one(shop.id, "c", true).await.expect("a claim").expect("an entry");
    claim.project().await.expect("a projection");
    assert_eq!(shop.store.requeue_projection(shop.id, &["c".to_owned()]).await.expect("a requeue"), 1);
    assert_eq!(shop.project().await.done, 1);
    shop.check("sale S1 by a\nsale S2 by b\nsale S3 by c").await;
}

#[tokio::test]
async fn what_was_done_is_added_up_by_the_minute_and_forgotten_after_a_week() {
    let shop = Shop::open().await;
    shop.run(
        "INSERT INTO outbox_stats (minute, target, done) VALUES (now() - interval '8 days', 'projection', 9)",
    )
    .await;
    for (done, failed, total_ms) in [(3, 1, 70), (2, 0, 30)] {
        shop.store
            .add_outbox_stats("projection", "", OutboxDone { done, failed, total_ms })
            .await
            .expect("statistics");
    }
    let sums = "SELECT concat_ws(' ', sum(done), sum(failed), sum(total_ms)) FROM outbox_stats";
    assert_eq!(shop.value::<String>(sums).await, "14 1 100");
    let whole = "SELECT bool_and(minute = date_trunc('minute', minute)) FROM outbox_stats WHERE done < 9";
    assert!(shop.value::<bool>(whole).await);
    shop.store.clean_outbox(Duration::ZERO).await.expect("a clean-up");
    assert_eq!(shop.value::<String>(sums).await, "5 1 100");
}

#[tokio::test]
async fn the_entities_that_have_work_are_named() {
    let shop = Shop::open().await;
    assert_eq!(shop.store.entities_with_work().await.expect("names"), Vec::<String>::new());
    shop.tell("a@1 open X1\nb@1 pay M1 D1 usd=1\nc@1 Unheard P1").await;
    assert_eq!(shop.store.entities_with_work().await.expect("names"), ["debt", "cash", "store"]);
    shop.store.fail_projection(shop.id, "b", 10, "it broke", POLICY).await.expect("a failure");
    assert_eq!(
        shop.store.entities_with_work().await.expect("names"),
        ["cash", "store"],
        "the dead have none"
    );
    shop.project().await;
    assert_eq!(shop.store.entities_with_work().await.expect("names"), Vec::<String>::new());
}

#[tokio::test]
async fn the_backlog_is_counted_whole_and_by_device() {
    let shop = Shop::open().await;
    shop.tell("a@1/x sale S1 usd=1\nb@1/x open X1\nc@1/y sale S2 usd=1").await;
    let of = async |device: &str| shop.store.pending_of_device(shop.id, device).await.expect("a count");
    assert_eq!((of("x").await, of("y").await, of("z").await), (2, 1, 0));
    let counts = shop.store.outbox_counts().await.expect("counts");
    let pending = OutboxCounts { target: "projection".to_owned(), status: "pending".to_owned(), count: 3 };
    assert_eq!(counts, [pending]);
    shop.project().await;
    assert_eq!((of("x").await, of("y").await), (0, 0));
}

#[tokio::test]
async fn a_notification_reaches_the_other_pods() {
    let shop = Shop::open().await;
    let other = shop.pod();
    let mut listener = other.listen_outbox().await.expect("a listener");
    shop.store.notify_outbox("pod:sale,debt").await.expect("a notification");
    let heard = tokio::time::timeout(Duration::from_secs(10), listener.next()).await;
    let heard = heard.expect("nothing was heard for 10 s").expect("a connection");
    assert_eq!(heard.as_deref(), Some("pod:sale,debt"));
}
