//! Concurrent edits: the log of them, the ones that a person has to decide, and the decision.
//!
//! The rows are written by the projections, with those of the entity. Never here: what is a conflict, or what a
//! decision says (see `velox_protocol::conflict` and `velox_protocol::resolution`).

use crate::node_events::{Author, Draft, NodeStamp};
use crate::reads::{Listed, Page, PageRequest, TimeKey, TimeRange, millis, optional_millis, start};
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::{BTreeMap, HashMap};
use utoipa::ToSchema;
use uuid::Uuid;
use velox_protocol::conflict::{Conflict, conflict_id};
use velox_protocol::crdt::register::Registers;
use velox_protocol::json::Json as Value;
use velox_protocol::resolution::{Edited, Side, Subject};

/// How a concurrent edit was decided, or will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The last writer has won.
    Lww,
    /// Of several recordings of one thing the smallest stands.
    Awset,
    /// A person decides.
    Mvr,
}

impl Strategy {
    const fn name(self) -> &'static str {
        match self {
            Strategy::Lww => "lww",
            Strategy::Awset => "awset",
            Strategy::Mvr => "mvr",
        }
    }
}

/// A row of the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `conflict_audit_log`")]
pub struct AuditRow {
    pub store_id: Uuid,
    pub id: Uuid,
    pub entity_type: String,
    pub entity_id: Uuid,
    pub field: String,
    pub winner_event_id: String,
    pub loser_event_ids: Vec<String>,
    /// `lww`, `awset` or `mvr`
    pub strategy: String,
    #[schema(value_type = Option<Object>)]
    pub winner_payload: Option<Json<Box<RawValue>>>,
    /// In the order of `loser_event_ids`.
    #[schema(value_type = Option<Vec<Object>>)]
    pub loser_payloads: Option<Json<Box<RawValue>>>,
    #[serde(serialize_with = "millis")]
    pub detected_at: DateTime<Utc>,
    /// `null`: a person has to decide.
    #[serde(serialize_with = "optional_millis")]
    pub resolved_at: Option<DateTime<Utc>>,
    pub resolved_by: Option<String>,
}

impl Listed for AuditRow {
    type Key = TimeKey;

    fn key(&self) -> TimeKey {
        TimeKey { at: self.detected_at, id: self.id }
    }
}

/// Which rows of the log are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditFilter {
    /// Met in this time.
    pub detected: TimeRange,
    /// Decided so; `None`: all.
    pub strategy: Option<Strategy>,
}

/// A conflict that a person has to decide.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OpenConflictRow {
    /// The shop.
    pub store_id: Uuid,
    /// The same on all nodes.
    pub id: Uuid,
    /// `product`
    pub entity_type: String,
    /// Which.
    pub entity_id: Uuid,
    /// `price`, over all currencies.
    pub field: String,
    /// Always `mvr`.
    #[schema(value_type = String)]
    pub strategy: Strategy,
    /// Whose value is shown until then.
    pub winner_event_id: String,
    /// The others, by key.
    pub loser_event_ids: Vec<String>,
    /// All of them, by key.
    pub versions: Vec<ConflictVersion>,
    /// The values of the winner.
    #[schema(value_type = Object)]
    pub winner_payload: BTreeMap<String, serde_json::Value>,
    /// The values of the others, in the order of `loser_event_ids`.
    #[schema(value_type = Vec<Object>)]
    pub loser_payloads: Vec<BTreeMap<String, serde_json::Value>>,
    /// The time of the latest version.
    #[serde(serialize_with = "millis")]
    pub opened_at: DateTime<Utc>,
    /// Always `null`: it is not decided yet.
    #[schema(value_type = Option<String>)]
    pub resolved_at: (),
    /// Always `null`: it is not decided yet.
    #[schema(value_type = Option<String>)]
    pub resolved_by: (),
}

/// One side of an open conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConflictVersion {
    /// The event.
    pub event_id: String,
    /// Its till.
    pub device_id: String,
    /// The till's time.
    #[serde(serialize_with = "millis", deserialize_with = "chrono::serde::ts_milliseconds::deserialize")]
    pub created_at: DateTime<Utc>,
    /// Field -> decimal, or `null`.
    #[schema(value_type = std::collections::BTreeMap<String, Option<String>>)]
    pub values: BTreeMap<String, serde_json::Value>,
}

impl Listed for OpenConflictRow {
    type Key = TimeKey;

    fn key(&self) -> TimeKey {
        TimeKey { at: self.opened_at, id: self.id }
    }
}

