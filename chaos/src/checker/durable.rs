//! INV-1 durable: an event that a 200 listed as accepted is in the log, whatever was killed right after it.

use std::collections::HashSet;

use super::Verdict;
use crate::history::{Entry, Outcome, What};
use crate::observed::Observed;

/// Looks for accepted events in the log of the node that accepted them.
pub fn check(history: &[Entry], nodes: &[Observed]) -> Verdict {
    let mut verdict = Verdict::of("INV-1 durable");
    for observed in nodes {
        let log: HashSet<&str> = observed.log.iter().map(String::as_str).collect();
        let mut seen = HashSet::new();
        for entry in history {
            let What::Push { node, device, outcome: Outcome::Ok { accepted, .. }, .. } = &entry.what else {
                continue;
            };
            for event_id in accepted.iter().filter(|id| *node == observed.node && seen.insert(id.as_str())) {
                verdict.looked_at(1);
                if !log.contains(event_id.as_str()) {
                    verdict.violate(|| {
                        let at = entry.at_ms;
                        format!(
                            "{node} accepted event {event_id} of till {device} at {at} ms and has lost it"
                        )
                    });
                }
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::model::tests::{node_with_log, pushed};

    #[test]
    fn what_was_accepted_must_be_in_the_log_of_who_accepted_it() {
        let history = [pushed("shop", &["a", "b"]), pushed("cloud", &["c"])];
        let sound = [node_with_log("shop", &["a", "b"]), node_with_log("cloud", &["c", "x"])];
        assert_eq!((check(&history, &sound).violated, check(&history, &sound).checked), (0, 3));
        let lost = [node_with_log("shop", &["a", "c"]), node_with_log("cloud", &["b", "c"])];
        let verdict = check(&history, &lost);
        assert_eq!(verdict.violated, 1);
        assert!(verdict.evidence[0].contains("event b of till d"), "{verdict}");
    }

    #[test]
    fn what_nobody_was_told_may_be_lost() {
        let mut push = pushed("shop", &["a"]);
        let What::Push { outcome, .. } = &mut push.what else { panic!("a push") };
        *outcome = Outcome::Unknown { status: Some(503) };
        assert!(check(&[push], &[node_with_log("shop", &[])]).is_sound());
    }
}
