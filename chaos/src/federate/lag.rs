//! Light load: from a till's answer until its push stands in the peer's log.
//!
//! Never here: the goal.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use sqlx::PgConnection;
use tokio::time::sleep;
use uuid::Uuid;

use super::Options;
use super::pair::Pair;
use crate::http::Connection;
use crate::load::node::{acknowledged, push_request};
use crate::load::{OPENED_BEFORE, progress};
use crate::measure::{self, Samples};
use crate::till::{Shop, Till};

/// One push of [`BATCH`] events in this time.
const PERIOD: Duration = Duration::from_millis(100);
const BATCH: usize = 10;
/// Pushes before those that count.
const WARM_UP: u32 = 10;
/// How often a push is looked for. A lag is this and one query too long at most.
const POLL: Duration = Duration::from_micros(500);
/// Longest wait for a push.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);

/// A round.
#[derive(Debug, Clone, Default)]
pub(super) struct Lag {
    /// Until the till had its answer.
    pub(super) acknowledged: Samples,
    /// From there until all of the push could be read at the peer.
    pub(super) visible: Samples,
}

/// One till at the first node, round by round.
pub(super) async fn measure(options: &Options, pair: &mut Pair, rng: &mut StdRng) -> Result<Vec<Lag>> {
    let shop = Shop::new(rng);
    let mut till = Till::new(&shop, measure::wall_clock() - OPENED_BEFORE, rng);
    let token = pair.open(&shop, &till).await?;
    let mut connection = Connection::open(pair.a.pod.address()).await?;
    for push in [till.opening(), till.products()] {
        ensure!(acknowledged(&mut connection, &push_request(&token, &push.body)).await?, "the node is full");
    }
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        progress(&format!("replication lag at light load, round {round} of {}", options.rounds));
        pair.settled().await?;
        let mut lag = Lag::default();
        for i in 0..WARM_UP + options.pushes {
            let push = till.push(BATCH);
            let request = push_request(&token, &push.body);
            let sent = measure::now();
            ensure!(acknowledged(&mut connection, &request).await?, "the node is full under light load");
            let answered = measure::now();
            arrived(&mut pair.b.watch, shop.store_id, &push.event_ids).await?;
            let visible = measure::now();
            if i >= WARM_UP {
                lag.acknowledged.push(answered - sent);
                lag.visible.push(visible - answered);
            }
            sleep(PERIOD.saturating_sub(sent.elapsed())).await;
        }
        rounds.push(lag);
    }
    Ok(rounds)
}

/// Waits until all of these events stand in a log.
async fn arrived(watch: &mut PgConnection, store_id: Uuid, event_ids: &[String]) -> Result<()> {
    const ARRIVED: &str = "SELECT count(*) FROM events WHERE store_id = $1 AND event_id = ANY($2)";
    let started = measure::now();
    loop {
        let query = sqlx::query_scalar::<_, i64>(ARRIVED).bind(store_id).bind(event_ids);
        if query.fetch_one(&mut *watch).await? == event_ids.len() as i64 {
            return Ok(());
        }
        ensure!(started.elapsed() < ARRIVAL_LIMIT, "a push of ten events does not arrive at the peer");
        // The runtime's timer knows no less than a millisecond, and nothing else runs on this thread.
        std::thread::sleep(POLL);
    }
}
