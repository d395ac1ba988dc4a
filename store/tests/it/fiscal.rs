//! Fiscal numbers on a real database: none twice, none lost from sight.

use crate::shop::Shop;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use velox_store::{
    Actor, Consumed, FiscalRangeRow, LedgerFilter, LedgerKey, NewRange, NewSeries, NodeStamp, PageRequest,
    Reported, Reserved, Store,
};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_763_950_000 + seconds, 0).expect("a time")
}

/// A shop with a series that begins with 1.
async fn open() -> (Shop, Uuid) {
    let shop = Shop::open().await;
    shop.register("Bodega", 1).await;
    let series_id = shop.named("series");
    let new = NewSeries {
        store_id: shop.id,
        series_id,
        name: "Caja".to_owned(),
        prefix: "A-".to_owned(),
        next_number: 1,
        owner_node: None,
    };
    let actor = Actor { user_id: "admin".to_owned(), role: "admin".to_owned() };
    let stamp = NodeStamp { event_id: Uuid::from_u128(77), now: at(0), actor, trace_parent: None };
    let declared = shop.store.declare_series(&new, &stamp).await.expect("a declaration");
    assert!(declared.created);
    assert!(!shop.store.declare_series(&new, &stamp).await.expect("a declaration").created);
    (shop, series_id)
}

fn request(shop: &Shop, series_id: Uuid, device: &str, seconds: i64) -> NewRange {
    NewRange {
        store_id: shop.id,
        series_id,
        device_id: device.to_owned(),
        quantity: 50,
        request_id: None,
        range_id: Uuid::from_bytes(rand::random()),
        now: at(seconds),
        ttl: TimeDelta::days(1),
    }
}

async fn granted(store: &Store, new: &NewRange) -> FiscalRangeRow {
    match store.reserve_fiscal_range(new).await.expect("a reservation") {
        Reserved::Range { range, .. } => range,
        other => panic!("{other:?}"),
    }
}

async fn reserve(shop: &Shop, series_id: Uuid, device: &str, seconds: i64) -> FiscalRangeRow {
    granted(&shop.store, &request(shop, series_id, device, seconds)).await
}

/// States by number.
async fn ledger(shop: &Shop, series_id: Uuid, seconds: i64) -> BTreeMap<i64, &'static str> {
    let filter = LedgerFilter { store_id: shop.id, series_id, now: at(seconds) };
    let mut all = BTreeMap::new();
    let mut after = None;
    loop {
        let page = PageRequest { after, limit: 1000 };
        let page = shop.store.fiscal_ledger(filter, page).await.expect("a ledger");
        after = page.items.last().map(|row| LedgerKey(row.number));
        all.extend(page.items.iter().map(|row| (row.number, row.state)));
        if !page.has_more {
            return all;
        }
    }
}

/// A sale that bears a number, as its projector writes it.
async fn sold(shop: &Shop, series_id: Uuid, number: i64) {
    let (store_id, id) = (shop.id, Uuid::from_bytes(rand::random()));
    shop.run(&format!(
        "INSERT INTO sales (store_id, id, device_id, series_id, fiscal_number, sold_at, created_at, event_id)
         VALUES ('{store_id}', '{id}', 'till', '{series_id}', 'A-{number}', now(), now(), '{id}')"
    ))
    .await;
}

#[tokio::test]
async fn two_reservations_are_consecutive_and_do_not_overlap() {
    let (shop, series) = open().await;
    let (one, two) = (reserve(&shop, series, "one", 0).await, reserve(&shop, series, "two", 0).await);
    assert_eq!((one.range_start, one.range_end, one.used_up_to), (1, 50, 0));
    assert_eq!((two.range_start, two.range_end, two.used_up_to), (51, 100, 50));
    assert_eq!(one.expires_at - one.granted_at, TimeDelta::days(1));
    let overlapping = format!(
        "INSERT INTO fiscal_sequence_ranges SELECT store_id, gen_random_uuid(), series_id, 'x', 50, 60, 49, status,
             granted_at, expires_at FROM fiscal_sequence_ranges WHERE id = '{}'",
        one.id
    );
    let refused = sqlx::query(sqlx::AssertSqlSafe(overlapping)).execute(&shop.pool).await;
    assert!(format!("{refused:?}").contains("fiscal_ranges_do_not_overlap"), "{refused:?}");
}

#[tokio::test]
async fn numbers_are_consumed_in_sequence_and_none_when_exhausted() {
    let (shop, series) = open().await;
    let take = async |seconds| {
        shop.store.consume_fiscal_number(shop.id, series, "one", None, at(seconds)).await.expect("an answer")
    };
    assert_eq!(take(0).await, Consumed::Exhausted, "no range yet");
    granted(&shop.store, &NewRange { quantity: 3, ..request(&shop, series, "one", 0) }).await;
    for number in 1..=3 {
        assert_eq!(take(1).await, Consumed::Number(number));
    }
    assert_eq!(take(1).await, Consumed::Exhausted);
    // Not from the range of another one, and not after the range's time.
    reserve(&shop, series, "two", 1).await;
    assert_eq!(take(1).await, Consumed::Exhausted);
    assert_eq!(reserve(&shop, series, "one", 2).await.range_start, 54);
    assert_eq!(take(86_402).await, Consumed::Exhausted);
}

