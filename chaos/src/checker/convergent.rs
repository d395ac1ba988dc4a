//! INV-3 convergent: nodes that hold the same events have the same rows.

use std::collections::BTreeMap;

use super::{Verdict, add_findings};
use crate::observed::{LISTS, Observed};

/// Compares the lists of all nodes with those of the first, row by row.
pub fn check(nodes: &[Observed]) -> Verdict {
    let mut verdict = Verdict::of("INV-3 convergent");
    add_findings(&mut verdict, "INV-3", nodes);
    // `velox verify` folds each log and compares every row.
    verdict.looked_at(nodes.iter().map(|node| node.log.len()).sum());
    let Some((first, others)) = nodes.split_first() else { return verdict };
    for (other, list) in others.iter().flat_map(|other| LISTS.map(|list| (other, list))) {
        // By how often each row is here more than there.
        let mut differences: BTreeMap<String, i64> = BTreeMap::new();
        for (node, step) in [(first, 1), (other, -1)] {
            for row in node.lists.get(list).into_iter().flatten() {
                *differences.entry(row.to_string()).or_default() += step;
            }
        }
        verdict.looked_at(differences.len());
        for (row, times) in differences.into_iter().filter(|(_, times)| *times != 0) {
            let (has, lacks) = if times > 0 { (first, other) } else { (other, first) };
            verdict.violate(|| format!("{list}: {} has and {} has not: {row}", has.node, lacks.node));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::model::tests::node_with_log;
    use serde_json::{Value, json};

    fn node(name: &str, sales: Vec<Value>) -> Observed {
        let mut node = node_with_log(name, &[]);
        node.lists.insert("sales".into(), sales);
        node
    }

    #[test]
    fn rows_may_come_in_another_order_and_in_nothing_else() {
        let rows = || vec![json!({ "id": 1, "total": "2.00" }), json!({ "id": 2, "total": "3.00" })];
        let mut turned = rows();
        turned.reverse();
        assert!(check(&[node("a", rows()), node("b", turned)]).is_sound());
        let mut changed = rows();
        changed[1]["total"] = json!("3.01");
        let verdict = check(&[node("a", rows()), node("b", changed)]);
        assert_eq!(verdict.violated, 2, "{verdict}");
        let verdict = check(&[node("a", rows()), node("b", rows()[..1].to_vec())]);
        assert_eq!(verdict.violated, 1);
        assert!(verdict.evidence[0].starts_with("sales: a has and b has not: "), "{verdict}");
    }

    #[test]
    fn what_velox_verify_finds_counts() {
        let mut wrong = node("a", Vec::new());
        wrong.findings = vec![json!({ "invariant": "INV-3" }), json!({ "invariant": "INV-4" })];
        assert_eq!(check(&[wrong, node("b", Vec::new())]).violated, 1);
    }
}
