//! Handing out: ranges, single numbers, and what devices tell of them.

use super::ranges::{FiscalRangeRow, active, by_id};
use super::series;
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, Transaction};
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::fiscal::{self, Grant};

/// How often a transaction is tried that meets another one.
const TRIES: u32 = 60;
/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_millis(40);

/// A request for a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRange {
    /// The shop.
    pub store_id: Uuid,
    /// The series.
    pub series_id: Uuid,
    /// The till.
    pub device_id: String,
    /// How many numbers, within bounds.
    pub quantity: i64,
    /// What repeats of the request bear too.
    pub request_id: Option<String>,
    /// Fresh; that of the range, if one is granted.
    pub range_id: Uuid,
    /// The present time.
    pub now: DateTime<Utc>,
    /// How long a range may be used.
    pub ttl: chrono::TimeDelta,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// This range; `fresh`: it is granted by this request.
    Range {
        /// As it stands.
        range: FiscalRangeRow,
        /// Whether it is new.
        fresh: bool,
    },
    /// The series is not declared.
    Unknown,
    /// The series has no such numbers any more.
    SeriesExhausted,
    /// The request id was used for another series.
    RequestReused,
}

/// What became of a request for one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumed {
    /// It is this one.
    Number(i64),
    /// The device has no range with numbers left.
    Exhausted,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// The range as it stands.
    Range(FiscalRangeRow),
    /// There is no such range.
    Unknown,
    /// The number is not one of the range.
    OutOfRange,
}

impl Store {
    /// Gives a device a range of a series, or the one that it has.
    ///
    /// # Errors
    /// The database's; then nothing is granted, or the outcome is unknown.
    #[tracing::instrument(name = "db.fiscal.reserve", level = "debug", skip_all)]
    pub async fn reserve_fiscal_range(&self, new: &NewRange) -> Result<Reserved, Error> {
        for attempt in 1..TRIES {
            match self.try_reserve(new).await {
                Err(Error::Conflict(_)) => pause(new.range_id, attempt).await,
                // Another one of the same device or request was first.
                Err(Error::Data(error)) if is_taken(&error) => pause(new.range_id, attempt).await,
                Err(error) if error.is_read_only() => {
                    self.renew_sessions(&self.pool).await;
                    return Err(error);
                }
                done => return done,
            }
        }
        self.try_reserve(new).await
    }

    async fn try_reserve(&self, new: &NewRange) -> Result<Reserved, Error> {
        let mut transaction = self.begin_serializable().await?;
        let reserved = reserve(&mut transaction, new).await?;
        transaction.commit().await?;
        Ok(reserved)
    }

