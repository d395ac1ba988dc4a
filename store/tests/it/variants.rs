//! Several forms of one event: whatever comes first, the smallest one counts.

use crate::shop::{Shop, push};
use crate::story::{self, Told};
use std::collections::BTreeSet;
use uuid::Uuid;
use velox_protocol::catalogue::Entity;
use velox_store::IngestOutcome::{Duplicate, OtherContent};
use velox_store::{Error, NewPush};

/// Forms of one event that differ in type, payload, time, device, seq, clock and request id.
const FORMS: &str = "a@2/x sale S1 usd=1 seq=1
    a@1/x sale S1 usd=1 seq=1
    a@2/x void S1 usd=1 seq=1
    a@2/x sale S1 usd=9 seq=1
    a@2/w sale S1 usd=1 seq=1
    a@2/x sale S1 usd=1
    a@2/x sale S1 usd=1 seq=1 clock=y:1
    a@2/x sale S1 usd=1 seq=1 env=r";

/// Of the events of a store: type, payload, envelope, and whether it is another form than the first.
async fn effective(shop: &Shop, store_id: Uuid) -> Vec<String> {
    shop.value(&format!(
        "SELECT array_agg(concat_ws(' ', event_id, type, payload, created_at, device_id, seq, vector_clock, request_id)
             ORDER BY event_id)
         FROM effective_events WHERE store_id = '{store_id}'"
    ))
    .await
}

fn smallest(forms: &[Told]) -> Vec<Told> {
    let mut ids: Vec<&str> = forms.iter().map(|told| told.event.event_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let of = |id: &&str| {
        let same = forms.iter().filter(|told| told.event.event_id == **id);
        same.min_by_key(|told| told.event.form()).expect("a form").clone()
    };
    ids.iter().map(of).collect()
}

/// What [`effective`] says where only these were ever told.
async fn alone(shop: &Shop, store_id: Uuid, told: &[Told]) -> Vec<String> {
    let told: Vec<Told> = told
        .iter()
        .map(|told| {
            let mut told = told.clone();
            told.event.store_id = store_id;
            told
        })
        .collect();
    shop.store.ingest(&[push(&told)]).await.expect("an ingest");
    effective(shop, store_id).await
}

#[tokio::test]
async fn two_nodes_that_meet_forms_in_different_order_agree_on_the_one_that_counts() {
    let (one, other) = (Shop::open().await, Shop::open().await);
    let forms = story::events(one.id, FORMS);
    let expected = alone(&one, Uuid::from_u128(1), &smallest(&forms)).await;
    let mut met_first_counts = 0;
    for rotated in 0..forms.len() {
        // A store an order: one by one on the one node, as a single push and backwards on the other.
        let store_id = Uuid::from_u128(100 + rotated as u128);
        let mut told = story::events(store_id, FORMS);
        told.rotate_left(rotated);
        for form in &told {
            one.store.ingest(&[push(std::slice::from_ref(form))]).await.expect("an ingest");
        }
        told.reverse();
        other.store.ingest(&[push(&told)]).await.expect("an ingest");
        for shop in [&one, &other] {
            assert_eq!(effective(shop, store_id).await, expected, "rotated by {rotated}");
            let marked =
                format!("SELECT count(*) FROM event_variants WHERE effective AND store_id = '{store_id}'");
            let marked: i64 = shop.value(&marked).await;
            assert!(marked <= 1);
            met_first_counts += 1 - marked;
            let kept = format!("SELECT count(*) FROM event_variants WHERE store_id = '{store_id}'");
            assert_eq!(shop.value::<i64>(&kept).await, 7, "all forms are kept");
        }
    }
    assert_eq!(met_first_counts, 2, "no form is marked where the smallest one came first");
}

#[tokio::test]
async fn pods_that_meet_forms_of_the_same_events_at_once_agree_on_the_smallest() {
    let shop = Shop::open().await;
    let pods = [shop.store.clone(), shop.pod(), shop.pod()];
    let mut all = Vec::new();
    for round in 0..10 {
        let ids: Vec<String> = (0..12).map(|n| format!("e{round}-{n:02}")).collect();
        let told = |usd: u32| -> Vec<Told> {
            let lines: Vec<String> = ids.iter().map(|id| format!("{id}@1 sale S1 usd={usd}")).collect();
            story::events(shop.id, &lines.join("\n"))
        };
        let mut forms: Vec<Vec<Told>> = (1..=6).map(told).collect();
        forms.iter_mut().skip(1).step_by(2).for_each(|forms| forms.reverse());
        let pushes: Vec<[NewPush; 2]> = forms.chunks(2).map(|two| [push(&two[0]), push(&two[1])]).collect();
        let (a, b, c) =
            tokio::join!(pods[0].ingest(&pushes[0]), pods[1].ingest(&pushes[1]), pods[2].ingest(&pushes[2]));
        for ingested in [a, b, c] {
            ingested.expect("an ingest");
        }
        all.extend(forms.into_iter().flatten());
    }
    let expected = alone(&shop, Uuid::from_u128(1), &smallest(&all)).await;
    assert_eq!(effective(&shop, shop.id).await, expected);
    let entries = "SELECT count(*) FROM outbox_entries o JOIN events e USING (store_id, event_id)
                   WHERE o.store_id = (SELECT store_id FROM event_variants LIMIT 1)";
    assert_eq!(shop.value::<i64>(entries).await, 120, "one entry an event");
}

/// The projection entries, and the exceptions.
async fn queue(shop: &Shop) -> String {
    shop.value(
        "SELECT concat_ws('; ',
             (SELECT string_agg(concat_ws(' ', event_id, event_type, entity, priority, status, retry_count, error), ', '
                  ORDER BY event_id) FROM outbox_entries WHERE target = 'projection' AND peer = ''),
             (SELECT string_agg(event_id || ' ' || status, ', ' ORDER BY event_id) FROM event_exceptions))",
    )
    .await
}

