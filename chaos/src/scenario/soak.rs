//! `velox-chaos soak`: the load and the attacks of `crash` for as long as is wanted, with figures every minute.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::crash::{self, CLOUD, SHOP, Selling};
use super::script::Script;
use super::stage::Stage;
use super::{Common, Setting, damage};
use crate::cluster::Redis;
use crate::history;
use crate::measure;

/// How often figures are shown.
const FIGURES_EVERY: Duration = Duration::from_secs(60);

/// How long to soak.
#[derive(Debug, Clone, clap::Args)]
pub struct SoakOptions {
    /// How long; a part of one will do
    #[arg(long, value_name = "N", value_parser = minutes)]
    pub(super) minutes: f64,
    #[command(flatten)]
    pub(super) common: Common,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.05..=100_000.0).contains(minutes));
    minutes.ok_or_else(|| "must be a number from 0.05 to 100000".to_owned())
}

pub(super) async fn play(setting: &Setting, options: &SoakOptions, script: &mut Script) -> Result<()> {
    let (mut stage, mut redis) = crash::open(setting, script).await?;
    let told = story(setting, options.minutes, &mut stage, &mut redis, script).await;
    stage.close(script, told).await
}

async fn story(
    setting: &Setting,
    minutes: f64,
    stage: &mut Stage,
    redis: &mut Redis,
    script: &mut Script,
) -> Result<()> {
    let selling = Selling::begin(crash::clients(stage).await?);
    let mut nemesis = crash::nemesis(setting);
    let (began, limit) = (measure::now(), FIGURES_EVERY.mul_f64(minutes));
    let mut shown = 0;
    while began.elapsed() < limit {
        crash::attack(&mut nemesis, stage, redis, script).await?;
        if began.elapsed() >= FIGURES_EVERY * (shown + 1) {
            shown += 1;
            figures(stage, script, &format!("minute {shown}")).await;
        }
    }
    selling.end().await?;
    stage.check(script).await?;
    figures(stage, script, "at the end").await;
    Ok(())
}

/// Gaps, entries, failed events and server errors so far.
async fn figures(stage: &Stage, script: &mut Script, when: &str) {
    let summary = history::summary(&stage.history.entries());
    for node in [CLOUD, SHOP] {
        let counted = damage::counts(stage.pod(node)).await;
        script.step(match counted {
            Ok(counts) => line(when, node, &counts, &summary),
            // Its PostgreSQL was just killed.
            Err(error) => format!("{when}: {node} cannot be counted now: {error:#}"),
        });
    }
}

fn line(when: &str, node: &str, counts: &damage::Counts, summary: &Value) -> String {
    let damage::Counts { gaps, dead, pending, failed } = counts;
    let (events, errors) = (&summary["accepted"], &summary["answers_5xx"]);
    format!(
        "{when}: {node}: gaps {gaps}, dead {dead}, pending {pending}, failed {failed}; of all: events {events}, 5xx {errors}"
    )
}
