//! Times as tills send them, and the clock as a parameter.

use crate::json::Json;
use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};

/// Where the present time comes from: the system's clock in a node, a fixed one in a test.
pub trait Clock: Send + Sync {
    /// The present time.
    fn now(&self) -> DateTime<Utc>;
}

/// Milliseconds of 0001-01-01T00:00:00Z.
const YEAR_1_MS: i64 = -62_135_596_800_000;
/// Milliseconds of 9999-12-31T23:59:59.999Z.
const YEAR_9999_MS: i64 = 253_402_300_799_999;

/// Milliseconds since 1970 or an RFC 3339 text (no zone: UTC), to the millisecond, within the years 1–9999.
pub fn read(value: &Json<'_>) -> Option<DateTime<Utc>> {
    let ms = match value {
        Json::Number(_) => value.as_i64()?,
        Json::String(text) => parse_text(text)?.timestamp_millis(),
        _ => return None,
    };
    (YEAR_1_MS..=YEAR_9999_MS).contains(&ms).then(|| DateTime::from_timestamp_millis(ms)).flatten()
}

fn parse_text(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc).trunc_subsecs(3));
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|time| time.and_utc().trunc_subsecs(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_and_texts() {
        let ms = |text: &str| read(&Json::parse(text).expect("JSON")).map(|t| t.timestamp_millis());
        assert_eq!(ms("1763950000123"), Some(1_763_950_000_123));
        assert_eq!(ms("\"2025-11-24T12:00:00.1239Z\""), Some(1_763_985_600_123));
        assert_eq!(ms("\"2025-11-24T12:00:00\""), Some(1_763_985_600_000));
        assert_eq!(ms("\"2025-11-24T08:00:00-04:00\""), Some(1_763_985_600_000));
        assert_eq!(ms("-62135596800000"), Some(YEAR_1_MS));
        for text in [
            "-62135596800001",
            "253402300800000",
            "\"yesterday\"",
            "1.5",
            "true",
            "\"+20000-01-01T00:00:00Z\"",
        ] {
            assert_eq!(ms(text), None, "{text}");
        }
    }
}
