use super::*;
use crate::clock::Key;
use crate::conflict::conflict_id;
use crate::event::{self, Sender};
use crate::payload::Payload;
use chrono::DateTime;

const PRODUCT: Uuid = Uuid::from_u128(7);
const STORE: Uuid = Uuid::from_u128(1);

fn price_of_product() -> Subject {
    Subject { edited: Edited::Product, entity_id: PRODUCT, field: PRICE.to_owned() }
}

fn field(edited: Edited, field: &str) -> Subject {
    Subject { edited, entity_id: PRODUCT, field: field.to_owned() }
}

/// What a till's event writes into registers, by the reader that all events go through.
fn write(
    registers: &mut Registers,
    device: &str,
    seq: i64,
    ms: i64,
    event_type: &str,
    payload: &str,
    clock: &str,
) {
    let text = format!(
        r#"{{"event_id":"{device}-{seq}","seq":{seq},"type":"{event_type}","created_at":{ms},
            "payload":{payload},"vector_clock":{clock}}}"#
    );
    let now = DateTime::from_timestamp_millis(ms).expect("a time");
    let sender = Sender { store_id: STORE, device_id: device, client_version: "", user_id: None, now };
    let received = event::read(&text, &sender).expect("an event");
    let Some(Payload::Product(writes) | Payload::Customer(writes)) = received.meaning else {
        panic!("{:?}", received.warnings);
    };
    let event = received.event;
    let clock = event.vector_clock.clone().unwrap_or_default().of_event(device, event.seq, event.created_at);
    let stamp = Stamp { key: Key { ..event.key() }, clock };
    registers.write(&stamp, &writes.fields);
}

