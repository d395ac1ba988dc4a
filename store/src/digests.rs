//! Digests of the event log by day and bucket: what writers noted is folded into them, they are read, and what does
//! not fit the log is mended (see [`recount`]).
//!
//! In every snapshot a digest and the deltas of its bucket together are what the bucket's rows are, as a row and its
//! delta are committed together. Never here: the comparison with another node (see `crate::reconcile`).

pub(crate) mod recount;

use crate::{Error, Store};
use chrono::NaiveDate;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;
use velox_protocol::reconcile::Digest;

/// Class of the advisory locks under which the digests of one store are written. Writers of events take none.
const LOCK_CLASS: i32 = 0x5645_0060;
/// Deltas that are folded in one transaction, each of at most 1,024 buckets.
const AT_ONCE: i64 = 500;

impl Store {
    /// Takes what writers noted into the digests of a store; how many deltas. Pods take turns.
    ///
    /// Whoever keeps nobody as a peer has to call it now and then as well: deltas are as many as statements.
    ///
    /// # Errors
    /// The database's; what was folded so far stays folded.
    #[tracing::instrument(name = "db.digests.fold", level = "debug", skip_all)]
    pub async fn fold_digests(&self, store_id: Uuid) -> Result<u64, Error> {
        let mut all = 0;
        loop {
            let mut transaction = self.lock_digests(store_id).await?;
            let folded = fold_some(&mut transaction, store_id).await?;
            transaction.commit().await?;
            all += folded.unsigned_abs();
            if folded < AT_ONCE {
                return Ok(all);
            }
        }
    }

    /// Folds the deltas of all stores; how many.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.digests.fold_all", level = "debug", skip_all)]
    pub async fn fold_all_digests(&self) -> Result<u64, Error> {
        let stores = sqlx::query_scalar!("SELECT DISTINCT store_id FROM event_digest_deltas")
            .fetch_all(&self.pool)
            .await?;
        let mut all = 0;
        for store_id in stores {
            all += self.fold_digests(store_id).await?;
        }
        Ok(all)
    }

    /// The digests of all years that have forms, as they were folded last.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.digests.years", level = "debug", skip_all)]
    pub async fn year_digests(&self, store_id: Uuid) -> Result<Vec<Digest>, Error> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT date_trunc('year', day::timestamp)::date AS "day!", 0::int2 AS "bucket!",
                   sum(count)::int8 AS "count!", bit_xor(hash_a) AS "hash_a!", bit_xor(hash_b) AS "hash_b!"
               FROM event_days
               WHERE store_id = $1 AND day BETWEEN '0001-01-01' AND '9999-12-31'
                 AND (count <> 0 OR hash_a <> 0 OR hash_b <> 0)
               GROUP BY 1"#,
            store_id
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(Row::digest).collect())
    }

    /// The digests of the days of these years that have forms.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.digests.days", level = "debug", skip_all)]
    pub async fn day_digests(&self, store_id: Uuid, years: &[u16]) -> Result<Vec<Digest>, Error> {
        let years: Vec<i32> = years.iter().map(|year| i32::from(*year)).collect();
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT d.day, 0::int2 AS "bucket!", d.count, d.hash_a, d.hash_b
               FROM unnest($2::int4[]) AS y(year)
               JOIN event_days d ON d.store_id = $1 AND d.day BETWEEN make_date(y.year, 1, 1) AND make_date(y.year, 12, 31)
               WHERE d.count <> 0 OR d.hash_a <> 0 OR d.hash_b <> 0"#,
            store_id,
            &years
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(Row::digest).collect())
    }

    /// The digests of the buckets of these days that have forms.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.digests.buckets", level = "debug", skip_all)]
    pub async fn bucket_digests(&self, store_id: Uuid, days: &[NaiveDate]) -> Result<Vec<Digest>, Error> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT day, bucket, count, hash_a, hash_b FROM event_digests
             WHERE store_id = $1 AND day = ANY($2) AND (count <> 0 OR hash_a <> 0 OR hash_b <> 0)",
            store_id,
            days
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(Row::digest).collect())
    }

    /// A transaction in which nobody else writes the digests of the store. What it reads next it reads as it is when
    /// the lock is there.
    async fn lock_digests(&self, store_id: Uuid) -> Result<Transaction<'static, Postgres>, Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query!("SELECT pg_advisory_xact_lock($1, hashtext($2))", LOCK_CLASS, store_id.to_string())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }
}

/// A digest as it is stored.
struct Row {
    day: NaiveDate,
    bucket: i16,
    count: i64,
    hash_a: i64,
    hash_b: i64,
}

impl Row {
    fn digest(&self) -> Digest {
        Digest {
            day: self.day,
            bucket: u16::try_from(self.bucket).unwrap_or_default(),
            // One that is below 0 fits nothing, and so is unequal to the peer's.
            count: u64::try_from(self.count).unwrap_or_default(),
            hash_a: self.hash_a,
            hash_b: self.hash_b,
        }
    }
}

/// Folds the oldest deltas; how many. Needs the lock.
async fn fold_some(connection: &mut PgConnection, store_id: Uuid) -> Result<i64, Error> {
    let folded = sqlx::query_scalar!(
        r#"WITH oldest AS (
               SELECT id FROM event_digest_deltas WHERE store_id = $1 ORDER BY id LIMIT $2
           ), taken AS (
               DELETE FROM event_digest_deltas d USING oldest WHERE d.store_id = $1 AND d.id = oldest.id
               RETURNING d.day, d.buckets, d.counts, d.hash_a, d.hash_b
           ), folded AS (
               SELECT t.day, b.bucket, sum(b.count)::int8 AS count, bit_xor(b.hash_a) AS hash_a,
                   bit_xor(b.hash_b) AS hash_b
               FROM taken t CROSS JOIN LATERAL unnest(t.buckets, t.counts, t.hash_a, t.hash_b)
                   AS b(bucket, count, hash_a, hash_b)
               GROUP BY t.day, b.bucket
           ), digests AS (
               INSERT INTO event_digests AS d (store_id, day, bucket, count, hash_a, hash_b)
               SELECT $1, day, bucket, count, hash_a, hash_b FROM folded
               ON CONFLICT (store_id, day, bucket) DO UPDATE SET count = d.count + EXCLUDED.count,
                   hash_a = d.hash_a # EXCLUDED.hash_a, hash_b = d.hash_b # EXCLUDED.hash_b
           ), days AS (
               INSERT INTO event_days AS d (store_id, day, count, hash_a, hash_b)
               SELECT $1, day, sum(count), bit_xor(hash_a), bit_xor(hash_b) FROM folded GROUP BY day
               ON CONFLICT (store_id, day) DO UPDATE SET count = d.count + EXCLUDED.count,
                   hash_a = d.hash_a # EXCLUDED.hash_a, hash_b = d.hash_b # EXCLUDED.hash_b
           )
           SELECT count(*) AS "count!" FROM taken"#,
        store_id,
        AT_ONCE
    )
    .fetch_one(connection)
    .await?;
    Ok(folded)
}
