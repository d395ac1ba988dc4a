//! What is written under a lease: nothing, once it was given to somebody else.

use crate::redis_server::RedisServer;
use crate::shop::{Shop, push, until};
use crate::story;
use futures_util::future::join;
use sqlx::Executor as _;
use std::time::Duration;
use velox_store::{Error, Fence, Held, IngestOutcome, Ingested, Leases, NewPush};

const NAME: &str = "federation:reconcile";
const LONG: Duration = Duration::from_secs(300);

async fn acquire(leases: &Leases, holder: &str) -> Held {
    leases.acquire(NAME, holder, LONG).await.expect("an answer").expect("a lease")
}

fn fenced(shop: &Shop, fence: &Fence, history: &str) -> NewPush {
    NewPush { fence: Some(fence.clone()), ..push(&story::events(shop.id, history)) }
}

async fn ingest(shop: &Shop, fence: &Fence, history: &str) -> Result<Ingested, Error> {
    shop.store.ingest(&[fenced(shop, fence, history)]).await
}

fn is_fenced<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.expect_err("a refusal");
    assert!(matches!(error, Error::Fenced), "{error:?}");
    assert!(!error.is_transient(), "the same call never works later");
}

/// All that a fenced write could write.
async fn written(shop: &Shop) -> String {
    shop.value(
        "SELECT concat_ws(' ', (SELECT count(*) FROM events), (SELECT count(*) FROM event_variants),
             (SELECT count(*) FROM outbox_entries))",
    )
    .await
}

#[tokio::test]
async fn after_a_flush_of_redis_the_older_holder_writes_nothing() {
    let (shop, redis) = (Shop::open().await, RedisServer::start().await);
    let leases = Leases::new(shop.store.clone(), Some(&redis.url())).expect("leases");
    let first = acquire(&leases, "a").await.fence;
    ingest(&shop, &first, "a@1 sale S1 usd=1").await.expect("an ingest");
    let ids = ["a".to_owned()];
    assert_eq!(shop.store.queue_relay(Some(&first), shop.id, "p", &ids).await.expect("a queue"), 1);
    assert_eq!(written(&shop).await, "1 0 2");

    redis.flush().await;
    let second = acquire(&leases, "b").await.fence;
    // New, known, and known in another form.
    for history in ["b@1 sale S2 usd=1", "a@1 sale S1 usd=1", "a@0 sale S1 usd=2"] {
        is_fenced(ingest(&shop, &first, history).await);
    }
    is_fenced(shop.store.queue_relay(Some(&first), shop.id, "q", &ids).await);
    assert_eq!(written(&shop).await, "1 0 2");
    // The younger one writes all of it.
    ingest(&shop, &second, "b@1 sale S2 usd=1\na@0 sale S1 usd=2").await.expect("an ingest");
    assert_eq!(shop.store.queue_relay(Some(&second), shop.id, "q", &ids).await.expect("a queue"), 1);
    assert_eq!(written(&shop).await, "2 1 4");
}

#[tokio::test]
async fn a_lease_that_nobody_ever_had_fences_off() {
    let shop = Shop::open().await;
    let fence = Fence { lease: NAME.to_owned(), token: 1 };
    is_fenced(ingest(&shop, &fence, "a@1 sale S1 usd=1").await);
    assert_eq!(written(&shop).await, "0 0 0");
}

#[tokio::test]
async fn an_expired_lease_that_nobody_took_still_writes() {
    let shop = Shop::open().await;
    let leases = Leases::new(shop.store.clone(), None).expect("leases");
    let held = acquire(&leases, "a").await;
    shop.run("UPDATE leases SET expires_at = now() - interval '1 s'").await;
    ingest(&shop, &held.fence, "a@1 sale S1 usd=1").await.expect("an ingest");
    acquire(&leases, "b").await;
    is_fenced(ingest(&shop, &held.fence, "b@1 sale S2 usd=1").await);
}

#[tokio::test]
async fn a_lease_that_is_lost_on_the_way_keeps_other_forms_out() {
    let shop = Shop::open().await;
    let leases = Leases::new(shop.store.clone(), None).expect("leases");
    let fence = acquire(&leases, "a").await.fence;
    ingest(&shop, &fence, "a@1 sale S1 usd=1").await.expect("an ingest");
    // While the new events are written somebody else gets the lease; other forms come after them.
    shop.run(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN UPDATE leases SET token = token + 1; RETURN NULL; END $$;
         CREATE TRIGGER lose BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION lose()",
    )
    .await;
    is_fenced(ingest(&shop, &fence, "a@1 sale S1 usd=2\nb@1 sale S2 usd=1").await);
    assert_eq!(written(&shop).await, "2 0 2");
}

