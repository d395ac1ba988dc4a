//! What a test does to a node's database behind its back, and what it reads there.

use crate::support::wait;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use std::collections::BTreeSet;
use velox_store::testing::TestDatabase;

/// As long as it is held no event comes in: whoever stores one waits.
pub(crate) struct Held(Transaction<'static, Postgres>);

impl Held {
    /// Locks the event log.
    pub(crate) async fn hold(pool: &PgPool) -> Self {
        let mut transaction = pool.begin().await.expect("a transaction");
        let lock = sqlx::query("LOCK TABLE events IN SHARE MODE").execute(&mut *transaction).await;
        lock.expect("the lock");
        Held(transaction)
    }

    /// Lets them go on.
    pub(crate) async fn release(self) {
        self.0.commit().await.expect("the end of the lock");
    }
}

/// Waits until so many writers of ingest wait for a lock.
pub(crate) async fn blocked_writers(pool: &PgPool, count: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
               AND application_name = 'velox-ingest' AND wait_event_type = 'Lock'";
    wait(&format!("{count} writers that wait for a lock"), async || number(pool, sql).await == count).await;
}

/// A number.
pub(crate) async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// How many events tills have brought: the node itself declares each store.
pub(crate) const EVENTS: &str = "SELECT count(*) FROM events WHERE type <> 'StoreDeclared'";

/// Whether an event is stored.
pub(crate) async fn is_stored(pool: &PgPool, event_id: &str) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM events WHERE event_id = $1)";
    sqlx::query_scalar(sql).bind(event_id).fetch_one(pool).await.expect("an answer")
}

/// Ids of all events.
pub(crate) async fn stored<'c>(executor: impl sqlx::Executor<'c, Database = Postgres>) -> BTreeSet<String> {
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT event_id FROM events").fetch_all(executor).await.expect("events");
    ids.into_iter().collect()
}

/// Transactions of the node that are open and idle.
pub(crate) async fn open_transactions(pool: &PgPool) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
               AND application_name LIKE 'velox%' AND state LIKE 'idle in transaction%'";
    number(pool, sql).await
}

/// Ends the node's sessions of that application name; `%` for any text.
pub(crate) async fn terminate(pool: &PgPool, application: &str) -> i64 {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE $1";
    sqlx::query_scalar(sql).bind(application).fetch_one(pool).await.expect("an answer")
}

/// Runs statements that take no parameters.
pub(crate) async fn execute(pool: &PgPool, sql: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(pool).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// From now on whoever stores an event meets this; in the text of the trigger `NEW` is the event.
pub(crate) async fn on_event(pool: &PgPool, body: &str) {
    execute(
        pool,
        format!(
            "CREATE OR REPLACE FUNCTION meet_test() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
             BEGIN {body} RETURN NEW; END $$;
             CREATE OR REPLACE TRIGGER meet_test BEFORE INSERT ON events
             FOR EACH ROW EXECUTE FUNCTION meet_test();"
        ),
    )
    .await;
}

/// The name of a test's database, for statements that want it.
pub(crate) fn name(database: &TestDatabase) -> String {
    database.options().get_database().expect("a name").to_owned()
}

/// Every table that events make rows of.
pub(crate) const READ_TABLES: [&str; 10] = [
    "sales",
    "sale_items",
    "debts",
    "debt_payments",
    "products",
    "customers",
    "cash_sessions",
    "cash_ledger_entries",
    "stock_movements",
    "warehouse_stock",
];

/// All read tables and the exceptions, sorted, one text a table.
pub(crate) async fn projections(pool: &PgPool) -> Vec<String> {
    let exceptions = "(SELECT store_id, event_id, status, reason FROM event_exceptions)";
    let mut rows = Vec::new();
    for table in READ_TABLES.into_iter().chain([exceptions]) {
        let sql = format!(
            "SELECT coalesce(string_agg(to_jsonb(t)::text, E'\\n' ORDER BY to_jsonb(t)::text COLLATE \"C\"), '')
             FROM {table} t"
        );
        let text: String =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.expect("rows of a table");
        rows.push(format!("{table}:\n{text}"));
    }
    rows
}
