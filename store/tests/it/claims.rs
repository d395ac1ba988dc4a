//! Claims of outbox entries: nobody shares one, and a claim that is given up leaves all as it was.

use crate::shop::Shop;
use std::collections::BTreeSet;
use std::time::Duration;
use velox_store::{Claim, RetryPolicy, Store};

const PATIENT: RetryPolicy = RetryPolicy { max_retries: 10, base: Duration::from_secs(3600) };

async fn claim(store: &Store, limit: i64) -> Option<Claim> {
    store.claim_projection("sale", limit, false).await.expect("a claim")
}

fn ids(claim: &Claim) -> BTreeSet<String> {
    claim.entries.iter().map(|entry| entry.event_id.clone()).collect()
}

async fn pending(shop: &Shop) -> i64 {
    shop.value("SELECT count(*) FROM outbox_entries WHERE status = 'pending'").await
}

/// Twenty sales, e00 to e19.
async fn twenty() -> Shop {
    let shop = Shop::open().await;
    let history: Vec<String> = (0..20).map(|i| format!("e{i:02}@{i} sale S{i} usd=1")).collect();
    shop.tell(&history.join("\n")).await;
    shop
}

#[tokio::test]
async fn two_pods_never_have_the_same_entry() {
    let shop = twenty().await;
    let other = shop.pod();
    let (one, two) = tokio::join!(claim(&shop.store, 8), claim(&other, 8));
    let (one, two) = (one.expect("eight"), two.expect("eight"));
    let three = claim(&shop.store, 8).await.expect("the rest");
    let all: Vec<BTreeSet<String>> = [&one, &two, &three].map(ids).into();
    assert_eq!(all.iter().map(BTreeSet::len).collect::<Vec<_>>(), [8, 8, 4]);
    assert_eq!(all.iter().flatten().collect::<BTreeSet<_>>().len(), 20, "{all:?}");
    assert!(claim(&other, 8).await.is_none(), "all are taken");
    let taken = one.entries[0].event_id.clone();
    assert!(other.claim_one(shop.id, &taken, false).await.expect("a claim").is_none(), "nor one by its id");
    for claim in [one, two, three] {
        claim.project().await.expect("a projection");
    }
    assert_eq!(pending(&shop).await, 0);
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM sales").await, 20);
}

#[tokio::test]
async fn a_claim_that_is_dropped_gives_all_back() {
    let shop = twenty().await;
    for keep in [false, true] {
        drop(all_twenty(&shop, keep).await);
    }
    let claim = all_twenty(&shop, false).await;
    assert_eq!(claim.project().await.expect("a projection").done, 20);
    assert_eq!(pending(&shop).await, 0);
}

