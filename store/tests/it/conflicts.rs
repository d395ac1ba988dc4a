//! Conflicts: what is read of them, and what a decision writes.

use crate::shop::Shop;
use crate::story::{self, Told};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;
use velox_protocol::conflict::conflict_id;
use velox_protocol::resolution::Side;
use velox_store::{
    Actor, AuditFilter, Choice, NodeStamp, PageRequest, Resolved, Strategy, TimeKey, TimeRange,
    node_device_id,
};

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).expect("a time")
}

fn stamp(ms: i64) -> NodeStamp {
    NodeStamp {
        event_id: Uuid::from_u128(rand::random()),
        now: at(ms),
        actor: Actor { user_id: "ana".to_owned(), role: "owner".to_owned() },
        trace_parent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    }
}

/// A shop on a node that has a name.
async fn shop() -> Shop {
    let shop = Shop::open().await;
    shop.store.node_id(Some("north"), "unused").await.expect("a node");
    shop
}

/// Notes a conflict, unless the projections have.
async fn note(shop: &Shop, entity_type: &str, entity: Uuid, field: &str, strategy: &str) -> Uuid {
    let id = conflict_id(shop.id, entity, field);
    if strategy == "mvr" {
        shop.run(&format!(
            "INSERT INTO open_conflicts VALUES ('{}', '{id}', '{entity_type}', '{entity}', '{field}', 'b',
                 '[{{\"event_id\":\"a\",\"device_id\":\"t1\",\"created_at\":10,\"values\":{{\"price_usd\":\"1\"}}}},
                   {{\"event_id\":\"b\",\"device_id\":\"t2\",\"created_at\":20,\"values\":{{\"price_usd\":\"2\"}}}}]',
                 to_timestamp(0.02)) ON CONFLICT DO NOTHING",
            shop.id
        ))
        .await;
    }
    let resolved = if strategy == "mvr" { "NULL" } else { "now()" };
    shop.run(&format!(
        "INSERT INTO conflict_audit_log (store_id, id, entity_type, entity_id, field, winner_event_id,
             loser_event_ids, strategy, detected_at, resolved_at)
         VALUES ('{}', '{id}', '{entity_type}', '{entity}', '{field}', 'b', ARRAY['a'], '{strategy}', now(), {resolved})
         ON CONFLICT DO NOTHING",
        shop.id
    ))
    .await;
    id
}

/// Two tills that know nothing of each other set the price of P1.
async fn two_prices(shop: &Shop) -> Uuid {
    shop.tell(
        "a@10/t1 PriceChanged P1 price_usd=1 price_bs=40 seq=1\nb@20/t2 PriceChanged P1 price_usd=2 seq=1",
    )
    .await;
    shop.project().await;
    note(shop, "product", shop.named("P1"), "price", "mvr").await
}

async fn resolve(shop: &Shop, id: Uuid, choice: Choice<'_>) -> Resolved {
    shop.store.resolve_conflict(shop.id, id, choice, &stamp(1_000)).await.expect("an answer")
}

const DONE: Resolved = Resolved::Done { event_type: "PriceChanged" };

async fn price(shop: &Shop) -> Value {
    shop.project().await;
    shop.row("products", "P1").await["price_usd"].clone()
}

/// The events that hold the price now.
async fn holders(shop: &Shop) -> BTreeSet<String> {
    let product = shop.named("P1");
    let registers = shop.store.price_registers(shop.id, &[product, Uuid::nil()]).await.expect("registers");
    assert_eq!(registers.len(), 1);
    let of = |field| registers[&product].versions(field).map(|(_, stamp)| stamp.key.event_id.clone());
    of("price_usd").chain(of("price_bs")).collect()
}

