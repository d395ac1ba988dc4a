//! Checkers: whether a run kept an invariant, judged by its history and by what the nodes say at its end.
//!
//! Pure, one invariant a file. To add one: a module with `check`, a line in [`all`], and tests with hand-made
//! histories that violate it. Never here: asking nodes.

pub mod atomic;
pub mod convergent;
pub mod durable;
mod model;
pub mod once;
pub mod outage;
pub mod single_reconciler;

use std::fmt;

use serde::Serialize;

use crate::history::Entry;
use crate::observed::Observed;

/// Violations that a verdict shows; the rest is counted.
const SHOWN: usize = 5;

/// What a checker found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The invariant, by number and name.
    pub invariant: &'static str,
    /// How many things were looked at: none proves nothing.
    pub checked: usize,
    /// How many of them violate it.
    pub violated: usize,
    /// The first of those.
    pub evidence: Vec<String>,
}

impl Verdict {
    /// Nothing was looked at yet.
    pub fn of(invariant: &'static str) -> Self {
        Verdict { invariant, checked: 0, violated: 0, evidence: Vec::new() }
    }

    /// Whether the invariant held.
    pub fn is_sound(&self) -> bool {
        self.violated == 0
    }

    /// Counts so many more things that were looked at.
    pub(crate) fn looked_at(&mut self, things: usize) {
        self.checked += things;
    }

    /// One of them violates the invariant.
    pub(crate) fn violate(&mut self, evidence: impl FnOnce() -> String) {
        self.violated += 1;
        if self.evidence.len() < SHOWN {
            self.evidence.push(evidence());
        }
    }

    /// What another look at the same invariant found.
    pub(crate) fn join(&mut self, other: Verdict) {
        self.checked += other.checked;
        self.violated += other.violated;
        let room = SHOWN.saturating_sub(self.evidence.len());
        self.evidence.extend(other.evidence.into_iter().take(room));
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { invariant, checked, violated, evidence } = self;
        if self.is_sound() {
            let word = if *checked == 0 { "no proof" } else { "sound" };
            return write!(f, "{word:<8}  {invariant}: {checked} checked");
        }
        write!(f, "VIOLATED  {invariant}: {violated} of {checked}")?;
        for text in evidence {
            write!(f, "\n            {text}")?;
        }
        if *violated > evidence.len() {
            write!(f, "\n            and {} more", violated - evidence.len())?;
        }
        Ok(())
    }
}

/// All invariants.
pub fn all(history: &[Entry], nodes: &[Observed]) -> Vec<Verdict> {
    vec![
        durable::check(history, nodes),
        once::check(history, nodes),
        convergent::check(nodes),
        atomic::check(nodes),
        single_reconciler::check(history),
        outage::check(history, nodes),
    ]
}

/// What `velox verify` found against an invariant.
fn add_findings(verdict: &mut Verdict, number: &str, nodes: &[Observed]) {
    for node in nodes {
        for finding in node.findings.iter().filter(|finding| finding["invariant"] == number) {
            verdict.violate(|| format!("{}: velox verify: {finding}", node.node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_shows_the_first_violations_and_counts_the_rest() {
        let mut verdict = Verdict::of("INV-0 example");
        assert_eq!(verdict.to_string(), "no proof  INV-0 example: 0 checked");
        verdict.looked_at(9);
        assert_eq!(verdict.to_string(), "sound     INV-0 example: 9 checked");
        for n in 0..7 {
            verdict.violate(|| format!("number {n}"));
        }
        let text = verdict.to_string();
        assert!(text.starts_with("VIOLATED  INV-0 example: 7 of 9\n"), "{text}");
        assert!(text.contains("number 4") && !text.contains("number 5") && text.ends_with("and 2 more"));
    }
}
