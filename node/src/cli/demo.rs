//! `velox demo`: two nodes, three tills and a shop's day in which the link between the nodes is cut and heals; and the
//! figures that come of it, on both.
//!
//! Everything is temporary: the data directories with their PostgreSQL, the ports, the keys. Never here: the day
//! itself (see [`day`]), or anything that a real client could not do over HTTP.

mod cash;
mod client;
mod compare;
mod day;
mod figures;
mod goods;
mod heal;
mod home;
mod link;
mod nodes;
mod play;
mod pushed;
mod reading;
mod report;
mod selling;
mod status;
mod till;
mod view;

use super::signals::Signals;
use super::{Context, Outcome, output};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::lifecycle::DRAIN;
use crate::telemetry::Telemetry;
use compare::Tables;
use day::Day;
use futures_util::future::try_join;
use home::Home;
use nodes::{CLOUD, Links, NODES, Nodes, SHOP};
use reading::Reading;
use report::{Both, Report};
use std::path::PathBuf;
use std::time::Duration;
use velox_protocol::time::Clock;
use view::View;

/// How long the last spans may take.
const FLUSH: Duration = Duration::from_secs(2);
/// Exit code of a demo that was told twice to end.
const TOLD_TWICE: i32 = 130;
/// Seeds that are drawn: short enough to be typed again.
const SEEDS: u64 = 1_000_000;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Play the day of this seed again; none: another day each time
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Leave the data directories, to look at them with `velox serve`
    #[arg(long)]
    keep: bool,
    /// How long the nodes may take to agree after the heal
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: u64,
}

impl Demo {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let seed = self.seed.unwrap_or_else(|| rand::random_range(0..SEEDS));
        // Before anything is made, so that an early signal cleans up too.
        let mut signals = Signals::new()?;
        let home = Home::new()?;
        let links = Links::new()?;
        let configs = nodes::configs(&context, &home, &links)?;
        let telemetry = Telemetry::install(&configs[SHOP])?;
        let view = View::new();
        let stage = Stage { configs, links, view, seed, limit: Duration::from_secs(self.limit) };
        let played = demonstrate(&stage, &mut signals, &home).await;
        stage.view.end();
        let left = if self.keep { Ok(Some(home.keep())) } else { home.remove().await.map(|()| None) };
        telemetry.shutdown(FLUSH);
        let (report, kept) = (played?, left?);
        if context.json {
            output::json(&report)?;
        } else {
            report.print();
            print_how_to_go_on(kept);
        }
        Ok(if report.is_fine() { Outcome::Fine } else { Outcome::Found })
    }
}

/// What a demo is played with.
struct Stage {
    configs: [Config; 2],
    links: Links,
    view: View,
    seed: u64,
    limit: Duration,
}

/// Starts the nodes, plays the day on them and ends them, also when it is told to end early.
async fn demonstrate(stage: &Stage, signals: &mut Signals, home: &Home) -> anyhow::Result<Report> {
    stage.view.say("starting two nodes, each on a PostgreSQL of its own");
    let mut start = Box::pin(Nodes::start(&stage.configs, &stage.links));
    let mut told = false;
    // A start that is dropped half-way would leave a PostgreSQL behind, so it is waited for.
    let nodes = tokio::select! {
        nodes = &mut start => nodes?,
        () = signals.next() => {
            told = true;
            stage.view.say("ending as soon as the nodes have started");
            tokio::select! {
                nodes = &mut start => nodes?,
                () = signals.next() => told_twice(home),
            }
        }
    };
    let failed = nodes.failed();
    let report = tokio::select! {
        biased;
        () = std::future::ready(()), if told => Err(anyhow::anyhow!("told to end")),
        () = signals.next() => Err(anyhow::anyhow!("told to end")),
        reason = failed => Err(anyhow::anyhow!("the supervisor tree gave up: {reason}")),
        report = show(stage, &nodes) => report,
    };
    end(nodes, report.is_err(), stage, signals, home).await?;
    report
}

/// Ends the nodes. Who is told of it for the first time meanwhile is told what is happening already.
async fn end(
    nodes: Nodes,
    told: bool,
    stage: &Stage,
    signals: &mut Signals,
    home: &Home,
) -> anyhow::Result<()> {
    stage.view.say("ending the nodes");
    let impatient = async {
        if !told {
            signals.next().await;
        }
        signals.next().await;
    };
    tokio::select! {
        stopped = tokio::time::timeout(DRAIN, nodes.stop()) => stopped?,
        () = impatient => told_twice(home),
    }
}

/// The day, beside a view of both nodes, and what they say of it.
async fn show(stage: &Stage, nodes: &Nodes) -> anyhow::Result<Report> {
    let day = Day::new(stage.seed, SystemClock.now());
    let admins = nodes.admins(day.store_id)?;
    let view = &stage.view;
    let played = tokio::select! {
        played = play::play(&day, &admins, &stage.links, view, stage.limit) => played?,
        never = view.watch(&admins, &stage.links) => match never {},
    };
    view.say("reading the shop's figures from both nodes");
    let [shop, cloud] = &admins;
    let (figures, elsewhere) = try_join(Reading::of(shop), Reading::of(cloud)).await?;
    let mut differences = day.figures.differences(&figures.figures);
    differences.extend(day.figures.differences(&elsewhere.figures).into_iter().map(|difference| {
        let figure = format!("{}: {}", NODES[CLOUD], difference.figure);
        figures::Difference { figure, ..difference }
    }));
    differences.extend(played.pushed.differences(&day));
    let (tables, there) = try_join(Tables::read_deeply(shop), Tables::read_deeply(cloud)).await?;
    Ok(Report {
        seed: stage.seed,
        store_id: day.store_id,
        pushed: played.pushed,
        shop: figures,
        differences,
        compared: 2 * day.figures.count(),
        both: Both::new(tables.compare(&there), &played.healed, stage.limit),
    })
}

fn told_twice(home: &Home) -> ! {
    eprintln!("velox: told twice, ending at once; {} is left behind", home.path().display());
    std::process::exit(TOLD_TWICE);
}

fn print_how_to_go_on(kept: Option<PathBuf>) {
    let velox = program();
    println!("\nHow to go on");
    println!(
        "  {velox} serve\n      a node that stays, its data in ./velox-data (in a clone of the repository: ./dev run)"
    );
    println!("  {velox} store add \"Mi bodega\"\n      registers a shop and prints its id");
    println!("  {velox} device add --store ID\n      gives a till of it a token");
    println!("  curl -s http://127.0.0.1:8080/ping");
    println!(
        "  curl -s -H \"Authorization: Bearer $(cat velox-data/admin.key)\" http://127.0.0.1:8080/admin/stores"
    );
    println!("  http://127.0.0.1:8080/docs\n      every call, in a browser");
    if let Some(kept) = kept {
        println!("\nThe demo's data are kept, a directory for each node:");
        for node in NODES {
            println!("  {velox} serve --data-dir {}", kept.join(node).display());
        }
    }
}

/// This program as it can be typed here.
fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    match called.strip_prefix(&here) {
        Ok(inside) => format!("./{}", inside.display()),
        Err(_) if called.as_os_str().is_empty() => "velox".to_owned(),
        Err(_) => called.display().to_string(),
    }
}
