//! Concurrent edits: what waits for a person, and what the log says of it. A log that is broken holds up nobody for
//! long.

use crate::shop::{Shop, until};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use std::time::Duration;

/// All rows of the log, by id of the entity and field.
async fn log(shop: &Shop) -> Value {
    let sql = "SELECT coalesce(jsonb_agg(to_jsonb(a) - '{store_id,id,detected_at,winner_payload,loser_payloads}'::text[]
                   ORDER BY entity_id, field, resolved_at NULLS FIRST, loser_event_ids), '[]') FROM conflict_audit_log a";
    shop.value(sql).await
}

async fn open(shop: &Shop) -> i64 {
    shop.value("SELECT count(*) FROM open_conflicts").await
}

/// A row of the log.
fn row(
    shop: &Shop,
    entity: (&str, &str),
    field: &str,
    versions: (&str, &[&str]),
    decided: (&str, Value, Value),
) -> Value {
    json!({"entity_type": entity.0, "entity_id": shop.named(entity.1), "field": field, "winner_event_id": versions.0,
        "loser_event_ids": versions.1, "strategy": decided.0, "resolved_at": decided.1, "resolved_by": decided.2})
}

#[tokio::test]
async fn a_conflict_that_is_decided_before_it_is_written_down_is_written_as_decided() {
    let shop = Shop::open().await;
    // The first row of the log takes its time.
    shop.run(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$;
         CREATE TRIGGER dawdle BEFORE INSERT ON conflict_audit_log FOR EACH ROW EXECUTE FUNCTION dawdle();",
    )
    .await;
    shop.tell("a@1/x PriceChanged P1 price_usd=1 seq=1\nb@2/y PriceChanged P1 price_usd=2 seq=1").await;
    let decide = async {
        until("an open conflict", async || open(&shop).await == 1).await;
        shop.tell("r@9/n PriceChanged P1 price_usd=1 seq=1 clock=x:1,y:1 by=u1").await;
        shop.project().await;
    };
    tokio::join!(shop.project(), decide);
    assert_eq!(open(&shop).await, 0);
    let at = "1970-01-01T00:00:00.009+00:00";
    let decided = row(&shop, ("product", "P1"), "price", ("b", &["a"]), ("mvr", json!(at), json!("u1")));
    assert_eq!(log(&shop).await, json!([decided]));
}

#[tokio::test]
async fn two_prices_at_once_wait_for_a_person_until_an_event_that_knew_both_decides() {
    let shop = Shop::open().await;
    shop.day(
        "a@1/x PriceChanged P1 price_usd=1 seq=1\nb@2/y PriceChanged P1 price_usd=2 seq=1",
        "product P1 1..2 price_usd=2\nconflict P1 price winner b: a price_usd=1 | b price_usd=2",
    )
    .await;
    let waits = row(&shop, ("product", "P1"), "price", ("b", &["a"]), ("mvr", Value::Null, Value::Null));
    assert_eq!(log(&shop).await, json!([waits]));
    let payloads = "SELECT jsonb_build_array(winner_payload->'price_usd', loser_payloads->0->'price_usd')
                    FROM conflict_audit_log";
    assert_eq!(shop.value::<Value>(payloads).await, json!(["2", "1"]));
    let opened: String = shop
        .value("SELECT concat_ws(' ', entity_type, opened_at AT TIME ZONE 'UTC') FROM open_conflicts")
        .await;
    assert_eq!(opened, "product 1970-01-01 00:00:00.002");
    // A third price: one conflict still.
    shop.day(
        "c@3/z PriceChanged P1 price_usd=3 seq=1",
        "product P1 1..3 price_usd=3\nconflict P1 price winner c: a price_usd=1 | b price_usd=2 | c price_usd=3",
    )
    .await;
    let waits = row(&shop, ("product", "P1"), "price", ("c", &["a", "b"]), ("mvr", Value::Null, Value::Null));
    assert_eq!(log(&shop).await, json!([waits]));
    shop.day(
        "r@9/n PriceChanged P1 price_usd=1 seq=1 clock=x:1,y:1,z:1 by=u1",
        "product P1 1..9 price_usd=1",
    )
    .await;
    assert_eq!(open(&shop).await, 0);
    let at = "1970-01-01T00:00:00.009+00:00";
    let decided = row(&shop, ("product", "P1"), "price", ("c", &["a", "b"]), ("mvr", json!(at), json!("u1")));
    assert_eq!(log(&shop).await, json!([decided]));
    // The next conflict of the same price has a row of its own.
    shop.day(
        "s@10/m PriceChanged P1 price_usd=2 seq=1 clock=x:1,y:1,z:1",
        "product P1 1..10 price_usd=2\nconflict P1 price winner s: r price_usd=1 | s price_usd=2",
    )
    .await;
    let waits = row(&shop, ("product", "P1"), "price", ("s", &["r"]), ("mvr", Value::Null, Value::Null));
    assert_eq!(log(&shop).await, json!([waits, decided]));
    // And is decided by a till where nobody has signed.
    shop.day(
        "t@11/n PriceChanged P1 price_usd=3 seq=2 clock=x:1,y:1,z:1,m:1",
        "product P1 1..11 price_usd=3",
    )
    .await;
    let at = "1970-01-01T00:00:00.011+00:00";
    let second = row(&shop, ("product", "P1"), "price", ("s", &["r"]), ("mvr", json!(at), json!("n")));
    assert_eq!(log(&shop).await, json!([decided, second]));
}

