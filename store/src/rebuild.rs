//! `velox rebuild`: a store's read tables anew from its events, into shadow tables, compared with the tables and
//! put in their place, while nodes go on working.
//!
//! The shadows are temporary tables of the same names, which come first where a statement names a table, so that
//! the projectors' own statements fill them. Only for the comparison at the end the store's projectors wait.

use crate::outbox::Entry;
use crate::projections::{self, Family, Locks};
use crate::{Error, Store, work_as_runtime};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use uuid::Uuid;
use velox_protocol::clock::VectorClock;

/// Events that are projected at once.
const BATCH: i64 = 500;
/// Most examples of a table that are named.
const EXAMPLES: usize = 20;

/// A read table, with what a rebuild has to know of it.
struct Table {
    name: &'static str,
    /// The primary key without the store.
    key: &'static [&'static str],
    /// Columns that are kept as they are where nothing else differs.
    kept: &'static [&'static str],
    /// Columns that are put right and not told of: nobody sees them.
    inner: &'static [&'static str],
    /// Of a table that has rows and columns of the node's own: the columns that come from events.
    derived: &'static [&'static str],
}

const fn table(name: &'static str, key: &'static [&'static str]) -> Table {
    Table { name, key, kept: &[], inner: &[], derived: &[] }
}

/// Tables with rows that somebody sees.
const TABLES: [Table; 14] = [
    table("sales", &["id"]),
    table("sale_items", &["sale_id", "line_no"]),
    table("debts", &["id"]),
    table("debt_payments", &["id"]),
    Table { inner: &["registers"], ..table("products", &["id"]) },
    Table { inner: &["registers"], ..table("customers", &["id"]) },
    Table { inner: &["registers"], ..table("cash_sessions", &["id"]) },
    table("cash_ledger_entries", &["id"]),
    table("stock_movements", &["id"]),
    table("warehouse_stock", &["product_id", "variant_id", "warehouse_id"]),
    table("open_conflicts", &["id"]),
    Table {
        kept: &["name", "settings", "created_at"],
        derived: &["home_node", "default_warehouse_id", "declared_by"],
        ..table("stores", &["store_id"])
    },
    table("fiscal_series", &["series_id"]),
    Table { kept: &["since", "attempts"], ..table("event_exceptions", &["event_id"]) },
];

impl Table {
    /// The rows of a schema as `key`, `seen` and `whole`.
    fn rows(&self, schema: &str) -> String {
        let array = |columns: &[&str]| format!("ARRAY[{}]::text[]", quoted(columns));
        let (key, kept, inner) = (self.key_text(), array(self.kept), array(self.inner));
        let compared = if self.name == "event_exceptions" {
            // What has no result yet has none to be compared.
            "AND NOT EXISTS (SELECT 1 FROM outbox_entries o WHERE o.store_id = t.store_id AND o.event_id = t.event_id
                 AND o.target = 'projection' AND o.status IN ('pending', 'dead'))"
                .to_owned()
        } else if self.derived.is_empty() {
            String::new()
        } else {
            format!("AND num_nonnulls({}) > 0", self.derived.join(", "))
        };
        format!(
            "SELECT {key} AS key, to_jsonb(t) - {kept} - {inner} AS seen, to_jsonb(t) - {kept} AS whole
             FROM {schema}.{} t WHERE t.store_id = $1 {compared}",
            self.name
        )
    }

    /// Statements that put the shadow's rows in the place of those in `different`.
    fn replace(&self, store_id: Uuid) -> String {
        let (name, key) = (self.name, self.key_text());
        let gone = format!("WHERE t.store_id = '{store_id}' AND {key} = d.key");
        let new = format!(
            "INSERT INTO public.{name} SELECT t.* FROM pg_temp.{name} t JOIN different d ON {key} = d.key"
        );
        if self.derived.is_empty() {
            return format!("DELETE FROM public.{name} t USING different d {gone}; {new}");
        }
        let set = |value: &dyn Fn(&str) -> String| {
            let columns: Vec<String> =
                self.derived.iter().map(|column| format!("{column} = {}", value(column))).collect();
            columns.join(", ")
        };
        let (none, shadow) = (set(&|_| "NULL".to_owned()), set(&|column| format!("EXCLUDED.{column}")));
        format!(
            "UPDATE public.{name} t SET {none} FROM different d {gone};
             {new} ON CONFLICT ({}) DO UPDATE SET {shadow}",
            self.key.join(", ")
        )
    }

    fn key_text(&self) -> String {
        let columns: Vec<String> = self.key.iter().map(|column| format!("t.{column}::text")).collect();
        // Of one collation whatever the columns', since one statement reads the keys of all tables.
        format!("concat_ws(' ', {}) COLLATE \"C\"", columns.join(", "))
    }
}

/// Whether all rows of a table come from events, so that a rebuild makes all of them.
pub(crate) fn is_derived(name: &str) -> bool {
    TABLES.iter().any(|table| table.name == name && table.derived.is_empty() && table.kept.is_empty())
}

