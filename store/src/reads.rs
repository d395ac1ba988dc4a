//! What people and tools read of a store: pages of the read tables, and single sales and debts.
//!
//! A list is walked by key, never by offset: rows that appear or go meanwhile move no other row into or out of
//! a page. Rows serialise as they are answered: columns by name, decimals as texts, times with milliseconds.
//! Never here: v1's id lists, whole-store sums, anything that writes.
//!
//! To add a list: 1. its row and filter in a file of its own here, 2. a `read_…` method with keyset order,
//! 3. its route in `node`.

mod cash;
mod catalogue;
mod debts;
mod sales;
mod stock;

pub(crate) use cash::cash_sessions;
pub use cash::{CashLedgerEntryRow, CashLedgerFilter, CashSessionFilter, CashSessionRow, CashSessionStatus};
pub use catalogue::{CustomerRow, ProductFilter, ProductRow};
pub(crate) use catalogue::{customers, products};
pub(crate) use debts::debts;
pub use debts::{DebtFilter, DebtPaymentRow, DebtRow, DebtStatus};
pub use sales::{SaleFilter, SaleItemRow, SaleRow, SaleStatus};
pub(crate) use stock::stock;
pub use stock::{StockFilter, StockKey, StockMovementFilter, StockMovementRow, StockRow};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

/// Milliseconds of 0001-01-01T00:00:00Z, the earliest time that an event can have.
const YEAR_1_MS: i64 = -62_135_596_800_000;
/// Milliseconds of 10000-01-01T00:00:00Z, after the last one.
const YEAR_10000_MS: i64 = 253_402_300_800_000;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<K> {
    /// Behind this key; `None`: from the beginning.
    pub after: Option<K>,
    /// Most rows.
    pub limit: u32,
}

impl<K> PageRequest<K> {
    /// One more than wanted, which tells whether there are more.
    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    pub(crate) fn page<T>(&self, mut items: Vec<T>) -> Page<T> {
        let limit = self.limit as usize;
        let has_more = items.len() > limit;
        items.truncate(limit);
        Page { items, has_more }
    }
}

/// A part of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// Its rows, by key.
    pub items: Vec<T>,
    /// Whether there are more behind the last one.
    pub has_more: bool,
}

/// A row that has a place in a list.
pub trait Listed {
    /// What the list is ordered by; unique in it.
    type Key;

    /// The row's place.
    fn key(&self) -> Self::Key;
}

/// The place in a list that is ordered by time. Serialises as `[milliseconds, id]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "(i64, Uuid)", try_from = "(i64, Uuid)")]
pub struct TimeKey {
    /// The row's time.
    pub at: DateTime<Utc>,
    /// The row's id.
    pub id: Uuid,
}

impl From<TimeKey> for (i64, Uuid) {
    fn from(key: TimeKey) -> Self {
        (key.at.timestamp_millis(), key.id)
    }
}

impl TryFrom<(i64, Uuid)> for TimeKey {
    type Error = &'static str;

    fn try_from((ms, id): (i64, Uuid)) -> Result<Self, Self::Error> {
        let sound = (YEAR_1_MS..YEAR_10000_MS).contains(&ms);
        let at =
            sound.then(|| DateTime::from_timestamp_millis(ms)).flatten().ok_or("a time that no row has")?;
        Ok(TimeKey { at, id })
    }
}

/// A time that all rows follow or all precede.
fn bound(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

/// Where a page by time begins: a key that is always there keeps the index in use.
pub(crate) fn start(after: Option<TimeKey>) -> TimeKey {
    after.unwrap_or_else(|| TimeKey { at: bound(YEAR_1_MS - 1), id: Uuid::nil() })
}

/// A half-open stretch of time; the default is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The first moment of it.
    pub from: DateTime<Utc>,
    /// The first moment behind it.
    pub until: DateTime<Utc>,
}

impl Default for TimeRange {
    fn default() -> Self {
        TimeRange { from: bound(YEAR_1_MS), until: bound(YEAR_10000_MS) }
    }
}

/// RFC 3339 in UTC, always with three decimals.
pub(crate) fn millis<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// As [`millis`], `null` where there is none.
pub(crate) fn optional_millis<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => millis(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_key_survives_and_absurd_ones_are_refused() {
        let key = TimeKey { at: bound(1_763_950_000_123), id: Uuid::from_u128(7) };
        let text = serde_json::to_string(&key).expect("JSON");
        assert_eq!(text, r#"[1763950000123,"00000000-0000-0000-0000-000000000007"]"#);
        assert_eq!(serde_json::from_str::<TimeKey>(&text).expect("a key"), key);
        for ms in [i64::MIN, YEAR_1_MS - 1, YEAR_10000_MS, i64::MAX] {
            let text = format!(r#"[{ms},"00000000-0000-0000-0000-000000000007"]"#);
            assert!(serde_json::from_str::<TimeKey>(&text).is_err(), "{ms}");
        }
    }

    #[test]
    fn one_row_too_many_means_that_there_are_more() {
        let request = PageRequest { after: None::<Uuid>, limit: 2 };
        let page = request.page(vec![1, 2, 3]);
        assert_eq!((page.items, page.has_more), (vec![1, 2], true));
        assert!(!request.page(vec![1, 2]).has_more);
    }
}
