//! A report as Markdown, to be sent to somebody or kept: the words, the figures, the evidence.

use super::text::text;
use std::fmt::Write as _;
use velox_protocol::triage::Kind;
use velox_protocol::triage::verdict::Report;

/// Titles of the table of kinds.
pub const TITLES: [&str; 10] = [
    "kind",
    "verdict",
    "how many",
    "events in 30 days",
    "rows",
    "without rows",
    "lacking here",
    "lacking there",
    "failed",
    "pending",
];

/// The figures of all kinds, in the order of [`TITLES`].
pub fn figures(report: &Report) -> Vec<[String; 10]> {
    let shown = |count: Option<u64>| count.map_or("?".to_owned(), |count| count.to_string());
    Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let of = report.kinds.get(kind.name())?;
            Some([
                kind.name().to_owned(),
                of.verdict.to_string(),
                of.count.to_string(),
                of.events.to_string(),
                shown(of.rows),
                shown(of.missing_rows),
                of.missing_here.to_string(),
                of.missing_there.to_string(),
                of.failed.to_string(),
                of.pending.to_string(),
            ])
        })
        .collect()
}

/// The findings of one store.
pub fn markdown(name: &str, title: &str, report: &Report) -> String {
    let mut text_of = String::new();
    // Writing to a text does not fail.
    let _ = writeln!(text_of, "## {title}: {} {name}\n", report.verdict);
    let _ = writeln!(text_of, "```text\n{}```\n", plain(&text(name, report)));
    let _ = writeln!(text_of, "| {} |", TITLES.join(" | "));
    let _ = writeln!(text_of, "|{}", " --- |".repeat(TITLES.len()));
    for row in figures(report) {
        let _ = writeln!(text_of, "| {} |", row.join(" | "));
    }
    for (kind, verdict) in report.wrong() {
        let _ = writeln!(text_of, "\n### {} ({})\n", kind.name(), verdict.verdict);
        for line in &verdict.evidence {
            let _ = writeln!(text_of, "- {}", plain(line).replace('\n', " "));
        }
    }
    text_of
}

/// Without what would end the block or steer a terminal.
fn plain(text: &str) -> String {
    text.replace("```", "'''").chars().filter(|c| !c.is_control() || *c == '\n').collect()
}
