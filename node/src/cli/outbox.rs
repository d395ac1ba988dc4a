//! `velox outbox list|requeue|stats`: a running node works off what is put back.

use super::{Context, Outcome, output};
use clap::Subcommand;
use serde::Serialize;
use uuid::Uuid;
use velox_store::{
    OutboxFilter, OutboxRow, OutboxStats, OutboxStatus, OutboxTarget, OutboxWork, PageRequest, Requeued,
    Store,
};

/// Rows that are read at once.
const PAGE: u32 = 1_000;

/// Arguments of `outbox`.
#[derive(Debug, clap::Args)]
pub(crate) struct Outbox {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What waits, and what is dead and why; exit code 1 where there are dead entries among what was asked for
    List(List),
    /// Put dead entries back into the queue as if they had never been tried
    Requeue(Requeue),
    /// How many entries stand where, and what was done lately; exit code 1 where there are dead ones
    Stats {
        /// Entries of this shop alone
        #[arg(long, value_name = "UUID")]
        store: Option<Uuid>,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Of this shop alone
    #[arg(long, value_name = "UUID")]
    store: Option<Uuid>,
    /// Of this status alone
    #[arg(long, value_parser = ["pending", "dead", "processed"])]
    status: Option<String>,
    /// Of this queue alone
    #[arg(long, value_parser = ["projection", "federation-relay"])]
    target: Option<String>,
    /// Most entries
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, clap::Args)]
struct Requeue {
    /// The shop
    #[arg(long, value_name = "UUID")]
    store: Uuid,
    /// All of its dead entries
    #[arg(long, conflicts_with = "ids", required_unless_present = "ids")]
    dead: bool,
    /// This entry, by the id that `list` shows; may be given again
    #[arg(long = "id", value_name = "N")]
    ids: Vec<i64>,
}

/// What `list` prints for machines.
#[derive(Debug, Serialize)]
struct Listed {
    items: Vec<OutboxRow>,
    /// Whether there are more than these.
    more: bool,
    /// Dead entries among all that were asked for.
    #[serde(skip)]
    dead: i64,
}

impl Outbox {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let database = context.database().await?;
        let done = self.on(&context, &database.store).await;
        database.close().await?;
        done
    }

    async fn on(self, context: &Context, store: &Store) -> anyhow::Result<Outcome> {
        match self.command {
            Command::List(list) => {
                let listed = list.read(store).await?;
                let outcome = found(listed.dead);
                if context.json {
                    output::json(&listed)?
                } else {
                    print_entries(&listed)
                }
                Ok(outcome)
            }
            Command::Requeue(requeue) => {
                let requeued = requeue.run(store).await?;
                let count = requeued.projections + requeued.relays;
                if context.json {
                    output::json(&serde_json::json!({ "requeued": count }))?;
                } else {
                    println!("requeued  {count}");
                }
                Ok(Outcome::Fine)
            }
            Command::Stats { store: shop } => {
                if let Some(shop) = shop {
                    known(store, shop).await?;
                }
                let stats = store.outbox_stats(shop).await?;
                if context.json {
                    output::json(&stats)?
                } else {
                    print_stats(&stats)
                }
                Ok(found(stats.dead(None)))
            }
        }
    }
}

impl List {
    async fn read(&self, store: &Store) -> anyhow::Result<Listed> {
        let filter = OutboxFilter {
            status: self.status.as_deref().and_then(OutboxStatus::of),
            target: self.target.as_deref().and_then(OutboxTarget::of),
        };
        let shops = match self.store {
            Some(shop) => {
                known(store, shop).await?;
                vec![shop]
            }
            None => store.stores().await?.into_iter().map(|shop| shop.store_id).collect(),
        };
        let mut listed = Listed { items: Vec::new(), more: false, dead: 0 };
        'shops: for shop in shops {
            let mut after = None;
            loop {
                let room = self.limit.saturating_sub(u32::try_from(listed.items.len()).unwrap_or(u32::MAX));
                let wanted = PageRequest { after, limit: room.min(PAGE) };
                let page = store.read_outbox(shop, filter, wanted).await?;
                listed.items.extend(page.items);
                if room <= PAGE && page.has_more {
                    listed.more = true;
                    break 'shops;
                }
                if !page.has_more {
                    break;
                }
                after = listed.items.last().map(velox_store::Listed::key);
            }
        }
        if filter.status.is_none_or(|status| status == OutboxStatus::Dead) {
            listed.dead = store.outbox_stats(self.store).await?.dead(filter.target);
        }
        Ok(listed)
    }
}

impl Requeue {
    async fn run(&self, store: &Store) -> anyhow::Result<Requeued> {
        known(store, self.store).await?;
        let ids = (!self.dead).then_some(self.ids.as_slice());
        Ok(store.requeue_dead(self.store, ids).await?)
    }
}

async fn known(store: &Store, shop: Uuid) -> anyhow::Result<()> {
    anyhow::ensure!(store.store_exists(shop).await?, "there is no such store");
    Ok(())
}

fn found(dead: i64) -> Outcome {
    if dead > 0 { Outcome::Found } else { Outcome::Fine }
}

fn print_entries(listed: &Listed) {
    if listed.items.is_empty() {
        println!("There is no such entry.");
        return;
    }
    let mut table = output::table(&[
        "id",
        "store",
        "event",
        "type",
        "target",
        "peer",
        "status",
        "tries",
        "next attempt",
        "error",
    ]);
    for row in &listed.items {
        table.add_row([
            row.id.to_string(),
            row.store_id.to_string(),
            output::plain(&row.event_id),
            output::plain(&row.event_type),
            row.target.clone(),
            output::plain(&row.peer),
            row.status.clone(),
            row.retry_count.to_string(),
            row.next_attempt_at
                .filter(|_| row.status == OutboxStatus::Pending.name())
                .map(|at| at.to_rfc3339())
                .unwrap_or_default(),
            output::plain(row.error.as_deref().unwrap_or_default()),
        ]);
    }
    println!("{table}");
    if listed.more {
        println!("There are more; --limit shows them.");
    }
}

fn print_stats(stats: &OutboxStats) {
    let mut table = output::table(&["target", "peer", "status", "entries", "oldest, s"]);
    for row in &stats.entries {
        let (count, oldest) = (row.count.to_string(), row.oldest_seconds.to_string());
        table.add_row([&row.target, &output::plain(&row.peer), &row.status, &count, &oldest]);
    }
    println!("{table}");
    let mut table = output::table(&["target", "peer", "in the last", "done", "failed", "mean, ms"]);
    for row in &stats.work {
        let OutboxWork { target, peer, .. } = row;
        let spans = [
            ("5 min", row.done_5m, row.failed_5m, row.avg_ms_5m),
            ("24 h", row.done_24h, row.failed_24h, row.avg_ms_24h),
        ];
        for (span, done, failed, mean) in spans {
            let mean = mean.map(|mean| mean.to_string()).unwrap_or_default();
            let cells = [done.to_string(), failed.to_string(), mean];
            table.add_row([target, &output::plain(peer), span, &cells[0], &cells[1], &cells[2]]);
        }
    }
    println!("{table}");
}
