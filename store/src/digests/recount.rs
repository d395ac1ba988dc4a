//! Digests that are counted anew from the log: rows that came or went unseen, such as by a restore without triggers,
//! are found by it, and a digest that was spoiled is mended.
//!
//! A count is right while writers insert. One statement reads the bucket's rows, its pending deltas and its digest,
//! so it reads them of one snapshot. A row whose delta is pending there is taken off by it; one that is committed
//! later is in none of the three, and its delta will be folded as ever. The lock keeps those away who move deltas
//! into the digest, so what is wrong in the snapshot is still wrong when it is mended.

use crate::{Error, Store};
use chrono::NaiveDate;
use sqlx::PgConnection;
use uuid::Uuid;

/// The last bucket, as PostgreSQL numbers them.
const LAST_BUCKET: i16 = velox_protocol::reconcile::LAST_BUCKET as i16;
/// Rows of a day that are counted by one statement.
const SMALL_DAY: i64 = 20_000;
/// Buckets that are counted by one statement of a larger day: a sixteenth, and so of 8 million rows in seconds.
const SLICE: i16 = 64;
/// Days that one call recounts at most, however few rows they have.
const DAYS_AT_ONCE: usize = 256;
/// Rows of a day up to which it is recounted because a peer, or a comparison, takes its digests for wrong. Larger
/// days wait for their turn: each such doubt would cost seconds.
const DOUBTED_ROWS: u64 = 50_000;

/// What a recount of some days did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recounted {
    /// How many days were counted.
    pub days: usize,
    /// How many rows they have.
    pub rows: u64,
    /// Those whose digests did not fit, and do now.
    pub mended: Vec<NaiveDate>,
}

impl Recounted {
    fn add(&mut self, day: NaiveDate, (rows, mended): (u64, bool)) {
        self.days += 1;
        self.rows += rows;
        self.mended.extend(mended.then_some(day));
    }
}

impl Store {
    /// Counts a day of a store anew; whether its digests did not fit, and do now.
    ///
    /// # Errors
    /// The database's; buckets that were mended stay mended.
    #[tracing::instrument(name = "db.digests.recount_day", level = "debug", skip_all)]
    pub async fn recount_day(&self, store_id: Uuid, day: NaiveDate) -> Result<bool, Error> {
        // Else each statement would read all that is pending.
        self.fold_digests(store_id).await?;
        Ok(self.recount(store_id, day).await?.1)
    }

    /// Counts the days anew that were counted longest ago, up to about so many rows: a large day is counted whole.
    /// Days are taken in their order, and after the last one the first comes again, so each has its turn; days that
    /// have no digest yet are met on the way.
    ///
    /// # Errors
    /// The database's; the next call goes on after the day that failed.
    #[tracing::instrument(name = "db.digests.recount_oldest", level = "debug", skip_all)]
    pub async fn recount_oldest(&self, store_id: Uuid, rows: u64) -> Result<Recounted, Error> {
        self.fold_digests(store_id).await?;
        let mut recounted = Recounted::default();
        let start = sqlx::query_scalar!("SELECT day FROM event_recounts WHERE store_id = $1", store_id)
            .fetch_optional(&self.pool)
            .await?;
        let (mut last, mut wrapped) = (start, start.is_none());
        let mut outcome = Ok(());
        while outcome.is_ok() && recounted.rows < rows && recounted.days < DAYS_AT_ONCE {
            match self.next_day(store_id, last).await? {
                // Once around.
                Some(day) if wrapped && start.is_some_and(|start| day > start) => break,
                Some(day) => {
                    let counted = self.recount(store_id, day).await;
                    outcome = counted.map(|counted| recounted.add(day, counted));
                    last = Some(day);
                }
                None if wrapped => break,
                None => (last, wrapped) = (None, true),
            }
        }
        if let Some(last) = last {
            self.set_recounted(store_id, last).await?;
        }
        outcome.map(|()| recounted)
    }

