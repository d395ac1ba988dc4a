//! v1's id lists, from the read tables and from the event log, and the events that bear such ids.
//!
//! The log's lists also hold what never was projected. They read the payloads of the events, since nothing else is
//! sure to know them. Never here: asking a peer, or queueing what it lacks.

use crate::{Error, Store, TimeRange};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::json::Json;
use velox_protocol::v1::{self, Kind};

/// What happened in a stretch of time came after it began, but for tills whose clocks are further ahead than this.
const AHEAD: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Ids that are looked for by one statement.
const IDS_AT_ONCE: usize = 5_000;

/// Where a list comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The read tables: what stands.
    Tables,
    /// The event log: what any event bears.
    Events,
}

/// A page of ids, in the order of their times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdList {
    /// In all pages together.
    pub total: u64,
    /// Those of this page.
    pub ids: Vec<Uuid>,
}

/// An event that names a thing as its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The thing.
    pub id: Uuid,
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// The till that wrote it.
    pub device_id: String,
    /// When it was by the payload, else by the event.
    pub at: DateTime<Utc>,
}

/// An event in the form that counts.
struct Row {
    event_id: String,
    event_type: String,
    device_id: String,
    created_at: DateTime<Utc>,
    payload: String,
}

impl Row {
    fn named(self) -> Option<Named> {
        let json = Json::parse(&self.payload).ok()?;
        let (id, at) = v1::named(&self.event_type, &json, self.created_at)?;
        Some(Named {
            id,
            event_id: self.event_id,
            event_type: self.event_type,
            device_id: self.device_id,
            at,
        })
    }
}

impl Store {
    /// A page of an id list.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.id_list", level = "debug", skip_all, fields(list = kind.list()))]
    pub async fn id_list(
        &self,
        store_id: Uuid,
        kind: Kind,
        source: Source,
        range: TimeRange,
        (limit, offset): (u32, u64),
    ) -> Result<IdList, Error> {
        match source {
            Source::Tables => self.table_ids(store_id, kind, range, limit, offset).await,
            Source::Events => {
                let all = self.event_ids(store_id, kind, range).await?;
                let skip = usize::try_from(offset).unwrap_or(usize::MAX);
                let total = all.len() as u64;
                let ids = all.into_iter().map(|(_, id)| id).skip(skip).take(limit as usize).collect();
                Ok(IdList { total, ids })
            }
        }
    }

    /// The ids that events of the log bear, with their times, in that order.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.event_ids", level = "debug", skip_all, fields(list = kind.list()))]
    pub async fn event_ids(
        &self,
        store_id: Uuid,
        kind: Kind,
        range: TimeRange,
    ) -> Result<BTreeSet<(DateTime<Utc>, Uuid)>, Error> {
        let mut times: HashMap<Uuid, DateTime<Utc>> = HashMap::new();
        for named in self.named_since(store_id, kind.bearers(), range).await? {
            let first = times.entry(named.id).or_insert(named.at);
            *first = named.at.min(*first);
        }
        if kind == Kind::VoidedSales {
            // A void is listed by the time of its sale.
            let ids: Vec<Uuid> = times.keys().copied().collect();
            let mut sold: HashMap<Uuid, DateTime<Utc>> = HashMap::new();
            for sale in self.namers(store_id, Kind::Sales, &ids).await? {
                let first = sold.entry(sale.id).or_insert(sale.at);
                *first = sale.at.min(*first);
            }
            times.extend(sold);
        }
        let in_range = |at: &DateTime<Utc>| range.from <= *at && *at < range.until;
        Ok(times.into_iter().filter(|(_, at)| in_range(at)).map(|(id, at)| (at, id)).collect())
    }

