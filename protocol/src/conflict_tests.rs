use super::*;
use crate::clock::{Key, VectorClock};
use crate::json::Json;
use chrono::DateTime;

const MINUTE: i64 = 60_000;

fn stamp(event: &str, device: &str, ms: i64, clock: &str) -> Stamp {
    Stamp {
        key: Key {
            created_at: DateTime::from_timestamp_millis(ms).expect("a time"),
            device_id: device.to_owned(),
            event_id: event.to_owned(),
        },
        clock: VectorClock::read(&Json::parse(clock).expect("JSON")),
    }
}

fn registers(writes: &[(Stamp, &[(&str, &str)])]) -> Registers {
    let mut registers = Registers::default();
    for (stamp, fields) in writes {
        let fields: Vec<_> = fields.iter().map(|(f, v)| ((*f).to_owned(), (*v).to_owned())).collect();
        registers.write(stamp, &fields);
    }
    registers
}

fn events(conflict: &Conflict) -> Vec<&str> {
    conflict.versions.iter().map(|version| version.stamp.key.event_id.as_str()).collect()
}

#[test]
fn prices_of_two_tills_within_15_minutes_are_open_and_later_ones_are_not() {
    for (apart, open) in [(0, true), (15 * MINUTE, true), (15 * MINUTE + 1, false)] {
        let a = stamp("a", "t1", 0, r#"{"t1":1}"#);
        let b = stamp("b", "t2", apart, r#"{"t2":1}"#);
        let conflict = price(&registers(&[(a, &[("price_usd", "1")]), (b, &[("price_usd", "2")])]));
        let conflict = conflict.expect("a concurrent edit");
        assert_eq!((conflict.is_open, events(&conflict)), (open, vec!["a", "b"]));
        assert_eq!(conflict.winner().stamp.key.event_id, "b");
    }
}

#[test]
fn one_device_alone_and_equal_values_are_no_conflict_of_a_person() {
    let twice = [stamp("a", "t1", 0, r#"{"t1":1,"x":1}"#), stamp("b", "t1", 1, r#"{"t1":1,"y":1}"#)];
    let [a, b] = twice;
    let own = price(&registers(&[(a, &[("price", "1")]), (b, &[("price", "2")])])).expect("concurrent");
    assert!(!own.is_open);
    let a = stamp("a", "t1", 0, r#"{"t1":1}"#);
    let b = stamp("b", "t2", 1, r#"{"t2":1}"#);
    assert_eq!(price(&registers(&[(a, &[("price", "1")]), (b, &[("price", "1")])])), None);
}

#[test]
fn currencies_make_one_conflict() {
    let a = stamp("a", "t1", 0, r#"{"t1":1}"#);
    let b = stamp("b", "t2", 1, r#"{"t2":1}"#);
    let c = stamp("c", "t3", 2, r#"{"t3":1}"#);
    let registers = registers(&[
        (a, &[("price_usd", "1"), ("name", "\"x\"")]),
        (b, &[("price_usd", "2"), ("price_bs", "9")]),
        (c, &[("price_bs", "8"), ("name", "\"y\"")]),
    ]);
    let all = conflicts(&registers);
    let fields: Vec<_> = all.iter().map(|c| (c.field.as_str(), c.is_open, events(c))).collect();
    assert_eq!(fields, [("name", false, vec!["a", "c"]), (PRICE, true, vec!["a", "b", "c"])]);
    assert_eq!(all[1].winner().values, BTreeMap::from([("price_bs".to_owned(), "8".to_owned())]));
}

#[test]
fn what_knows_both_closes_the_conflict() {
    let a = stamp("a", "t1", 0, r#"{"t1":1}"#);
    let b = stamp("b", "t2", 1, r#"{"t2":1}"#);
    let decided = stamp("c", "node", 0, r#"{"t1":1,"t2":1,"node":1}"#);
    let values: &[(&str, &str)] = &[("price_usd", "3")];
    let registers = registers(&[(a, &[("price_usd", "1")]), (decided, values), (b, &[("price_usd", "2")])]);
    assert_eq!(conflicts(&registers), []);
}