    /// Counts days anew whose digests are in doubt, without the large ones.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.digests.recount_doubted", level = "debug", skip_all)]
    pub(crate) async fn recount_doubted(
        &self,
        store_id: Uuid,
        days: &[NaiveDate],
    ) -> Result<Recounted, Error> {
        self.fold_digests(store_id).await?;
        let known = sqlx::query!(
            "SELECT day, count FROM event_days WHERE store_id = $1 AND day = ANY($2)",
            store_id,
            days
        )
        .fetch_all(&self.pool)
        .await?;
        let is_large = |day: &NaiveDate| {
            known.iter().any(|row| row.day == *day && row.count.unsigned_abs() > DOUBTED_ROWS)
        };
        let mut recounted = Recounted::default();
        for day in days.iter().filter(|day| !is_large(day)) {
            if recounted.rows >= DOUBTED_ROWS || recounted.days >= DAYS_AT_ONCE {
                break;
            }
            recounted.add(*day, self.recount(store_id, *day).await?);
        }
        Ok(recounted)
    }

    /// The rows of a day, and whether its digests were mended. A large day slice by slice, so that no statement takes
    /// long, whatever the digests say of its size.
    async fn recount(&self, store_id: Uuid, day: NaiveDate) -> Result<(u64, bool), Error> {
        let found = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!"
               FROM (SELECT 1 FROM event_items WHERE store_id = $1 AND day = $2 LIMIT $3) AS found"#,
            store_id,
            day,
            SMALL_DAY + 1
        )
        .fetch_one(&self.pool)
        .await?;
        let width = if found > SMALL_DAY { SLICE } else { LAST_BUCKET + 1 };
        let (mut rows, mut wrong) = (0, 0);
        let mut low = 0;
        loop {
            let high = LAST_BUCKET.min(low + (width - 1));
            let mut transaction = self.lock_digests(store_id).await?;
            let slice = recount_slice(&mut transaction, store_id, day, (low, high)).await?;
            rows += slice.rows.unsigned_abs();
            wrong += slice.wrong;
            if high < LAST_BUCKET {
                transaction.commit().await?;
                low = high + 1;
                continue;
            }
            if wrong > 0 || !is_summed_up(&mut transaction, store_id, day).await? {
                sum_up(&mut transaction, store_id, day).await?;
                wrong += 1;
            }
            transaction.commit().await?;
            return Ok((rows, wrong > 0));
        }
    }

    /// The next day that has rows or a digest.
    async fn next_day(&self, store_id: Uuid, after: Option<NaiveDate>) -> Result<Option<NaiveDate>, Error> {
        let day = sqlx::query_scalar!(
            r#"SELECT least(
                   (SELECT event_day(created_at) FROM events
                    WHERE store_id = $1 AND event_day(created_at) > coalesce($2, '-infinity'::date)
                        AND event_day(created_at) < 'infinity'
                    ORDER BY event_day(created_at) LIMIT 1),
                   (SELECT event_day(created_at) FROM event_variants
                    WHERE store_id = $1 AND event_day(created_at) > coalesce($2, '-infinity'::date)
                        AND event_day(created_at) < 'infinity'
                    ORDER BY event_day(created_at) LIMIT 1),
                   (SELECT day FROM event_days
                    WHERE store_id = $1 AND day > coalesce($2, '-infinity'::date) AND day < 'infinity'
                    ORDER BY day LIMIT 1))"#,
            store_id,
            after
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(day)
    }

    async fn set_recounted(&self, store_id: Uuid, day: NaiveDate) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO event_recounts (store_id, day) VALUES ($1, $2)
             ON CONFLICT (store_id) DO UPDATE SET day = EXCLUDED.day",
            store_id,
            day
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// What a recount of some buckets of a day found.
struct Slice {
    rows: i64,
    /// Buckets that did not fit.
    wrong: i64,
}