/// What is to stand from now on.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// These values: the JSON text of an object of the conflict's fields.
    Values(&'a str),
    /// The values of one side, as seen by a till; only while the conflict is open.
    Side {
        /// Which side.
        side: Side,
        /// The till.
        device_id: Option<&'a str>,
    },
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// It is an event now.
    Done {
        /// Its type.
        event_type: &'static str,
    },
    /// The store has no such conflict.
    Unknown,
    /// Nobody has to decide it any more; only for [`Choice::Side`].
    Decided,
    /// The choice is none of this conflict; why, for a person.
    Refused(String),
    /// It is decided by rule alone; why, for a person.
    NotByPeople(&'static str),
}

/// Where a conflict is, as far as its id tells.
struct Found {
    entity_type: String,
    entity_id: Uuid,
    field: String,
    strategy: String,
}

struct StoredOpen {
    id: Uuid,
    entity_type: String,
    entity_id: Uuid,
    field: String,
    winner_event_id: String,
    versions: Json<Vec<ConflictVersion>>,
    opened_at: DateTime<Utc>,
}

impl StoredOpen {
    fn into_row(self, store_id: Uuid) -> OpenConflictRow {
        let versions = self.versions.0;
        let (winners, losers): (Vec<_>, Vec<_>) =
            versions.iter().cloned().partition(|version| version.event_id == self.winner_event_id);
        OpenConflictRow {
            store_id,
            id: self.id,
            entity_type: self.entity_type,
            entity_id: self.entity_id,
            field: self.field,
            strategy: Strategy::Mvr,
            winner_event_id: self.winner_event_id,
            loser_event_ids: losers.iter().map(|version| version.event_id.clone()).collect(),
            winner_payload: winners.into_iter().next().map(|version| version.values).unwrap_or_default(),
            loser_payloads: losers.into_iter().map(|version| version.values).collect(),
            versions,
            opened_at: self.opened_at,
            resolved_at: (),
            resolved_by: (),
        }
    }
}

impl Store {
    /// A page of the log of concurrent edits, by the time at which they were met.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.conflicts.audit", level = "debug", skip_all)]
    pub async fn read_conflict_audit(
        &self,
        store_id: Uuid,
        filter: &AuditFilter,
        page: PageRequest<TimeKey>,
    ) -> Result<Page<AuditRow>, Error> {
        let after = start(page.after);
        let rows = sqlx::query_as!(
            AuditRow,
            r#"SELECT store_id, id, entity_type, entity_id, field, winner_event_id, loser_event_ids, strategy,
                   winner_payload AS "winner_payload: Json<Box<RawValue>>",
                   loser_payloads AS "loser_payloads: Json<Box<RawValue>>", detected_at, resolved_at, resolved_by
               FROM conflict_audit_log
               WHERE store_id = $1 AND (detected_at, id) > ($2, $3) AND detected_at >= $4 AND detected_at < $5
                 AND ($6::text IS NULL OR strategy = $6)
               ORDER BY detected_at, id LIMIT $7"#,
            store_id,
            after.at,
            after.id,
            filter.detected.from,
            filter.detected.until,
            filter.strategy.map(Strategy::name),
            page.rows()
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(page.page(rows))
    }

    /// A page of the conflicts that a person has to decide, by the time of their latest version.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.conflicts.open", level = "debug", skip_all)]
    pub async fn read_open_conflicts(
        &self,
        store_id: Uuid,
        page: PageRequest<TimeKey>,
    ) -> Result<Page<OpenConflictRow>, Error> {
        let after = start(page.after);
        let rows = sqlx::query_as!(
            StoredOpen,
            r#"SELECT id, entity_type, entity_id, field, winner_event_id,
                   versions AS "versions: Json<Vec<ConflictVersion>>", opened_at
               FROM open_conflicts WHERE store_id = $1 AND (opened_at, id) > ($2, $3)
               ORDER BY opened_at, id LIMIT $4"#,
            store_id,
            after.at,
            after.id,
            page.rows()
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(page.page(rows.into_iter().map(|row| row.into_row(store_id)).collect()))
    }

    /// The registers of products, as they are projected so far; unknown products are left out.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.conflicts.price_registers", level = "debug", skip_all)]
    pub async fn price_registers(
        &self,
        store_id: Uuid,
        product_ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Registers>, Error> {
        let rows = sqlx::query!(
            r#"SELECT id, registers AS "registers: Json<Registers>" FROM products
               WHERE store_id = $1 AND id = ANY($2)"#,
            store_id,
            product_ids
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.id, row.registers.0)).collect())
    }

    /// Decides a conflict by an event of the node, which dominates every version that is there now. What was decided
    /// can be decided again.
    ///
    /// # Errors
    /// The database's; then nothing is written, or the outcome is unknown.
    #[tracing::instrument(name = "db.conflicts.resolve", level = "debug", skip_all)]
    pub async fn resolve_conflict(
        &self,
        store_id: Uuid,
        id: Uuid,
        choice: Choice<'_>,
        stamp: &NodeStamp,
    ) -> Result<Resolved, Error> {
        let resolved = self.try_resolve(store_id, id, choice, stamp).await;
        if resolved.as_ref().is_err_and(Error::is_read_only) {
            self.renew_sessions(&self.pool).await;
        }
        resolved
    }

    async fn try_resolve(
        &self,
        store_id: Uuid,
        id: Uuid,
        choice: Choice<'_>,
        stamp: &NodeStamp,
    ) -> Result<Resolved, Error> {
        let mut transaction = self.begin_durable().await?;
        let Some(found) = find(&mut transaction, store_id, id).await? else {
            return Ok(Resolved::Unknown);
        };
        let subject = match found.subject() {
            Ok(subject) => subject,
            Err(why) => return Ok(Resolved::NotByPeople(why)),
        };
        // First, so that of two decisions at once the later one knows the earlier one by its seq.
        let author = Author::next(&mut transaction, store_id).await?;
        let Some(registers) = registers(&mut transaction, store_id, &subject).await? else {
            // The entity has no row: what could be dominated is not known.
            return Ok(Resolved::Unknown);
        };
        let text = match choice {
            Choice::Values(text) => text.to_owned(),
            Choice::Side { side, device_id } => {
                let Some(conflict) = subject.conflict(&registers).filter(|conflict| conflict.is_open) else {
                    return Ok(Resolved::Decided);
                };
                let last = arrived_last(&mut transaction, store_id, &conflict).await?;
                conflict.side(side, device_id, last.as_deref()).values_text()
            }
        };
        let chosen = match Value::parse(&text) {
            Ok(chosen) => chosen,
            Err(error) => return Ok(Resolved::Refused(format!("value: {error}"))),
        };
        let lasting_id = conflict_id(store_id, subject.entity_id, &subject.field);
        let resolution = match subject.resolve(&registers, &chosen, lasting_id, &stamp.actor.user_id) {
            Ok(resolution) => resolution,
            Err(refused) => return Ok(Resolved::Refused(refused)),
        };
        let draft = Draft {
            event_type: resolution.event_type,
            payload: &resolution.payload,
            clock: resolution.clock,
        };
        if let Err(refused) = author.write(&mut transaction, draft, stamp, &self.relays).await? {
            return Ok(Resolved::Refused(refused));
        }
        transaction.commit().await?;
        Ok(Resolved::Done { event_type: resolution.event_type })
    }
}

impl Found {
    /// What a decision would be about.
    fn subject(self) -> Result<Subject, &'static str> {
        if self.strategy == Strategy::Awset.name() {
            return Err(
                "The events are recordings of one thing, of which the earliest stands; nothing is to be decided.",
            );
        }
        match Edited::of(&self.entity_type) {
            Some(edited) => Ok(Subject { edited, entity_id: self.entity_id, field: self.field }),
            None => {
                Err("Only fields of products and customers can be decided; here the latest event stands.")
            }
        }
    }
}

async fn find(connection: &mut PgConnection, store_id: Uuid, id: Uuid) -> Result<Option<Found>, Error> {
    let found = sqlx::query_as!(
        Found,
        r#"SELECT entity_type AS "entity_type!", entity_id AS "entity_id!", field AS "field!",
               strategy AS "strategy!"
           FROM (
               SELECT 1 AS place, entity_type, entity_id, field, 'mvr' AS strategy FROM open_conflicts
               WHERE store_id = $1 AND id = $2
               UNION ALL
               SELECT 2, entity_type, entity_id, field, strategy FROM conflict_audit_log
               WHERE store_id = $1 AND id = $2) AS known
           ORDER BY place LIMIT 1"#,
        store_id,
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(found)
}

/// The registers of now; `None`: the entity has no row.
async fn registers(
    connection: &mut PgConnection,
    store_id: Uuid,
    subject: &Subject,
) -> Result<Option<Registers>, Error> {
    let stored = match subject.edited {
        Edited::Product => {
            sqlx::query_scalar!(
                r#"SELECT registers AS "registers: Json<Registers>" FROM products WHERE store_id = $1 AND id = $2"#,
                store_id,
                subject.entity_id
            )
            .fetch_optional(connection)
            .await?
        }
        Edited::Customer => {
            sqlx::query_scalar!(
                r#"SELECT registers AS "registers: Json<Registers>" FROM customers WHERE store_id = $1 AND id = $2"#,
                store_id,
                subject.entity_id
            )
            .fetch_optional(connection)
            .await?
        }
    };
    Ok(stored.map(|json| json.0))
}

/// Of a conflict's versions the event that this node received last.
async fn arrived_last(
    connection: &mut PgConnection,
    store_id: Uuid,
    conflict: &Conflict,
) -> Result<Option<String>, Error> {
    let ids: Vec<String> = conflict.versions.iter().map(|v| v.stamp.key.event_id.clone()).collect();
    let last = sqlx::query_scalar!(
        "SELECT event_id FROM events WHERE store_id = $1 AND event_id = ANY($2)
         ORDER BY received_at DESC, created_at DESC, device_id DESC, event_id DESC LIMIT 1",
        store_id,
        &ids
    )
    .fetch_optional(connection)
    .await?;
    Ok(last)
}
