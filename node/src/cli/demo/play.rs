//! The order in which the tills push their day: the morning, two tills all day, one that comes back from half a
//! day offline, and a push whose answer was lost.

use super::client::{Acknowledged, Caller};
use super::day::{Day, OFFLINE};
use super::figures::Difference;
use super::progress::Progress;
use super::till::{Queued, Till};
use futures_util::future::try_join_all;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How many events a till has queued whenever it pushes: mostly one sale, sometimes more.
const BATCHES: [usize; 8] = [2, 1, 5, 1, 2, 12, 3, 25];
/// Events of the morning's pushes.
const OPENING_BATCH: usize = 40;

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
    /// Events of the push that was repeated.
    repeated: u64,
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

/// Registers the shop and its tills, and pushes the day; done when all of it is in the read tables.
pub(super) async fn play(day: &Day, admin: &Caller, progress: &Progress) -> anyhow::Result<Pushed> {
    progress.say("registering the shop and its three tills");
    admin.add_store().await?;
    let callers = try_join_all(day.tills.iter().map(|till| admin.add_device(till.device_id))).await?;
    let mut pushed = Pushed::default();
    for till in &day.tills {
        pushed.tills.push(PushedByTill { till: till.name.to_owned(), ..PushedByTill::default() });
    }
    let begun = Instant::now();
    progress.say("pushing the morning: products, customers, stock");
    let (morning, rest) = day.tills[0].queue.split_at(day.opening);
    let answers = push_in(&callers[0], &day.tills[0], morning, &[OPENING_BATCH]).await?;
    pushed.count(0, answers);
    let (before, offline) = day.tills[OFFLINE].queue.split_at(day.online);
    progress.say("pushing the day: two tills online, the third one loses its connection");
    let online = [(0, rest), (1, &day.tills[1].queue[..]), (OFFLINE, before)];
    let all = online.map(|(till, queue)| push_in(&callers[till], &day.tills[till], queue, &BATCHES));
    for (answers, (till, _)) in try_join_all(all).await?.into_iter().zip(online) {
        pushed.count(till, answers);
    }
    progress.say(&format!("the third till is back: {} events at once", offline.len()));
    pushed.count(
        OFFLINE,
        push_in(&callers[OFFLINE], &day.tills[OFFLINE], offline, &[offline.len().max(1)]).await?,
    );
    let last = &rest[rest.len().saturating_sub(20)..];
    progress.say("the first till has lost an answer and pushes again");
    pushed.repeated = last.len() as u64;
    pushed.count(0, push_in(&callers[0], &day.tills[0], last, &[20]).await?);
    let answered = Instant::now();
    progress.say("waiting until everything is in the read tables");
    try_join_all(
        callers.iter().zip(&day.tills).map(|(caller, till)| caller.wait_until_projected(till.device_id)),
    )
    .await?;
    pushed.measure(answered - begun, answered.elapsed());
    Ok(pushed)
}

/// Pushes a queue in batches of these sizes, over and over.
async fn push_in(
    caller: &Caller,
    till: &Till,
    mut queue: &[Queued],
    sizes: &[usize],
) -> anyhow::Result<Vec<Acknowledged>> {
    let mut answers = Vec::new();
    for size in sizes.iter().cycle() {
        if queue.is_empty() {
            break;
        }
        let (batch, rest) = queue.split_at(queue.len().min(*size));
        answers.push(caller.push(till.device_id, batch).await?);
        queue = rest;
    }
    Ok(answers)
}

impl Pushed {
    fn count(&mut self, till: usize, answers: Vec<Acknowledged>) {
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

    fn measure(&mut self, pushing: Duration, projecting: Duration) {
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

    /// What the node should have answered otherwise: the one changed event is refused, and what was pushed again
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
