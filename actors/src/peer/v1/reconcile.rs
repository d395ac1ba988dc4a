//! Comparing a store with a v1 node by id lists, and filling the gaps of both sides.
//!
//! What the peer lacks is queued for its relay, by whoever called; what this node lacks the peer is asked to relay.
//! Nothing is ever deleted. Never here: when it runs, and under which lease.

use super::{V1Client, Wanted};
use crate::peer::Failure;
use chrono::{DateTime, Days, TimeDelta, Utc};
use std::collections::{BTreeMap, HashSet};
use uuid::Uuid;
use velox_protocol::v1::{Kind, PAGE, UNLISTED, unsendable};
use velox_store::{Error, Fence, Named, Store, TimeRange};

/// How far back is compared.
const COMPARED: Days = Days::new(30);
/// Days more that the peer is asked for at both ends: it may have put a thing on another day than this node.
const MARGIN: Days = Days::new(1);
/// Events that are queued by one statement.
const QUEUED_AT_ONCE: usize = 2_000;
/// Most pages of one list: a peer that never ends must not hold its caller.
const MAX_PAGES: u64 = 1_000;

/// What is compared, and whether anything is done about it.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// The shop.
    pub store_id: Uuid,
    /// The present time.
    pub now: DateTime<Utc>,
    /// Whether only to tell what is missing.
    pub dry_run: bool,
    /// Whether what is in no list, products and customers, is sent again: after an outage.
    pub after_outage: bool,
}

/// The gaps of one kind, and what was done about them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Things that this node has and the peer lacks.
    pub remote_missing: u64,
    /// Things that the peer has and this node lacks.
    pub local_missing: u64,
    /// Events that were queued for the peer.
    pub replayed_to_remote: u64,
    /// Things that the peer says it relays now.
    pub replayed_to_local: u64,
}

impl Gaps {
    fn add(&mut self, other: Gaps) {
        self.remote_missing += other.remote_missing;
        self.local_missing += other.local_missing;
        self.replayed_to_remote += other.replayed_to_remote;
        self.replayed_to_local += other.replayed_to_local;
    }
}

/// What a comparison found, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Of the kinds that have a list.
    pub kinds: BTreeMap<Kind, Gaps>,
    /// Of products and customers: what of theirs was queued.
    pub other: Gaps,
}

impl Compared {
    /// The gaps of a kind.
    pub fn of(&self, kind: Kind) -> Gaps {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// All gaps together.
    pub fn total(&self) -> Gaps {
        let mut total = self.other;
        self.kinds.values().for_each(|gaps| total.add(*gaps));
        total
    }
}

/// Why a comparison ended early. What was queued or asked for until then stands.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The peer's.
    #[error(transparent)]
    Peer(#[from] Failure),
    /// This node's own database's, or a lease that is lost.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Compares a store with the peer over the last 30 days and fills the gaps, under a lease where a fence is given.
///
/// # Errors
/// [`CompareError`]
pub async fn compare(
    client: &V1Client,
    store: &Store,
    comparison: Comparison,
    fence: Option<&Fence>,
) -> Result<Compared, CompareError> {
    let run = Run { client, store, comparison, fence };
    let mut compared = Compared::default();
    for kind in Kind::ALL {
        let gaps = run.kind(kind).await?;
        compared.kinds.insert(kind, gaps);
    }
    if comparison.after_outage {
        compared.other = run.unlisted().await?;
    }
    Ok(compared)
}

struct Run<'a> {
    client: &'a V1Client,
    store: &'a Store,
    comparison: Comparison,
    fence: Option<&'a Fence>,
}

impl Run<'_> {
    async fn kind(&self, kind: Kind) -> Result<Gaps, CompareError> {
        let Comparison { store_id, dry_run, .. } = self.comparison;
        let theirs = self.theirs(kind).await?;
        let ours: Vec<Uuid> =
            self.store.event_ids(store_id, kind, self.range()).await?.into_iter().map(|(_, id)| id).collect();
        let lacks: Vec<Uuid> = ours.iter().filter(|id| !theirs.contains(id)).copied().collect();
        let to_send = self.sendable(kind, &lacks, &theirs).await?;
        let things: HashSet<Uuid> = to_send.iter().map(|named| named.id).collect();
        let known: HashSet<Uuid> = ours.into_iter().collect();
        let unknown: Vec<Uuid> = theirs.into_iter().filter(|id| !known.contains(id)).collect();
        let wanted = self.lacking(kind, unknown).await?;
        let mut gaps = Gaps {
            remote_missing: things.len() as u64,
            local_missing: wanted.len() as u64,
            ..Gaps::default()
        };
        if dry_run {
            return Ok(gaps);
        }
        if !to_send.is_empty() {
            let events: Vec<String> = to_send.into_iter().map(|named| named.event_id).collect();
            gaps.replayed_to_remote = self.queue(&events).await?;
        }
        if !wanted.is_empty() {
            gaps.replayed_to_local = self.client.replay(kind, store_id, &wanted).await?.found;
        }
        Ok(gaps)
    }

