//! INV-8 single reconciler: one process at a time compares a store's logs, and one that lost its lease stops.

use serde_json::Value;

use super::Verdict;
use crate::history::{Entry, What};

/// Answers come later than runs end, by no more than this.
const SLACK_MS: u64 = 250;

/// A run that held the lease to its end, by its own account.
struct Run<'a> {
    node: &'a str,
    pod: usize,
    from: u64,
    to: u64,
    report: &'a Value,
}

/// Looks for a run within another one of the same node, store and peer, of which neither says that it lost its lease.
pub fn check(history: &[Entry]) -> Verdict {
    let mut verdict = Verdict::of("INV-8 single reconciler");
    let runs: Vec<Run<'_>> = history.iter().filter_map(run).collect();
    verdict.looked_at(runs.len());
    for outer in &runs {
        let within = |inner: &&Run<'_>| {
            inner.node == outer.node
                && inner.report["storeId"] == outer.report["storeId"]
                && inner.from > outer.from + SLACK_MS
                && inner.to + SLACK_MS < outer.to
        };
        for inner in runs.iter().filter(within) {
            let (node, first, second) = (outer.node, outer.pod, inner.pod);
            verdict.violate(|| {
                format!(
                    "pod {first} of {node} reconciled from {} to {} ms, wrote {} events and did not stop, though pod \
                     {second} was given the lease and reconciled from {} to {} ms",
                    outer.from,
                    outer.to,
                    written(outer.report),
                    inner.from,
                    inner.to
                )
            });
        }
    }
    verdict
}

/// Looks at what a holder says that had written nothing when it fell asleep, and slept until the lease was another's:
/// it must have written nothing since.
pub fn check_woken(pod: usize, report: &Value) -> Verdict {
    let mut verdict = Verdict::of("INV-8 single reconciler");
    verdict.looked_at(1);
    let events = written(report);
    if events > 0 {
        verdict
            .violate(|| format!("pod {pod} wrote {events} events under a lease that had become another's"));
    }
    verdict
}

/// Events of all kinds that a run stored or queued.
fn written(report: &Value) -> u64 {
    let kinds = report.as_object().into_iter().flat_map(|fields| fields.values());
    let counts = kinds.flat_map(|kind| ["replayedToLocal", "replayedToRemote"].map(|name| &kind[name]));
    counts.filter_map(Value::as_u64).sum()
}

fn run(entry: &Entry) -> Option<Run<'_>> {
    let What::Reconcile { node, pod, report } = &entry.what else { return None };
    if report["skipped"] == true || report["reason"].is_string() {
        return None;
    }
    let from = entry.at_ms.saturating_sub(report["durationMs"].as_u64()?);
    Some(Run { node, pod: *pod, from, to: entry.at_ms, report })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ran(node: &str, pod: usize, from: u64, to: u64) -> Entry {
        let report = json!({ "storeId": "s", "durationMs": to - from });
        Entry { at_ms: to, what: What::Reconcile { node: node.into(), pod, report } }
    }

    #[test]
    fn runs_one_after_the_other_and_runs_of_other_nodes_are_sound() {
        let history = [ran("a", 0, 0, 1_000), ran("a", 1, 1_001, 2_000), ran("b", 0, 400, 600)];
        let verdict = check(&history);
        assert_eq!((verdict.violated, verdict.checked), (0, 3), "{verdict}");
    }

    #[test]
    fn a_run_within_another_one_is_found_unless_one_of_them_has_stopped() {
        let mut history = [ran("a", 1, 2_000, 2_100), ran("a", 0, 0, 4_000)];
        let verdict = check(&history);
        assert_eq!(verdict.violated, 1);
        assert!(verdict.evidence[0].starts_with("pod 0 of a reconciled from 0 to 4000 ms"), "{verdict}");
        let What::Reconcile { report, .. } = &mut history[1].what else { panic!("a run") };
        report["skipped"] = json!(true);
        report["reason"] = json!("lease_lost");
        assert!(check(&history).is_sound());
    }

    #[test]
    fn a_holder_that_woke_too_late_must_have_written_nothing() {
        let mut report = json!({ "reason": "lease_lost", "durationMs": 5,
            "sales": { "localMissingCount": 3, "replayedToLocal": 0, "replayedToRemote": 0 } });
        assert!(check_woken(0, &report).is_sound());
        report["sales"]["replayedToLocal"] = json!(3);
        let verdict = check_woken(0, &report);
        assert!(verdict.evidence[0].contains("pod 0 wrote 3 events"), "{verdict}");
    }
}
