//! Home and owner: what is declared of the store and of its fiscal series.

use super::{Mark, Said, Tables};
use crate::payload::{SeriesDeclaration, StoreDeclaration};
use crate::standing::{DeclaredStore, SeriesRow};
use uuid::Uuid;

/// "Of several declarations the smallest Key stands." The lists are by Key.
pub(super) fn write(
    store_id: Uuid,
    stores: &[Said<'_, StoreDeclaration>],
    series: &[Said<'_, SeriesDeclaration>],
    tables: &mut Tables,
) {
    if let Some((stands, others)) = stores.split_first() {
        tables.stores.insert(store_id, DeclaredStore::new(stands.event, stands.says));
        for other in others {
            tables.exceptions.insert(other.event_id(), Mark::Absorbed(stands.event_id()));
        }
    }
    for one in series {
        match tables.series.get(&one.says.series_id) {
            Some(stands) => {
                tables.exceptions.insert(one.event_id(), Mark::Absorbed(stands.declared_by.clone()));
            }
            None => {
                tables.series.insert(one.says.series_id, SeriesRow::new(one.event, one.says));
            }
        }
    }
}
