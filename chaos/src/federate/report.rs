//! The report: medians over the rounds and goals, as tables and as JSON.
//!
//! Never here: measuring.

use std::fmt;

use comfy_table::Table;
use serde::Serialize;

use super::Options;
use super::backlog::Drain;
use super::lag::Lag;
use super::logs::{Compared, Cost, MISSING_A_SIDE, Spread};
use crate::goals::{self, GoalReport};
use crate::measure::median;

/// From the acknowledgement until ten events can be read at the peer, ms.
const LAG_P50_MS: f64 = 8.0;
const LAG_P99_MS: f64 = 20.0;
/// A backlog drains so fast, in F.
const DRAIN_F: f64 = 0.15;
/// Logs that differ in ten events.
const DIFFERING_KIB: f64 = 64.0;
const DIFFERING_S: f64 = 1.5;
/// Logs that are the same.
const EQUAL_KIB: f64 = 4.0;
const EQUAL_S: f64 = 0.2;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    rounds: u32,
    cores: usize,
    lag: LagReport,
    drain: DrainReport,
    /// Events of each log.
    events: u32,
    logs: Vec<LogsReport>,
    goals: Vec<GoalReport>,
}

/// Medians of the rounds' percentiles.
#[derive(Debug, Serialize)]
struct LagReport {
    ack_p50_ms: f64,
    ack_p99_ms: f64,
    visible_p50_ms: f64,
    visible_p99_ms: f64,
}

#[derive(Debug, Serialize)]
struct DrainReport {
    events: usize,
    seconds: f64,
    events_per_s: f64,
    floor_per_s: f64,
    ratio: f64,
}

/// Two logs.
#[derive(Debug, Serialize)]
struct LogsReport {
    spread: Spread,
    differing: Cost,
    healed_after_s: f64,
    equal: Cost,
}

impl LagReport {
    fn of(rounds: &[Lag]) -> Self {
        let acknowledged = |percent| median(rounds.iter().map(|lag| lag.acknowledged.percentile_ms(percent)));
        let visible = |percent| median(rounds.iter().map(|lag| lag.visible.percentile_ms(percent)));
        LagReport {
            ack_p50_ms: acknowledged(50),
            ack_p99_ms: acknowledged(99),
            visible_p50_ms: visible(50),
            visible_p99_ms: visible(99),
        }
    }

    fn goals(&self) -> [GoalReport; 2] {
        [
            goals::at_most("replication lag p50".into(), LAG_P50_MS, self.visible_p50_ms, "ms"),
            goals::at_most("replication lag p99".into(), LAG_P99_MS, self.visible_p99_ms, "ms"),
        ]
    }
}

impl From<Drain> for DrainReport {
    fn from(drain: Drain) -> Self {
        DrainReport {
            events: drain.events,
            seconds: drain.arrivals.span().as_secs_f64(),
            events_per_s: drain.arrivals.per_s(),
            floor_per_s: drain.floor_per_s,
            ratio: drain.ratio(),
        }
    }
}

impl LogsReport {
    fn of(compared: &Compared) -> Self {
        LogsReport {
            spread: compared.spread,
            differing: compared.differing,
            healed_after_s: compared.healed_after.as_secs_f64(),
            equal: compared.equal,
        }
    }

    fn cases(&self) -> [(String, &Cost); 2] {
        let name = self.spread.name();
        [
            (format!("{} missing, {name}", 2 * MISSING_A_SIDE), &self.differing),
            (format!("equal, {name}"), &self.equal),
        ]
    }

    fn goals(&self) -> Vec<GoalReport> {
        let asked = [(DIFFERING_KIB, DIFFERING_S), (EQUAL_KIB, EQUAL_S)];
        let goals = self.cases().into_iter().zip(asked).flat_map(|((name, cost), (kibibytes, seconds))| {
            [
                goals::at_most(format!("{name}: exchanged"), kibibytes, cost.kibibytes(), "KiB"),
                goals::at_most(format!("{name}: time"), seconds, cost.seconds, "s"),
            ]
        });
        goals.collect()
    }
}

impl Report {
    pub(super) fn new(options: &Options, lags: &[Lag], drain: Drain, compared: &[Compared]) -> Self {
        let (lag, drain) = (LagReport::of(lags), DrainReport::from(drain));
        let logs: Vec<LogsReport> = compared.iter().map(LogsReport::of).collect();
        let mut goals = Vec::from(lag.goals());
        goals.push(goals::at_least("backlog drains".into(), DRAIN_F, drain.ratio, "F"));
        goals.extend(logs.iter().flat_map(LogsReport::goals));
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let (seed, rounds, events) = (options.seed, options.rounds, options.events);
        Report { seed, rounds, cores, lag, drain, events, logs, goals }
    }

    fn comparisons(&self) -> Table {
        let mut table = goals::table(&["logs", "messages", "sent B", "received B", "s"]);
        for (name, cost) in self.logs.iter().flat_map(LogsReport::cases) {
            table.add_row([
                name,
                format!("{:.0}", cost.messages),
                format!("{:.0}", cost.bytes_sent),
                format!("{:.0}", cost.bytes_received),
                format!("{:.3}", cost.seconds),
            ]);
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.comparisons())?;
        writeln!(
            f,
            "Comparisons of {} events a side, digests warm. Medians of {} rounds on {} cores, seed {}.",
            self.events, self.rounds, self.cores, self.seed
        )?;
        for logs in &self.logs {
            let (name, seconds) = (logs.spread.name(), logs.healed_after_s);
            writeln!(
                f,
                "Over {name}: the same on both sides {seconds:.2} s after the call that closes them."
            )?;
        }
        writeln!(
            f,
            "Light load (10 events every 100 ms): ack p50 {:.2} ms, p99 {:.2} ms; at the peer p50 {:.2} ms, p99 {:.2} ms\n\
             after it.",
            self.lag.ack_p50_ms, self.lag.ack_p99_ms, self.lag.visible_p50_ms, self.lag.visible_p99_ms
        )?;
        writeln!(
            f,
            "A backlog of {} events: {:.2} s from the first to the last arrival, {:.0} events/s; F, the floor of 8 x 100,\n\
             is {:.0} events/s.",
            self.drain.events, self.drain.seconds, self.drain.events_per_s, self.drain.floor_per_s
        )?;
        write!(f, "{}", goals::table_of(&self.goals))
    }
}