/// Claims all entries once they are back: a connection rolls back when it returns to the pool.
async fn all_twenty(shop: &Shop, keep: bool) -> Claim {
    let mut back = 0;
    let all = async {
        loop {
            let claim = shop.store.claim_projection("sale", 20, keep).await.expect("a claim");
            back = claim.as_ref().map_or(0, |claim| claim.entries.len());
            if let (20, Some(claim)) = (back, claim) {
                return claim;
            }
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(10), all).await;
    all.unwrap_or_else(|_| panic!("{back} of 20 entries are back after 10 s"))
}

#[tokio::test]
async fn a_failure_inside_a_projection_leaves_neither_rows_nor_a_hole_in_the_queue() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1 P1x1\nb@2 sale S2 usd=1 P2x1").await;
    // The last table that a sale writes refuses.
    shop.run("ALTER TABLE links ADD CONSTRAINT broken CHECK (event_id <> 'b')").await;
    let error = claim(&shop.store, 9).await.expect("entries").project().await.expect_err("a refusal");
    assert!(!error.is_transient(), "{error:?}");
    assert_eq!(pending(&shop).await, 2);
    for table in ["sales", "sale_items", "stock_movements", "warehouse_stock", "links"] {
        assert_eq!(shop.value::<i64>(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    let one = shop.store.claim_one(shop.id, "a", false).await.expect("a claim").expect("the sound one");
    assert_eq!(one.project().await.expect("a projection").done, 1);
    shop.run("ALTER TABLE links DROP CONSTRAINT broken").await;
    shop.project().await;
    let rows = "sale S1 by a\nitem S1.1 P1 1\nmove P1 -1 sale by a\nstock P1 -1
                sale S2 by b\nitem S2.1 P2 1\nmove P2 -1 sale by b\nstock P2 -1";
    shop.check(rows).await;
}

#[tokio::test]
async fn entries_are_claimed_by_priority_and_then_by_age() {
    let shop = Shop::open().await;
    shop.tell("late@1 close X1").await;
    shop.tell("entry@1 entry L1 income").await;
    shop.tell("young@1 open X2").await;
    shop.tell("old@1 open X3").await;
    shop.run("UPDATE outbox_entries SET created_at = created_at - interval '1 h' WHERE event_id = 'old'")
        .await;
    let mut order = Vec::new();
    while let Some(claim) = shop.store.claim_projection("cash", 1, false).await.expect("a claim") {
        order.extend(ids(&claim));
        claim.project().await.expect("a projection");
    }
    assert_eq!(order, ["old", "young", "late", "entry"]);
}

#[tokio::test]
async fn an_entry_is_not_due_before_its_next_attempt() {
    let shop = twenty().await;
    let failed = shop.store.fail_projection(shop.id, "e07", 1, "it broke", PATIENT).await.expect("a failure");
    assert_eq!(failed, Some(false));
    let taken = claim(&shop.store, 100).await.expect("the others");
    assert_eq!(taken.entries.len(), 19);
    taken.project().await.expect("a projection");
    assert!(claim(&shop.store, 100).await.is_none());
    assert_eq!(shop.store.entities_with_work().await.expect("names"), Vec::<String>::new());
    shop.run("UPDATE outbox_entries SET next_attempt_at = now() - interval '1 s'").await;
    assert_eq!(shop.store.entities_with_work().await.expect("names"), ["sale"]);
    let taken = claim(&shop.store, 100).await.expect("the one");
    assert_eq!((taken.entries[0].event_id.as_str(), taken.entries[0].retry_count), ("e07", 1));
}

#[tokio::test]
async fn a_claimed_entry_carries_its_event_as_it_was_received() {
    let shop = Shop::open().await;
    let text = r#"{"event_id":"a","type":"SaleCreated","version":1,"created_at":5,"seq":3,"request_id":"r",
        "actor":{"user_id":"u"},"vector_clock":{"till":3,"b":1},"payload":{ "sale_id" : "SALE", "total":1e2 }}"#;
    let text = text.replace("SALE", &shop.named("S1").to_string());
    let told = crate::story::Told::read(shop.id, "till", &text);
    let mut push = crate::shop::push(std::slice::from_ref(&told));
    push.trace_parent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    shop.store.ingest(&[push.clone()]).await.expect("an ingest");
    let by_entity = claim(&shop.store, 1).await.expect("it").entries;
    // The first claim may still be on its way back.
    let by_id = async {
        loop {
            if let Some(claim) = shop.store.claim_one(shop.id, "a", false).await.expect("a claim") {
                break claim.entries;
            }
        }
    };
    let by_id =
        tokio::time::timeout(Duration::from_secs(10), by_id).await.expect("it is not back after 10 s");
    for entry in by_entity.into_iter().chain(by_id) {
        let event = &told.event;
        assert_eq!(entry.payload, event.payload, "byte for byte");
        assert!(entry.payload.contains("{ \"sale_id\" :"));
        assert_eq!(entry.vector_clock.map(|json| json.0), event.vector_clock);
        assert_eq!(
            (entry.store_id, entry.event_id, entry.device_id),
            (shop.id, "a".to_owned(), "till".to_owned())
        );
        assert_eq!((entry.event_type, entry.version, entry.seq), ("SaleCreated".to_owned(), 1, Some(3)));
        assert_eq!((entry.created_at, entry.request_id), (event.created_at, Some("r".to_owned())));
        assert_eq!((entry.actor_user_id, entry.retry_count), (Some("u".to_owned()), 0));
        assert_eq!(entry.trace_parent, push.trace_parent);
    }
}
