//! `velox config check`.

use super::{Context, Outcome, output};
use clap::Subcommand;
use serde_json::json;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the effective values, secrets hidden; refuse unknown variables
    Check,
}

impl ConfigCommand {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<Outcome> {
        let Command::Check = self.command;
        let (values, problems) = (context.config.effective(), &context.config.warnings);
        if context.json {
            output::json(&json!({ "values": values, "problems": problems }))?;
        } else {
            let mut table = output::table(&["key", "value", "from"]);
            for value in values {
                table.add_row([&value.key, &output::plain(&value.value), &value.source]);
            }
            println!("{table}");
            for problem in problems {
                println!("refused: {}", output::plain(problem));
            }
        }
        Ok(if problems.is_empty() { Outcome::Fine } else { Outcome::Found })
    }
}
