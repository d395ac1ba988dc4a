//! The nemesis: what is done to a cluster, in an order and at moments that a seed decides.
//!
//! Each attack undoes itself: what was killed runs again, what was cut is whole. The plan is pure and the same for a
//! seed; only how long processes take to come back is the machine's. To add an attack: a variant of [`Attack`], its
//! place in [`Nemesis::plan`], and what it does in [`Attack::strike`]. Never here: what clients do meanwhile.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::{Cluster, Redis};
use crate::faulty_network::{Answer, Direction, Fault, Rule, Wire};

/// What is known of a node that is attacked.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name.
    pub node: String,
    /// How many pods it has.
    pub pods: usize,
}

/// A link, by who asks and who answers.
pub type Between = (String, String);

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "who, how long, how often")]
pub enum Attack {
    /// kill -9 of a pod; it starts again after this time.
    Kill { node: String, pod: usize, down: Duration },
    /// The same, and its PostgreSQL with it.
    KillBoth { node: String, down: Duration },
    /// SIGSTOP of a pod for this time, then SIGCONT.
    Pause { node: String, pod: usize, asleep: Duration },
    /// kill -9 of a node's PostgreSQL, which the node starts again.
    KillPostgres { node: String },
    /// kill -9 of Redis; it comes back empty.
    KillRedis { down: Duration },
    /// Redis forgets all leases.
    FlushRedis,
    /// Both ways between two nodes are cut.
    Cut { between: Between, down: Duration },
    /// One way does not carry.
    OneWay { between: Between, wire: Wire, down: Duration },
    /// Requests of one way meet this fault, so many times.
    Lossy { between: Between, fault: Loss, times: u64, down: Duration },
    /// One way is slow.
    Slow { between: Between, delay: Duration, down: Duration },
    /// An actor of a pod fails.
    Actor { node: String, pod: usize, actor: String, fault: &'static str, times: u32 },
}

/// What happens to single requests of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// They do not arrive.
    Requests,
    /// They arrive, and their answers do not come.
    Answers,
    /// They arrive twice.
    Doubled,
    /// They overtake each other.
    Reordered,
    /// A page for people is the answer.
    Garbage,
    /// 503 is the answer.
    Refused,
}

/// Makes attacks.
#[derive(Debug)]
pub struct Nemesis {
    targets: Vec<Target>,
    longest_lease: Duration,
    rng: StdRng,
    /// Kinds that have not been in this round.
    round: Vec<u32>,
}

/// How many kinds a round has.
const KINDS: u32 = 11;
/// Actors of every node that take faults; relays are called by their peers.
const ACTORS: [&str; 7] = [
    "sync_ingest.0",
    "sync_ingest.1",
    "outbox_pump",
    "projector.sale",
    "projector.debt",
    "projector.stock",
    "projector.cash",
];

impl Nemesis {
    /// Of these nodes, whose leases live so long.
    pub fn new(targets: Vec<Target>, longest_lease: Duration, seed: u64) -> Self {
        Nemesis { targets, longest_lease, rng: StdRng::seed_from_u64(seed), round: Vec::new() }
    }

    /// The next attack. Each kind comes once before one comes again.
    pub fn plan(&mut self) -> Attack {
        if self.round.is_empty() {
            self.round = (0..KINDS).collect();
            self.round.shuffle(&mut self.rng);
        }
        let kind = self.round.pop().unwrap_or_default();
        let target = self.target();
        let (node, pod) = (target.node.clone(), self.rng.random_range(0..target.pods));
        let down = self.within(50, 700);
        let between = self.between();
        match kind {
            0 => Attack::Kill { node, pod, down },
            1 => Attack::KillBoth { node, down },
            2 => Attack::Pause { node, pod, asleep: self.longest_lease + self.within(200, 700) },
            3 => Attack::KillPostgres { node },
            4 => Attack::KillRedis { down: self.within(300, 1_200) },
            5 => Attack::FlushRedis,
            6 => Attack::Cut { between, down: self.within(300, 1_500) },
            7 => {
                let wire = if self.rng.random() { Wire::NoAnswers } else { Wire::NoRequests };
                Attack::OneWay { between, wire, down: self.within(300, 1_500) }
            }
            8 => self.lossy(between),
            9 => Attack::Slow { between, delay: self.within(20, 300), down: self.within(300, 1_000) },
            _ => self.actor(node, pod),
        }
    }

