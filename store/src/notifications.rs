//! What a shop should be told of: raised by the node, read and marked by people.
//!
//! Of one thing at most once an hour, whichever pod meets it. Never here: what is worth telling, or how it gets to
//! a person.

use crate::reads::{Listed, Page, PageRequest, TimeKey, millis, optional_millis, start};
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;

/// Class of the advisory locks under which two pods take turns at telling of one thing.
const LOCK_CLASS: i32 = 0x5645_0020;

/// Something to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotification {
    /// What it is, for programs: the notification's `type`, such as `DEVICE_ID_COLLISION`.
    pub kind: &'static str,
    /// What it is about, such as a device or an event.
    pub subject: String,
    /// For people, in a line.
    pub title: String,
    /// For people: what has happened and what to do.
    pub body: String,
    /// For programs.
    pub data: serde_json::Value,
}

/// A notification.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of `notifications`")]
pub struct NotificationRow {
    pub store_id: Uuid,
    pub id: Uuid,
    /// What it is, for programs.
    pub r#type: String,
    /// For people, in a line.
    pub title: String,
    /// For people: what has happened and what to do.
    pub body: String,
    /// For programs.
    #[schema(value_type = Object)]
    pub data: Json<Box<RawValue>>,
    #[serde(serialize_with = "millis")]
    pub created_at: DateTime<Utc>,
    /// When somebody marked it as read.
    #[serde(serialize_with = "optional_millis")]
    pub read_at: Option<DateTime<Utc>>,
}

impl Listed for NotificationRow {
    type Key = TimeKey;

    fn key(&self) -> TimeKey {
        TimeKey { at: self.created_at, id: self.id }
    }
}

impl Store {
    /// Tells a store of something. `Ok(false)`: it was told of the same within the hour.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.notifications.raise", level = "debug", skip_all)]
    pub async fn raise_notification(&self, store_id: Uuid, new: &NewNotification) -> Result<bool, Error> {
        let mut transaction = self.pool.begin().await?;
        // A statement of its own: what the other one wrote is seen only by one that begins after it.
        sqlx::query!(
            "SELECT pg_advisory_xact_lock($1, hashtext($2::uuid::text || ' ' || $3 || ' ' || $4))",
            LOCK_CLASS,
            store_id,
            new.kind,
            new.subject
        )
        .execute(&mut *transaction)
        .await?;
        let told = sqlx::query!(
            "INSERT INTO notifications (store_id, type, subject, title, body, data)
             SELECT $1, $2, $3, $4, $5, $6::text::json WHERE NOT EXISTS (SELECT 1 FROM notifications
                 WHERE store_id = $1 AND type = $2 AND subject = $3 AND created_at > now() - interval '1 hour')",
            store_id,
            new.kind,
            new.subject,
            new.title,
            new.body,
            new.data.to_string(),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(told.rows_affected() == 1)
    }

    /// A page of notifications, by time. `unread`: only those that nobody has read, or only the others.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.notifications.list", level = "debug", skip_all)]
    pub async fn read_notifications(
        &self,
        store_id: Uuid,
        unread: Option<bool>,
        page: PageRequest<TimeKey>,
    ) -> Result<Page<NotificationRow>, Error> {
        let after = start(page.after);
        let rows = sqlx::query_as!(
            NotificationRow,
            r#"SELECT store_id, id, type, title, body, data AS "data: Json<Box<RawValue>>", created_at, read_at
               FROM notifications
               WHERE store_id = $1 AND (created_at, id) > ($2, $3)
                 AND ($4::boolean IS NULL OR (read_at IS NULL) = $4)
               ORDER BY created_at, id LIMIT $5"#,
            store_id,
            after.at,
            after.id,
            unread,
            page.rows()
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(page.page(rows))
    }

    /// Marks a notification as read; the first time counts. `Ok(None)`: there is no such one.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.notifications.mark_read", level = "debug", skip_all)]
    pub async fn mark_notification_read(
        &self,
        store_id: Uuid,
        id: Uuid,
    ) -> Result<Option<NotificationRow>, Error> {
        let row = sqlx::query_as!(
            NotificationRow,
            r#"UPDATE notifications SET read_at = coalesce(read_at, now()) WHERE store_id = $1 AND id = $2
               RETURNING store_id, id, type, title, body, data AS "data: Json<Box<RawValue>>", created_at, read_at"#,
            store_id,
            id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row)
    }
}