#[tokio::test]
async fn a_conflict_that_is_met_with_its_decision_in_one_batch_or_after_it_is_none() {
    for history in [
        "a@1/x PriceChanged P1 price_usd=1 seq=1\nb@2/y PriceChanged P1 price_usd=2 seq=1\nr@3/n PriceChanged P1 price_usd=1 seq=1 clock=x:1,y:1",
        "r@3/n PriceChanged P1 price_usd=1 seq=1 clock=x:1,y:1\na@1/x PriceChanged P1 price_usd=1 seq=1\nb@2/y PriceChanged P1 price_usd=2 seq=1",
    ] {
        let shop = Shop::open().await;
        if history.starts_with('r') {
            for line in history.lines() {
                shop.tell(line).await;
                shop.project().await;
            }
        } else {
            shop.tell(history).await;
            shop.project().await;
        }
        shop.check("product P1 1..3 price_usd=1").await;
        assert_eq!(log(&shop).await, json!([]));
    }
}

#[tokio::test]
async fn the_last_writer_of_a_name_wins_and_the_log_keeps_what_both_said() {
    let shop = Shop::open().await;
    shop.day(
        "a@1/x ProductUpdated P1 name=A sku=s seq=1
         b@2/y ProductUpdated P1 name=B sku=s seq=1
         c@1/x CustomerUpdated C1 name=Ana phone=1 seq=2
         d@2/y CustomerUpdated C1 name=Eva email=e seq=2",
        "product P1 1..2 name=B sku=s\ncustomer C1 1..2 name=Eva phone=1 email=e",
    )
    .await;
    let found = log(&shop).await;
    let rows = found.as_array().expect("rows");
    assert_eq!(rows.len(), 2, "a sku that both say alike is no conflict: {found:#}");
    for (entity, versions) in [(("product", "P1"), ("b", ["a"])), (("customer", "C1"), ("d", ["c"]))] {
        let mut expected =
            row(&shop, entity, "name", (versions.0, &versions.1), ("lww", Value::Null, Value::Null));
        let found = rows.iter().find(|row| row["entity_type"] == entity.0).expect(entity.0);
        assert!(found["resolved_at"].is_string(), "decided at once: {found:#}");
        expected["resolved_at"] = found["resolved_at"].clone();
        assert_eq!(*found, expected);
    }
    let names = "SELECT jsonb_object_agg(winner_event_id, jsonb_build_array(winner_payload->'name', loser_payloads->0->'name'))
                 FROM conflict_audit_log";
    assert_eq!(shop.value::<Value>(names).await, json!({"b": ["B", "A"], "d": ["Eva", "Ana"]}));
    assert_eq!(open(&shop).await, 0);
}

