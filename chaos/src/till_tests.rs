use super::*;
use std::collections::{BTreeMap, HashSet};
use velox_protocol::api::PushBody;
use velox_protocol::event::{self, Received, Sender};
use velox_protocol::payload::Payload;

fn till(seed: u64) -> Till {
    let mut rng = StdRng::seed_from_u64(seed);
    let shop = Shop::new(&mut rng);
    Till::new(&shop, DateTime::from_timestamp_millis(1_763_950_000_000).expect("time"), &mut rng)
}

fn received(push: &Push) -> Vec<Received> {
    let body: PushBody<'_> = serde_json::from_str(&push.body).expect("a push");
    let sender = Sender {
        store_id: body.store_id.parse().expect("a UUID"),
        device_id: &body.device_id,
        client_version: "1.0.0",
        user_id: None,
        now: DateTime::from_timestamp_millis(1_763_951_000_000).expect("time"),
    };
    body.events.iter().map(|text| event::read(text.get(), &sender).expect("sound")).collect()
}

#[test]
fn the_node_has_nothing_to_remark() {
    let mut till = till(1);
    let pushes = [till.opening(), till.products(), till.push(2_000)];
    for push in &pushes {
        let received = received(push);
        let ids: Vec<_> = received.iter().map(|r| r.event.event_id.clone()).collect();
        assert_eq!(ids, push.event_ids);
        for one in received {
            assert_eq!(one.warnings, []);
            assert!(one.meaning.is_some(), "{}", one.event.event_type);
            let critical = catalogue::find(&one.event.event_type).is_some_and(|info| info.critical);
            assert_eq!(one.event.sent_hash.is_some(), critical);
            assert_eq!(one.event.delta_payload.as_ref(), critical.then_some(&one.event.payload));
        }
    }
}

#[test]
fn the_mix_is_what_it_says() {
    assert_eq!(MIX.iter().map(|(_, share)| share).sum::<u32>(), 100);
    let mut counts = BTreeMap::new();
    for one in received(&till(2).push(2_000)) {
        *counts.entry(one.event.event_type).or_insert(0) += 1;
    }
    assert!((1_300..1_500).contains(&counts["SaleCreated"]), "{counts:?}");
    assert_eq!(counts.len(), MIX.len(), "{counts:?}");
}

#[test]
fn ids_are_unique_and_a_payment_follows_its_debt() {
    let mut till = till(3);
    let (mut seen, mut debts, mut payments) = (HashSet::new(), HashSet::new(), 0);
    for _ in 0..20 {
        for one in received(&till.push(200)) {
            assert!(seen.insert(one.event.event_id));
            match one.meaning {
                Some(Payload::Debt(debt)) => assert!(debts.insert(debt.debt_id)),
                Some(Payload::Payment(payment)) => {
                    assert!(debts.contains(&payment.debt_id));
                    payments += 1;
                }
                _ => {}
            }
        }
    }
    assert!(payments > debts.len(), "{payments} payments of {} debts", debts.len());
}

#[test]
fn a_push_without_its_events_is_a_push() {
    let push = till(6).push(3);
    assert_eq!(received(&push).len(), 3);
    assert_eq!(received(&Push { event_ids: Vec::new(), body: push.without_events() }).len(), 0);
}

#[test]
fn one_seed_is_one_day() {
    assert_eq!(till(4).push(50).body, till(4).push(50).body);
    assert_ne!(till(4).push(50).body, till(5).push(50).body);
}
