//! INV-3 on the real store: whatever the order, the batches, the repetitions and the pods, the same rows.
//!
//! Many histories are worked off at once, each in a store of its own, so that batches mix stores as well.
//! `VELOX_PROPTEST_CASES` sets how many histories, `VELOX_PROPTEST_SEED` repeats a run that failed (what the pods
//! do to each other depends on the moment, so not every failure comes again).

use crate::history::{History, histories, registers, shown_registers};
use crate::shop::{Shop, push};
use crate::story::Told;
use crate::tables::{self, Tables};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::catalogue::Entity;
use velox_store::{IngestOutcome, RetryPolicy, Store};

/// Histories of a run where nothing else is asked for.
const HISTORIES: u32 = 400;
/// Most histories that are worked off at once.
const AT_ONCE: u32 = 24;
/// No difference.
const NONE: [&str; 0] = [];
/// An entry of ours dies of its first failure.
const MORTAL: RetryPolicy = RetryPolicy { max_retries: 1, base: Duration::ZERO };

/// A case that failed leaves its entries behind, and the rows of thousands would take their time to verify.
const EMPTY: &str = "
    BEGIN;
    SET LOCAL session_replication_role = replica;
    TRUNCATE events, event_exceptions, outbox_entries, links, sales, sale_items, debts, debt_payments, products,
        customers, cash_sessions, cash_ledger_entries, warehouse_stock, stock_movements;
    COMMIT";

/// The same events twice: in order and at once in one database, anyhow in the other.
struct Bench {
    runtime: tokio::runtime::Runtime,
    ordered: Shop,
    anyhow: Shop,
    second_pod: Store,
    next_store: Cell<u128>,
}

#[test]
fn the_rows_do_not_depend_on_order_batches_repetitions_or_pods() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (ordered, anyhow) = runtime.block_on(async { (Shop::open().await, Shop::open().await) });
    let second_pod = runtime.block_on(async { anyhow.pod() });
    let bench = Bench { runtime, ordered, anyhow, second_pod, next_store: Cell::new(1) };
    let seed = setting("VELOX_PROPTEST_SEED").unwrap_or_else(rand::random);
    let histories_wanted = setting("VELOX_PROPTEST_CASES").unwrap_or(HISTORIES.into());
    let config = Config {
        // A case has half of the most on average.
        cases: u32::try_from(histories_wanted.div_ceil(u64::from(AT_ONCE / 2))).expect("so many histories"),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_time: 45_000,
        ..Config::default()
    };
    let at_once = prop::collection::vec(histories(), 1..AT_ONCE as usize);
    let case = (at_once, any::<u64>().no_shrink());
    let result = TestRunner::new(config).run(&case, |(histories, delivery)| {
        bench.runtime.block_on(bench.case(&histories, delivery));
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, (histories, delivery))) => {
            panic!("VELOX_PROPTEST_SEED={seed}: {reason}\ndelivery {delivery} of {histories:#?}");
        }
        Err(TestError::Abort(reason)) => panic!("VELOX_PROPTEST_SEED={seed}: {reason}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration that it could come from")]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

impl Bench {
    async fn case(&self, histories: &[History], delivery: u64) {
        self.ordered.run(EMPTY).await;
        self.anyhow.run(EMPTY).await;
        let told: BTreeMap<Uuid, Vec<Told>> = histories
            .iter()
            .map(|history| (self.fresh_store(), history))
            .map(|(id, h)| (id, h.told(id)))
            .collect();
        let stores: Vec<Uuid> = told.keys().copied().collect();
        self.deliver_in_order(&told).await;
        let mut rng = StdRng::seed_from_u64(delivery);
        self.deliver_anyhow(told.values().flatten().cloned().collect(), &mut rng).await;

        let ordered = tables::read(&self.ordered.pool, &stores).await;
        let anyhow = tables::read(&self.anyhow.pool, &stores).await;
        for (store, events) in &told {
            let (ordered, anyhow) = (&ordered[store], &anyhow[store]);
            let linked: Vec<_> = events.iter().filter_map(Told::linked).collect();
            let mut model = Tables::resolved(*store, &linked);
            model.unread.clone_from(&ordered.unread);
            model.entities.clone_from(&ordered.entities);
            assert_eq!(ordered.differences(&model), NONE, "in order, and by the model");
            assert_eq!(
                anyhow.differences(&model),
                NONE,
                "anyhow, and by the model; registers and unread ones in order"
            );
            assert_eq!(shown_registers(anyhow), registers(events), "registers, by the model");
            let unread =
                events.iter().filter(|event| event.meaning.is_none()).map(|event| &event.event.event_id);
            assert_eq!(
                anyhow.unread.keys().collect::<BTreeSet<_>>(),
                unread.collect(),
                "what is not read is noted"
            );
        }
        for shop in [&self.ordered, &self.anyhow] {
            assert_eq!(shop.store.verify(None).await.expect("a verification"), []);
        }
    }