    fn lossy(&mut self, between: Between) -> Attack {
        let losses =
            [Loss::Requests, Loss::Answers, Loss::Doubled, Loss::Reordered, Loss::Garbage, Loss::Refused];
        let fault = *losses.choose(&mut self.rng).unwrap_or(&Loss::Answers);
        Attack::Lossy { between, fault, times: self.rng.random_range(1..=4), down: self.within(400, 1_200) }
    }

    fn actor(&mut self, node: String, pod: usize) -> Attack {
        let peer = self.targets.iter().find(|other| other.node != node).map(|peer| peer.node.clone());
        let relay = peer.map_or_else(|| "outbox_pump".to_owned(), |peer| format!("relay.{peer}"));
        let place = self.rng.random_range(0..=ACTORS.len());
        let actor = ACTORS.get(place).map_or(relay, |actor| (*actor).to_owned());
        let fault = *["panic", "error", "delay", "drop"].choose(&mut self.rng).unwrap_or(&"error");
        Attack::Actor { node, pod, actor, fault, times: self.rng.random_range(1..=2) }
    }

    fn target(&mut self) -> Target {
        let place = self.rng.random_range(0..self.targets.len());
        self.targets[place].clone()
    }

    fn between(&mut self) -> Between {
        let from = self.target().node;
        let others: Vec<&Target> = self.targets.iter().filter(|target| target.node != from).collect();
        let to = others.choose(&mut self.rng).map_or_else(|| from.clone(), |target| target.node.clone());
        (from, to)
    }

    fn within(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(least_ms..=most_ms))
    }
}

impl Attack {
    /// Does it, and undoes it.
    ///
    /// # Errors
    /// Where it cannot be done, or what was attacked does not come back.
    pub async fn strike(&self, cluster: &mut Cluster, redis: &mut Redis) -> Result<()> {
        match self {
            Attack::Kill { node, pod, down } => {
                let pod = &mut cluster.pods_mut(node)[*pod];
                pod.kill().await?;
                sleep(*down).await;
                pod.restart().await?;
            }
            Attack::KillBoth { node, down } => {
                let pod = &mut cluster.pods_mut(node)[0];
                // The node first: it would start its PostgreSQL again.
                pod.kill().await?;
                pod.kill_postgres()?;
                sleep(*down).await;
                pod.restart().await?;
            }
            Attack::Pause { node, pod, asleep } => {
                let pod = &cluster.pods(node)[*pod];
                pod.pause()?;
                sleep(*asleep).await;
                pod.resume()?;
            }
            Attack::KillPostgres { node } => cluster.pod(node).kill_postgres()?,
            Attack::KillRedis { down } => {
                redis.kill().await?;
                sleep(*down).await;
                redis.restart().await?;
            }
            Attack::FlushRedis => redis.flush().await?,
            Attack::Actor { node, pod, actor, fault, times } => {
                let fault = json!({ "actor": actor, "fault": fault, "times": times });
                cluster.pods(node)[*pod].admin().post("/chaos/faults", &fault).await?;
            }
            Attack::Cut { .. } | Attack::OneWay { .. } | Attack::Lossy { .. } | Attack::Slow { .. } => {
                self.disturb(cluster).await;
            }
        }
        for name in cluster.names() {
            for pod in cluster.pods_mut(&name) {
                pod.ready().await?;
            }
        }
        Ok(())
    }

