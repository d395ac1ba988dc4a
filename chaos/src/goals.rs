//! Goals of a benchmark and what came of them, and its report, as a table and as JSON.
//!
//! Never here: a goal's figure, or measuring it.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::fmt::Display;

/// A goal and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct GoalReport {
    name: String,
    /// What is to be reached or, where less is better, not exceeded.
    goal: f64,
    measured: f64,
    unit: &'static str,
    met: bool,
}

impl GoalReport {
    #[cfg(test)]
    pub(crate) fn is_met(&self) -> bool {
        self.met
    }
}

/// More is better.
pub(crate) fn at_least(name: String, goal: f64, measured: f64, unit: &'static str) -> GoalReport {
    GoalReport { name, goal, measured, unit, met: measured >= goal }
}

/// Less is better.
pub(crate) fn at_most(name: String, goal: f64, measured: f64, unit: &'static str) -> GoalReport {
    GoalReport { name, goal, measured, unit, met: measured <= goal }
}

/// Shows a report: to people, or to machines.
pub(crate) fn print(report: &(impl Serialize + Display), json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

/// One row a goal.
pub(crate) fn table_of(goals: &[GoalReport]) -> Table {
    let mut table = table(&["goal", "asked", "measured", ""]);
    for goal in goals {
        table.add_row([
            goal.name.clone(),
            format!("{} {}", goal.goal, goal.unit),
            format!("{:.2} {}", goal.measured, goal.unit),
            if goal.met { "met" } else { "missed" }.to_owned(),
        ]);
    }
    table
}

/// A plain table, all columns but the first to the right.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_up_to_its_figure() {
        assert!(at_least("F".into(), 0.15, 0.15, "F").is_met());
        assert!(!at_least("F".into(), 0.15, 0.149, "F").is_met());
        assert!(at_most("lag".into(), 8.0, 8.0, "ms").is_met());
        assert!(!at_most("lag".into(), 8.0, 8.01, "ms").is_met());
        let table = table_of(&[at_most("lag p50".into(), 8.0, 8.014, "ms")]).to_string();
        assert!(table.contains("8 ms") && table.contains("8.01 ms") && table.contains("missed"), "{table}");
    }
}
