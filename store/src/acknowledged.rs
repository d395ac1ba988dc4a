//! What devices have acknowledged of the log: how far, and the clocks of what they were given up to there.
//!
//! A till takes the clock that it is told for what it has seen, and its next edit then dominates all of that. So
//! only what it has surely taken in may be told: what it goes on behind with a later pull. Never here: pages.

use crate::{Error, PullPosition, Store};
use chrono::{DateTime, Utc};
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::json::Json;

/// Events whose clocks are taken up at once: a page's, unless the device is behind with it.
const AT_ONCE: i64 = 1_000;
/// Devices in an acknowledged clock: a shop has tens. What would make it larger is not told of.
const MOST_DEVICES: usize = 1_000;

/// How far a device has come with pulling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullPositions {
    /// The end of what it was last given by a v1 pull; `None`: nothing.
    pub delivered: Option<PullPosition>,
    /// Up to where it has acknowledged; `None`: nothing.
    pub acknowledged: Option<PullPosition>,
}

/// What a device says that it has taken in.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledgement<'a> {
    /// The shop.
    pub store_id: Uuid,
    /// The device.
    pub device_id: &'a str,
    /// Up to here, this included.
    pub position: &'a PullPosition,
    /// Types that it was not given.
    pub without_types: &'a [String],
}

struct Clocked {
    event_id: String,
    device_id: String,
    seq: Option<i64>,
    created_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    vector_clock: Option<String>,
}

impl Clocked {
    /// C(e)
    fn clock(&self) -> VectorClock {
        let sent = self.vector_clock.as_deref().map(read_clock).unwrap_or_default();
        sent.of_event(&self.device_id, self.seq, self.created_at)
    }
}

/// The sound entries of a stored clock.
pub(crate) fn read_clock(json: &str) -> VectorClock {
    Json::parse(json).map(|json| VectorClock::read(&json)).unwrap_or_default()
}

impl Store {
    /// How far a device has come; nowhere, where it is unknown.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.pull_positions", level = "debug", skip_all)]
    pub async fn pull_positions(&self, store_id: Uuid, device_id: &str) -> Result<PullPositions, Error> {
        let row = sqlx::query!(
            "SELECT pull_checkpoint, pull_event_id, acknowledged_checkpoint, acknowledged_event_id FROM devices
             WHERE store_id = $1 AND device_id = $2",
            store_id,
            device_id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map_or_else(PullPositions::default, |row| PullPositions {
            delivered: position(row.pull_checkpoint, row.pull_event_id),
            acknowledged: position(row.acknowledged_checkpoint, row.acknowledged_event_id),
        }))
    }

    /// The merge of the clocks of what a device has acknowledged. A push is told it by [`Store::ingest`].
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.acknowledged_clock", level = "debug", skip_all)]
    pub async fn acknowledged_clock(&self, store_id: Uuid, device_id: &str) -> Result<VectorClock, Error> {
        let clock = sqlx::query_scalar!(
            r#"SELECT acknowledged_clock::text AS "clock!" FROM devices WHERE store_id = $1 AND device_id = $2"#,
            store_id,
            device_id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(clock.as_deref().map(read_clock).unwrap_or_default())
    }

    /// Takes up the clocks of what the device was given since it last acknowledged something. A position that is
    /// no event's place in this log, or behind the acknowledged one, changes nothing; a device that is far behind
    /// comes up step by step, at each call.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.acknowledge", level = "debug", skip_all)]
    pub async fn acknowledge(&self, given: Acknowledgement<'_>) -> Result<(), Error> {
        if !self.is_place(given.store_id, given.position).await? {
            return Ok(());
        }
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query!(
            r#"SELECT acknowledged_clock::text AS "clock!", acknowledged_checkpoint, acknowledged_event_id FROM devices
               WHERE store_id = $1 AND device_id = $2 FOR UPDATE"#,
            given.store_id,
            given.device_id
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(()) };
        let since = position(row.acknowledged_checkpoint, row.acknowledged_event_id);
        if since.as_ref() >= Some(given.position) {
            return Ok(());
        }
        let mut clock = read_clock(&row.clock);
        let taken = given.events(&mut transaction, since.as_ref()).await?;
        for event in &taken {
            let seen = event.clock();
            if clock.0.len() + seen.0.len() <= MOST_DEVICES {
                clock.merge(&seen);
            }
        }
        let reached = match taken.last() {
            Some(last) if taken.len() as i64 == AT_ONCE => (last.received_at, last.event_id.as_str()),
            _ => (given.position.received_at, given.position.event_id.as_str()),
        };
        sqlx::query!(
            "UPDATE devices SET acknowledged_clock = $3, acknowledged_checkpoint = $4, acknowledged_event_id = $5
             WHERE store_id = $1 AND device_id = $2",
            given.store_id,
            given.device_id,
            sqlx::types::Json(&clock) as _,
            reached.0,
            reached.1,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Whether an event stands at this place of the log: a position that another node has given is none.
    async fn is_place(&self, store_id: Uuid, position: &PullPosition) -> Result<bool, Error> {
        let is_place = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM effective_events
                   WHERE store_id = $1 AND event_id = $2 AND received_at = $3) AS "is_place!""#,
            store_id,
            position.event_id,
            position.received_at
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(is_place)
    }
}

fn position(received_at: Option<DateTime<Utc>>, event_id: Option<String>) -> Option<PullPosition> {
    Some(PullPosition { received_at: received_at?, event_id: event_id? })
}

impl Acknowledgement<'_> {
    /// What the device was given after `since`, as [`Store::pull`] gives it.
    async fn events(
        &self,
        connection: &mut sqlx::PgConnection,
        since: Option<&PullPosition>,
    ) -> Result<Vec<Clocked>, Error> {
        let (since, since_id) =
            since.map_or((DateTime::UNIX_EPOCH, ""), |since| (since.received_at, since.event_id.as_str()));
        let rows = sqlx::query_as!(
            Clocked,
            r#"SELECT event_id AS "event_id!", device_id AS "device_id!", seq, created_at AS "created_at!",
                   received_at AS "received_at!", vector_clock
               FROM ((
                   SELECT e.event_id, e.device_id, e.seq, e.created_at, e.received_at, e.vector_clock::text FROM events e
                   WHERE e.store_id = $1 AND (e.received_at, e.event_id) > ($2, $3::text COLLATE "C")
                     AND (e.received_at, e.event_id) <= ($4, $5::text COLLATE "C")
                     AND e.device_id <> $6 AND NOT (e.type = ANY($7::text[]))
                     AND NOT EXISTS (SELECT 1 FROM event_variants v
                         WHERE v.store_id = e.store_id AND v.event_id = e.event_id AND v.effective OFFSET 0)
                   ORDER BY e.received_at, e.event_id LIMIT $8
               ) UNION ALL (
                   SELECT v.event_id, v.device_id, v.seq, v.created_at, v.received_at, v.vector_clock::text
                   FROM event_variants v
                   WHERE v.effective AND v.store_id = $1 AND (v.received_at, v.event_id) > ($2, $3::text COLLATE "C")
                     AND (v.received_at, v.event_id) <= ($4, $5::text COLLATE "C")
                     AND v.device_id <> $6 AND NOT (v.type = ANY($7::text[]))
                   ORDER BY v.received_at, v.event_id LIMIT $8
               )) AS log
               ORDER BY received_at, event_id LIMIT $8"#,
            self.store_id,
            since,
            since_id,
            self.position.received_at,
            self.position.event_id,
            self.device_id,
            self.without_types,
            AT_ONCE,
        )
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }
}
