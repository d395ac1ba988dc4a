//! The outbox for operators: its pages, the dead put back, figures.

use crate::shop::Shop;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;
use velox_store::{
    Listed as _, OutboxFilter, OutboxKey, OutboxRow, OutboxStatus, OutboxTarget, PageRequest, Requeued,
    RetryPolicy,
};

const AT_ONCE: RetryPolicy = RetryPolicy { max_retries: 1, base: Duration::from_secs(60) };

/// All entries that pass, page by page.
async fn walk(shop: &Shop, store_id: Uuid, filter: OutboxFilter, limit: u32) -> Vec<OutboxRow> {
    let mut rows: Vec<OutboxRow> = Vec::new();
    loop {
        let after = rows.last().map(OutboxRow::key);
        let page =
            shop.store.read_outbox(store_id, filter, PageRequest { after, limit }).await.expect("a page");
        assert!(page.items.len() <= limit as usize);
        rows.extend(page.items);
        if !page.has_more {
            return rows;
        }
    }
}

async fn of_status(shop: &Shop, status: OutboxStatus) -> Vec<String> {
    let filter = OutboxFilter { status: Some(status), target: None };
    let rows = walk(shop, shop.id, filter, 1000).await;
    rows.iter()
        .map(|row| format!("{} {} {}", row.event_id, row.target, row.peer).trim_end().to_owned())
        .collect()
}

async fn die(shop: &Shop, store_id: Uuid, event_id: &str) {
    let dead = shop.store.fail_projection(store_id, event_id, 1, "it broke", AT_ONCE).await;
    assert_eq!(dead.expect("a failure"), Some(true));
}

async fn relays_die(shop: &Shop, which: &str) {
    shop.run(&format!(
        "UPDATE outbox_entries SET status = 'dead', retry_count = 3, error = 'refused', next_attempt_at = now(),
             locked_until = now(), claim_token = gen_random_uuid() WHERE peer <> '' AND {which}"
    ))
    .await;
}

