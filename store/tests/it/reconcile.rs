//! What two logs lack of each other, on two databases of the real store.

use crate::digests::insert_many;
use crate::shop::{Shop, push};
use crate::story::{self, Told};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use uuid::Uuid;
use velox_protocol::reconcile::{Ask, EventName, MAX_MESSAGE, Malformed, Request, Scope};
use velox_store::{AnswerError, Portion, ReconcileError, Store, Summary};

type Ids = BTreeSet<String>;

/// What a run has told.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    there: Ids,
    here: Ids,
    summary: Summary,
    /// The longest list of a portion.
    longest: usize,
}

/// Carries requests to a peer, through their bytes.
async fn carry(peer: &Store, message: Vec<u8>) -> Result<Vec<u8>, Infallible> {
    assert!(message.len() <= MAX_MESSAGE);
    let request = Request::decode(&message).expect("a sound request");
    let answer = peer.answer_reconcile(&request).await.expect("an answer");
    assert!(answer.len() <= MAX_MESSAGE);
    Ok(answer)
}

/// A whole run of one store against another.
async fn run(here: &Store, there: &Store, store_id: Uuid) -> Difference {
    let mut difference = Difference::default();
    let mut run = here.reconciliation(store_id);
    let mut exchange = async |message| carry(there, message).await;
    while let Some(portion) = run.next(&mut exchange).await.expect("a portion") {
        difference.add(portion);
    }
    difference.summary = run.summary();
    difference
}

impl Difference {
    fn add(&mut self, portion: Portion) {
        self.longest = self.longest.max(portion.missing_there.len()).max(portion.missing_here.len());
        let ids = |names: Vec<EventName>| names.into_iter().map(|name| name.event_id);
        self.there.extend(ids(portion.missing_there));
        self.here.extend(ids(portion.missing_here));
    }

    fn bytes(&self) -> u64 {
        self.summary.bytes_sent + self.summary.bytes_received
    }
}