#[tokio::test]
async fn prices_far_apart_are_decided_by_time_also_where_they_were_open() {
    let shop = Shop::open().await;
    shop.day(
        "a@1/x PriceChanged P1 price_usd=1 seq=1\nb@600001/y PriceChanged P1 price_usd=2 seq=1",
        "product P1 1..600001 price_usd=2\nconflict P1 price winner b: a price_usd=1 | b price_usd=2",
    )
    .await;
    // It agrees with b, and a is more than fifteen minutes from it.
    shop.day("c@1200001/z PriceChanged P1 price_usd=2 seq=1", "product P1 1..1200001 price_usd=2").await;
    let found = log(&shop).await;
    let states: Vec<String> = found
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| format!("{} {} {}", row["strategy"], row["winner_event_id"], row["resolved_at"].is_null()))
        .collect();
    assert!(states.iter().all(|state| state.ends_with("false")), "nothing waits: {found:#}");
    assert!(states.contains(&r#""lww" "c" false"#.to_owned()), "{found:#}");
    assert!(states.contains(&r#""mvr" "b" false"#.to_owned()), "{found:#}");
}

#[tokio::test]
async fn what_is_absorbed_is_told_once_with_what_stands() {
    let shop = Shop::open().await;
    shop.day("a@1 sale S1 usd=1 req=r\nb@2 sale S2 usd=2 req=r", "sale S1 by a\nb absorbed by a").await;
    let mut absorbed = row(&shop, ("sale", "S2"), "id", ("a", &["b"]), ("awset", Value::Null, Value::Null));
    let found = log(&shop).await;
    absorbed["resolved_at"] = found[0]["resolved_at"].clone();
    assert!(absorbed["resolved_at"].is_string());
    assert_eq!(found, json!([absorbed]));
    let totals = "SELECT jsonb_build_array(winner_payload->'total_usd', loser_payloads->0->'total_usd') FROM conflict_audit_log";
    assert_eq!(shop.value::<Value>(totals).await, json!(["1", "2"]));
    shop.store.requeue_projection(shop.id, &["a".to_owned(), "b".to_owned()]).await.expect("a requeue");
    shop.day("c@3 sale S3 usd=1", "sale S1 by a\nb absorbed by a\nsale S3 by c").await;
    assert_eq!(log(&shop).await, json!([absorbed]), "a replay tells nothing new");
}

#[tokio::test]
async fn equal_values_and_edits_that_knew_each_other_are_no_conflict() {
    let shop = Shop::open().await;
    shop.day(
        "a@1/x ProductUpdated P1 name=A price_usd=1 seq=1
         b@2/y ProductUpdated P1 name=A price_usd=1.0 seq=1
         c@3/z ProductUpdated P1 name=C price_usd=9 seq=1 clock=x:1,y:1
         d@4/z open X1 seq=2",
        "product P1 1..3 name=C price_usd=9\nsession X1 opened_at=4 opened_event_id=d",
    )
    .await;
    assert_eq!(log(&shop).await, json!([]));
}

/// Conflicts of one product after another, a batch each.
async fn meet(shop: &Shop, products: std::ops::Range<usize>) {
    for n in products {
        shop.tell(&format!(
            "a{n}@1/x PriceChanged P{n} price_usd=1 seq={n}\nb{n}@2/y PriceChanged P{n} price_usd=2 seq={n}"
        ))
        .await;
        assert_eq!(shop.project().await.done, 2);
    }
}

#[tokio::test]
async fn a_broken_log_harms_no_projection() {
    let shop = Shop::open().await;
    shop.run("ALTER TABLE conflict_audit_log RENAME TO elsewhere").await;
    meet(&shop, 1..9).await;
    assert_eq!(open(&shop).await, 8);
    shop.check_by_model().await;
    shop.run("ALTER TABLE elsewhere RENAME TO conflict_audit_log").await;
    meet(&shop, 9..10).await;
    assert_eq!(log(&shop).await.as_array().map(Vec::len), Some(1), "once it is there again it is written to");
}

#[tokio::test]
async fn a_log_that_is_locked_holds_up_projections_for_a_bounded_time() {
    let shop = Shop::open().await;
    let mut other = PgConnection::connect_with(&shop.database.options()).await.expect("a connection");
    let mut holding = other.begin().await.expect("a transaction");
    let sql = "LOCK TABLE conflict_audit_log IN ACCESS EXCLUSIVE MODE";
    sqlx::query(sql).execute(&mut *holding).await.expect(sql);
    let begun = tokio::time::Instant::now();
    // More batches than there are connections: none of them stays behind with the lock.
    meet(&shop, 1..9).await;
    assert!(begun.elapsed() < 8 * Duration::from_secs(3), "{:?} for eight batches", begun.elapsed());
    assert_eq!(open(&shop).await, 8);
    holding.rollback().await.expect("a rollback");
    shop.check_by_model().await;
    meet(&shop, 9..10).await;
    assert_eq!(log(&shop).await.as_array().map(Vec::len), Some(1), "nothing is written late");
}