    /// No two cases share a store, nor do a case and its smaller version.
    fn fresh_store(&self) -> Uuid {
        let n = self.next_store.replace(self.next_store.get() + 1);
        Uuid::from_u128(n)
    }

    async fn deliver_in_order(&self, told: &BTreeMap<Uuid, Vec<Told>>) {
        let mut all: Vec<Told> = told.values().flatten().cloned().collect();
        all.sort_by_key(|told| told.event.key());
        self.ordered.store.ingest(&[push(&all)]).await.expect("an ingest");
        self.ordered.project().await;
    }

    /// Two senders, one a pod, with repetitions; two projectors beside them.
    async fn deliver_anyhow(&self, mut events: Vec<Told>, rng: &mut StdRng) {
        let distinct = events.len();
        for _ in 0..distinct / 6 {
            events.extend(events.choose(rng).cloned());
        }
        events.shuffle(rng);
        let half = rng.random_range(0..=events.len());
        let (one, other) = events.split_at(half);
        let senders = Cell::new(2);
        let mut rngs: [StdRng; 4] = std::array::from_fn(|_| StdRng::from_rng(rng));
        let [a, b, c, d] = &mut rngs;
        let pods = [&self.anyhow.store, &self.second_pod];
        let (new, more, (), ()) = tokio::join!(
            send(pods[0], one, a, &senders),
            send(pods[1], other, b, &senders),
            work(pods[0], c, &senders),
            work(pods[1], d, &senders),
        );
        assert_eq!(new + more, distinct, "each event is new once");
        self.revive().await;
        self.anyhow.project().await;
        assert_eq!(self.anyhow.store.outbox_counts().await.expect("counts"), [], "nothing is left");
    }

    /// Queues what died.
    async fn revive(&self) {
        let sql = "SELECT store_id, event_id FROM outbox_entries WHERE status = 'dead'";
        let dead: Vec<(Uuid, String)> = sqlx::query_as(sql).fetch_all(&self.anyhow.pool).await.expect(sql);
        for (store_id, event_id) in dead {
            let queued =
                self.anyhow.store.requeue_projection(store_id, &[event_id]).await.expect("a requeue");
            assert_eq!(queued, 1);
        }
    }
}

/// Sends pushes of any size, and now and then has something projected again. Answers how many events were new.
async fn send(store: &Store, events: &[Told], rng: &mut StdRng, senders: &Cell<u32>) -> usize {
    let most = *[1, 4, 60].choose(rng).expect("a size");
    let mut new = 0;
    let mut rest = events;
    while !rest.is_empty() {
        let (group, later) = rest.split_at(rng.random_range(1..=most.min(rest.len())));
        rest = later;
        let (first, second) = group.split_at(rng.random_range(0..=group.len()));
        let ingested = store.ingest(&[push(first), push(second)]).await.expect("an ingest");
        for outcome in ingested.outcomes() {
            match outcome {
                IngestOutcome::New { .. } => new += 1,
                IngestOutcome::Duplicate => {}
                IngestOutcome::OtherContent => panic!("there is but one content"),
            }
        }
        if rng.random_bool(0.15) {
            let again = group.choose(rng).expect("an event");
            let of_store = |told: &&Told| told.event.store_id == again.event.store_id;
            let ids: Vec<String> =
                group.iter().filter(of_store).map(|told| told.event.event_id.clone()).collect();
            store.requeue_projection(again.event.store_id, &ids).await.expect("a requeue");
        }
    }
    senders.set(senders.get() - 1);
    new
}

/// Projects until nothing is sent and nothing is due any more; now and then a claim is given up, or an entry dies.
async fn work(store: &Store, rng: &mut StdRng, senders: &Cell<u32>) {
    let most = *[1, 3, 100].choose(rng).expect("a size");
    loop {
        let last = senders.get() == 0;
        let mut idle = true;
        let mut entities = Entity::ALL;
        entities.shuffle(rng);
        for entity in entities {
            let limit = rng.random_range(1..=most);
            let Some(claim) = store.claim_projection(entity.name(), limit, false).await.expect("a claim")
            else {
                continue;
            };
            idle = false;
            match rng.random_range(0..40) {
                0 => drop(claim),
                1 => {
                    let one = claim.entries[0].clone();
                    drop(claim);
                    let died =
                        store.fail_projection(one.store_id, &one.event_id, 1, "it broke", MORTAL).await;
                    assert_ne!(died.expect("a failure"), Some(false));
                }
                _ => drop(claim.project().await.expect("a projection")),
            }
        }
        if idle && last {
            return;
        }
    }
}
