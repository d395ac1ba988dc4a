//! What a run tells: its seed first, each step as it happens, times, verdicts, and how to play it again.
//!
//! Never here: what happens in a run.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::Setting;
use crate::checker::Verdict;
use crate::measure;

/// A step and when it was.
#[derive(Debug, Serialize)]
struct Step {
    at_s: f64,
    text: String,
}

/// How long a fault was not seen, and how long it was not mended.
#[derive(Debug, Serialize)]
struct Mended {
    what: String,
    /// From the fault until the node showed it to an operator.
    detected_after_s: f64,
    /// From when it could be mended until it was.
    repaired_after_s: f64,
}

/// What is told of a run.
#[derive(Debug, Serialize)]
pub(super) struct Script {
    suite: &'static str,
    seed: u64,
    steps: Vec<Step>,
    times: Vec<Mended>,
    verdicts: Vec<Verdict>,
    /// Counts of the history.
    summary: Value,
    /// What broke the run off.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken_off: Option<String>,
    sound: bool,
    again: String,
    #[serde(skip)]
    began: Instant,
    #[serde(skip)]
    json: bool,
}

impl Script {
    /// Tells the seed.
    pub(super) fn begin(setting: &Setting, suite: &'static str, again: String) -> Self {
        let script = Script {
            suite,
            seed: setting.seed,
            steps: Vec::new(),
            times: Vec::new(),
            verdicts: Vec::new(),
            summary: json!({}),
            broken_off: None,
            sound: false,
            again,
            began: measure::now(),
            json: setting.json,
        };
        script.say(&format!("{suite}: seed {}", setting.seed));
        script
    }

    /// Tells what happens now.
    pub(super) fn step(&mut self, text: impl Into<String>) {
        let (at_s, text) = (self.began.elapsed().as_secs_f64(), text.into());
        self.say(&format!("{at_s:7.2} s  {text}"));
        self.steps.push(Step { at_s, text });
    }

    /// Tells how long something took to be seen and to be mended.
    pub(super) fn mended(&mut self, what: &str, detected_after: Duration, repaired_after: Duration) {
        let (detected_after_s, repaired_after_s) =
            (detected_after.as_secs_f64(), repaired_after.as_secs_f64());
        self.step(format!(
            "{what}: detected after {detected_after_s:.2} s, repaired after {repaired_after_s:.2} s"
        ));
        self.times.push(Mended { what: what.to_owned(), detected_after_s, repaired_after_s });
    }

    /// Adds what a checker found, to what it found before.
    pub(super) fn judged(&mut self, verdict: Verdict) {
        match self.verdicts.iter_mut().find(|other| other.invariant == verdict.invariant) {
            Some(other) => other.join(verdict),
            None => self.verdicts.push(verdict),
        }
        self.verdicts.sort_by_key(|verdict| verdict.invariant);
    }

    /// Whether nothing was violated so far.
    pub(super) fn is_sound(&self) -> bool {
        self.verdicts.iter().all(Verdict::is_sound)
    }

    /// What happened in numbers.
    pub(super) fn sums_up(&mut self, summary: Value) {
        self.summary = summary;
    }

    /// Tells the verdict: whether the run was played to its end and nothing was violated.
    pub(super) fn end(mut self, played: Result<()>) -> Result<bool> {
        self.broken_off = played.err().map(|error| format!("{error:#}"));
        self.sound = self.broken_off.is_none() && self.is_sound() && !self.verdicts.is_empty();
        self.say(&format!("{}: {}", self.suite, self.summary));
        for verdict in &self.verdicts {
            self.say(&format!("  {verdict}"));
        }
        if let Some(error) = &self.broken_off {
            self.say(&format!("  BROKEN OFF  {error}"));
        }
        let ran = self.began.elapsed().as_secs_f64();
        if self.sound {
            self.say(&format!("{}: sound, in {ran:.1} s", self.suite));
        } else {
            self.say(&format!("{}: VIOLATED, in {ran:.1} s. Again: {}", self.suite, self.again));
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&self)?);
        }
        Ok(self.sound)
    }

    /// To people; where machines read standard output, beside it.
    pub(super) fn say(&self, line: &str) {
        if self.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }
}
