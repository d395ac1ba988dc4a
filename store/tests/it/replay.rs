//! Events that are projected again or not at all: INV-2, and what an unprojected event can be.

use crate::shop::Shop;
use std::time::Duration;
use velox_store::RetryPolicy;

const MORTAL: RetryPolicy = RetryPolicy { max_retries: 1, base: Duration::ZERO };

/// A day on which every kind of row and every kind of exception stands.
const DAY: &str = "x@0 open X1 opening_amount=5
                   p1@0 ProductCreated P1 name=Tea price_usd=1 colour=red
                   p2@1 ProductUpdated P1 name=Mate
                   c1@0 CustomerCreated C1 name=Ana
                   r@0 receive K1 P1x10
                   n@0 receive - P1x5 P2x2
                   k@1 receive K1 P1x7
                   a@1 sale S1 fiao=C1 usd=10 req=r P1x2
                   b@2 sale S2 usd=10 req=r P1x9
                   e@2 sale S3 usd=3 P2x1
                   v@3 void S3
                   w@4 void S9
                   d@3 debt D1 usd=7 left=6
                   g@4 debt D1 usd=8
                   m@5 pay M1 debt(S1) usd=4
                   o@5 pay M2 D7 usd=1
                   q@6 pay M3 D1 usd=1
                   l@7 entry L1 sale sale=S2
                   i@8 entry L2 income
                   y@9 close X1
                   u@9 Unheard P1
                   f@9 sale !none";

const ROWS: &str = "session X1 opened_at=0 opening_amount=5 closed_at=9 opened_event_id=x closed_event_id=y
                    product P1 0..1 name=Mate price_usd=1 attributes.colour=\"red\"
                    customer C1 0..0 name=Ana
                    move P1 10 received by r
                    k absorbed by r
                    move P1 5 received by n
                    move P2 2 received by n
                    sale S1 by a
                    item S1.1 P1 2
                    move P1 -2 sale by a
                    stock P1 13
                    debt debt(S1) USD 10 left 6 partial of S1 derived
                    pay M1 of debt(S1) 4 by m
                    b absorbed by a
                    sale S3 by e void v
                    item S3.1 P2 1
                    move P2 -1 sale by e
                    move P2 1 void by v
                    stock P2 2
                    w waits for S9
                    debt D1 USD 7 left 5 partial by d
                    g absorbed by d
                    pay M3 of D1 1 by q
                    pay M2 of D7 1 by o
                    o waits for D7
                    l absorbed by a
                    entry L2 by i
                    u skipped
                    f failed: sale_id is no UUID";

async fn event_ids(shop: &Shop) -> Vec<String> {
    shop.value("SELECT array_agg(event_id::text ORDER BY event_id) FROM events").await
}

#[tokio::test]
async fn projecting_everything_again_changes_nothing() {
    let shop = Shop::open().await;
    shop.day(DAY, ROWS).await;
    let before = shop.tables().await;
    let since =
        "SELECT string_agg(event_id || since || attempts, ',' ORDER BY event_id) FROM event_exceptions
                 WHERE status IN ('waiting', 'absorbed')";
    let noted_before: String = shop.value(since).await;
    let ids = event_ids(&shop).await;
    for round in ["at once", "one by one"] {
        match round {
            "at once" => {
                let queued = shop.store.requeue_projection(shop.id, &ids).await.expect("a requeue");
                assert_eq!(queued, ids.len() as u64);
                assert_eq!(shop.project().await.done, ids.len());
            }
            _ => {
                for id in ids.iter().rev() {
                    let one = std::slice::from_ref(id);
                    assert_eq!(
                        shop.store.requeue_projection(shop.id, one).await.expect("a requeue"),
                        1,
                        "{id}"
                    );
                    assert_eq!(shop.project().await.done, 1, "{id}");
                }
            }
        }
        shop.check(ROWS).await;
        assert_eq!(shop.tables().await.differences(&before), [""; 0], "{round}");
        assert_eq!(
            shop.value::<String>(since).await,
            noted_before,
            "{round}: the exceptions are the same ones"
        );
    }
}

#[tokio::test]
async fn an_event_is_requeued_once_and_only_if_it_is_there() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1").await;
    let ids = ["a".to_owned(), "nowhere".to_owned()];
    assert_eq!(
        shop.store.requeue_projection(shop.id, &ids).await.expect("a requeue"),
        0,
        "it is queued already"
    );
    assert_eq!(shop.project().await.done, 1);
    assert_eq!(shop.store.requeue_projection(shop.id, &ids).await.expect("a requeue"), 1);
    let elsewhere = uuid::Uuid::from_u128(7);
    assert_eq!(shop.store.requeue_projection(elsewhere, &ids).await.expect("a requeue"), 0);
}

#[tokio::test]
async fn what_cannot_be_read_is_failed_at_once_and_holds_back_nobody() {
    let shop = Shop::open().await;
    shop.tell("f@1 sale S1 P1xmany\ng@1 debt D1\nu@1 Unheard P1\nn@1 ProductUpdated P1 version=2\na@2 sale S1 usd=1").await;
    let report = shop.project().await;
    assert_eq!(report.done, 5);
    let mut failed: Vec<_> = report.failed.iter().map(|f| (f.event_id.as_str(), f.reason.as_str())).collect();
    failed.sort_unstable();
    assert_eq!(failed, [("f", "items[0].qty is no decimal number"), ("g", "total_amount is missing")]);
    shop.check(
        "sale S1 by a
         f failed: items[0].qty is no decimal number
         g failed: total_amount is missing
         n skipped
         u skipped",
    )
    .await;
    let reasons =
        "SELECT string_agg(reason, '; ' ORDER BY event_id) FROM event_exceptions WHERE status = 'skipped'";
    assert_eq!(
        shop.value::<String>(reasons).await,
        "ProductUpdated version 2 is not projected by this version; Unheard version 1 is not projected by this version"
    );
    for (event, status) in [("f", "failed"), ("u", "skipped"), ("n", "skipped"), ("a", "processed")] {
        assert_eq!(shop.status(event).await, status, "{event}");
    }
    let error: String = shop.value("SELECT projection_error FROM event_status WHERE event_id = 'f'").await;
    assert_eq!(error, "items[0].qty is no decimal number");
    assert_eq!(shop.value::<i32>("SELECT attempts FROM event_exceptions WHERE event_id = 'f'").await, 1);
}

