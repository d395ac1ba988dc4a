//! Stock events and sums (rule 7). The movements of sales are in `sales.rs`.

use super::{Mark, Said, Tables};
use crate::decimal::Column;
use crate::payload::Stock;
use crate::standing::{MovementRow, StockKey};
use std::collections::HashMap;
use uuid::Uuid;

/// "A stock event's key is its movement_id alone (else event_id; items[]: plus the index): of several the smallest
/// Key stands, the rest are absorbed."
pub(super) fn write(store_id: Uuid, events: &[Said<'_, Stock>], tables: &mut Tables) {
    // Of each key: the smallest event that bears it.
    let mut stands: HashMap<Uuid, &str> = HashMap::new();
    for stock in events {
        let event_id = stock.event.key.event_id.as_str();
        let mut lost_to = None;
        let mut any_stands = stock.says.moves.is_empty();
        for (index, moved) in stock.says.moves.iter().enumerate() {
            let key = stock.says.key(store_id, event_id, index);
            let by = *stands.entry(key).or_insert(event_id);
            if by != event_id {
                lost_to = lost_to.or(Some(by));
                continue;
            }
            any_stands = true;
            let row = MovementRow {
                key: StockKey {
                    product_id: moved.product_id,
                    variant_id: moved.variant_id.unwrap_or(Uuid::nil()),
                    warehouse_id: moved.warehouse_id.unwrap_or(store_id),
                },
                kind: stock.says.kind.name(),
                qty_delta: Column::Quantity.round(moved.qty_delta),
                event_id: event_id.to_owned(),
                sale_id: None,
                created_at: stock.event.key.created_at,
            };
            tables.movements.insert(key, row);
        }
        // An event that still moves something has its own rows, whatever it lost.
        if let (false, Some(by)) = (any_stands, lost_to) {
            tables.exceptions.insert(event_id.to_owned(), Mark::Absorbed(by.to_owned()));
        }
    }
}

/// "stock = Σ qty_delta. A warehouse_stock row exists iff a movement of its key stands."
pub(super) fn sum(tables: &mut Tables) {
    for movement in tables.movements.values() {
        let stock = tables.stock.entry(movement.key).or_default();
        *stock = stock.saturating_add(movement.qty_delta);
    }
}
