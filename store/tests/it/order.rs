//! INV-3 on the real store: whatever the order, the batches, the repetitions and the pods, the same rows; also where
//! rows were lost in between, and where the tables are rebuilt meanwhile.
//!
//! Many histories are worked off at once, each in a store of its own, so that batches mix stores as well. A case is
//! made of its seed alone. `VELOX_PROPTEST_CASES` sets how many histories, `VELOX_PROPTEST_SEED` repeats the one case
//! that failed (what the pods do to each other depends on the moment, so not every failure comes again). Seeds that
//! once failed stand in `tests/regressions.txt` and go first.

use crate::delivery::{Counts, Delivery};
use crate::history::{History, Teller};
use crate::reached::{self, fold, situations};
use crate::shop::{Shop, push};
use crate::story::Told;
use futures_util::FutureExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::PgPool;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;
use velox_store::Store;

/// Histories of a run where nothing else is asked for.
const HISTORIES: u64 = 2_000;
/// Histories that are worked off at once: the more, the less a case costs beside them.
const AT_ONCE: usize = 100;
/// Cases that are worked off at the same time, each in databases of its own.
const BENCHES: usize = 2;
/// In how many histories of a whole run each situation occurs at least.
const REACHED: usize = 10;
/// Attempts at making a case that failed smaller.
const ATTEMPTS: usize = 60;
/// No difference.
const NONE: [&str; 0] = [];

/// A case that failed leaves its entries behind, and the rows of thousands would take their time to verify.
const EMPTY: &str = "
    BEGIN;
    SET LOCAL session_replication_role = replica;
    TRUNCATE events, event_variants, event_exceptions, outbox_entries, links, sales, sale_items, debts, debt_payments,
        products, customers, cash_sessions, cash_ledger_entries, warehouse_stock, stock_movements, open_conflicts,
        conflict_audit_log, stores, devices, fiscal_series;
    COMMIT";

/// The same events twice: in order and at once in one database, anyhow in the other.
struct Bench {
    runtime: tokio::runtime::Runtime,
    ordered: Shop,
    anyhow: Shop,
    second_pod: Store,
    next_store: Cell<u128>,
    counts: Counts,
}

/// What is delivered, and how.
#[derive(Clone)]
struct Case {
    histories: Vec<History>,
    delivery: u64,
    /// Nothing else is a reason for a difference in between: no row is removed, no event has two forms.
    is_calm: bool,
}

impl Case {
    fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let is_calm = rng.random_bool(0.3);
        let mut teller = Teller::new(rng.random());
        let histories = (0..AT_ONCE).map(|_| teller.history(!is_calm)).collect();
        Case { histories, delivery: rng.random(), is_calm }
    }
}

#[test]
fn the_rows_do_not_depend_on_order_batches_repetitions_or_pods() {
    let seeds = seeds();
    let next = AtomicUsize::new(0);
    let mut reached: BTreeMap<String, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        let benches: Vec<_> = (0..BENCHES).map(|_| scope.spawn(|| work_off(&seeds, &next))).collect();
        for bench in benches {
            let counted = bench.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (what, count) in counted {
                *reached.entry(what).or_default() += count;
            }
        }
    });
    println!("{reached:#?}");
    if setting("VELOX_PROPTEST_SEED").is_none() && setting("VELOX_PROPTEST_CASES").is_none() {
        reached.retain(|_, count| *count < REACHED);
        assert_eq!(
            reached,
            BTreeMap::new(),
            "what occurred fewer than {REACHED} times in {HISTORIES} histories"
        );
    }
}

/// Works off cases until none is left. Answers in how many histories each situation occurred, and what was done how
/// often.
fn work_off(seeds: &[u64], next: &AtomicUsize) -> BTreeMap<String, usize> {
    let bench = Bench::open();
    let mut reached: BTreeMap<String, usize> =
        reached::ALL.iter().map(|what| ((*what).to_owned(), 0)).collect();
    while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
        let case = Case::of(*seed);
        for history in &case.histories {
            let store = Uuid::from_u128(1);
            for what in situations(store, &history.told(store)) {
                *reached.entry(what.to_owned()).or_default() += 1;
            }
        }
        if let Err(reason) = bench.try_case(&case) {
            // The other bench ends with the case that it is at.
            next.store(seeds.len(), Ordering::Relaxed);
            let again = format!("VELOX_PROPTEST_SEED={seed} ./dev test -p velox-store --test it order");
            // At once: it takes its time to make the case smaller.
            println!("{reason}\n{again}");
            let case = bench.smaller(case);
            panic!("{reason}\ndelivery {} of {:#?}\n{again}", case.delivery, case.histories);
        }
    }
    reached.extend(bench.counts.all());
    reached
}

