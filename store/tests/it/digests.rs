//! Digests of the log: whatever writes events, they are what the rows are.

use crate::shop::{Shop, push};
use crate::story;
use chrono::NaiveDate;
use futures_util::FutureExt as _;
use sqlx::AssertSqlSafe;
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::reconcile::Digest;
use velox_store::Recounted;

/// Digests that are not what their rows are, of buckets and of days. Folded ones: deltas are not looked at.
const WRONG: &str = "
    SELECT count(*) FROM (
        SELECT store_id, day, bucket, count(*) AS count, bit_xor(item_word(item, 0)) AS a, bit_xor(item_word(item, 1)) AS b
        FROM event_items GROUP BY store_id, day, bucket) AS f
    FULL JOIN (SELECT * FROM event_digests WHERE count <> 0 OR hash_a <> 0 OR hash_b <> 0) AS d
        USING (store_id, day, bucket)
    WHERE (f.count, f.a, f.b) IS DISTINCT FROM (d.count, d.hash_a, d.hash_b)";
const WRONG_DAYS: &str = "
    SELECT count(*) FROM (
        SELECT store_id, day, count(*) AS count, bit_xor(item_word(item, 0)) AS a, bit_xor(item_word(item, 1)) AS b
        FROM event_items GROUP BY store_id, day) AS f
    FULL JOIN (SELECT * FROM event_days WHERE count <> 0 OR hash_a <> 0 OR hash_b <> 0) AS d USING (store_id, day)
    WHERE (f.count, f.a, f.b) IS DISTINCT FROM (d.count, d.hash_a, d.hash_b)";

/// Events by plain SQL, of the first of the month 2026 on, so many an hour.
pub(crate) fn insert_many(store_id: Uuid, month: u32, first: u32, last: u32, an_hour: u32) -> String {
    format!(
        "INSERT INTO events (store_id, event_id, device_id, seq, type, payload, payload_hash, created_at, received_at)
         SELECT '{store_id}', 'many-' || i, 'till', i, 'SaleCreated', '{{}}', sha256(int4send(i)),
             timestamptz '2026-{month:02}-01 00:00Z' + i / {an_hour} * interval '1 hour', now()
         FROM generate_series({first}, {last}) AS i"
    )
}

fn day(month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, month, day).expect("a day")
}

/// How many digests are wrong after all deltas are folded.
async fn wrong(shop: &Shop) -> (i64, i64) {
    shop.store.fold_all_digests().await.expect("a fold");
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM event_digest_deltas").await, 0, "all are folded");
    (shop.value(WRONG).await, shop.value(WRONG_DAYS).await)
}

async fn deltas(shop: &Shop) -> i64 {
    shop.value("SELECT count(*) FROM event_digest_deltas").await
}

/// In one session, as an operator would.
async fn as_operator(shop: &Shop, sql: &str) {
    shop.run(&format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}; COMMIT")).await;
}

/// With no trigger at all, such as in a restore.
async fn unseen(shop: &Shop, sql: &str) {
    shop.run(&format!(
        "BEGIN; ALTER TABLE events DISABLE TRIGGER ALL; ALTER TABLE event_variants DISABLE TRIGGER ALL; {sql};
         ALTER TABLE events ENABLE TRIGGER ALL; ALTER TABLE event_variants ENABLE TRIGGER ALL; COMMIT"
    ))
    .await;
}

#[tokio::test]
async fn an_item_is_the_same_on_every_node_of_every_version() {
    let shop = Shop::open().await;
    let item = |arguments: &str| format!("SELECT encode(event_item({arguments}), 'hex')");
    let full = r#"'é\x', 'T', sha256('{}'), '2025-11-24 00:00:00.123Z', 'till', 7, 'r', '{"b":1,"aa":2}', 1"#;
    let full: String = shop.value(&item(full)).await;
    assert_eq!(full, "1ba8f409b6328edb13145b26ffe53d2afa0406302ff3d9ff074d76d86b87358d");
    let least = "'e', 'T', sha256('{}'), '1969-12-31 23:59:59.999Z', 'till', NULL, NULL, NULL, 1";
    let least: String = shop.value(&item(least)).await;
    assert_eq!(least, "b0abd39138e197a7da4983e64c3ce22035db7b971b827ae45638496019df9b44");
    let empty = "'e', 'T', sha256('{}'), '1969-12-31 23:59:59.999Z', 'till', NULL, '', '{}', 1";
    assert_eq!(shop.value::<String>(&item(empty)).await, least, "absent is empty");
    let buckets: Vec<i16> = shop.value(r"SELECT ARRAY[event_bucket('é\x'), event_bucket('e')]").await;
    assert_eq!(buckets, [34, 901]);
    let days = "SELECT ARRAY[event_day('2026-01-01 00:00Z'), event_day('2025-12-31 23:30-01'), event_day('2026-01-01 02:00+03')]";
    let new_year = NaiveDate::from_ymd_opt(2026, 1, 1).expect("a day");
    assert_eq!(
        shop.value::<Vec<NaiveDate>>(days).await,
        [new_year, new_year, day(12, 31) - chrono::Days::new(365)]
    );
}

