//! `velox-chaos federate`: two nodes that are each other's peers, on one machine, each over a PostgreSQL of its own
//! that keeps what it acknowledges.
//!
//! Three figures: how long until what one node has acknowledged stands in the other one's log; how fast a backlog
//! drains after an outage, beside the floor F of `load`; and what it costs to compare two long logs that differ in ten
//! events, or in none. The comparison comes last, so that nothing else is measured over millions of rows.

mod backlog;
mod lag;
mod logs;
mod pair;
mod report;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::cluster;
use crate::load::progress;
use backlog::Drain;
use lag::Lag;
use logs::{Compared, Spread};
use pair::Pair;
use report::Report;

/// Events of a quick run.
const QUICK_EVENTS: u32 = 20_000;
const QUICK_BACKLOG: u32 = 6_000;
const QUICK_PUSHES: u32 = 20;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Events a side whose logs are compared
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    events: u32,
    /// Events that wait while the peer is down
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2_000..=1_000_000))]
    backlog: u32,
    /// Rounds of lag and of each comparison; figures are medians over them
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Pushes of a round of lag
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pushes: u32,
    /// One round with few events: whether it runs at all
    #[arg(long)]
    quick: bool,
    /// Where all pushed events come from
    #[arg(long, default_value_t = 20_261_124)]
    seed: u64,
    /// The node's program [default: velox beside this one]
    #[arg(long)]
    velox: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Options {
    /// With what a quick run has less of.
    fn settled(mut self) -> Self {
        if self.quick {
            self.rounds = 1;
            self.events = self.events.min(QUICK_EVENTS);
            self.backlog = self.backlog.min(QUICK_BACKLOG);
            self.pushes = self.pushes.min(QUICK_PUSHES);
        }
        self
    }
}

/// Runs the benchmark and prints its report. A missed goal is a finding, not a failure.
///
/// # Errors
/// Where a node, a database or the report cannot be had.
pub async fn run(options: Options) -> Result<()> {
    let options = options.settled();
    let report = measure_all(&options).await?;
    crate::goals::print(&report, options.json)
}

/// Starts two nodes and ends them again, whatever comes out.
async fn measure_all(options: &Options) -> Result<Report> {
    let velox = options.velox.clone().map_or_else(cluster::velox_beside_us, Ok)?;
    progress("two nodes start");
    let mut pair = Pair::start(&velox).await?;
    // Whoever interrupts gets stopped nodes and no directories left behind, too.
    let measured = tokio::select! {
        measured = measure(options, &mut pair) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let stopped = pair.stop().await;
    let report = measured?;
    stopped?;
    Ok(report)
}

async fn measure(options: &Options, pair: &mut Pair) -> Result<Report> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let lags: Vec<Lag> = lag::measure(options, pair, &mut rng).await?;
    let drain: Drain = backlog::measure(options, pair, &mut rng).await?;
    let mut compared: Vec<Compared> = Vec::new();
    for spread in [Spread::Years, Spread::Day] {
        compared.push(logs::measure(options, pair, spread, &mut rng).await?);
    }
    ensure!(!lags.is_empty(), "no rounds");
    Ok(Report::new(options, &lags, drain, &compared))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    fn parsed(arguments: &[&str]) -> Result<Options, clap::Error> {
        let all = ["federate"].iter().chain(arguments);
        Arguments::try_parse_from(all).map(|arguments| arguments.options.settled())
    }

    #[test]
    fn a_quick_run_has_less_and_never_more() {
        let sizes = |options: Options| (options.rounds, options.events, options.backlog, options.pushes);
        assert_eq!(sizes(parsed(&[]).expect("defaults")), (3, 1_000_000, 100_000, 120));
        assert_eq!(
            sizes(parsed(&["--quick"]).expect("quick")),
            (1, QUICK_EVENTS, QUICK_BACKLOG, QUICK_PUSHES)
        );
        let small = parsed(&["--quick", "--events", "1000", "--backlog", "2000", "--pushes", "5"]);
        assert_eq!(sizes(small.expect("small")), (1, 1_000, 2_000, 5));
    }

    #[test]
    fn sizes_that_cannot_be_measured_are_refused() {
        for wrong in [["--events", "9"], ["--backlog", "1"], ["--rounds", "0"], ["--events", "many"]] {
            assert!(parsed(&wrong).is_err(), "{wrong:?}");
        }
    }
}
