//! The event log: what is new, what is known, what is kept beside it, and all or nothing.

use crate::shop::{Shop, push};
use crate::story::{self, Told};
use std::collections::BTreeMap;
use velox_store::IngestOutcome::{Duplicate, New, OtherContent};
use velox_store::{Error, IngestOutcome, Ingested, NewPush};

const STANDS: IngestOutcome = New { absorbed: false, collides: false };

/// Push by push.
fn outcomes(ingested: Ingested) -> Vec<Vec<IngestOutcome>> {
    ingested.pushes.into_iter().map(|push| push.events).collect()
}

#[tokio::test]
async fn an_event_is_new_then_a_duplicate_and_other_content_is_told_apart() {
    let shop = Shop::open().await;
    assert_eq!(shop.tell("a@1 sale S1 usd=1\nb@2 sale S2 usd=1").await, [STANDS, STANDS]);
    assert_eq!(
        shop.tell("b@2 sale S2 usd=1\nc@3 sale S3 usd=1\na@1 sale S1 usd=1").await,
        [Duplicate, STANDS, Duplicate]
    );
    // Other payload, other type; and the first again.
    let again = "a@1 sale S1 usd=2\na@1 void S1\na@1 sale S1 usd=1";
    assert_eq!(shop.tell(again).await, [OtherContent, OtherContent, Duplicate]);
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM events").await, 3);
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM outbox_entries").await, 3, "one entry an event");
    let totals: String = shop
        .value("SELECT string_agg(payload->>'total_usd', ' ') FROM events WHERE type = 'SaleCreated'")
        .await;
    assert_eq!(totals, "1 1 1", "the log keeps what came first");
}

#[tokio::test]
async fn every_other_form_is_kept_once() {
    let shop = Shop::open().await;
    shop.tell("a@1/x sale S1 usd=1 seq=1").await;
    let outcomes = shop
        .tell(
            "a@1/x sale S1 usd=1 seq=1
             a@2/x sale S1 usd=1 seq=1
             a@1/y sale S1 usd=1 seq=1
             a@1/x sale S1 usd=1 seq=2
             a@1/x sale S1 usd=1 seq=1 clock=y:1
             a@1/x sale S1 usd=1 seq=1 env=r
             a@1/x sale S1 usd=1 seq=1 by=u
             a@1/x sale S1 usd=9 seq=1
             a@1/x void S1 usd=1 seq=1
             a@1/x sale S1 usd=9 seq=1",
        )
        .await;
    // The same type and payload is a repetition for the sender, whatever the envelope says.
    let mut expected = vec![Duplicate; 7];
    expected.extend([OtherContent; 3]);
    assert_eq!(outcomes, expected);
    let kept: String = shop
        .value(
            "SELECT string_agg(concat_ws(' ', type, payload->>'total_usd', (extract(epoch FROM created_at) * 1000)::int8, device_id,
                 seq, vector_clock, request_id), '; ' ORDER BY type, payload->>'total_usd', created_at, device_id, seq,
                 vector_clock NULLS FIRST, request_id NULLS FIRST)
             FROM event_variants",
        )
        .await;
    let forms: Vec<&str> = kept.split("; ").collect();
    let expected = [
        "SaleCreated 1 1 x 1 r",
        "SaleCreated 1 1 x 1 {\"y\": 1}",
        "SaleCreated 1 1 x 2",
        "SaleCreated 1 1 y 1",
        "SaleCreated 1 2 x 1",
        "SaleCreated 9 1 x 1",
        "SaleVoided 1 x 1",
    ];
    let trimmed: Vec<String> = forms.iter().map(|form| form.replace("000000000000", "")).collect();
    assert_eq!(trimmed.len(), expected.len(), "{forms:#?}");
    for form in expected {
        assert!(trimmed.iter().any(|kept| kept.starts_with(form)), "{form} is not among {trimmed:#?}");
    }
}