#[tokio::test]
async fn items_tell_the_same_forms_apart_as_the_log_does() {
    let shop = Shop::open().await;
    // The same bytes in other fields, other fields each by itself, and a clock that says nothing.
    let history = "a@1/x sale S1 usd=1\na@1/x sale S1 usd=1 seq=1\na@1/x sale S1 usd=1 clock=y:1
        a@1/x sale S1 usd=1 clock=y:11\na@1/xr sale S1 usd=1\na@1/x sale S1 usd=1 env=r\na@2/x sale S1 usd=1
        a@1/x sale S1 usd=2\na@1/x void S1 usd=1\na@1/x sale S1 usd=1 version=2";
    shop.tell(history).await;
    shop.tell(history).await;
    let count = "SELECT count(DISTINCT item) FROM event_items WHERE event_id = 'a'";
    assert_eq!(shop.value::<i64>(count).await, 10);
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM event_items").await, 10);
    assert_eq!(wrong(&shop).await, (0, 0));
}

#[tokio::test]
async fn whatever_writes_events_is_seen() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1\na@0 sale S1 usd=1\nb@1 void S1").await;
    assert_eq!(wrong(&shop).await, (0, 0), "a push");
    assert_ne!(shop.value::<i64>("SELECT sum(count)::int8 FROM event_days").await, 0);
    shop.run(&insert_many(shop.id, 3, 1, 700, 10)).await;
    assert_eq!(wrong(&shop).await, (0, 0), "plain SQL");
    let mut connection = shop.pool.acquire().await.expect("a connection");
    let columns = "store_id, event_id, device_id, type, payload, payload_hash, created_at, received_at";
    let copy = format!("COPY events ({columns}) FROM STDIN");
    let mut copy = connection.copy_in_raw(&copy).await.expect("a copy");
    let row = format!("{}\tcopied\ttill\tT\t{{}}\t\\\\x00\t2026-01-01\t2026-01-01\n", shop.id);
    copy.send(row.as_bytes()).await.expect("a row");
    copy.finish().await.expect("a copy");
    assert_eq!(deltas(&shop).await, 1);
    assert_eq!(wrong(&shop).await, (0, 0), "COPY");
    as_operator(&shop, &insert_many(shop.id, 4, 900, 905, 9)).await;
    assert_eq!(wrong(&shop).await, (0, 0), "an operator's insert");
    as_operator(&shop, "DELETE FROM events WHERE seq % 3 = 0").await;
    assert_eq!(wrong(&shop).await, (0, 0), "an operator's delete");
    as_operator(&shop, "UPDATE events SET type = 'Other' WHERE seq % 3 = 1").await;
    assert_eq!(wrong(&shop).await, (0, 0), "an operator's update");
    as_operator(&shop, "UPDATE events SET created_at = created_at + interval '1 day' WHERE seq % 3 = 2")
        .await;
    assert_eq!(wrong(&shop).await, (0, 0), "an operator's update to another day");
    as_operator(&shop, "UPDATE event_variants SET seq = 77").await;
    as_operator(&shop, "DELETE FROM event_variants").await;
    assert_eq!(wrong(&shop).await, (0, 0), "of variants");
    shop.tell("a@0 sale S1 usd=1").await;
    as_operator(&shop, "TRUNCATE events").await;
    assert_eq!(wrong(&shop).await, (0, 0), "an operator's truncate");
    assert_eq!(shop.value::<i64>("SELECT sum(count)::int8 FROM event_days").await, 1, "the variant is left");
}

