//! Pulls without gaps: an event that commits late is never skipped by a reader that went on meanwhile.

use crate::support::{PATIENCE, TestNode, Till, event, id, wait};
use crate::wire::ids;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::time::Instant;
use uuid::Uuid;

/// By this name the node knows the connections that store events.
const INGEST: &str = "velox-ingest";

/// Writes an event as an ingest transaction does: under the time at which its transaction began.
async fn insert(connection: &mut PgConnection, store_id: Uuid, event_id: &str) {
    sqlx::query(
        "INSERT INTO events (store_id, event_id, device_id, type, payload, payload_hash, created_at, received_at)
         VALUES ($1, $2, 'late', 'CustomerCreated', '{}', '', now(), date_trunc('milliseconds', now()))",
    )
    .bind(store_id)
    .bind(event_id)
    .execute(connection)
    .await
    .expect("an event");
}

async fn write(node: &TestNode, till: &Till, count: usize) -> Vec<String> {
    let customer = |_| event("CustomerCreated", json!({ "customer_id": id() }));
    let events: Vec<Value> = (0..count).map(customer).collect();
    ids(&node.client.push(till, &events).await["accepted"])
}

/// A reader that never goes back: what it is not given at its turn it never sees.
struct Reader<'a> {
    node: &'a TestNode,
    till: Till,
    kind: Kind,
    seen: BTreeMap<String, usize>,
}

/// Where it goes on.
enum Kind {
    Checkpoint(String),
    Cursor { limit: usize, at: String },
}

impl<'a> Reader<'a> {
    async fn new(node: &'a TestNode, store_id: Uuid, kind: Kind) -> Reader<'a> {
        let till = node.client.till_of(store_id).await;
        let mut reader = Reader { node, till, kind, seen: BTreeMap::new() };
        if matches!(reader.kind, Kind::Cursor { .. }) {
            // From behind the store's declaration, which a checkpoint is spared.
            assert_eq!(reader.page().await.len(), 1);
            reader.seen.clear();
        }
        reader
    }

    /// Reads a page; answers its ids.
    async fn page(&mut self) -> Vec<String> {
        let path = match &self.kind {
            Kind::Checkpoint(at) => format!("/sync/pull?{at}"),
            Kind::Cursor { limit, at } => format!("/sync/pull?limit={limit}&cursor={at}"),
        };
        let answer = self.node.client.call("GET", &path, &self.till.token, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let page = answer.json();
        match &mut self.kind {
            Kind::Checkpoint(at) => {
                let (ms, id) = (&page["last_server_time"], &page["last_server_event_id"]);
                *at = format!("last_checkpoint={ms}&cursor_event_id={}", id.as_str().expect("an id"));
            }
            Kind::Cursor { at, .. } => page["next_cursor"].as_str().expect("a cursor").clone_into(at),
        }
        let events = ids(&page["events"]);
        for event in &events {
            *self.seen.entry(event.clone()).or_default() += 1;
        }
        events
    }

    /// Reads on until it has seen so many events.
    async fn read_until(&mut self, count: usize) {
        let started = Instant::now();
        while self.seen.len() < count {
            self.page().await;
            assert!(started.elapsed() < PATIENCE, "{} of {count} events came", self.seen.len());
        }
    }

    /// Checks that it has seen exactly these, each once.
    fn check(&self, mut expected: Vec<String>) {
        let mut seen: Vec<String> =
            self.seen.iter().flat_map(|(id, count)| std::iter::repeat_n(id.clone(), *count)).collect();
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }
}

/// `last_checkpoint` and `cursor_event_id` as a v1 till sends them, and the cursor in small and large pages.
async fn readers(node: &TestNode, store_id: Uuid) -> Vec<Reader<'_>> {
    let cursor = |limit| Kind::Cursor { limit, at: String::new() };
    let kinds = [Kind::Checkpoint("last_checkpoint=0".to_owned()), cursor(7), cursor(1000)];
    let mut readers = Vec::new();
    for kind in kinds {
        readers.push(Reader::new(node, store_id, kind).await);
    }
    readers
}

#[actix_web::test]
async fn an_event_that_commits_late_is_not_skipped() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let mut readers = readers(&node, till.store_id).await;
    let mut all = write(&node, &till, 3).await;
    let mut late = PgConnection::connect_with(&node.database.options()).await.expect("a connection");
    late.execute("BEGIN").await.expect("a transaction");
    all.push(id());
    insert(&mut late, till.store_id, &all[3]).await;
    // Later events are acknowledged while the early one is still on its way.
    let later = write(&node, &till, 5).await;
    for reader in &mut readers {
        for _ in 0..10 {
            reader.page().await;
        }
        assert!(!later.iter().any(|id| reader.seen.contains_key(id)), "it would go past the early one");
        assert_eq!(reader.seen.len(), 3, "what is before the early one is given");
    }
    late.execute("COMMIT").await.expect("a commit");
    all.extend(later);
    for reader in &mut readers {
        reader.read_until(all.len()).await;
        reader.check(all.clone());
    }
    late.close().await.expect("a goodbye");
    node.stop().await;
}

