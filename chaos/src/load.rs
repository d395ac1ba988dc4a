//! `velox-chaos load`: a node under N tills, beside the floor, in the same run on the same PostgreSQL.
//!
//! The floor F is what a push costs at least: the rows that a node writes for it, by the best SQL we know,
//! without HTTP, actors or projections. Node and floor take turns (node, floor, node, floor, …) with equal
//! contents, so that a slow minute of the disk is both of theirs; what is said of a cell are medians.
//! Goals are ratios to F, never events a second, which are the machine's.

pub(crate) mod floor;
pub(crate) mod node;
mod report;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sqlx::postgres::PgConnectOptions;

use crate::cluster::{self, Launch, Memory, Pod};
use crate::database::{self, Scratch};
use crate::measure::{self, Samples};
use crate::till::{Push, Shop, Till};
use floor::Floor;
use node::NodeUnderLoad;
use report::{CellReport, LagReport, MemoryReport, Report};

/// Made before the timed phase: what a run may send, in multiples of what the floor did where the goals
/// were set.
const HEADROOM: usize = 2;
/// Tills open a day ago; their clocks stay in the past however much they sell.
pub(crate) const OPENED_BEFORE: chrono::Duration = chrono::Duration::days(1);
/// A node that has nothing to do for this long is idle.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// A load: so many tills, so many events a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Cell {
    tills: usize,
    batch: usize,
}

/// What is asked of a cell.
#[derive(Debug, Clone, Copy)]
struct Goal {
    cell: Cell,
    /// Acknowledged events a second, in F.
    acknowledged: f64,
    /// Projected from end to end, in F.
    projected: Option<f64>,
    /// F in events a second on the machine where the goals were set, from and to; with two outbox rows.
    known_floor: (u32, u32),
}

const fn goal(
    tills: usize,
    batch: usize,
    acknowledged: f64,
    projected: Option<f64>,
    known: (u32, u32),
) -> Goal {
    Goal { cell: Cell { tills, batch }, acknowledged, projected, known_floor: known }
}

/// The cells that a run measures by default.
const GOALS: [Goal; 6] = [
    goal(1, 1, 0.5, None, (3_300, 3_300)),
    goal(8, 1, 0.75, None, (9_300, 10_200)),
    goal(32, 1, 1.0, None, (13_000, 13_000)),
    goal(1, 100, 0.8, Some(0.6), (41_000, 41_000)),
    goal(8, 100, 0.6, Some(0.35), (54_000, 65_000)),
    goal(32, 100, 0.75, Some(0.4), (47_000, 55_000)),
];
/// For cells without a goal.
const UNKNOWN_FLOOR: u32 = 20_000;

impl Cell {
    fn goal(self) -> Option<&'static Goal> {
        GOALS.iter().find(|goal| goal.cell == self)
    }
}

impl FromStr for Cell {
    type Err = anyhow::Error;

