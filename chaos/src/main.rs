//! The program `velox-chaos`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use velox_chaos::{federate, load, scenario};

#[derive(Debug, Parser)]
#[command(name = "velox-chaos", version, about = "Loads and torments Velox nodes from outside")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays a chaos suite and judges whether the invariants held; exit 0: they did, 1: they did not, 2: usage
    Run(scenario::RunOptions),
    /// Sells for minutes while everything dies at random, with figures every minute and a verdict at the end
    Soak(scenario::SoakOptions),
    /// Drives a node with tills and compares it with the floor: the same rows by plain SQL.
    Load(load::Options),
    /// Measures two nodes that are each other's peers: lag, a backlog, the comparison of long logs.
    Federate(federate::Options),
}

/// The tills share the machine with the node and PostgreSQL: more threads would only take turns.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let is_sound = match Arguments::parse().command {
        Command::Run(options) => scenario::run(options).await?,
        Command::Soak(options) => scenario::soak(options).await?,
        Command::Load(options) => load::run(options).await.map(|()| true)?,
        Command::Federate(options) => federate::run(options).await.map(|()| true)?,
    };
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