/// Adds to the digests what they lack, or have too much. Needs the lock.
async fn recount_slice(
    connection: &mut PgConnection,
    store_id: Uuid,
    day: NaiveDate,
    (low, high): (i16, i16),
) -> Result<Slice, Error> {
    let slice = sqlx::query_as!(
        Slice,
        r#"WITH counted AS (
               SELECT bucket, count(*) AS count, bit_xor(item_word(item, 0)) AS hash_a,
                   bit_xor(item_word(item, 1)) AS hash_b
               -- Of each table apart, and each item once.
               FROM (SELECT bucket, item FROM event_items
                     WHERE store_id = $1 AND day = $2 AND bucket BETWEEN $3 AND $4 OFFSET 0) AS forms
               GROUP BY bucket
           ), wrong AS (
               SELECT bucket, sum(count)::int8 AS count, bit_xor(hash_a) AS hash_a, bit_xor(hash_b) AS hash_b
               FROM (SELECT bucket, count, hash_a, hash_b FROM counted
                     UNION ALL
                     SELECT b.bucket, -b.count, b.hash_a, b.hash_b
                     FROM event_digest_deltas d
                     CROSS JOIN LATERAL unnest(d.buckets, d.counts, d.hash_a, d.hash_b)
                         AS b(bucket, count, hash_a, hash_b)
                     WHERE d.store_id = $1 AND d.day = $2 AND b.bucket BETWEEN $3 AND $4
                     UNION ALL
                     SELECT bucket, -count, hash_a, hash_b FROM event_digests
                     WHERE store_id = $1 AND day = $2 AND bucket BETWEEN $3 AND $4) AS all_of_it
               GROUP BY bucket HAVING sum(count) <> 0 OR bit_xor(hash_a) <> 0 OR bit_xor(hash_b) <> 0
           ), mended AS (
               INSERT INTO event_digests AS d (store_id, day, bucket, count, hash_a, hash_b)
               SELECT $1, $2, bucket, count, hash_a, hash_b FROM wrong
               ON CONFLICT (store_id, day, bucket) DO UPDATE SET count = d.count + EXCLUDED.count,
                   hash_a = d.hash_a # EXCLUDED.hash_a, hash_b = d.hash_b # EXCLUDED.hash_b
           )
           SELECT coalesce((SELECT sum(count) FROM counted), 0)::int8 AS "rows!",
               (SELECT count(*) FROM wrong) AS "wrong!""#,
        store_id,
        day,
        low,
        high
    )
    .fetch_one(connection)
    .await?;
    Ok(slice)
}

/// Whether the day's digest is that of its buckets.
async fn is_summed_up(connection: &mut PgConnection, store_id: Uuid, day: NaiveDate) -> Result<bool, Error> {
    let is_summed_up = sqlx::query_scalar!(
        r#"SELECT (coalesce(sum(b.count), 0), coalesce(bit_xor(b.hash_a), 0), coalesce(bit_xor(b.hash_b), 0))
               = (coalesce(min(d.count), 0), coalesce(min(d.hash_a), 0), coalesce(min(d.hash_b), 0)) AS "is_summed_up!"
           FROM (SELECT count, hash_a, hash_b FROM event_digests WHERE store_id = $1 AND day = $2) AS b
           FULL JOIN (SELECT count, hash_a, hash_b FROM event_days WHERE store_id = $1 AND day = $2) AS d ON true"#,
        store_id,
        day
    )
    .fetch_one(connection)
    .await?;
    Ok(is_summed_up)
}

/// Makes the day's digest that of its buckets, and forgets empty ones. Needs the lock.
async fn sum_up(connection: &mut PgConnection, store_id: Uuid, day: NaiveDate) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM event_digests WHERE store_id = $1 AND day = $2 AND count = 0 AND hash_a = 0 AND hash_b = 0",
        store_id,
        day
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("DELETE FROM event_days WHERE store_id = $1 AND day = $2", store_id, day)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "INSERT INTO event_days (store_id, day, count, hash_a, hash_b)
         SELECT $1, $2, sum(count), bit_xor(hash_a), bit_xor(hash_b) FROM event_digests
         WHERE store_id = $1 AND day = $2 HAVING count(*) > 0",
        store_id,
        day
    )
    .execute(connection)
    .await?;
    Ok(())
}
