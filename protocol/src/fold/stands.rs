//! What stands (rule 3): one definition for sales, debts and payments.

use std::collections::HashMap;
use std::hash::Hash;

/// The events of one kind by their place in the order, the smallest first, and which of them stand.
pub(super) struct Standing<I> {
    /// Of each event: the one that stands for it, itself if it is not absorbed.
    stands: Vec<usize>,
    /// Of each id: the smallest event that bears it.
    smallest: HashMap<I, usize>,
}

impl<I: Eq + Hash> Standing<I> {
    /// `ids`: those of each event, the smallest event first.
    pub(super) fn of(ids: impl IntoIterator<Item = Vec<I>>) -> Self {
        let mut standing = Standing { stands: Vec::new(), smallest: HashMap::new() };
        for (x, ids) in ids.into_iter().enumerate() {
            // "Events of a kind are linked directly by a common id; x is absorbed iff a directly linked y is
            // smaller." Only smaller ones are known as yet, and of each id the smallest is enough.
            let linked = ids.iter().filter_map(|id| standing.smallest.get(id)).min();
            // "stand(x) = x if not absorbed, else stand of the smallest directly linked one."
            let stand = linked.map_or(x, |y| standing.stands[*y]);
            standing.stands.push(stand);
            for id in ids {
                standing.smallest.entry(id).or_insert(x);
            }
        }
        standing
    }

    /// The event that stands for this one.
    pub(super) fn stand(&self, event: usize) -> usize {
        self.stands[event]
    }

    /// Whether another event stands for this one.
    pub(super) fn is_absorbed(&self, event: usize) -> bool {
        self.stands[event] != event
    }

    /// "An id means the stand of the smallest event that bears it."
    pub(super) fn meant(&self, id: &I) -> Option<usize> {
        self.smallest.get(id).map(|event| self.stands[*event])
    }

    /// The smallest event that bears the id.
    pub(super) fn smallest(&self, id: &I) -> Option<usize> {
        self.smallest.get(id).copied()
    }
}