#[tokio::test]
async fn an_event_that_died_is_failed_until_it_is_projected() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1\np@1 ProductCreated P1 name=a").await;
    let ids = event_ids(&shop).await;
    for id in &ids {
        let died = shop.store.fail_projection(shop.id, id, 1, "it broke", MORTAL).await.expect("a failure");
        assert_eq!(died, Some(true));
        assert_eq!(shop.status(id).await, "failed");
    }
    assert_eq!(shop.project().await.done, 0, "dead entries are not claimed");
    assert_eq!(shop.store.requeue_projection(shop.id, &ids).await.expect("a requeue"), 2);
    assert_eq!(shop.project().await.done, 2);
    shop.check("sale S1 by a\nproduct P1 1..1 name=a").await;
    for id in &ids {
        assert_eq!(shop.status(id).await, "processed");
    }
}

#[tokio::test]
async fn an_exception_that_stood_before_an_event_died_is_there_again_once_it_is_projected() {
    let shop = Shop::open().await;
    let rows = "sale S1 by a\nb absorbed by a\nw waits for S9\nf failed: sale_id is no UUID";
    shop.day("a@1 sale S1 usd=1\nb@2 sale S1 usd=2\nw@3 void S9\nf@1 sale !none", rows).await;
    let ids: Vec<String> = ["b", "w", "f"].map(str::to_owned).into();
    assert_eq!(shop.store.requeue_projection(shop.id, &ids).await.expect("a requeue"), 3);
    for id in &ids {
        shop.store.fail_projection(shop.id, id, 1, "it broke", MORTAL).await.expect("a failure");
    }
    assert_eq!(shop.store.requeue_projection(shop.id, &ids).await.expect("a requeue"), 3);
    shop.project().await;
    shop.check(rows).await;
}

#[tokio::test]
async fn an_event_that_is_projected_again_together_with_what_it_waited_for_waits_no_longer() {
    let shop = Shop::open().await;
    shop.day("w@3 void S1\nb@2 sale S2 req=r", "w waits for S1\nsale S2 by b").await;
    let ids = ["w".to_owned(), "b".to_owned()];
    assert_eq!(shop.store.requeue_projection(shop.id, &ids).await.expect("a requeue"), 2);
    shop.day("a@1 sale S1 req=r", "sale S1 by a void w\nb absorbed by a").await;
}

#[tokio::test]
async fn an_exception_keeps_its_since_while_its_status_stays() {
    let shop = Shop::open().await;
    shop.day(
        "w@3 void S9\nb@5 sale S1 usd=1\nc@6 sale S1 usd=1",
        "w waits for S9\nsale S1 by b\nc absorbed by b",
    )
    .await;
    shop.run("UPDATE event_exceptions SET since = '2020-01-01'").await;
    shop.day("a@1 sale S1 usd=1", "w waits for S9\nsale S1 by a\nb absorbed by a\nc absorbed by a").await;
    let old =
        "SELECT string_agg(event_id, ' ' ORDER BY event_id) FROM event_exceptions WHERE since < '2021-01-01'";
    assert_eq!(
        shop.value::<String>(old).await,
        "c w",
        "c points to another event now, and is absorbed as long"
    );
}

#[tokio::test]
async fn skipped_events_are_queued_by_a_version_that_knows_them() {
    for keep in [false, true] {
        let shop = Shop::open().await;
        shop.tell("u@1 Unheard P1\nn@2 ProductUpdated P1 version=2\np@3 ProductCreated P1 name=a\ns@4 sale S1 usd=1").await;
        // As an older version leaves them: skipped, and with retention their entries stay.
        while let Some(claim) = shop.store.claim_projection("store", 9, keep).await.expect("a claim") {
            claim.project().await.expect("a projection");
        }
        let old = "INSERT INTO event_exceptions (store_id, event_id, status, reason)
                   SELECT store_id, event_id, 'skipped', 'unknown' FROM events WHERE event_id <> 'u'";
        shop.run(old).await;
        let leave = if keep {
            "UPDATE outbox_entries SET status = 'processed'"
        } else {
            "DELETE FROM outbox_entries"
        };
        shop.run(leave).await;
        assert_eq!(shop.store.requeue_skipped().await.expect("a requeue"), 2, "keep {keep}");
        assert_eq!(shop.store.requeue_skipped().await.expect("a requeue"), 0);
        assert_eq!(shop.status("p").await, "pending");
        assert_eq!(shop.project().await.done, 2);
        shop.check(
            "sale S1 by s
             product P1 3..3 name=a
             n skipped
             u skipped",
        )
        .await;
        // What this version does not know either stays as it was found.
        let reason: String = shop.value("SELECT reason FROM event_exceptions WHERE event_id = 'n'").await;
        assert_eq!(reason, "unknown");
    }
}
