//! The command line: tables for people by default, `--json` for machines; exit 0 fine, 1 found something or
//! failed, 2 usage.
//!
//! Commands take the same configuration as `serve` and work beside a running node. To add one: 1. a module with
//! its arguments and `run`, 2. a variant of [`Command`].

/// `println!` for commands: whoever reads no further (`velox outbox list | head`) ends nothing, least of all a database
/// that is open.
macro_rules! println {
    ($($text:tt)*) => { $crate::cli::output::line(format_args!($($text)*)) };
}

mod backup;
mod config;
mod demo;
mod device;
mod heal;
mod outbox;
mod output;
mod peers;
mod rebuild;
mod reconcile;
mod replay;
mod serve;
mod signals;
mod store;
mod triage;
mod verify;

use crate::config::{Config, Overrides};
use crate::lifecycle::Database;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// An offline-first point-of-sale node.
#[derive(Debug, Parser)]
#[command(name = "velox", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// Configuration file, instead of ./velox.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Machine-readable output
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until it is told to end
    Serve(serve::Serve),
    /// Play a shop's day on two nodes whose link is cut and heals, and show the figures
    Demo(demo::Demo),
    /// Shops of this node
    Store(store::Store),
    /// Tills of a shop
    Device(device::Device),
    /// Look for what must not be: the invariants, and the tables beside what the events make
    Verify(verify::Verify),
    /// Make the read tables anew from the events, beside a running node, and tell what was wrong
    Rebuild(rebuild::Rebuild),
    /// Compare the event log with those of the peers, and send each side what it lacks
    Reconcile(reconcile::Reconcile),
    /// How it goes with the peers, and which node is at home where
    Peers(peers::Peers),
    /// Look for events whose rows are missing, and make those anew
    Heal(heal::Heal),
    /// What is wrong with a shop on all its nodes, since when, and what to do; --fix does it
    Triage(triage::Triage),
    /// Have events projected or sent to peers again
    Replay(replay::Replay),
    /// What waits to be projected or sent, and what is dead; the dead are put back into the queue
    Outbox(outbox::Outbox),
    /// Write the whole database into a file, beside a running node
    Backup(backup::Backup),
    /// Fill the configured database, which must be empty, from a backup
    Restore(backup::Restore),
    /// Print the API description
    Openapi,
    /// The configuration
    Config(config::ConfigCommand),
}

/// What a command found.
pub(crate) enum Outcome {
    /// Nothing to complain of.
    Fine,
    /// Something that somebody should look at.
    Found,
}

/// What every command is given.
pub(crate) struct Context {
    config: Config,
    json: bool,
}

impl Context {
    /// The configured database, migrated; close it at the end.
    async fn database(&self) -> anyhow::Result<Database> {
        let database = Database::attach(&self.config).await?;
        match database.migrate().await {
            Ok(()) => Ok(database),
            Err(error) => {
                database.close().await?;
                Err(error)
            }
        }
    }
}

/// Runs a command.
pub async fn run(cli: Cli) -> ExitCode {
    let config = match Config::load(cli.config.as_deref(), std::env::vars(), &cli.overrides) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("velox: {error}");
            return ExitCode::from(2);
        }
    };
    let context = Context { config, json: cli.json };
    let outcome = match cli.command {
        Command::Serve(serve) => serve.run(context).await,
        Command::Demo(demo) => demo.run(context).await,
        Command::Store(store) => store.run(context).await,
        Command::Device(device) => device.run(context).await,
        Command::Verify(verify) => verify.run(context).await,
        Command::Rebuild(rebuild) => rebuild.run(context).await,
        Command::Reconcile(reconcile) => reconcile.run(context).await,
        Command::Peers(peers) => peers.run(context).await,
        Command::Heal(heal) => heal.run(context).await,
        Command::Triage(triage) => triage.run(context).await,
        Command::Replay(replay) => replay.run(context).await,
        Command::Outbox(outbox) => outbox.run(context).await,
        Command::Backup(backup) => backup.run(context).await,
        Command::Restore(restore) => restore.run(context).await,
        Command::Openapi => output::json(&crate::http::openapi::document()).map(|()| Outcome::Fine),
        Command::Config(command) => command.run(&context),
    };
    match outcome {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(1),
        Err(error) => {
            eprintln!("velox: {error:#}");
            ExitCode::from(1)
        }
    }
}
