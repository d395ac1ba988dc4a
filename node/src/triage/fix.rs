//! `--fix`: the repair that belongs to each letter, and a second look.
//!
//! Nothing is ever removed but rows that events make anew. Every step may be repeated, and may be under way elsewhere.

use super::examine;
use chrono::TimeDelta;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;
use velox_actors::Deps;
use velox_actors::orphan_healer::Healing;
use velox_actors::reconciler::{self, Partner, Reconcile, Sink};
use velox_actors::relay::Wire;
use velox_actors::triage;
use velox_protocol::triage::verdict::{HERE, Letter, Report};
use velox_protocol::triage::{Facts, Mended};
use velox_store::{Error, Leases};

/// Looks after the repair: what is on its way between nodes and to the tables takes a moment.
const LOOKS: u32 = 20;
/// Between two of them.
const BETWEEN: Duration = Duration::from_millis(500);
/// For all of them: then what is left is told.
const LOOKING: TimeDelta = TimeDelta::minutes(5);
/// How often another's reconciliation is waited for, and how long each time.
const LEASE_TRIES: u32 = 10;
const LEASE_WAIT: Duration = Duration::from_secs(1);

/// What a repair works with.
pub struct Fix<'a> {
    /// Store, clock, settings.
    pub deps: &'a Deps,
    /// Leases under which logs are compared.
    pub leases: &'a Leases,
    /// The peers.
    pub wires: &'a [Wire],
    /// How a projection is tried.
    pub healing: Healing,
    /// Told of each step as it is done, for people.
    pub say: &'a dyn Fn(&str),
}

/// A repair and what it has brought.
#[derive(Debug)]
pub struct Fixed {
    /// What is still wrong.
    pub after: Report,
    /// What was done.
    pub steps: Vec<String>,
}