    /// `8x100`: tills, events a push.
    fn from_str(text: &str) -> Result<Self> {
        let (tills, batch) = text.split_once('x').context("a cell is TILLSxBATCH, such as 8x100")?;
        let cell = Cell { tills: tills.parse()?, batch: batch.parse()? };
        ensure!((1..=256).contains(&cell.tills), "1 to 256 tills");
        ensure!((1..=velox_protocol::api::MAX_PUSH_EVENTS).contains(&cell.batch), "1 to 2000 events a push");
        Ok(cell)
    }
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Loads as TILLSxBATCH, such as 1x1,8x100 [default: the six that have goals]
    #[arg(long, value_delimiter = ',')]
    cells: Vec<Cell>,
    /// Rounds of node and floor a cell; figures are medians over them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds a timed run lasts at most
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Events a timed run sends at most: all of them are made before
    #[arg(long, default_value_t = 40_000)]
    max_events: usize,
    /// One short round: whether it runs at all
    #[arg(long)]
    quick: bool,
    /// Where all events come from
    #[arg(long, default_value_t = 20_261_124)]
    seed: u64,
    /// The node's program [default: velox beside this one]
    #[arg(long)]
    velox: Option<PathBuf>,
    /// A server for both, instead of the node's embedded one; two databases are made there and dropped
    #[arg(long)]
    database_url: Option<String>,
    /// Only the floor, without a node
    #[arg(long, requires = "database_url")]
    floor_only: bool,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Runs the benchmark and prints its report. A missed goal is a finding, not a failure.
///
/// # Errors
/// Where a node, a database or the report cannot be had.
pub async fn run(mut options: Options) -> Result<()> {
    if options.cells.is_empty() {
        options.cells = GOALS.iter().map(|goal| goal.cell).collect();
    }
    if options.quick {
        (options.rounds, options.seconds) = (1, 1);
        options.max_events = options.max_events.min(10_000);
    }
    let report = measure_all(&options).await?;
    crate::goals::print(&report, options.json)
}

/// Starts what is measured and ends it again, whatever comes out.
async fn measure_all(options: &Options) -> Result<Report> {
    let tag = format!("{}_{}", std::process::id(), measure::wall_clock().timestamp_millis());
    let external = options.database_url.as_deref().map(PgConnectOptions::from_str).transpose()?;
    let node_database = match &external {
        Some(server) if !options.floor_only => {
            Some(Scratch::create(server, format!("velox_bench_node_{tag}")).await?)
        }
        _ => None,
    };
    let node = if options.floor_only {
        None
    } else {
        let velox = options.velox.clone().map_or_else(cluster::velox_beside_us, Ok)?;
        // Of this run and this machine alone; nobody else can reach the node.
        let admin_key = format!("bench-{tag}-{:032x}", rand::random::<u128>());
        let mut launch = Launch::new(&velox)?.without_faults().admin_key(&admin_key);
        if let Some(database) = &node_database {
            launch = launch.database(&database.url());
        }
        Some(Pod::start(launch).await?)
    };
    let measured = measure_beside(options, external, node.as_ref(), node_database.as_ref(), &tag).await;
    if let Some(mut node) = node {
        let stopped = node.stop().await;
        if measured.is_ok() {
            stopped?;
        }
    }
    if let Some(database) = node_database {
        database.drop().await?;
    }
    measured
}

async fn measure_beside(
    options: &Options,
    external: Option<PgConnectOptions>,
    node: Option<&Pod>,
    node_database: Option<&Scratch>,
    tag: &str,
) -> Result<Report> {
    let server = match (external, node) {
        (Some(server), _) => server,
        (None, Some(node)) => database::embedded(&node.data_dir())?,
        (None, None) => bail!("the floor alone needs --database-url"),
    };
    let seen_by_node = node_database.map_or_else(|| server.clone(), Scratch::options);
    let scratch = Scratch::create(&server, format!("velox_bench_floor_{tag}")).await?;
    let measured = async {
        scratch.migrate().await?;
        let mut bench = Bench::prepare(options, scratch.options(), node, seen_by_node).await?;
        bench.measure(options).await
    };
    // Whoever interrupts gets a stopped node and no databases left behind, too.
    let measured = tokio::select! {
        measured = measured => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    scratch.drop().await?;
    measured
}

/// The shop, its tills, and the two that serve them.
struct Bench<'a> {
    tills: Vec<Till>,
    floor: Floor,
    node: Option<NodeUnderLoad<'a>>,
    idle: Option<Memory>,
}

impl<'a> Bench<'a> {
    async fn prepare(
        options: &Options,
        floor: PgConnectOptions,
        node: Option<&'a Pod>,
        database: PgConnectOptions,
    ) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(options.seed);
        let shop = Shop::new(&mut rng);
        let most = options.cells.iter().map(|cell| cell.tills).max().unwrap_or(1);
        let opened_at = measure::wall_clock() - OPENED_BEFORE;
        let mut tills: Vec<Till> = (0..most).map(|_| Till::new(&shop, opened_at, &mut rng)).collect();
        let idle = match node {
            Some(node) => {
                tokio::time::sleep(IDLE_AFTER).await;
                Some(node.memory()?)
            }
            None => None,
        };
        let node = match node {
            Some(node) => Some(NodeUnderLoad::open(node, &shop, &mut tills, database).await?),
            None => None,
        };
        Ok(Bench { tills, floor: Floor { options: floor }, node, idle })
    }

