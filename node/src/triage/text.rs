//! A report in words, for somebody who was woken by it: what is wrong, since when, how many, what it does now, what to do.

use std::fmt::Write as _;
use velox_protocol::triage::Kind;
use velox_protocol::triage::verdict::{KindVerdict, Letter, Report};
use velox_protocol::triage::words::since;

/// Most kinds that are told at length.
const TOLD: usize = 6;

/// The whole report, but for the table. `name`: the shop's.
pub fn text(name: &str, report: &Report) -> String {
    let mut text = String::new();
    let nodes: Vec<&str> = report.nodes.iter().map(|node| node.name.as_str()).collect();
    let at = report.generated_at.format("%Y-%m-%d %H:%M UTC");
    // Writing to a text does not fail.
    let _ = writeln!(text, "{name} ({}), looked at {at}: {}", report.store_id, nodes.join(", "));
    let wrong = report.wrong();
    if wrong.is_empty() {
        let _ = writeln!(text, "\nOK. {}", report.cause);
        return text;
    }
    for (kind, verdict) in wrong.iter().take(TOLD) {
        of_kind(&mut text, *kind, verdict, report);
    }
    if let Some((_, others)) = wrong.split_at_checked(TOLD).filter(|(_, others)| !others.is_empty()) {
        let names: Vec<&str> = others.iter().map(|(kind, _)| kind.plural()).collect();
        let _ = writeln!(text, "\nAlso wrong, for like reasons: {}.", names.join(", "));
    }
    for node in report.nodes.iter().filter(|node| node.error.is_some()) {
        let reason = node.error.as_deref().unwrap_or_default();
        let _ = writeln!(text, "\n{} could not be asked for everything: {reason}.", node.name);
    }
    if let Some(command) = &report.command {
        let _ = writeln!(text, "\nTo repair it: {command}");
    }
    text
}

fn of_kind(text: &mut String, kind: Kind, verdict: &KindVerdict, report: &Report) {
    let _ = writeln!(text, "\nWRONG ({}): {}", verdict.verdict, kind.plural());
    let _ = writeln!(text, "  What is wrong:     {}", verdict.cause);
    let when = verdict.since.map_or("not known".to_owned(), |at| since(at, report.generated_at));
    let _ = writeln!(text, "  Since:             {when}");
    let _ = writeln!(text, "  How many:          {}", verdict.count);
    let _ = writeln!(text, "  What it does now:  {}", meanwhile(verdict.verdict));
    let _ = writeln!(text, "  What to do:        {}", advice(verdict));
}

/// What happens if nobody does anything.
fn meanwhile(letter: Letter) -> &'static str {
    match letter {
        Letter::A => {
            "The shop goes on selling and nothing is lost: one node has them. The nodes compare what they have every few \
             minutes and send what is missing, as soon as they reach each other."
        }
        Letter::B => {
            "The shop goes on selling and nothing is lost: the events are stored. The node looks for them every minute \
             and shows those of the last seven days."
        }
        Letter::C => {
            "The shop goes on selling and nothing is lost: the events are stored. They are not shown, and by itself this \
             does not get better."
        }
        Letter::D => {
            "The shop goes on selling and nothing is lost: the events are stored, and all others are shown. The node \
             tries these again every hour."
        }
        Letter::Ok => "All is well.",
    }
}

fn advice(verdict: &KindVerdict) -> String {
    let command = verdict.command.as_deref().unwrap_or("nothing");
    match verdict.verdict {
        Letter::D => format!(
            "Remove what the error names, if it is a rule or a limit of the database; then run: {command}. What the till \
             wrote wrongly is mended by a newer version of the program: send its maker the event ids."
        ),
        _ => format!("run: {command}"),
    }
}
