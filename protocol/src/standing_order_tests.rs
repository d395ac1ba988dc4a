//! Over random small sets of events that reach every rule: order and repetition do not matter, and a set can be
//! resolved a connected part at a time, which is what a projector does.

use super::story::{STORE, events};
use crate::payload::{Link, Payload};
use crate::standing::absorb::Standing;
use crate::standing::{DebtStatus, Exception, Linked, Rows, resolve};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rust_decimal::Decimal;
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;

/// Histories over few ids, so that events meet in every way.
fn histories() -> impl Strategy<Value = Vec<Linked>> {
    let verb = prop_oneof![
        3 => "sale S[1-3]( fiao=C1)?( usd=[48])?( bs=[48])?( req=r[1-3])?( env=r[1-3])?( P[12]x[1-3]){0,2}",
        1 => "void S[1-3]",
        2 => "debt D[12]( sale=S[1-3])? (usd|bs|amount)=[1-8]( left=[1-4])?",
        2 => r"pay M[1-3] (D[12]|debt\(S[1-3]\)) (usd|bs|amount)=[1-5]( req=r[12])?( env=r[12])?",
        2 => "entry (L[12]|S[1-3]) (sale|income)( sale=S[1-3])?( req=r[1-3])?( sreq=r[1-3])?",
        1 => "stock (K[12]|-) P[12]x[1-3]( P[12]x[1-3]){0,2}",
        1 => "declare - home_node=[ns]",
        1 => "series F[12] next_number=[1-3]( owner_node=[ns])?",
    ];
    prop::collection::vec(("[1-6](/node|/b|)", verb), 0..14).prop_map(|lines| {
        let lines = lines.iter().enumerate().map(|(i, (place, verb))| format!("e{i}@{place} {verb}"));
        events(&lines.collect::<Vec<_>>().join("\n"))
    })
}

fn shuffled() -> impl Strategy<Value = (Vec<Linked>, Vec<Linked>)> {
    (histories(), prop::collection::vec(any::<prop::sample::Index>(), 0..4)).prop_flat_map(
        |(events, again)| {
            let mut more = events.clone();
            if !events.is_empty() {
                more.extend(again.iter().map(|index| index.get(&events).clone()));
            }
            (Just(events), Just(more).prop_shuffle())
        },
    )
}

/// The events that are connected to the first, by the links that a projector keeps; the others.
fn part(events: Vec<Linked>) -> (Vec<Linked>, Vec<Linked>) {
    let ids = |event: &Linked| -> Vec<(u8, Uuid)> {
        let links: Vec<Link> = event.payload.links(STORE, event.request_id.as_deref());
        links.iter().map(|link| (link.kind.space(), link.id)).collect()
    };
    let mut rest = events;
    let mut connected = vec![rest.remove(0)];
    let mut known: HashSet<(u8, Uuid)> = ids(&connected[0]).into_iter().collect();
    while let Some(at) = rest.iter().position(|event| ids(event).iter().any(|id| known.contains(id))) {
        let event = rest.remove(at);
        known.extend(ids(&event));
        connected.push(event);
    }
    (connected, rest)
}

