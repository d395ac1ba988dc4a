//! Triage of a store: the six questions that an operator asks, each a text of its own that the runbook has too, and the
//! facts of a node made of the answers.
//!
//! A question that the database cannot answer, for want of a column or view, leaves the others standing. What is missing
//! is looked for in the tables themselves, and whether it could be projected is tried, in a transaction that is rolled
//! back. Never here: the verdict (see `velox_protocol::triage`), what other nodes have.

mod asker;
mod heal;
mod mending;
mod relays;
mod trial;

pub use asker::Asker;
pub use heal::{HealedAll, StillMissing};
pub use mending::Mending;
pub use relays::AwayPeer;

use crate::{Error, Store, schema};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use std::collections::BTreeMap;
use trial::Outcome;
use uuid::Uuid;
use velox_protocol::catalogue;
use velox_protocol::triage::{
    DeviceCount, EXAMPLES, Facts, Failing, Kind, KindFacts, LastError, NAMED, TypeCount, Unprojected,
};

/// The questions, as the runbook has them; `$1` is the store.
pub const QUESTIONS: [(&str, &str); 6] = [
    ("Which events are there?", include_str!("triage/1_events_by_type.sql")),
    ("Which rows are there?", include_str!("triage/2_rows.sql")),
    ("Which events have no rows?", include_str!("triage/3_events_without_rows.sql")),
    ("Which tills wrote them?", include_str!("triage/4_events_by_device.sql")),
    ("Which columns are there?", schema::COLUMNS),
    ("Which rules, indexes and triggers are there?", schema::CONSTRAINTS),
];
/// Longest answer to one question: a log of millions is read for some of them.
const QUESTION_LIMIT: &str = "SET statement_timeout = '120s'";
/// Most events of a kind that are tried: what a broken projector leaves behind is all alike.
const TRIED: usize = 500;
/// Most errors that are told.
const ERRORS: i64 = 20;

/// An event that is not projected as it should be.
#[derive(Debug, Clone)]
struct Suspect {
    event_id: String,
    event_type: String,
    received_at: DateTime<Utc>,
    missing: bool,
    status: String,
    error: Option<String>,
    failed_since: Option<DateTime<Utc>>,
    pending: bool,
    on_its_way: bool,
}

impl Suspect {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Suspect {
            event_id: row.try_get("event_id")?,
            event_type: row.try_get("type")?,
            received_at: row.try_get("received_at")?,
            missing: row.try_get("missing")?,
            status: row.try_get("status")?,
            error: row.try_get("error")?,
            failed_since: row.try_get("failed_since")?,
            pending: row.try_get("pending")?,
            on_its_way: row.try_get("on_its_way")?,
        })
    }
}

