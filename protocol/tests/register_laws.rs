//! Registers converge: writes commute, associate and repeat without effect, whatever the clocks and keys.

use chrono::DateTime;
use proptest::prelude::*;
use std::collections::BTreeMap;
use velox_protocol::clock::{Key, VectorClock};
use velox_protocol::crdt::register::{Registers, Stamp};

type Write = (Stamp, Vec<(String, String)>);

/// Few devices, counters, times and fields, so that every relation between two writes occurs often.
fn writes() -> impl Strategy<Value = Vec<Write>> {
    let clock = prop::collection::btree_map(0..3_u8, 0..3_i64, 0..=3);
    let fields = prop::collection::btree_map(0..3_u8, 0..3_u8, 0..=3);
    let one = (clock, 0..4_i64, 0..3_u8, fields);
    prop::collection::vec(one, 0..9).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(i, (clock, ms, device, fields))| {
                let key = Key {
                    created_at: DateTime::from_timestamp_millis(ms).expect("time"),
                    device_id: format!("d{device}"),
                    event_id: format!("e{i}"),
                };
                let clock = VectorClock(clock.into_iter().map(|(d, n)| (format!("d{d}"), n)).collect());
                let values = fields.into_iter().map(|(f, v)| (format!("f{f}"), v.to_string())).collect();
                (Stamp { key, clock }, values)
            })
            .collect()
    })
}

fn merged<'a>(writes: impl IntoIterator<Item = &'a Write>) -> Registers {
    let mut registers = Registers::default();
    for (stamp, values) in writes {
        registers.write(stamp, values);
    }
    registers
}

/// Rule 1 word by word: of the versions that no other one dominates, the one with the greatest key.
fn model(writes: &[Write]) -> BTreeMap<&str, &str> {
    let mut fields: BTreeMap<&str, Vec<(&Stamp, &str)>> = BTreeMap::new();
    for (stamp, values) in writes {
        for (field, value) in values {
            fields.entry(field).or_default().push((stamp, value));
        }
    }
    fields
        .into_iter()
        .map(|(field, versions)| {
            let standing =
                versions.iter().filter(|(a, _)| !versions.iter().any(|(b, _)| a.clock.is_before(&b.clock)));
            (field, standing.max_by_key(|(stamp, _)| &stamp.key).expect("a finite order has maxima").1)
        })
        .collect()
}

fn shuffled() -> impl Strategy<Value = (Vec<Write>, Vec<usize>)> {
    writes().prop_flat_map(|writes| {
        // Every write once, some again, in any order.
        let again = prop::collection::vec(0..writes.len().max(1), 0..6);
        let count = writes.len();
        let order = again.prop_flat_map(move |again| {
            let order: Vec<usize> = (0..count).chain(again).filter(|i| *i < count).collect();
            Just(order).prop_shuffle()
        });
        (Just(writes), order)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_any_repetition_give_equal_registers((writes, order) in shuffled()) {
        prop_assert_eq!(merged(order.iter().map(|i| &writes[*i])), merged(&writes));
    }

    #[test]
    fn the_value_is_that_of_the_model(writes in writes()) {
        let registers = merged(&writes);
        let values: BTreeMap<&str, &str> =
            registers.fields().map(|f| (f, registers.value(f).expect("written").0)).collect();
        prop_assert_eq!(values, model(&writes));
    }

    #[test]
    fn registers_survive_being_stored_and_go_on_from_there(writes in writes(), at in 0..9_usize) {
        let (before, after) = writes.split_at(at.min(writes.len()));
        let stored = serde_json::to_string(&merged(before)).expect("JSON");
        let mut registers: Registers = serde_json::from_str(&stored).expect("registers");
        for (stamp, values) in after {
            registers.write(stamp, values);
        }
        prop_assert_eq!(registers, merged(&writes));
    }
}

#[test]
fn concurrent_prices_are_both_kept_until_a_resolution_has_seen_both() {
    let stamp = |event: &str, ms, clock: &[(&str, i64)]| Stamp {
        key: Key {
            created_at: DateTime::from_timestamp_millis(ms).expect("time"),
            device_id: "d".to_owned(),
            event_id: event.to_owned(),
        },
        clock: VectorClock(clock.iter().map(|(d, n)| ((*d).to_owned(), *n)).collect()),
    };
    let price = |value: &str| vec![("price".to_owned(), value.to_owned())];
    let mut registers = Registers::default();
    registers.write(&stamp("a", 1, &[("x", 1)]), &price("1"));
    registers.write(&stamp("b", 2, &[("y", 1)]), &price("2"));
    assert_eq!(registers.value("price").expect("written").0, "2");
    // A merged clock wins although its time is the oldest.
    registers.write(&stamp("r", 0, &[("x", 1), ("y", 1), ("node", 1)]), &price("1"));
    let (value, by) = registers.value("price").expect("written");
    assert_eq!((value, by.key.event_id.as_str()), ("1", "r"));
    registers.write(&stamp("late", 9, &[("y", 1)]), &price("7"));
    assert_eq!(
        registers.value("price").expect("written").0,
        "1",
        "what the resolution had seen stays behind"
    );
    assert_eq!(registers.value("name"), None);
}
