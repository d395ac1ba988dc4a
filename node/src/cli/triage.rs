//! `velox triage`: what is wrong with a shop on all its nodes, in words; `--fix` mends it. Beside a running node, or
//! where none runs.

use super::backup::back_up;
use super::{Context, Outcome, output};
use crate::clock::SystemClock;
use crate::config::Secret;
use crate::lifecycle::Database;
use crate::triage::fix::{Fix, Fixed};
use crate::triage::markdown::{TITLES, figures, markdown};
use crate::triage::{examine, text};
use crate::{federation, lifecycle};
use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;
use velox_actors::Deps;
use velox_actors::fault::Faults;
use velox_actors::metrics::Metrics;
use velox_actors::peer::OwnIdentity;
use velox_actors::relay::Wire;
use velox_protocol::time::Clock;
use velox_protocol::triage::verdict::Report;
use velox_store::{Leases, Store};

/// Arguments of `triage`.
#[derive(Debug, clap::Args)]
pub(crate) struct Triage {
    /// This shop alone
    #[arg(long, value_name = "UUID")]
    store: Option<Uuid>,
    /// Mend what is wrong, here and at the peers, and look again
    #[arg(long)]
    fix: bool,
    /// Make no backup before and after a repair
    #[arg(long)]
    no_backup: bool,
    /// Write the findings to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What was found in a shop, and done.
#[derive(Debug, Serialize)]
struct Examined {
    /// How it is now.
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Report>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<String>,
    #[serde(skip)]
    name: String,
}

impl Triage {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        // Not migrated: what is missing there is to be found, too.
        let database = Database::attach(&context.config).await?;
        let mut examined = Vec::new();
        let ended = self.examine(&context, &database, &mut examined).await;
        let closed = database.close().await;
        // What was found and done is told, whatever went wrong after it.
        let outcome = if ended.is_err() && examined.is_empty() {
            Ok(Outcome::Found)
        } else {
            self.tell(&context, &examined)
        };
        ended?;
        closed?;
        outcome
    }

    fn tell(&self, context: &Context, examined: &[Examined]) -> anyhow::Result<Outcome> {
        if let Some(path) = &self.report {
            std::fs::write(path, written(examined))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if context.json {
            match examined {
                [one] if self.store.is_some() => output::json(one)?,
                all => output::json(&all)?,
            }
        }
        let is_fine = examined.iter().all(|store| store.report.is_fine());
        Ok(if is_fine { Outcome::Fine } else { Outcome::Found })
    }

    async fn examine(
        &self,
        context: &Context,
        database: &Database,
        all: &mut Vec<Examined>,
    ) -> anyhow::Result<()> {
        let (config, store) = (&context.config, &database.store);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let own = OwnIdentity::asking(store).await?;
        let wires = federation::wires(&federation::peers(&config.peers), &own, &clock)?;
        let stores = store.stores_to_examine().await?;
        let wanted: Vec<_> =
            stores.into_iter().filter(|(store_id, _)| self.store.is_none_or(|id| id == *store_id)).collect();
        if let (Some(_), []) = (self.store, wanted.as_slice()) {
            anyhow::bail!("there is no such store");
        }
        for (store_id, name) in wanted {
            let report = examine(store, &wires, store_id, clock.now()).await?;
            let examined = Examined { report, before: None, steps: Vec::new(), name };
            show(context, &examined);
            all.push(examined);
        }
        if all.is_empty() && !context.json {
            println!("There is no shop.");
        }
        let mut to_mend: Vec<_> = all.iter_mut().filter(|examined| !is_quiet(&examined.report)).collect();
        if !self.fix || to_mend.is_empty() {
            return Ok(());
        }
        let taken_at = clock.now();
        let refused = "no backup could be made, and nothing was repaired; --no-backup goes on without";
        self.back_up(context, database, taken_at, "before").await.context(refused)?;
        for examined in &mut to_mend {
            let fixed = self.fix(context, store, &wires, &examined.report).await?;
            examined.before = Some(std::mem::replace(&mut examined.report, fixed.after));
            examined.steps = fixed.steps;
            say(context, "\nAfter the repair:\n");
            show(context, examined);
        }
        let refused = "the repair is done, and no backup could be made of what it has brought";
        self.back_up(context, database, taken_at, "after").await.context(refused)
    }

    /// Keeps the database as it is, in the data directory.
    async fn back_up(
        &self,
        context: &Context,
        database: &Database,
        taken_at: DateTime<Utc>,
        when: &str,
    ) -> anyhow::Result<()> {
        if self.no_backup {
            return Ok(());
        }
        let directory = context.config.data_dir.join("backups");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let name = format!("triage-{}-{when}.dump", taken_at.format("%Y%m%dT%H%M%S%3fZ"));
        let made = back_up(context, database, &directory.join(name)).await?;
        say(context, &format!("\nBackup: {} ({} bytes)", made.path.display(), made.bytes));
        Ok(())
    }

    async fn fix(
        &self,
        context: &Context,
        store: &Store,
        wires: &[Wire],
        before: &Report,
    ) -> anyhow::Result<Fixed> {
        let config = &context.config;
        let settings = lifecycle::settings(config);
        let leases = Leases::new(store.clone(), config.redis_url.as_ref().map(Secret::expose))?;
        let deps = Deps {
            store: store.clone(),
            clock: Arc::new(SystemClock),
            metrics: Arc::new(Metrics::new()),
            faults: Faults::disabled(),
            pod: rand::random(),
            settings,
        };
        let healing = lifecycle::healing(config);
        say(context, "\nWhat is done now:");
        let tell = |step: &str| say(context, &format!("  {}", output::plain(step)));
        let fix = Fix { deps: &deps, leases: &leases, wires, healing, say: &tell };
        Ok(fix.run(before.store_id, before).await?)
    }
}

/// For people.
fn say(context: &Context, line: &str) {
    if !context.json {
        println!("{line}");
    }
}

/// Nothing is to be mended.
fn is_quiet(report: &Report) -> bool {
    let stuck = |facts: &velox_protocol::triage::Facts| facts.kinds.values().any(|kind| kind.stuck > 0);
    report.wrong().is_empty() && !report.nodes.iter().filter_map(|node| node.facts.as_ref()).any(stuck)
}

fn show(context: &Context, examined: &Examined) {
    if context.json {
        return;
    }
    let text = text::text(&examined.name, &examined.report);
    for line in text.lines() {
        println!("{}", output::plain(line));
    }
    let mut table = output::table(&TITLES);
    for row in figures(&examined.report) {
        table.add_row(row);
    }
    println!("\n{table}");
}

/// All findings as Markdown.
fn written(all: &[Examined]) -> String {
    let mut text = "# Triage\n\n".to_owned();
    for examined in all {
        if let Some(before) = &examined.before {
            text.push_str(&markdown(&examined.name, "Before the repair", before));
            text.push_str("\n### What was done\n\n");
            for step in &examined.steps {
                text.push_str(&format!("- {}\n", output::plain(step)));
            }
            text.push('\n');
            text.push_str(&markdown(&examined.name, "After the repair", &examined.report));
        } else {
            text.push_str(&markdown(&examined.name, "Found", &examined.report));
        }
        text.push('\n');
    }
    text
}