    /// What is done to links.
    async fn disturb(&self, cluster: &Cluster) {
        match self {
            Attack::Cut { between: (one, other), down } => {
                cluster.cut(one, other);
                sleep(*down).await;
                cluster.heal(one, other);
            }
            Attack::OneWay { between: (from, to), wire, down } => {
                cluster.link(from, to).set(*wire);
                sleep(*down).await;
                cluster.link(from, to).heal();
            }
            Attack::Lossy { between: (from, to), fault, times, down } => {
                cluster.link(from, to).inject(Rule::new(fault.of_requests()).times(*times));
                sleep(*down).await;
                cluster.link(from, to).heal();
            }
            Attack::Slow { between: (from, to), delay, down } => {
                cluster.link(from, to).delay(Direction::There, *delay);
                sleep(*down).await;
                cluster.link(from, to).heal();
            }
            _ => {}
        }
    }
}

impl Loss {
    fn of_requests(self) -> Fault {
        match self {
            Loss::Requests => Fault::LoseRequest,
            Loss::Answers => Fault::LoseAnswer,
            Loss::Doubled => Fault::Duplicate,
            Loss::Reordered => Fault::Reorder,
            Loss::Garbage => Fault::Answer(Answer::html()),
            Loss::Refused => Fault::Answer(Answer::new(503)),
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attack::Kill { node, pod, down } => write!(f, "kill -9 of pod {pod} of {node}, down {down:?}"),
            Attack::KillBoth { node, down } => {
                write!(f, "kill -9 of pod 0 of {node} and of its PostgreSQL, down {down:?}")
            }
            Attack::Pause { node, pod, asleep } => write!(f, "SIGSTOP of pod {pod} of {node} for {asleep:?}"),
            Attack::KillPostgres { node } => write!(f, "kill -9 of the PostgreSQL of {node}"),
            Attack::KillRedis { down } => write!(f, "kill -9 of Redis, down {down:?}"),
            Attack::FlushRedis => write!(f, "Redis forgets everything"),
            Attack::Cut { between: (from, to), down } => {
                write!(f, "{from} and {to} are cut off for {down:?}")
            }
            Attack::OneWay { between: (from, to), wire, down } => {
                write!(f, "from {from} to {to} {wire:?} for {down:?}")
            }
            Attack::Lossy { between: (from, to), fault, times, down } => {
                write!(f, "from {from} to {to} {fault:?}, {times} times within {down:?}")
            }
            Attack::Slow { between: (from, to), delay, down } => {
                write!(f, "from {from} to {to} {delay:?} slower for {down:?}")
            }
            Attack::Actor { node, pod, actor, fault, times } => {
                write!(f, "{fault} in {actor} of pod {pod} of {node}, {times} times")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::mem::discriminant;

    fn attacks(seed: u64, count: usize) -> Vec<Attack> {
        let target = |node: &str, pods| Target { node: node.to_owned(), pods };
        let targets = vec![target("cloud", 2), target("shop", 1)];
        let mut nemesis = Nemesis::new(targets, Duration::from_secs(1), seed);
        (0..count).map(|_| nemesis.plan()).collect()
    }

    #[test]
    fn a_seed_makes_the_same_attacks_and_another_one_others() {
        assert_eq!(attacks(5, 50), attacks(5, 50));
        assert_ne!(attacks(5, 50), attacks(6, 50));
    }

    #[test]
    fn a_round_has_every_kind_once() {
        let attacks = attacks(1, 2 * KINDS as usize);
        for round in attacks.chunks(KINDS as usize) {
            let kinds: std::collections::HashSet<_> = round.iter().map(discriminant).collect();
            assert_eq!(kinds.len(), KINDS as usize, "{round:?}");
        }
        let texts: BTreeSet<String> = attacks.iter().map(ToString::to_string).collect();
        assert!(texts.iter().any(|text| text.starts_with("SIGSTOP of pod")), "{texts:?}");
    }

    #[test]
    fn a_pause_is_longer_than_a_lease() {
        for attack in attacks(2, 100) {
            if let Attack::Pause { asleep, .. } = attack {
                assert!(asleep > Duration::from_secs(1), "{asleep:?}");
            }
        }
    }
}