fn count(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

impl Store {
    /// What this node knows of a store. `version`: the program's.
    ///
    /// # Errors
    /// The database's, where it is away.
    #[tracing::instrument(name = "db.triage", level = "debug", skip_all)]
    pub async fn triage(&self, store_id: Uuid, version: &str) -> Result<Facts, Error> {
        let mut facts = Facts { version: version.to_owned(), ..Facts::default() };
        let mut connection = self.questioner().await?;
        let asked = ask_all(&mut connection, store_id, &mut facts).await;
        // One that does not close is dropped all the same.
        let _ = connection.close().await;
        let suspects = asked?;
        self.try_suspects(store_id, &suspects, &mut facts).await?;
        Ok(facts)
    }

    /// A connection of its own: the limits of a pool's, and its places, are for requests.
    async fn questioner(&self) -> Result<PgConnection, Error> {
        let mut connection = PgConnection::connect_with(&self.pool.connect_options()).await?;
        sqlx::raw_sql(QUESTION_LIMIT).execute(&mut connection).await?;
        Ok(connection)
    }

    /// Counts the suspects by kind, and tries some of each.
    async fn try_suspects(
        &self,
        store_id: Uuid,
        suspects: &[Suspect],
        facts: &mut Facts,
    ) -> Result<(), Error> {
        let mut by_kind: BTreeMap<Kind, Vec<&Suspect>> = BTreeMap::new();
        for suspect in suspects {
            let kind = Kind::of(&suspect.event_type);
            let of_kind = facts.kinds.entry(kind.name().to_owned()).or_default();
            of_kind.pending += u64::from(suspect.pending);
            if suspect.on_its_way {
                continue;
            }
            of_kind.failed += u64::from(suspect.status == "failed" || suspect.status == "dead");
            by_kind.entry(kind).or_default().push(suspect);
        }
        // Payments need their debts, cancelled sales the sales: kinds come in that order.
        let mut base = Vec::new();
        for (kind, suspects) in by_kind {
            let of_kind = self.try_kind(store_id, &suspects, &mut base).await?;
            let known = facts.kinds.entry(kind.name().to_owned()).or_default();
            let missing = suspects.iter().filter(|suspect| suspect.missing).count() as u64;
            known.missing_rows = known.missing_rows.map(|_| missing.saturating_sub(of_kind.marks_lost));
            *known = KindFacts {
                stuck: suspects.len() as u64,
                since: suspects.iter().map(|suspect| suspect.received_at).min(),
                would_work: of_kind.would_work,
                would_fail: of_kind.would_fail,
                schema_faults: of_kind.schema_faults,
                marks_lost: of_kind.marks_lost,
                untried: of_kind.untried,
                errors: of_kind.errors,
                sample: suspects.iter().take(EXAMPLES).map(|suspect| suspect.event_id.clone()).collect(),
                ..known.clone()
            };
            facts.unprojected.extend(suspects.iter().take(NAMED).map(|suspect| Unprojected {
                event_id: suspect.event_id.clone(),
                event_type: suspect.event_type.clone(),
                status: suspect.status.clone(),
                error: suspect.error.clone(),
                missing: suspect.missing,
                received_at: suspect.received_at,
            }));
        }
        Ok(())
    }

    /// Those that are known to fail come first: they are likely to do so again.
    async fn try_kind(
        &self,
        store_id: Uuid,
        suspects: &[&Suspect],
        base: &mut Vec<String>,
    ) -> Result<KindFacts, Error> {
        let mut ordered: Vec<&Suspect> = suspects.to_vec();
        ordered.sort_by_key(|suspect| suspect.failed_since.is_none());
        let ids: Vec<String> = ordered.iter().take(TRIED).map(|suspect| suspect.event_id.clone()).collect();
        let tried = self.try_projections(store_id, base, &ids).await?;
        let mut facts = KindFacts::default();
        for suspect in ordered.iter().take(TRIED) {
            match tried.get(&suspect.event_id) {
                Some(Outcome::Works) => {
                    facts.would_work += 1;
                    base.push(suspect.event_id.clone());
                }
                Some(Outcome::Excepted) => facts.marks_lost += 1,
                Some(Outcome::Fails { reason, is_schema }) => {
                    facts.would_fail += 1;
                    facts.schema_faults += u64::from(*is_schema);
                    if facts.errors.len() < EXAMPLES {
                        facts.errors.push(Failing {
                            event_id: suspect.event_id.clone(),
                            event_type: suspect.event_type.clone(),
                            error: reason.clone(),
                        });
                    }
                }
                None => {}
            }
        }
        let tried = facts.would_work + facts.would_fail + facts.marks_lost;
        facts.untried = (suspects.len() as u64).saturating_sub(tried);
        Ok(facts)
    }
}

/// Asks all questions.
async fn ask_all(
    connection: &mut PgConnection,
    store_id: Uuid,
    facts: &mut Facts,
) -> Result<Vec<Suspect>, Error> {
    for kind in Kind::ALL {
        facts.kinds.insert(kind.name().to_owned(), KindFacts::default());
    }
    let asker = asker::read(connection).await;
    facts.node_id = noted_as(asker, "who this node is", facts)?.node_id;
    let applied = schema::applied_migrations(connection).await;
    let applied = noted_as(applied, "which migrations have run", facts)?;
    facts.schema_version = applied.last().copied().unwrap_or(0);
    let by_type = type_counts(connection, store_id).await;
    facts.events_by_type = noted(by_type, 1, facts)?;
    for counted in facts.events_by_type.clone() {
        add_events(of_type(facts, &counted.event_type), &counted);
    }
    facts.rows = rows(connection, store_id, facts).await?;
    for (kind, rows) in facts.rows.clone() {
        facts.kinds.entry(kind).or_default().rows = Some(rows);
    }
    let suspects = suspects(connection, store_id).await;
    let are_known = suspects.is_ok();
    let suspects = noted(suspects, 3, facts)?;
    if are_known {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Other) {
            facts.kinds.entry(kind.name().to_owned()).or_default().missing_rows = Some(0);
        }
    }
    let by_device = device_counts(connection, store_id).await;
    facts.events_by_device_and_type = noted(by_device, 4, facts)?;
    let differences = schema::differences(connection).await;
    facts.schema_differences = noted(differences, 5, facts)?;
    let errors = last_errors(connection, store_id).await;
    facts.last_errors = noted(errors, 6, facts)?;
    Ok(suspects)
}

