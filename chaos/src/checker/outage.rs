//! INV-9 outage costs nothing: whatever the link did, no relay entry is dead, and nothing is taken for delivered that
//! the peer does not have.

use std::collections::HashSet;

use super::Verdict;
use crate::history::{self, Entry};
use crate::observed::Observed;

/// Looks for dead relays, and for accepted events that a node lacks though nobody means to send them.
pub fn check(history: &[Entry], nodes: &[Observed]) -> Verdict {
    let mut verdict = Verdict::of("INV-9 outage costs nothing");
    let logs: Vec<HashSet<&str>> =
        nodes.iter().map(|node| node.log.iter().map(String::as_str).collect()).collect();
    for node in nodes {
        for entry in node.entries.iter().filter(|entry| entry["target"] == "federation-relay") {
            if entry["status"] == "dead" {
                verdict.violate(|| format!("{}: a relay entry is dead: {entry}", node.node));
            }
        }
    }
    let waiting: HashSet<&str> = nodes
        .iter()
        .flat_map(|node| &node.entries)
        .filter(|entry| entry["target"] == "federation-relay")
        .filter_map(|entry| entry["event_id"].as_str())
        .collect();
    for event_id in history::accepted(history) {
        verdict.looked_at(1);
        // One that nobody has is lost, which is not the link's fault.
        let Some(has) = logs.iter().position(|log| log.contains(event_id)) else { continue };
        for lacks in (0..nodes.len()).filter(|&node| !logs[node].contains(event_id)) {
            if !waiting.contains(event_id) {
                let (has, lacks) = (&nodes[has].node, &nodes[lacks].node);
                verdict.violate(|| {
                    format!("{has} has event {event_id}, {lacks} lacks it, and nobody is to send it")
                });
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::model::tests::{node_with_log, pushed};
    use serde_json::json;

    #[test]
    fn an_event_that_is_still_to_be_sent_may_be_missing_and_no_other() {
        let history = [pushed("a", &["x", "y"])];
        let mut nodes = [node_with_log("a", &["x", "y"]), node_with_log("b", &["x"])];
        nodes[0].entries =
            vec![json!({ "target": "federation-relay", "status": "pending", "event_id": "y" })];
        assert!(check(&history, &nodes).is_sound());
        nodes[0].entries.clear();
        let verdict = check(&history, &nodes);
        assert!(verdict.evidence[0].starts_with("a has event y, b lacks it"), "{verdict}");
        // What both have lost is another invariant's.
        let lost = [node_with_log("a", &["x"]), node_with_log("b", &["x"])];
        assert!(check(&history, &lost).is_sound());
    }

    #[test]
    fn a_dead_relay_is_found() {
        let mut node = node_with_log("a", &["x"]);
        node.entries = vec![json!({ "target": "federation-relay", "status": "dead", "event_id": "x" })];
        assert_eq!(check(&[], &[node]).violated, 1);
    }
}
