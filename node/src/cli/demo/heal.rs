//! After the cut: the nodes give each other up, find together again, and a person decides what no rule can.

use super::client::Caller;
use super::compare::{Compared, Tables, identical};
use super::day::Day;
use super::goods::{DISPUTED, GOODS, PRICE_DECIDED, RATE};
use super::nodes::SHOP;
use super::status::Peer;
use super::view::View;
use futures_util::future::try_join;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// How long the breakers may take to open.
const GIVEN_UP_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(300);

/// What came of the heal.
#[derive(Debug)]
pub(super) struct Healed {
    /// From the heal until all tables were the same; none: not in time.
    pub(super) took: Option<Duration>,
    /// Conflicts that a person has decided.
    pub(super) decided: usize,
    /// The tables at the last look.
    pub(super) tables: Vec<Compared>,
}

/// Waits until both breakers are open, for the show: what comes after works without. Nodes that say nothing of their
/// peers are not waited for.
pub(super) async fn wait_until_given_up(admins: &[Caller; 2], view: &View) -> anyhow::Result<()> {
    let [shop, cloud] = admins;
    let deadline = Instant::now() + GIVEN_UP_LIMIT;
    while Instant::now() < deadline {
        match try_join(Peer::of(shop), Peer::of(cloud)).await? {
            (Some(one), Some(other)) if one.is_given_up() && other.is_given_up() => {
                view.say(
                    "both nodes have seen it: their breakers are open, what they have for each other waits",
                );
                return Ok(());
            }
            (None, None) => return Ok(()),
            _ => tokio::time::sleep(POLL).await,
        }
    }
    Ok(())
}

/// Waits until all tables are the same on both nodes, or the time is over.
pub(super) async fn until_identical(admins: &[Caller; 2], limit: Duration) -> anyhow::Result<Healed> {
    let begun = Instant::now();
    loop {
        let tables = compare(admins).await?;
        let took = begun.elapsed();
        if identical(&tables) {
            return Ok(Healed { took: Some(took), decided: 0, tables });
        }
        if took > limit {
            return Ok(Healed { took: None, decided: 0, tables });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A person in the shop decides the price that both sides have set; the other node hears of it.
pub(super) async fn decide(
    day: &Day,
    admins: &[Caller; 2],
    view: &View,
    limit: Duration,
    healed: &mut Healed,
) -> anyhow::Result<()> {
    let conflicts = admins[SHOP].open_conflicts().await?;
    let Some(conflict) = conflicts.iter().find(|open| open.entity_id == day.disputed) else {
        return Ok(());
    };
    view.say(&format!(
        "a person decides the price that both sides have set: {} costs {PRICE_DECIDED} $",
        GOODS[DISPUTED].name
    ));
    let value = json!({ "price_usd": PRICE_DECIDED, "price_bs": PRICE_DECIDED * RATE });
    admins[SHOP].resolve(conflict, value).await?;
    healed.decided = 1;
    let deadline = Instant::now() + limit;
    loop {
        healed.tables = compare(admins).await?;
        let open = admins[SHOP].open_conflicts().await?.len();
        if (identical(&healed.tables) && open < conflicts.len()) || Instant::now() > deadline {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn compare(admins: &[Caller; 2]) -> anyhow::Result<Vec<Compared>> {
    let [shop, cloud] = admins;
    let (shop, cloud) = try_join(Tables::read(shop), Tables::read(cloud)).await?;
    Ok(shop.compare(&cloud))
}
