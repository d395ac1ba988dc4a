//! The report: medians over the rounds, ratios to the floor, goals; as tables and as JSON.
//!
//! Never here: measuring.

use std::fmt;

use comfy_table::Table;
use serde::Serialize;

use super::node::{Lag, NodeRun, Unprojected};
use super::{Cell, Round};
use crate::cluster::Memory;
use crate::goals::{self, GoalReport};
use crate::measure::{Samples, median, rate};

/// At 1 x 1 a node's answers take this many times the floor's at most, p99.
const ACK_P99_FLOORS: f64 = 5.0;
/// Projection lag of ten-event pushes at light load, ms.
const LAG_P50_MS: f64 = 6.0;
const LAG_P99_MS: f64 = 15.0;
/// MB of the node's process.
const MEMORY_LOADED_MB: f64 = 96.0;
const MEMORY_IDLE_MB: f64 = 48.0;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    rounds: u32,
    cores: usize,
    cells: Vec<CellReport>,
    /// Absent without a node, as the next.
    lag: Option<LagReport>,
    memory: Option<MemoryReport>,
    /// Events that are in no table. Any at all: the figures mean little.
    unprojected: Vec<Unprojected>,
    goals: Vec<GoalReport>,
}

/// One cell, medians over the rounds.
#[derive(Debug, Serialize)]
pub(super) struct CellReport {
    cell: Cell,
    floor: Figures,
    /// The floor where the goals were set, from and to.
    known_floor: Option<(u32, u32)>,
    acknowledged: Option<Figures>,
    /// Pushes a run that were sent again because the node was full.
    refused: f64,
    projected_per_s: Option<f64>,
    /// Medians of each round's own ratio: node and floor beside each other.
    acknowledged_ratio: Option<f64>,
    projected_ratio: Option<f64>,
    ack_p99_ratio: Option<f64>,
}

/// Events a second and the latency of one push.
#[derive(Debug, Clone, Copy, Serialize)]
struct Figures {
    events_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Pushes of ten events at light load.
#[derive(Debug, Serialize)]
pub(super) struct LagReport {
    ack_p50_ms: f64,
    ack_p99_ms: f64,
    projection_p50_ms: f64,
    projection_p99_ms: f64,
}

/// The node's process, in MB (10^6 bytes).
#[derive(Debug, Serialize)]
pub(super) struct MemoryReport {
    idle_mb: f64,
    peak_mb: f64,
    /// After everything.
    end_mb: f64,
}

impl Figures {
    fn of<'a>(runs: impl Iterator<Item = (f64, &'a Samples)> + Clone) -> Self {
        Figures {
            events_per_s: median(runs.clone().map(|(rate, _)| rate)),
            p50_ms: median(runs.clone().map(|(_, samples)| samples.percentile_ms(50))),
            p99_ms: median(runs.map(|(_, samples)| samples.percentile_ms(99))),
        }
    }
}

impl CellReport {
    pub(super) fn of(cell: Cell, rounds: &[Round]) -> Self {
        let pairs = || rounds.iter().filter_map(|round| Some((round.node.as_ref()?, &round.floor)));
        let has_node = pairs().next().is_some();
        let medians = |figure: &dyn Fn(&NodeRun, &super::Run) -> f64| {
            has_node.then(|| median(pairs().map(|(node, floor)| figure(node, floor))))
        };
        let projected = |node: &NodeRun| rate(node.acknowledged.events, node.projected_after);
        let floors = rounds.iter().map(|round| (round.floor.rate(), &round.floor.latencies));
        let nodes = pairs().map(|(node, _)| (node.acknowledged.rate(), &node.acknowledged.latencies));
        CellReport {
            cell,
            floor: Figures::of(floors),
            known_floor: cell.goal().map(|goal| goal.known_floor),
            acknowledged: has_node.then(|| Figures::of(nodes)),
            refused: medians(&|node, _| node.acknowledged.refused as f64).unwrap_or(0.0),
            projected_per_s: medians(&|node, _| projected(node)),
            acknowledged_ratio: medians(&|node, floor| node.acknowledged.rate() / floor.rate()),
            projected_ratio: medians(&|node, floor| projected(node) / floor.rate()),
            ack_p99_ratio: medians(&|node, floor| {
                node.acknowledged.latencies.percentile_ms(99) / floor.latencies.percentile_ms(99)
            }),
        }
    }

    fn goals(&self) -> Vec<GoalReport> {
        let name = |what: &str| format!("{} x {} {what}", self.cell.tills, self.cell.batch);
        let mut goals = Vec::new();
        if let (Some(goal), Some(ratio)) = (self.cell.goal(), self.acknowledged_ratio) {
            goals.push(goals::at_least(name("acknowledged"), goal.acknowledged, ratio, "F"));
            if let (Some(goal), Some(ratio)) = (goal.projected, self.projected_ratio) {
                goals.push(goals::at_least(name("projected"), goal, ratio, "F"));
            }
        }
        if let (Cell { tills: 1, batch: 1 }, Some(ratio)) = (self.cell, self.ack_p99_ratio) {
            goals.push(goals::at_most(name("ack p99"), ACK_P99_FLOORS, ratio, "F"));
        }
        goals
    }
}

impl LagReport {
    pub(super) fn of(lag: &Lag) -> Self {
        LagReport {
            ack_p50_ms: lag.acknowledged.percentile_ms(50),
            ack_p99_ms: lag.acknowledged.percentile_ms(99),
            projection_p50_ms: lag.projected.percentile_ms(50),
            projection_p99_ms: lag.projected.percentile_ms(99),
        }
    }
}

