//! The program `velox-chaos`.

use clap::{Parser, Subcommand};
use velox_chaos::{federate, load};

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
    /// Measures two nodes that are each other's peers: lag, a backlog, the comparison of long logs.
    Federate(federate::Options),
}

/// The tills share the machine with the node and PostgreSQL: more threads would only take turns.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Load(options) => load::run(options).await,
        Command::Federate(options) => federate::run(options).await,
    }
}