    async fn table_ids(
        &self,
        store_id: Uuid,
        kind: Kind,
        range: TimeRange,
        limit: u32,
        offset: u64,
    ) -> Result<IdList, Error> {
        let list = sqlx::query!(
            r#"WITH listed AS (
                   SELECT id, sold_at AS at FROM sales
                   WHERE store_id = $1 AND sold_at >= $3 AND sold_at < $4
                     AND ($2 = 'sales-ids' OR $2 = 'voided-sales-ids' AND voided_at IS NOT NULL)
                   UNION ALL
                   SELECT id, opened_at FROM cash_sessions
                   WHERE $2 = 'session-ids' AND store_id = $1 AND opened_at >= $3 AND opened_at < $4
                   UNION ALL
                   SELECT id, created_at FROM debts
                   WHERE $2 = 'debt-ids' AND store_id = $1 AND created_at >= $3 AND created_at < $4 AND NOT derived
                   UNION ALL
                   SELECT id, paid_at FROM debt_payments
                   WHERE $2 = 'debt-payment-ids' AND store_id = $1 AND paid_at >= $3 AND paid_at < $4
                   UNION ALL
                   SELECT id, created_at FROM stock_movements m
                   WHERE $2 = 'inventory-movement-ids' AND store_id = $1 AND created_at >= $3 AND created_at < $4
                     AND kind IN ('received', 'adjusted', 'delta')
                     -- One that bears no id has one of this node's making, which nobody else knows.
                     AND EXISTS (SELECT 1 FROM effective_events e
                         WHERE e.store_id = m.store_id AND e.event_id = m.event_id
                           AND lower(e.payload->>'movement_id') = m.id::text)
               )
               SELECT (SELECT count(*) FROM listed) AS "total!",
                   ARRAY(SELECT id FROM listed ORDER BY at, id LIMIT $5 OFFSET $6) AS "ids!""#,
            store_id,
            kind.list(),
            range.from,
            range.until,
            i64::from(limit),
            i64::try_from(offset).unwrap_or(i64::MAX)
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(IdList { total: u64::try_from(list.total).unwrap_or(0), ids: list.ids })
    }

