//! Fiscal series as they are declared, and the numbers of them that this node hands out.
//!
//! A series' counter is one row that one UPDATE moves, in a SERIALIZABLE transaction that is tried again where it meets
//! another one; the constraint on overlapping ranges is the last line. Never here: who owns a series that names no owner
//! (see `velox_protocol::home`), or when a device gets its range again (see `velox_protocol::fiscal`).

mod ledger;
mod ranges;
mod reserve;
mod series;

pub use ledger::{FiscalDuplicate, LedgerFilter, LedgerKey, LedgerRow};
pub use ranges::{FiscalRangeFilter, FiscalRangeRow};
pub use reserve::{Consumed, NewRange, Reported, Reserved};
pub use series::{DeclaredSeries, FiscalSeriesRow, NewSeries};
