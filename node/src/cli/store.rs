//! `velox store add|list`.

use super::{Context, Outcome, output};
use crate::clock::{SystemClock, fresh_event_id, fresh_id};
use clap::Subcommand;
use uuid::Uuid;
use velox_protocol::time::Clock as _;
use velox_store::{Actor, NodeStamp};

/// Arguments of `store`.
#[derive(Debug, clap::Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Register a shop, or give a known one a new name; one that nobody has declared is at home here then
    Add {
        /// Its name
        name: String,
        /// Its id; none: a new one
        #[arg(long, value_name = "UUID")]
        id: Option<Uuid>,
    },
    /// All shops
    List,
}

impl Store {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let database = context.database().await?;
        let done = self.on(&context, &database.store).await;
        database.close().await?;
        done.map(|()| Outcome::Fine)
    }

    async fn on(self, context: &Context, store: &velox_store::Store) -> anyhow::Result<()> {
        let shops = match self.command {
            Command::Add { name, id } => {
                let name = name.trim();
                anyhow::ensure!((1..=200).contains(&name.chars().count()), "a name has 1 to 200 characters");
                let fresh = fresh_id();
                store.node_id(context.config.node_id.as_deref(), &fresh.to_string()).await?;
                let id = id.unwrap_or_else(fresh_id);
                vec![store.create_store(id, name, &stamp()).await?.store]
            }
            Command::List => store.stores().await?,
        };
        if context.json {
            return output::json(&shops);
        }
        let mut table = output::table(&["store", "name", "home node", "registered"]);
        for shop in shops {
            table.add_row([
                shop.store_id.to_string(),
                output::plain(&shop.name),
                shop.home_node.unwrap_or_default(),
                shop.created_at.to_rfc3339(),
            ]);
        }
        println!("{table}");
        Ok(())
    }
}

/// What the node's declaration says of this command.
fn stamp() -> NodeStamp {
    let now = SystemClock.now();
    NodeStamp {
        event_id: fresh_event_id(now),
        now,
        actor: Actor { user_id: "admin".to_owned(), role: "admin".to_owned() },
        trace_parent: None,
    }
}
