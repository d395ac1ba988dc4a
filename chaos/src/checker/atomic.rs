//! INV-4 atomic: an event has its entries, and what is done has its rows.

use super::{Verdict, add_findings};
use crate::observed::Observed;

/// Looks for gaps that the healer found, and for projections that are left or dead.
pub fn check(nodes: &[Observed]) -> Verdict {
    let mut verdict = Verdict::of("INV-4 atomic");
    add_findings(&mut verdict, "INV-4", nodes);
    for node in nodes {
        let name = &node.node;
        verdict.looked_at(node.log.len());
        for gap in node.healed["details"].as_array().into_iter().flatten() {
            verdict.violate(|| format!("{name}: an event had no rows until it was healed by hand: {gap}"));
        }
        for entry in node.entries.iter().filter(|entry| entry["target"] == "projection") {
            verdict.violate(|| format!("{name}: a projection is left: {entry}"));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::model::tests::node_with_log;
    use serde_json::json;

    #[test]
    fn gaps_and_projections_that_are_left_are_found() {
        let mut node = node_with_log("shop", &["a"]);
        node.healed = json!({ "checked": 1, "healed": 0, "failed": 0, "details": [] });
        // What waits for a peer is no projection.
        node.entries = vec![json!({ "target": "federation-relay", "status": "pending" })];
        assert!(check(std::slice::from_ref(&node)).is_sound());
        node.healed["details"] = json!([{ "event_id": "a", "status": "healed" }]);
        node.entries.push(json!({ "target": "projection", "status": "dead" }));
        node.findings = vec![json!({ "invariant": "INV-4" })];
        assert_eq!(check(&[node]).violated, 3);
    }
}