fn ids(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn pages_leave_nothing_out_and_repeat_nothing() {
    let shop = Shop::open().await;
    let history: Vec<String> = (0..23).map(|n| format!("e{n}@{} sale S{n} usd=1", n + 1)).collect();
    shop.tell(&history.join("\n")).await;
    shop.store.queue_relay(None, shop.id, "p", &ids("e1 e2 e3 e9")).await.expect("a queue");
    shop.store.queue_relay(None, shop.id, "q", &ids("e2 e3")).await.expect("a queue");
    let all = walk(&shop, shop.id, OutboxFilter::default(), 1000).await;
    assert_eq!(all.len(), 29);
    let keys: Vec<OutboxKey> = all.iter().map(OutboxRow::key).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
    for limit in [1, 2, 7, 28, 29] {
        let paged = walk(&shop, shop.id, OutboxFilter::default(), limit).await;
        assert_eq!(paged.iter().map(OutboxRow::key).collect::<Vec<_>>(), keys, "by {limit}");
    }
    let relays = OutboxFilter { target: Some(OutboxTarget::FederationRelay), status: None };
    assert_eq!(walk(&shop, shop.id, relays, 2).await.len(), 6);
    let projections = OutboxFilter { target: Some(OutboxTarget::Projection), status: None };
    let entities: BTreeSet<String> =
        walk(&shop, shop.id, projections, 5).await.into_iter().map(|row| row.entity).collect();
    assert_eq!(entities, BTreeSet::from(["sale".to_owned()]));
    assert_eq!(walk(&shop, Uuid::from_u128(9), OutboxFilter::default(), 5).await.len(), 0);
}

#[tokio::test]
async fn the_dead_are_put_back_by_id_and_those_of_another_store_or_alive_are_left() {
    let shop = Shop::open().await;
    let other = Uuid::from_u128(77);
    shop.tell("a@1 sale S1 usd=1\nb@1 sale S2 usd=1\nc@1 sale S3 usd=1").await;
    shop.bring(crate::story::events(other, "a@1 sale S1 usd=1")).await;
    for (store_id, event_id) in [(shop.id, "a"), (shop.id, "b"), (other, "a")] {
        die(&shop, store_id, event_id).await;
    }
    shop.store.queue_relay(None, shop.id, "p", &ids("a b")).await.expect("a queue");
    relays_die(&shop, "true").await;
    assert_eq!(
        of_status(&shop, OutboxStatus::Dead).await,
        ["a federation-relay p", "a projection", "b federation-relay p", "b projection"]
    );
    let rows = walk(&shop, shop.id, OutboxFilter::default(), 100).await;
    let dead: Vec<&OutboxRow> = rows.iter().filter(|row| row.status == "dead").collect();
    assert_eq!((dead[0].error.as_deref(), dead[1].error.as_deref()), (Some("refused"), Some("it broke")));
    let alive = rows.iter().find(|row| row.event_id == "c").expect("c").id;
    let elsewhere = walk(&shop, other, OutboxFilter::default(), 9).await[0].id;

    let named = [dead[0].id, dead[1].id, alive, elsewhere, i64::MAX, -1];
    let requeued = shop.store.requeue_dead(shop.id, Some(&named)).await.expect("a requeue");
    let peers = BTreeSet::from(["p".to_owned()]);
    assert_eq!(requeued, Requeued { projections: 1, relays: 1, peers });
    assert_eq!(of_status(&shop, OutboxStatus::Dead).await, ["b federation-relay p", "b projection"]);
    assert_eq!((shop.status("b").await.as_str(), shop.status("c").await.as_str()), ("failed", "pending"));
    let failed = "SELECT string_agg(store_id || event_id, ',' ORDER BY event_id) FROM event_exceptions
                  WHERE status = 'failed'";
    assert_eq!(shop.value::<String>(failed).await, format!("{other}a,{}b", shop.id));
    let anew: i64 = shop
        .value(
            "SELECT count(*) FROM outbox_entries WHERE event_id = 'a' AND status = 'pending' AND retry_count = 0
             AND error IS NULL AND next_attempt_at IS NULL AND locked_until IS NULL AND claim_token IS NULL",
        )
        .await;
    assert_eq!(anew, 2);
    assert_eq!(shop.store.requeue_dead(shop.id, Some(&[])).await.expect("a requeue"), Requeued::default());

    let rest = shop.store.requeue_dead(shop.id, None).await.expect("a requeue");
    assert_eq!((rest.projections, rest.relays), (1, 1));
    assert_eq!(shop.store.outbox_stats(Some(other)).await.expect("figures").dead(None), 1);
    shop.project().await;
    shop.check("sale S1 by a\nsale S2 by b\nsale S3 by c").await;
}

#[tokio::test]
async fn more_dead_entries_than_one_statement_takes_are_all_put_back() {
    let shop = Shop::open().await;
    shop.run(&format!(
        "INSERT INTO outbox_entries (store_id, event_id, event_type, target, peer, status, priority, created_at)
         SELECT '{}', 'e' || n, 'SaleCreated', 'federation-relay', peer, 'dead', 1, now()
         FROM generate_series(1, 2100) AS n, unnest(ARRAY['p', 'q']) AS peer",
        shop.id
    ))
    .await;
    let requeued = shop.store.requeue_dead(shop.id, None).await.expect("a requeue");
    assert_eq!((requeued.projections, requeued.relays, requeued.peers.len()), (0, 4200, 2));
    let left = "SELECT count(*) FROM outbox_entries WHERE status <> 'pending'";
    assert_eq!(shop.value::<i64>(left).await, 0);
}

#[tokio::test]
async fn figures_tell_what_stands_where_how_old_it_is_and_what_was_done_lately() {
    let shop = Shop::open().await;
    let none = shop.store.outbox_stats(None).await.expect("figures");
    assert_eq!((none.entries.len(), none.work.len(), none.oldest_pending_seconds), (0, 0, None));
    shop.tell("a@1 sale S1 usd=1\nb@1 sale S2 usd=1\nc@1 sale S3 usd=1").await;
    shop.bring(crate::story::events(Uuid::from_u128(77), "a@1 sale S1 usd=1")).await;
    shop.store.queue_relay(None, shop.id, "p", &ids("a b")).await.expect("a queue");
    die(&shop, shop.id, "c").await;
    shop.run(
        "UPDATE outbox_entries SET created_at = now() - interval '90 s' WHERE event_id = 'b' AND peer = ''",
    )
    .await;
    shop.run(
        "INSERT INTO outbox_stats (minute, target, done, failed, total_ms) VALUES
             (date_trunc('minute', now()), 'projection', 4, 1, 10),
             (date_trunc('minute', now()) - interval '1 h', 'projection', 6, 2, 90),
             (date_trunc('minute', now()) - interval '25 h', 'projection', 1000, 1000, 1)",
    )
    .await;
    let stats = shop.store.outbox_stats(Some(shop.id)).await.expect("figures");
    let lines: Vec<String> = stats
        .entries
        .iter()
        .map(|row| format!("{} {} {} {}", row.target, row.peer, row.status, row.count))
        .collect();
    assert_eq!(
        lines,
        ["federation-relay p pending 2", "projection  dead 1", "projection  pending 2"],
        "of one store"
    );
    let oldest = stats.oldest_pending_seconds.expect("an age");
    assert!((90..150).contains(&oldest), "{oldest}");
    assert_eq!((stats.dead(None), stats.dead(Some(OutboxTarget::FederationRelay))), (1, 0));
    let work = &stats.work[0];
    assert_eq!((work.done_5m, work.failed_5m, work.avg_ms_5m), (4, 1, Some(2.5)));
    assert_eq!((work.done_24h, work.failed_24h, work.avg_ms_24h), (10, 3, Some(10.0)));
    let all = shop.store.outbox_stats(None).await.expect("figures");
    assert_eq!(all.entries.iter().map(|row| row.count).sum::<i64>(), 6);
}