#[tokio::test]
async fn one_id_twice_in_a_group_is_stored_once() {
    let shop = Shop::open().await;
    let history = "a@1 sale S1 usd=1\na@1 sale S1 usd=1\na@1 sale S1 usd=2\nb@1 sale S2 usd=1";
    assert_eq!(shop.tell(history).await, [STANDS, Duplicate, OtherContent, STANDS]);
    let first = push(&story::events(shop.id, "c@1 sale S3 usd=1"));
    let second = push(&story::events(shop.id, "c@1 sale S3 usd=3\nd@1 sale S4 usd=1"));
    let ingested = shop.store.ingest(&[first.clone(), second, first, NewPush::default()]).await;
    assert_eq!(
        outcomes(ingested.expect("an ingest")),
        [vec![STANDS], vec![OtherContent, STANDS], vec![Duplicate], vec![]]
    );
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM event_variants").await, 2);
}

#[tokio::test]
async fn a_group_of_several_stores_tells_their_ids_apart() {
    let shop = Shop::open().await;
    let stores = [1, 2, 3].map(uuid::Uuid::from_u128);
    let pushes = stores.map(|store| push(&story::events(store, "a@1 sale S1 usd=1")));
    let ingested = shop.store.ingest(&pushes).await.expect("an ingest");
    assert_eq!(outcomes(ingested), [[STANDS], [STANDS], [STANDS]]);
    shop.project().await;
    assert_eq!(shop.value::<i64>("SELECT count(DISTINCT store_id) FROM sales").await, 3);
    assert_eq!(shop.store.ingest(&[]).await.expect("an ingest"), Ingested::default());
}

#[tokio::test]
async fn two_pods_that_store_the_same_events_at_once_agree_on_who_was_first() {
    let shop = Shop::open().await;
    let pods = [shop.store.clone(), shop.pod(), shop.pod()];
    for round in 0..20 {
        let history: Vec<String> = (0..10).map(|i| format!("e{round}-{i}@1 sale S{i} usd=1")).collect();
        let mut events = story::events(shop.id, &history.join("\n"));
        let one = push(&events);
        events.reverse();
        let other = push(&events);
        let (a, b, c) = tokio::join!(
            pods[0].ingest(std::slice::from_ref(&one)),
            pods[1].ingest(std::slice::from_ref(&other)),
            pods[2].ingest(std::slice::from_ref(&one)),
        );
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let all = [a, b, c].map(|ingested| outcomes(ingested.expect("an ingest")));
        for outcome in all.into_iter().flatten().flatten() {
            *counts.entry(if outcome == Duplicate { "duplicate" } else { "new" }).or_default() += 1;
        }
        assert_eq!(counts, BTreeMap::from([("duplicate", 20), ("new", 10)]));
    }
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM outbox_entries").await, 200);
}