#[tokio::test]
async fn a_statement_notes_a_row_a_day_and_nothing_where_no_form_changes() {
    let shop = Shop::open().await;
    shop.run(&insert_many(shop.id, 3, 1, 600, 25)).await;
    assert_eq!(deltas(&shop).await, 2, "two days");
    let elements: Vec<i64> = shop
        .value("SELECT array_agg((SELECT sum(n)::int8 FROM unnest(counts) AS n)) FROM event_digest_deltas")
        .await;
    assert_eq!(elements.iter().sum::<i64>(), 600);
    shop.store.fold_all_digests().await.expect("a fold");
    shop.tell("a@5 sale S1 usd=1").await;
    shop.tell("a@5 sale S1 usd=1").await;
    assert_eq!(deltas(&shop).await, 1, "a repetition is none");
    shop.tell("a@4 sale S1 usd=1").await;
    assert!(shop.value::<bool>("SELECT effective FROM event_variants").await);
    assert_eq!(deltas(&shop).await, 2, "another form that counts is noted once");
}

#[tokio::test]
async fn events_from_before_the_migration_are_counted_by_it() {
    let shop = Shop::open().await;
    unseen(&shop, &insert_many(shop.id, 3, 1, 700, 10)).await;
    assert_ne!(wrong(&shop).await, (0, 0));
    shop.run("SELECT recount_events()").await;
    assert_eq!(wrong(&shop).await, (0, 0));
}

#[tokio::test]
async fn pods_that_fold_at_once_fold_each_delta_once() {
    let shop = Shop::open().await;
    let pods = [shop.pod(), shop.pod()];
    let mut folded = 0;
    for round in 0..5 {
        for n in 0..130 {
            shop.run(&insert_many(shop.id, 3, round * 1_000 + n * 5, round * 1_000 + n * 5 + 4, 24)).await;
        }
        let (a, b) = tokio::join!(pods[0].fold_digests(shop.id), pods[1].fold_digests(shop.id));
        folded += a.expect("a fold") + b.expect("a fold");
    }
    assert!(folded >= 650, "{folded}");
    assert_eq!(wrong(&shop).await, (0, 0));
}

#[tokio::test]
async fn more_deltas_than_one_transaction_takes_are_all_folded() {
    let shop = Shop::open().await;
    let statement = |n: u32| insert_many(shop.id, 3, n, n, 24);
    shop.run(&(0..1_100).map(statement).collect::<Vec<_>>().join(";")).await;
    assert_eq!(shop.store.fold_digests(Uuid::nil()).await.expect("a fold"), 0, "another store");
    assert_eq!(shop.store.fold_digests(shop.id).await.expect("a fold"), 1_100);
    assert_eq!(wrong(&shop).await, (0, 0));
}

#[tokio::test]
async fn digests_are_read_by_year_day_and_bucket() {
    let shop = Shop::open().await;
    shop.run(&insert_many(shop.id, 12, 0, 99, 2)).await;
    shop.run(&insert_many(Uuid::nil(), 12, 0, 99, 2)).await;
    shop.run(&insert_many(shop.id, 12, 800_000, 800_001, 1_000)).await;
    shop.store.fold_digests(shop.id).await.expect("a fold");
    let counts = |digests: &[Digest]| -> Vec<(NaiveDate, u64)> {
        let mut counts: Vec<_> = digests.iter().map(|digest| (digest.day, digest.count)).collect();
        counts.sort_unstable();
        counts
    };
    let new_year = |year| NaiveDate::from_ymd_opt(year, 1, 1).expect("a day");
    let years = shop.store.year_digests(shop.id).await.expect("digests");
    assert_eq!(counts(&years), [(new_year(2026), 100), (new_year(2027), 2)]);
    let days = shop.store.day_digests(shop.id, &[2025, 2026]).await.expect("digests");
    assert_eq!(counts(&days), [(day(12, 1), 48), (day(12, 2), 48), (day(12, 3), 4)]);
    let buckets = shop.store.bucket_digests(shop.id, &[day(12, 1), day(12, 3)]).await.expect("digests");
    assert_eq!(buckets.iter().map(|digest| digest.count).sum::<u64>(), 52);
    let xor =
        buckets.iter().filter(|digest| digest.day == day(12, 3)).fold(0, |xor, digest| xor ^ digest.hash_a);
    assert_eq!(days.iter().find(|digest| digest.day == day(12, 3)).map(|digest| digest.hash_a), Some(xor));
}

