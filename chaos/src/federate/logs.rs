//! Two long logs that differ in ten events, then in none: what it costs to compare them.
//!
//! The logs come by SQL: a million events are not pushed for a look at them. Their digests are counted before, so what
//! is measured finds them warm. Never here: the goal.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, NaiveTime, Utc};
use rand::Rng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{Connection as _, Executor as _};
use uuid::Uuid;

use super::Options;
use super::pair::{Node, Pair};
use crate::cluster::wait_within;
use crate::load::progress;
use crate::measure::{self, median};

/// Events that one side lacks, and as many others that the other side lacks.
pub(super) const MISSING_A_SIDE: u32 = 5;
/// Longest wait until both logs are the same.
const HEAL_LIMIT: Duration = Duration::from_secs(300);

/// How the events lie in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Spread {
    /// Evenly over the last three years.
    Years,
    /// Within one day.
    Day,
}

impl Spread {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Spread::Years => "3 years",
            Spread::Day => "1 day",
        }
    }

    fn days(self) -> i64 {
        match self {
            Spread::Years => 3 * 365,
            Spread::Day => 1,
        }
    }
}

/// One comparison, as the node tells of it and as its caller waits for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Comparison {
    answered: Answered,
    waited: Duration,
}

/// What is read of the answer.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    rounds: u64,
    bytes_sent: u64,
    bytes_received: u64,
    /// The generated events are of a type that has no list of its own.
    other: Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    remote_missing_count: u64,
    local_missing_count: u64,
}

/// Medians over the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Cost {
    pub(super) messages: f64,
    pub(super) bytes_sent: f64,
    pub(super) bytes_received: f64,
    pub(super) seconds: f64,
}

/// Both cases of one spread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compared {
    pub(super) spread: Spread,
    /// Ten events differ.
    pub(super) differing: Cost,
    /// From the call that closes the difference until both logs are the same.
    pub(super) healed_after: Duration,
    /// None differ.
    pub(super) equal: Cost,
}

impl Cost {
    fn of(rounds: &[Comparison]) -> Self {
        let of = |figure: &dyn Fn(&Comparison) -> f64| median(rounds.iter().map(figure));
        Cost {
            messages: of(&|round| round.answered.rounds as f64),
            bytes_sent: of(&|round| round.answered.bytes_sent as f64),
            bytes_received: of(&|round| round.answered.bytes_received as f64),
            seconds: of(&|round| round.waited.as_secs_f64()),
        }
    }

    /// Both ways.
    pub(super) fn kibibytes(&self) -> f64 {
        (self.bytes_sent + self.bytes_received) / 1024.0
    }
}

