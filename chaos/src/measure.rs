//! Time and numbers of a measurement: the one place that reads the clock, exact percentiles, medians.
//!
//! Never here: what is measured.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// The monotonic clock.
pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    Instant::now()
}

/// The wall clock, for the times that tills write into their events.
pub(crate) fn wall_clock() -> DateTime<Utc> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a till lives in real time, and the node looks at its skew"
    )]
    Utc::now()
}

/// Durations of one kind, all of them kept, so that percentiles are exact.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub(crate) fn extend(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    /// The smallest sample that at least `percent` of all do not exceed, in milliseconds. 0 without samples.
    pub(crate) fn percentile_ms(&self, percent: u32) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent as usize).div_ceil(100).max(1);
        sorted.get(rank - 1).map_or(0.0, |sample| sample.as_secs_f64() * 1e3)
    }
}

/// The middle one, or the mean of the two in the middle. 0 of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Things a second; 0 in no time.
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(ms: impl IntoIterator<Item = u64>) -> Samples {
        Samples(ms.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let hundred = samples((1..=100).rev());
        assert_eq!(hundred.percentile_ms(50), 50.0);
        assert_eq!(hundred.percentile_ms(99), 99.0);
        assert_eq!(hundred.percentile_ms(100), 100.0);
        assert_eq!(samples([7]).percentile_ms(1), 7.0);
        assert_eq!(samples([1, 2, 3]).percentile_ms(50), 2.0);
        assert_eq!(samples([1, 2, 3]).percentile_ms(99), 3.0);
        assert_eq!(Samples::default().percentile_ms(99), 0.0);
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }
}