#[actix_web::test]
async fn a_transaction_that_rolls_back_or_loses_its_connection_holds_nobody_up() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let mut readers = readers(&node, till.store_id).await;
    let mut all = Vec::new();
    for orderly in [true, false] {
        let mut late = PgConnection::connect_with(&node.database.options()).await.expect("a connection");
        late.execute("BEGIN").await.expect("a transaction");
        insert(&mut late, till.store_id, &id()).await;
        all.extend(write(&node, &till, 2).await);
        if orderly {
            late.execute("ROLLBACK").await.expect("a rollback");
            late.close().await.expect("a goodbye");
        } else {
            late.close_hard().await.expect("no goodbye");
        }
        for reader in &mut readers {
            reader.read_until(all.len()).await;
            reader.check(all.clone());
        }
    }
    node.stop().await;
}

#[actix_web::test]
async fn an_ingest_transaction_counts_from_its_begin_before_it_has_written() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let mut readers = readers(&node, till.store_id).await;
    // As ingest of another pod, whose statement has not come to its first row yet.
    let options = node.database.options().application_name(INGEST);
    let mut late = PgConnection::connect_with(&options).await.expect("a connection");
    late.execute("BEGIN").await.expect("a transaction");
    let later = write(&node, &till, 2).await;
    for reader in &mut readers {
        for _ in 0..3 {
            assert_eq!(reader.page().await, Vec::<String>::new());
        }
    }
    let mut all = vec![id()];
    insert(&mut late, till.store_id, &all[0]).await;
    late.execute("COMMIT").await.expect("a commit");
    all.extend(later);
    for reader in &mut readers {
        reader.read_until(all.len()).await;
        reader.check(all.clone());
    }
    late.close().await.expect("a goodbye");
    node.stop().await;
}

#[actix_web::test]
async fn transactions_that_cannot_bring_events_hold_nothing_back() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let mut readers = readers(&node, till.store_id).await;
    // One of another database that has written, and one of this that reads with an old snapshot.
    let elsewhere = node.database.options().database("postgres");
    let mut writes = PgConnection::connect_with(&elsewhere).await.expect("a connection");
    writes.execute("BEGIN").await.expect("a transaction");
    writes.execute("SELECT pg_current_xact_id()").await.expect("an id");
    let mut reads = PgConnection::connect_with(&node.database.options()).await.expect("a connection");
    reads.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.expect("a transaction");
    reads.execute("SELECT count(*) FROM events").await.expect("a snapshot");
    let mut all = Vec::new();
    for _ in 0..5 {
        all.extend(write(&node, &till, 1).await);
        for reader in &mut readers {
            reader.page().await;
            reader.check(all.clone());
        }
    }
    // Neither is the projection kept from its work.
    node.client.projected().await;
    assert_eq!(node.client.list(&till, "customers").await.len(), 5);
    for mut connection in [writes, reads] {
        connection.execute("ROLLBACK").await.expect("a rollback");
        connection.close().await.expect("a goodbye");
    }
    node.stop().await;
}