fn resolved_by_parts(mut events: Vec<Linked>) -> Rows {
    let mut all = Rows::default();
    while !events.is_empty() {
        let (connected, rest) = part(events);
        let rows = resolve(STORE, &connected);
        all.sales.extend(rows.sales);
        all.debts.extend(rows.debts);
        all.payments.extend(rows.payments);
        all.ledger.extend(rows.ledger);
        all.movements.extend(rows.movements);
        all.stores.extend(rows.stores);
        all.series.extend(rows.series);
        all.exceptions.extend(rows.exceptions);
        events = rest;
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_any_repetition_make_equal_rows((events, other) in shuffled()) {
        prop_assert_eq!(resolve(STORE, &other), resolve(STORE, &events));
    }

    #[test]
    fn a_connected_part_makes_the_same_rows_as_the_whole(events in histories()) {
        prop_assert_eq!(resolved_by_parts(events.clone()), resolve(STORE, &events));
    }

    #[test]
    fn every_event_makes_a_row_or_has_its_reason(events in histories()) {
        let rows = resolve(STORE, &events);
        for event in &events {
            let id = &event.key.event_id;
            let shown = rows.sales.values().any(|r| r.event_id == *id || r.void.as_ref().is_some_and(|v| v.event_id == *id))
                || rows.debts.values().any(|r| r.event_id.as_ref() == Some(id))
                || rows.payments.values().any(|r| r.event_id == *id)
                || rows.ledger.values().any(|r| r.event_id == *id)
                || rows.movements.values().any(|r| r.event_id == *id)
                || rows.stores.values().any(|r| r.declared_by == *id)
                || rows.series.values().any(|r| r.declared_by == *id);
            match rows.exceptions.get(id) {
                None => prop_assert!(shown, "{}", id),
                // Only a payment has its row while it waits.
                Some(Exception::Waiting(_)) => prop_assert_eq!(shown, rows.payments.values().any(|r| r.event_id == *id)),
                Some(Exception::Absorbed(by)) => {
                    prop_assert!(!shown, "{}", id);
                    prop_assert!(!matches!(rows.exceptions.get(by), Some(Exception::Absorbed(_))), "{} by {}", id, by);
                }
            }
        }
    }

    #[test]
    fn what_stands_is_what_rule_3_says(links in prop::collection::vec(prop::collection::btree_set(0..6_u8, 0..4), 0..9)) {
        let standing = Standing::new(
            &links.iter().map(|ids| ids.iter().map(|id| (0, Uuid::from_u128((*id).into()))).collect()).collect::<Vec<_>>(),
        );
        for i in 0..links.len() {
            prop_assert_eq!(standing.of(i), stand(&links, i));
        }
    }
}

/// Rule 3 word by word.
fn stand(links: &[BTreeSet<u8>], x: usize) -> usize {
    let smaller = (0..x).find(|y| !links[*y].is_disjoint(&links[x]));
    smaller.map_or(x, |y| stand(links, y))
}

#[test]
fn the_random_histories_reach_every_rule() {
    let mut runner = TestRunner::deterministic();
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    for _ in 0..1_000 {
        let events = histories().new_tree(&mut runner).expect("a history").current();
        let rows = resolve(STORE, &events);
        for event in &events {
            let kind = match (&event.payload, rows.exceptions.get(&event.key.event_id)) {
                (Payload::Sale(_), Some(_)) => "absorbed sale",
                (Payload::Void(_), Some(Exception::Absorbed(_))) => "absorbed void",
                (Payload::Void(_), Some(Exception::Waiting(_))) => "waiting void",
                (Payload::Debt(_), Some(_)) => "absorbed debt",
                (Payload::Payment(_), Some(Exception::Absorbed(_))) => "absorbed payment",
                (Payload::Payment(_), Some(Exception::Waiting(_))) => "waiting payment",
                (Payload::Ledger(_), Some(_)) => "absorbed entry",
                (Payload::Stock(_), Some(_)) => "absorbed movement",
                (Payload::Store(_), Some(_)) => "absorbed store",
                (Payload::Store(_), None) => "declared store",
                (Payload::Series(_), Some(_)) => "absorbed series",
                (Payload::Series(_), None) => "declared series",
                _ => continue,
            };
            reached.insert(kind);
        }
        reached.extend(rows.sales.values().filter(|s| s.void.is_some()).map(|_| "voided sale"));
        for debt in rows.debts.values() {
            reached.insert(if debt.derived { "derived debt" } else { "stated debt" });
            reached.insert(debt.status.name());
            if debt.overpaid_amount > Decimal::ZERO && debt.status == DebtStatus::Paid {
                reached.insert("overpaid debt");
            }
        }
    }
    let all = [
        "absorbed debt",
        "absorbed entry",
        "absorbed movement",
        "absorbed payment",
        "absorbed sale",
        "absorbed series",
        "absorbed store",
        "absorbed void",
        "cancelled",
        "declared series",
        "declared store",
        "derived debt",
        "overpaid debt",
        "paid",
        "partial",
        "pending",
        "stated debt",
        "voided sale",
        "waiting payment",
        "waiting void",
    ];
    assert_eq!(reached, all.into());
}
