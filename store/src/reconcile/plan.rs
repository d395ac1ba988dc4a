//! What is to be done about digests that differ, in pieces of bounded size. Pure: no SQL, nothing is sent.

use super::SESSION_FORMS;
use chrono::{Datelike as _, NaiveDate};
use negentropy::Id;
use std::collections::BTreeMap;
use velox_protocol::reconcile::{Digested, EventName, Item, LAST_BUCKET, MAX_PARTS, Part, Scope};

/// Events that are named at once.
pub(super) const PORTION: usize = 2_000;
/// Forms of a day up to which they are compared at once: its buckets would cost another round.
const SMALL_DAY: u64 = 4_096;
/// Years whose days are compared at once: at most 23,424 digests.
const YEARS: usize = 64;
/// Days whose buckets are compared at once: at most 16,384 digests.
const DAYS: usize = 16;

/// A step of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Both sides have something there.
    Compare(Scope),
    /// Only this side has.
    ListHere(List),
    /// Only the peer has.
    ListThere(List),
    /// Forms that only the peer has.
    Resolve(Vec<Part>, Vec<Item>),
}

/// Events that one side has and the other one lacks all of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) parts: Vec<Part>,
    /// The last one that was told.
    pub(super) after: Option<EventName>,
}

/// How many forms each side has of a year, day or bucket that differs.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sides {
    here: u64,
    there: u64,
}

pub(super) type Differing = BTreeMap<(NaiveDate, u16), Sides>;

/// What differs, by the digests that only the one side has and that only the other one has.
pub(super) fn differing(have: &[Id], need: &[Id]) -> Differing {
    let mut differing = Differing::new();
    let read = |ids: &[Id]| ids.iter().filter_map(|id| Digested::read(id.as_bytes())).collect::<Vec<_>>();
    for seen in read(have) {
        differing.entry((seen.day, seen.bucket)).or_default().here = seen.count.max(1);
    }
    for seen in read(need) {
        differing.entry((seen.day, seen.bucket)).or_default().there = seen.count.max(1);
    }
    differing
}

/// The steps after one that has found differing digests; those after forms are none.
pub(super) fn after(scope: &Scope, differing: &Differing) -> Vec<Work> {
    match scope {
        Scope::Years => after_years(differing),
        Scope::Days(_) => after_days(differing),
        Scope::Buckets(_) => after_buckets(differing),
        Scope::Forms(_) => Vec::new(),
    }
}

fn after_years(differing: &Differing) -> Vec<Work> {
    let years = differing.keys().filter_map(|(day, _)| u16::try_from(day.year()).ok());
    let mut years: Vec<u16> = years.collect();
    years.dedup();
    years.chunks(YEARS).map(|years| Work::Compare(Scope::Days(years.to_vec()))).collect()
}

fn after_days(differing: &Differing) -> Vec<Work> {
    let mut steps = Steps::default();
    let mut large = Vec::new();
    for (&(day, _), sides) in differing {
        match sides {
            Sides { here, there: 0 } => slices(day, *here).for_each(|(part, n)| steps.here.add(part, n)),
            Sides { here: 0, there } => slices(day, *there).for_each(|(part, n)| steps.there.add(part, n)),
            Sides { here, there } if *here.max(there) <= SMALL_DAY => {
                steps.both.add(Part { day, low: 0, high: LAST_BUCKET }, *here.max(there));
            }
            _ if large.last() != Some(&day) => large.push(day),
            _ => {}
        }
    }
    let large = large.chunks(DAYS).map(|days| Work::Compare(Scope::Buckets(days.to_vec())));
    large.chain(steps.work()).collect()
}

fn after_buckets(differing: &Differing) -> Vec<Work> {
    let mut steps = Steps::default();
    for (&(day, bucket), sides) in differing {
        let part = Part { day, low: bucket, high: bucket };
        match sides {
            Sides { here, there: 0 } => steps.here.add(part, *here),
            Sides { here: 0, there } => steps.there.add(part, *there),
            Sides { here, there } => steps.both.add(part, *here.max(there)),
        }
    }
    steps.work().collect()
}

/// A whole day in slices of about a portion each, as ids spread over its buckets.
fn slices(day: NaiveDate, forms: u64) -> impl Iterator<Item = (Part, u64)> {
    let buckets = LAST_BUCKET + 1;
    let slices = forms.div_ceil(PORTION as u64).clamp(1, u64::from(buckets));
    let width = u16::try_from(u64::from(buckets) / slices).unwrap_or(1);
    let lows = (0..buckets).step_by(usize::from(width));
    lows.map(move |low| (Part { day, low, high: LAST_BUCKET.min(low + width - 1) }, forms / slices + 1))
}

struct Steps {
    here: Groups,
    there: Groups,
    both: Groups,
}

impl Default for Steps {
    fn default() -> Self {
        Steps {
            here: Groups::of(PORTION as u64),
            there: Groups::of(PORTION as u64),
            both: Groups::of(SESSION_FORMS),
        }
    }
}

impl Steps {
    fn work(self) -> impl Iterator<Item = Work> {
        let list = |parts| List { parts, after: None };
        let both = self.both.done().map(|parts| Work::Compare(Scope::Forms(parts)));
        let here = self.here.done().map(move |parts| Work::ListHere(list(parts)));
        let there = self.there.done().map(move |parts| Work::ListThere(list(parts)));
        both.chain(here).chain(there)
    }
}

/// Parts in groups of so many forms, or of one part where that has more.
struct Groups {
    most: u64,
    forms: u64,
    parts: Vec<Part>,
    full: Vec<Vec<Part>>,
}

impl Groups {
    fn of(most: u64) -> Self {
        Groups { most, forms: 0, parts: Vec::new(), full: Vec::new() }
    }

    /// Parts come in their order.
    fn add(&mut self, part: Part, forms: u64) {
        let is_full = self.forms.saturating_add(forms) > self.most || self.parts.len() == MAX_PARTS;
        if is_full && !self.parts.is_empty() {
            self.full.push(std::mem::take(&mut self.parts));
            self.forms = 0;
        }
        self.forms = self.forms.saturating_add(forms);
        match self.parts.last_mut() {
            Some(last) if last.day == part.day && last.high.checked_add(1) == Some(part.low) => {
                last.high = part.high
            }
            _ => self.parts.push(part),
        }
    }

    fn done(mut self) -> impl Iterator<Item = Vec<Part>> {
        self.full.extend(Some(self.parts).filter(|parts| !parts.is_empty()));
        self.full.into_iter()
    }
}
