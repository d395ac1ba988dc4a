//! Suite 5: a projection that fails nine times is done at the tenth; one that fails ten times is dead, visibly, and done
//! after it was put back.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Setting;
use super::script::Script;
use super::stage::{Stage, node};
use crate::client::Client;
use crate::cluster::wait_until;
use crate::history::{self, Sent};
use crate::measure;
use crate::till::Kind;

const SHOP: &str = "shop";
/// Attempts of a projection: the node's default.
const ATTEMPTS: u32 = 10;

pub(super) async fn play(setting: &Setting, script: &mut Script) -> Result<()> {
    script.step("a node whose failed projections are tried again within milliseconds");
    let spec =
        node(setting, SHOP).set("VELOX_HEAL_INTERVAL_MS", "3600000").set("VELOX_OUTBOX_RETRY_BASE_MS", "2");
    let mut stage = Stage::open(setting, &[SHOP], &[spec]).await?;
    let told = story(&mut stage, script).await;
    stage.close(script, told).await
}

async fn story(stage: &mut Stage, script: &mut Script) -> Result<()> {
    let mut till = stage.till(SHOP).await?;
    till.open(true).await?;
    stage.settled().await?;

    fails(stage, Some(ATTEMPTS - 1)).await?;
    let began = measure::now();
    let late = debt(stage, &mut till).await?;
    stage.row(SHOP, "debts", id(&late)?).await?;
    let faults = stage.admin(SHOP).get("/chaos/faults").await?;
    ensure!(!faults.to_string().contains("projector.debt"), "it did not fail nine times: {faults}");
    script.step(format!("nine failures, and done after {:.2} s", began.elapsed().as_secs_f64()));

    fails(stage, None).await?;
    let began = measure::now();
    let poison = debt(stage, &mut till).await?;
    let entry = dead(stage, &poison).await?;
    ensure!(entry["retry_count"] == ATTEMPTS, "dead after another number of attempts: {entry}");
    let trail = stage.trail(SHOP, &poison.event_id).await?;
    ensure!(trail["projection"]["status"] == "failed", "dead, and its event is not failed: {trail}");
    let detected = began.elapsed();
    stage.clear_faults().await?;
    let began = measure::now();
    let all = json!({ "store_id": stage.shop.store_id, "status": "dead" });
    let answer = stage.admin(SHOP).post("/sync/outbox/requeue", &all).await?;
    ensure!(answer["requeued"] == 1, "one was dead: {answer}");
    stage.row(SHOP, "debts", id(&poison)?).await?;
    script.mended("a dead projection, put back", detected, began.elapsed());
    stage.check(script).await
}

async fn fails(stage: &Stage, times: Option<u32>) -> Result<()> {
    let mut fault = json!({ "actor": "projector.debt", "fault": "error" });
    if let Some(times) = times {
        fault["times"] = json!(times);
    }
    stage.fault(SHOP, fault).await
}

/// Pushes a debt.
async fn debt(stage: &Stage, till: &mut Client) -> Result<Sent> {
    let push = till.write_of(&[Kind::DebtCreated])?;
    till.deliver(&push).await?;
    history::written(&stage.history.entries()).last().cloned().context("a debt")
}

fn id(debt: &Sent) -> Result<&str> {
    debt.payload["debt_id"].as_str().context("a debt without an id")
}

/// Waits until an event's entry is dead, as an operator is shown it.
async fn dead(stage: &Stage, event: &Sent) -> Result<Value> {
    let path = format!("/sync/outbox?store_id={}&status=dead", stage.shop.store_id);
    wait_until("a dead entry", async || {
        let page = stage.admin(SHOP).get(&path).await.map_err(|error| format!("{error:#}"))?;
        let found = page["items"].as_array().into_iter().flatten();
        let mut found = found.filter(|entry| entry["event_id"] == event.event_id.as_str());
        found.next().cloned().ok_or_else(|| page.to_string())
    })
    .await
}
