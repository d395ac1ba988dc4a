//! The lease: one holder at a time, whoever keeps it, and a greater token for every next one.

use crate::redis_server::RedisServer;
use crate::shop::{Shop, until};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;
use velox_store::{Error, Held, Leases};

const NAME: &str = "federation:reconcile:00000000-0000-0000-0000-00000005701e";
/// Longer than any test.
const LONG: Duration = Duration::from_secs(300);
/// So short that its end can be waited for.
const SHORT: Duration = Duration::from_millis(300);
/// A caller waits for Redis for 1.5 s at most; the rest is for a busy machine.
const NO_HANG: Duration = Duration::from_secs(20);

/// Both keepers, each with a shop of its own; `None`: PostgreSQL alone.
async fn keepers() -> [(Shop, Option<RedisServer>); 2] {
    [(Shop::open().await, None), (Shop::open().await, Some(RedisServer::start().await))]
}

/// The leases of one more pod.
fn leases(shop: &Shop, redis: Option<&RedisServer>) -> Leases {
    let url = redis.map(RedisServer::url);
    Leases::new(shop.store.clone(), url.as_deref()).expect("leases")
}

async fn acquire(leases: &Leases, holder: &str, ttl: Duration) -> Option<Held> {
    timeout(NO_HANG, leases.acquire(NAME, holder, ttl)).await.expect("no hang").expect("an answer")
}

async fn token(shop: &Shop) -> i64 {
    shop.value("SELECT token FROM leases").await
}

#[tokio::test]
async fn whoever_comes_first_gets_it_and_nobody_else() {
    for (shop, redis) in keepers().await {
        let leases = leases(&shop, redis.as_ref());
        let held = acquire(&leases, "1-1000-a", LONG).await.expect("a lease");
        assert_eq!((held.name.as_str(), held.holder.as_str()), (NAME, "1-1000-a"));
        assert_eq!((held.fence.lease.as_str(), held.fence.token), (NAME, 1));
        assert_eq!(acquire(&leases, "2-1000-b", LONG).await, None);
        assert_eq!(token(&shop).await, 1, "nothing is drawn for whom it is not given");
        let other = leases.acquire("another lease", "2-1000-b", LONG).await.expect("an answer");
        assert_eq!(other.expect("a lease").fence.token, 1);
        let row: String = shop
            .value(
                "SELECT holder || ' ' || (expires_at > now() + interval '299 s') || ' '
                     || (expires_at <= now() + interval '300 s') FROM leases WHERE token = 1 AND name LIKE 'fed%'",
            )
            .await;
        assert_eq!(row, "1-1000-a true true", "whoever keeps it");
        if let Some(redis) = redis {
            assert_eq!(redis.value(NAME).await.as_deref(), Some("1-1000-a"));
            let left: i64 = redis.ask(&["PTTL", NAME]).await.expect("a time");
            assert!((290_000..=300_000).contains(&left), "{left} ms");
        }
    }
}

#[tokio::test]
async fn only_its_holder_gives_it_back_and_then_it_is_free() {
    for (shop, redis) in keepers().await {
        let leases = leases(&shop, redis.as_ref());
        let held = acquire(&leases, "a", LONG).await.expect("a lease");
        // Of the same acquisition, but for what only the holder knows.
        let mut forged = held.clone();
        "b".clone_into(&mut forged.holder);
        assert!(!leases.release(&forged).await.expect("an answer"));
        assert_eq!(acquire(&leases, "b", LONG).await, None);
        assert!(leases.release(&held).await.expect("an answer"));
        assert!(!leases.release(&held).await.expect("an answer"), "it is given back once");
        let next = acquire(&leases, "b", LONG).await.expect("a lease");
        assert_eq!(next.fence.token, 2);
        // One that had it before is not its holder.
        assert!(!leases.release(&held).await.expect("an answer"));
        assert!(!leases.renew(&held, LONG).await.expect("an answer"));
        assert_eq!(acquire(&leases, "c", LONG).await, None);
        if let Some(redis) = redis {
            assert_eq!(redis.value(NAME).await.as_deref(), Some("b"));
        }
    }
}