#[tokio::test]
async fn events_and_their_entries_are_stored_together_or_not_at_all() {
    let shop = Shop::open().await;
    shop.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'check_violation'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON outbox_entries FOR EACH ROW
         WHEN (NEW.event_id = 'b') EXECUTE FUNCTION refuse()",
    )
    .await;
    let group = push(&story::events(shop.id, "a@1 sale S1 usd=1\nb@1 sale S2 usd=1\nc@1 sale S3 usd=1"));
    let error = shop.store.ingest(std::slice::from_ref(&group)).await.expect_err("a refusal");
    assert!(matches!(error, Error::Data(_)), "{error:?}");
    for table in ["events", "outbox_entries", "event_variants"] {
        assert_eq!(shop.value::<i64>(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    shop.run("DROP TRIGGER refuse ON outbox_entries").await;
    assert_eq!(outcomes(shop.store.ingest(&[group]).await.expect("an ingest")), [vec![STANDS; 3]]);
}

#[tokio::test]
async fn an_entry_says_who_projects_its_event_and_how_urgent_it_is() {
    let shop = Shop::open().await;
    let mut group =
        push(&story::events(shop.id, "a@1 open X1\nb@1 sale S1 usd=1\nc@1 Unheard P1\nd@1 pay M1 D1 usd=1"));
    group.trace_parent = Some("00-trace".to_owned());
    group.from_peer = Some("peer".to_owned());
    shop.store.ingest(&[group]).await.expect("an ingest");
    let entries: String = shop
        .value("SELECT string_agg(concat_ws(' ', event_id, event_type, target, entity, priority, status, trace_parent), ', ' ORDER BY event_id) FROM outbox_entries WHERE peer = '' AND retry_count = 0")
        .await;
    assert_eq!(
        entries,
        "a CashSessionOpened projection cash 1 pending 00-trace, b SaleCreated projection sale 5 pending 00-trace, \
         c Unheard projection store 10 pending 00-trace, d DebtPaymentRecorded projection debt 6 pending 00-trace"
    );
    let agreed = "SELECT bool_and(o.created_at = e.received_at AND e.origin_node = 'peer' AND e.trace_parent = '00-trace')
                  FROM outbox_entries o JOIN events e USING (store_id, event_id)";
    assert!(shop.value::<bool>(agreed).await);
}

#[tokio::test]
async fn received_at_is_cut_to_the_millisecond_and_one_for_all_of_a_group() {
    let shop = Shop::open().await;
    shop.run(
        "ALTER TABLE events ADD COLUMN begun timestamptz DEFAULT now(),
             ADD COLUMN inserted timestamptz DEFAULT clock_timestamp()",
    )
    .await;
    // A rounded one would be ahead of the clock in half of the cases.
    for n in 0..100 {
        shop.tell(&format!("a{n}@1 sale S1 usd=1\nb{n}@1 sale S1 usd=1")).await;
    }
    let wrong = "SELECT count(*) FROM events WHERE received_at > inserted
                     OR received_at < date_trunc('milliseconds', begun)";
    assert_eq!(shop.value::<i64>(wrong).await, 0);
    let apart = "SELECT count(*) FROM events a JOIN events b ON b.event_id = replace(a.event_id, 'a', 'b')
                 WHERE a.event_id LIKE 'a%' AND a.received_at <> b.received_at";
    assert_eq!(shop.value::<i64>(apart).await, 0);
}

#[tokio::test]
async fn everything_is_kept_byte_for_byte() {
    let shop = Shop::open().await;
    let payloads = [
        r#"{"sale_id":"S","total":1e2}"#,
        "{ \"sale_id\" :\t\"S\",\n \"total\" : 100.000 , \"b\":1,\"a\":2 }",
        r#"{"text":"\u00e9\/é 🧾","n":-0.0,"big":1234567890123456789012345678.12345,"empty":{},"list":[ ]}"#,
    ];
    for (n, payload) in payloads.iter().enumerate() {
        let text = format!(
            r#"{{"event_id":"e{n}","seq":7,"type":"Kept","version":3,"created_at":"2025-11-24T12:00:00.1239Z",
                "actor_user_id":"u","actor_role":"cashier","request_id":"r","causal_dependencies":["x","y"],
                "causal_digest":"d","vector_clock":{{"till":3,"b":1.5}},"delta_payload":{payload},"payload":{payload}}}"#
        );
        shop.bring(vec![Told::read(shop.id, "till", &text)]).await;
    }
    let kept: Vec<String> = shop.value("SELECT array_agg(payload::text ORDER BY event_id) FROM events").await;
    assert_eq!(kept, payloads);
    let deltas: Vec<String> =
        shop.value("SELECT array_agg(delta_payload::text ORDER BY event_id) FROM events").await;
    assert_eq!(deltas, payloads);
    let rest: String = shop
        .value(
            "SELECT concat_ws(' ', device_id, seq, type, version, vector_clock, causal_dependencies, causal_digest,
                 request_id, actor_user_id, actor_role, created_at AT TIME ZONE 'UTC') FROM events WHERE event_id = 'e0'",
        )
        .await;
    let expected = "till 7 Kept 3 {\"till\": 3} [\"x\", \"y\"] d r u cashier 2025-11-24 12:00:00.123";
    assert_eq!(rest, expected);
    let hashed = "SELECT bool_and(octet_length(payload_hash) = 32) FROM events";
    assert!(shop.value::<bool>(hashed).await);
}