    async fn measure(&mut self, options: &Options) -> Result<Report> {
        let mut cells = Vec::new();
        for cell in &options.cells {
            let mut rounds = Vec::new();
            for round in 1..=options.rounds {
                progress(&format!("{} x {}, round {round} of {}", cell.tills, cell.batch, options.rounds));
                rounds.push(self.round(*cell, options).await?);
            }
            cells.push(CellReport::of(*cell, &rounds));
        }
        let (mut lag, mut memory, mut unprojected) = (None, None, Vec::new());
        if let Some(node) = &mut self.node {
            progress("projection lag at light load");
            self.tills[0].forget();
            let measured = node.lag(&mut self.tills[0], options.seconds).await?;
            lag = Some(LagReport::of(&measured));
            let loaded = node.memory()?;
            memory = self.idle.map(|idle| MemoryReport::of(idle, loaded));
            unprojected = node.unprojected().await?;
        }
        Ok(Report::new(options.seed, options.rounds, cells, lag, memory, unprojected))
    }

    /// The node, then the floor, with equal contents.
    async fn round(&mut self, cell: Cell, options: &Options) -> Result<Round> {
        let known = cell.goal().map_or(UNKNOWN_FLOOR, |goal| goal.known_floor.1) as usize;
        let events = (known * HEADROOM * options.seconds as usize).min(options.max_events);
        let pushes = events.div_ceil(cell.tills * cell.batch);
        let lanes = self.tills[..cell.tills].iter_mut().map(|till| {
            // A run ends by time, with pushes left over.
            till.forget();
            (0..pushes).map(|_| till.push(cell.batch)).collect()
        });
        let lanes: Vec<Vec<Push>> = lanes.collect();
        let limit = Duration::from_secs(options.seconds.into());
        let node = match &mut self.node {
            Some(node) => Some(node.run(&lanes, limit).await.context("the node")?),
            None => None,
        };
        let floor = self.floor.run(lanes, limit).await.context("the floor")?;
        Ok(Round { node, floor })
    }
}

/// What one till did in a timed run.
struct Lane {
    started: Instant,
    ended: Instant,
    events: usize,
    latencies: Samples,
    /// Pushes that were sent again because the node was full.
    refused: usize,
}

impl Lane {
    fn starting() -> Self {
        let now = measure::now();
        Lane { started: now, ended: now, events: 0, latencies: Samples::default(), refused: 0 }
    }

    fn acknowledged(&mut self, events: usize, sent: Instant) {
        self.ended = measure::now();
        self.latencies.push(self.ended - sent);
        self.events += events;
    }
}

/// What all tills did in a timed run.
pub(crate) struct Run {
    started: Instant,
    ended: Instant,
    events: usize,
    latencies: Samples,
    refused: usize,
}

impl Run {
    fn of(lanes: Vec<Lane>) -> Result<Self> {
        let started = lanes.iter().map(|lane| lane.started).min().context("no tills")?;
        let ended = lanes.iter().map(|lane| lane.ended).max().context("no tills")?;
        let mut run = Run { started, ended, events: 0, latencies: Samples::default(), refused: 0 };
        for lane in lanes {
            run.events += lane.events;
            run.refused += lane.refused;
            run.latencies.extend(lane.latencies);
        }
        ensure!(run.events > 0, "nothing was acknowledged");
        Ok(run)
    }

    pub(crate) fn rate(&self) -> f64 {
        measure::rate(self.events, self.ended - self.started)
    }
}

struct Round {
    node: Option<node::NodeRun>,
    floor: Run,
}

/// For the person who waits; the report alone goes to standard output.
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_tills_by_batch() {
        assert_eq!("8x100".parse::<Cell>().expect("a cell"), Cell { tills: 8, batch: 100 });
        for wrong in ["8", "0x1", "1x0", "1x2001", "257x1", "x", "1x1x1"] {
            assert!(wrong.parse::<Cell>().is_err(), "{wrong}");
        }
    }
}
