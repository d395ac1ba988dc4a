//! Asking a peer for what triage wants to know of a store, and having it mend its own side.
//!
//! Outside of any breaker: somebody waits for the answer, and the breaker may be what is wrong. Never here: what this
//! node knows of itself (see `velox_store`), the verdict (see `velox_protocol::triage`).

mod mend;

pub use mend::mend;

use crate::peer::v1::reconcile::{CompareError, Comparison};
use crate::peer::v1::{self, V1Client};
use crate::peer::{DEADLINE, Failure, PeerClient, Request};
use crate::relay::Wire;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;
use velox_protocol::catalogue;
use velox_protocol::reconcile::EventName;
use velox_protocol::triage::{Compared, EXAMPLES, Facts, Kind, Mended, Missing, PeerFacts};
use velox_protocol::v1::Kind as V1Kind;
use velox_store::{Error, ReconcileError, Store};

/// Where a native node says what it knows of a store.
pub const FACTS_PATH: &str = "/sync/federation/triage";
/// Where it mends its own side.
pub const HEAL_PATH: &str = "/sync/federation/heal";
/// Longest answer of a peer: it reads its whole log of the store.
const FACTS_LIMIT: Duration = Duration::from_secs(120);
/// Longest time for its repair.
const HEAL_LIMIT: Duration = Duration::from_secs(300);
/// Events that are on their way are there a moment later.
const SETTLING: Duration = Duration::from_secs(1);
/// Events of a kind that the peer is asked for, to see when they were.
const DATED: usize = 50;
/// Most events that are looked up or sent at once.
const AT_ONCE: usize = 10_000;
/// Most events of one relay, and bytes of their payloads.
const SENT: usize = 100;
const SENT_BYTES: usize = 8 * 1024 * 1024;

/// What two logs lack of each other, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// What this node lacks.
    pub missing_here: BTreeSet<EventName>,
    /// What the peer lacks.
    pub missing_there: BTreeSet<EventName>,
}

/// Compares the logs of a store, changing nothing.
///
/// # Errors
/// The peer's, or this node's own database's, for people.
pub async fn look(
    store: &Store,
    client: &PeerClient,
    store_id: Uuid,
) -> Result<Looked, ReconcileError<Failure>> {
    let mut exchange = async |message: Vec<u8>| {
        client
            .send(post(crate::reconciler::RECONCILE_PATH, "application/octet-stream", message, DEADLINE))
            .await
    };
    let mut comparison = store.reconciliation(store_id);
    let mut looked = Looked::default();
    while let Some(portion) = comparison.next(&mut exchange).await? {
        looked.missing_here.extend(portion.missing_here);
        looked.missing_there.extend(portion.missing_there);
    }
    Ok(looked)
}

/// The same, without what was only on its way.
async fn look_twice(
    store: &Store,
    client: &PeerClient,
    store_id: Uuid,
) -> Result<Looked, ReconcileError<Failure>> {
    let first = look(store, client, store_id).await?;
    if first == Looked::default() {
        return Ok(first);
    }
    tokio::time::sleep(SETTLING).await;
    let second = look(store, client, store_id).await?;
    Ok(Looked {
        missing_here: &first.missing_here & &second.missing_here,
        missing_there: &first.missing_there & &second.missing_there,
    })
}

/// Everything that can be known of a peer.
///
/// # Errors
/// This node's own database's.
pub async fn ask(store: &Store, wire: &Wire, store_id: Uuid, now: DateTime<Utc>) -> Result<PeerFacts, Error> {
    let mut facts = match wire {
        Wire::Velox(client) => ask_native(store, client, store_id).await?,
        Wire::V1(client) => ask_v1(store, client, store_id, now).await?,
    };
    facts.name = wire.peer().name.clone();
    match store.waiting_for_peer(store_id, &facts.name).await {
        Ok(away) => {
            facts.last_success_at = away.last_success_at;
            if facts.compared.is_none() {
                facts.waiting = away.waiting;
            }
        }
        Err(error) => unanswered(&mut facts, "what waits for it", error)?,
    }
    Ok(facts)
}

/// Notes what this node's own database does not answer, for want of a column or table. One that is away is an error.
fn unanswered(facts: &mut PeerFacts, what: &str, error: Error) -> Result<(), Error> {
    if error.is_transient() {
        return Err(error);
    }
    facts.error.get_or_insert(format!("this node does not know {what}: {}", error.describe()));
    Ok(())
}

