//! The schema as the migrations make it, beside the schema as it is: where the two differ, and what repairs it.
//!
//! What the migrations make is recorded in `schema.txt`, which a test compares with a fresh database. What a database
//! has more than that is no difference, unless it keeps rows from being written.

mod due;
mod lines;

use crate::{Error, MIGRATOR, Store, rebuild};
use lines::{Column, Lines, definition};
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};
use std::collections::BTreeSet;
use velox_protocol::triage::SchemaDifference;

/// A line a column, constraint, index and trigger, as [`Store::schema_lines`] has them.
const RECORDED: &str = include_str!("../schema.txt");
/// Question 5 of triage: the columns.
pub(crate) const COLUMNS: &str = include_str!("triage/5_columns.sql");
/// Question 6: constraints, indexes, triggers.
pub(crate) const CONSTRAINTS: &str = include_str!("triage/6_constraints.sql");
/// The table of sqlx that says which migrations have run.
const MIGRATIONS: &str = "_sqlx_migrations";

/// A statement that was run to repair the schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// What was wrong.
    pub what: String,
    /// What was run.
    pub statement: String,
    /// Why it failed; `null`: it is done.
    pub error: Option<String>,
}

impl Store {
    /// Everything about the schema that a query could notice, a line each.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.schema.lines", level = "debug", skip_all)]
    pub async fn schema_lines(&self) -> Result<Vec<String>, Error> {
        lines_of(&mut *self.pool.acquire().await?).await
    }

    /// Where the schema is not as this program's migrations make it, in the order in which it can be repaired. A
    /// database of a newer program is taken as it is.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.schema.differences", level = "debug", skip_all)]
    pub async fn schema_differences(&self) -> Result<Vec<SchemaDifference>, Error> {
        differences(&mut *self.pool.acquire().await?).await
    }

    /// Runs the migrations that are missing, and then each statement that repairs a difference. A column that may not
    /// be empty comes empty: what fills it is a rebuild, and a second call makes it such that it may not be. That a
    /// rebuild is due is written down with the statement that makes it so (see [`Store::is_rebuild_due`]).
    ///
    /// # Errors
    /// The database's; a statement that fails is told and the others go on.
    #[tracing::instrument(name = "db.schema.repair", level = "debug", skip_all)]
    pub async fn repair_schema(&self) -> Result<Vec<Repaired>, Error> {
        let mut done = Vec::new();
        let differences = self.schema_differences().await?;
        if let Some(first) = differences.iter().find(|difference| difference.table == MIGRATIONS) {
            let error = match self.migrate().await {
                Ok(()) => None,
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => Some(error.describe()),
            };
            let statement = "the migrations that were missing".to_owned();
            done.push(Repaired { what: first.what.clone(), statement, error });
        }
        let differences = self.schema_differences().await?;
        if differences.is_empty() {
            return Ok(done);
        }
        // As the owner of the tables, and of its own: what a pool's connection has prepared means the old columns.
        let mut owner = PgConnection::connect_with(&self.pool.connect_options()).await?;
        sqlx::raw_sql("SET statement_timeout = 0").execute(&mut owner).await?;
        let mut due = due::tables(&mut owner).await?;
        for SchemaDifference { table, what, repair, .. } in differences {
            // A remark is no statement.
            let Some(statement) = repair.filter(|text| !text.starts_with("--")) else { continue };
            let error = match due::run(&mut owner, &table, &statement, &mut due).await {
                Ok(true) => None,
                Ok(false) => continue,
                Err(error) => Some(error.describe()),
            };
            tracing::warn!(statement, error, "the schema is repaired");
            done.push(Repaired { what, statement, error });
        }
        // One that does not close is dropped all the same.
        let _ = owner.close().await;
        Ok(done)
    }
}

