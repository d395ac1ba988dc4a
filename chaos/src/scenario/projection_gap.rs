//! Suite 2: a projector fails, so that an event is there and its row is not; and rows that vanish though their events
//! were done. Both are seen and healed without anybody's help, for a sale and for a debt.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::script::Script;
use super::stage::{Stage, node};
use super::{Setting, damage};
use crate::cluster::wait_until;
use crate::history::{self, Sent};
use crate::measure;
use crate::till::Kind;

const SHOP: &str = "shop";
/// The list, the projector, and the kind of event, of what is lost.
const LOST: [(&str, &str, Kind); 2] =
    [("sales", "projector.sale", Kind::Sale), ("debts", "projector.debt", Kind::DebtCreated)];

pub(super) async fn play(setting: &Setting, script: &mut Script) -> Result<()> {
    script
        .step("a node whose healer looks twice a second, and whose failed projections wait for five minutes");
    let spec =
        node(setting, SHOP).set("VELOX_HEAL_INTERVAL_MS", "500").set("VELOX_OUTBOX_RETRY_BASE_MS", "300000");
    let mut stage = Stage::open(setting, &[SHOP], &[spec]).await?;
    let told = story(&mut stage, script).await;
    stage.close(script, told).await
}

async fn story(stage: &mut Stage, script: &mut Script) -> Result<()> {
    let mut till = stage.till(SHOP).await?;
    till.open(true).await?;
    stage.settled().await?;
    for (_, projector, _) in LOST {
        stage.fault(SHOP, json!({ "actor": projector, "fault": "error", "times": 1 })).await?;
    }
    let push = till.write_of(&LOST.map(|(_, _, kind)| kind))?;
    till.deliver(&push).await?;
    let began = measure::now();
    let sent: Vec<Sent> = history::written(&stage.history.entries()).cloned().collect();
    let lost = &sent[sent.len() - LOST.len()..];
    let mut detected = Vec::new();
    for event in lost {
        wait_until("a failed attempt in the event's trail", async || {
            let trail = stage.trail(SHOP, &event.event_id).await.map_err(|error| format!("{error:#}"))?;
            let seen = trail["projection"]["error"].is_string();
            if seen { Ok(()) } else { Err(trail["projection"].to_string()) }
        })
        .await?;
        detected.push(began.elapsed());
    }
    for ((list, projector, _), event) in LOST.iter().zip(lost) {
        let rows = stage.admin(SHOP).list(stage.shop.store_id, list).await?;
        let id = row_id(event)?;
        ensure!(rows.iter().all(|row| row["id"] != id), "{projector} failed, and the row is there");
    }
    script.step("both projectors failed: the events are there, their rows are not");
    for (((list, _, _), event), seen) in LOST.iter().zip(lost).zip(detected) {
        stage.row(SHOP, list, row_id(event)?).await?;
        script.mended(&format!("{list}: no row after a failed projection"), seen, began.elapsed());
    }
    vanished(stage, script, lost).await?;
    stage.check(script).await
}

/// Rows that are removed behind the node's back, after their events were done.
async fn vanished(stage: &Stage, script: &mut Script, lost: &[Sent]) -> Result<()> {
    for ((list, _, _), event) in LOST.iter().zip(lost) {
        let id = row_id(event)?;
        damage::execute(stage.pod(SHOP), format!("DELETE FROM {list} WHERE id = '{id}'")).await?;
        stage.history.fault(format!("the row {id} of {list} is removed by SQL"));
        let repaired = stage.row(SHOP, list, id).await?;
        // The healer looks and mends in one.
        script.mended(&format!("{list}: a row that vanished"), repaired, repaired);
    }
    Ok(())
}

fn row_id(event: &Sent) -> Result<&str> {
    let id = event.payload["sale_id"].as_str().filter(|id| !id.is_empty());
    id.or(event.payload["debt_id"].as_str()).context("an event of no entity")
}
