//! The verdict: from the facts of both sides to a letter, a cause and a command, a kind at a time.
//!
//! It rests on what is in logs and tables, and on what projecting would do now; not on what queues and exceptions say,
//! which may be lost as well.

use super::{Compared, EXAMPLES, Facts, Kind, KindFacts, LastError, Missing, PeerFacts};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;
use uuid::Uuid;

/// How this node is called in reports.
pub const HERE: &str = "this node";
/// What `velox heal` looks at: older or more than this is for `velox triage --fix`.
const HEALED_AT_ONCE: u64 = 50;
const HEALED_FOR: TimeDelta = TimeDelta::days(7);

/// What is wrong; the graver ones first, since the others may only follow from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
pub enum Letter {
    /// The tables are not as the program needs them.
    C,
    /// Projecting fails on the data.
    D,
    /// Events arrived and are not projected.
    B,
    /// Events never reached the other node.
    A,
    /// Nothing.
    #[serde(rename = "OK")]
    Ok,
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Letter::A => "A",
            Letter::B => "B",
            Letter::C => "C",
            Letter::D => "D",
            Letter::Ok => "OK",
        })
    }
}

/// What is wrong with a store, on both nodes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Report {
    /// The shop.
    pub store_id: Uuid,
    /// When it was looked at.
    pub generated_at: DateTime<Utc>,
    /// The gravest of all kinds.
    pub verdict: Letter,
    /// For people.
    pub cause: String,
    /// What repairs it; `null`: nothing is to be done.
    pub command: Option<String>,
    /// By the name of the kind.
    pub kinds: BTreeMap<&'static str, KindVerdict>,
    /// What each node has told; this one first.
    pub nodes: Vec<NodeReport>,
}

/// What is wrong with one kind.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct KindVerdict {
    /// The letter.
    pub verdict: Letter,
    /// For people.
    pub cause: String,
    /// Since when; `null`: that is not known, or nothing is wrong.
    pub since: Option<DateTime<Utc>>,
    /// How many it is about.
    pub count: u64,
    /// Where it is wrong; `null`: nowhere.
    pub node: Option<String>,
    /// Events of 30 days at this node.
    pub events: u64,
    /// Distinct entities that they are about.
    pub entities: u64,
    /// Rows at this node.
    pub rows: Option<u64>,
    /// Events without their rows at this node.
    pub missing_rows: Option<u64>,
    /// Events that this node lacks and a peer has.
    pub missing_here: u64,
    /// Events that a peer lacks and this node has.
    pub missing_there: u64,
    /// Events at this node whose projection has failed or would fail.
    pub failed: u64,
    /// Events that wait for their projector at this node.
    pub pending: u64,
    /// What it rests on, a sentence each.
    pub evidence: Vec<String>,
    /// What repairs it.
    pub command: Option<String>,
}

/// What a node has told.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NodeReport {
    /// `this node`, or the peer's name.
    pub name: String,
    /// Whether it answered.
    pub reachable: bool,
    /// Why it could not be asked for everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it knows; absent where it could not be asked.
    #[serde(flatten)]
    pub facts: Option<Facts>,
}

/// Something wrong with one kind at one node.
struct Finding {
    letter: Letter,
    node: String,
    count: u64,
    since: Option<DateTime<Utc>>,
    cause: String,
    /// Whether `velox heal` or `velox reconcile` here cannot do all of it.
    is_for_fix: bool,
}

impl Report {
    /// The verdict on what this node and its peers have told.
    pub fn of(store_id: Uuid, now: DateTime<Utc>, ours: Facts, peers: Vec<PeerFacts>) -> Report {
        let kinds: BTreeMap<Kind, KindVerdict> =
            Kind::ALL.into_iter().map(|kind| (kind, verdict(kind, (store_id, now), &ours, &peers))).collect();
        let letter = kinds.values().map(|kind| kind.verdict).min().unwrap_or(Letter::Ok);
        let worst = || kinds.values().filter(|kind| kind.verdict == letter && letter != Letter::Ok);
        let commands: Vec<&String> = kinds.values().filter_map(|kind| kind.command.as_ref()).collect();
        let command = match commands.as_slice() {
            [] => None,
            [first, rest @ ..] if rest.iter().all(|other| other == first) => Some((*first).clone()),
            _ => Some(fix(store_id)),
        };
        let mut causes: Vec<&str> = worst().map(|kind| kind.cause.as_str()).take(3).collect();
        let more = worst().count().saturating_sub(3);
        let more = format!("The same holds for {more} other kinds.");
        if worst().count() > 3 {
            causes.push(&more);
        }
        // Who cannot be reached at all is told with what waits for it.
        let reached: Vec<PeerFacts> = peers.iter().filter(|peer| peer.reachable).cloned().collect();
        let beside = unasked(&ours, &reached);
        let unasked = unasked(&ours, &peers);
        let cause = match (letter, unasked.is_empty()) {
            (Letter::Ok, true) if peers.is_empty() => {
                "Nothing is wrong at this node. It has no peers.".to_owned()
            }
            (Letter::Ok, true) => {
                "Nothing is wrong: all nodes have the same events, and rows for them.".to_owned()
            }
            (Letter::Ok, false) => format!("Nothing wrong is known. {}", unasked.join(" ")),
            _ => {
                let beside = beside.iter().map(String::as_str);
                causes.iter().copied().chain(beside).collect::<Vec<_>>().join(" ")
            }
        };
        let here = NodeReport { name: HERE.to_owned(), reachable: true, error: None, facts: Some(ours) };
        let there = peers.into_iter().map(|peer| NodeReport {
            name: peer.name,
            reachable: peer.reachable,
            error: peer.error,
            facts: peer.facts,
        });
        Report {
            store_id,
            generated_at: now,
            verdict: letter,
            cause,
            command,
            kinds: kinds.into_iter().map(|(kind, verdict)| (kind.name(), verdict)).collect(),
            nodes: std::iter::once(here).chain(there).collect(),
        }
    }