/// Question 2, a table at a time where all at once have no answer.
async fn rows(
    connection: &mut PgConnection,
    store_id: Uuid,
    facts: &mut Facts,
) -> Result<BTreeMap<String, u64>, Error> {
    let read = |rows: Vec<PgRow>| -> Result<BTreeMap<String, u64>, sqlx::Error> {
        rows.iter().map(|row| Ok((row.try_get(0)?, count_at(row, 1)?))).collect()
    };
    let text = QUESTIONS[1].1;
    let all = sqlx::query(text).bind(store_id).fetch_all(&mut *connection).await;
    let failed = match all {
        Ok(rows) => return Ok(read(rows)?),
        Err(error) => Error::from(error),
    };
    noted::<()>(Err(failed), 2, facts)?;
    let mut counted = BTreeMap::new();
    for part in text.split("UNION ALL") {
        // What has no answer stays out.
        if let Ok(rows) = sqlx::query(AssertSqlSafe(part)).bind(store_id).fetch_all(&mut *connection).await {
            counted.extend(read(rows)?);
        }
    }
    Ok(counted)
}

fn count_at(row: &PgRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

/// An answer; where there is none, nothing and a note of it. A database that is away is an error.
fn noted<T: Default>(answer: Result<T, Error>, question: usize, facts: &mut Facts) -> Result<T, Error> {
    noted_as(answer, &format!("question {question}"), facts)
}

fn noted_as<T: Default>(answer: Result<T, Error>, what: &str, facts: &mut Facts) -> Result<T, Error> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(error) if error.is_transient() => Err(error),
        Err(error) => {
            facts.unanswered.push(format!("{what}: {}", error.describe()));
            Ok(T::default())
        }
    }
}

fn of_type<'a>(facts: &'a mut Facts, event_type: &str) -> &'a mut KindFacts {
    facts.kinds.entry(Kind::of(event_type).name().to_owned()).or_default()
}

fn add_events(facts: &mut KindFacts, counted: &TypeCount) {
    facts.events += counted.events;
    // Several types may be about the same entity.
    facts.entities = facts.entities.max(counted.entities);
    facts.oldest = Some(facts.oldest.map_or(counted.oldest, |oldest| oldest.min(counted.oldest)));
    facts.newest = Some(facts.newest.map_or(counted.newest, |newest| newest.max(counted.newest)));
}

async fn type_counts(connection: &mut PgConnection, store_id: Uuid) -> Result<Vec<TypeCount>, Error> {
    let rows = sqlx::query(QUESTIONS[0].1).bind(store_id).fetch_all(connection).await?;
    let read = |row: &PgRow| -> Result<TypeCount, sqlx::Error> {
        Ok(TypeCount {
            event_type: row.try_get("type")?,
            events: count(row, "events")?,
            entities: count(row, "entities")?,
            oldest: row.try_get("oldest")?,
            newest: row.try_get("newest")?,
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

async fn device_counts(connection: &mut PgConnection, store_id: Uuid) -> Result<Vec<DeviceCount>, Error> {
    let rows = sqlx::query(QUESTIONS[3].1).bind(store_id).fetch_all(connection).await?;
    let read = |row: &PgRow| -> Result<DeviceCount, sqlx::Error> {
        Ok(DeviceCount {
            device_id: row.try_get("device_id")?,
            event_type: row.try_get("type")?,
            events: count(row, "events")?,
            last_received_at: row.try_get("last_received_at")?,
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Those that no program of this version projects have no rows to miss.
async fn suspects(connection: &mut PgConnection, store_id: Uuid) -> Result<Vec<Suspect>, Error> {
    let rows = sqlx::query(QUESTIONS[2].1).bind(store_id).fetch_all(connection).await?;
    let suspects = rows.iter().map(Suspect::read).collect::<Result<Vec<_>, _>>()?;
    let is_wanted = |suspect: &Suspect| {
        suspect.missing
            || suspect.pending
            || catalogue::find(&suspect.event_type).is_some_and(|info| info.projected)
    };
    Ok(suspects.into_iter().filter(is_wanted).collect())
}

async fn last_errors(connection: &mut PgConnection, store_id: Uuid) -> Result<Vec<LastError>, Error> {
    let rows = sqlx::query!(
        r#"SELECT at AS "at!", event_id AS "event_id!", error AS "error!", since FROM (
               SELECT 'projection' AS at, event_id, reason AS error, since FROM event_exceptions
               WHERE store_id = $1 AND status = 'failed' AND reason IS NOT NULL
               UNION ALL
               SELECT CASE target WHEN 'projection' THEN 'projection' ELSE 'relay to ' || peer END, event_id, error, NULL
               FROM outbox_entries
               WHERE store_id = $1 AND status IN ('pending', 'dead') AND error IS NOT NULL) AS errors
           ORDER BY since DESC NULLS FIRST, at, event_id LIMIT $2"#,
        store_id,
        ERRORS
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| LastError { at: row.at, event_id: Some(row.event_id), error: row.error, since: row.since })
        .collect())
}
