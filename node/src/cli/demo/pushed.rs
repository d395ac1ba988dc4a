//! What the tills were told when they pushed, and how fast.

use super::client::Acknowledged;
use super::day::Day;
use super::figures::Difference;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the tills were told.
#[derive(Debug, Default, Serialize)]
pub(super) struct Pushed {
    /// By till, in order.
    pub(super) tills: Vec<PushedByTill>,
    /// Rejected events, by code.
    pub(super) rejected: BTreeMap<String, u64>,
    /// Warnings, by code.
    pub(super) warnings: BTreeMap<String, u64>,
    pub(super) speed: Speed,
    /// Events of the pushes that were repeated.
    pub(super) repeated: u64,
    #[serde(skip)]
    rejected_ids: Vec<String>,
}

/// One till's pushes.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct PushedByTill {
    pub(super) till: String,
    pub(super) pushes: u64,
    pub(super) events: u64,
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) rejected: u64,
}

/// How fast it went.
#[derive(Debug, Default, Serialize)]
pub(super) struct Speed {
    /// From the request to the answer, sorted.
    #[serde(skip)]
    acknowledged: Vec<Duration>,
    pub(super) ack_p50_ms: f64,
    pub(super) ack_p95_ms: f64,
    pub(super) pushing_ms: f64,
    pub(super) events_per_second: f64,
    /// From the last answer until everything was in the read tables.
    pub(super) projected_after_ms: f64,
}

impl Pushed {
    pub(super) fn of(day: &Day) -> Self {
        let till = |name: &str| PushedByTill { till: name.to_owned(), ..PushedByTill::default() };
        Pushed { tills: day.tills.iter().map(|one| till(one.name)).collect(), ..Pushed::default() }
    }

    /// Adds the answers to a till's pushes.
    pub(super) fn count(&mut self, till: usize, answers: Vec<Acknowledged>) {
        for answer in answers {
            let sum = &mut self.tills[till];
            sum.pushes += 1;
            sum.events += answer.events as u64;
            sum.accepted += answer.accepted as u64;
            sum.duplicates += answer.duplicates as u64;
            sum.rejected += answer.rejected.len() as u64;
            for remark in answer.rejected {
                *self.rejected.entry(remark.code).or_default() += 1;
                self.rejected_ids.push(remark.event_id);
            }
            for remark in answer.warnings {
                *self.warnings.entry(remark.code).or_default() += 1;
            }
            self.speed.acknowledged.push(answer.took);
        }
    }

    /// All tills together.
    pub(super) fn total(&self) -> PushedByTill {
        let sum = |part: fn(&PushedByTill) -> u64| self.tills.iter().map(part).sum();
        PushedByTill {
            till: "all".to_owned(),
            pushes: sum(|till| till.pushes),
            events: sum(|till| till.events),
            accepted: sum(|till| till.accepted),
            duplicates: sum(|till| till.duplicates),
            rejected: sum(|till| till.rejected),
        }
    }

    /// Works the speeds out.
    pub(super) fn measure(&mut self, pushing: Duration, projecting: Duration) {
        let events = self.total().events;
        let speed = &mut self.speed;
        speed.acknowledged.sort();
        let rank = |part: usize| {
            let place =
                (speed.acknowledged.len() * part / 100).min(speed.acknowledged.len().saturating_sub(1));
            speed.acknowledged.get(place).copied().unwrap_or_default()
        };
        let (p50, p95) = (rank(50), rank(95));
        let ms = |duration: Duration| (duration.as_secs_f64() * 10_000.0).round() / 10.0;
        speed.ack_p50_ms = ms(p50);
        speed.ack_p95_ms = ms(p95);
        speed.pushing_ms = ms(pushing);
        speed.projected_after_ms = ms(projecting);
        speed.events_per_second = (events as f64 / pushing.as_secs_f64().max(0.001)).round();
    }

    /// What the nodes should have answered otherwise: the one changed event is refused, and what was pushed again
    /// was known.
    pub(super) fn differences(&self, day: &Day) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut compare = |figure: &str, tills: String, node: String| {
            if tills != node {
                found.push(Difference { figure: figure.to_owned(), tills: Some(tills), node: Some(node) });
            }
        };
        compare("rejected events", day.tampered.to_string(), self.rejected_ids.join(", "));
        compare("duplicates", self.repeated.to_string(), self.total().duplicates.to_string());
        for code in ["ABSORBED", "MALFORMED_PAYLOAD", "UNKNOWN_TYPE"] {
            let given = self.warnings.get(code).copied().unwrap_or_default();
            compare(&format!("warnings {code}"), "1".to_owned(), given.to_string());
        }
        found
    }
}
