//! Suite 3: what a link between two nodes can do. A stranger answers in the peer's place; the peer times out until the
//! breaker opens, and comes back; and each side has events that nobody is to send any more. Sales go on throughout.

use anyhow::{Result, ensure};

use super::script::Script;
use super::stage::{Stage, node};
use super::{Setting, damage};
use crate::client::Client;
use crate::cluster::wait_until;
use crate::faulty_network::{Answer, Fault, Rule};
use crate::measure;
use crate::till::Kind;

const CLOUD: &str = "cloud";
const SHOP: &str = "shop";
const RELAY: &str = "/sync/federation/relay";
/// Pushes while the peer times out.
const PUSHES: usize = 10;

pub(super) async fn play(setting: &Setting, script: &mut Script) -> Result<()> {
    script.step("two nodes that compare their logs when a breaker closes, and by hand");
    let specs = [CLOUD, SHOP].map(|name| node(setting, name));
    let mut stage = Stage::open(setting, &[CLOUD, SHOP], &specs).await?;
    let told = story(&mut stage, script).await;
    stage.close(script, told).await
}

async fn story(stage: &mut Stage, script: &mut Script) -> Result<()> {
    let (mut here, mut there) = (stage.till(SHOP).await?, stage.till(CLOUD).await?);
    here.open(true).await?;
    there.open(false).await?;
    stage.settled().await?;
    garbage(stage, script, &mut here).await?;
    if !script.is_sound() {
        // What follows would mend it.
        return Ok(());
    }
    timed_out(stage, script, &mut here).await?;
    one_sided(stage, script, &mut here, &mut there).await?;
    stage.check(script).await
}

/// A captive portal answers 200 in the peer's place.
async fn garbage(stage: &Stage, script: &mut Script, till: &mut Client) -> Result<()> {
    let link = stage.cluster.link(SHOP, CLOUD);
    let page = Rule::new(Fault::Answer(Answer::html())).path(RELAY).times(2);
    let rule = link.inject(page);
    stage.history.fault("a page for people answers the shop's relays, twice");
    sell(till, 3).await?;
    wait_until("the page to be given", async || {
        if link.hits(rule) > 0 { Ok(()) } else { Err("nobody asked".to_owned()) }
    })
    .await?;
    stage.settled().await?;
    link.heal();
    script.step("a stranger answered 200 to a relay; nothing waits any more");
    stage.check_outage(script).await
}

async fn timed_out(stage: &Stage, script: &mut Script, till: &mut Client) -> Result<()> {
    let link = stage.cluster.link(SHOP, CLOUD);
    let failed = async || {
        let failed = stage.admin(SHOP).metric(r#"velox_relayed_events_total{outcome="failed"}"#).await;
        failed.unwrap_or(0.0)
    };
    let before = failed().await;
    let began = measure::now();
    link.stall();
    stage.history.fault("the cloud answers the shop no more");
    for _ in 0..PUSHES {
        sell(till, 1).await?;
    }
    wait_until("a relay that times out", async || {
        if failed().await > before { Ok(()) } else { Err("it still waits".to_owned()) }
    })
    .await?;
    script.step(format!("{PUSHES} pushes were taken, and a relay has timed out"));
    // From here on it need not take ten seconds each time.
    link.cut();
    let status = async || -> Result<(String, i64)> {
        let status = stage.admin(SHOP).get("/sync/federation/status").await?;
        let breaker = status["circuitBreakerState"].as_str().unwrap_or_default().to_owned();
        Ok((breaker, status["peers"][0]["pending"].as_i64().unwrap_or_default()))
    };
    wait_until("an open breaker", async || match status().await {
        Ok((breaker, _)) if breaker == "OPEN" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let detected = began.elapsed();
    let (_, pending) = status().await?;
    ensure!(pending >= PUSHES as i64, "{pending} entries wait");
    script.step(format!("the breaker is OPEN, {pending} entries wait"));
    let began = measure::now();
    link.heal();
    stage.history.fault("the link is whole again");
    wait_until("a closed breaker and no entries", async || match status().await {
        Ok((breaker, 0)) if breaker == "CLOSED" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    script.mended("a peer that timed out", detected, began.elapsed());
    Ok(())
}

/// Each side has what the other lacks, and no entry says so: comparing the logs finds it.
async fn one_sided(stage: &Stage, script: &mut Script, here: &mut Client, there: &mut Client) -> Result<()> {
    stage.settled().await?;
    stage.cluster.cut(SHOP, CLOUD);
    sell(here, 5).await?;
    sell(there, 5).await?;
    for node in [SHOP, CLOUD] {
        let gone = damage::lose_relays(stage.pod(node)).await?;
        ensure!(gone >= 5, "{node} had {gone} entries for its peer");
        stage.history.fault(format!("{gone} entries for the peer of {node} are removed by SQL"));
    }
    stage.cluster.heal(SHOP, CLOUD);
    stage.settled().await?;
    script.step("each side has five events that nobody is to send");
    let began = measure::now();
    let report = stage.reconciled(SHOP, 0).await?;
    let detected = began.elapsed();
    stage.settled().await?;
    script.mended("events on one side only", detected, began.elapsed());
    script.step(format!("the comparison took {} rounds", report["rounds"]));
    Ok(())
}

async fn sell(till: &mut Client, sales: usize) -> Result<()> {
    let push = till.write_of(&vec![Kind::Sale; sales])?;
    till.deliver(&push).await
}