/// Writes both logs, compares them, closes the difference and compares them again.
pub(super) async fn measure(
    options: &Options,
    pair: &mut Pair,
    spread: Spread,
    rng: &mut StdRng,
) -> Result<Compared> {
    let store_id = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
    pair.add_shop(store_id).await?;
    progress(&format!("{} events a side over {} are written", options.events, spread.name()));
    let log = Log::new(store_id, options.events, spread, measure::wall_clock());
    let (at_a, at_b) = log.holes();
    tokio::try_join!(log.write(&mut pair.a, &at_a), log.write(&mut pair.b, &at_b)).context("the logs")?;

    progress("they are compared");
    let missing = u64::from(MISSING_A_SIDE);
    let differing = compared(options, pair, store_id, missing).await?;
    let started = measure::now();
    reconcile(pair, store_id, false, missing).await?;
    wait_within(HEAL_LIMIT, "equal logs", async || {
        let counts =
            async { Ok::<_, anyhow::Error>((pair.a.count(store_id).await?, pair.b.count(store_id).await?)) };
        match counts.await {
            // Both declare the shop, too.
            Ok((a, b)) if a == b && a > i64::from(log.all) => Ok(()),
            Ok((a, b)) => Err(format!("{a} and {b} events")),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await?;
    let healed_after = started.elapsed();
    pair.settled().await?;
    let equal = compared(options, pair, store_id, 0).await?;
    Ok(Compared { spread, differing, healed_after, equal })
}

/// The first look is not counted: it finds connections cold.
async fn compared(options: &Options, pair: &Pair, store_id: Uuid, missing: u64) -> Result<Cost> {
    reconcile(pair, store_id, true, missing).await?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(reconcile(pair, store_id, true, missing).await?);
    }
    Ok(Cost::of(&rounds))
}

/// Asks the first node to compare a shop, and expects so many events to be missing on each side.
async fn reconcile(pair: &Pair, store_id: Uuid, dry_run: bool, missing: u64) -> Result<Comparison> {
    let body = json!({ "store_id": store_id, "dry_run": dry_run });
    let started = measure::now();
    let answer = pair.a.pod.admin().post("/sync/federation/auto-reconcile", &body).await?;
    let waited = started.elapsed();
    let answered: [Answered; 1] =
        serde_json::from_value(answer.clone()).with_context(|| format!("one comparison: {answer}"))?;
    let [answered] = answered;
    let expected = Counts { remote_missing_count: missing, local_missing_count: missing };
    ensure!(answer[0]["skipped"] != json!(true) && answered.other == expected, "not {missing}: {answer}");
    Ok(Comparison { answered, waited })
}

/// The log that both sides have when all is well.
struct Log {
    store_id: Uuid,
    /// Events of both sides together.
    all: u32,
    /// The time of the first one.
    begin: DateTime<Utc>,
    span_ms: i64,
}

impl Log {
    /// Of so many events a side, up to the end of yesterday.
    fn new(store_id: Uuid, a_side: u32, spread: Spread, now: DateTime<Utc>) -> Self {
        let span = chrono::Duration::days(spread.days());
        let begin = now.date_naive().and_time(NaiveTime::MIN).and_utc() - span;
        Log { store_id, all: a_side + MISSING_A_SIDE, begin, span_ms: span.num_milliseconds() }
    }

    /// The events that each side lacks, by number, spread over the whole.
    fn holes(&self) -> (Vec<i32>, Vec<i32>) {
        let of_ten = |place: u32| {
            let number = 1 + u64::from(self.all) * u64::from(place) / u64::from(2 * MISSING_A_SIDE);
            i32::try_from(number).unwrap_or(i32::MAX)
        };
        let places = |odd: u32| (0..MISSING_A_SIDE).map(|place| of_ten(2 * place + odd)).collect();
        (places(0), places(1))
    }

    /// Writes all but the holes, the same rows whoever writes them, and counts the digests.
    async fn write(&self, node: &mut Node, holes: &[i32]) -> Result<()> {
        // The payload is its own canonical form.
        const WRITE: &str = "\
            INSERT INTO events (store_id, event_id, device_id, seq, type, payload, payload_hash, vector_clock,
                                created_at, received_at)
            SELECT $1, md5($1::text || ' event ' || i)::uuid::text, $1::text, i, 'CustomerCreated', payload::json,
                   sha256(convert_to(payload, 'UTF8')), jsonb_build_object($1::text, i), at, at
            FROM (SELECT i, $3 + (i - 1) * $4 / $2 * interval '1 millisecond' AS at,
                         format('{\"customer_id\":\"%s\",\"name\":\"Cliente %s\"}',
                                md5($1::text || ' customer ' || i)::uuid, i) AS payload
                  FROM generate_series(1::bigint, $2::bigint) AS i WHERE i <> ALL ($5::bigint[])) AS rows";
        let holes: Vec<i64> = holes.iter().map(|number| i64::from(*number)).collect();
        let mut transaction = node.watch.begin().await?;
        // Without the trigger that notes what is to be folded: everything is counted at once below.
        transaction.execute("SET LOCAL session_replication_role = replica").await?;
        let query = sqlx::query(WRITE)
            .bind(self.store_id)
            .bind(i64::from(self.all))
            .bind(self.begin)
            .bind(self.span_ms)
            .bind(holes);
        query.execute(&mut *transaction).await?;
        transaction.commit().await?;
        node.watch.execute("SELECT recount_events()").await?;
        // As a log that grew over the years: planned for, and on the disk.
        node.watch.execute("VACUUM (ANALYZE) events, event_digests, event_days").await?;
        node.watch.execute("CHECKPOINT").await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_lacks_others_of_the_events_that_are_there() {
        for a_side in [1_000, 20_000, 1_000_000, 10_000_000] {
            let log = Log::new(Uuid::nil(), a_side, Spread::Day, DateTime::UNIX_EPOCH);
            let (at_a, at_b) = log.holes();
            let mut all = [at_a, at_b].concat();
            let there = 1..=i32::try_from(log.all).expect("a number");
            assert!(all.iter().all(|number| there.contains(number)), "{all:?}");
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 10, "{all:?}");
        }
    }

    #[test]
    fn a_log_ends_with_yesterday() {
        let now = DateTime::from_timestamp(1_763_996_400, 0).expect("a time");
        for (spread, begin) in [(Spread::Day, "2025-11-23"), (Spread::Years, "2022-11-25")] {
            let log = Log::new(Uuid::nil(), 1_000, spread, now);
            assert_eq!(log.begin.to_rfc3339(), format!("{begin}T00:00:00+00:00"));
            let end = log.begin + chrono::Duration::milliseconds(log.span_ms);
            assert_eq!(end.to_rfc3339(), "2025-11-24T00:00:00+00:00");
        }
    }

    #[test]
    fn a_cost_is_the_medians_of_its_rounds() {
        let other = Counts { remote_missing_count: 0, local_missing_count: 0 };
        let round = |bytes_sent, ms| Comparison {
            answered: Answered { rounds: 3, bytes_sent, bytes_received: 1_024, other },
            waited: Duration::from_millis(ms),
        };
        let cost = Cost::of(&[round(2_048, 500), round(1_024, 9_000), round(1_024, 250)]);
        assert_eq!((cost.messages, cost.kibibytes(), cost.seconds), (3.0, 2.0, 0.5));
    }
}