async fn lines_of(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    let mut lines: Vec<String> = sqlx::query_scalar(COLUMNS).fetch_all(&mut *connection).await?;
    lines.extend(sqlx::query_scalar::<_, String>(CONSTRAINTS).fetch_all(connection).await?);
    lines.sort_unstable();
    Ok(lines)
}

/// [`Store::schema_differences`] over a connection that the caller has.
pub(crate) async fn differences(connection: &mut PgConnection) -> Result<Vec<SchemaDifference>, Error> {
    let applied = applied_migrations(connection).await?;
    let known: BTreeSet<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
    if !applied.is_subset(&known) {
        return Ok(Vec::new());
    }
    let missing = MIGRATOR.iter().filter(|migration| !applied.contains(&migration.version));
    let mut differences: Vec<SchemaDifference> = missing
        .map(|migration| SchemaDifference {
            table: MIGRATIONS.to_owned(),
            column: None,
            what: format!("migration {} ({}) has not run", migration.version, migration.description),
            repair: Some(format!("-- migrations/{:04}_*.sql, which velox runs", migration.version)),
        })
        .collect();
    let live = lines_of(connection).await?;
    differences
        .extend(compare(&Lines::read(RECORDED.lines()), &Lines::read(live.iter().map(String::as_str))));
    differences.extend(due::tables(connection).await?.into_iter().map(|table| SchemaDifference {
        column: None,
        what: format!("{table} was repaired, and its rows are still to be made anew from the events"),
        repair: Some("-- velox rebuild, which velox triage --fix runs".to_owned()),
        table,
    }));
    Ok(differences)
}

pub(crate) async fn applied_migrations(connection: &mut PgConnection) -> Result<BTreeSet<i64>, Error> {
    let tracked: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !tracked {
        return Ok(BTreeSet::new());
    }
    let versions: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
        .fetch_all(connection)
        .await?;
    Ok(versions.into_iter().collect())
}

/// What is recorded and not there, or otherwise.
fn compare(recorded: &Lines, live: &Lines) -> Vec<SchemaDifference> {
    let difference = |table: &str, column: Option<&str>, what: String, repair: Option<String>| {
        SchemaDifference { table: table.to_owned(), column: column.map(str::to_owned), what, repair }
    };
    let mut differences = Vec::new();
    let mut views = Vec::new();
    for (table, columns) in &recorded.tables {
        let Some(there) = live.tables.get(table) else {
            if let Some((place, text)) = definition("VIEW", table) {
                views.push((
                    place,
                    difference(table, None, format!("the view {table} is missing"), Some(text)),
                ));
            } else {
                let repair = create_table(table, columns);
                differences.push(difference(
                    table,
                    None,
                    format!("the table {table} is missing"),
                    Some(repair),
                ));
            }
            continue;
        };
        let is_view = definition("VIEW", table).is_some();
        for (name, column) in columns {
            let at = format!("{table}.{name}");
            match there.get(name) {
                None => {
                    let repair = (!is_view).then(|| add_column(recorded, table, name, column));
                    differences.push(difference(table, Some(name), format!("{at} is missing"), repair));
                }
                Some(found) if !is_view => {
                    let found = column_differences(table, name, column, found).into_iter();
                    differences.extend(
                        found.map(|(what, repair)| difference(table, Some(name), what, Some(repair))),
                    );
                }
                Some(_) => {}
            }
        }
        for (name, column) in there.iter().filter(|(name, _)| !columns.contains_key(*name)) {
            if column.not_null && column.default.is_none() && !column.identity && !is_view {
                let what = format!("{table}.{name} is no column of the program's and must be filled");
                let repair = format!("ALTER TABLE public.{table} ALTER COLUMN {name} DROP NOT NULL");
                differences.push(difference(table, Some(name), what, Some(repair)));
            }
        }
    }
    let missing_constraints =
        recorded.constraints.iter().filter(|(name, _)| !live.constraints.contains_key(*name));
    differences.extend(missing_constraints.map(|(name, (table, text))| {
        let repair = format!("ALTER TABLE public.{table} ADD CONSTRAINT {name} {text}");
        difference(table, None, format!("the rule {name} of {table} is missing"), Some(repair))
    }));
    let missing_indexes = recorded.indexes.iter().filter(|(name, _)| {
        // That of a constraint comes with it.
        !live.indexes.contains_key(*name) && !recorded.constraints.contains_key(*name)
    });
    differences.extend(missing_indexes.map(|(name, (table, text))| {
        difference(table, None, format!("the index {name} of {table} is missing"), Some(text.clone()))
    }));
    views.sort_by_key(|(place, _)| *place);
    differences.extend(views.into_iter().map(|(_, view)| view));
    let missing_triggers = recorded.triggers.iter().filter(|trigger| !live.triggers.contains(*trigger));
    differences.extend(missing_triggers.map(|(table, name)| {
        let what = format!("the trigger {name} of {table} is missing");
        difference(table, None, what, definition("TRIGGER", name).map(|(_, text)| text))
    }));
    differences
}