    /// What events of these types name, of all that can have happened since the beginning of a stretch of time.
    async fn named_since(
        &self,
        store_id: Uuid,
        types: &[&str],
        range: TimeRange,
    ) -> Result<Vec<Named>, Error> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT e.event_id AS "event_id!", e.type AS "event_type!", e.device_id AS "device_id!",
                   e.created_at AS "created_at!", e.payload::text AS "payload!"
               FROM events e
               WHERE e.store_id = $1 AND e.type = ANY($2) AND e.received_at >= least($3, now()) - make_interval(secs => $4)
                 AND NOT EXISTS (SELECT 1 FROM event_variants v
                     WHERE v.store_id = e.store_id AND v.event_id = e.event_id AND v.effective)
               UNION ALL
               SELECT v.event_id, v.type, v.device_id, v.created_at, v.payload::text
               FROM event_variants v
               WHERE v.store_id = $1 AND v.type = ANY($2) AND v.received_at >= least($3, now()) - make_interval(secs => $4)
                 AND v.effective"#,
            store_id,
            types as &[&str],
            range.from,
            AHEAD.as_secs_f64()
        )
        .fetch(&self.pool);
        Ok(rows.try_filter_map(|row| async { Ok(row.named()) }).try_collect().await?)
    }

    /// The events that name these things as their own, by thing and event; see [`Kind::namers`]. Of those that are
    /// not projected all are looked through, and only where something is not found otherwise.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.namers", level = "debug", skip_all, fields(list = kind.list(), ids = ids.len()))]
    pub async fn namers(&self, store_id: Uuid, kind: Kind, ids: &[Uuid]) -> Result<Vec<Named>, Error> {
        let wanted: HashSet<Uuid> = ids.iter().copied().collect();
        let mut found: BTreeMap<(Uuid, String), Named> = BTreeMap::new();
        for ids in ids.chunks(IDS_AT_ONCE) {
            let links = links(store_id, kind, ids);
            let rows = sqlx::query_as!(
                Row,
                r#"SELECT e.event_id AS "event_id!", e.type AS "event_type!", e.device_id AS "device_id!",
                       e.created_at AS "created_at!", e.payload::text AS "payload!"
                   FROM (SELECT DISTINCT event_id FROM links
                         WHERE store_id = $1 AND id = ANY($2) AND kind = $3) AS l
                   JOIN effective_events e ON e.store_id = $1 AND e.event_id = l.event_id
                   WHERE e.type = ANY($4)"#,
                store_id,
                &links,
                kind.link() as i16,
                kind.namers() as &[&str]
            )
            .fetch_all(&self.pool)
            .await?;
            // An index: of events in another form than the one that counts it has too much.
            let named = rows.into_iter().filter_map(Row::named).filter(|named| wanted.contains(&named.id));
            found.extend(named.map(|named| ((named.id, named.event_id.clone()), named)));
        }
        let known: HashSet<Uuid> = found.keys().map(|(id, _)| *id).collect();
        if known.len() < wanted.len() || kind == Kind::Sessions {
            let named = self.unprojected(store_id, kind, &wanted).await?;
            found.extend(named.into_iter().map(|named| ((named.id, named.event_id.clone()), named)));
        }
        Ok(found.into_values().collect())
    }

    /// What is named by the events that stand for these or are absorbed together with them: the same thing under
    /// another id. By the asked event.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.named_by_others", level = "debug", skip_all)]
    pub async fn named_by_others(
        &self,
        store_id: Uuid,
        event_ids: &[String],
    ) -> Result<Vec<(String, Named)>, Error> {
        let rows = sqlx::query!(
            r#"WITH asked AS (
                   SELECT a.event_id, coalesce((SELECT x.reason FROM event_exceptions x
                       WHERE x.store_id = $1 AND x.event_id = a.event_id AND x.status = 'absorbed'), a.event_id) AS stands
                   FROM unnest($2::text[]) AS a(event_id)
               ), others AS (
                   SELECT event_id, stands AS other FROM asked
                   UNION
                   SELECT a.event_id, x.event_id FROM asked a JOIN event_exceptions x
                       ON x.store_id = $1 AND x.status = 'absorbed' AND x.reason = a.stands
               )
               SELECT o.event_id AS "asked!", e.event_id AS "event_id!", e.type AS "event_type!",
                   e.device_id AS "device_id!", e.created_at AS "created_at!", e.payload::text AS "payload!"
               FROM others o JOIN effective_events e ON e.store_id = $1 AND e.event_id = o.other
               WHERE o.other <> o.event_id"#,
            store_id,
            event_ids
        )
        .fetch_all(&self.pool)
        .await?;
        let named = rows.into_iter().filter_map(|row| {
            let other = Row {
                event_id: row.event_id,
                event_type: row.event_type,
                device_id: row.device_id,
                created_at: row.created_at,
                payload: row.payload,
            };
            Some((row.asked, other.named()?))
        });
        Ok(named.collect())
    }

    /// What events name that have no links, since they are not projected yet or cannot be.
    async fn unprojected(
        &self,
        store_id: Uuid,
        kind: Kind,
        wanted: &HashSet<Uuid>,
    ) -> Result<Vec<Named>, Error> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT e.event_id AS "event_id!", e.type AS "event_type!", e.device_id AS "device_id!",
                   e.created_at AS "created_at!", e.payload::text AS "payload!"
               FROM (SELECT event_id FROM outbox_entries
                     WHERE store_id = $1 AND target = 'projection' AND status IN ('pending', 'dead')
                     UNION
                     SELECT event_id FROM event_exceptions
                     WHERE store_id = $1 AND status IN ('failed', 'skipped')) AS u
               JOIN effective_events e ON e.store_id = $1 AND e.event_id = u.event_id
               WHERE e.type = ANY($2)"#,
            store_id,
            kind.namers() as &[&str]
        )
        .fetch(&self.pool);
        let named = rows.try_filter_map(|row| async { Ok(row.named()) });
        Ok(named.try_filter(|named| std::future::ready(wanted.contains(&named.id))).try_collect().await?)
    }

    /// The stock events that moved these products, other than sales.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.stock_events", level = "debug", skip_all)]
    pub async fn stock_events(&self, store_id: Uuid, products: &[Uuid]) -> Result<Vec<String>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT DISTINCT event_id FROM stock_movements
             WHERE store_id = $1 AND product_id = ANY($2) AND kind IN ('received', 'adjusted', 'delta')",
            store_id,
            products
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids)
    }
}

/// Under which ids the events are linked. Moves that came as `items[]` have ids of their own, by their index.
fn links(store_id: Uuid, kind: Kind, ids: &[Uuid]) -> Vec<Uuid> {
    let mut links = ids.to_vec();
    if kind == Kind::Movements {
        links.extend(ids.iter().map(|id| velox_protocol::payload::itemised_key(store_id, *id, 0)));
    }
    links
}
