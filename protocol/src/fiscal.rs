//! Fiscal numbers: how many a device gets, when it gets the same ones again, and what has become of each.
//!
//! A v1 till overwrites its count with every answer, so a range that it may have used offline must never be answered
//! with an older count. Never here: the numbers themselves, which a database hands out.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

/// Numbers of a range where the device names no quantity.
pub const DEFAULT_QUANTITY: i64 = 50;
/// Most numbers of a range: what one till can lose by going away.
pub const MAX_QUANTITY: i64 = 10_000;
/// The greatest number of a series: fifteen digits, which every program reads as they are.
pub const LAST_NUMBER: i64 = 999_999_999_999_999;
/// For so long after its grant a range is taken for unused.
const FRESH: TimeDelta = TimeDelta::seconds(60);
/// Numbers that are passed over by the first grant after a restore, beyond all that is known: ranges that tills hold and
/// have not used stand in no event.
const LEAP_AFTER_RESTORE: i64 = 10_000;

/// Whether numbers of a range may still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// They may.
    Active,
    /// All are used, or the device has got another range.
    Exhausted,
    /// Its time is over.
    Expired,
}

/// A range as decisions see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Its first number.
    pub start: i64,
    /// Its last number.
    pub end: i64,
    /// The last one that is known to be used; `start - 1`: none.
    pub used_up_to: i64,
    /// Whether it may be used.
    pub status: Status,
    /// When it was granted.
    pub granted_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// Whether the device has told how far it has come.
    pub reported: bool,
}

/// What a request for a range comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// The range that the device has.
    Same,
    /// Another one; that which it has is closed so.
    Fresh(Status),
}

/// What has become of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberState {
    /// Nobody has got it.
    Free,
    /// A device has it, and may have used it.
    Held,
    /// On a sale.
    Issued,
    /// On a sale that was voided.
    Voided,
    /// Its range ended before anybody used it: a gap for ever, unless a late sale bears it.
    Expired,
    /// It was used or passed over, and no sale bears it.
    Lost,
}

impl Range {
    /// Whether its numbers may be handed out at this time.
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        self.status == Status::Active && now < self.expires_at
    }

    /// Numbers that are left.
    pub fn remaining(&self) -> i64 {
        self.end - self.used_up_to
    }

    /// The next number to be used; `None`: there is none.
    pub fn next(&self, now: DateTime<Utc>) -> Option<i64> {
        (self.is_active(now) && self.used_up_to < self.end).then_some(self.used_up_to + 1)
    }

    /// What the device gets that has this range and asks for one.
    pub fn asked_again(&self, now: DateTime<Utc>) -> Grant {
        if now >= self.expires_at {
            Grant::Fresh(Status::Expired)
        } else if self.next(now).is_some() && self.is_fresh(now) {
            Grant::Same
        } else {
            Grant::Fresh(Status::Exhausted)
        }
    }

    /// Whether the device may go on with this range by what the node knows of it: not where it may have used numbers
    /// since that the node has not heard of.
    pub fn is_shown(&self, now: DateTime<Utc>) -> bool {
        self.is_active(now) && (self.reported || self.is_fresh(now))
    }

    /// What has become of one of its numbers. `sold`: a sale bears it; `voided`: and each such sale is voided.
    pub fn state_of(&self, number: i64, now: DateTime<Utc>, sold: bool, voided: bool) -> NumberState {
        match (sold, voided) {
            (true, false) => NumberState::Issued,
            (true, true) => NumberState::Voided,
            // Whoever has it may be offline, and what it has sold is on its way.
            _ if now < self.expires_at => NumberState::Held,
            _ if number <= self.used_up_to => NumberState::Lost,
            _ => NumberState::Expired,
        }
    }

    /// Whether it was granted just now.
    fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        now - self.granted_at <= FRESH
    }
}

impl NumberState {
    /// The name, as it is shown.
    pub fn name(self) -> &'static str {
        match self {
            NumberState::Free => "free",
            NumberState::Held => "held",
            NumberState::Issued => "issued",
            NumberState::Voided => "voided",
            NumberState::Expired => "expired",
            NumberState::Lost => "lost",
        }
    }
}

impl Status {
    /// The name, as it is stored and sent.
    pub fn name(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Exhausted => "exhausted",
            Status::Expired => "expired",
        }
    }

    /// The status of that name.
    pub fn of(name: &str) -> Option<Self> {
        [Status::Active, Status::Exhausted, Status::Expired].into_iter().find(|status| status.name() == name)
    }
}

/// How many numbers are granted; `None`: no sound request.
pub fn quantity(asked: Option<i64>) -> Option<i64> {
    let asked = asked.unwrap_or(DEFAULT_QUANTITY);
    (1..=MAX_QUANTITY).contains(&asked).then_some(asked)
}

/// The least number that may be granted. `declared`: the series' first one. `known`: the greatest number that any sale
/// of the series bears, to be given after a restore. `leaps`: it is the series' first grant since.
pub fn floor(declared: i64, known: Option<i64>, next: i64, leaps: bool) -> i64 {
    let above = known.map_or(next, |known| next.max(known.saturating_add(1))).max(declared);
    if leaps { above.saturating_add(LEAP_AFTER_RESTORE) } else { above }
}

