//! The forms of some buckets, as the index by bucket finds them. Never here: what they are compared with.

use super::{MOST_FORMS, plan};
use crate::{Error, Store};
use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;
use velox_protocol::reconcile::{EventName, Item, Part};

/// A form as it is compared.
pub(super) struct FormItem {
    pub(super) created_at: DateTime<Utc>,
    pub(super) item: Item,
}

/// Parts, by column.
struct Columns {
    day: Vec<NaiveDate>,
    low: Vec<i16>,
    high: Vec<i16>,
}

impl Columns {
    fn of(parts: &[Part]) -> Self {
        Columns {
            day: parts.iter().map(|part| part.day).collect(),
            low: parts.iter().map(|part| column(part.low)).collect(),
            high: parts.iter().map(|part| column(part.high)).collect(),
        }
    }
}

impl Store {
    /// The items of these parts, in no order; one more than [`MOST_FORMS`] at most.
    #[tracing::instrument(name = "db.reconcile.forms", level = "debug", skip_all)]
    pub(super) async fn form_items(&self, store_id: Uuid, parts: &[Part]) -> Result<Vec<FormItem>, Error> {
        let columns = Columns::of(parts);
        // The limit inside also has each part looked up by the index, however many parts there are.
        let rows = sqlx::query!(
            r#"SELECT f.created_at AS "created_at!", f.item AS "item!"
               FROM unnest($2::date[], $3::int2[], $4::int2[]) AS p(day, low, high)
               CROSS JOIN LATERAL (
                   SELECT created_at, item FROM event_items
                   WHERE store_id = $1 AND day = p.day AND bucket BETWEEN p.low AND p.high LIMIT $5) AS f
               LIMIT $5"#,
            store_id,
            &columns.day,
            &columns.low,
            &columns.high,
            MOST_FORMS + 1
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| Ok(FormItem { created_at: row.created_at, item: item(row.item)? }))
            .collect()
    }

    /// Of these items the events, in no order; items that are not there are passed over.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.reconcile.resolve", level = "debug", skip_all)]
    pub async fn resolve_items(
        &self,
        store_id: Uuid,
        parts: &[Part],
        items: &[Item],
    ) -> Result<Vec<(Item, EventName)>, Error> {
        let columns = Columns::of(parts);
        let items: Vec<&[u8]> = items.iter().map(Item::as_slice).collect();
        let rows = sqlx::query!(
            r#"SELECT f.item AS "item!", f.event_id AS "event_id!", f.type AS "event_type!"
               FROM unnest($2::date[], $3::int2[], $4::int2[]) AS p(day, low, high)
               CROSS JOIN LATERAL (
                   SELECT item, event_id, type FROM event_items
                   WHERE store_id = $1 AND day = p.day AND bucket BETWEEN p.low AND p.high LIMIT $6) AS f
               WHERE f.item = ANY($5)"#,
            store_id,
            &columns.day,
            &columns.low,
            &columns.high,
            &items as &[&[u8]],
            MOST_FORMS + 1
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok((item(row.item)?, EventName { event_id: row.event_id, event_type: row.event_type }))
            })
            .collect()
    }

    /// The events of these parts, by id and type, after a given one; a portion.
    #[tracing::instrument(name = "db.reconcile.list", level = "debug", skip_all)]
    pub(super) async fn list_events(
        &self,
        store_id: Uuid,
        parts: &[Part],
        after: Option<&EventName>,
    ) -> Result<Vec<EventName>, Error> {
        let columns = Columns::of(parts);
        let (event_id, event_type) = after.map(|name| (&*name.event_id, &*name.event_type)).unzip();
        let names = sqlx::query_as!(
            EventName,
            r#"SELECT DISTINCT f.event_id AS "event_id!", f.type AS "event_type!"
               FROM unnest($2::date[], $3::int2[], $4::int2[]) AS p(day, low, high)
               CROSS JOIN LATERAL (
                   SELECT event_id, type COLLATE "C" AS type FROM event_items
                   WHERE store_id = $1 AND day = p.day AND bucket BETWEEN p.low AND p.high OFFSET 0) AS f
               WHERE $5::text IS NULL OR (f.event_id, f.type) > ($5 COLLATE "C", $6 COLLATE "C")
               ORDER BY 1, 2 LIMIT $7"#,
            store_id,
            &columns.day,
            &columns.low,
            &columns.high,
            event_id,
            event_type,
            plan::PORTION as i64
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(names)
    }
}

/// A bucket as PostgreSQL numbers them; greater ones than there are stay that.
fn column(bucket: u16) -> i16 {
    i16::try_from(bucket).unwrap_or(i16::MAX)
}

fn item(bytes: Vec<u8>) -> Result<Item, Error> {
    let what = || Error::Inconsistent { table: "event_items", what: "the item is no SHA-256".to_owned() };
    bytes.try_into().map_err(|_| what())
}