#[tokio::test]
async fn a_decision_is_an_event_of_the_node_that_holds_the_whole_price() {
    let shop = shop().await;
    let id = two_prices(&shop).await;
    assert_eq!(resolve(&shop, id, Choice::Values(r#"{"price_usd":"1.50"}"#)).await, DONE);
    assert_eq!(price(&shop).await, json!(1.5));
    let events = "FROM events WHERE actor_user_id = 'ana'";
    let event_id: String = shop.value(&format!("SELECT event_id {events}")).await;
    assert_eq!(holders(&shop).await, BTreeSet::from([event_id]));
    let incarnation: Uuid = shop.value("SELECT incarnation FROM node_identity").await;
    let device = node_device_id(shop.id, "north", incarnation);
    let row: Value = shop
        .value(&format!(
            "SELECT jsonb_build_object('device', device_id, 'seq', seq, 'type', type, 'role', actor_role,
                 'at', (extract(epoch FROM created_at) * 1000)::int8, 'clock', vector_clock, 'trace', trace_parent,
                 'metadata', payload->'metadata', 'hashed', length(payload_hash)) {events}"
        ))
        .await;
    let expected = json!({
        "device": device, "seq": 1, "type": "PriceChanged", "role": "owner", "at": 1000, "hashed": 32,
        "clock": {"t1": 1, "t2": 1, device.to_string(): 1},
        "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "metadata": {"resolves": ["a", "b"], "conflict_id": id, "resolved_by": "ana"},
    });
    assert_eq!(row, expected);
}

#[tokio::test]
async fn decisions_that_follow_each_other_before_the_projection_leave_the_last_one() {
    let shop = shop().await;
    let id = two_prices(&shop).await;
    for value in [r#"{"price_usd":3}"#, r#"{"price_usd":4}"#] {
        assert_eq!(resolve(&shop, id, Choice::Values(value)).await, DONE);
    }
    assert_eq!(price(&shop).await, json!(4.0));
    assert_eq!(holders(&shop).await.len(), 1);
    // Closed meanwhile: the log still knows it.
    shop.run("DELETE FROM open_conflicts").await;
    assert_eq!(resolve(&shop, id, Choice::Values(r#"{"price_usd":null,"price":"7"}"#)).await, DONE);
    assert_eq!(price(&shop).await, Value::Null);
    assert_eq!(shop.row("products", "P1").await["price"], json!(7.0));
    assert_eq!(
        shop.value::<String>(
            "SELECT string_agg(seq::text, ',' ORDER BY seq) FROM events WHERE device_id NOT IN ('t1', 't2')"
        )
        .await,
        "1,2,3"
    );
}

#[tokio::test]
async fn decisions_at_the_same_moment_leave_one_of_them() {
    let shop = shop().await;
    let id = two_prices(&shop).await;
    let pod = shop.pod();
    let (one, two) = (stamp(1_000), stamp(1_000));
    let (one, two) = tokio::join!(
        shop.store.resolve_conflict(shop.id, id, Choice::Values(r#"{"price_usd":3}"#), &one),
        pod.resolve_conflict(shop.id, id, Choice::Values(r#"{"price_usd":4}"#), &two),
    );
    assert_eq!((one.expect("an answer"), two.expect("an answer")), (DONE, DONE));
    shop.project().await;
    assert_eq!(holders(&shop).await.len(), 1);
}

#[tokio::test]
async fn a_node_of_which_others_know_more_than_it_does_goes_on_behind_that() {
    let shop = shop().await;
    let id = two_prices(&shop).await;
    let incarnation: Uuid = shop.value("SELECT incarnation FROM node_identity").await;
    let device = node_device_id(shop.id, "north", incarnation);
    shop.tell(&format!("c@30/t3 PriceChanged P1 price_usd=9 seq=1 clock={device}:41")).await;
    shop.project().await;
    assert_eq!(resolve(&shop, id, Choice::Values(r#"{"price_usd":3}"#)).await, DONE);
    assert_eq!(price(&shop).await, json!(3.0));
    assert_eq!(holders(&shop).await.len(), 1);
    assert_eq!(shop.value::<i64>("SELECT last_seq FROM node_sequences").await, 42);
}

#[tokio::test]
async fn fields_of_a_customer_are_decided_too_and_what_is_no_field_is_not() {
    let shop = shop().await;
    shop.tell("a@1/t1 CustomerUpdated C1 name=Ana seq=1\nb@2/t2 CustomerUpdated C1 name=Anna seq=1").await;
    shop.project().await;
    let id = note(&shop, "customer", shop.named("C1"), "name", "lww").await;
    let done = Resolved::Done { event_type: "CustomerUpdated" };
    assert_eq!(resolve(&shop, id, Choice::Values(r#"{"name":"Ana"}"#)).await, done);
    shop.project().await;
    assert_eq!(shop.row("customers", "C1").await["name"], "Ana");

    let session = note(&shop, "cash_session", shop.named("X1"), "opened", "lww").await;
    let sale = note(&shop, "sale", shop.named("S1"), "sale_id", "awset").await;
    for id in [session, sale] {
        let answer = resolve(&shop, id, Choice::Values(r#"{"opened":{}}"#)).await;
        assert!(matches!(answer, Resolved::NotByPeople(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_decided_so_writes_nothing() {
    let shop = shop().await;
    let id = two_prices(&shop).await;
    shop.tell("c@1/t1 ProductUpdated P2 name=a is_active=true seq=1").await;
    shop.project().await;
    let active = note(&shop, "product", shop.named("P2"), "is_active", "lww").await;
    let gone = note(&shop, "product", shop.named("P3"), "price", "mvr").await;
    let before: i64 = shop.value("SELECT count(*) FROM events").await;
    for (id, value) in [
        (id, "{}"),
        (id, "[1]"),
        (id, r#"{"price_usd":"much"}"#),
        (id, r#"{"price_usd":1,"name":"x"}"#),
        (id, r#"{"price_usd":1,"price_usd":2}"#),
        (active, r#"{"is_active":"yes"}"#),
        (active, "{\"is_active\":\"\u{0}\"}"),
    ] {
        let answer = resolve(&shop, id, Choice::Values(value)).await;
        assert!(matches!(answer, Resolved::Refused(_)), "{value}: {answer:?}");
    }
    for unknown in [gone, Uuid::from_u128(5)] {
        assert_eq!(resolve(&shop, unknown, Choice::Values(r#"{"price_usd":1}"#)).await, Resolved::Unknown);
    }
    let elsewhere = Uuid::from_u128(9);
    let choice = Choice::Values(r#"{"price_usd":1}"#);
    let answer = shop.store.resolve_conflict(elsewhere, id, choice, &stamp(1)).await.expect("an answer");
    assert_eq!(answer, Resolved::Unknown);
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM events").await, before);
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM node_sequences").await, 0);
}

#[tokio::test]
async fn a_till_keeps_its_own_or_takes_the_other_while_the_conflict_is_open() {
    for (side, device, expected) in [
        (Side::Mine, Some("t1"), 1.0),
        (Side::Theirs, Some("t1"), 2.0),
        (Side::Mine, Some("t2"), 2.0),
        (Side::Theirs, Some("t2"), 1.0),
        // The version of t1 came last, though t2's key is the greatest.
        (Side::Mine, None, 1.0),
        (Side::Theirs, Some("t9"), 2.0),
    ] {
        let shop = shop().await;
        shop.tell("b@20/t2 PriceChanged P1 price_usd=2 seq=1").await;
        wait_a_tick(&shop).await;
        shop.tell("a@10/t1 PriceChanged P1 price_usd=1 seq=1").await;
        shop.project().await;
        let id = note(&shop, "product", shop.named("P1"), "price", "mvr").await;
        let choice = Choice::Side { side, device_id: device };
        assert_eq!(resolve(&shop, id, choice).await, DONE);
        assert_eq!(price(&shop).await, json!(expected), "{side:?} {device:?}");
        assert_eq!(resolve(&shop, id, choice).await, Resolved::Decided);
    }
}

/// Times of arrival are kept to the millisecond.
async fn wait_a_tick(shop: &Shop) {
    let waited = "SELECT date_trunc('milliseconds', clock_timestamp()) > max(received_at) FROM events";
    while !shop.value::<bool>(waited).await {}
}

#[tokio::test]
async fn open_conflicts_are_listed_with_all_sides() {
    let shop = shop().await;
    let id = two_prices(&shop).await;
    let page = PageRequest { after: None, limit: 10 };
    let list = shop.store.read_open_conflicts(shop.id, page).await.expect("a page");
    assert!(!list.has_more);
    let items = serde_json::to_value(&list.items).expect("JSON");
    let (own, other) = (json!({"price_usd": "1"}), json!({"price_usd": "2"}));
    let side = |event: &str, device: &str, ms: &str, values: &Value| {
        json!({"event_id": event, "device_id": device, "values": values,
            "created_at": format!("1970-01-01T00:00:00.{ms}Z")})
    };
    let expected = json!([{
        "store_id": shop.id, "id": id, "entity_type": "product", "entity_id": shop.named("P1"), "field": "price",
        "strategy": "mvr", "winner_event_id": "b", "loser_event_ids": ["a"],
        "versions": [side("a", "t1", "010", &own), side("b", "t2", "020", &other)],
        "winner_payload": other, "loser_payloads": [own], "opened_at": "1970-01-01T00:00:00.020Z",
        "resolved_at": null, "resolved_by": null,
    }]);
    assert_eq!(items, expected);
    let elsewhere = shop.store.read_open_conflicts(Uuid::from_u128(9), page).await.expect("a page");
    assert!(elsewhere.items.is_empty());
}

#[tokio::test]
async fn the_log_is_walked_by_the_time_of_detection_and_filtered_by_time_and_strategy() {
    let shop = shop().await;
    for (n, strategy, day) in [(3, "lww", 2), (1, "mvr", 2), (2, "awset", 2), (4, "lww", 1), (5, "lww", 3)] {
        let (id, product) = (Uuid::from_u128(n), Uuid::from_u128(7));
        shop.run(&format!(
            "INSERT INTO conflict_audit_log (store_id, id, entity_type, entity_id, field, winner_event_id,
                 loser_event_ids, strategy, winner_payload, loser_payloads, detected_at)
             VALUES ('{}', '{id}', 'product', '{product}', 'name', 'b', '{{a,c}}', '{strategy}',
                 '{{\"name\": 1.10}}', '[1,2]', '2026-01-0{day}T12:00:00Z')",
            shop.id
        ))
        .await;
    }
    let walk = async |filter: AuditFilter, limit: u32| {
        let (mut seen, mut after): (Vec<u128>, Option<TimeKey>) = (Vec::new(), None);
        loop {
            let page = PageRequest { after, limit };
            let page = shop.store.read_conflict_audit(shop.id, &filter, page).await.expect("a page");
            seen.extend(page.items.iter().map(|row| row.id.as_u128()));
            after = page.items.last().map(|row| TimeKey { at: row.detected_at, id: row.id });
            if !page.has_more {
                return seen;
            }
        }
    };
    for limit in [1, 2, 5, 100] {
        assert_eq!(walk(AuditFilter::default(), limit).await, [4, 1, 2, 3, 5], "{limit}");
    }
    let day = |n: i64| at(1_767_225_600_000 + (n - 1) * 86_400_000);
    let second = TimeRange { from: day(2), until: day(3) };
    assert_eq!(walk(AuditFilter { detected: second, strategy: None }, 9).await, [1, 2, 3]);
    let lww = AuditFilter { detected: second, strategy: Some(Strategy::Lww) };
    assert_eq!(walk(lww, 9).await, [3]);
    let page = PageRequest { after: None, limit: 1 };
    let row = shop.store.read_conflict_audit(shop.id, &lww, page).await.expect("a page").items.remove(0);
    let expected = json!({
        "store_id": shop.id, "id": Uuid::from_u128(3), "entity_type": "product", "entity_id": Uuid::from_u128(7),
        "field": "name", "winner_event_id": "b", "loser_event_ids": ["a", "c"], "strategy": "lww",
        "winner_payload": {"name": 1.10}, "loser_payloads": [1, 2], "detected_at": "2026-01-02T12:00:00.000Z",
        "resolved_at": null, "resolved_by": null,
    });
    assert_eq!(serde_json::to_value(&row).expect("JSON"), expected);
}

/// An event of a node that has met one, as another node receives it.
#[tokio::test]
async fn a_decision_counts_on_another_node_as_it_does_on_its_own() {
    let (here, there) = (shop().await, shop().await);
    let history = "a@10/t1 PriceChanged P1 price_usd=1 seq=1\nb@20/t2 PriceChanged P1 price_usd=2 seq=1";
    there.bring(story::events(there.id, history)).await;
    let id = two_prices(&here).await;
    assert_eq!(resolve(&here, id, Choice::Values(r#"{"price_usd":3}"#)).await, DONE);
    let sent: String = here
        .value(
            "SELECT jsonb_build_object('event_id', event_id, 'seq', seq, 'type', type, 'payload', payload,
                 'created_at', created_at, 'vector_clock', vector_clock)::text
             FROM events WHERE actor_user_id = 'ana'",
        )
        .await;
    let device: String = here.value("SELECT device_id FROM events WHERE actor_user_id = 'ana'").await;
    there.bring(vec![Told::read(there.id, &device, &sent)]).await;
    assert_eq!((price(&there).await, price(&here).await), (json!(3.0), json!(3.0)));
    assert_eq!(
        holders(&there).await,
        BTreeSet::from([holders(&here).await.into_iter().next().expect("one")])
    );
}
