//! Suite `crash`: tills sell at two nodes while processes, databases, Redis and links die at moments that nobody chose.
//! Before that, two things that chance would seldom bring: a node and its PostgreSQL killed right after an answer, and a
//! holder of the lease that sleeps until it is another's.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::script::Script;
use super::stage::{Stage, node};
use super::{Setting, damage};
use crate::checker;
use crate::client::Client;
use crate::cluster::{Caller, Redis, wait_until};
use crate::faulty_network::{Fault, Rule};
use crate::history::{Outcome, What};
use crate::measure;
use crate::nemesis::{Nemesis, Target};
use crate::till::Kind;

/// Of two pods, with its leases in Redis.
pub(super) const CLOUD: &str = "cloud";
pub(super) const SHOP: &str = "shop";
const CLOUD_PODS: usize = 2;
/// Tills of each node.
const TILLS: usize = 2;
/// Life of a lease.
const LEASE: Duration = Duration::from_millis(1_200);
/// How long an answer is waited for that must not come; one that is a lie comes at once, also on a busy machine.
const NO_ANSWER: Duration = Duration::from_secs(3);
/// Longest pause between two attacks, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 400;
/// How long the request of a holder is under way that is put to sleep meanwhile.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// The ends of two runs are told apart by more than this.
const APART: Duration = Duration::from_millis(600);

pub(super) async fn play(setting: &Setting, seconds: u32, script: &mut Script) -> Result<()> {
    let (mut stage, mut redis) = open(setting, script).await?;
    let told = story(setting, seconds, &mut stage, &mut redis, script).await;
    stage.close(script, told).await
}

/// The nodes and their Redis.
pub(super) async fn open(setting: &Setting, script: &mut Script) -> Result<(Stage, Redis)> {
    script.step("a node of two pods with leases in Redis, and a node of one pod");
    let redis = Redis::start().await?;
    let with = |name: &str| {
        node(setting, name)
            .set("VELOX_LEASE_TTL_MS", &LEASE.as_millis().to_string())
            .set("VELOX_HEAL_INTERVAL_MS", "1000")
            .set("VELOX_OUTBOX_RETRY_BASE_MS", "50")
    };
    let cloud = with(CLOUD).pods(CLOUD_PODS).set("VELOX_REDIS_URL", &redis.url());
    let stage = Stage::open(setting, &[CLOUD, SHOP], &[cloud, with(SHOP)]).await?;
    Ok((stage, redis))
}

/// The tills, with their day begun.
pub(super) async fn clients(stage: &mut Stage) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for (place, node) in [CLOUD, SHOP].repeat(TILLS).into_iter().enumerate() {
        let mut till = stage.till(node).await?;
        till.open(place == 0).await?;
        clients.push(till);
    }
    stage.settled().await?;
    Ok(clients)
}

/// What is attacked.
pub(super) fn nemesis(setting: &Setting) -> Nemesis {
    let target = |node: &str, pods| Target { node: node.to_owned(), pods };
    Nemesis::new(vec![target(CLOUD, CLOUD_PODS), target(SHOP, 1)], LEASE, setting.seed)
}

async fn story(
    setting: &Setting,
    seconds: u32,
    stage: &mut Stage,
    redis: &mut Redis,
    script: &mut Script,
) -> Result<()> {
    let mut clients = clients(stage).await?;
    killed_after_the_answer(stage, script, &mut clients[1]).await?;
    sleeping_holder(stage, script, &mut clients[1]).await?;
    let limit = Duration::from_secs(u64::from(seconds));
    if !limit.is_zero() {
        let began = measure::now();
        let mut nemesis = nemesis(setting);
        let selling = Selling::begin(clients);
        while began.elapsed() < limit {
            attack(&mut nemesis, stage, redis, script).await?;
        }
        selling.end().await?;
    }
    stage.check(script).await
}

/// The next attack, a pause, and now and then a comparison of the logs by hand.
pub(super) async fn attack(
    nemesis: &mut Nemesis,
    stage: &mut Stage,
    redis: &mut Redis,
    script: &mut Script,
) -> Result<()> {
    let attack = nemesis.plan();
    script.step(attack.to_string());
    stage.history.fault(attack.to_string());
    attack.strike(&mut stage.cluster, redis).await.with_context(|| attack.to_string())?;
    sleep(Duration::from_millis(stage.rng.random_range(0..LONGEST_PAUSE_MS))).await;
    if stage.rng.random_ratio(1, 3) {
        // The pod may be dead or cut off: that is what is played here, and the reader of the run is to see it.
        if let Err(error) = stage.reconcile(CLOUD, stage.cluster.pods(CLOUD).len() - 1).await {
            script.step(format!("a comparison of the logs was not answered: {error:#}"));
        }
    }
    Ok(())
}