#[tokio::test]
async fn it_is_free_when_it_has_expired() {
    for (shop, redis) in keepers().await {
        let leases = leases(&shop, redis.as_ref());
        let held = acquire(&leases, "a", SHORT).await.expect("a lease");
        until("the end of a lease", async || acquire(&leases, "b", LONG).await.is_some()).await;
        assert_eq!(token(&shop).await, 2);
        assert!(!leases.renew(&held, LONG).await.expect("an answer"));
        assert!(!leases.release(&held).await.expect("an answer"));
        assert_eq!(acquire(&leases, "c", LONG).await, None);
    }
}

#[tokio::test]
async fn it_is_kept_for_longer_until_it_is_lost() {
    for (shop, redis) in keepers().await {
        let leases = leases(&shop, redis.as_ref());
        let held = acquire(&leases, "a", LONG / 2).await.expect("a lease");
        assert!(leases.renew(&held, LONG).await.expect("an answer"));
        assert!(shop.value::<bool>("SELECT expires_at > now() + interval '200 s' FROM leases").await);
        if let Some(redis) = &redis {
            assert!(redis.ask::<i64>(&["PTTL", NAME]).await.expect("a time") > 200_000);
        }
        assert_eq!(acquire(&leases, "b", LONG).await, None);
        assert!(leases.renew(&held, SHORT).await.expect("an answer"));
        // From then on nobody has it, and what nobody has cannot be kept.
        until("the end of a lease", async || {
            shop.value("SELECT expires_at < clock_timestamp() FROM leases").await
        })
        .await;
        assert!(!leases.renew(&held, LONG).await.expect("an answer"));
        assert!(!leases.release(&held).await.expect("an answer"));
        until("the end of its key", async || acquire(&leases, "b", LONG).await.is_some()).await;
        assert!(!leases.renew(&held, LONG).await.expect("an answer"));
        assert_eq!(token(&shop).await, 2, "keeping it draws no token");
    }
}

#[tokio::test]
async fn of_many_at_once_one_wins_round_after_round() {
    for (shop, redis) in keepers().await {
        let pods = [leases(&shop, redis.as_ref()), {
            let url = redis.as_ref().map(RedisServer::url);
            Leases::new(shop.pod(), url.as_deref()).expect("leases")
        }];
        for round in 1..=5 {
            let tasks = (0..32).map(|task| {
                let pod = &pods[task % 2];
                async move { acquire(pod, &format!("{round}-{task}"), LONG).await }
            });
            let won: Vec<Held> = join_all(tasks).await.into_iter().flatten().collect();
            assert_eq!(won.len(), 1, "{won:?}");
            assert_eq!(won[0].fence.token, round, "{won:?}");
            assert!(pods[1].release(&won[0]).await.expect("an answer"), "by whichever pod");
        }
    }
}

#[tokio::test]
async fn a_flushed_redis_gives_it_to_another_with_a_greater_token() {
    let (shop, redis) = (Shop::open().await, RedisServer::start().await);
    let leases = leases(&shop, Some(&redis));
    let first = acquire(&leases, "a", LONG).await.expect("a lease");
    redis.flush().await;
    assert!(!leases.renew(&first, LONG).await.expect("an answer"), "it does not take it again");
    let second = acquire(&leases, "b", LONG).await.expect("a lease");
    assert!(second.fence.token > first.fence.token);
    assert!(!leases.renew(&first, LONG).await.expect("an answer"));
    assert!(!leases.release(&first).await.expect("an answer"));
    assert!(leases.renew(&second, LONG).await.expect("an answer"));
    assert_eq!(redis.value(NAME).await.as_deref(), Some("b"));
}

#[tokio::test]
async fn without_redis_postgresql_decides_and_redis_comes_back_by_itself() {
    let (shop, mut redis) = (Shop::open().await, RedisServer::start().await);
    let leases = leases(&shop, Some(&redis));
    let held = acquire(&leases, "a", LONG).await.expect("a lease");
    redis.kill();
    assert_eq!(acquire(&leases, "b", LONG).await, None, "the row says who has it");
    assert!(leases.renew(&held, LONG).await.expect("an answer"));
    assert!(leases.release(&held).await.expect("an answer"));
    let next = acquire(&leases, "b", LONG).await.expect("a lease");
    assert_eq!(next.fence.token, 2);
    assert_eq!(acquire(&leases, "c", LONG).await, None);

    redis.restart().await;
    assert!(leases.renew(&next, LONG).await.expect("an answer"));
    assert_eq!(redis.value(NAME).await.as_deref(), Some("b"), "from now on Redis keeps others off");
    assert_eq!(acquire(&leases, "c", LONG).await, None);
    assert!(leases.release(&next).await.expect("an answer"));
    assert_eq!(acquire(&leases, "c", LONG).await.expect("a lease").fence.token, 3);
    assert_eq!(redis.value(NAME).await.as_deref(), Some("c"));
}