    /// Nothing is wrong, and everybody could be asked.
    pub fn is_fine(&self) -> bool {
        let is_told = |node: &NodeReport| {
            let answered = node.facts.as_ref().is_none_or(|facts| facts.unanswered.is_empty());
            node.reachable && node.error.is_none() && answered
        };
        self.verdict == Letter::Ok && self.nodes.iter().all(is_told)
    }

    /// The kinds that are not in order, the gravest first.
    pub fn wrong(&self) -> Vec<(Kind, &KindVerdict)> {
        let of = |kind: Kind| self.kinds.get(kind.name()).map(|verdict| (kind, verdict));
        let mut wrong: Vec<_> =
            Kind::ALL.into_iter().filter_map(of).filter(|(_, kind)| kind.verdict != Letter::Ok).collect();
        wrong.sort_by_key(|(kind, verdict)| (verdict.verdict, *kind));
        wrong
    }
}

/// Who could not be asked, or not for everything.
fn unasked(ours: &Facts, peers: &[PeerFacts]) -> Vec<String> {
    let silent = peers.iter().filter_map(|peer| {
        Some(format!("{} cannot be asked for everything: {}.", peer.name, peer.error.as_deref()?))
    });
    let told = peers.iter().filter_map(|peer| Some((peer.name.as_str(), peer.facts.as_ref()?)));
    let unanswered = std::iter::once((HERE, ours)).chain(told).filter_map(|(name, facts)| {
        let question = facts.unanswered.first()?;
        Some(format!("The database of {name} has not answered everything: {question}."))
    });
    silent.chain(unanswered).collect()
}

fn fix(store_id: Uuid) -> String {
    format!("velox triage --store {store_id} --fix")
}

/// The verdict on one kind.
fn verdict(
    kind: Kind,
    (store_id, now): (Uuid, DateTime<Utc>),
    ours: &Facts,
    peers: &[PeerFacts],
) -> KindVerdict {
    let mut findings = at_node(kind, HERE, ours, now);
    for peer in peers {
        if let Some(facts) = &peer.facts {
            findings.extend(
                at_node(kind, &peer.name, facts, now)
                    .into_iter()
                    .map(|found| Finding { is_for_fix: true, ..found }),
            );
        }
        findings.extend(between(kind, peer));
    }
    // The gravest; of several nodes the one with the most.
    findings.sort_by_key(|found| (found.letter, std::cmp::Reverse(found.count)));
    let own = ours.kinds.get(kind.name()).cloned().unwrap_or_default();
    let lacking = |side: fn(&Compared) -> &BTreeMap<String, Missing>| -> u64 {
        let compared = peers.iter().filter_map(|peer| peer.compared.as_ref());
        compared
            .filter_map(|compared| side(compared).get(kind.name()))
            .map(|missing| missing.count)
            .max()
            .unwrap_or(0)
    };
    let worst = findings.first();
    let evidence = evidence(kind, ours, peers);
    KindVerdict {
        verdict: worst.map_or(Letter::Ok, |found| found.letter),
        cause: match worst {
            None => "Nothing is wrong.".to_owned(),
            Some(worst) => {
                let same = findings.iter().filter(|found| found.letter == worst.letter);
                same.map(|found| found.cause.as_str()).collect::<Vec<_>>().join(" ")
            }
        },
        since: findings
            .iter()
            .filter(|found| worst.is_some_and(|w| w.letter == found.letter))
            .filter_map(|f| f.since)
            .min(),
        count: worst.map_or(0, |found| found.count),
        node: worst.map(|found| found.node.clone()),
        events: own.events,
        entities: own.entities,
        rows: own.rows,
        missing_rows: own.missing_rows,
        missing_here: lacking(|compared| &compared.missing_here),
        missing_there: lacking(|compared| &compared.missing_there),
        failed: own.failed.max(own.would_fail),
        pending: own.pending,
        evidence,
        command: command(store_id, &findings),
    }
}

