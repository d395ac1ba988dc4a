//! `velox serve`.

use super::signals::Signals;
use super::{Context, Outcome};
use crate::clock::SystemClock;
use crate::lifecycle::{self, DRAIN, StartOptions};
use crate::telemetry::Telemetry;
use anyhow::bail;
use std::sync::Arc;
use std::time::Duration;

/// How long a node that was told to end still serves and says that it is not ready, so that whoever balances
/// load sees it and sends nothing more. Part of [`DRAIN`].
const NOTICE: Duration = Duration::from_secs(1);
/// How long the last spans may take.
const FLUSH: Duration = Duration::from_secs(2);
/// Exit code of a node that was told twice to end.
const TOLD_TWICE: i32 = 130;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Let testers inject faults by POST /chaos/faults
    #[arg(long)]
    chaos: bool,
    /// Break a promise on purpose: ack-before-commit, delivered-on-any-200 or no-fencing
    #[cfg(feature = "sabotage")]
    #[arg(long, value_name = "PROMISE")]
    sabotage: Option<velox_actors::sabotage::Sabotage>,
}

impl Serve {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let telemetry = Telemetry::install(&context.config)?;
        let ended = self.serve(&context).await;
        if let Err(error) = &ended {
            tracing::error!(error = format!("{error:#}"), "the node ends");
        }
        telemetry.shutdown(FLUSH);
        ended.map(|()| Outcome::Fine)
    }

    async fn serve(&self, context: &Context) -> anyhow::Result<()> {
        for warning in &context.config.warnings {
            tracing::warn!(warning, "configuration");
        }
        // Before anything is started, so that an early signal ends the node in order too.
        let mut signals = Signals::new()?;
        #[cfg(feature = "sabotage")]
        if let Some(promise) = self.sabotage {
            tracing::error!(?promise, "THIS NODE BREAKS A PROMISE ON PURPOSE AND LOSES DATA");
        }
        let options = StartOptions::new(self.chaos, Arc::new(SystemClock));
        #[cfg(feature = "sabotage")]
        let options = StartOptions { sabotage: self.sabotage, ..options };
        let node = lifecycle::start(&context.config, options).await?;
        println!("velox: serving http://{} (API description at /docs)", node.address);
        if context.config.admin_key.is_none() {
            println!("velox: the admin key is in {}", context.config.data_dir.join("admin.key").display());
        }
        let failed = node.failed();
        let failure = tokio::select! {
            () = signals.next() => None,
            reason = failed => Some(reason),
        };
        match &failure {
            None => tracing::info!("told to end"),
            Some(reason) => tracing::error!(reason, "the supervisor tree gave up"),
        }
        let notice = if failure.is_none() { NOTICE } else { Duration::ZERO };
        let stop = async {
            node.drain();
            tokio::time::sleep(notice).await;
            node.stop().await
        };
        tokio::select! {
            stopped = tokio::time::timeout(DRAIN, stop) => stopped??,
            () = signals.next() => {
                eprintln!("velox: told twice, ending at once");
                std::process::exit(TOLD_TWICE);
            }
        }
        match failure {
            None => Ok(()),
            Some(reason) => bail!("the supervisor tree gave up: {reason}"),
        }
    }
}
