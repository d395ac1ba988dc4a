//! The suites as an operator runs them: they find a sound node sound, and each kind of broken node broken.
//!
//! They need `velox` beside `velox-chaos`, built with the feature `sabotage`, as `./dev test` builds it.

use serde_json::Value;
use std::process::Output;
use tokio::process::Command;

/// All seeds of these tests: a run that fails names it, and the command that plays it again.
const SEED: &str = "7";
const DURABLE: &str = "INV-1 durable";
const ONCE: &str = "INV-2 once";
const CONVERGENT: &str = "INV-3 convergent";
const ATOMIC: &str = "INV-4 atomic";
const SINGLE: &str = "INV-8 single reconciler";
const OUTAGE: &str = "INV-9 outage costs nothing";

async fn chaos(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_velox-chaos"));
    command.args(arguments).kill_on_drop(true).output().await.expect("a program")
}

/// Plays a suite and reads its report.
async fn play(suite: &[&str]) -> Value {
    told(&[&["run"], suite].concat()).await
}

/// The report of a command, whose verdict the exit code must bear out.
async fn told(command: &[&str]) -> Value {
    let played = chaos(&[command, &["--json", "--seed", SEED]].concat()).await;
    let told = String::from_utf8_lossy(&played.stderr);
    let report: Value =
        serde_json::from_slice(&played.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    let sound = report["sound"].as_bool().expect("a verdict");
    assert_eq!(played.status.code(), Some(if sound { 0 } else { 1 }), "{told}");
    let first = told.lines().next().unwrap_or_default();
    assert!(first.ends_with(&format!("seed {SEED}")), "the seed comes first: {first}");
    report
}

/// The invariants of which something was looked at: those that held, and those that did not.
fn verdicts(report: &Value) -> (Vec<&str>, Vec<&str>) {
    let verdicts = report["verdicts"].as_array().expect("verdicts");
    let named = |held: bool| {
        let mut names: Vec<&str> = verdicts
            .iter()
            .filter(|verdict| verdict["checked"] != 0 && (verdict["violated"] == 0) == held)
            .filter_map(|verdict| verdict["invariant"].as_str())
            .collect();
        names.sort_unstable();
        names
    };
    (named(true), named(false))
}

fn is_sound(report: &Value, proved: &[&str]) {
    assert_eq!(verdicts(report), (proved.to_vec(), Vec::new()), "{report:#}");
    assert_eq!(report["sound"], true, "{report:#}");
}

/// That something was seen and mended, within these seconds.
fn mended(report: &Value, what: &str, detected_s: f64, repaired_s: f64) {
    let times = report["times"].as_array().expect("times");
    let time = times.iter().find(|time| time["what"] == what);
    let time = time.unwrap_or_else(|| panic!("no {what} in {times:?}"));
    let seconds = |name: &str| time[name].as_f64().expect("seconds");
    let (detected, repaired) = (seconds("detected_after_s"), seconds("repaired_after_s"));
    assert!(detected < detected_s && repaired < repaired_s, "{what}: {detected} s, {repaired} s");
}

#[tokio::test]
async fn a_projection_gap_of_a_sale_and_of_a_debt_is_seen_and_healed() {
    let report = play(&["projection-gap"]).await;
    is_sound(&report, &[DURABLE, ONCE, CONVERGENT, ATOMIC, OUTAGE]);
    for list in ["sales", "debts"] {
        // Goals are five minutes and thirty.
        mended(&report, &format!("{list}: no row after a failed projection"), 30.0, 60.0);
        mended(&report, &format!("{list}: a row that vanished"), 30.0, 60.0);
    }
}

#[tokio::test]
async fn a_partition_costs_nothing_and_what_is_on_one_side_only_comes_to_both() {
    let report = play(&["3"]).await;
    assert_eq!(report["suite"], "partition", "by its number");
    is_sound(&report, &[DURABLE, ONCE, CONVERGENT, ATOMIC, SINGLE, OUTAGE]);
    mended(&report, "a peer that timed out", 60.0, 60.0);
    mended(&report, "events on one side only", 60.0, 60.0);
}

#[tokio::test]
async fn a_projection_fails_nine_times_and_is_done_and_ten_times_and_is_dead_and_put_back() {
    let report = play(&["outbox"]).await;
    is_sound(&report, &[DURABLE, ONCE, CONVERGENT, ATOMIC, OUTAGE]);
    mended(&report, "a dead projection, put back", 60.0, 60.0);
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_while_everything_dies_at_random() {
    let history = tempfile::NamedTempFile::new().expect("a file");
    let path = history.path().to_str().expect("a path");
    let report = play(&["crash", "--seconds", "8", "--history", path]).await;
    is_sound(&report, &[DURABLE, ONCE, CONVERGENT, ATOMIC, SINGLE, OUTAGE]);
    let attacks = report["summary"]["faults"].as_u64().expect("a count");
    assert!(attacks > 3, "{report:#}");
    let written = std::fs::read_to_string(path).expect("a history");
    let pushes = written.lines().filter(|line| line.contains(r#""what":"push""#)).count();
    assert!(pushes > 10, "{pushes} pushes in the history");
}

#[tokio::test]
async fn a_soak_counts_gaps_dead_pending_failed_and_server_errors_and_judges() {
    let report = told(&["soak", "--minutes", "0.1"]).await;
    let (held, violated) = verdicts(&report);
    assert!(violated.is_empty() && held.contains(&DURABLE) && held.contains(&OUTAGE), "{report:#}");
    let steps = report["steps"].as_array().expect("steps").iter();
    let figures: Vec<&str> = steps
        .filter_map(|step| step["text"].as_str())
        .filter(|text| text.starts_with("at the end: "))
        .collect();
    for (line, node) in figures.iter().zip(["cloud", "shop"]) {
        let expected = format!("at the end: {node}: gaps 0, dead 0, pending 0, failed 0; of all: events ");
        assert!(line.starts_with(&expected) && line.contains(", 5xx "), "{line}");
    }
    assert_eq!(figures.len(), 2, "{figures:?}");
}

/// What a sound node is told apart from: the same run, of a node that breaks one promise.
async fn finds(suite: &[&str], sabotage: &str, violated: &str) {
    let serve = format!("--serve=--sabotage={sabotage}");
    let report = play(&[suite, &[serve.as_str()]].concat()).await;
    assert_eq!(report["sound"], false);
    assert!(verdicts(&report).1.contains(&violated), "{report:#}");
    assert!(report["broken_off"].is_null(), "{report:#}");
    let again = report["again"].as_str().expect("a command");
    assert!(again.contains(&format!("--seed {SEED}")) && again.contains(&serve), "{again}");
}

#[tokio::test]
async fn the_run_that_finds_broken_nodes_finds_a_sound_one_sound() {
    // Of `partition` the run above is the same.
    let report = play(&["crash", "--seconds", "0"]).await;
    is_sound(&report, &[DURABLE, ONCE, CONVERGENT, ATOMIC, SINGLE, OUTAGE]);
}

#[tokio::test]
async fn a_node_that_answers_before_it_commits_is_found() {
    finds(&["crash", "--seconds", "0"], "ack-before-commit", DURABLE).await;
}

#[tokio::test]
async fn a_node_that_takes_any_200_for_a_delivery_is_found() {
    finds(&["partition"], "delivered-on-any-200", OUTAGE).await;
}

#[tokio::test]
async fn a_node_without_fencing_is_found() {
    finds(&["crash", "--seconds", "0"], "no-fencing", SINGLE).await;
}

#[tokio::test]
async fn a_wrong_call_is_exit_2_and_a_node_that_does_not_start_is_no_proof() {
    assert_eq!(chaos(&["run", "no-such-suite"]).await.status.code(), Some(2));
    let report = play(&["outbox", "--serve=--no-such-flag"]).await;
    assert_eq!(report["sound"], false);
    let why = report["broken_off"].as_str().expect("a reason");
    assert!(why.contains("--no-such-flag"), "{why}");
}