#[tokio::test]
async fn pushes_with_a_fence_have_the_outcomes_of_those_without() {
    let shop = Shop::open().await;
    let leases = Leases::new(shop.store.clone(), None).expect("leases");
    let fence = acquire(&leases, "a").await.fence;
    shop.tell("a@1/x sale S1 usd=1 seq=1").await;
    let pushes = [
        fenced(&shop, &fence, "a@1/x sale S1 usd=1 seq=1\nb@1/x sale S2 usd=1 seq=1"),
        fenced(&shop, &fence, "a@1/x sale S1 usd=9 seq=1"),
    ];
    let outcomes: Vec<IngestOutcome> =
        shop.store.ingest(&pushes).await.expect("an ingest").outcomes().collect();
    let collides = IngestOutcome::New { absorbed: false, collides: true };
    assert_eq!(outcomes, [IngestOutcome::Duplicate, collides, IngestOutcome::OtherContent]);
    // Of two leases in one group each one counts.
    let other = leases.acquire("other", "a", LONG).await.expect("an answer").expect("a lease");
    let lost = Fence { token: 7, ..other.fence.clone() };
    let pushes = [fenced(&shop, &fence, "c@1 sale S3"), fenced(&shop, &lost, "d@1 sale S4")];
    is_fenced(shop.store.ingest(&pushes).await);
    let pushes = [fenced(&shop, &fence, "c@1 sale S3"), fenced(&shop, &other.fence, "d@1 sale S4")];
    assert_eq!(shop.store.ingest(&pushes).await.expect("an ingest").outcomes().count(), 2);
}

/// How many sessions of nodes wait for a lock.
async fn waiting(shop: &Shop) -> i64 {
    shop.value(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE 'velox%' AND wait_event_type = 'Lock'",
    )
    .await
}

#[tokio::test]
async fn an_acquisition_waits_for_what_is_being_written_under_the_lease() {
    let shop = Shop::open().await;
    let leases = Leases::new(shop.store.clone(), None).expect("leases");
    let fence = acquire(&leases, "a").await.fence;
    shop.run("UPDATE leases SET expires_at = now() - interval '1 s'").await;
    // Somebody else is about to write the same event, so the fenced write stands still after it has read the token.
    let mut other = shop.pool.begin().await.expect("a transaction");
    let same = format!(
        "INSERT INTO events (store_id, event_id, device_id, type, payload, payload_hash, created_at, received_at)
         VALUES ('{}', 'a', 'x', 'SaleCreated', '{{}}', '', now(), now())",
        shop.id
    );
    other.execute(sqlx::AssertSqlSafe(same)).await.expect("an insert");
    let write = ingest(&shop, &fence, "a@1 sale S1 usd=1");
    let acquisition = async {
        until("the write to stand still", async || waiting(&shop).await == 1).await;
        let next = acquire(&leases, "b");
        let watch = async {
            until("the acquisition to wait", async || waiting(&shop).await == 2).await;
            assert_eq!(shop.value::<i64>("SELECT token FROM leases").await, 1);
            other.rollback().await.expect("a rollback");
        };
        let (next, ()) = join(next, watch).await;
        // Whoever has the lease now sees what was written under it before.
        (next, written(&shop).await)
    };
    let (ingested, (next, seen)) = join(write, acquisition).await;
    ingested.expect("an ingest");
    assert_eq!((next.fence.token, seen.as_str()), (2, "1 0 1"));
    is_fenced(ingest(&shop, &fence, "b@1 sale S2 usd=1").await);
}

#[tokio::test]
async fn a_write_waits_for_an_acquisition_that_is_under_way_and_is_fenced_off() {
    let shop = Shop::open().await;
    let leases = Leases::new(shop.store.clone(), None).expect("leases");
    let fence = acquire(&leases, "a").await.fence;
    let mut acquisition = shop.pool.begin().await.expect("a transaction");
    acquisition.execute("UPDATE leases SET token = token + 1, holder = 'b'").await.expect("an update");
    let ids = ["a".to_owned()];
    let writes =
        join(ingest(&shop, &fence, "a@1 sale S1"), shop.store.queue_relay(Some(&fence), shop.id, "p", &ids));
    let commit = async {
        until("the writes to wait", async || waiting(&shop).await == 2).await;
        acquisition.commit().await.expect("a commit");
    };
    let ((ingested, queued), ()) = join(writes, commit).await;
    is_fenced(ingested);
    is_fenced(queued);
    assert_eq!(written(&shop).await, "0 0 0");
}
