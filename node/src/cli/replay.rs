//! `velox replay`: puts events into a queue of the outbox; a running node works them off.

use super::{Context, Outcome, output};
use crate::federation;
use crate::http::page;
use crate::replay::{self, Events, Target};
use anyhow::Context as _;
use uuid::Uuid;
use velox_protocol::event::normal_id;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The shop
    #[arg(long, value_name = "UUID")]
    store: Uuid,
    /// This event; may be given again
    #[arg(long = "event", value_name = "ID", conflicts_with_all = ["types", "from", "to"], required_unless_present = "types")]
    events: Vec<String>,
    /// All events of this type; may be given again
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Of their own time: from this day, or time (RFC 3339) …
    #[arg(long, value_name = "TIME", requires = "types")]
    from: Option<String>,
    /// … to this one, both included
    #[arg(long, value_name = "TIME", requires = "types")]
    to: Option<String>,
    /// What is done again
    #[arg(long, value_parser = ["projection", "federation-relay"])]
    target: String,
    /// To this peer alone
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
}

impl Replay {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let events = if self.types.is_empty() {
            Events::Ids(self.events.iter().map(|id| normal_id(id)).collect())
        } else {
            let range = page::time_range(self.from.as_deref(), self.to.as_deref())
                .context("--from and --to must be days (YYYY-MM-DD) or times (RFC 3339)")?;
            Events::Types(self.types, range)
        };
        let target = Target::of(&self.target, self.peer)?;
        let peers = federation::peers(&context.config.peers);
        let database = context.database().await?;
        let replay = replay::Replay { store_id: self.store, events, target };
        let replayed = match database.store.store_exists(self.store).await {
            Ok(true) => replay.run(&database.store, &peers).await.map_err(anyhow::Error::from),
            Ok(false) => Err(anyhow::anyhow!("there is no such store")),
            Err(error) => Err(error.into()),
        };
        database.close().await?;
        let replayed = replayed?;
        if context.json {
            output::json(&replayed)?;
        } else {
            let mut table = output::table(&["requested", "found", "queued", "to"]);
            let to = if replayed.peers.is_empty() { self.target } else { replayed.peers.join(", ") };
            table.add_row([
                replayed.requested.to_string(),
                replayed.found.to_string(),
                replayed.queued.to_string(),
                to,
            ]);
            println!("{table}");
            for id in &replayed.missing {
                println!("unknown  {}", output::plain(id));
            }
        }
        Ok(if replayed.missing.is_empty() { Outcome::Fine } else { Outcome::Found })
    }
}
