//! `velox demo`: a node of its own, three tills and a shop's day, and the figures that come of it.
//!
//! Everything is temporary: the data directory with its PostgreSQL, the port, the keys. Never here: the day
//! itself (see [`day`]), or anything that a real client could not do over HTTP.

mod cash;
mod client;
mod day;
mod figures;
mod goods;
mod home;
mod play;
mod progress;
mod reading;
mod report;
mod selling;
mod till;

use super::signals::Signals;
use super::{Context, Outcome, output};
use crate::clock::SystemClock;
use crate::config::{Config, Overrides};
use crate::lifecycle::{self, DRAIN, RunningNode, StartOptions};
use crate::telemetry::Telemetry;
use anyhow::bail;
use client::Caller;
use day::Day;
use home::Home;
use progress::Progress;
use reading::Reading;
use report::Report;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use velox_protocol::time::Clock;

/// How long the last spans may take.
const FLUSH: Duration = Duration::from_secs(2);
/// Exit code of a demo that was told twice to end.
const TOLD_TWICE: i32 = 130;
/// Warnings are shown, but for those that the demo itself gives cause to: an event that it has spoilt, and
/// connections that are given up when it is told to end in the middle of the day.
const LOG: &str = "warn,velox_actors::projector=error,sqlx=error";
/// Seeds that are drawn: short enough to be typed again.
const SEEDS: u64 = 1_000_000;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Play the day of this seed again; none: another day each time
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Leave the data directory, to look at it with `velox serve`
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let seed = self.seed.unwrap_or_else(|| rand::random_range(0..SEEDS));
        // Before anything is made, so that an early signal cleans up too.
        let mut signals = Signals::new()?;
        let home = Home::new()?;
        let config = config(&context, &home)?;
        let telemetry = Telemetry::install(&config)?;
        let progress = Progress::new();
        let played = demonstrate(&config, seed, &progress, &mut signals, &home).await;
        let left = if self.keep { Ok(Some(home.keep())) } else { home.remove().await.map(|()| None) };
        telemetry.shutdown(FLUSH);
        let (report, kept) = (played?, left?);
        let agreed = report.differences.is_empty();
        if context.json {
            output::json(&report)?;
        } else {
            report.print();
            print_how_to_go_on(kept);
        }
        Ok(if agreed { Outcome::Fine } else { Outcome::Found })
    }
}

/// The demo's own configuration: of the caller's stays where PostgreSQL's programs and a collector of traces
/// are, and what was given as a flag.
fn config(context: &Context, home: &Home) -> anyhow::Result<Config> {
    let yours = &context.config;
    let given = |key: &str| yours.effective().iter().any(|v| v.key == key && v.source.starts_with("flag "));
    if given("data_dir") {
        bail!("the demo makes a data directory of its own; --keep leaves it");
    }
    let variable = |name: &str, value: &str| (format!("VELOX_{name}"), value.to_owned());
    let variables = [
        variable("LISTEN", "127.0.0.1:0"),
        variable("DATA_DIR", &home.path().display().to_string()),
        variable("RATE_LIMIT_RPS", "100000"),
        variable("RATE_LIMIT_BURST", "100000"),
        variable("LOG", LOG),
    ];
    let mut config = Config::from_sources(None, variables.into_iter(), &Overrides::default())?;
    config.pg_bin = yours.pg_bin.clone();
    config.otel = yours.otel.clone();
    config.log_format = yours.log_format;
    if given("listen") {
        config.listen = yours.listen;
    }
    if given("log") {
        config.log = yours.log.clone();
    }
    Ok(config)
}

/// Starts the node, plays the day on it and ends it, also when it is told to end early.
async fn demonstrate(
    config: &Config,
    seed: u64,
    progress: &Progress,
    signals: &mut Signals,
    home: &Home,
) -> anyhow::Result<Report> {
    progress.say("starting a node on a PostgreSQL of its own");
    let options = StartOptions { chaos: false, clock: Arc::new(SystemClock) };
    let mut start = Box::pin(lifecycle::start(config, options));
    let mut told = false;
    // A start that is dropped half-way would leave a PostgreSQL behind, so it is waited for.
    let node = tokio::select! {
        node = &mut start => node?,
        () = signals.next() => {
            told = true;
            progress.say("ending as soon as the node has started");
            tokio::select! {
                node = &mut start => node?,
                () = signals.next() => told_twice(home),
            }
        }
    };
    let failed = node.failed();
    let report = tokio::select! {
        biased;
        () = std::future::ready(()), if told => Err(anyhow::anyhow!("told to end")),
        () = signals.next() => Err(anyhow::anyhow!("told to end")),
        reason = failed => Err(anyhow::anyhow!("the supervisor tree gave up: {reason}")),
        report = show(&node, seed, progress) => report,
    };
    end(node, report.is_err(), progress, signals, home).await?;
    report
}

/// Ends the node. Who is told of it for the first time meanwhile is told what is happening already.
async fn end(
    node: RunningNode,
    told: bool,
    progress: &Progress,
    signals: &mut Signals,
    home: &Home,
) -> anyhow::Result<()> {
    progress.say("ending the node");
    let impatient = async {
        if !told {
            signals.next().await;
        }
        signals.next().await;
    };
    tokio::select! {
        stopped = tokio::time::timeout(DRAIN, node.stop()) => stopped?,
        () = impatient => told_twice(home),
    }
}

/// The day, and what the node says of it.
async fn show(node: &RunningNode, seed: u64, progress: &Progress) -> anyhow::Result<Report> {
    let day = Day::new(seed, SystemClock.now());
    let admin = Caller::admin(node.address, node.admin_key.expose(), day.store_id)?;
    let pushed = play::play(&day, &admin, progress).await?;
    progress.say("reading the shop's figures");
    let shop = Reading::of(&admin).await?;
    let mut differences = day.figures.differences(&shop.figures);
    differences.extend(pushed.differences(&day));
    let compared = day.figures.count();
    Ok(Report { seed, store_id: day.store_id, pushed, shop, differences, compared })
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
        println!("\nThe demo's data are kept: {velox} serve --data-dir {}", kept.display());
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