fn quoted(columns: &[&str]) -> String {
    columns.iter().map(|column| format!("'{column}'")).collect::<Vec<_>>().join(", ")
}

/// What a rebuild of one store did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// The shop.
    pub store_id: Uuid,
    /// Events that were projected anew; those on their way to a projector are left out.
    pub events: u64,
    /// Rows that were not as the events say, and are now.
    pub differences: u64,
    /// Up to 20 of each table.
    pub examples: Vec<Difference>,
}

/// A row that was not as the events say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The read table.
    pub table: &'static str,
    /// Its key without the store.
    pub key: String,
    /// `missing`, `superfluous`, or the columns that differed.
    pub what: String,
}

impl Store {
    /// Makes the read tables of one store anew, or of all that have events, one after the other.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.rebuild_all", level = "debug", skip_all)]
    pub async fn rebuild_all(&self, store_id: Option<Uuid>) -> Result<Vec<Rebuilt>, Error> {
        let mut rebuilt = Vec::new();
        for store_id in self.stores_with_events(store_id).await? {
            rebuilt.push(self.rebuild(store_id).await?);
        }
        Ok(rebuilt)
    }

    /// Makes a store's read tables anew. What is pending stays pending; a dead entry's event is left out.
    ///
    /// # Errors
    /// The database's; then the tables are as before.
    #[tracing::instrument(name = "db.rebuild", level = "debug", skip_all)]
    pub async fn rebuild(&self, store_id: Uuid) -> Result<Rebuilt, Error> {
        // Of its own: temporary tables last as long as a connection, and prepared statements mean the real ones.
        let mut connection = PgConnection::connect_with(&self.projection.connect_options()).await?;
        work_as_runtime(&mut connection).await?;
        let rebuilt = Rebuild { connection: &mut connection, store_id, events: 0 }.run().await;
        // One that does not close is dropped all the same.
        let _ = connection.close().await;
        rebuilt
    }
}

/// Where the next batch begins.
struct Position {
    received_at: DateTime<Utc>,
    event_id: String,
}

struct Rebuild<'a> {
    connection: &'a mut PgConnection,
    store_id: Uuid,
    events: u64,
}

