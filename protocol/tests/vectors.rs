//! The published vectors: what v1's tills and nodes send must be received, with the meaning that it has there.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;
use velox_protocol::V1_NODE_DEVICE;
use velox_protocol::event::{self, Received, Rejection, RejectionCode, Sender, WarningCode};
use velox_protocol::json::Json;
use velox_protocol::payload::{Payload, derived_debt_id};
use velox_protocol::standing::{DebtStatus, Linked, Rows, resolve};
use velox_protocol::stock_policy::{self, Asked, Connection, EscrowWish, Seller, Verdict};
use velox_protocol::time;

#[derive(Deserialize)]
struct Vector {
    json: String,
    sha256: String,
}

#[derive(Deserialize)]
struct Push {
    store_id: Uuid,
    device_id: String,
    client_version: String,
    events: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Day {
    till_push: Push,
    node_pushes: Vec<Push>,
}

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    std::fs::read_to_string(path).expect("vectors are part of the crate")
}

fn day() -> Day {
    serde_json::from_str(&file("v1-day.json")).expect("a day")
}

fn read_all(push: &Push) -> Vec<Result<Received, Rejection>> {
    let noon = Json::parse("1763985600000").expect("JSON");
    let sender = Sender {
        store_id: push.store_id,
        device_id: &push.device_id,
        client_version: &push.client_version,
        user_id: None,
        now: time::read(&noon).expect("time"),
    };
    push.events.iter().map(|text| event::read(text.get(), &sender)).collect()
}

fn received(push: &Push) -> Vec<Received> {
    read_all(push).into_iter().map(|read| read.expect("v1 sends it")).collect()
}

fn rows_of(pushes: &[&Push]) -> Rows {
    let linked = |one: Received| {
        Some(Linked {
            key: one.event.key(),
            request_id: one.event.request_id,
            actor: one.event.actor_user_id,
            payload: one.meaning?,
        })
    };
    let events: Vec<Linked> = pushes.iter().flat_map(|push| received(push)).filter_map(linked).collect();
    resolve(pushes[0].store_id, &events)
}

fn only<T>(mut found: impl Iterator<Item = T>) -> T {
    let one = found.next().expect("one");
    assert!(found.next().is_none(), "only one");
    one
}

#[test]
fn every_hash_that_javascript_made_is_accepted_and_no_other() {
    let vectors: Vec<Vector> = serde_json::from_str(&file("hashes.json")).expect("vectors");
    assert_eq!(vectors.len(), 1500);
    let push = |hash: &dyn Fn(usize) -> String| {
        let event = |(i, v): (usize, &Vector)| {
            let (payload, hash) = (&v.json, hash(i));
            let text = format!(
                r#"{{"event_id":"e{i}","type":"T","payload":{payload},"full_payload_hash":"{hash}"}}"#
            );
            RawValue::from_string(text).expect("JSON")
        };
        let events = vectors.iter().enumerate().map(event).collect();
        read_all(&Push {
            store_id: Uuid::nil(),
            device_id: "till".into(),
            client_version: "1".into(),
            events,
        })
    };
    for (vector, read) in vectors.iter().zip(push(&|i| vectors[i].sha256.clone())) {
        let received = read.unwrap_or_else(|refused| panic!("{refused:?}: {}", vector.json));
        assert_eq!(received.event.payload, vector.json);
        assert!(received.event.sent_hash.is_some());
        assert!(received.warnings.iter().all(|w| w.code != WarningCode::HashUnusable));
    }
    assert!(push(&|i| vectors[i].sha256.to_uppercase()).iter().all(Result::is_ok));
    let foreign = push(&|i| vectors[(i + 1) % 1500].sha256.clone());
    assert!(foreign.iter().all(|r| r.as_ref().is_err_and(|e| e.code == RejectionCode::IntegrityError)));
}

#[test]
fn a_v1_tills_day_is_received_whole_with_its_meaning() {
    let push = day().till_push;
    let received = received(&push);
    let mut meanings: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &received {
        let kind = match &one.meaning {
            Some(Payload::Sale(_)) => "sale",
            Some(Payload::Void(_)) => "void",
            Some(Payload::Debt(_)) => "debt",
            Some(Payload::Payment(_)) => "payment",
            Some(Payload::Stock(_)) => "stock",
            Some(Payload::Ledger(_)) => "ledger",
            Some(Payload::Session(_)) => "session",
            Some(Payload::Product(_)) => "product",
            Some(Payload::Customer(_)) => "customer",
            Some(Payload::Store(_) | Payload::Series(_)) => "declaration",
            None => one.event.event_type.as_str(),
        };
        *meanings.entry(kind).or_default() += 1;
    }
    let expected = [
        ("sale", 3),
        ("void", 1),
        ("debt", 1),
        ("payment", 1),
        ("stock", 6),
        ("ledger", 2),
        ("session", 2),
        ("product", 8),
        ("customer", 2),
        ("RecipeIngredientsUpdated", 1),
    ];
    assert_eq!(meanings, expected.into());
    let warnings: Vec<_> = received.iter().flat_map(|r| &r.warnings).map(|w| w.code).collect();
    assert_eq!(warnings, [WarningCode::HashUnusable], "only `hash_error`");
    for (one, sent) in received.iter().zip(&push.events) {
        assert!(sent.get().contains(&one.event.payload), "byte for byte");
        assert_eq!(one.event.vector_clock.is_none(), one.event.seq == Some(5322), "one sent null");
        assert!(one.event.actor_user_id.is_some() && one.event.actor_role.is_some());
    }
}