fn ids(ids: &[&str]) -> Ids {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn many(range: std::ops::RangeInclusive<u32>) -> Ids {
    range.map(|n| format!("many-{n}")).collect()
}

/// Runs both ways, which tell the same.
async fn both_ways(one: &Shop, other: &Shop) -> (Ids, Ids) {
    let told = run(&one.store, &other.store, one.id).await;
    let back = run(&other.store, &one.store, one.id).await;
    assert_eq!((&told.there, &told.here), (&back.here, &back.there), "the other way around");
    assert!(told.longest <= 2_000 && back.longest <= 2_000);
    (told.there, told.here)
}

async fn two() -> (Shop, Shop) {
    (Shop::open().await, Shop::open().await)
}

/// The same statement on both.
async fn on_both(one: &Shop, other: &Shop, sql: &str) {
    one.run(sql).await;
    other.run(sql).await;
}

#[tokio::test]
async fn equal_logs_cost_one_round_of_few_bytes() {
    let (one, other) = two().await;
    assert_eq!(both_ways(&one, &other).await, (ids(&[]), ids(&[])), "both empty");
    // A month, and the same in other statements.
    one.run(&insert_many(one.id, 3, 1, 3_000, 4)).await;
    for first in [2_001, 1_001, 1] {
        other.run(&insert_many(one.id, 3, first, first + 999, 4)).await;
    }
    let told = run(&one.store, &other.store, one.id).await;
    assert_eq!((told.summary.rounds, told.there.len() + told.here.len()), (1, 0));
    assert!(told.bytes() < 300, "{}", told.bytes());
    // What another store has is none of it.
    other.run(&insert_many(Uuid::nil(), 3, 1, 30, 4)).await;
    assert_eq!(run(&one.store, &other.store, one.id).await, told);
}

#[tokio::test]
async fn what_is_missing_on_either_side_is_told_with_its_type() {
    let (one, other) = two().await;
    for (shop, history) in
        [(&one, "a@1 sale S1\nb@2 sale S2\nc@3 void S1"), (&other, "a@1 sale S1\nd@4 Odd P1")]
    {
        shop.tell(history).await;
    }
    let mut run = one.store.reconciliation(one.id);
    let mut exchange = async |message| carry(&other.store, message).await;
    let name = |id: &str, of: &str| EventName { event_id: id.to_owned(), event_type: of.to_owned() };
    let mut portions = Vec::new();
    while let Some(portion) = run.next(&mut exchange).await.expect("a portion") {
        portions.push(portion);
    }
    let there = portions.iter().flat_map(|portion| portion.missing_there.clone()).collect::<Vec<_>>();
    let here = portions.iter().flat_map(|portion| portion.missing_here.clone()).collect::<Vec<_>>();
    assert_eq!(there, [name("b", "SaleCreated"), name("c", "SaleVoided")]);
    assert_eq!(here, [name("d", "Odd")]);
}

#[tokio::test]
async fn ten_that_are_missing_each_way_are_found_in_years_of_events() {
    let (one, other) = two().await;
    // Three an hour from 2026 to 2027.
    on_both(&one, &other, &insert_many(one.id, 6, 1, 20_000, 3)).await;
    for (shop, first) in [(&one, 1_111), (&other, 2_222)] {
        shop.run(&format!("INSERT INTO events SELECT store_id, event_id || '-' || seq, device_id, seq, type, version,
            payload, payload_hash, sent_hash, delta_payload, vector_clock, causal_dependencies, causal_digest, request_id,
            actor_user_id, actor_role, created_at, received_at, origin_node, trace_parent
            FROM events WHERE seq >= {first} AND (seq - {first}) % 1789 = 0 AND seq < {first} + 17890")).await;
    }
    let expected =
        |first: u32| -> Ids { (0..10).map(|n| first + n * 1_789).map(|n| format!("many-{n}-{n}")).collect() };
    assert_eq!(both_ways(&one, &other).await, (expected(1_111), expected(2_222)));
    let told = run(&one.store, &other.store, one.id).await;
    assert!(told.bytes() < 64 << 10 && told.summary.rounds <= 10, "{:?}", told.summary);
}

#[tokio::test]
async fn ten_that_are_missing_each_way_are_found_in_one_day_of_very_many() {
    let (one, other) = two().await;
    let insert = insert_many(one.id, 3, 1, 40_000, 100_000);
    one.run(&format!("{insert} WHERE i % 4000 <> 7")).await;
    other.run(&format!("{insert} WHERE i % 4000 <> 9")).await;
    let expected = |rest: u32| -> Ids { (0..10).map(|n| format!("many-{}", n * 4_000 + rest)).collect() };
    assert_eq!(both_ways(&one, &other).await, (expected(9), expected(7)));
    let told = run(&one.store, &other.store, one.id).await;
    assert!(told.bytes() < 64 << 10 && told.summary.rounds <= 10, "{:?}", told.summary);
}

#[tokio::test]
async fn thousands_that_are_scattered_over_a_day_are_all_found() {
    let (one, other) = two().await;
    let insert = insert_many(one.id, 3, 1, 20_000, 100_000);
    one.run(&format!("{insert} WHERE i % 3 <> 0")).await;
    other.run(&format!("{insert} WHERE i % 3 <> 1")).await;
    let expected =
        |rest: u32| -> Ids { (1..=20_000).filter(|n| n % 3 == rest).map(|n| format!("many-{n}")).collect() };
    assert_eq!(both_ways(&one, &other).await, (expected(1), expected(0)));
}

#[tokio::test]
async fn forms_are_compared_wherever_they_stand() {
    let (one, other) = two().await;
    let forms = "a@2 sale S1 usd=1\na@1 sale S1 usd=1\na@2 sale S1 usd=2";
    let mut told = story::events(one.id, forms);
    for form in &told {
        one.store.ingest(&[push(std::slice::from_ref(form))]).await.expect("an ingest");
    }
    told.reverse();
    for form in &told {
        other.store.ingest(&[push(std::slice::from_ref(form))]).await.expect("an ingest");
    }
    let first = "SELECT payload::text || created_at FROM events";
    assert_ne!(one.value::<String>(first).await, other.value::<String>(first).await);
    assert_eq!(both_ways(&one, &other).await, (ids(&[]), ids(&[])), "all forms, met in another order");
    one.tell("a@2 sale S1 usd=3\na@2 sale S1 usd=4").await;
    assert_eq!(
        both_ways(&one, &other).await,
        (ids(&["a"]), ids(&[])),
        "forms that one side lacks are one event"
    );
    other.tell("a@2 void S1").await;
    assert_eq!(
        both_ways(&one, &other).await,
        (ids(&["a"]), ids(&["a"])),
        "each side has one that the other lacks"
    );
    other.tell("a@2 sale S1 usd=3\na@2 sale S1 usd=4").await;
    one.tell("a@2 void S1").await;
    assert_eq!(both_ways(&one, &other).await, (ids(&[]), ids(&[])));
}

#[tokio::test]
async fn days_that_one_side_lacks_whole_are_told_in_portions() {
    let (one, other) = two().await;
    on_both(&one, &other, &insert_many(one.id, 3, 1, 100, 10)).await;
    one.run(&insert_many(one.id, 4, 10_001, 19_000, 50_000)).await;
    other.run(&insert_many(one.id, 7, 20_001, 24_100, 100)).await;
    assert_eq!(both_ways(&one, &other).await, (many(10_001..=19_000), many(20_001..=24_100)));
}

#[tokio::test]
async fn a_peer_with_an_empty_log_lacks_everything() {
    let (one, other) = two().await;
    one.run(&insert_many(one.id, 3, 1, 9_000, 7)).await;
    one.run(&insert_many(one.id, 4, 10_001, 16_000, 90_000)).await;
    let all = many(1..=9_000).union(&many(10_001..=16_000)).cloned().collect();
    assert_eq!(both_ways(&one, &other).await, (all, ids(&[])));
}

#[tokio::test]
async fn a_list_goes_on_past_what_the_digests_say() {
    let (one, other) = two().await;
    one.run(&insert_many(one.id, 3, 1, 5_000, 90_000)).await;
    one.store.fold_digests(one.id).await.expect("a fold");
    one.run("UPDATE event_days SET count = 1").await;
    assert_eq!(both_ways(&one, &other).await, (many(1..=5_000), ids(&[])));
}

#[tokio::test]
async fn names_that_one_answer_does_not_take_come_with_the_next() {
    let (one, other) = two().await;
    // Two days of 1.4 MB of ids; the other side has something of the second day.
    let long = "repeat('🙂', 240) || i";
    let insert = insert_many(one.id, 3, 1, 2_800, 60).replace("'many-' || i", long);
    one.run(&insert).await;
    other.tell("a@1 sale S1").await;
    other.run(&insert_many(one.id, 3, 1_500, 1_500, 60)).await;
    let expected = (1..=2_800).map(|n| format!("{}{n}", "🙂".repeat(240))).collect();
    assert_eq!(both_ways(&one, &other).await, (expected, ids(&["a", "many-1500"])));
}

#[tokio::test]
async fn what_an_operator_removed_is_found() {
    let (one, other) = two().await;
    on_both(&one, &other, &insert_many(one.id, 3, 1, 20_000, 1_000)).await;
    assert_eq!(both_ways(&one, &other).await, (ids(&[]), ids(&[])));
    other
        .run(
            "BEGIN; SET LOCAL session_replication_role = replica;
               DELETE FROM events WHERE seq IN (5, 7000, 19999); COMMIT",
        )
        .await;
    assert_eq!(both_ways(&one, &other).await, (ids(&["many-19999", "many-5", "many-7000"]), ids(&[])));
}

#[tokio::test]
async fn digests_that_are_wrong_on_either_side_are_mended_and_tell_nothing() {
    let (one, other) = two().await;
    on_both(&one, &other, &insert_many(one.id, 3, 1, 20_000, 300)).await;
    on_both(&one, &other, &insert_many(one.id, 5, 20_001, 20_100, 300)).await;
    for (spoiled, day) in [(&one, 1), (&other, 2)] {
        run(&one.store, &other.store, one.id).await;
        spoiled
            .run(&format!(
                "UPDATE event_digests SET hash_a = 7 WHERE day IN ('2026-03-{day:02}', '2026-05-03')
                                  AND bucket % 2 = 0"
            ))
            .await;
        spoiled
            .run(
                "UPDATE event_days d SET hash_a = (SELECT bit_xor(b.hash_a) FROM event_digests b
                     WHERE b.store_id = d.store_id AND b.day = d.day)",
            )
            .await;
        let told = run(&one.store, &other.store, one.id).await;
        assert_eq!((told.there.len(), told.here.len(), told.summary.mended), (0, 0, 2));
        assert_eq!(run(&one.store, &other.store, one.id).await.summary.rounds, 1, "equal again");
    }
}

#[tokio::test]
async fn what_was_missing_is_found_though_both_logs_grow() {
    let (one, other) = two().await;
    on_both(&one, &other, &insert_many(one.id, 3, 1, 10_000, 20_000)).await;
    one.run(&insert_many(one.id, 3, 20_001, 20_010, 90_000)).await;
    other.run(&insert_many(one.id, 3, 30_001, 30_010, 90_000)).await;
    let mut run = one.store.reconciliation(one.id);
    let mut round = 0;
    let mut exchange = async |message| {
        round += 1;
        let history: String = (0..30).map(|n| format!("r{round}-{n}@{n} sale S{n} usd=1\n")).collect();
        one.tell(&history).await;
        other.run(&insert_many(one.id, 3, 100_000 + round * 100, 100_050 + round * 100, 200_000)).await;
        carry(&other.store, message).await
    };
    let mut difference = Difference::default();
    while let Some(portion) = run.next(&mut exchange).await.expect("a portion") {
        difference.add(portion);
    }
    assert!(run.summary().rounds < 30, "{:?}", run.summary());
    assert!(difference.there.is_superset(&many(20_001..=20_010)), "{:?}", difference.there);
    assert!(difference.here.is_superset(&many(30_001..=30_010)), "{:?}", difference.here);
}

#[tokio::test]
async fn a_failure_on_the_way_ends_the_run() {
    let (one, other) = two().await;
    one.tell("a@1 sale S1").await;
    let mut lost = async |_: Vec<u8>| Err::<Vec<u8>, _>("the line is down");
    let error = one.store.reconciliation(one.id).next(&mut lost).await.expect_err("a failure");
    assert!(matches!(error, ReconcileError::Exchange("the line is down")), "{error:?}");
    for (answer, expected) in [
        (vec![], "Malformed(Version)"),
        (vec![2, 65], "Malformed(Version)"),
        (vec![1, 65], "Set(ParseEndsPrematurely)"),
        (vec![1, 65, 1, 2, 3], "Set(InvalidProtocolVersion)"),
        (vec![1, 68, 0, 0], "Unexpected"),
    ] {
        let mut wrong = async |_: Vec<u8>| Ok::<_, Infallible>(answer.clone());
        let error = one.store.reconciliation(one.id).next(&mut wrong).await.expect_err("a failure");
        assert_eq!(format!("{error:?}"), expected);
    }
    for (message, is_sound) in
        [(vec![], false), (vec![0x61], true), (vec![0x61, 0, 0, 2, 0x7f], false), (vec![0], false)]
    {
        let ask = Ask::Compare { scope: Scope::Years, message };
        let answer = other.store.answer_reconcile(&Request { store_id: one.id, ask }).await;
        match answer {
            Ok(_) => assert!(is_sound),
            Err(error) => assert!(!is_sound && matches!(error, AnswerError::Malformed(_)), "{error:?}"),
        }
    }
    assert_eq!(Request::decode(&[]), Err(Malformed::Version));
}

/// A few events in a few forms, on a few days; whether each side has it.
fn histories() -> impl Strategy<Value = Vec<(String, bool, bool)>> {
    let line =
        (0..30_u32, 0..4_u64, 1..4_u32, any::<(bool, bool)>()).prop_map(|(id, day, usd, (one, other))| {
            (format!("e{id}@{} sale S1 usd={usd}", day * 200 * 86_400_000), one, other)
        });
    proptest::collection::vec(line, 0..80)
}

/// What is the case of sets of forms: the events of which a side lacks one.
fn expected(lines: &[(String, bool, bool)]) -> (Ids, Ids) {
    let side = |of: fn(&(String, bool, bool)) -> bool| -> BTreeSet<&str> {
        lines.iter().filter(|line| of(line)).map(|line| line.0.as_str()).collect()
    };
    let (one, other) = (side(|line| line.1), side(|line| line.2));
    let events = |forms: Vec<&&str>| {
        forms.iter().filter_map(|form| form.split('@').next()).map(str::to_owned).collect()
    };
    (events(one.difference(&other).collect()), events(other.difference(&one).collect()))
}

#[test]
fn the_difference_is_that_of_the_sets() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (one, other) = runtime.block_on(two());
    let next_store = Cell::new(0_u128);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(60)
    });
    let checked = runner.run(&histories(), |lines| {
        next_store.set(next_store.get() + 1);
        let store_id = Uuid::from_u128(next_store.get());
        let told = |of: fn(&(String, bool, bool)) -> bool| -> Vec<Told> {
            let lines = lines.iter().filter(|line| of(line)).map(|line| line.0.as_str());
            story::events(store_id, &lines.collect::<Vec<_>>().join("\n"))
        };
        let (here, there) = runtime.block_on(async {
            for (shop, told) in [(&one, told(|line| line.1)), (&other, told(|line| line.2))] {
                shop.store.ingest(&[push(&told)]).await.expect("an ingest");
            }
            (run(&one.store, &other.store, store_id).await, run(&other.store, &one.store, store_id).await)
        });
        prop_assert_eq!((&here.there, &here.here), (&there.here, &there.there));
        prop_assert_eq!((here.there, here.here), expected(&lines));
        Ok(())
    });
    checked.expect("the difference of the sets");
}