/// The seeds of this run's cases.
fn seeds() -> Vec<u64> {
    if let Some(seed) = setting("VELOX_PROPTEST_SEED") {
        return vec![seed];
    }
    let known = include_str!("../regressions.txt").lines();
    let known =
        known.filter_map(|line| line.split('#').next().map(str::trim).filter(|seed| !seed.is_empty()));
    let known = known.map(|seed| seed.parse().unwrap_or_else(|_| panic!("{seed} is no seed")));
    let wanted = setting("VELOX_PROPTEST_CASES").unwrap_or(HISTORIES).div_ceil(AT_ONCE as u64);
    known.chain((0..wanted).map(|_| rand::random())).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration that it could come from")]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

impl Bench {
    fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (ordered, anyhow) = runtime.block_on(async { (Shop::open().await, Shop::open().await) });
        let second_pod = runtime.block_on(async { anyhow.pod() });
        Bench { runtime, ordered, anyhow, second_pod, next_store: Cell::new(1), counts: Counts::default() }
    }

    /// Why the case fails, if it does.
    fn try_case(&self, case: &Case) -> Result<(), String> {
        let outcome = self.runtime.block_on(AssertUnwindSafe(self.case(case)).catch_unwind());
        outcome.map_err(|panic| match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast_ref::<&str>().map_or("it panicked", |text| text).to_owned(),
        })
    }

    /// A part of a case that fails too: first fewer histories, then fewer events.
    fn smaller(&self, mut case: Case) -> Case {
        let mut attempts = 0;
        let mut try_without = |case: &mut Case, remove: &dyn Fn(&mut Case)| {
            let mut less = case.clone();
            remove(&mut less);
            attempts += 1;
            let fails = attempts <= ATTEMPTS && self.try_case(&less).is_err();
            if fails {
                *case = less;
            }
            fails
        };
        let mut size = case.histories.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at + size <= case.histories.len() {
                if !try_without(&mut case, &|less| drop(less.histories.drain(at..at + size))) {
                    at += size;
                }
            }
            size /= 2;
        }
        for history in 0..case.histories.len() {
            for event in (0..case.histories[history].0.len()).rev() {
                try_without(&mut case, &|less| drop(less.histories[history].0.remove(event)));
            }
        }
        case
    }

    async fn case(&self, case: &Case) {
        self.ordered.run(EMPTY).await;
        self.anyhow.run(EMPTY).await;
        let histories = case.histories.iter().map(|history| (self.fresh_store(), history));
        let told: BTreeMap<Uuid, Vec<Told>> = histories.map(|(id, h)| (id, h.told(id))).collect();
        let mut rng = StdRng::seed_from_u64(case.delivery);
        let delivery = Delivery {
            shop: &self.anyhow,
            second_pod: &self.second_pod,
            is_calm: case.is_calm,
            counts: &self.counts,
        };
        tokio::join!(
            self.deliver_in_order(&told),
            delivery.deliver(told.values().flatten().cloned().collect(), &mut rng)
        );
        for (store, events) in &told {
            let model = fold(*store, events);
            for (shop, how) in [(&self.ordered, "in order"), (&self.anyhow, "anyhow")] {
                let tables = shop.store.tables(*store).await.expect("a store's tables");
                assert_eq!(tables.differences(&model), NONE, "{how}, and by the model");
            }
        }
        assert_eq!(
            unseen(&self.anyhow.pool).await,
            unseen(&self.ordered.pool).await,
            "what the model does not show"
        );
        for shop in [&self.ordered, &self.anyhow] {
            assert_eq!(shop.store.verify(None).await.expect("a verification"), []);
        }
        let store = told.keys().nth(rng.random_range(0..told.len().max(1)));
        if let Some(store) = store {
            let rebuilt = self.anyhow.store.rebuild(*store).await.expect("a rebuild");
            assert_eq!(rebuilt.examples, [], "what was all right differs once it is rebuilt");
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
        let push = push(&all);
        self.ordered.store.ingest(std::slice::from_ref(&push)).await.expect("an ingest");
        self.ordered.project().await;
    }
}

/// What the model has no word for: registers, and all of an open conflict.
async fn unseen(pool: &PgPool) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', 'product', store_id, id, registers) AS row FROM products
               UNION ALL SELECT concat_ws(' ', 'customer', store_id, id, registers) FROM customers
               UNION ALL SELECT concat_ws(' ', 'session', store_id, id, registers) FROM cash_sessions
               UNION ALL SELECT concat_ws(' ', 'conflict', to_jsonb(c)) FROM open_conflicts c";
    let mut rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.expect(sql);
    rows.sort();
    rows
}