#[tokio::test]
async fn a_device_has_one_active_range_of_a_series() {
    let (shop, series) = open().await;
    for seconds in [0, 61, 130, 100_000] {
        reserve(&shop, series, "one", seconds).await;
    }
    let active = "SELECT count(*) FROM fiscal_sequence_ranges WHERE status = 'active'";
    assert_eq!(shop.value::<i64>(active).await, 1);
    let closed = "SELECT string_agg(status, ' ' ORDER BY granted_at) FROM fiscal_sequence_ranges";
    assert_eq!(shop.value::<String>(closed).await, "exhausted exhausted expired active");
}

#[tokio::test]
async fn a_v1_till_that_takes_over_every_answer_uses_no_number_twice() {
    let (shop, series) = open().await;
    let mut used = BTreeSet::new();
    let mut seconds = 0;
    for prefetch in 0..6 {
        // As the till does: whatever it has counted itself is forgotten.
        let range = reserve(&shop, series, "till", seconds).await;
        let mut count = range.used_up_to;
        for _ in 0..7 {
            count += 1;
            assert!(count <= range.range_end && used.insert(count), "{count} twice, prefetch {prefetch}");
        }
        seconds += 61 + prefetch * 40_000;
    }
    assert_eq!(used.len(), 42);
}

#[tokio::test]
async fn within_a_minute_a_till_is_told_what_its_sales_say_it_has_used() {
    let (shop, series) = open().await;
    let first = reserve(&shop, series, "till", 0).await;
    sold(&shop, series, 4).await;
    let again = reserve(&shop, series, "till", 30).await;
    assert_eq!((again.id, again.used_up_to), (first.id, 4));
}

#[tokio::test]
async fn expired_numbers_are_never_handed_out_again_and_a_late_sale_makes_one_issued() {
    let (shop, series) = open().await;
    let range = reserve(&shop, series, "one", 0).await;
    let reported = shop.store.report_fiscal_use(shop.id, range.id, 2, at(10)).await.expect("an answer");
    assert!(matches!(reported, Reported::Range(range) if range.used_up_to == 2));
    assert_eq!(shop.store.reclaim_fiscal_ranges(at(86_399)).await.expect("an answer"), 0);
    assert_eq!(shop.store.reclaim_fiscal_ranges(at(86_400)).await.expect("an answer"), 1);
    let next = reserve(&shop, series, "one", 86_401).await;
    assert_eq!(next.range_start, 51);
    sold(&shop, series, 1).await;
    sold(&shop, series, 30).await;
    let states = ledger(&shop, series, 86_401).await;
    assert_eq!(states.len(), 100);
    assert_eq!(
        [1, 2, 3, 30, 51].map(|number| states[&number]),
        ["issued", "lost", "expired", "issued", "held"]
    );
    // Also late: what the device tells of the old range.
    let late = shop.store.report_fiscal_use(shop.id, range.id, 9, at(86_402)).await.expect("an answer");
    assert!(matches!(late, Reported::Range(range) if range.used_up_to == 9 && range.status == "expired"));
}

#[tokio::test]
async fn sixty_four_reserve_at_once_over_two_pools_without_overlap_or_hole() {
    let (shop, series) = open().await;
    let other = shop.pod();
    let asked = (0..64).map(|i| {
        let (store, new) =
            (if i % 2 == 0 { &shop.store } else { &other }, request(&shop, series, &format!("{i}"), 0));
        async move { granted(store, &new).await }
    });
    let mut ranges: Vec<(i64, i64)> =
        join_all(asked).await.into_iter().map(|range| (range.range_start, range.range_end)).collect();
    ranges.sort_unstable();
    let expected: Vec<(i64, i64)> = (0..64).map(|i| (i * 50 + 1, i * 50 + 50)).collect();
    assert_eq!(ranges, expected);
    assert_eq!(ledger(&shop, series, 0).await.len(), 3_200);
}

#[tokio::test]
async fn one_request_that_comes_many_times_at_once_is_granted_once() {
    let (shop, series) = open().await;
    let new = NewRange { request_id: Some("r".to_owned()), ..request(&shop, series, "one", 0) };
    let asked = (0..8).map(|_| {
        let new = NewRange { range_id: Uuid::from_bytes(rand::random()), ..new.clone() };
        let store = &shop.store;
        async move { granted(store, &new).await.id }
    });
    let ids: BTreeSet<Uuid> = join_all(asked).await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    // And long after, when the device has another one.
    let later = reserve(&shop, series, "one", 500).await;
    assert_eq!(later.range_start, 51);
    let again = granted(&shop.store, &NewRange { now: at(600), ..new }).await;
    assert!(ids.contains(&again.id));
}

#[tokio::test]
async fn after_a_restore_grants_jump_above_every_number_that_a_sale_bears() {
    let (shop, series) = open().await;
    reserve(&shop, series, "one", 0).await;
    sold(&shop, series, 777).await;
    assert_eq!(reserve(&shop, series, "two", 0).await.range_start, 51, "no restore, no jump");
    shop.run("UPDATE node_identity SET restored_at = now()").await;
    let jumped = reserve(&shop, series, "three", 0).await;
    assert_eq!(jumped.range_start, 10_778);
    assert_eq!(reserve(&shop, series, "four", 0).await.range_start, 10_828, "it leaps once");
    // A peer brings back what was sold before, later.
    sold(&shop, series, 20_000).await;
    assert_eq!(reserve(&shop, series, "five", 0).await.range_start, 20_001);
    let states = ledger(&shop, series, 0).await;
    assert_eq!(states.len(), 20_050, "what was passed over is in the ledger");
    assert_eq!([101, 777, 10_778, 20_000].map(|n| states[&n]), ["lost", "issued", "held", "issued"]);
}