    /// Products and customers of the last 30 days, but for what came from the peer.
    async fn unlisted(&self) -> Result<Gaps, CompareError> {
        let Comparison { store_id, dry_run, .. } = self.comparison;
        let peer = &self.client.peer().name;
        let since = self.range().from;
        let events = self.store.events_since(store_id, &UNLISTED, since, peer).await?;
        let sendable = events.into_iter().filter(|(event_id, event_type, device_id)| {
            unsendable(event_type, event_id, device_id).is_none()
        });
        let events: Vec<String> = sendable.map(|(event_id, ..)| event_id).collect();
        if dry_run || events.is_empty() {
            return Ok(Gaps::default());
        }
        let replayed_to_remote = self.queue(&events).await?;
        Ok(Gaps { replayed_to_remote, ..Gaps::default() })
    }

    async fn queue(&self, events: &[String]) -> Result<u64, Error> {
        let (store_id, peer) = (self.comparison.store_id, &self.client.peer().name);
        let mut queued = 0;
        for some in events.chunks(QUEUED_AT_ONCE) {
            queued += self.store.queue_relay(self.fence, store_id, peer, some).await?;
        }
        Ok(queued)
    }

    fn range(&self) -> TimeRange {
        let (from, to) = days(self.comparison.now, COMPARED, Days::new(0));
        TimeRange { from, until: to + TimeDelta::days(1) }
    }

    /// All ids of the peer's list.
    async fn theirs(&self, kind: Kind) -> Result<HashSet<Uuid>, Failure> {
        let (from, to) = days(self.comparison.now, COMPARED, MARGIN);
        let day = |at: DateTime<Utc>| at.format("%Y-%m-%d").to_string();
        let (from, to) = (day(from - MARGIN), day(to));
        let mut theirs = HashSet::new();
        let mut offset = 0;
        for _ in 0..MAX_PAGES {
            let store_id = self.comparison.store_id;
            let wanted = Wanted { store_id, from: &from, to: &to, limit: PAGE, offset };
            let page = self.client.ids(kind, wanted).await?;
            offset += page.ids.len() as u64;
            let is_last = page.ids.is_empty() || offset >= page.total;
            theirs.extend(page.ids.iter().filter_map(|id| velox_protocol::event::uuid_of(id)));
            if is_last {
                return Ok(theirs);
            }
        }
        Err(Failure::Malformed("its id list does not end"))
    }

    /// The events that bear these ids and that the peer would take. What cannot be sent would be missing there for
    /// ever, and so would one of two debts of a sale where the peer has the other.
    async fn sendable(&self, kind: Kind, ids: &[Uuid], theirs: &HashSet<Uuid>) -> Result<Vec<Named>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let store_id = self.comparison.store_id;
        let mut named = self.store.namers(store_id, kind, ids).await?;
        named.retain(|event| unsendable(&event.event_type, &event.event_id, &event.device_id).is_none());
        let events: Vec<String> = named.iter().map(|event| event.event_id.clone()).collect();
        let others = self.store.named_by_others(store_id, &events).await?;
        let had: HashSet<String> = others
            .into_iter()
            .filter(|(_, other)| theirs.contains(&other.id))
            .map(|(event, _)| event)
            .collect();
        named.retain(|event| !had.contains(&event.event_id));
        Ok(named)
    }

    /// Of these ids those that no event bears: a thing that is only named by others is lacking.
    async fn lacking(&self, kind: Kind, ids: Vec<Uuid>) -> Result<Vec<Uuid>, Error> {
        if ids.is_empty() {
            return Ok(ids);
        }
        let named = self.store.namers(self.comparison.store_id, kind, &ids).await?;
        let bears = |named: &&Named| kind.bearers().contains(&named.event_type.as_str());
        let borne: HashSet<Uuid> = named.iter().filter(bears).map(|named| named.id).collect();
        Ok(ids.into_iter().filter(|id| !borne.contains(id)).collect())
    }
}

/// The first moments of the day so long before, and of the day so long after.
fn days(now: DateTime<Utc>, before: Days, after: Days) -> (DateTime<Utc>, DateTime<Utc>) {
    let day = now.date_naive();
    let first = |day: chrono::NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
    (first(day - before), first(day + after))
}
