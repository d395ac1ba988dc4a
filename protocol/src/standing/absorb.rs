//! Who absorbs whom: an event is absorbed iff a directly linked one is smaller (01, rule 3).

use std::collections::HashMap;
use uuid::Uuid;

/// For every event of a kind the one that stands for it.
pub(super) struct Standing {
    stands: Vec<usize>,
}

impl Standing {
    /// `links[i]`: the ids of the i-th smallest event, each in its name space.
    pub(super) fn new(links: &[Vec<(u8, Uuid)>]) -> Self {
        let mut smallest: HashMap<(u8, Uuid), usize> = HashMap::new();
        for (i, ids) in links.iter().enumerate() {
            for id in ids {
                smallest.entry(*id).or_insert(i);
            }
        }
        let mut stands = Vec::with_capacity(links.len());
        for (i, ids) in links.iter().enumerate() {
            let linked = ids.iter().map(|id| smallest[id]).min().unwrap_or(i);
            // Linked ones are smaller, so theirs is known already.
            stands.push(if linked < i { stands[linked] } else { i });
        }
        Standing { stands }
    }

    /// The event that stands for the i-th: itself if it is not absorbed.
    pub(super) fn of(&self, i: usize) -> usize {
        self.stands[i]
    }
}