/// Tills that sell beside what is done to their nodes.
pub(super) struct Selling {
    stop: watch::Sender<bool>,
    tills: JoinSet<Result<()>>,
}

impl Selling {
    pub(super) fn begin(clients: Vec<Client>) -> Self {
        let (stop, told) = watch::channel(false);
        let mut tills = JoinSet::new();
        for mut client in clients {
            let told = told.clone();
            tills.spawn(async move { client.sell(told).await });
        }
        Selling { stop, tills }
    }

    /// Stops them, when all that they have written is answered.
    pub(super) async fn end(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tills.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// An answer is a promise: node and PostgreSQL die right after one. Then no writer can commit, so that no push may be
/// answered, and they die again.
async fn killed_after_the_answer(stage: &mut Stage, script: &mut Script, till: &mut Client) -> Result<()> {
    let push = till.write_of(&[Kind::Sale; 3])?;
    till.deliver(&push).await?;
    let back_after = kill_both(stage).await?;
    script.step(format!("node and PostgreSQL killed right after an answer, back after {back_after:.2} s"));

    let push = till.write_of(&[Kind::Sale; 3])?;
    let held = damage::hold_writers(stage.pod(SHOP)).await?;
    let told = till.send(0, &push, NO_ANSWER).await;
    let back_after = kill_both(stage).await?;
    drop(held);
    let is_answered = matches!(told, Outcome::Ok { .. });
    let answered = if is_answered { "ANSWERED" } else { "not answered" };
    script.step(format!(
        "a push was {answered} while no event could be stored; both killed, back after {back_after:.2} s"
    ));
    if !is_answered {
        till.deliver(&push).await?;
    }
    Ok(())
}

/// kill -9 of the shop's node and PostgreSQL; how many seconds until they are back.
async fn kill_both(stage: &mut Stage) -> Result<f64> {
    let pod = &mut stage.cluster.pods_mut(SHOP)[0];
    // The node first: it would start its PostgreSQL again.
    pod.kill().await?;
    pod.kill_postgres()?;
    stage.history.fault("kill -9 of the shop's node and of its PostgreSQL");
    let began = measure::now();
    pod.restart().await?;
    Ok(began.elapsed().as_secs_f64())
}

/// A pod of the cloud has the lease and asks for lost events; it sleeps until another pod has done that, and wakes with
/// the answer in its hands.
async fn sleeping_holder(stage: &mut Stage, script: &mut Script, till: &mut Client) -> Result<()> {
    let push = till.write_of(&[Kind::Sale; 3])?;
    till.deliver(&push).await?;
    stage.settled().await?;
    damage::lose_events(stage.pod(CLOUD), &push.event_ids).await?;
    let link = stage.cluster.link(CLOUD, SHOP);
    let slow = Rule::new(Fault::Slow(UNDER_WAY)).path("/sync/federation/events").times(1);
    let slow = link.inject(slow);
    let [sleeper, _] = stage.cluster.pods(CLOUD) else { anyhow::bail!("the cloud has two pods") };
    let asleep = asked(stage, sleeper.admin());
    let meanwhile = async {
        wait_until("the request for the lost events", async || {
            if link.hits(slow) == 1 { Ok(()) } else { Err("it has not come".to_owned()) }
        })
        .await?;
        sleeper.pause()?;
        let began = measure::now();
        stage.history.fault("SIGSTOP of the holder of the lease");
        let report = stage.reconciled(CLOUD, 1).await?;
        let repaired = began.elapsed();
        sleep(APART).await;
        sleeper.resume()?;
        anyhow::Ok((report, repaired))
    };
    let (woken, meanwhile) = tokio::join!(asleep, meanwhile);
    let (report, repaired) = meanwhile?;
    ensure!(report["sales"]["replayedToLocal"] == 3, "the other pod did not fetch what was lost: {report}");
    let woken = woken?;
    let said = woken["reason"].as_str().unwrap_or("nothing of a lost lease").to_owned();
    script.judged(checker::single_reconciler::check_woken(0, &woken));
    stage.history.add(What::Reconcile { node: CLOUD.to_owned(), pod: 0, report: woken });
    script.mended("a holder of the lease that sleeps", repaired, repaired);
    script.step(format!("it woke, with the answer in its hands, and said: {said}"));
    Ok(())
}

/// A comparison by hand, not written down yet.
async fn asked(stage: &Stage, admin: Caller) -> Result<serde_json::Value> {
    let body = serde_json::json!({ "store_id": stage.shop.store_id });
    let answer = admin.post("/sync/federation/auto-reconcile", &body).await?;
    Ok(answer[0].clone())
}