/// Whether so many numbers from `start` on are within a series.
pub fn fits(start: i64, quantity: i64) -> bool {
    start.checked_add(quantity).is_some_and(|end| end - 1 <= LAST_NUMBER)
}

/// The payload of a FiscalSeriesDeclared, as JSON text. Without `owner` the store's home owns it.
pub fn declaration(
    series_id: &str,
    name: &str,
    prefix: &str,
    next_number: i64,
    owner: Option<&str>,
) -> String {
    let mut payload =
        json!({ "series_id": series_id, "name": name, "prefix": prefix, "next_number": next_number });
    if let Some(owner) = owner {
        payload["owner_node"] = json!(owner);
    }
    payload.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_763_950_000 + seconds, 0).expect("a time")
    }

    fn range() -> Range {
        let (status, granted_at, expires_at) = (Status::Active, at(0), at(86_400));
        Range { start: 1, end: 50, used_up_to: 0, status, granted_at, expires_at, reported: false }
    }

    #[test]
    fn fifty_numbers_where_none_are_named_and_none_for_an_absurd_request() {
        assert_eq!(quantity(None), Some(50));
        for sound in [1, 2, MAX_QUANTITY] {
            assert_eq!(quantity(Some(sound)), Some(sound));
        }
        for absurd in [0, -1, MAX_QUANTITY + 1, i64::MAX, i64::MIN] {
            assert_eq!(quantity(Some(absurd)), None, "{absurd}");
        }
    }

    #[test]
    fn the_same_range_again_within_a_minute_of_its_grant_and_never_after() {
        assert_eq!(range().asked_again(at(0)), Grant::Same);
        assert_eq!(range().asked_again(at(60)), Grant::Same);
        assert_eq!(range().asked_again(at(61)), Grant::Fresh(Status::Exhausted));
        assert_eq!(range().asked_again(at(86_400)), Grant::Fresh(Status::Expired));
        // Reports change nothing: the till may have gone on since.
        assert_eq!(Range { reported: true, ..range() }.asked_again(at(61)), Grant::Fresh(Status::Exhausted));
        let used_up = Range { used_up_to: 50, ..range() };
        assert_eq!(used_up.asked_again(at(1)), Grant::Fresh(Status::Exhausted));
        let closed = Range { status: Status::Exhausted, ..range() };
        assert_eq!(closed.asked_again(at(1)), Grant::Fresh(Status::Exhausted));
    }

    #[test]
    fn an_old_range_is_shown_to_a_device_that_has_reported_on_it_alone() {
        assert!(range().is_shown(at(60)));
        assert!(!range().is_shown(at(61)));
        assert!(Range { reported: true, ..range() }.is_shown(at(61)));
        assert!(!Range { reported: true, ..range() }.is_shown(at(86_400)));
    }

    #[test]
    fn numbers_come_one_after_the_other_until_the_range_or_its_time_is_over() {
        assert_eq!(range().next(at(0)), Some(1));
        assert_eq!(Range { used_up_to: 49, ..range() }.next(at(0)), Some(50));
        assert_eq!(Range { used_up_to: 50, ..range() }.next(at(0)), None);
        assert_eq!(range().next(at(86_400)), None);
        assert_eq!(range().remaining(), 50);
    }

    #[test]
    fn a_number_is_in_one_state_and_a_late_sale_moves_it_to_issued() {
        let range = Range { used_up_to: 10, ..range() };
        let state = |number, seconds, sold, voided| range.state_of(number, at(seconds), sold, voided).name();
        assert_eq!(state(5, 0, false, false), "held");
        assert_eq!(state(11, 0, false, false), "held");
        assert_eq!(state(5, 86_400, false, false), "lost");
        assert_eq!(state(11, 86_400, false, false), "expired");
        for seconds in [0, 86_400, 10_000_000] {
            assert_eq!(state(11, seconds, true, false), "issued");
            assert_eq!(state(11, seconds, true, true), "voided");
        }
    }

    #[test]
    fn after_a_restore_a_grant_begins_above_all_that_is_known() {
        assert_eq!(floor(1, None, 7, false), 7);
        assert_eq!(floor(9, None, 7, false), 9);
        assert_eq!(floor(1, Some(40), 7, false), 41);
        assert_eq!(floor(1, Some(3), 7, false), 7);
        assert_eq!(floor(1, Some(40), 7, true), 10_041);
        assert!(!fits(floor(1, Some(i64::MAX), 7, true), 1));
        assert!(fits(LAST_NUMBER, 1) && !fits(LAST_NUMBER, 2));
    }

    #[test]
    fn a_status_is_read_as_it_is_written() {
        for status in [Status::Active, Status::Exhausted, Status::Expired] {
            assert_eq!(Status::of(status.name()), Some(status));
        }
        assert_eq!(Status::of("free"), None);
    }
}
