//! The node under load: tills over HTTP, and a look at its outbox beside them.
//!
//! Never here: goals.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use super::{Lane, Run};
use crate::cluster::{Memory, Pod};
use crate::http::{self, Connection};
use crate::measure::{self, Samples};
use crate::till::{Push, Shop, Till};

/// How often the end of projection is looked for after a run.
const DRAIN_POLL: Duration = Duration::from_millis(5);
/// Longest wait for it: a retry of a projection comes within seconds.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// How often one push's projection is looked for; the runtime's timer knows no less. A lag is this too long
/// at most.
const LAG_POLL: Duration = Duration::from_millis(1);
/// Light load: one push of [`LAG_BATCH`] events in this time.
const LAG_PERIOD: Duration = Duration::from_millis(50);
const LAG_BATCH: usize = 10;
/// Pushes before those that count.
const LAG_WARM_UP: usize = 10;
/// A full node says when to come back; a benchmark comes back at once, but not in a loop.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// A node whose shop is open.
pub(super) struct NodeUnderLoad<'a> {
    node: &'a Pod,
    store_id: Uuid,
    /// One a till.
    tokens: Vec<String>,
    /// Looks at the outbox; never in a transaction that would hold back the node's clean-up.
    watch: PgConnection,
}

/// A timed run.
pub(super) struct NodeRun {
    pub(super) acknowledged: Run,
    /// From the first push until everything acknowledged was projected.
    pub(super) projected_after: Duration,
}

/// Light load: how long until an answer, and from there until the push was in its tables.
#[derive(Default)]
pub(super) struct Lag {
    pub(super) acknowledged: Samples,
    pub(super) projected: Samples,
}

/// Events of one type that are in no table.
#[derive(Debug, serde::Serialize)]
pub(super) struct Unprojected {
    pub(super) event_type: String,
    pub(super) status: String,
    pub(super) count: i64,
    /// The reason of one of them.
    pub(super) example: Option<String>,
}

impl<'a> NodeUnderLoad<'a> {
    /// Registers the shop and its tills and sends what a day starts with.
    pub(super) async fn open(
        node: &'a Pod,
        shop: &Shop,
        tills: &mut [Till],
        database: PgConnectOptions,
    ) -> Result<Self> {
        node.admin().add_store(shop.store_id, "Bodega de prueba").await?;
        let mut tokens = Vec::new();
        for till in &*tills {
            tokens.push(node.admin().add_device(shop.store_id, till.device_id).await?);
        }
        let watch =
            database.application_name("velox-chaos").connect().await.context("the node's database")?;
        let mut opened = NodeUnderLoad { node, store_id: shop.store_id, tokens, watch };
        let mut connection = Connection::open(node.address()).await?;
        let first = tills.first_mut().map(Till::products);
        for (i, push) in tills.iter_mut().map(Till::opening).enumerate().chain(first.map(|push| (0, push))) {
            let request = push_request(&opened.tokens[i], &push.body);
            ensure!(acknowledged(&mut connection, &request).await?, "the node is full before it starts");
        }
        opened.drained().await?;
        Ok(opened)
    }

    /// All lanes at once, each on a connection of its own, until its pushes or the time are over; then until
    /// the outbox is empty, so that the next run starts quiet.
    pub(super) async fn run(&mut self, lanes: &[Vec<Push>], limit: Duration) -> Result<NodeRun> {
        let barrier = Arc::new(Barrier::new(lanes.len()));
        let mut tills = JoinSet::new();
        for (pushes, token) in lanes.iter().zip(&self.tokens) {
            let requests: Vec<(usize, Vec<u8>)> =
                pushes.iter().map(|push| (push.event_ids.len(), push_request(token, &push.body))).collect();
            let warm_up =
                push_request(token, &pushes.first().context("a till without pushes")?.without_events());
            tills.spawn(lane(self.node.address(), warm_up, requests, limit, barrier.clone()));
        }
        let mut done = Vec::new();
        while let Some(lane) = tills.join_next().await {
            done.push(lane??);
        }
        let acknowledged = Run::of(done)?;
        let drained = self.drained().await?;
        Ok(NodeRun { projected_after: drained - acknowledged.started, acknowledged })
    }