#[tokio::test]
async fn a_recount_mends_what_was_spoiled_and_tells_so() {
    let shop = Shop::open().await;
    shop.run(&insert_many(shop.id, 3, 0, 1_999, 100)).await;
    shop.tell("a@1 sale S1 usd=1\na@0 sale S1 usd=1").await;
    assert_eq!(wrong(&shop).await, (0, 0));
    let recount = async |day| shop.store.recount_day(shop.id, day).await.expect("a recount");
    assert!(!recount(day(3, 1)).await, "nothing is wrong");
    for spoil in [
        "UPDATE event_digests SET hash_a = hash_a + 1 WHERE bucket = 7",
        "UPDATE event_digests SET hash_b = 0, count = -4 WHERE bucket > 800",
        "UPDATE event_days SET count = count + 1",
        "UPDATE event_days SET hash_b = hash_b # 1",
        "DELETE FROM event_digests WHERE bucket < 9",
        "DELETE FROM event_days",
        "DELETE FROM event_digests; DELETE FROM event_days",
    ] {
        shop.run(&format!("BEGIN; {spoil}; COMMIT")).await;
        assert_ne!((shop.value::<i64>(WRONG).await, shop.value::<i64>(WRONG_DAYS).await), (0, 0), "{spoil}");
        assert!(recount(day(3, 1)).await, "{spoil}");
        assert!(!recount(day(3, 1)).await, "{spoil}");
        let new_year = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a day");
        recount(new_year).await;
        assert_eq!(wrong(&shop).await, (0, 0), "{spoil}");
    }
    unseen(&shop, "DELETE FROM events WHERE seq < 2000").await;
    assert!(recount(day(3, 1)).await, "all rows are gone");
    assert_eq!(wrong(&shop).await, (0, 0));
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM event_digests WHERE day > '2000-01-01'").await, 0);
}

#[tokio::test]
async fn a_recount_is_right_while_events_come() {
    let shop = Shop::open().await;
    shop.run(&insert_many(shop.id, 3, 0, 9_999, 1_000)).await;
    shop.store.fold_digests(shop.id).await.expect("a fold");
    let writing = async {
        for round in 0..60 {
            let first = 10_000 + round * 50;
            shop.run(&insert_many(shop.id, 3, first, first + 49, 1_000)).await;
            let history: String = (0..20).map(|n| format!("r{round}-{n}@{n} sale S{n} usd=1\n")).collect();
            shop.tell(&history).await;
        }
    };
    let pod = shop.pod();
    let counting = async {
        let mut recounts = 0;
        loop {
            for day in [day(3, 1), NaiveDate::from_ymd_opt(1970, 1, 1).expect("a day")] {
                assert!(
                    !pod.recount_day(shop.id, day).await.expect("a recount"),
                    "it found a fault of its own"
                );
                recounts += 1;
            }
            assert!(recounts < 100_000);
        }
    };
    let folding = async {
        loop {
            shop.store.fold_digests(shop.id).await.expect("a fold");
        }
    };
    let busy = futures_util::future::join(counting, folding).map(|_: ((), ())| ());
    tokio::select! {
        () = writing => {}
        () = busy => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("the writer does not get on"),
    }
    assert_eq!(wrong(&shop).await, (0, 0));
}

