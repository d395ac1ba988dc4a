//! The system's clock and its source of ids: the one place where the node reads the time or makes an id.

use chrono::{DateTime, Utc};
use uuid::Uuid;
use velox_protocol::time::Clock;

/// The time of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is given")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A new random id.
pub fn fresh_id() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}

/// A new id of an event of that time: a UUIDv7.
pub fn fresh_event_id(now: DateTime<Utc>) -> Uuid {
    let ms = u64::try_from(now.timestamp_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(ms, &rand::random()).into_uuid()
}
