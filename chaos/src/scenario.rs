//! The suites: `velox-chaos run`, and `velox-chaos soak`.
//!
//! A scenario is a story over a [`stage::Stage`]: a cluster with a shop, tills as clients, and faults. At its end the
//! checkers judge. To add one: a module with `play`, a variant of [`Suite`], a test in `chaos/tests/it/suites.rs`.
//! Never here: what an invariant is.

mod crash;
mod damage;
mod outbox;
mod partition;
mod projection_gap;
mod script;
mod soak;
mod stage;

use std::path::PathBuf;

use anyhow::Result;

use crate::cluster;
use script::Script;
pub use soak::SoakOptions;

/// Load of `crash` where none is said.
const CRASH_SECONDS: u32 = 20;

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// A projector fails: the event is there and its row is not, until it is healed; for sale and debt
    #[value(alias = "2")]
    ProjectionGap,
    /// The peer answers rubbish, times out and comes back; then each side has events that nobody sends
    #[value(alias = "3")]
    Partition,
    /// A projection fails nine times and is done; it fails ten times, is dead, and is put back
    #[value(alias = "5")]
    Outbox,
    /// Tills sell while processes, databases, Redis and links die at random
    Crash,
    /// All of these
    All,
}

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct RunOptions {
    /// The suite, by name or by its number
    suite: Suite,
    #[command(flatten)]
    common: Common,
    /// How long `crash` sells under attack; 0: only what is told of each run
    #[arg(long, default_value_t = CRASH_SECONDS, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    seconds: u32,
}

/// What each run takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Where events and attacks come from [default: drawn and shown]
    #[arg(long)]
    seed: Option<u64>,
    /// The node's program [default: velox beside this one]
    #[arg(long, value_name = "PATH")]
    velox: Option<PathBuf>,
    /// Another argument of `velox serve`; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve: Vec<String>,
    /// The report for machines; its steps go to standard error
    #[arg(long)]
    json: bool,
    /// Where the history is written, as JSON lines
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// A run with everything settled that was left open.
#[derive(Debug, Clone)]
struct Setting {
    seed: u64,
    velox: PathBuf,
    serve: Vec<String>,
    json: bool,
    history: Option<PathBuf>,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Suite::ProjectionGap => "projection-gap",
            Suite::Partition => "partition",
            Suite::Outbox => "outbox",
            Suite::Crash => "crash",
            Suite::All => "all",
        }
    }
}

impl Common {
    fn settled(&self) -> Result<Setting> {
        Ok(Setting {
            // As digits that a person can copy.
            seed: self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
            velox: self.velox.clone().map_or_else(cluster::velox_beside_us, Ok)?,
            serve: self.serve.clone(),
            json: self.json,
            history: self.history.clone(),
        })
    }
}

impl Setting {
    /// Of several suites each has a history of its own.
    fn of(&self, suite: Suite, asked: Suite) -> Self {
        let own =
            |file: &PathBuf| if suite == asked { file.clone() } else { file.with_extension(suite.name()) };
        Setting { history: self.history.as_ref().map(own), ..self.clone() }
    }

    /// The command that plays the same again.
    fn again(&self, command: &str) -> String {
        let mut text = format!("velox-chaos {command} --seed {}", self.seed);
        for argument in &self.serve {
            text.push_str(&format!(" --serve={argument}"));
        }
        text
    }
}

/// Runs a suite and prints what it found: whether every invariant held.
///
/// # Errors
/// Where a run cannot be begun or its report not be written. What breaks off a run is found, and no error.
pub async fn run(options: RunOptions) -> Result<bool> {
    let setting = options.common.settled()?;
    let suites = match options.suite {
        Suite::All => vec![Suite::ProjectionGap, Suite::Partition, Suite::Outbox, Suite::Crash],
        one => vec![one],
    };
    let mut sound = true;
    for suite in suites {
        let command = match suite {
            Suite::Crash => format!("run crash --seconds {}", options.seconds),
            other => format!("run {}", other.name()),
        };
        let setting = setting.of(suite, options.suite);
        let mut script = Script::begin(&setting, suite.name(), setting.again(&command));
        let played = until_interrupted(async {
            match suite {
                Suite::ProjectionGap => projection_gap::play(&setting, &mut script).await,
                Suite::Partition => partition::play(&setting, &mut script).await,
                Suite::Outbox => outbox::play(&setting, &mut script).await,
                Suite::Crash | Suite::All => crash::play(&setting, options.seconds, &mut script).await,
            }
        });
        let played = played.await;
        sound &= script.end(played)?;
    }
    Ok(sound)
}

/// Runs the soak and prints what it found: whether every invariant held.
///
/// # Errors
/// As [`run`].
pub async fn soak(options: SoakOptions) -> Result<bool> {
    let setting = options.common.settled()?;
    let command = format!("soak --minutes {}", options.minutes);
    let mut script = Script::begin(&setting, "soak", setting.again(&command));
    let played = until_interrupted(soak::play(&setting, &options, &mut script)).await;
    script.end(played)
}

/// Whoever interrupts gets stopped nodes and no directories left behind, too.
async fn until_interrupted(played: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        // Boxed: a story is a large future.
        played = Box::pin(played) => played,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    }
}