fn command(store_id: Uuid, findings: &[Finding]) -> Option<String> {
    let first = findings.first()?;
    let all_same = findings.iter().all(|found| found.letter == first.letter);
    Some(match first.letter {
        Letter::A if all_same => format!("velox reconcile --store {store_id}"),
        Letter::B if all_same && !findings.iter().any(|found| found.is_for_fix) => {
            format!("velox heal --store {store_id}")
        }
        _ => fix(store_id),
    })
}

/// What is wrong with a kind at one node, whatever the others have.
fn at_node(kind: Kind, node: &str, facts: &Facts, now: DateTime<Utc>) -> Vec<Finding> {
    let of_kind = facts.kinds.get(kind.name()).cloned().unwrap_or_default();
    let KindFacts {
        stuck, since, would_fail, schema_faults, marks_lost, untried, missing_rows, errors, ..
    } = of_kind;
    // A healer looks for missing rows, of some days, and at some of them.
    let is_old = since.is_some_and(|since| now - since > HEALED_FOR);
    let are_gaps = missing_rows == Some(stuck.saturating_sub(marks_lost));
    let mut findings = Vec::new();
    let mut add = |letter, count, cause| {
        let is_for_fix = letter != Letter::B || count > HEALED_AT_ONCE || is_old || !are_gaps;
        findings.push(Finding { letter, node: node.to_owned(), count, since, cause, is_for_fix });
    };
    let broken: Vec<&str> = facts
        .schema_differences
        .iter()
        .filter(|difference| Kind::of_table(&difference.table).contains(&kind))
        .map(|difference| difference.what.as_str())
        .collect();
    // Where some fail, nobody knows of those that were not tried that nothing is wrong with them.
    let (unknown, others) = match (would_fail, untried) {
        (0, _) | (_, 0) => (0, String::new()),
        _ => (untried, format!(" {untried} others could not be tried.")),
    };
    let first_error = || errors.first().map_or("", |failing| failing.error.as_str());
    if !broken.is_empty() || schema_faults > 0 {
        let what = if broken.is_empty() {
            first_error().to_owned()
        } else {
            let more = broken.len().saturating_sub(EXAMPLES);
            let shown = broken[..broken.len() - more].join("; ");
            if more > 0 { format!("{shown}; and {more} more") } else { shown }
        };
        let harm = match stuck {
            0 => format!("{} may not be shown until that is mended.", capital(kind.plural())),
            some => format!("{} cannot be shown until that is mended.", kind.counted(some)),
        };
        let others = if schema_faults > 0 { others.as_str() } else { "" };
        let cause = format!("At {node} the tables are not as the program needs them: {what}. {harm}{others}");
        add(Letter::C, if stuck > 0 { stuck } else { broken.len() as u64 }, cause);
    }
    let failing = would_fail.saturating_sub(schema_faults);
    if failing > 0 {
        let cause = format!(
            "{} came to {node} and cannot be shown, because of what they say: {}.{others}",
            kind.counted(failing),
            first_error().trim_end_matches('.')
        );
        add(Letter::D, failing, cause);
    }
    let healthy = stuck.saturating_sub(would_fail + marks_lost + unknown);
    if healthy > 0 {
        let state = match untried - unknown {
            0 => "The events are there and nothing is wrong with them".to_owned(),
            untried => format!("The events are there, and {untried} of them could not be tried"),
        };
        let cause = format!(
            "{} came to {node} and are missing in its tables. {state}: whoever should have shown them did not.",
            kind.counted(healthy)
        );
        add(Letter::B, healthy, cause);
    }
    findings
}

/// What one side lacks.
fn between(kind: Kind, peer: &PeerFacts) -> Vec<Finding> {
    let name = &peer.name;
    let finding = |node: &str, missing: &Missing, cause: String| Finding {
        letter: Letter::A,
        node: node.to_owned(),
        count: missing.count,
        since: missing.since,
        cause,
        is_for_fix: false,
    };
    let Some(compared) = &peer.compared else {
        let waiting = peer.waiting.get(kind.name()).filter(|waiting| waiting.count > 0);
        return waiting
            .map(|waiting| {
                let reason = peer.error.as_deref().unwrap_or("no answer");
                let since = peer
                    .last_success_at
                    .map(|at| format!(" It last answered at {}.", at.format("%Y-%m-%d %H:%M UTC")))
                    .unwrap_or_default();
                let many = kind.counted(waiting.count);
                finding(
                    name,
                    waiting,
                    format!(
                        "{many} of this node have not reached {name}, which cannot be asked: {reason}.{since}"
                    ),
                )
            })
            .into_iter()
            .collect();
    };
    let some =
        |side: &BTreeMap<String, Missing>| side.get(kind.name()).filter(|missing| missing.count > 0).cloned();
    let there = some(&compared.missing_there).map(|missing| {
        let many = kind.counted(missing.count);
        finding(name, &missing, format!("{many} of this node never reached {name}."))
    });
    let here = some(&compared.missing_here).map(|missing| {
        let many = kind.counted(missing.count);
        finding(HERE, &missing, format!("{many} that {name} has never reached this node."))
    });
    there.into_iter().chain(here).collect()
}