#[tokio::test]
async fn what_is_absent_is_null() {
    let shop = Shop::open().await;
    shop.bring(vec![Told::read(shop.id, "till", r#"{"event_id":"a","type":"T","payload":{}}"#)]).await;
    let absent = "SELECT num_nulls(seq, sent_hash, delta_payload, vector_clock, causal_dependencies, causal_digest, request_id,
                      actor_user_id, actor_role, origin_node, trace_parent) FROM events WHERE version = 1";
    assert_eq!(shop.value::<i32>(absent).await, 11);
    let created_at = "SELECT created_at = 'epoch' FROM events";
    assert!(shop.value::<bool>(created_at).await);
}

#[tokio::test]
async fn a_new_event_is_told_absorbed_by_a_smaller_one_that_is_projected() {
    let shop = Shop::open().await;
    shop.tell("a@5 sale S1 usd=1 req=r\nd@5 debt D1 usd=1\nm@5 receive K1 P1x1\np@5 pay M1 D1 usd=1 req=q")
        .await;
    shop.project().await;
    let history = "b@6 sale S1 usd=1
                   c@6 sale S2 usd=1 env=r
                   e@6 debt D1 usd=1
                   f@6 debt D2 usd=1
                   n@6 adjust K1 P1x1
                   q@6 pay M2 D1 usd=1 env=q
                   g@4 sale S1 usd=1
                   h@5/a sale S1 usd=1
                   i@5/z sale S1 usd=1";
    let absorbed: Vec<bool> = shop
        .tell(history)
        .await
        .iter()
        .map(|outcome| matches!(outcome, New { absorbed: true, .. }))
        .collect();
    assert_eq!(absorbed, [true, true, true, false, true, true, false, false, true]);
    // In another store nothing of it is known.
    let elsewhere = story::events(uuid::Uuid::from_u128(5), "b@6 sale S1 usd=1");
    assert_eq!(shop.bring(elsewhere).await, [STANDS]);
}

#[tokio::test]
async fn the_last_seq_of_a_device_is_its_greatest() {
    let shop = Shop::open().await;
    shop.tell(
        "a@1/x sale S1 usd=1 seq=7\nb@1/x sale S2 usd=1 seq=3\nc@1/x sale S3 usd=1\nd@1/y sale S4 usd=1",
    )
    .await;
    let last =
        async |device: &str| shop.store.last_seq(shop.id, device).await.expect("a seq").map(|(seq, _)| seq);
    assert_eq!((last("x").await, last("y").await, last("z").await), (Some(7), Some(0), None));
}

#[tokio::test]
async fn a_seq_under_two_ids_of_one_device_collides() {
    let shop = Shop::open().await;
    let collide = async |history: &str| -> Vec<bool> {
        let outcomes = shop.tell(history).await;
        outcomes.iter().map(|outcome| matches!(outcome, New { collides: true, .. })).collect()
    };
    let first = "a@1/x sale S1 usd=1 seq=1\nb@1/x sale S2 usd=1 seq=2\nn@1/node sale S3 usd=1 seq=1";
    assert_eq!(collide(first).await, [false; 3]);
    // Against the log; but not of another device, under another seq, under none, or of v1's nodes.
    let later = "c@2/x sale S4 usd=1 seq=2
                 d@2/y sale S4 usd=1 seq=2
                 e@2/x sale S4 usd=1 seq=3
                 f@2/x sale S4 usd=1 seq=0
                 g@2/x sale S4 usd=1 seq=0
                 h@2/x sale S4 usd=1
                 i@2/x sale S4 usd=1
                 o@2/node sale S4 usd=1 seq=1";
    assert_eq!(collide(later).await, [true, false, false, false, false, false, false, false]);
    // Within a group the later one; a repetition and another form of a known event are no new events.
    let group = "k@3/x sale S5 usd=1 seq=9\nl@3/x sale S6 usd=1 seq=9\na@1/x sale S1 usd=1 seq=1\nb@1/x sale S2 usd=1 seq=1
                 p@3/node sale S5 usd=1 seq=9\nq@3/node sale S6 usd=1 seq=9";
    assert_eq!(collide(group).await, [false, true, false, false, false, false]);
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM events").await, 15, "all are kept");
    // Another shop may count as it likes.
    let elsewhere = story::events(uuid::Uuid::from_u128(5), "a@1/x sale S1 usd=1 seq=1");
    assert_eq!(shop.bring(elsewhere).await, [STANDS]);
}

#[tokio::test]
async fn two_tills_of_one_identity_that_push_at_once_are_told_once_at_least() {
    let shop = Shop::open().await;
    let one = push(&story::events(shop.id, "a@1/x sale S1 usd=1 seq=1"));
    let other = push(&story::events(shop.id, "b@1/x sale S2 usd=1 seq=1"));
    let ingested = shop.store.ingest(&[one, other]).await.expect("an ingest");
    let collides = New { absorbed: false, collides: true };
    assert_eq!(outcomes(ingested), [[STANDS], [collides]]);
}
