//! Known events queued for a peer: each once, in the order of the relay, whatever stood there before.

use crate::shop::Shop;

fn ids(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// The peer's entries in the order in which they are claimed.
async fn entries(shop: &Shop, peer: &str) -> Vec<String> {
    let sql = format!(
        "SELECT coalesce(array_agg(concat_ws(' ', event_id, event_type, priority, status, retry_count)
             ORDER BY priority, created_at, event_id), '{{}}')
         FROM outbox_entries WHERE target = 'federation-relay' AND peer = '{peer}' AND entity = ''"
    );
    shop.value(&sql).await
}

#[tokio::test]
async fn events_are_queued_in_causal_order_and_unknown_ids_are_passed_over() {
    let shop = Shop::open().await;
    shop.tell("a@1 pay P1 debt=D1 usd=1\nb@2 sale S1 usd=1\nc@3 open C1\nd@4 Unheard-of U1").await;
    shop.run("UPDATE outbox_entries SET trace_parent = 'not the event''s'").await;
    let queue = async |text| shop.store.queue_relay(None, shop.id, "p", &ids(text)).await.expect("a queue");
    assert_eq!(queue("d c nobody b a b").await, 4);
    let priority = velox_protocol::catalogue::priority;
    let expected =
        [("c", "CashSessionOpened"), ("b", "SaleCreated"), ("a", "DebtPaymentRecorded"), ("d", "Unheard-of")];
    let line = |(id, kind): (&str, &str)| format!("{id} {kind} {} pending 0", priority(kind));
    assert_eq!(entries(&shop, "p").await, expected.map(line));
    let as_the_event: bool = shop
        .value(
            "SELECT bool_and(o.created_at = e.received_at AND o.trace_parent IS NOT DISTINCT FROM e.trace_parent)
             FROM outbox_entries o JOIN events e USING (store_id, event_id) WHERE o.peer = 'p'",
        )
        .await;
    assert!(as_the_event);
    assert_eq!(queue("a b c d").await, 0, "they wait already");
    let other = uuid::Uuid::from_u128(1);
    assert_eq!(shop.store.queue_relay(None, other, "p", &ids("a b")).await.expect("a queue"), 0);
    assert_eq!(entries(&shop, "q").await, [""; 0]);
}

#[tokio::test]
async fn an_entry_that_is_dead_or_done_begins_anew_and_one_that_waits_stays() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1\nb@1 sale S2\nc@1 sale S3").await;
    let queue = async || shop.store.queue_relay(None, shop.id, "p", &ids("a b c")).await.expect("a queue");
    assert_eq!(queue().await, 3);
    shop.run(
        "UPDATE outbox_entries SET retry_count = 3, error = 'no', next_attempt_at = now() + interval '1 h',
             locked_until = now() + interval '1 h', claim_token = gen_random_uuid(), status = CASE event_id
                 WHEN 'a' THEN 'dead' WHEN 'b' THEN 'processed' ELSE 'pending' END WHERE peer = 'p'",
    )
    .await;
    assert_eq!(queue().await, 2);
    let line = |id: &str, retries: u32| format!("{id} SaleCreated 3 pending {retries}");
    let priority = velox_protocol::catalogue::priority("SaleCreated");
    let expected = [line("a", 0), line("b", 0), line("c", 3)]
        .map(|line| line.replace(" 3 p", &format!(" {priority} p")));
    assert_eq!(entries(&shop, "p").await, expected);
    let due: i64 = shop
        .value(
            "SELECT count(*) FROM outbox_entries WHERE peer = 'p' AND next_attempt_at IS NULL AND locked_until IS NULL
             AND claim_token IS NULL AND error IS NULL AND processed_at IS NULL",
        )
        .await;
    assert_eq!(due, 2);
}

#[tokio::test]
async fn the_type_is_that_of_the_form_that_counts() {
    let shop = Shop::open().await;
    shop.tell("a@1 void S1").await;
    shop.tell("a@1 sale S1 usd=1").await;
    shop.store.queue_relay(None, shop.id, "p", &ids("a")).await.expect("a queue");
    let priority = velox_protocol::catalogue::priority("SaleCreated");
    assert_eq!(entries(&shop, "p").await, [format!("a SaleCreated {priority} pending 0")]);
}
