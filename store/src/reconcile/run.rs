//! The side that asks: from digests that differ down to the events that one side lacks, a portion at a time.
//!
//! What is still to be done is a stack, so that a year is done with before the next one is begun and no more than
//! one comparison is in memory.

use super::plan::{self, List, PORTION, Work};
use super::{AnswerError, FRAME};
use crate::{Error, Store};
use chrono::NaiveDate;
use negentropy::{Id, Negentropy};
use std::collections::{BTreeSet, HashSet, VecDeque};
use uuid::Uuid;
use velox_protocol::reconcile::{Answer, Ask, EventName, Item, MAX_ITEMS, Malformed, Part, Request, Scope};

/// Rounds of one comparison: a quarter of it is enough for the most forms that a comparison has.
const ROUNDS: u32 = 64;
/// Days whose digests are taken for wrong in one run.
const DOUBTS: usize = 64;

/// Some of the events that a side lacks, in one or several forms: at most 2,000 in each list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Portion {
    /// What the peer lacks.
    pub missing_there: Vec<EventName>,
    /// What this side lacks.
    pub missing_here: Vec<EventName>,
}

/// What a run has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests.
    pub rounds: u32,
    /// Of requests.
    pub bytes_sent: u64,
    /// Of answers.
    pub bytes_received: u64,
    /// Comparisons that were given up: the digests said of far fewer forms than there are, or the logs grew faster
    /// than they were compared. A later run finds what these would have.
    pub given_up: u32,
    /// Days whose digests differed though nothing else did, and which were wrong on either side.
    pub mended: u32,
}

