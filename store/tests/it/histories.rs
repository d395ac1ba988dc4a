//! The table of histories (`protocol/vectors/histories.txt`) on the real store: each makes the rows that were
//! thought out by hand, in its order and in others.

use crate::shop::{Shop, push};
use crate::story::{self, History, Told};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

/// All histories at once, each in a store of its own, `in_order` of each one's events and in steps of `at_once`.
async fn check(at_once: usize, mut in_order: impl FnMut(Vec<Told>) -> Vec<Told>) {
    let shop = Shop::open().await;
    let histories: Vec<(Uuid, History)> =
        story::histories().into_iter().zip(1..).map(|(history, n)| (Uuid::from_u128(n), history)).collect();
    let mut rest: Vec<Vec<Told>> =
        histories.iter().map(|(store, history)| in_order(story::events(*store, &history.told))).collect();
    while rest.iter().any(|told| !told.is_empty()) {
        let step = rest.iter_mut().map(|told| told.drain(..at_once.min(told.len())).collect::<Vec<Told>>());
        let pushes: Vec<_> = step.map(|told| push(&told)).collect();
        shop.store.ingest(&pushes).await.expect("an ingest");
        shop.project().await;
    }
    for (store, History { name, told, rows }) in histories {
        let tables = shop.store.tables(store).await.expect("the store's tables");
        assert_eq!(story::lines(store, &tables, &format!("{told} {}", rows.join(" "))), rows, "{name}");
    }
    assert_eq!(shop.store.verify(None).await.expect("a verification"), []);
}

#[tokio::test]
async fn each_history_makes_its_rows_at_once() {
    check(usize::MAX, |told| told).await;
}

#[tokio::test]
async fn each_history_makes_its_rows_event_by_event() {
    check(1, |told| told).await;
}

#[tokio::test]
async fn each_history_makes_its_rows_backwards() {
    check(1, |mut told| {
        told.reverse();
        told
    })
    .await;
}

#[tokio::test]
async fn each_history_makes_its_rows_in_any_order_with_repetitions() {
    for seed in 0..3 {
        let mut rng = StdRng::seed_from_u64(seed);
        let at_once = rng.random_range(1..4);
        check(at_once, |mut told| {
            told.extend(told.clone());
            told.shuffle(&mut rng);
            told
        })
        .await;
    }
}
