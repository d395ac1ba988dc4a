//! A shop with a database of its own: tells histories, projects them, and checks the rows against the model.

use crate::story::{self, Told};
use chrono::DateTime;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use std::cell::RefCell;
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::catalogue::Entity;
use velox_protocol::fold::{Fold, Tables};
use velox_store::testing::TestDatabase;
use velox_store::{
    Actor, BatchReport, CreatedStore, IngestOutcome, MIGRATOR, NewEvent, NewPush, NodeStamp, Store,
};

/// Connections of a handle: 3 and 4 for ingest and projection, the rest for all else.
pub(crate) const CONNECTIONS: u32 = 12;

/// Longest wait for a condition; on a busy machine everything is slow.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Shop {
    pub(crate) id: Uuid,
    pub(crate) store: Store,
    /// As superuser, so that it may do what a node must not.
    pub(crate) pool: PgPool,
    pub(crate) database: TestDatabase,
    told: RefCell<Vec<Told>>,
    text: RefCell<String>,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let database = TestDatabase::create(&MIGRATOR).await;
        Shop {
            id: Uuid::from_u128(0x5701e),
            store: Store::new(database.options(), CONNECTIONS),
            pool: database.pool().await,
            database,
            told: RefCell::default(),
            text: RefCell::default(),
        }
    }

    /// Registers the shop; the node is called `node` if it has no name yet.
    pub(crate) async fn register(&self, name: &str, ms: i64) -> CreatedStore {
        self.store.node_id(None, "node").await.expect("a node");
        let stamp = NodeStamp {
            event_id: Uuid::from_u128(rand::random()),
            now: DateTime::from_timestamp_millis(ms).expect("a time"),
            actor: Actor { user_id: "admin".to_owned(), role: "admin".to_owned() },
            trace_parent: None,
        };
        self.store.create_store(self.id, name, &stamp).await.expect("a store")
    }

    /// Another pod on the same database.
    pub(crate) fn pod(&self) -> Store {
        Store::new(self.database.options(), CONNECTIONS)
    }

    pub(crate) fn named(&self, name: &str) -> Uuid {
        story::id(self.id, name)
    }

    /// Stores a history as one push.
    pub(crate) async fn tell(&self, history: &str) -> Vec<IngestOutcome> {
        self.text.borrow_mut().push_str(history);
        self.bring(story::events(self.id, history)).await
    }

    /// Stores events as one push.
    pub(crate) async fn bring(&self, told: Vec<Told>) -> Vec<IngestOutcome> {
        let push = push(&told);
        self.told.borrow_mut().extend(told);
        let ingested = self.store.ingest(std::slice::from_ref(&push)).await.expect("an ingest");
        assert_eq!(ingested.pushes.len(), 1);
        ingested.outcomes().collect()
    }

    /// Projects whatever is due.
    pub(crate) async fn project(&self) -> BatchReport {
        let mut all = BatchReport::default();
        for entity in Entity::ALL {
            while let Some(claim) =
                self.store.claim_projection(entity.name(), 500, false).await.expect("a claim")
            {
                let report = claim.project().await.expect("a projection");
                all.done += report.done;
                all.failed.extend(report.failed);
            }
        }
        all
    }

    /// A history arrives, is projected, and then these rows stand.
    pub(crate) async fn day(&self, history: &str, expected: &str) {
        self.tell(history).await;
        self.project().await;
        self.check(expected).await;
    }

    /// Asserts that these rows stand, that the model makes the same ones, and that all invariants hold.
    pub(crate) async fn check(&self, expected: &str) {
        let tables = self.tables().await;
        let mut expected: Vec<String> = expected.lines().map(|line| line.trim().to_owned()).collect();
        expected.retain(|line| !line.is_empty());
        expected.sort();
        let text = format!("{} {}", self.text.borrow(), expected.join(" "));
        assert_eq!(story::lines(self.id, &tables, &text), expected);
        self.check_by_model().await;
    }

    /// Asserts that the rows are those that the model makes, and that all invariants hold.
    pub(crate) async fn check_by_model(&self) {
        assert_eq!(self.tables().await.differences(&self.model()), [""; 0], "by the model");
        assert_eq!(self.store.verify(None).await.expect("a verification"), []);
    }

    pub(crate) async fn tables(&self) -> Tables {
        self.store.tables(self.id).await.expect("the shop's tables")
    }

    /// What the events must have made.
    fn model(&self) -> Tables {
        let mut fold = Fold::new(self.id);
        for told in self.told.borrow().iter().filter(|told| told.event.store_id == self.id) {
            fold.add(&told.event);
        }
        fold.tables()
    }

    /// The columns of a row that hold a value, without its key and its registers.
    pub(crate) async fn row(&self, table: &str, name: &str) -> Value {
        let sql = format!(
            "SELECT jsonb_strip_nulls(to_jsonb(t) - ARRAY['store_id', 'id', 'registers']) FROM {table} t
             WHERE store_id = $1 AND id = $2"
        );
        let row = sqlx::query_scalar(AssertSqlSafe(sql.as_str())).bind(self.id).bind(self.named(name));
        row.fetch_one(&self.pool).await.expect(&sql)
    }

    /// One value of the first row, as superuser.
    pub(crate) async fn value<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.expect(sql)
    }

    /// Statements as superuser.
    pub(crate) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.expect(sql);
    }

    /// `projection_status` of an event.
    pub(crate) async fn status(&self, event_id: &str) -> String {
        self.value(&format!("SELECT projection_status FROM event_status WHERE event_id = '{event_id}'")).await
    }
}

/// An event with the ids by which it meets others.
fn new_event(told: &Told) -> NewEvent {
    let request = told.event.request_id.as_deref();
    let links = told.meaning.iter().flat_map(|payload| payload.links(told.event.store_id, request));
    NewEvent { event: told.event.clone(), links: links.collect(), hop: None }
}

/// A push of these events.
pub(crate) fn push(told: &[Told]) -> NewPush {
    NewPush { events: told.iter().map(new_event).collect(), ..NewPush::default() }
}

/// Waits until a condition holds; says what was waited for where it does not come.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holds).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}