/// What the parts of the storm tell each other.
#[derive(Default)]
struct Storm {
    pushes: AtomicUsize,
    pages: AtomicUsize,
    over: AtomicBool,
}

/// Pushes of one till, one after the other; answers all ids.
async fn pusher(node: &TestNode, store_id: Uuid, storm: &Storm) -> Vec<String> {
    let till = node.client.till_of(store_id).await;
    let mut written = Vec::new();
    for _ in 0..30 {
        written.extend(write(node, &till, 3).await);
        storm.pushes.fetch_add(1, Ordering::Relaxed);
    }
    written
}

/// Ingest of another pod, whose transactions stay open until others have pushed and read meanwhile.
async fn late_writer(node: &TestNode, store_id: Uuid, storm: &Storm) -> Vec<String> {
    let options = node.database.options().application_name(INGEST);
    let mut connection = PgConnection::connect_with(&options).await.expect("a connection");
    let mut written = Vec::new();
    for _ in 0..10 {
        let event_id = id();
        connection.execute("BEGIN").await.expect("a transaction");
        insert(&mut connection, store_id, &event_id).await;
        let (pushes, pages) = (storm.pushes.load(Ordering::Relaxed), storm.pages.load(Ordering::Relaxed));
        wait("pushes and pages in between", async || {
            let pushed = storm.pushes.load(Ordering::Relaxed) >= pushes + 2;
            let read = storm.pages.load(Ordering::Relaxed) >= pages + 6;
            (pushed || storm.over.load(Ordering::Relaxed)) && read
        })
        .await;
        connection.execute("COMMIT").await.expect("a commit");
        written.push(event_id);
    }
    connection.close().await.expect("a goodbye");
    written
}

async fn read_through(reader: &mut Reader<'_>, storm: &Storm, count: usize) {
    let started = Instant::now();
    while reader.seen.len() < count {
        reader.page().await;
        storm.pages.fetch_add(1, Ordering::Relaxed);
        assert!(started.elapsed() < PATIENCE, "{} of {count} events came", reader.seen.len());
    }
}

#[actix_web::test]
async fn readers_that_page_all_the_time_see_every_event_once_while_tills_push_and_others_commit_late() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let store_id = till.store_id;
    let mut readers = readers(&node, store_id).await;
    let storm = Storm::default();
    let count = 4 * 30 * 3 + 10;
    let pushing = async {
        let pushers = (0..4).map(|_| pusher(&node, store_id, &storm));
        let written = futures_util::future::join_all(pushers).await.concat();
        storm.over.store(true, Ordering::Relaxed);
        written
    };
    let reading =
        futures_util::future::join_all(readers.iter_mut().map(|reader| read_through(reader, &storm, count)));
    let (mut written, late, _) = tokio::join!(pushing, late_writer(&node, store_id, &storm), reading);
    written.extend(late);
    for reader in &mut readers {
        // One page more, in case something comes twice.
        reader.page().await;
        reader.check(written.clone());
    }
    node.stop().await;
}

#[actix_web::test]
async fn two_pods_of_one_database_give_one_order() {
    let a = TestNode::start().await;
    let b = TestNode::pod(a.database.clone(), &[]).await;
    let till = a.client.till().await;
    let mut written = Vec::new();
    let mut reader = Reader::new(&a, till.store_id, Kind::Cursor { limit: 3, at: String::new() }).await;
    for round in 0..20 {
        let node = if round % 2 == 0 { &a } else { &b };
        written.extend(write(node, &till, 2).await);
        // A page from one pod, the next from the other, by the same cursor.
        reader.node = if round % 3 == 0 { &b } else { &a };
        reader.page().await;
    }
    reader.read_until(written.len()).await;
    reader.check(written);
    b.stop().await;
    a.stop().await;
}