#[test]
fn a_v1_tills_day_makes_its_rows() {
    let push = day().till_push;
    let rows = rows_of(&[&push]);
    assert!(rows.exceptions.is_empty(), "{:?}", rows.exceptions);
    assert_eq!((rows.sales.len(), rows.payments.len(), rows.ledger.len()), (3, 1, 2));
    // 6 stock events, 2 products in the plain sale, 2 in the one on credit, 1 sold and voided.
    assert_eq!(rows.movements.len(), 6 + 2 + 2 + 2);

    let (sale_id, fiao) =
        only(rows.sales.iter().filter(|(_, s)| s.payment_method.as_deref() == Some("FIAO")));
    let derived = &rows.debts[&derived_debt_id(push.store_id, *sale_id)];
    assert!(derived.derived && derived.event_id.is_none() && derived.customer_id.is_some());
    assert_eq!(derived.remaining_amount.to_string(), "38.44");
    assert_eq!(derived.currency.as_deref(), Some("USD"));
    assert_eq!((derived.sale_id, fiao.session_id), (Some(*sale_id), None), "an empty session id is none");

    let stated = only(rows.debts.values().filter(|d| !d.derived));
    assert_eq!(
        (stated.remaining_amount.to_string().as_str(), stated.status),
        ("400.05", DebtStatus::Partial)
    );
    assert_eq!((stated.currency.as_deref(), stated.notes.as_deref()), (Some("BS"), Some("saldo anterior")));

    let void = only(rows.sales.values().filter_map(|s| s.void.as_ref()));
    assert_eq!((void.voided_at.timestamp_millis(), &void.reason), (1_763_985_600_000, &None));
    let items = || rows.sales.values().flat_map(|s| &s.items);
    assert_eq!(items().filter(|i| i.qty.to_string() == "0.755").count(), 1);
}

#[test]
fn a_v1_nodes_debt_of_a_sale_on_credit_takes_the_derived_ones_place() {
    let day = day();
    let rows = rows_of(&[&day.till_push, &day.node_pushes[0]]);
    assert!(rows.exceptions.is_empty());
    let debt = only(rows.debts.values().filter(|d| d.sale_id.is_some()));
    assert!(!debt.derived);
    assert_eq!(debt.remaining_amount.to_string(), "38.44");
}

#[test]
fn a_v1_nodes_pushes_are_received_and_its_synthetic_sale_is_refused() {
    let day = day();
    let [debt, quota, synthetic] = day.node_pushes.as_slice() else { panic!("three pushes") };
    for push in [debt, quota] {
        let one = only(received(push).into_iter());
        assert_eq!((one.event.device_id.as_str(), one.warnings), (V1_NODE_DEVICE, vec![]));
        assert!(one.event.sent_hash.is_some() && one.event.delta_payload.is_none());
        assert!(one.event.request_id.is_some() && one.event.causal_dependencies.is_empty());
    }
    let refused = only(read_all(synthetic).into_iter()).expect_err("made up");
    assert_eq!(refused.code, RejectionCode::IntegrityError);
    assert_eq!(refused.event_id, "00000000-0000-0000-0000-000000000002");
}

#[derive(Deserialize)]
struct Policies {
    sales: Vec<SaleCase>,
    escrow_wishes: Vec<WishCase>,
}

#[derive(Deserialize)]
struct SaleCase {
    case: String,
    connection: Connection,
    sale: Vec<Asked>,
    expected: Verdict,
}

#[derive(Deserialize)]
struct WishCase {
    case: String,
    sellers: Vec<Seller>,
    expected: Vec<EscrowWish>,
}

fn policies() -> Policies {
    serde_json::from_str(&file("stock_policy.json")).expect("policies")
}

#[test]
fn a_sale_is_judged_by_the_stock_policy() {
    let cases = policies().sales;
    assert!(cases.len() > 15);
    for SaleCase { case, connection, sale, expected } in cases {
        assert_eq!(stock_policy::judge(connection, &sale), expected, "{case}");
    }
}

#[test]
fn a_till_asks_for_escrow_by_what_sells() {
    let cases = policies().escrow_wishes;
    assert!(!cases.is_empty());
    for WishCase { case, sellers, expected } in cases {
        assert_eq!(stock_policy::escrow_wishes(&sellers), expected, "{case}");
    }
}