    /// Takes the next number of a device's range. With a sale: the same number for each repeat.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal.consume", level = "debug", skip_all)]
    pub async fn consume_fiscal_number(
        &self,
        store_id: Uuid,
        series_id: Uuid,
        device_id: &str,
        sale_id: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<Consumed, Error> {
        let salt = sale_id.unwrap_or(series_id);
        for attempt in 1..TRIES {
            match self.try_consume(store_id, series_id, device_id, sale_id, now).await {
                Err(Error::Conflict(_)) => pause(salt, attempt).await,
                Err(Error::Data(error)) if is_taken(&error) => pause(salt, attempt).await,
                done => return done,
            }
        }
        self.try_consume(store_id, series_id, device_id, sale_id, now).await
    }

    async fn try_consume(
        &self,
        store_id: Uuid,
        series_id: Uuid,
        device_id: &str,
        sale_id: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<Consumed, Error> {
        let mut transaction = self.begin_durable().await?;
        if let Some(sale_id) = sale_id {
            let number = sqlx::query_scalar!(
                "SELECT number FROM fiscal_consumptions WHERE store_id = $1 AND series_id = $2 AND sale_id = $3",
                store_id,
                series_id,
                sale_id
            )
            .fetch_optional(&mut *transaction)
            .await?;
            if let Some(number) = number {
                return Ok(Consumed::Number(number));
            }
        }
        let number = sqlx::query_scalar!(
            "UPDATE fiscal_sequence_ranges SET used_up_to = used_up_to + 1, reported_at = $4,
                 status = CASE WHEN used_up_to + 1 = range_end THEN 'exhausted' ELSE status END
             WHERE store_id = $1 AND series_id = $2 AND device_id = $3 AND status = 'active' AND expires_at > $4
                 AND used_up_to < range_end
             RETURNING used_up_to",
            store_id,
            series_id,
            device_id,
            now
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(number) = number else { return Ok(Consumed::Exhausted) };
        if let Some(sale_id) = sale_id {
            sqlx::query!(
                "INSERT INTO fiscal_consumptions (store_id, series_id, sale_id, number) VALUES ($1, $2, $3, $4)",
                store_id,
                series_id,
                sale_id,
                number
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(Consumed::Number(number))
    }

    /// Takes note of how far a device has come with a range. An older report changes nothing; a late one, of a range
    /// that is closed, is taken.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.fiscal.report", level = "debug", skip_all)]
    pub async fn report_fiscal_use(
        &self,
        store_id: Uuid,
        id: Uuid,
        used_up_to: i64,
        now: DateTime<Utc>,
    ) -> Result<Reported, Error> {
        let mut transaction = self.begin_durable().await?;
        let done = sqlx::query!(
            "UPDATE fiscal_sequence_ranges SET used_up_to = greatest(used_up_to, $3), reported_at = $4,
                 status = CASE WHEN status = 'active' AND greatest(used_up_to, $3) = range_end THEN 'exhausted'
                               ELSE status END
             WHERE store_id = $1 AND id = $2 AND $3 BETWEEN range_start - 1 AND range_end",
            store_id,
            id,
            used_up_to,
            now
        )
        .execute(&mut *transaction)
        .await?;
        let range = by_id(&mut transaction, store_id, id).await?;
        transaction.commit().await?;
        Ok(match range {
            None => Reported::Unknown,
            Some(_) if done.rows_affected() == 0 => Reported::OutOfRange,
            Some(range) => Reported::Range(range),
        })
    }

    async fn begin_serializable(&self) -> Result<Transaction<'static, Postgres>, Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").execute(&mut *transaction).await?;
        sqlx::query("SET LOCAL synchronous_commit = on").execute(&mut *transaction).await?;
        Ok(transaction)
    }
}

/// Longer with every try, and another one for each.
async fn pause(salt: Uuid, attempt: u32) {
    let spread = u64::from(salt.as_bytes()[15] ^ u8::try_from(attempt % 251).unwrap_or(0)) % 8;
    let wait = Duration::from_millis(u64::from(attempt) + spread).min(LONGEST_WAIT);
    tokio::time::sleep(wait).await;
}

/// Whether a row was there before ours, or a range that overlaps it.
fn is_taken(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(code.as_ref(), "23505" | "23P01"))
}

async fn reserve(connection: &mut PgConnection, new: &NewRange) -> Result<Reserved, Error> {
    let Some(series) = series::one(connection, new.store_id, new.series_id).await? else {
        return Ok(Reserved::Unknown);
    };
    if let Some(range) = answered(connection, new).await? {
        let same = range.series_id == new.series_id;
        return Ok(if same { Reserved::Range { range, fresh: false } } else { Reserved::RequestReused });
    }
    let next = counter(connection, new, series.next_number).await?;
    if let Some(mut range) = active(connection, new.store_id, new.series_id, &new.device_id).await? {
        match range.range()?.asked_again(new.now) {
            Grant::Same => {
                // What the node has heard of since, no till is to be told anew.
                range.used_up_to = sold_of(connection, &range).await?;
                remember(connection, new, range.id).await?;
                return Ok(Reserved::Range { range, fresh: false });
            }
            Grant::Fresh(status) => close(connection, &range, status).await?,
        }
    }
    let restored = restored(connection, new, next).await?;
    let start = fiscal::floor(series.next_number, restored.known, next, restored.leaps);
    if !fiscal::fits(start, new.quantity) {
        return Ok(Reserved::SeriesExhausted);
    }
    let moved = sqlx::query_scalar!(
        "UPDATE fiscal_counters SET next_number = greatest(next_number, $3::int8) + $4::int8,
             jumped_for = (SELECT restored_at FROM node_identity)
         WHERE store_id = $1 AND series_id = $2 RETURNING next_number",
        new.store_id,
        new.series_id,
        start,
        new.quantity
    )
    .fetch_one(&mut *connection)
    .await?;
    let start = moved - new.quantity;
    if start > next {
        // They stay in the ledger, where a sale that bears one of them is found.
        let skipped = Uuid::new_v5(&new.range_id, b"skipped");
        insert(connection, new, skipped, "", (next, start - 1)).await?;
    }
    insert(connection, new, new.range_id, &new.device_id, (start, moved - 1)).await?;
    remember(connection, new, new.range_id).await?;
    let range = by_id(connection, new.store_id, new.range_id).await?.ok_or_else(|| Error::Inconsistent {
        table: "fiscal_sequence_ranges",
        what: "a granted range is not there".to_owned(),
    })?;
    Ok(Reserved::Range { range, fresh: true })
}

/// The range that this request was answered with before.
async fn answered(connection: &mut PgConnection, new: &NewRange) -> Result<Option<FiscalRangeRow>, Error> {
    let Some(request_id) = &new.request_id else { return Ok(None) };
    let id = sqlx::query_scalar!(
        "SELECT range_id FROM fiscal_requests WHERE store_id = $1 AND device_id = $2 AND request_id = $3",
        new.store_id,
        new.device_id,
        request_id
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(id) = id else { return Ok(None) };
    let Some(mut range) = by_id(connection, new.store_id, id).await? else { return Ok(None) };
    range.used_up_to = sold_of(connection, &range).await?;
    Ok(Some(range))
}

async fn remember(connection: &mut PgConnection, new: &NewRange, range_id: Uuid) -> Result<(), Error> {
    let Some(request_id) = &new.request_id else { return Ok(()) };
    sqlx::query!(
        "INSERT INTO fiscal_requests (store_id, device_id, request_id, range_id) VALUES ($1, $2, $3, $4)",
        new.store_id,
        new.device_id,
        request_id,
        range_id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The series' next number, under its lock.
async fn counter(connection: &mut PgConnection, new: &NewRange, declared: i64) -> Result<i64, Error> {
    sqlx::query!(
        "INSERT INTO fiscal_counters (store_id, series_id, next_number) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
        new.store_id,
        new.series_id,
        declared
    )
    .execute(&mut *connection)
    .await?;
    let next = sqlx::query_scalar!(
        "SELECT next_number FROM fiscal_counters WHERE store_id = $1 AND series_id = $2 FOR UPDATE",
        new.store_id,
        new.series_id
    )
    .fetch_one(connection)
    .await?;
    Ok(next)
}

async fn close(
    connection: &mut PgConnection,
    range: &FiscalRangeRow,
    status: fiscal::Status,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE fiscal_sequence_ranges SET status = $3 WHERE store_id = $1 AND id = $2",
        range.store_id,
        range.id,
        status.name()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How far the range is used by what the device has told and sold.
async fn sold_of(connection: &mut PgConnection, range: &FiscalRangeRow) -> Result<i64, Error> {
    let sold = sqlx::query_scalar!(
        "SELECT max(fiscal_number_of(fiscal_number, invoice_number)) FROM sales
         WHERE store_id = $1 AND series_id = $2
             AND fiscal_number_of(fiscal_number, invoice_number) BETWEEN $3 AND $4",
        range.store_id,
        range.series_id,
        range.range_start,
        range.range_end
    )
    .fetch_one(connection)
    .await?;
    Ok(range.used_up_to.max(sold.unwrap_or(range.used_up_to)))
}

/// What a restore of the database asks for.
struct Restored {
    /// The greatest number on any sale; `None`: the database was never restored, or there is none.
    known: Option<i64>,
    /// Whether the series has granted nothing since.
    leaps: bool,
}

/// A restored database has forgotten grants. What peers bring back comes later and bit by bit, so that each grant looks
/// anew.
async fn restored(connection: &mut PgConnection, new: &NewRange, next: i64) -> Result<Restored, Error> {
    let row = sqlx::query!(
        r#"SELECT i.restored_at IS NOT NULL AS "restored!",
               i.restored_at IS DISTINCT FROM c.jumped_for AS "leaps!"
           FROM node_identity i, fiscal_counters c WHERE c.store_id = $1 AND c.series_id = $2"#,
        new.store_id,
        new.series_id
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row.filter(|row| row.restored) else {
        return Ok(Restored { known: None, leaps: false });
    };
    let known = sqlx::query_scalar!(
        "SELECT max(fiscal_number_of(fiscal_number, invoice_number)) FROM sales
         WHERE store_id = $1 AND series_id = $2 AND fiscal_number_of(fiscal_number, invoice_number) >= $3",
        new.store_id,
        new.series_id,
        next
    )
    .fetch_one(connection)
    .await?;
    Ok(Restored { known, leaps: row.leaps })
}

/// A range; nobody's is over at once.
async fn insert(
    connection: &mut PgConnection,
    new: &NewRange,
    id: Uuid,
    device_id: &str,
    (first, last): (i64, i64),
) -> Result<(), Error> {
    let nobodys = device_id.is_empty();
    let expires_at = if nobodys { new.now } else { new.now + new.ttl };
    sqlx::query!(
        "INSERT INTO fiscal_sequence_ranges (store_id, id, series_id, device_id, range_start, range_end, used_up_to,
             status, granted_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        new.store_id,
        id,
        new.series_id,
        device_id,
        first,
        last,
        if nobodys { last } else { first - 1 },
        if nobodys { "expired" } else { "active" },
        new.now,
        expires_at
    )
    .execute(connection)
    .await?;
    Ok(())
}