async fn requeued(shop: &Shop, history: &str) -> BTreeSet<Entity> {
    let told = story::events(shop.id, history);
    shop.store.ingest(&[push(&told)]).await.expect("an ingest").requeued
}

#[tokio::test]
async fn an_event_is_queued_anew_exactly_when_another_form_of_it_counts() {
    let shop = Shop::open().await;
    let none = BTreeSet::new();
    assert_eq!(requeued(&shop, "a@5 sale S1 usd=1\nb@5 sale S2 usd=1").await, none);
    shop.project().await;
    assert_eq!(queue(&shop).await, "");
    assert_eq!(requeued(&shop, "a@6 sale S1 usd=1").await, none, "a greater form");
    assert_eq!(requeued(&shop, "a@5 sale S1 usd=1").await, none, "the same form");
    assert_eq!(queue(&shop).await, "");
    let flipped = "a SaleCreated sale 5 pending 0";
    assert_eq!(requeued(&shop, "a@3 sale S1 usd=1\na@4 sale S1 usd=1").await, [Entity::Sale].into());
    assert_eq!(queue(&shop).await, flipped);
    shop.project().await;
    assert_eq!(requeued(&shop, "a@3 sale S1 usd=1\na@4 sale S1 usd=1").await, none, "known by now");
    assert_eq!(queue(&shop).await, "");
    // By the projector of the form that counts now, also where the entry was not worked off yet.
    assert_eq!(requeued(&shop, "b@5 entry S2 sale").await, [Entity::Cash].into());
    assert_eq!(queue(&shop).await, "b CashLedgerEntryCreated cash 8 pending 0");
    assert_eq!(requeued(&shop, "b@5 Adone P1\nc@1 sale S3 usd=1").await, [Entity::Store].into());
    assert_eq!(queue(&shop).await, "b Adone store 10 pending 0, c SaleCreated sale 5 pending 0");
}

#[tokio::test]
async fn what_had_failed_or_was_skipped_is_forgotten_with_the_form_that_caused_it() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale !x\nb@1 Unheard P1\nc@1 sale S3 usd=1\nd@1 sale !y").await;
    let policy = velox_store::RetryPolicy { max_retries: 1, base: std::time::Duration::ZERO };
    shop.store.fail_projection(shop.id, "c", 1, "it broke", policy).await.expect("a failure");
    shop.project().await;
    assert_eq!(
        queue(&shop).await,
        "c SaleCreated sale 5 dead 1 it broke; a failed, b skipped, c failed, d failed"
    );
    let smaller = "a@1 debt D1 usd=1\nb@1 PriceChanged P1\nc@0 sale S3 usd=1";
    let entities = [Entity::Debt, Entity::Product, Entity::Sale].into();
    assert_eq!(requeued(&shop, smaller).await, entities);
    let entries =
        "a DebtCreated debt 4 pending 0, b PriceChanged product 3 pending 0, c SaleCreated sale 5 pending 0";
    assert_eq!(queue(&shop).await, format!("{entries}; d failed"));
}

#[tokio::test]
async fn a_form_its_mark_and_its_entry_are_kept_together_or_not_at_all() {
    let shop = Shop::open().await;
    shop.tell("a@5 sale S1 usd=1\nb@5 sale S2 usd=1").await;
    shop.project().await;
    shop.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'check_violation'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON outbox_entries FOR EACH ROW
         WHEN (NEW.event_id = 'b') EXECUTE FUNCTION refuse()",
    )
    .await;
    let smaller = push(&story::events(shop.id, "a@4 sale S1 usd=1\nb@4 sale S2 usd=1"));
    let error = shop.store.ingest(std::slice::from_ref(&smaller)).await.expect_err("a refusal");
    assert!(matches!(error, Error::Data(_)), "{error:?}");
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM event_variants").await, 0);
    assert_eq!(queue(&shop).await, "");
    shop.run("DROP TRIGGER refuse ON outbox_entries").await;
    let ingested = shop.store.ingest(&[smaller]).await.expect("an ingest");
    assert_eq!(ingested.outcomes().collect::<Vec<_>>(), [Duplicate; 2]);
    assert_eq!(ingested.requeued, [Entity::Sale].into());
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM event_variants WHERE effective").await, 2);
}

#[tokio::test]
async fn more_forms_than_one_transaction_takes_are_all_kept() {
    let shop = Shop::open().await;
    let history = |ms: u32| (0..450).map(|n| format!("e{n}@{ms} sale S1 usd=1\n")).collect::<String>();
    shop.tell(&history(9)).await;
    assert_eq!(shop.tell(&history(8)).await, [Duplicate; 450]);
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM event_variants WHERE effective").await, 450);
}

#[tokio::test]
async fn other_content_of_a_node_is_kept_and_told_as_that_of_a_till_is() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1").await;
    let mut relayed = push(&story::events(shop.id, "a@1 sale S1 usd=2"));
    relayed.from_peer = Some("peer".to_owned());
    let ingested = shop.store.ingest(&[relayed]).await.expect("an ingest");
    assert_eq!(ingested.outcomes().collect::<Vec<_>>(), [OtherContent]);
    let origin: Option<String> = shop.value("SELECT origin_node FROM event_variants").await;
    assert_eq!(origin.as_deref(), Some("peer"));
}