fn product(fields: &str) -> String {
    format!(r#"{{"product_id":"{PRODUCT}",{fields}}}"#)
}

/// Two tills set prices without knowing of each other.
fn two_prices() -> Registers {
    let mut registers = Registers::default();
    write(&mut registers, "t1", 1, 10, "PriceChanged", &product(r#""price_usd":1,"price_bs":40"#), "{}");
    write(&mut registers, "t2", 1, 20, "PriceChanged", &product(r#""price_usd":2"#), "{}");
    registers
}

fn resolve(subject: &Subject, registers: &Registers, chosen: &str) -> Result<Resolution, String> {
    let chosen = Json::parse(chosen).expect("JSON");
    subject.resolve(registers, &chosen, conflict_id(STORE, PRODUCT, &subject.field), "ana")
}

/// The resolution as the next event of a node.
fn decide(registers: &mut Registers, node: &str, seq: i64, subject: &Subject, chosen: &str) {
    let resolution = resolve(subject, registers, chosen).expect("a resolution");
    let clock = serde_json::to_string(&resolution.clock).expect("JSON");
    // The node's time is before all others: it must not matter.
    write(registers, node, seq, 5, resolution.event_type, &resolution.payload, &clock);
}

#[test]
fn a_decided_price_is_the_only_version_left_and_the_currency_not_chosen_keeps_its_value() {
    let mut registers = two_prices();
    assert!(price_of_product().conflict(&registers).expect("a conflict").is_open);
    decide(&mut registers, "node", 1, &price_of_product(), r#"{"price_usd":"1.50000"}"#);
    let versions =
        |field| registers.versions(field).map(|(v, s)| (v, s.key.device_id.as_str())).collect::<Vec<_>>();
    assert_eq!(versions("price_usd"), [(r#""1.5""#, "node")]);
    assert_eq!(versions("price_bs"), [(r#""40""#, "node")]);
    assert_eq!(versions("price"), []);
    assert_eq!(price_of_product().conflict(&registers), None);
}

#[test]
fn the_payload_has_numbers_for_tills_and_says_what_it_decides() {
    let resolution = resolve(&price_of_product(), &two_prices(), r#"{"price_usd":"-0.10"}"#).expect("one");
    assert_eq!(resolution.event_type, "PriceChanged");
    let id = conflict_id(STORE, PRODUCT, PRICE);
    let expected = format!(
        r#"{{"product_id":"{PRODUCT}","price_bs":40,"price_usd":-0.1,"reason":"conflict resolved","metadata":{{"conflict_id":"{id}","resolved_by":"ana","resolves":["t1-1","t2-1"]}}}}"#
    );
    assert_eq!(resolution.payload, expected);
    assert_eq!(resolution.clock.digest_text(), "t1:1|t2:1");
}

#[test]
fn a_decision_can_be_made_again_and_an_edit_that_knew_nothing_of_it_is_a_conflict_anew() {
    let mut registers = two_prices();
    decide(&mut registers, "node", 1, &price_of_product(), r#"{"price_usd":3}"#);
    decide(&mut registers, "node", 2, &price_of_product(), r#"{"price_usd":4,"price_bs":null}"#);
    let value = |registers: &Registers, field| registers.value(field).map(|(value, _)| value.to_owned());
    assert_eq!(value(&registers, "price_usd").as_deref(), Some(r#""4""#));
    assert_eq!(value(&registers, "price_bs").as_deref(), Some("null"));
    assert_eq!(price_of_product().conflict(&registers), None);
    write(&mut registers, "t1", 2, 30, "PriceChanged", &product(r#""price_usd":9"#), r#"{"t1":1,"t2":1}"#);
    assert!(price_of_product().conflict(&registers).expect("a conflict").is_open);
}

#[test]
fn contrary_decisions_of_two_nodes_are_a_conflict_on_both_and_one_more_ends_it() {
    let (mut here, mut there) = (two_prices(), two_prices());
    let chosen = [r#"{"price_usd":3}"#, r#"{"price_usd":4}"#];
    let of = |registers: &Registers, chosen| resolve(&price_of_product(), registers, chosen).expect("one");
    let decisions = [("n1", of(&here, chosen[0])), ("n2", of(&there, chosen[1]))];
    for (registers, order) in [(&mut here, [0, 1]), (&mut there, [1, 0])] {
        for i in order {
            let (node, decision) = &decisions[i];
            let clock = serde_json::to_string(&decision.clock).expect("JSON");
            write(registers, node, 1, 50, decision.event_type, &decision.payload, &clock);
        }
    }
    assert_eq!(here, there);
    let conflict = price_of_product().conflict(&here).expect("a conflict");
    let devices: Vec<_> = conflict.versions.iter().map(|v| v.stamp.key.device_id.as_str()).collect();
    assert_eq!((devices, conflict.is_open), (vec!["n1", "n2"], true));
    decide(&mut here, "n1", 2, &price_of_product(), r#"{"price_usd":5}"#);
    assert_eq!(price_of_product().conflict(&here), None);
}

#[test]
fn fields_of_products_and_customers_are_decided_with_nothing_else_written() {
    let mut registers = Registers::default();
    write(&mut registers, "t1", 1, 10, "ProductUpdated", &product(r#""name":"a","colour":{"r":1.10}"#), "{}");
    write(&mut registers, "t2", 1, 20, "ProductUpdated", &product(r#""name":"b","colour":"red""#), "{}");
    let fields: Vec<String> = registers.fields().map(str::to_owned).collect();
    decide(&mut registers, "node", 1, &field(Edited::Product, "name"), r#"{"name":"c"}"#);
    let colour = field(Edited::Product, "attributes.colour");
    let mine =
        colour.conflict(&registers).expect("a conflict").side(Side::Mine, Some("t1"), None).values_text();
    decide(&mut registers, "node", 2, &colour, &mine);
    assert_eq!(conflict::conflicts(&registers), []);
    assert_eq!(registers.value("name").expect("a name").0, r#""c""#);
    assert_eq!(registers.value("attributes.colour").expect("a colour").0, r#"{"r":1.10}"#);
    assert_eq!(registers.fields().collect::<Vec<_>>(), fields);

    let mut registers = Registers::default();
    let customer = |note: &str| format!(r#"{{"customer_id":"{PRODUCT}","note":"{note}"}}"#);
    write(&mut registers, "t1", 1, 10, "CustomerUpdated", &customer("a"), "{}");
    write(&mut registers, "t2", 1, 20, "CustomerUpdated", &customer("b"), "{}");
    let notes = field(Edited::Customer, "notes");
    decide(&mut registers, "node", 1, &notes, r#"{"notes":"c"}"#);
    assert_eq!((notes.conflict(&registers), registers.fields().count()), (None, 1));
}

#[test]
fn what_cannot_be_chosen_is_named() {
    let registers = two_prices();
    for (chosen, wrong) in [
        ("{}", "value names no field"),
        ("[]", "value is no object"),
        ("3", "value is no object"),
        (r#"{"name":"x"}"#, "value names a field that is not of this conflict, which is over price"),
        (
            r#"{"price_usd":1,"cost_usd":1}"#,
            "value names a field that is not of this conflict, which is over price",
        ),
        (r#"{"price_usd":"much"}"#, "price_usd is no decimal number"),
        (r#"{"price_usd":true}"#, "price_usd is no decimal number"),
        (r#"{"price_bs":100000000000000}"#, "price_bs is out of range"),
    ] {
        assert_eq!(resolve(&price_of_product(), &registers, chosen), Err(wrong.to_owned()), "{chosen}");
    }
    assert!(resolve(&field(Edited::Customer, "price"), &registers, r#"{"price_usd":1}"#).is_err());
}

#[test]
fn a_tills_own_version_is_its_devices_else_the_one_that_came_last() {
    let mut registers = two_prices();
    write(&mut registers, "t3", 1, 15, "PriceChanged", &product(r#""price_usd":3"#), "{}");
    let conflict = price_of_product().conflict(&registers).expect("a conflict");
    let kept = |side, device, last| conflict.side(side, device, last).stamp.key.event_id.as_str();
    assert_eq!(kept(Side::Mine, Some("t1"), Some("t3-1")), "t1-1");
    assert_eq!(kept(Side::Theirs, Some("t1"), Some("t3-1")), "t2-1");
    assert_eq!(kept(Side::Theirs, Some("t2"), None), "t3-1");
    assert_eq!(kept(Side::Mine, Some("nobody"), Some("t3-1")), "t3-1");
    assert_eq!(kept(Side::Mine, None, None), "t2-1");
    assert_eq!(kept(Side::Theirs, None, Some("t2-1")), "t3-1");
}
