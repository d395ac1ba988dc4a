//! Events brought anyhow: in any order and any batches, again and again, by two pods at once; with claims that are
//! given up, entries that die, rows that are lost, and tables that are rebuilt meanwhile.

use crate::shop::{Shop, push};
use crate::story::Told;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use sqlx::AssertSqlSafe;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;
use velox_store::{IngestOutcome, RetryPolicy, Store};

/// An entry of ours dies of its first failure.
const MORTAL: RetryPolicy = RetryPolicy { max_retries: 1, base: Duration::ZERO };

/// A table, and by which events a row of it (`r`) comes back.
const LOSSES: [(&str, &str); 14] = [
    ("sales", "SELECT r.event_id"),
    ("sale_items", "SELECT s.event_id FROM sales s WHERE s.store_id = r.store_id AND s.id = r.sale_id"),
    (
        "debts",
        "SELECT coalesce(r.event_id, (SELECT s.event_id FROM sales s WHERE s.store_id = r.store_id AND s.id = r.sale_id))",
    ),
    ("debt_payments", "SELECT r.event_id"),
    ("cash_ledger_entries", "SELECT r.event_id"),
    ("stock_movements", "SELECT r.event_id"),
    (
        "warehouse_stock",
        "SELECT m.event_id FROM stock_movements m WHERE (m.store_id, m.product_id, m.variant_id, m.warehouse_id)
             = (r.store_id, r.product_id, r.variant_id, r.warehouse_id) LIMIT 1",
    ),
    ("products", "SELECT l.event_id FROM links l WHERE l.store_id = r.store_id AND l.id = r.id AND l.kind = 14 LIMIT 1"),
    ("customers", "SELECT l.event_id FROM links l WHERE l.store_id = r.store_id AND l.id = r.id AND l.kind = 15 LIMIT 1"),
    (
        "cash_sessions",
        "SELECT l.event_id FROM links l WHERE l.store_id = r.store_id AND l.id = r.id AND l.kind = 16 LIMIT 1",
    ),
    ("open_conflicts", "SELECT r.winner_event_id"),
    ("stores", "SELECT r.declared_by"),
    ("fiscal_series", "SELECT r.declared_by"),
    ("event_exceptions", "SELECT r.event_id"),
];

/// All that is done to the deliveries of a run, but for the rows that are lost.
const DONE: [&str; 7] =
    ["repetition", "other form", "replay", "claim given up", "entry died", "rebuild", "verification"];

/// How often what was done to the deliveries of a run.
#[derive(Debug, Default)]
pub(crate) struct Counts(RefCell<BTreeMap<String, usize>>);

impl Counts {
    fn add(&self, what: &str) {
        *self.0.borrow_mut().entry(what.to_owned()).or_default() += 1;
    }

    /// What was done, and how often; what was not done is there too.
    pub(crate) fn all(&self) -> BTreeMap<String, usize> {
        let done = self.0.borrow();
        let lost = LOSSES.iter().map(|(table, _)| format!("row lost of {table}"));
        let all = DONE.into_iter().map(str::to_owned).chain(lost);
        all.map(|what| (what.clone(), done.get(&what).copied().unwrap_or(0))).collect()
    }
}

/// How a case's events are brought.
pub(crate) struct Delivery<'a> {
    pub(crate) shop: &'a Shop,
    pub(crate) second_pod: &'a Store,
    /// Tables and events agree at any moment.
    pub(crate) is_calm: bool,
    pub(crate) counts: &'a Counts,
}