async fn ask_native(store: &Store, client: &PeerClient, store_id: Uuid) -> Result<PeerFacts, Error> {
    let (said, looked) =
        futures_util::future::join(facts(client, store_id), look_twice(store, client, store_id)).await;
    let mut peer = PeerFacts { reachable: is_reached(&said, &looked), ..PeerFacts::default() };
    match said {
        Ok(facts) => peer.facts = Some(facts),
        Err(Failure::Status { status: 404, .. }) => {
            peer.error = Some("its version cannot be asked for its tables".to_owned());
        }
        Err(failure) if looked.is_ok() => {
            peer.error = Some(format!("it has not said what is in its tables, {failure}"));
        }
        Err(failure) => peer.error = Some(failure.to_string()),
    }
    match looked {
        Ok(looked) => match described(store, client, store_id, &looked).await {
            Ok(compared) => peer.compared = Some(compared),
            Err(error) => unanswered(&mut peer, "since when events are missing", error)?,
        },
        Err(ReconcileError::Store(error)) => unanswered(&mut peer, "its own log", error)?,
        Err(error) => {
            let reason = match &error {
                ReconcileError::Exchange(failure) => failure.to_string(),
                other => other.to_string(),
            };
            peer.error.get_or_insert(reason);
        }
    }
    Ok(peer)
}

/// Whether the peer has answered one of the two calls: one of them may take too long.
fn is_reached(said: &Result<Facts, Failure>, looked: &Result<Looked, ReconcileError<Failure>>) -> bool {
    let of_looked = match looked {
        Ok(_) => true,
        Err(ReconcileError::Exchange(failure)) => is_there(failure),
        // This node's own database, or an answer that is none: that of the other call counts.
        Err(_) => false,
    };
    of_looked || said.as_ref().err().is_none_or(is_there)
}

/// Whether anybody answers.
fn is_there(failure: &Failure) -> bool {
    !matches!(failure, Failure::Unreachable(_) | Failure::Timeout)
}

async fn facts(client: &PeerClient, store_id: Uuid) -> Result<Facts, Failure> {
    let path = format!("{FACTS_PATH}?store_id={store_id}");
    let request = Request {
        method: reqwest::Method::GET,
        path: &path,
        content_type: "application/json",
        body: Vec::new(),
        deadline: FACTS_LIMIT,
    };
    let answer = client.send(request).await?;
    serde_json::from_slice(&answer).map_err(|_| Failure::Malformed("it tells no facts"))
}

/// By kind, and since when.
async fn described(
    store: &Store,
    client: &PeerClient,
    store_id: Uuid,
    looked: &Looked,
) -> Result<Compared, Error> {
    let mut compared = Compared {
        missing_here: by_kind(&looked.missing_here),
        missing_there: by_kind(&looked.missing_there),
    };
    for (kind, missing) in &mut compared.missing_there {
        let ids = ids_of(kind, &looked.missing_there);
        for some in ids.chunks(AT_ONCE) {
            let first = store.first_received(store_id, some).await?;
            missing.since = [missing.since, first].into_iter().flatten().min();
        }
    }
    for (kind, missing) in &mut compared.missing_here {
        let ids = ids_of(kind, &looked.missing_here);
        // Where the peer does not say, nobody knows.
        missing.since = first_written(client, store_id, &ids[..ids.len().min(DATED)]).await;
    }
    Ok(compared)
}

fn by_kind(names: &BTreeSet<EventName>) -> BTreeMap<String, Missing> {
    let mut kinds: BTreeMap<String, Missing> = BTreeMap::new();
    // Several forms of one event may be of several types.
    let mut seen = BTreeSet::new();
    for name in names.iter().filter(|name| seen.insert(name.event_id.as_str())) {
        let missing = kinds.entry(Kind::of(&name.event_type).name().to_owned()).or_default();
        missing.count += 1;
        if missing.sample.len() < EXAMPLES {
            missing.sample.push(name.event_id.clone());
        }
    }
    kinds
}

fn ids_of(kind: &str, names: &BTreeSet<EventName>) -> Vec<String> {
    let of_kind = names.iter().filter(|name| Kind::of(&name.event_type).name() == kind);
    of_kind.map(|name| name.event_id.clone()).collect()
}

/// The tills' time of the first of these events of the peer's.
async fn first_written(client: &PeerClient, store_id: Uuid, ids: &[String]) -> Option<DateTime<Utc>> {
    #[derive(Deserialize)]
    struct Given {
        events: Vec<Dated>,
    }
    #[derive(Deserialize)]
    struct Dated {
        created_at: i64,
    }
    let body = serde_json::json!({ "store_id": store_id, "event_ids": ids }).to_string();
    let request = post(crate::reconciler::EVENTS_PATH, "application/json", body.into_bytes(), DEADLINE);
    let answer = client.send(request).await.ok()?;
    let given: Given = serde_json::from_slice(&answer).ok()?;
    given.events.iter().filter_map(|event| DateTime::from_timestamp_millis(event.created_at)).min()
}

