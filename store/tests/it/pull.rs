//! Pages of the log: in order of arrival, whole, and never beyond what may still commit.

use crate::shop::Shop;
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;
use velox_store::{PullPosition, PullRequest, Pulled};

fn request(shop: &Shop) -> PullRequest {
    PullRequest {
        store_id: shop.id,
        after: None,
        without_device: None,
        without_types: Vec::new(),
        limit: 100,
    }
}

async fn pull(shop: &Shop, request: &PullRequest) -> Pulled {
    shop.store.pull(request).await.expect("a page")
}

fn ids(page: &Pulled) -> Vec<&str> {
    page.events.iter().map(|event| event.event_id.as_str()).collect()
}

/// Walks the log in pages of `limit`.
async fn walk(shop: &Shop, limit: i64) -> Vec<String> {
    let mut seen = Vec::new();
    let mut ask = PullRequest { limit, ..request(shop) };
    loop {
        let page = pull(shop, &ask).await;
        assert!(page.events.len() as i64 <= limit);
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        ask.after = page.end;
        if !page.has_more {
            return seen;
        }
    }
}

#[tokio::test]
async fn pages_are_in_order_of_arrival_and_whole() {
    let shop = Shop::open().await;
    let empty = pull(&shop, &request(&shop)).await;
    assert_eq!((empty.events.len(), empty.end, empty.has_more), (0, None, false));
    // Of one arrival by their ids; their own times do not matter.
    shop.tell("c@3 sale S1 usd=1\na@9 sale S2 usd=1\nb@1 sale S3 usd=1").await;
    shop.tell("A@5 sale S4 usd=1").await;
    shop.bring(crate::story::events(Uuid::from_u128(9), "x@1 sale S1 usd=1")).await;
    shop.run("ALTER TABLE events DISABLE TRIGGER events_are_kept").await;
    shop.run("UPDATE events SET received_at = received_at + interval '1 s' WHERE event_id = 'A'").await;
    shop.run("UPDATE events SET received_at = received_at - interval '1 h'").await;
    for limit in [1, 2, 3, 4, 100] {
        assert_eq!(walk(&shop, limit).await, ["a", "b", "c", "A"], "limit {limit}");
    }
    let end = pull(&shop, &request(&shop)).await.end.expect("a position");
    let beyond = PullRequest { after: Some(end.clone()), ..request(&shop) };
    let page = pull(&shop, &beyond).await;
    assert_eq!(
        (page.events.len(), page.end, page.has_more),
        (0, Some(end), false),
        "the asked position again"
    );
}

#[tokio::test]
async fn an_own_device_and_some_types_are_left_out() {
    let shop = Shop::open().await;
    shop.tell("a@1/x sale S1 usd=1\nb@1/y sale S2 usd=1\nc@1/y StockQuotaGranted P1\nd@1/z void S1").await;
    let ask = PullRequest { without_device: Some("x".to_owned()), ..request(&shop) };
    assert_eq!(ids(&pull(&shop, &ask).await), ["b", "c", "d"]);
    let ask =
        PullRequest { without_types: vec!["StockQuotaGranted".to_owned(), "SaleVoided".to_owned()], ..ask };
    assert_eq!(ids(&pull(&shop, &ask).await), ["b"]);
}

#[tokio::test]
async fn an_event_is_pulled_as_it_was_sent() {
    let shop = Shop::open().await;
    let text = r#"{"event_id":"a","seq":3,"type":"T","version":2,"created_at":5,"actor":{"user_id":"u","role":"owner"},
        "vector_clock":{"till":3},"payload":{ "n" : 1e2 }}"#;
    shop.bring(vec![crate::story::Told::read(shop.id, "till", text)]).await;
    let page = pull(&shop, &request(&shop)).await;
    let event = &page.events[0];
    assert_eq!(event.payload.get(), r#"{ "n" : 1e2 }"#);
    assert_eq!((event.store_id, event.device_id.as_str(), event.event_type.as_str()), (shop.id, "till", "T"));
    assert_eq!((event.seq, event.version, event.created_at), (Some(3), 2, 5));
    assert_eq!((event.actor.user_id.as_deref(), event.actor.role.as_deref()), (Some("u"), Some("owner")));
    assert_eq!(event.vector_clock.as_ref().map(|clock| clock.0.len()), Some(1));
    let received_at: i64 =
        shop.value("SELECT (extract(epoch FROM received_at) * 1000)::int8 FROM events").await;
    assert_eq!(event.received_at, received_at);
    let end = PullPosition {
        received_at: chrono::DateTime::from_timestamp_millis(received_at).expect("a time"),
        event_id: "a".to_owned(),
    };
    assert_eq!(page.end, Some(end));
}

#[tokio::test]
async fn what_is_acknowledged_is_in_the_next_pull() {
    let shop = Shop::open().await;
    for n in 0..50 {
        shop.tell(&format!("e{n:02}@1 sale S{n} usd=1")).await;
        assert_eq!(pull(&shop, &request(&shop)).await.events.len(), n + 1);
    }
}

