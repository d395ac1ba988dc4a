//! `velox verify`.

use super::{Context, Outcome, output};
use uuid::Uuid;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// This shop alone
    #[arg(long, value_name = "UUID")]
    store: Option<Uuid>,
}

impl Verify {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let database = context.database().await?;
        let findings = database.store.verify(self.store).await;
        database.close().await?;
        let findings = findings?;
        if context.json {
            output::json(&findings)?;
        } else if findings.is_empty() {
            println!(
                "INV-2, INV-3 and INV-4 hold: nothing doubled, all sums right, nothing missing, every row as the events make it."
            );
        } else {
            let mut table = output::table(&["invariant", "what", "store", "id", "found"]);
            for finding in &findings {
                let store = finding.store_id.to_string();
                let (id, detail) = (output::plain(&finding.id), output::plain(&finding.detail));
                table.add_row([finding.invariant, finding.what, &store, &id, &detail]);
            }
            println!("{table}");
        }
        Ok(if findings.is_empty() { Outcome::Fine } else { Outcome::Found })
    }
}
