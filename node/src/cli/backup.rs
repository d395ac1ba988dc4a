//! `velox backup` and `velox restore`: the whole database in one file, and back.

use super::{Context, Outcome, output};
use crate::lifecycle::Database;
use std::path::{Path, PathBuf};
use velox_store::backup::{self, Backup as Made};

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// The new file: an archive of PostgreSQL's custom format, for its owner alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// What `velox backup` wrote
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

impl Backup {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let database = Database::attach(&context.config).await?;
        let made = back_up(&context, &database, &self.out).await;
        database.close().await?;
        let made = made?;
        if context.json {
            output::json(&made)?;
        } else {
            println!("{}: {} bytes, read back", made.path.display(), made.bytes);
        }
        Ok(Outcome::Fine)
    }
}

/// Writes a backup of a database that is open.
pub(super) async fn back_up(context: &Context, database: &Database, out: &Path) -> anyhow::Result<Made> {
    let options = database.connect_options(&context.config)?;
    Ok(backup::backup(&options, context.config.pg_bin.as_deref(), out).await?)
}

impl Restore {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let database = Database::attach(&context.config).await?;
        let restored = async {
            let options = database.connect_options(&context.config)?;
            let bin = context.config.pg_bin.as_deref();
            anyhow::Ok(backup::restore(&database.store, &options, bin, &self.from).await?)
        };
        let restored = restored.await;
        database.close().await?;
        let restored = restored?;
        if context.json {
            output::json(&restored)?;
        } else {
            let (node, stores, events) = (&restored.node_id, restored.stores, restored.events);
            println!("node {node}: {stores} stores, {events} events");
            println!("Start it now: what its peers know beyond that comes back by itself.");
        }
        Ok(Outcome::Fine)
    }
}
