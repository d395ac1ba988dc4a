//! Entries of the cash ledger (rule 6).

use super::sales::Sales;
use super::{Mark, Said, Tables};
use crate::payload::LedgerEntry;
use crate::standing::LedgerRow;
use std::collections::HashMap;
use uuid::Uuid;

/// "Ledger entries by entry_id, and an entry of an absorbed sale is absorbed."
pub(super) fn write(sales: &Sales<'_>, ledger: &[Said<'_, LedgerEntry>], tables: &mut Tables) {
    // Of each entry id: the event that stands for the smallest entry of it.
    let mut stands: HashMap<Uuid, String> = HashMap::new();
    for entry in ledger {
        let of_sale = entry.says.sale().and_then(|sale_id| sales.absorber(sale_id));
        let by = match (stands.get(&entry.says.entry_id), of_sale) {
            (Some(earlier), _) => earlier.clone(),
            (None, Some(sale)) => sale.event_id(),
            (None, None) => entry.event_id(),
        };
        if by == entry.event.key.event_id {
            tables.ledger.insert(entry.says.entry_id, LedgerRow::new(entry.event, entry.says));
        } else {
            tables.exceptions.insert(entry.event_id(), Mark::Absorbed(by.clone()));
        }
        stands.entry(entry.says.entry_id).or_insert(by);
    }
}