#[tokio::test]
async fn an_event_that_commits_late_is_not_skipped() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1").await;
    for application in ["velox-ingest", "psql"] {
        let options = shop.database.options().application_name(application);
        let mut late = PgConnection::connect_with(&options).await.expect("a connection");
        let mut open = late.begin().await.expect("a transaction");
        let early = format!("late-{application}");
        let insert = "INSERT INTO events (store_id, event_id, device_id, type, payload, payload_hash, created_at, received_at)
                      VALUES ($1, $2, 'other', 'T', '{}', '', now(), date_trunc('milliseconds', now()))";
        sqlx::query(insert).bind(shop.id).bind(&early).execute(&mut *open).await.expect("an insert");
        let before = walk(&shop, 1).await;
        let after = format!("after-{application}");
        shop.tell(&format!("{after}@2 sale S2 usd=1")).await;
        assert_eq!(walk(&shop, 1).await, before, "it waits for what may still come before it");
        open.commit().await.expect("a commit");
        let mut expected = before;
        expected.extend([early, after]);
        assert_eq!(walk(&shop, 1).await, expected);
    }
}

#[tokio::test]
async fn an_ingest_that_has_not_written_yet_is_waited_for_and_readers_and_projectors_are_not() {
    let shop = Shop::open().await;
    let open = async |application: &str| {
        let options = shop.database.options().application_name(application);
        let mut connection = PgConnection::connect_with(&options).await.expect("a connection");
        connection.execute("BEGIN; SELECT 1").await.expect("a transaction");
        connection
    };
    let mut ingest = open("velox-ingest").await;
    shop.tell("a@1 sale S1 usd=1").await;
    assert_eq!(walk(&shop, 9).await, Vec::<String>::new());
    ingest.execute("COMMIT").await.expect("a commit");
    let _reader = open("psql").await;
    let mut projector = open("velox-projection").await;
    projector.execute("CREATE TABLE written (n int)").await.expect("a table");
    shop.tell("b@2 sale S2 usd=1").await;
    assert_eq!(walk(&shop, 9).await, ["a", "b"]);
}

#[tokio::test]
async fn an_event_stands_in_the_log_in_the_form_that_counts_and_at_its_arrival() {
    let shop = Shop::open().await;
    shop.tell("a@5/x sale S1 usd=1\nb@5/x sale S2 usd=1").await;
    shop.tell("c@5/x sale S3 usd=1").await;
    let read = pull(&shop, &request(&shop)).await;
    assert_eq!(ids(&read), ["a", "b", "c"]);
    // A till that has gone past is given it again, and one that begins is given it once.
    shop.tell("a@4/y sale S1 usd=1\nb@6/y sale S2 usd=1").await;
    let behind = PullRequest { after: read.end, ..request(&shop) };
    let again = pull(&shop, &behind).await;
    assert_eq!(ids(&again), ["a"], "a greater form changes nothing");
    let event = &again.events[0];
    assert_eq!((event.created_at, event.device_id.as_str()), (4, "y"));
    let arrival = "SELECT (extract(epoch FROM received_at) * 1000)::int8 FROM event_variants WHERE effective";
    assert_eq!(event.received_at, shop.value::<i64>(arrival).await);
    for limit in [1, 2, 3, 4, 100] {
        assert_eq!(walk(&shop, limit).await, ["b", "c", "a"], "limit {limit}");
    }
    // Once more: the form before it is gone from the log.
    let end = again.end.clone();
    shop.tell("a@3/z void S1\nd@1/x sale S4 usd=1").await;
    assert_eq!(ids(&pull(&shop, &PullRequest { after: end.clone(), ..request(&shop) }).await), ["d"]);
    shop.tell("a@3/z entry S1 sale").await;
    let again = pull(&shop, &PullRequest { after: end, ..request(&shop) }).await;
    assert_eq!(ids(&again), ["d", "a"]);
    assert_eq!(again.events[1].event_type, "CashLedgerEntryCreated");
    assert_eq!(walk(&shop, 2).await, ["b", "c", "d", "a"]);
    // Devices and types are those of the form that counts.
    let spared = async |device: Option<&str>, types: &[&str]| {
        let without_types = types.iter().map(|name| (*name).to_owned()).collect();
        let without_device = device.map(str::to_owned);
        let page = pull(&shop, &PullRequest { without_device, without_types, ..request(&shop) }).await;
        ids(&page).join("")
    };
    assert_eq!((spared(Some("x"), &[]).await, spared(Some("z"), &[]).await), ("a".into(), "bcd".into()));
    assert_eq!(spared(Some("y"), &[]).await, "bcda");
    assert_eq!(spared(None, &["SaleCreated"]).await, "a");
    assert_eq!(spared(None, &["CashLedgerEntryCreated"]).await, "bcd");
}

#[tokio::test]
async fn a_form_that_commits_late_is_not_skipped() {
    let shop = Shop::open().await;
    shop.tell("a@5 sale S1 usd=1\nb@5 sale S2 usd=1").await;
    let options = shop.database.options().application_name("velox-ingest");
    let mut other = PgConnection::connect_with(&options).await.expect("a connection");
    other.execute("BEGIN; SELECT 1").await.expect("a transaction");
    shop.tell("a@4 sale S1 usd=1").await;
    let mut ask = request(&shop);
    let page = pull(&shop, &ask).await;
    assert_eq!(ids(&page), ["b"], "it waits for what may still come before it");
    ask.after = page.end;
    other.execute("COMMIT").await.expect("a commit");
    assert_eq!(ids(&pull(&shop, &ask).await), ["a"]);
}
