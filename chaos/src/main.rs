//! What looks at Velox node from outside: the load generator and, later, the chaos suites.
//!
//! Never here: anything of the node's own crates but the domain. The node is a process behind HTTP; only the
//! floor of the benchmark speaks SQL.

mod cluster;
mod database;
mod http;
mod load;
mod measure;
mod till;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "velox-chaos", version, about = "Loads and torments Velox nodes from outside")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Drives a node with tills and compares it with the floor: the same rows by plain SQL.
    Load(load::Options),
}

/// The tills share the machine with the node and PostgreSQL: more threads would only take turns.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Load(options) => load::run(options).await,
    }
}