    /// One till, one push of ten events a period, for so many seconds.
    pub(super) async fn lag(&mut self, till: &mut Till, seconds: u32) -> Result<Lag> {
        let mut connection = Connection::open(self.node.address()).await?;
        let mut lag = Lag::default();
        let measured = u128::from(seconds) * 1_000 / LAG_PERIOD.as_millis();
        for i in 0..LAG_WARM_UP + usize::try_from(measured)? {
            let push = till.push(LAG_BATCH);
            let request = push_request(&self.tokens[0], &push.body);
            let sent = measure::now();
            ensure!(acknowledged(&mut connection, &request).await?, "the node is full under light load");
            let answered = measure::now();
            self.projected(&push.event_ids).await?;
            let projected = measure::now();
            if i >= LAG_WARM_UP {
                lag.acknowledged.push(answered - sent);
                lag.projected.push(projected - answered);
            }
            sleep(LAG_PERIOD.saturating_sub(projected - sent)).await;
        }
        Ok(lag)
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        self.node.memory()
    }

    /// Events that are not where the mix should get them, by type and what became of them.
    pub(super) async fn unprojected(&mut self) -> Result<Vec<Unprojected>> {
        let query = sqlx::query_as::<_, (String, String, i64, Option<String>)>(
            "SELECT type, projection_status, count(*), max(reason)
             FROM event_status LEFT JOIN event_exceptions USING (store_id, event_id)
             WHERE store_id = $1 AND projection_status <> 'processed' GROUP BY 1, 2 ORDER BY 1, 2",
        );
        let rows = query.bind(self.store_id).fetch_all(&mut self.watch).await?;
        let rows = rows.into_iter();
        Ok(rows
            .map(|(event_type, status, count, example)| Unprojected { event_type, status, count, example })
            .collect())
    }

    /// When the outbox had no entry left to project.
    async fn drained(&mut self) -> Result<Instant> {
        const PENDING: &str = "SELECT EXISTS (SELECT 1 FROM outbox_entries
                                              WHERE target = 'projection' AND status = 'pending')";
        let started = measure::now();
        while sqlx::query_scalar::<_, bool>(PENDING).fetch_one(&mut self.watch).await? {
            if started.elapsed() > DRAIN_LIMIT {
                bail!("not projected after {} s: {}", DRAIN_LIMIT.as_secs(), self.backlog().await?);
            }
            sleep(DRAIN_POLL).await;
        }
        Ok(measure::now())
    }

    /// Waits until no event of a push has an entry to project.
    async fn projected(&mut self, event_ids: &[String]) -> Result<()> {
        const PENDING: &str = "SELECT EXISTS (SELECT 1 FROM outbox_entries
            WHERE store_id = $1 AND event_id = ANY($2) AND target = 'projection' AND status = 'pending')";
        let started = measure::now();
        loop {
            let pending = sqlx::query_scalar(PENDING).bind(self.store_id).bind(event_ids);
            if !pending.fetch_one(&mut self.watch).await? {
                return Ok(());
            }
            ensure!(started.elapsed() < DRAIN_LIMIT, "a push of ten events is not projected");
            sleep(LAG_POLL).await;
        }
    }

    /// What is left, and the last error, for the message of a time-out.
    async fn backlog(&mut self) -> Result<String> {
        let query = sqlx::query_as::<_, (i64, Option<String>)>(
            "SELECT count(*), max(error) FROM outbox_entries WHERE target = 'projection' AND status = 'pending'",
        );
        let (entries, error) = query.fetch_one(&mut self.watch).await?;
        Ok(format!("{entries} entries, error {error:?}\n{}", self.node.log_tail()))
    }
}

async fn lane(
    address: SocketAddr,
    warm_up: Vec<u8>,
    requests: Vec<(usize, Vec<u8>)>,
    limit: Duration,
    barrier: Arc<Barrier>,
) -> Result<Lane> {
    let mut connection = Connection::open(address).await?;
    acknowledged(&mut connection, &warm_up).await?;
    barrier.wait().await;
    let mut lane = Lane::starting();
    for (events, request) in &requests {
        let sent = measure::now();
        if sent - lane.started >= limit {
            break;
        }
        // A refusal is part of how long the till waits.
        while !acknowledged(&mut connection, request).await? {
            lane.refused += 1;
            sleep(REFUSED_PAUSE).await;
        }
        lane.acknowledged(*events, sent);
    }
    Ok(lane)
}

/// A till's push, ready to be written.
pub(crate) fn push_request(token: &str, body: &str) -> Vec<u8> {
    http::request("POST", "/sync/push", token, body)
}

/// Whether the whole push was taken; `false`: the node is full.
pub(crate) async fn acknowledged(connection: &mut Connection, request: &[u8]) -> Result<bool> {
    let answer = connection.send(request).await?;
    match answer.status {
        200 if http::find(answer.body, br#""rejected":[]"#).is_some() => Ok(true),
        429 | 503 => Ok(false),
        status => bail!("push answered {status}: {}", answer.text()),
    }
}