impl MemoryReport {
    pub(super) fn of(idle: Memory, loaded: Memory) -> Self {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        MemoryReport { idle_mb: mb(idle.now), peak_mb: mb(loaded.peak), end_mb: mb(loaded.now) }
    }
}

impl Report {
    pub(super) fn new(
        seed: u64,
        rounds: u32,
        cells: Vec<CellReport>,
        lag: Option<LagReport>,
        memory: Option<MemoryReport>,
        unprojected: Vec<Unprojected>,
    ) -> Self {
        let mut goals: Vec<GoalReport> = cells.iter().flat_map(CellReport::goals).collect();
        if let Some(lag) = &lag {
            goals.push(goals::at_most("projection lag p50".into(), LAG_P50_MS, lag.projection_p50_ms, "ms"));
            goals.push(goals::at_most("projection lag p99".into(), LAG_P99_MS, lag.projection_p99_ms, "ms"));
        }
        if let Some(memory) = &memory {
            goals.push(goals::at_most("memory under load".into(), MEMORY_LOADED_MB, memory.peak_mb, "MB"));
            goals.push(goals::at_most("memory idle".into(), MEMORY_IDLE_MB, memory.idle_mb, "MB"));
        }
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        Report { seed, rounds, cores, cells, lag, memory, unprojected, goals }
    }

    fn figures(&self) -> Table {
        let mut table = goals::table(&[
            "tills x batch",
            "F ev/s",
            "F then",
            "F p50/p99 ms",
            "ack ev/s",
            "ack F",
            "ack p50/p99 ms",
            "projected ev/s",
            "projected F",
            "refused",
        ]);
        let number =
            |value: Option<f64>, digits: usize| value.map_or("-".into(), |v| format!("{v:.digits$}"));
        let latency = |figures: Figures| format!("{:.2}/{:.2}", figures.p50_ms, figures.p99_ms);
        for cell in &self.cells {
            table.add_row([
                format!("{} x {}", cell.cell.tills, cell.cell.batch),
                number(Some(cell.floor.events_per_s), 0),
                cell.known_floor.map_or("-".into(), |(low, high)| range(low, high)),
                latency(cell.floor),
                number(cell.acknowledged.map(|figures| figures.events_per_s), 0),
                number(cell.acknowledged_ratio, 2),
                cell.acknowledged.map_or("-".into(), latency),
                number(cell.projected_per_s, 0),
                number(cell.projected_ratio, 2),
                number(Some(cell.refused), 0),
            ]);
        }
        table
    }
}

fn range(low: u32, high: u32) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.figures())?;
        writeln!(
            f,
            "Medians of {} rounds on {} cores, seed {}. F: the same rows by plain SQL beside the node; F then: where\n\
             the goals were set, with two outbox rows an event. Ratios are medians of the rounds' own.",
            self.rounds, self.cores, self.seed
        )?;
        if let Some(lag) = &self.lag {
            writeln!(
                f,
                "Light load (10 events every 50 ms): ack p50 {:.2} ms, p99 {:.2} ms; projection lag p50 {:.2} ms, p99 {:.2} ms.",
                lag.ack_p50_ms, lag.ack_p99_ms, lag.projection_p50_ms, lag.projection_p99_ms
            )?;
        }
        if let Some(memory) = &self.memory {
            writeln!(
                f,
                "Memory of the node: idle {:.1} MB, peak {:.1} MB, at the end {:.1} MB.",
                memory.idle_mb, memory.peak_mb, memory.end_mb
            )?;
        }
        for left in &self.unprojected {
            writeln!(
                f,
                "Not projected, so the figures mean little: {} {} {} ({})",
                left.count,
                left.status,
                left.event_type,
                left.example.as_deref().unwrap_or("no reason")
            )?;
        }
        if !self.goals.is_empty() {
            write!(f, "{}", goals::table_of(&self.goals))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Lane, Run};
    use std::time::{Duration, Instant};

    fn run(started: Instant, events: usize, ms: u64) -> Run {
        let mut lane = Lane { started, ended: started, events, latencies: Samples::default(), refused: 0 };
        lane.ended += Duration::from_millis(ms);
        lane.latencies.push(Duration::from_millis(ms));
        Run::of(vec![lane]).expect("events")
    }

    #[test]
    fn a_ratio_is_that_of_one_round() {
        let now = crate::measure::now();
        let round = |node_ms: u64, floor_ms: u64| Round {
            node: Some(NodeRun {
                acknowledged: run(now, 100, node_ms),
                projected_after: Duration::from_millis(2 * node_ms),
            }),
            floor: run(now, 100, floor_ms),
        };
        // The second round is ten times slower for both.
        let rounds = [round(200, 100), round(2_000, 1_000), round(200, 100)];
        let cell = CellReport::of(Cell { tills: 1, batch: 1 }, &rounds);
        assert_eq!(cell.acknowledged_ratio, Some(0.5));
        assert_eq!(cell.projected_ratio, Some(0.25));
        assert_eq!(cell.ack_p99_ratio, Some(2.0));
        let report = Report::new(1, 3, vec![cell], None, None, Vec::new());
        assert!(report.goals.iter().all(|goal| goal.is_met()), "{report}");
        assert_eq!(report.goals.len(), 2);
    }
}