#[tokio::test]
async fn the_rolling_recount_goes_around_and_meets_days_that_it_did_not_know() {
    let shop = Shop::open().await;
    assert_eq!(shop.store.recount_oldest(shop.id, 10).await.expect("a recount"), Recounted::default());
    // Ten days of 24 events.
    shop.run(&insert_many(shop.id, 3, 0, 239, 1)).await;
    assert_eq!(wrong(&shop).await, (0, 0));
    let recount = async |rows| shop.store.recount_oldest(shop.id, rows).await.expect("a recount");
    assert_eq!(recount(48).await, Recounted { days: 2, rows: 48, mended: vec![] });
    assert_eq!(recount(49).await, Recounted { days: 3, rows: 72, mended: vec![] });
    // The second day has been counted, the eighth has not; April is new, and of May only the digests are left.
    shop.run("UPDATE event_digests SET hash_a = 0 WHERE day IN ('2026-03-02', '2026-03-08')").await;
    unseen(&shop, &insert_many(shop.id, 4, 1_000, 1_009, 1_000)).await;
    shop.run(&insert_many(shop.id, 5, 2_000, 2_009, 1_000)).await;
    shop.store.fold_digests(shop.id).await.expect("a fold");
    unseen(&shop, "DELETE FROM events WHERE seq BETWEEN 2000 AND 2009").await;
    assert_eq!(recount(72).await, Recounted { days: 3, rows: 72, mended: vec![day(3, 8)] });
    assert_eq!(recount(48).await, Recounted { days: 2, rows: 48, mended: vec![] });
    assert_eq!(
        recount(1_000).await,
        Recounted { days: 12, rows: 250, mended: vec![day(4, 1), day(5, 1), day(3, 2)] },
        "once around, and no day twice"
    );
    assert_eq!(wrong(&shop).await, (0, 0));
    assert_eq!(recount(10_000).await.days, 11);
}

#[tokio::test]
async fn the_search_path_of_whoever_writes_does_not_matter() {
    let shop = Shop::open().await;
    let insert = insert_many(shop.id, 3, 1, 5, 1).replace("INTO events", "INTO public.events");
    sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; SET LOCAL search_path = ''; {insert}; COMMIT")))
        .execute(&shop.pool)
        .await
        .expect("an insert");
    assert_eq!(wrong(&shop).await, (0, 0));
}

#[tokio::test]
async fn all_forms_of_events_are_read_as_they_were_stored() {
    let shop = Shop::open().await;
    let told = story::events(
        shop.id,
        "a@1/x sale S1 usd=1 seq=3 clock=y:2 env=r by=u version=2\na@0 void S1\nb@5 Odd P1\nc@1 sale S2",
    );
    let mut pushed = push(&told);
    pushed.from_peer = Some("peer".to_owned());
    pushed.trace_parent = Some("00-1-2-01".to_owned());
    let first = &mut pushed.events[0].event;
    first.sent_hash = Some([7; 32]);
    first.delta_payload = Some(r#"{"d" : 1.0}"#.to_owned());
    first.causal_dependencies = vec!["z".to_owned()];
    first.causal_digest = Some("digest".to_owned());
    first.actor_role = Some("cashier".to_owned());
    let events: Vec<_> = pushed.events.iter().map(|new| new.event.clone()).collect();
    shop.store.ingest(&[pushed]).await.expect("an ingest");
    let ids = ["b", "a", "nobody", "a"].map(str::to_owned);
    let entries = shop.store.events_for_peer(shop.id, &ids).await.expect("entries");
    let named: Vec<(&str, usize)> = entries.iter().map(|e| (e.event_id.as_str(), e.forms.len())).collect();
    assert_eq!(named, [("a", 2), ("b", 1)]);
    let forms: Vec<_> = entries.iter().flat_map(|entry| &entry.forms).collect();
    for (form, event) in forms.iter().zip(&events[..3]) {
        assert_eq!(form.origin_node.as_deref(), Some("peer"));
        assert_eq!(
            (&form.device_id, form.seq, &form.event_type),
            (&event.device_id, event.seq, &event.event_type)
        );
        assert_eq!(
            (form.version, form.created_at, &form.payload),
            (event.version, event.created_at, &event.payload)
        );
        assert_eq!(form.payload_hash, event.payload_hash);
        assert_eq!(form.sent_hash.as_deref(), event.sent_hash.as_ref().map(<[u8; 32]>::as_slice));
        assert_eq!((&form.delta_payload, &form.causal_digest), (&event.delta_payload, &event.causal_digest));
        assert_eq!(form.vector_clock.as_ref().map(|json| &json.0), event.vector_clock.as_ref());
        let dependencies = form.causal_dependencies.as_ref().map(|json| json.0.clone()).unwrap_or_default();
        assert_eq!(dependencies, event.causal_dependencies);
        assert_eq!((&form.request_id, &form.actor_user_id), (&event.request_id, &event.actor_user_id));
        assert_eq!(form.actor_role, event.actor_role);
    }
    assert!(shop.store.events_for_peer(Uuid::nil(), &ids).await.expect("entries").is_empty());
}
