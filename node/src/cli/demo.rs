//! Demo.
use super::{Context, Outcome};
/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {}
impl Demo {
    pub(super) async fn run(self, _context: Context) -> anyhow::Result<Outcome> {
        anyhow::bail!("in the making")
    }
}
