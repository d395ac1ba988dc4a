//! The order in which the tills push their day: the morning, both sides of a cut link, the heal, a decision that a
//! person has to make, and pushes that are repeated because their answer was lost or their till has moved.

use super::client::{Acknowledged, Caller};
use super::day::{Day, ROAMING};
use super::heal::{self, Healed};
use super::nodes::{CLOUD, Links, NODES, SHOP};
use super::pushed::Pushed;
use super::till::Queued;
use super::view::View;
use futures_util::future::try_join_all;
use std::time::Duration;
use tokio::time::Instant;

/// How many events a till has queued whenever it pushes: mostly one sale, sometimes more.
const BATCHES: [usize; 8] = [2, 1, 5, 1, 2, 12, 3, 25];
/// Events of the morning's pushes.
const OPENING_BATCH: usize = 40;
/// Events that are pushed again.
const AGAIN: usize = 20;
/// The node of each till when the link is whole, and after the cut: the roaming one has gone over.
const AT_FIRST: [usize; 3] = [SHOP, CLOUD, SHOP];
const AFTER_CUT: [usize; 3] = [SHOP, CLOUD, CLOUD];

/// What came of the day.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) pushed: Pushed,
    pub(super) healed: Healed,
}

/// The shop with its tills, registered at both nodes.
struct Stage<'a> {
    day: &'a Day,
    /// By node and till.
    tills: [Vec<Caller>; 2],
    view: &'a View,
}

/// Plays the day; done when both nodes have the same tables, or have had `limit` for it.
pub(super) async fn play(
    day: &Day,
    admins: &[Caller; 2],
    links: &Links,
    view: &View,
    limit: Duration,
) -> anyhow::Result<Played> {
    view.say("registering the shop and its three tills at both nodes");
    let stage = Stage::set(day, admins, view).await?;
    let mut pushed = Pushed::of(day);
    let begun = Instant::now();
    stage.morning(&mut pushed).await?;
    view.say("selling: Caja 1 and Caja 3 in the shop, Caja 2 at the node in the cloud; the link is whole");
    stage.push(&mut pushed, AT_FIRST, |till, queue| &queue[stage.first(till)..day.before_cut[till]]).await?;
    stage.wait_until_projected(AT_FIRST).await?;
    view.tell(admins).await?;

    view.say("CUT: the nodes cannot reach each other any more");
    links.cut();
    view.say("both sides sell on; Caja 3 was offline and comes back beside the node in the cloud");
    stage.push(&mut pushed, AFTER_CUT, |till, queue| &queue[day.before_cut[till]..]).await?;
    stage.again(&mut pushed, 0, SHOP).await?;
    let answered = Instant::now();
    stage.wait_until_projected(AFTER_CUT).await?;
    pushed.measure(answered - begun, answered.elapsed());
    heal::wait_until_given_up(admins, view).await?;
    view.tell(admins).await?;

    view.say("HEAL: the link is whole again");
    links.heal();
    let mut healed = heal::until_identical(admins, limit).await?;
    match healed.took {
        Some(took) => {
            view.say(&format!("both nodes have the same tables, {:.1} s after the heal", took.as_secs_f64()));
            view.tell(admins).await?;
            heal::decide(day, admins, view, limit, &mut healed).await?;
            view.say("Caja 3 is back in the shop and pushes its last events there once more");
            stage.again(&mut pushed, ROAMING, SHOP).await?;
        }
        None => {
            view.say(&format!("the nodes do not have the same tables after {} s", limit.as_secs()));
            view.tell(admins).await?;
        }
    }
    Ok(Played { pushed, healed })
}

impl<'a> Stage<'a> {
    async fn set(day: &'a Day, admins: &[Caller; 2], view: &'a View) -> anyhow::Result<Self> {
        let mut tills = Vec::new();
        for admin in admins {
            admin.add_store().await?;
            tills.push(try_join_all(day.tills.iter().map(|till| admin.add_device(till.device_id))).await?);
        }
        let tills = tills.try_into().map_err(|_| anyhow::anyhow!("there are two nodes"))?;
        Ok(Stage { day, tills, view })
    }

    async fn morning(&self, pushed: &mut Pushed) -> anyhow::Result<()> {
        self.view.say(&format!(
            "pushing the morning to the node of the {}: products, customers, stock",
            NODES[SHOP]
        ));
        let morning = &self.day.tills[0].queue[..self.day.opening];
        pushed.count(0, self.push_in(0, SHOP, morning, &[OPENING_BATCH]).await?);
        Ok(())
    }

    /// How many of a till's events the morning has pushed.
    fn first(&self, till: usize) -> usize {
        if till == 0 { self.day.opening } else { 0 }
    }

    /// All tills at once, each at its node; the roaming one after the cut in one push.
    async fn push(
        &self,
        pushed: &mut Pushed,
        nodes: [usize; 3],
        part: impl Fn(usize, &'a [Queued]) -> &'a [Queued],
    ) -> anyhow::Result<()> {
        let all = nodes.iter().enumerate().map(|(till, node)| {
            let queue = part(till, &self.day.tills[till].queue);
            let moved = *node != AT_FIRST[till];
            async move {
                let whole = [queue.len().max(1)];
                self.push_in(till, *node, queue, if moved { &whole } else { &BATCHES }).await
            }
        });
        for (till, answers) in try_join_all(all).await?.into_iter().enumerate() {
            pushed.count(till, answers);
        }
        Ok(())
    }

    /// A till that has lost an answer, or does not know what its new node has, pushes its last events again.
    async fn again(&self, pushed: &mut Pushed, till: usize, node: usize) -> anyhow::Result<()> {
        let queue = &self.day.tills[till].queue;
        let last = &queue[queue.len().saturating_sub(AGAIN)..];
        pushed.repeated += last.len() as u64;
        pushed.count(till, self.push_in(till, node, last, &[AGAIN]).await?);
        Ok(())
    }

    /// Pushes a queue in batches of these sizes, over and over.
    async fn push_in(
        &self,
        till: usize,
        node: usize,
        mut queue: &[Queued],
        sizes: &[usize],
    ) -> anyhow::Result<Vec<Acknowledged>> {
        let (caller, device_id) = (&self.tills[node][till], self.day.tills[till].device_id);
        let mut answers = Vec::new();
        for size in sizes.iter().cycle() {
            if queue.is_empty() {
                break;
            }
            let (batch, rest) = queue.split_at(queue.len().min(*size));
            answers.push(caller.push(device_id, batch).await?);
            queue = rest;
        }
        Ok(answers)
    }

    /// Waits until what each node was pushed is in its tables.
    async fn wait_until_projected(&self, nodes: [usize; 3]) -> anyhow::Result<()> {
        for (till, node) in nodes.into_iter().enumerate() {
            let device_id = self.day.tills[till].device_id;
            self.tills[node][till].wait_until_projected(device_id).await?;
        }
        Ok(())
    }
}