impl Fix<'_> {
    /// Mends what the report names, and looks again until all is well or nothing gets better.
    ///
    /// # Errors
    /// This node's own database's.
    pub async fn run(&self, store_id: Uuid, before: &Report) -> Result<Fixed, Error> {
        let mut steps = Vec::new();
        let deadline = self.deps.clock.now() + LOOKING;
        let mut is_busy = self.mend_here(store_id, before, &mut steps).await?;
        is_busy |= self.mend_peers(store_id, before, &mut steps).await;
        if before
            .kinds
            .values()
            .any(|kind| kind.missing_here + kind.missing_there > 0 || kind.verdict == Letter::A)
        {
            self.exchange(store_id, &mut steps).await?;
        }
        let mut after = self.look(store_id).await?;
        for look in 1..LOOKS {
            if after.is_fine() && !is_coming(&after) || is_all_that_can_be(&after) {
                break;
            }
            if look % 4 == 1 {
                // What was fetched is projected by this node, where one runs; or here and now.
                is_busy = self.mend_again(store_id, &after, &mut steps).await?;
            }
            tokio::time::sleep(BETWEEN).await;
            let last = std::mem::replace(&mut after, self.look(store_id).await?);
            let is_moving = is_busy || is_coming(&after) || self.is_queued(&after);
            let is_same = figures(&last) == figures(&after) && !is_moving;
            if is_same || self.deps.clock.now() > deadline {
                break;
            }
        }
        Ok(Fixed { after, steps })
    }

    /// Whether a running node sends something: to v1 peers nobody else does.
    fn is_queued(&self, report: &Report) -> bool {
        let is_v1 = |wire: &Wire| matches!(wire, Wire::V1(_)) && wire.peer().serves(report.store_id);
        self.wires.iter().any(is_v1) && report.kinds.values().any(|kind| kind.missing_there > 0)
    }

    async fn look(&self, store_id: Uuid) -> Result<Report, Error> {
        examine(&self.deps.store, self.wires, store_id, self.deps.clock.now()).await
    }

    fn did(&self, steps: &mut Vec<String>, step: String) {
        (self.say)(&step);
        steps.push(step);
    }

    /// Whether somebody else is mending this node; so the others.
    async fn mend_here(
        &self,
        store_id: Uuid,
        before: &Report,
        steps: &mut Vec<String>,
    ) -> Result<bool, Error> {
        let ours = before.nodes.first().and_then(|node| node.facts.as_ref());
        if !ours.is_some_and(is_to_mend) {
            return Ok(false);
        }
        let mended = triage::mend(&self.deps.store, store_id, true, self.healing).await?;
        for step in told(HERE, &mended) {
            self.did(steps, step);
        }
        Ok(mended.being_mended)
    }

    async fn mend_peers(&self, store_id: Uuid, before: &Report, steps: &mut Vec<String>) -> bool {
        let mut is_busy = false;
        for node in before.nodes.iter().skip(1).filter(|node| node.facts.as_ref().is_some_and(is_to_mend)) {
            let Some(Wire::Velox(client)) = self.wires.iter().find(|wire| wire.peer().name == node.name)
            else {
                continue;
            };
            match triage::heal(client, store_id).await {
                Ok(mended) => {
                    is_busy |= mended.being_mended;
                    for step in told(&node.name, &mended) {
                        self.did(steps, step);
                    }
                }
                Err(failure) => self.did(steps, format!("At {}: nothing was mended: {failure}.", node.name)),
            }
        }
        is_busy
    }

    /// Both sides get what they lack: by a reconciliation, and what the peer lacks at once by this hand, since a relay may
    /// be what does not work.
    async fn exchange(&self, store_id: Uuid, steps: &mut Vec<String>) -> Result<(), Error> {
        for wire in self.wires.iter().filter(|wire| wire.peer().serves(store_id)) {
            let name = wire.peer().name.as_str();
            match self.reconcile(store_id, wire).await {
                Ok((fetched, queued)) => self.did(
                    steps,
                    format!("Compared the logs with {name}: fetched {fetched} events from it, queued {queued} for it."),
                ),
                Err(reason) => {
                    self.did(steps, format!("The logs could not be compared with {name}: {reason}."));
                    continue;
                }
            }
            let Wire::Velox(client) = wire else { continue };
            let Ok(looked) = triage::look(&self.deps.store, client, store_id).await else { continue };
            if looked.missing_there.is_empty() {
                continue;
            }
            match triage::deliver(&self.deps.store, client, store_id, &looked.missing_there).await {
                Ok((taken, refused)) => {
                    self.did(steps, format!("Sent {taken} events to {name}."));
                    for reason in refused {
                        self.did(steps, format!("{name} refuses event {reason}."));
                    }
                }
                Err(reason) => self.did(steps, format!("Events could not be sent to {name}: {reason}.")),
            }
        }
        Ok(())
    }

    async fn reconcile(&self, store_id: Uuid, wire: &Wire) -> Result<(u64, u64), String> {
        let partners = [Partner { wire: wire.clone(), relay: None }];
        let peer = Some(wire.peer().name.clone());
        let wanted = Reconcile { store_id: Some(store_id), peer, dry_run: false, after_outage: false };
        let (_alive, ending) = watch::channel(false);
        let sink = Sink::Database(self.deps.store.clone());
        let mut reason = String::new();
        for _ in 0..LEASE_TRIES {
            let reports = reconciler::reconcile(
                self.deps,
                self.leases,
                &partners,
                &sink,
                &wanted,
                ending.clone(),
                &|| {},
            )
            .await?;
            let Some(report) = reports.into_iter().next() else {
                return Err("it does not serve this store".to_owned());
            };
            let kinds = [
                report.sessions,
                report.sales,
                report.inventory.counts,
                report.debts,
                report.voids,
                report.debt_payments,
                report.other,
            ];
            match report.reason {
                None => {
                    let sum =
                        |of: fn(&velox_protocol::reconciled::KindCounts) -> u64| kinds.iter().map(of).sum();
                    return Ok((sum(|kind| kind.replayed_to_local), sum(|kind| kind.replayed_to_remote)));
                }
                // Somebody else does the same at this moment.
                Some(held) if held == "lease_held" => reason = held,
                Some(other) => return Err(other),
            }
            tokio::time::sleep(LEASE_WAIT).await;
        }
        Err(reason)
    }

    async fn mend_again(
        &self,
        store_id: Uuid,
        after: &Report,
        steps: &mut Vec<String>,
    ) -> Result<bool, Error> {
        let ours = after.nodes.first().and_then(|node| node.facts.as_ref());
        let mut is_busy = false;
        if ours.is_some_and(|facts| is_to_mend(facts) || has_pending(facts)) {
            let mended = triage::mend(&self.deps.store, store_id, true, self.healing).await?;
            is_busy = mended.being_mended;
            if mended.healed > 0 {
                self.did(steps, format!("At {HERE}: {} more events were projected.", mended.healed));
            }
        }
        Ok(self.mend_peers(store_id, after, steps).await || is_busy)
    }
}