/// A v1 node tells ids of 30 days by kind, and nothing of its tables.
async fn ask_v1(
    store: &Store,
    client: &V1Client,
    store_id: Uuid,
    now: DateTime<Utc>,
) -> Result<PeerFacts, Error> {
    let comparison = Comparison { store_id, now, dry_run: true, after_outage: false };
    let mut peer = PeerFacts { reachable: true, is_v1: true, ..PeerFacts::default() };
    match v1::reconcile::compare(client, store, comparison, None).await {
        Ok(found) => {
            let mut compared = Compared::default();
            for (kind, of) in [
                (Kind::Sales, V1Kind::Sales),
                (Kind::Voids, V1Kind::VoidedSales),
                (Kind::Debts, V1Kind::Debts),
                (Kind::Payments, V1Kind::Payments),
                (Kind::Sessions, V1Kind::Sessions),
                (Kind::Stock, V1Kind::Movements),
            ] {
                let gaps = found.of(of);
                for (side, count) in [
                    (&mut compared.missing_here, gaps.local_missing),
                    (&mut compared.missing_there, gaps.remote_missing),
                ] {
                    if count > 0 {
                        side.insert(kind.name().to_owned(), Missing { count, ..Missing::default() });
                    }
                }
            }
            peer.compared = Some(compared);
        }
        Err(CompareError::Store(error)) => unanswered(&mut peer, "its own log", error)?,
        Err(CompareError::Peer(failure)) => {
            peer.reachable = is_there(&failure);
            peer.error = Some(failure.to_string());
        }
    }
    Ok(peer)
}

/// Sends a peer these events now, in the order in which they need each other. Answers how many it has taken, and why it
/// refuses some.
///
/// # Errors
/// The peer's, or this node's own database's, for people.
pub async fn deliver(
    store: &Store,
    client: &PeerClient,
    store_id: Uuid,
    names: &BTreeSet<EventName>,
) -> Result<(u64, Vec<String>), String> {
    let mut ordered: Vec<&EventName> = names.iter().collect();
    ordered.sort_by_key(|name| catalogue::priority(&name.event_type));
    let ids: Vec<String> = ordered.into_iter().map(|name| name.event_id.clone()).collect();
    let (mut taken, mut refused) = (0, Vec::new());
    for some in ids.chunks(SENT) {
        let mut entries = store.events_for_peer(store_id, some).await.map_err(|error| error.describe())?;
        while !entries.is_empty() {
            let mut bytes = 0;
            let fitting = entries
                .iter()
                .take_while(|entry| {
                    bytes += entry.forms.iter().map(|form| form.payload.len()).sum::<usize>();
                    bytes <= SENT_BYTES
                })
                .count();
            let rest = entries.split_off(fitting.max(1));
            let relayed = client.relay(&entries).await.map_err(|failure| failure.to_string())?;
            taken += relayed.accepted.len() as u64;
            refused.extend(
                relayed.refused.into_iter().map(|(_, event_id, reason)| format!("{event_id}: {reason}")),
            );
            entries = rest;
        }
    }
    Ok((taken, refused))
}

/// Has a peer mend its own side.
///
/// # Errors
/// Whatever is no answer.
pub async fn heal(client: &PeerClient, store_id: Uuid) -> Result<Mended, Failure> {
    let body = serde_json::json!({ "store_id": store_id }).to_string().into_bytes();
    let answer = client.send(post(HEAL_PATH, "application/json", body, HEAL_LIMIT)).await?;
    serde_json::from_slice(&answer).map_err(|_| Failure::Malformed("it does not say what it has mended"))
}

fn post<'a>(path: &'a str, content_type: &'static str, body: Vec<u8>, deadline: Duration) -> Request<'a> {
    Request { method: reqwest::Method::POST, path, content_type, body, deadline }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_reached_where_one_of_two_calls_was_answered() {
        let late = || Err(ReconcileError::Exchange(Failure::Timeout));
        assert!(is_reached(&Err(Failure::Timeout), &Ok(Looked::default())));
        assert!(is_reached(&Ok(Facts::default()), &late()));
        assert!(is_reached(&Err(Failure::Status { status: 503, retry_after: None }), &late()));
        assert!(!is_reached(&Err(Failure::Timeout), &late()));
    }
}