fn create_table(table: &str, columns: &std::collections::BTreeMap<String, Column>) -> String {
    let columns: Vec<String> =
        columns.iter().map(|(name, column)| format!("{name} {}", column.text())).collect();
    format!("CREATE TABLE public.{table} ({})", columns.join(", "))
}

/// A column that may not be empty is empty until a rebuild has filled it; where it is part of a key the rows go, and
/// the rebuild makes them anew.
fn add_column(recorded: &Lines, table: &str, name: &str, column: &Column) -> String {
    let added = format!("ALTER TABLE public.{table} ADD COLUMN {name}");
    if !column.not_null || column.default.is_some() {
        return format!("{added} {}", column.text());
    }
    let is_key = recorded.constraints.values().any(|(of, text)| {
        of == table
            && text.starts_with("PRIMARY KEY")
            && text.split(['(', ')', ',', ' ']).any(|word| word == name)
    });
    if is_key && rebuild::is_derived(table) {
        return format!("DELETE FROM public.{table}; {added} {}", column.text());
    }
    format!("{added} {}", Column { not_null: false, ..column.clone() }.text())
}

fn column_differences(table: &str, name: &str, recorded: &Column, live: &Column) -> Vec<(String, String)> {
    let at = format!("{table}.{name}");
    let alter = format!("ALTER TABLE public.{table} ALTER COLUMN {name}");
    let mut differences = Vec::new();
    if recorded.kind != live.kind || recorded.is_c != live.is_c {
        let kind = recorded.type_text();
        let using = format!("{alter} TYPE {kind} USING {name}::{}", recorded.kind);
        differences.push((format!("{at} is {} instead of {kind}", live.type_text()), using));
    }
    if recorded.default != live.default {
        let (what, repair) = match &recorded.default {
            Some(default) => {
                (format!("{at} does not begin as {default}"), format!("{alter} SET DEFAULT {default}"))
            }
            None => {
                (format!("{at} has a default that is not the program's"), format!("{alter} DROP DEFAULT"))
            }
        };
        differences.push((what, repair));
    }
    if recorded.not_null != live.not_null {
        differences.push(if recorded.not_null {
            (format!("{at} may be empty"), format!("{alter} SET NOT NULL"))
        } else {
            (format!("{at} may not be empty"), format!("{alter} DROP NOT NULL"))
        });
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(change: impl Fn(&str) -> Option<String>) -> Vec<SchemaDifference> {
        let live: Vec<String> = RECORDED.lines().filter_map(change).collect();
        compare(&Lines::read(RECORDED.lines()), &Lines::read(live.iter().map(String::as_str)))
    }

    #[test]
    fn what_is_recorded_does_not_differ_from_itself_and_more_than_that_is_no_difference() {
        assert_eq!(differences(|line| Some(line.to_owned())), []);
        let more = differences(|line| Some(line.to_owned()).filter(|_| true));
        assert_eq!(more, []);
        let live: Vec<&str> =
            RECORDED.lines().chain(["debts.colour text", "shelves.id uuid NOT NULL"]).collect();
        assert_eq!(compare(&Lines::read(RECORDED.lines()), &Lines::read(live.into_iter())), []);
    }

    #[test]
    fn a_column_that_is_gone_comes_back_as_it_was() {
        let gone = differences(|line| (!line.starts_with("debts.notes ")).then(|| line.to_owned()));
        let repair = gone[0].repair.as_deref();
        assert_eq!((gone.len(), gone[0].what.as_str()), (1, "debts.notes is missing"));
        assert_eq!(repair, Some("ALTER TABLE public.debts ADD COLUMN notes text"));
        let gone = differences(|line| (!line.starts_with("debts.overpaid_amount ")).then(|| line.to_owned()));
        let repair = "ALTER TABLE public.debts ADD COLUMN overpaid_amount numeric(24,2) NOT NULL DEFAULT 0";
        assert_eq!(gone[0].repair.as_deref(), Some(repair));
        // It is filled by a rebuild, and may not be empty from then on.
        let gone = differences(|line| (!line.starts_with("debts.status ")).then(|| line.to_owned()));
        assert_eq!(gone[0].repair.as_deref(), Some("ALTER TABLE public.debts ADD COLUMN status text"));
        let empty = differences(|line| Some(line.replace("debts.status text NOT NULL", "debts.status text")));
        assert_eq!(
            empty[0].repair.as_deref(),
            Some("ALTER TABLE public.debts ALTER COLUMN status SET NOT NULL")
        );
        let key = differences(|line| (!line.starts_with("debts.id ")).then(|| line.to_owned()));
        let repair = "DELETE FROM public.debts; ALTER TABLE public.debts ADD COLUMN id uuid NOT NULL";
        assert_eq!(key[0].repair.as_deref(), Some(repair));
    }

    #[test]
    fn types_rules_indexes_views_and_triggers_are_looked_at() {
        let other = differences(|line| Some(line.replace("debts.notes text", "debts.notes integer")));
        assert_eq!(other[0].what, "debts.notes is integer instead of text");
        let gone = differences(|line| (!line.contains("debts_by_customer")).then(|| line.to_owned()));
        let index = "CREATE INDEX debts_by_customer ON debts USING btree (store_id, customer_id)";
        assert_eq!((gone.len(), gone[0].repair.as_deref()), (1, Some(index)));
        let gone = differences(|line| (!line.starts_with("event_gaps.")).then(|| line.to_owned()));
        assert!(gone[0].repair.as_deref().is_some_and(|text| text.starts_with("CREATE VIEW event_gaps AS")));
        let gone = differences(|line| (!line.contains("TRIGGER events_are_noted")).then(|| line.to_owned()));
        let trigger = gone[0].repair.as_deref().expect("a statement");
        assert!(trigger.starts_with("CREATE TRIGGER events_are_noted AFTER INSERT"), "{trigger}");
        assert!(trigger.ends_with("ENABLE ALWAYS TRIGGER events_are_noted"), "{trigger}");
        let gone = differences(|line| (!line.contains("debts_status_check")).then(|| line.to_owned()));
        assert!(
            gone[0]
                .repair
                .as_deref()
                .is_some_and(|text| text.contains("ADD CONSTRAINT debts_status_check CHECK"))
        );
    }

    #[test]
    fn a_column_of_others_that_must_be_filled_keeps_rows_from_being_written() {
        let live: Vec<&str> = RECORDED.lines().chain(["debts.colour text NOT NULL"]).collect();
        let differences = compare(&Lines::read(RECORDED.lines()), &Lines::read(live.into_iter()));
        let repair = "ALTER TABLE public.debts ALTER COLUMN colour DROP NOT NULL";
        assert_eq!((differences.len(), differences[0].repair.as_deref()), (1, Some(repair)));
    }
}
