//! `velox heal`: makes missing rows anew, beside a running node.

use super::{Context, Outcome, output};
use crate::lifecycle;
use uuid::Uuid;
use velox_actors::orphan_healer;

/// Arguments of `heal`.
#[derive(Debug, clap::Args)]
pub(crate) struct Heal {
    /// The shop
    #[arg(long, value_name = "UUID")]
    store: Uuid,
}

impl Heal {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let healing = lifecycle::healing(&context.config);
        let database = context.database().await?;
        let report = match database.store.store_exists(self.store).await {
            Ok(true) => orphan_healer::heal(&database.store, self.store, true, healing)
                .await
                .map_err(anyhow::Error::from),
            Ok(false) => Err(anyhow::anyhow!("there is no such store")),
            Err(error) => Err(error.into()),
        };
        database.close().await?;
        let report = report?;
        if context.json {
            output::json(&report)?;
        } else {
            println!(
                "{} events looked at, {} healed, {} failed",
                report.checked, report.healed, report.failed
            );
            if !report.details.is_empty() {
                let mut table = output::table(&["event", "type", "", "error"]);
                for event in &report.details {
                    table.add_row([
                        output::plain(&event.event_id),
                        output::plain(&event.event_type),
                        event.status.to_owned(),
                        output::plain(event.error.as_deref().unwrap_or_default()),
                    ]);
                }
                println!("{table}");
            }
        }
        // What was missing is there now; what still is, somebody should look at.
        Ok(if report.failed == 0 { Outcome::Fine } else { Outcome::Found })
    }
}
