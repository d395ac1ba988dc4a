//! An outage: what a node has taken while its peer was down, and how fast that drains when the peer is back.
//!
//! Never here: the goal.

use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use sqlx::PgConnection;
use tokio::time::sleep;
use uuid::Uuid;
use velox_protocol::api::MAX_PUSH_EVENTS;

use super::Options;
use super::pair::Pair;
use crate::database::Scratch;
use crate::http::Connection;
use crate::load::floor::Floor;
use crate::load::node::{acknowledged, push_request};
use crate::load::{OPENED_BEFORE, progress};
use crate::measure::{self, median, rate};
use crate::till::{Push, Shop, Till};

/// The load's cell whose floor is F: so many tills, so many events a push.
const FLOOR_TILLS: usize = 8;
const FLOOR_BATCH: usize = 100;
/// Pushes of a till and seconds of one run at most, as in `load`.
const FLOOR_PUSHES: usize = 50;
const FLOOR_LIMIT: Duration = Duration::from_secs(3);
/// A full node is asked again after this.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// Events a second that plain SQL writes: the median of the runs before and after.
    pub(super) floor_per_s: f64,
    /// Events that waited.
    pub(super) events: usize,
    pub(super) arrivals: Arrivals,
}

/// When the events of a shop were taken by a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrivals {
    /// Of the first ones and the last ones.
    first: DateTime<Utc>,
    last: DateTime<Utc>,
    /// Those that did not come with the first ones, whose time lies before the first arrival.
    later: usize,
}

impl Arrivals {
    /// From the first to the last.
    pub(super) fn span(&self) -> Duration {
        (self.last - self.first).to_std().unwrap_or_default()
    }

    /// Events a second between the first and the last.
    pub(super) fn per_s(&self) -> f64 {
        rate(self.later, self.span())
    }
}

impl Drain {
    /// In F.
    pub(super) fn ratio(&self) -> f64 {
        if self.floor_per_s > 0.0 { self.arrivals.per_s() / self.floor_per_s } else { 0.0 }
    }
}

/// Floor, outage, floor: a slow minute of the disk is everybody's.
pub(super) async fn measure(options: &Options, pair: &mut Pair, rng: &mut StdRng) -> Result<Drain> {
    pair.settled().await?;
    let mut floors = vec![floor(options, pair, rng).await?];
    let shop = Shop::new(rng);
    let mut till = Till::new(&shop, measure::wall_clock() - OPENED_BEFORE, rng);
    let token = pair.open(&shop, &till).await?;
    let before = pair.b.count(shop.store_id).await?;

    progress(&format!("{} events while the peer is down", options.backlog));
    pair.b.pod.stop().await?;
    let events = options.backlog as usize;
    push_all(pair, &token, &mut till, events).await?;
    pair.a.projected().await?;

    progress("the peer is back");
    let back_at = measure::wall_clock();
    pair.b.restart().await?;
    pair.a.settled().await?;
    let arrived = pair.b.count(shop.store_id).await? - before;
    ensure!(arrived == events as i64, "{arrived} of {events} events have arrived");
    let arrivals = arrivals(&mut pair.b.watch, shop.store_id, back_at).await?;
    pair.settled().await?;
    floors.push(floor(options, pair, rng).await?);
    Ok(Drain { floor_per_s: median(floors), events, arrivals })
}

/// Pushes of the most events there can be; the opening of the till is the first of all.
async fn push_all(pair: &Pair, token: &str, till: &mut Till, events: usize) -> Result<()> {
    let mut connection = Connection::open(pair.a.pod.address()).await?;
    let mut left = events;
    let mut made: Vec<fn(&mut Till) -> Push> = vec![Till::products, Till::opening];
    while left > 0 {
        let push = match made.pop() {
            Some(make) => make(till),
            None => till.push(left.min(MAX_PUSH_EVENTS)),
        };
        let request = push_request(token, &push.body);
        while !acknowledged(&mut connection, &request).await? {
            sleep(REFUSED_PAUSE).await;
        }
        left -= push.event_ids.len();
    }
    Ok(())
}

/// F in events a second, in a database of its own on the first node's PostgreSQL.
async fn floor(options: &Options, pair: &Pair, rng: &mut StdRng) -> Result<f64> {
    progress(&format!("the floor, {FLOOR_TILLS} x {FLOOR_BATCH}"));
    let name =
        format!("velox_bench_floor_{}_{}", std::process::id(), measure::wall_clock().timestamp_millis());
    let scratch = Scratch::create(&pair.a.database()?, name).await?;
    let measured = async {
        scratch.migrate().await?;
        let shop = Shop::new(rng);
        let opened_at = measure::wall_clock() - OPENED_BEFORE;
        let mut tills: Vec<Till> = (0..FLOOR_TILLS).map(|_| Till::new(&shop, opened_at, rng)).collect();
        let floor = Floor { options: scratch.options() };
        let mut rates = Vec::new();
        for _ in 0..options.rounds {
            let lanes =
                tills.iter_mut().map(|till| (0..FLOOR_PUSHES).map(|_| till.push(FLOOR_BATCH)).collect());
            rates.push(floor.run(lanes.collect(), FLOOR_LIMIT).await?.rate());
        }
        Ok(median(rates))
    };
    let measured = measured.await;
    scratch.drop().await?;
    measured
}

/// When a shop's events came that have come since.
async fn arrivals(watch: &mut PgConnection, store_id: Uuid, since: DateTime<Utc>) -> Result<Arrivals> {
    let query = sqlx::query_as::<_, (DateTime<Utc>, DateTime<Utc>, i64)>(
        "WITH arrived AS (SELECT received_at FROM events WHERE store_id = $1 AND received_at >= $2),
              first AS (SELECT min(received_at) AS at FROM arrived)
         SELECT min(first.at), max(received_at), count(*) FILTER (WHERE received_at > first.at)
         FROM arrived, first",
    );
    let (first, last, later) = query.bind(store_id).bind(since).fetch_one(watch).await?;
    Ok(Arrivals { first, last, later: usize::try_from(later)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_first_has_no_time_of_its_own() {
        let first = DateTime::from_timestamp_millis(1_763_950_000_000).expect("a time");
        let arrivals = Arrivals { first, last: first + chrono::Duration::seconds(2), later: 900 };
        assert_eq!(arrivals.per_s(), 450.0);
        let drain = Drain { floor_per_s: 3_000.0, events: 1_000, arrivals };
        assert_eq!(drain.ratio(), 0.15);
        let at_once = Arrivals { first, last: first, later: 0 };
        assert_eq!(Drain { arrivals: at_once, ..drain }.ratio(), 0.0);
        assert_eq!(Drain { floor_per_s: 0.0, ..drain }.ratio(), 0.0);
    }
}
