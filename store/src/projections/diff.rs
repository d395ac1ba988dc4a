//! What changes between two resolutions of a connected set.

use std::collections::BTreeMap;
use uuid::Uuid;

/// Changes of one table, over all stores of a batch.
#[derive(Debug)]
pub(super) struct Changes<'a, K, V> {
    /// Rows that are new or differ.
    pub(super) written: Vec<(Uuid, &'a K, &'a V)>,
    /// Rows that are no more.
    pub(super) removed: Vec<(Uuid, &'a K)>,
}

impl<'a, K: Ord, V: PartialEq> Changes<'a, K, V> {
    pub(super) fn none() -> Self {
        Changes { written: Vec::new(), removed: Vec::new() }
    }

    pub(super) fn add(&mut self, store_id: Uuid, before: &'a BTreeMap<K, V>, after: &'a BTreeMap<K, V>) {
        let written = after.iter().filter(|(id, row)| before.get(id) != Some(row));
        self.written.extend(written.map(|(id, row)| (store_id, id, row)));
        let removed = before.keys().filter(|id| !after.contains_key(id));
        self.removed.extend(removed.map(|id| (store_id, id)));
    }
}

impl<K, V> Changes<'_, K, V> {
    /// Store and id columns of the removed rows.
    pub(super) fn removed_columns(&self) -> (Vec<Uuid>, Vec<K>)
    where
        K: Copy,
    {
        self.removed.iter().map(|(store, id)| (*store, **id)).unzip()
    }

    /// Store and id columns of the written rows.
    pub(super) fn written_columns(&self) -> (Vec<Uuid>, Vec<K>)
    where
        K: Copy,
    {
        self.written.iter().map(|(store, id, _)| (*store, **id)).unzip()
    }

    /// One column of the written rows.
    pub(super) fn column<'s, T>(&'s self, value: impl Fn(&'s V) -> T) -> Vec<T> {
        self.written.iter().map(|(_, _, row)| value(row)).collect()
    }
}