impl Rebuild<'_> {
    async fn run(mut self) -> Result<Rebuilt, Error> {
        for setting in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
            self.execute(format!("SET {setting} = 0")).await?;
        }
        for name in TABLES.iter().map(|table| table.name).chain(["links"]) {
            self.execute(format!("CREATE TEMP TABLE {name} (LIKE public.{name} INCLUDING ALL)")).await?;
        }
        // Of each event: the form that counted, if not the first one.
        self.execute(
            r#"CREATE TEMP TABLE rebuilt (event_id varchar(255) COLLATE "C" PRIMARY KEY, form_hash bytea)"#
                .to_owned(),
        )
        .await?;
        self.project_all().await?;
        self.execute("BEGIN".to_owned()).await?;
        let swapped = self.catch_up_and_swap().await;
        let end = if swapped.is_ok() { "COMMIT" } else { "ROLLBACK" };
        self.execute(end.to_owned()).await?;
        swapped
    }

    async fn catch_up_and_swap(&mut self) -> Result<Rebuilt, Error> {
        for family in Family::ALL {
            projections::lock(self.connection, family, [self.store_id].into()).await?;
        }
        // What counts in another form meanwhile is projected again. Times would not tell: that of a form is from
        // before its commit.
        sqlx::query(
            "DELETE FROM rebuilt r USING event_variants v
             WHERE v.store_id = $1 AND v.event_id = r.event_id AND v.effective
               AND v.form_hash IS DISTINCT FROM r.form_hash",
        )
        .bind(self.store_id)
        .execute(&mut *self.connection)
        .await?;
        self.project_all().await?;
        // The comparison reads whole tables.
        for setting in ["enable_seqscan", "enable_hashjoin", "enable_mergejoin"] {
            self.execute(format!("SET LOCAL {setting} = on")).await?;
        }
        let mut rebuilt =
            Rebuilt { store_id: self.store_id, events: self.events, differences: 0, examples: Vec::new() };
        for table in &TABLES {
            self.swap(table, &mut rebuilt).await?;
        }
        // An index: what it has too much of leads to events that are passed over.
        self.execute(
            "INSERT INTO public.links SELECT * FROM pg_temp.links ON CONFLICT DO NOTHING".to_owned(),
        )
        .await?;
        Ok(rebuilt)
    }

    /// Projects what is not in the shadows yet.
    async fn project_all(&mut self) -> Result<(), Error> {
        let mut after = Position { received_at: DateTime::UNIX_EPOCH, event_id: String::new() };
        loop {
            let (entries, forms) = self.next(&after).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = Position { received_at: last.queued_at, event_id: last.event_id.clone() };
            let ids: Vec<String> = entries.iter().map(|entry| entry.event_id.clone()).collect();
            projections::project(self.connection, entries, Locks::None).await?;
            let noted = sqlx::query("INSERT INTO rebuilt SELECT * FROM unnest($1::text[], $2::bytea[])");
            let noted = noted.bind(&ids).bind(&forms);
            self.events += noted.execute(&mut *self.connection).await?.rows_affected();
        }
    }

    /// Events that have been projected, each with the form that counts if that is not the first one: an entry that
    /// is as old as its event has not been worked off yet, and a dead one never was.
    async fn next(&mut self, after: &Position) -> Result<(Vec<Entry>, Vec<Option<Vec<u8>>>), Error> {
        let rows = sqlx::query(
            "SELECT e.*, e.payload::text AS text, EXISTS (SELECT 1 FROM event_variants v
                 WHERE v.store_id = e.store_id AND v.event_id = e.event_id) AS has_forms,
                 (SELECT v.form_hash FROM event_variants v
                  WHERE v.store_id = e.store_id AND v.event_id = e.event_id AND v.effective) AS form_hash
             FROM events e
             WHERE e.store_id = $1 AND (e.received_at, e.event_id) > ($2, $3::text COLLATE \"C\")
               AND NOT EXISTS (SELECT 1 FROM rebuilt r WHERE r.event_id = e.event_id)
               AND NOT EXISTS (SELECT 1 FROM outbox_entries o
                   WHERE o.store_id = e.store_id AND o.event_id = e.event_id AND o.target = 'projection'
                     AND o.status IN ('pending', 'dead') AND o.created_at = e.received_at)
             ORDER BY e.received_at, e.event_id LIMIT $4",
        )
        .bind(self.store_id)
        .bind(after.received_at)
        .bind(&after.event_id)
        .bind(BATCH)
        .fetch_all(&mut *self.connection)
        .await?;
        let entries: Result<Vec<Entry>, sqlx::Error> = rows.iter().map(entry).collect();
        let forms: Result<Vec<_>, sqlx::Error> = rows.iter().map(|row| row.try_get("form_hash")).collect();
        Ok((entries?, forms?))
    }

    /// Puts the shadow's rows in the place of those that differ.
    async fn swap(&mut self, table: &Table, rebuilt: &mut Rebuilt) -> Result<(), Error> {
        let sql = format!(
            "CREATE TEMP TABLE different ON COMMIT DROP AS
             SELECT key, old.seen AS old, new.seen AS new
             FROM ({}) AS old FULL JOIN ({}) AS new USING (key)
             WHERE old.whole IS DISTINCT FROM new.whole",
            table.rows("public"),
            table.rows("pg_temp")
        );
        // A statement that makes a table takes no parameters.
        self.execute(sql.replace("$1", &format!("'{}'", self.store_id))).await?;
        let seen = "FROM different WHERE old IS DISTINCT FROM new";
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) {seen}")))
            .fetch_one(&mut *self.connection)
            .await?;
        rebuilt.differences += u64::try_from(count).unwrap_or(0);
        let examples: Vec<(String, Option<Value>, Option<Value>)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT key, old, new {seen} ORDER BY key LIMIT {EXAMPLES}"
        )))
        .fetch_all(&mut *self.connection)
        .await?;
        rebuilt.examples.extend(examples.into_iter().map(|(key, old, new)| Difference {
            table: table.name,
            key,
            what: what_differs(old.as_ref(), new.as_ref()),
        }));
        self.execute(format!("{}; DROP TABLE different", table.replace(self.store_id))).await
    }

    async fn execute(&mut self, sql: String) -> Result<(), Error> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *self.connection).await?;
        Ok(())
    }
}

fn entry(row: &PgRow) -> Result<Entry, sqlx::Error> {
    Ok(Entry {
        store_id: row.try_get("store_id")?,
        event_id: row.try_get("event_id")?,
        event_type: row.try_get("type")?,
        version: row.try_get("version")?,
        device_id: row.try_get("device_id")?,
        seq: row.try_get("seq")?,
        created_at: row.try_get("created_at")?,
        request_id: row.try_get("request_id")?,
        actor_user_id: row.try_get("actor_user_id")?,
        vector_clock: row.try_get::<Option<Json<VectorClock>>, _>("vector_clock")?,
        payload: row.try_get("text")?,
        queued_at: row.try_get("received_at")?,
        retry_count: 0,
        trace_parent: None,
        has_forms: row.try_get("has_forms")?,
    })
}

/// `missing`, `superfluous`, or the columns that differ.
fn what_differs(old: Option<&Value>, new: Option<&Value>) -> String {
    match (old, new) {
        (None, _) => "missing".to_owned(),
        (_, None) => "superfluous".to_owned(),
        (Some(old), Some(new)) => {
            let columns = new.as_object().into_iter().flatten();
            let different = columns.filter(|(column, value)| old.get(column.as_str()) != Some(*value));
            different.map(|(column, _)| column.as_str()).collect::<Vec<_>>().join(", ")
        }
    }
}