#[tokio::test]
async fn one_that_postgresql_gave_is_lost_to_whom_redis_gives_it_since() {
    let (shop, mut redis) = (Shop::open().await, RedisServer::start().await);
    let leases = leases(&shop, Some(&redis));
    redis.kill();
    let held = acquire(&leases, "a", LONG).await.expect("a lease");
    redis.restart().await;
    let next = acquire(&leases, "b", LONG).await.expect("a lease");
    assert_eq!((held.fence.token, next.fence.token), (1, 2));
    assert!(!leases.renew(&held, LONG).await.expect("an answer"));
    assert!(!leases.release(&held).await.expect("an answer"));
    assert!(leases.release(&next).await.expect("an answer"));
}

#[tokio::test]
async fn a_paused_redis_holds_up_nobody() {
    let (shop, redis) = (Shop::open().await, RedisServer::start().await);
    let leases = leases(&shop, Some(&redis));
    let held = acquire(&leases, "a", LONG).await.expect("a lease");
    redis.pause();
    assert_eq!(acquire(&leases, "b", LONG).await, None);
    assert!(timeout(NO_HANG, leases.renew(&held, LONG)).await.expect("no hang").expect("an answer"));
    assert!(timeout(NO_HANG, leases.release(&held)).await.expect("no hang").expect("an answer"));
    let next = acquire(&leases, "b", LONG).await.expect("a lease");
    assert_eq!(next.fence.token, 2);
    redis.wake();
    redis.answers().await;
    // It has not heard that the first one gave it back, which costs the next one nothing.
    assert_eq!(redis.value(NAME).await.as_deref(), Some("a"));
    assert!(leases.renew(&next, LONG).await.expect("an answer"));
    assert!(leases.release(&next).await.expect("an answer"));
}

#[tokio::test]
async fn a_redis_that_never_answers_or_refuses_leaves_it_to_postgresql() {
    let shop = Shop::open().await;
    // It takes connections and says nothing, also where TLS is to be begun.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let redis = RedisServer::start().await;
    redis.ask::<String>(&["REPLICAOF", "127.0.0.1", "1"]).await.expect("a replica");
    let urls = [
        format!("redis://{address}"),
        format!("rediss://{address}"),
        "redis://127.0.0.1:1".to_owned(),
        "redis://redis.invalid".to_owned(),
        redis.url(),
    ];
    for (url, token) in urls.iter().zip(1..) {
        let leases = Leases::new(shop.store.clone(), Some(url)).expect("leases");
        let held = acquire(&leases, "a", LONG).await.unwrap_or_else(|| panic!("{url}: no lease"));
        assert_eq!(held.fence.token, token, "{url}");
        assert_eq!(acquire(&leases, "b", LONG).await, None, "{url}");
        assert!(timeout(NO_HANG, leases.release(&held)).await.expect("no hang").expect("an answer"), "{url}");
    }
    let wrong = Leases::new(shop.store.clone(), Some("redis://:secret@:x"));
    let error = wrong.expect_err("no URL");
    assert!(matches!(&error, Error::Configuration(text) if !text.contains("secret")), "{error:?}");
}

#[tokio::test]
async fn without_postgresql_nobody_gets_it_and_its_key_is_given_back() {
    let (shop, redis) = (Shop::open().await, RedisServer::start().await);
    let leases = leases(&shop, Some(&redis));
    shop.run("ALTER TABLE leases RENAME TO away").await;
    leases.acquire(NAME, "a", LONG).await.expect_err("no token");
    assert_eq!(redis.value(NAME).await, None);
    shop.run("ALTER TABLE away RENAME TO leases").await;
    assert_eq!(acquire(&leases, "b", LONG).await.expect("a lease").fence.token, 1);
}
