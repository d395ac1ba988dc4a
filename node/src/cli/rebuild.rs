//! `velox rebuild`.

use super::{Context, Outcome, output};
use uuid::Uuid;

/// Arguments of `rebuild`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rebuild {
    /// This shop alone
    #[arg(long, value_name = "UUID")]
    store: Option<Uuid>,
}

impl Rebuild {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let database = context.database().await?;
        let rebuilt = database.store.rebuild_all(self.store).await;
        database.close().await?;
        let rebuilt = rebuilt?;
        if context.json {
            output::json(&rebuilt)?;
        } else {
            let mut table = output::table(&["store", "events", "differences"]);
            let mut rows = output::table(&["store", "table", "key", "what was wrong"]);
            for store in &rebuilt {
                let id = store.store_id.to_string();
                table.add_row([&id, &store.events.to_string(), &store.differences.to_string()]);
                for difference in &store.examples {
                    rows.add_row([&id, difference.table, &output::plain(&difference.key), &difference.what]);
                }
            }
            println!("{table}");
            if rows.row_iter().next().is_some() {
                println!("{rows}");
            }
        }
        let differences: u64 = rebuilt.iter().map(|store| store.differences).sum();
        Ok(if differences == 0 { Outcome::Fine } else { Outcome::Found })
    }
}
