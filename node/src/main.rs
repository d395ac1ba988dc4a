//! The `velox` executable.

use clap::Parser;
use std::process::ExitCode;
use velox_node::cli::{self, Cli};

fn main() -> ExitCode {
    // Usage errors end here with exit code 2.
    let cli = Cli::parse();
    actix_rt::System::new().block_on(cli::run(cli))
}
