//! The system's clock: the one place where the node reads the time.

use chrono::{DateTime, Utc};
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