impl Delivery<'_> {
    /// Two senders, one a pod, with repetitions; two projectors beside them.
    pub(crate) async fn deliver(&self, mut events: Vec<Told>, rng: &mut StdRng) {
        let ids: BTreeSet<(Uuid, String)> =
            events.iter().map(|told| (told.event.store_id, told.event.event_id.clone())).collect();
        for _ in 0..events.len() / 6 {
            events.extend(events.choose(rng).cloned());
        }
        events.shuffle(rng);
        let (one, other) = events.split_at(rng.random_range(0..=events.len()));
        let senders = Cell::new(2);
        // With retention, entries stay in the queue.
        let keep = rng.random_bool(0.3);
        let mut rngs: [StdRng; 4] = std::array::from_fn(|_| StdRng::from_rng(rng));
        let [a, b, c, d] = &mut rngs;
        let pods = [&self.shop.store, self.second_pod];
        let (new, more, (), ()) = tokio::join!(
            self.send(pods[0], one, a, &senders),
            self.send(pods[1], other, b, &senders),
            self.work(pods[0], c, &senders, keep),
            self.work(pods[1], d, &senders, keep),
        );
        assert_eq!(new + more, ids.len(), "each event is new once");
        self.revive().await;
        self.shop.project().await;
        assert_eq!(self.shop.store.outbox_counts().await.expect("counts"), [], "nothing is left");
    }

    /// Queues what died.
    async fn revive(&self) {
        let sql = "SELECT store_id, event_id FROM outbox_entries WHERE status = 'dead'";
        let dead: Vec<(Uuid, String)> = sqlx::query_as(sql).fetch_all(&self.shop.pool).await.expect(sql);
        for (store_id, event_id) in dead {
            let queued = self.shop.store.requeue_projection(store_id, &[event_id]).await.expect("a requeue");
            assert_eq!(queued, 1);
        }
    }

    /// Sends pushes of any size, and now and then does something else. Answers how many events were new.
    async fn send(&self, store: &Store, events: &[Told], rng: &mut StdRng, senders: &Cell<u32>) -> usize {
        let most = *[2, 10, 80].choose(rng).expect("a size");
        let mut new = 0;
        let mut rest = events;
        while !rest.is_empty() {
            let (group, later) = rest.split_at(rng.random_range(1..=most.min(rest.len())));
            rest = later;
            let (first, second) = group.split_at(rng.random_range(0..=group.len()));
            let pushes = [push(first), push(second)];
            let ingested = store.ingest(&pushes).await.expect("an ingest");
            for outcome in ingested.outcomes() {
                match outcome {
                    IngestOutcome::New { .. } => new += 1,
                    IngestOutcome::Duplicate => self.counts.add("repetition"),
                    IngestOutcome::OtherContent => self.counts.add("other form"),
                }
            }
            let one = group.choose(rng).expect("an event").event.store_id;
            let now_and_then = f64::from(u32::try_from(group.len()).expect("so many events"));
            let mut happens = |often: f64| rng.random_bool((often * now_and_then).min(1.0));
            if happens(0.06) {
                let again = group.iter().filter(|told| told.event.store_id == one);
                let ids: Vec<String> = again.map(|told| told.event.event_id.clone()).collect();
                store.requeue_projection(one, &ids).await.expect("a requeue");
                self.counts.add("replay");
            }
            let (rebuilt, verified, lost) = (happens(0.001), happens(0.003), happens(0.05));
            if rebuilt {
                self.rebuild(store, one).await;
            }
            if verified && self.is_calm {
                assert_eq!(store.verify(None).await.expect("a verification"), [], "in between");
                self.counts.add("verification");
            }
            if lost && !self.is_calm {
                self.lose(store, rng).await;
            }
        }
        senders.set(senders.get() - 1);
        new
    }

    async fn rebuild(&self, store: &Store, store_id: Uuid) {
        let rebuilt = store.rebuild(store_id).await.expect("a rebuild");
        assert!(!self.is_calm || rebuilt.examples.is_empty(), "in between: {rebuilt:#?}");
        self.counts.add("rebuild");
    }

    /// A row is lost, and the events that it comes from are projected again.
    async fn lose(&self, store: &Store, rng: &mut StdRng) {
        let (table, events) = LOSSES.choose(rng).expect("a table");
        let sql = format!(
            "WITH one AS (SELECT ctid FROM {table} ORDER BY random() LIMIT 1)
             DELETE FROM {table} r USING one WHERE r.ctid = one.ctid RETURNING r.store_id, ({events})"
        );
        let lost: Option<(Uuid, Option<String>)> =
            sqlx::query_as(AssertSqlSafe(sql.as_str())).fetch_optional(&self.shop.pool).await.expect(&sql);
        let Some((store_id, event)) = lost else { return };
        let events = match event {
            Some(event) => vec![event],
            // Its event is not to be seen: it is about to be projected, or lost itself.
            None => {
                let sql = "SELECT event_id FROM events WHERE store_id = $1";
                sqlx::query_scalar(sql).bind(store_id).fetch_all(&self.shop.pool).await.expect(sql)
            }
        };
        store.requeue_projection(store_id, &events).await.expect("a requeue");
        self.counts.add(&format!("row lost of {table}"));
    }

    /// Projects until nothing is sent and nothing is due any more; now and then a claim is given up, or an entry dies.
    async fn work(&self, store: &Store, rng: &mut StdRng, senders: &Cell<u32>, keep: bool) {
        let most = *[2, 10, 100].choose(rng).expect("a size");
        loop {
            let last = senders.get() == 0;
            let mut entities = store.entities_with_work().await.expect("names");
            if entities.is_empty() && last {
                return;
            }
            entities.shuffle(rng);
            for entity in entities {
                let limit = rng.random_range(1..=most);
                let claim = store.claim_projection(&entity, limit, keep).await.expect("a claim");
                let Some(claim) = claim else { continue };
                match rng.random_range(0..40) {
                    0 => {
                        drop(claim);
                        self.counts.add("claim given up");
                    }
                    1 => {
                        let one = claim.entries[0].clone();
                        drop(claim);
                        let died =
                            store.fail_projection(one.store_id, &one.event_id, 1, "it broke", MORTAL).await;
                        assert_ne!(died.expect("a failure"), Some(false));
                        self.counts.add("entry died");
                    }
                    _ => drop(claim.project().await.expect("a projection")),
                }
            }
        }
    }
}