fn is_to_mend(facts: &Facts) -> bool {
    !facts.schema_differences.is_empty() || facts.kinds.values().any(|kind| kind.stuck > 0)
}

fn has_pending(facts: &Facts) -> bool {
    facts.kinds.values().any(|kind| kind.pending > 0)
}

/// Events are on their way to the tables of some node.
fn is_coming(report: &Report) -> bool {
    report.nodes.iter().filter_map(|node| node.facts.as_ref()).any(has_pending)
}

/// A peer is away, and nothing else is to be done.
fn is_all_that_can_be(report: &Report) -> bool {
    let known = || report.nodes.iter().filter_map(|node| node.facts.as_ref());
    report.nodes.iter().any(|node| !node.reachable)
        && !known().any(|facts| is_to_mend(facts) || has_pending(facts))
        && !report.kinds.values().any(|kind| kind.missing_here + kind.missing_there > 0)
}

/// What two looks have in common where nothing gets better.
fn figures(report: &Report) -> Vec<(&'static str, Letter, [u64; 4], Option<u64>)> {
    let of = report.kinds.iter();
    of.map(|(kind, of)| {
        let counts = [of.count, of.missing_here, of.missing_there, of.failed];
        (*kind, of.verdict, counts, of.missing_rows)
    })
    .collect()
}

/// What was mended, for people.
fn told(node: &str, mended: &Mended) -> Vec<String> {
    let mut told: Vec<String> =
        mended.statements.iter().map(|statement| format!("At {node}: ran {statement}")).collect();
    if mended.being_mended {
        told.push(format!("At {node}: somebody else is mending it at this moment."));
    }
    told.extend(mended.refused.iter().map(|refused| format!("At {node}: could not run {refused}")));
    if mended.rebuilt > 0 {
        told.push(format!(
            "At {node}: made the tables anew from the events; {} rows were put right.",
            mended.rebuilt
        ));
    }
    if mended.stuck > 0 {
        told.push(format!(
            "At {node}: projected {} of {} events that were not in the tables.",
            mended.healed, mended.stuck
        ));
    }
    if mended.busy > 0 {
        told.push(format!("At {node}: {} of them are being projected by somebody else.", mended.busy));
    }
    told.extend(mended.failed.iter().map(|failed| {
        format!("At {node}: {} {} still fails: {}", failed.event_type, failed.event_id, failed.error)
    }));
    let more = mended.failed_count.saturating_sub(mended.failed.len() as u64);
    if more > 0 {
        told.push(format!("At {node}: so do {more} others."));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use velox_protocol::triage::{KindFacts, Missing, PeerFacts};

    fn report(stuck: u64, reachable: bool) -> Report {
        let ours = KindFacts { stuck, ..KindFacts::default() };
        let ours = Facts { kinds: [("sales".to_owned(), ours)].into(), ..Facts::default() };
        let waiting = [("debts".to_owned(), Missing { count: 2, ..Missing::default() })].into();
        let peer = PeerFacts { reachable, waiting, ..PeerFacts::default() };
        Report::of(Uuid::from_u128(1), DateTime::UNIX_EPOCH, ours, vec![peer])
    }

    #[test]
    fn a_peer_that_is_away_is_not_waited_for_once_this_side_is_well() {
        assert!(is_all_that_can_be(&report(0, false)));
        assert!(!is_all_that_can_be(&report(0, true)));
        assert!(!is_all_that_can_be(&report(3, false)), "this side is to be mended");
    }

    #[test]
    fn two_looks_are_the_same_where_nothing_got_better() {
        assert_eq!(figures(&report(3, true)), figures(&report(3, true)));
        assert_ne!(figures(&report(3, true)), figures(&report(2, true)));
    }
}