/// Why a run ends early. What was told before it is still true.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError<E> {
    /// The database's.
    #[error(transparent)]
    Store(#[from] Error),
    /// Of whoever carries the messages.
    #[error("the peer was not reached")]
    Exchange(#[source] E),
    /// The peer's answer cannot be read.
    #[error("the peer's answer cannot be read")]
    Malformed(#[from] Malformed),
    /// The peer has answered something else.
    #[error("the peer's answer is to another request")]
    Unexpected,
    /// The peer's part of the set protocol is unsound.
    #[error("the peer's set protocol is malformed")]
    Set(#[from] negentropy::Error),
}

impl<E> From<AnswerError> for ReconcileError<E> {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Store(error) => ReconcileError::Store(error),
            AnswerError::Malformed(error) => ReconcileError::Set(error),
        }
    }
}

/// One run over one store's log and the peer's. Both may grow meanwhile: what is told may be there by then, and what
/// came since is found by the next run or was sent as ever.
#[derive(Debug)]
pub struct Reconciliation {
    store: Store,
    store_id: Uuid,
    work: Vec<Work>,
    ready: VecDeque<Portion>,
    doubts: BTreeSet<NaiveDate>,
    summary: Summary,
}

impl Store {
    /// Begins a run; nothing is done before [`Reconciliation::next`].
    pub fn reconciliation(&self, store_id: Uuid) -> Reconciliation {
        Reconciliation {
            store: self.clone(),
            store_id,
            work: vec![Work::Compare(Scope::Years)],
            ready: VecDeque::new(),
            doubts: BTreeSet::new(),
            summary: Summary::default(),
        }
    }
}

impl Reconciliation {
    /// The next events that a side lacks; `None`: there are no others. `exchange` carries a request to the peer's
    /// [`Store::answer_reconcile`] and brings the answer; messages are at most `MAX_MESSAGE` bytes.
    ///
    /// # Errors
    /// [`ReconcileError`]; the run is over then.
    pub async fn next<E>(
        &mut self,
        exchange: &mut impl AsyncFnMut(Vec<u8>) -> Result<Vec<u8>, E>,
    ) -> Result<Option<Portion>, ReconcileError<E>> {
        loop {
            if let Some(portion) = self.ready.pop_front() {
                return Ok(Some(portion));
            }
            match self.work.pop() {
                Some(Work::Compare(scope)) => self.compare(scope, exchange).await?,
                Some(Work::ListHere(list)) => self.list_here(list).await?,
                Some(Work::ListThere(list)) => self.list_there(list, exchange).await?,
                Some(Work::Resolve(parts, items)) => self.resolve(parts, items, exchange).await?,
                None if self.doubts.is_empty() => return Ok(None),
                None => self.recount(exchange).await?,
            }
        }
    }

    /// What the run has cost so far.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    async fn ask<E>(
        &mut self,
        ask: Ask,
        exchange: &mut impl AsyncFnMut(Vec<u8>) -> Result<Vec<u8>, E>,
    ) -> Result<Answer, ReconcileError<E>> {
        let request = Request { store_id: self.store_id, ask }.encode();
        self.summary.rounds += 1;
        self.summary.bytes_sent += request.len() as u64;
        let answer = exchange(request).await.map_err(ReconcileError::Exchange)?;
        self.summary.bytes_received += answer.len() as u64;
        Ok(Answer::decode(&answer)?)
    }

    async fn compare<E>(
        &mut self,
        scope: Scope,
        exchange: &mut impl AsyncFnMut(Vec<u8>) -> Result<Vec<u8>, E>,
    ) -> Result<(), ReconcileError<E>> {
        let Some((have, need)) = self.difference(&scope, exchange).await? else {
            self.summary.given_up += 1;
            self.doubt(&scope);
            return Ok(());
        };
        if have.is_empty() && need.is_empty() {
            self.doubt(&scope);
        }
        if let Scope::Forms(parts) = scope {
            let items = |ids: Vec<Id>| -> Vec<Item> { ids.into_iter().map(Id::to_bytes).collect() };
            if !have.is_empty() {
                let names = self.store.resolve_items(self.store_id, &parts, &items(have)).await?;
                self.tell(names.into_iter().map(|(_, name)| name), |portion| &mut portion.missing_there);
            }
            let needed = items(need);
            self.work
                .extend(needed.chunks(MAX_ITEMS).map(|some| Work::Resolve(parts.clone(), some.to_vec())));
            return Ok(());
        }
        self.work.extend(plan::after(&scope, &plan::differing(&have, &need)));
        Ok(())
    }

    /// What only this side has of a scope and what only the peer has; `None`: given up.
    async fn difference<E>(
        &mut self,
        scope: &Scope,
        exchange: &mut impl AsyncFnMut(Vec<u8>) -> Result<Vec<u8>, E>,
    ) -> Result<Option<(Vec<Id>, Vec<Id>)>, ReconcileError<E>> {
        let Some(set) = self.store.set_of(self.store_id, scope).await? else {
            return Ok(None);
        };
        let mut set = Negentropy::owned(set, FRAME)?;
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let mut message = set.initiate()?;
        for _ in 0..ROUNDS {
            let answer = match self.ask(Ask::Compare { scope: scope.clone(), message }, exchange).await? {
                Answer::Compared(answer) => answer,
                Answer::TooMany => return Ok(None),
                _ => return Err(ReconcileError::Unexpected),
            };
            match set.reconcile_with_ids(&answer, &mut have, &mut need)? {
                Some(next) => message = next,
                None => return Ok(Some((have, need))),
            }
        }
        Ok(None)
    }

    async fn list_here<E>(&mut self, List { parts, after }: List) -> Result<(), ReconcileError<E>> {
        let names = self.store.list_events(self.store_id, &parts, after.as_ref()).await?;
        if names.len() >= PORTION {
            self.work.push(Work::ListHere(List { parts, after: names.last().cloned() }));
        }
        self.tell(names.into_iter(), |portion| &mut portion.missing_there);
        Ok(())
    }

    async fn list_there<E>(
        &mut self,
        List { parts, after }: List,
        exchange: &mut impl AsyncFnMut(Vec<u8>) -> Result<Vec<u8>, E>,
    ) -> Result<(), ReconcileError<E>> {
        let ask = Ask::List { parts: parts.clone(), after: after.clone() };
        let Answer::Listed { names, more } = self.ask(ask, exchange).await? else {
            return Err(ReconcileError::Unexpected);
        };
        let last = names.last().cloned();
        // A peer that does not get on is not asked for ever.
        if more && last > after {
            self.work.push(Work::ListThere(List { parts, after: last }));
        }
        self.tell(names.into_iter(), |portion| &mut portion.missing_here);
        Ok(())
    }

    async fn resolve<E>(
        &mut self,
        parts: Vec<Part>,
        items: Vec<Item>,
        exchange: &mut impl AsyncFnMut(Vec<u8>) -> Result<Vec<u8>, E>,
    ) -> Result<(), ReconcileError<E>> {
        let ask = Ask::Resolve { parts: parts.clone(), items: items.clone() };
        let Answer::Resolved(found) = self.ask(ask, exchange).await? else {
            return Err(ReconcileError::Unexpected);
        };
        let places: HashSet<usize> = found.iter().map(|(place, _)| usize::from(*place)).collect();
        let rest = items.into_iter().enumerate().filter(|(place, _)| !places.contains(place));
        let rest: Vec<Item> = rest.map(|(_, item)| item).collect();
        // What is not there any more is never found.
        if !found.is_empty() && !rest.is_empty() {
            self.work.push(Work::Resolve(parts, rest));
        }
        self.tell(found.into_iter().map(|(_, name)| name), |portion| &mut portion.missing_here);
        Ok(())
    }

    fn tell(
        &mut self,
        names: impl Iterator<Item = EventName>,
        list: impl Fn(&mut Portion) -> &mut Vec<EventName>,
    ) {
        // Several forms of one event are one.
        let names: BTreeSet<EventName> = names.collect();
        let mut names = names.into_iter().peekable();
        while names.peek().is_some() {
            let mut portion = Portion::default();
            list(&mut portion).extend(names.by_ref().take(PORTION));
            self.ready.push_back(portion);
        }
    }

    /// Digests have differed where nothing else did.
    fn doubt(&mut self, scope: &Scope) {
        let days: Vec<NaiveDate> = match scope {
            Scope::Years | Scope::Days(_) => Vec::new(),
            Scope::Buckets(days) => days.clone(),
            Scope::Forms(parts) => parts.iter().map(|part| part.day).collect(),
        };
        for day in days {
            if self.doubts.len() < DOUBTS {
                self.doubts.insert(day);
            }
        }
    }

    async fn recount<E>(
        &mut self,
        exchange: &mut impl AsyncFnMut(Vec<u8>) -> Result<Vec<u8>, E>,
    ) -> Result<(), ReconcileError<E>> {
        let days: Vec<NaiveDate> = std::mem::take(&mut self.doubts).into_iter().collect();
        let here = self.store.recount_doubted(self.store_id, &days).await?.mended.len();
        let Answer::Recounted(there) = self.ask(Ask::Recount { days }, exchange).await? else {
            return Err(ReconcileError::Unexpected);
        };
        self.summary.mended += u32::from(there) + u32::try_from(here).unwrap_or(u32::MAX);
        Ok(())
    }
}