fn evidence(kind: Kind, ours: &Facts, peers: &[PeerFacts]) -> Vec<String> {
    let mut evidence = of_node(kind, HERE, ours);
    for peer in peers {
        let name = &peer.name;
        match &peer.facts {
            Some(facts) => evidence.extend(of_node(kind, name, facts)),
            None if peer.is_v1 => {
                evidence.push(format!("{name} speaks v1: what is in its tables is not known."))
            }
            None => {}
        }
        if let Some(compared) = &peer.compared {
            let lists = [
                (format!("{name} lacks"), &compared.missing_there),
                (format!("this node lacks, and {name} has,"), &compared.missing_here),
            ];
            for (who, list) in lists {
                let Some(missing) = list.get(kind.name()).filter(|missing| missing.count > 0) else {
                    continue;
                };
                evidence.push(format!(
                    "{who} {} events: {}.",
                    missing.count,
                    named(&missing.sample, missing.count)
                ));
            }
        }
        if let Some(waiting) = peer.waiting.get(kind.name()).filter(|waiting| waiting.count > 0) {
            evidence.push(format!(
                "{} events wait for {name}, or were not acknowledged by it: {}.",
                waiting.count,
                named(&waiting.sample, waiting.count)
            ));
        }
        if let (false, Some(error)) = (peer.reachable, &peer.error) {
            evidence.push(format!("{name} cannot be asked: {error}."));
        }
    }
    evidence
}

fn of_node(kind: Kind, node: &str, facts: &Facts) -> Vec<String> {
    let of = facts.kinds.get(kind.name()).cloned().unwrap_or_default();
    let mut evidence = Vec::new();
    let rows = of.rows.map_or("rows that could not be counted".to_owned(), |rows| format!("{rows} rows"));
    let without = match of.missing_rows {
        Some(missing) => format!("{missing} events without rows"),
        None if kind == Kind::Other => "no rows to miss".to_owned(),
        None => "missing rows could not be looked for".to_owned(),
    };
    if kind == Kind::Other {
        evidence.push(format!("{node}: {} events in 30 days.", of.events));
    } else {
        evidence.push(format!(
            "{node}: {} events in 30 days about {} entities, {rows}; {without}.",
            of.events, of.entities
        ));
    }
    if of.stuck > 0 {
        evidence.push(format!(
            "{node}: {} events are not projected: {}.",
            of.stuck,
            named(&of.sample, of.stuck)
        ));
        evidence.push(format!(
            "{node}: tried now and undone, {} of them would be projected and {} would fail.",
            of.would_work, of.would_fail
        ));
        if of.untried > 0 {
            evidence.push(format!("{node}: {} of them could not be tried.", of.untried));
        }
    }
    if of.marks_lost > 0 {
        evidence.push(format!(
            "{node}: {} events rightly have no rows, but the note that says so is lost.",
            of.marks_lost
        ));
    }
    evidence.extend(of.errors.iter().map(|failing| {
        format!("{node}: {} {} fails: {}", failing.event_type, failing.event_id, failing.error)
    }));
    let differences = facts.schema_differences.iter();
    for difference in
        differences.filter(|difference| Kind::of_table(&difference.table).contains(&kind)).take(20)
    {
        let repair = difference.repair.as_deref().unwrap_or("no statement is known that repairs it");
        evidence.push(format!("{node}: {}. Repair: {repair}", difference.what));
    }
    let relays = facts.last_errors.iter().filter(|error| error.at.starts_with("relay"));
    let of_this = relays
        .filter(|LastError { event_id, .. }| event_id.as_ref().is_some_and(|id| of.sample.contains(id)));
    evidence.extend(of_this.map(|error| format!("{node}: {}: {}", error.at, error.error)));
    evidence
}

fn named(sample: &[String], count: u64) -> String {
    let shown = sample.len().min(EXAMPLES);
    let rest = count.saturating_sub(shown as u64);
    let ids = sample[..shown].join(", ");
    match (ids.is_empty(), rest) {
        (true, _) => "which ones is not known".to_owned(),
        (false, 0) => ids,
        (false, rest) => format!("{ids} and {rest} more"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
