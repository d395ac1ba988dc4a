//! What the demo is doing, for a person who waits: on standard error, live where that is a terminal, else a line for
//! each thing that happens.

use super::client::Caller;
use super::nodes::{Links, NODES};
use super::status::Look;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Pause between two looks at the nodes.
const PERIOD: Duration = Duration::from_millis(500);

/// Where progress is told.
#[derive(Debug)]
pub(super) struct View {
    live: Option<Live>,
}

/// Lines that stay at the bottom and change.
#[derive(Debug)]
struct Live {
    lines: MultiProgress,
    link: ProgressBar,
    nodes: [ProgressBar; 2],
}

impl View {
    pub(super) fn new() -> Self {
        let live = std::io::stderr().is_terminal().then(|| {
            let lines = MultiProgress::new();
            let [link, shop, cloud] = [(); 3].map(|()| lines.add(line()));
            Live { lines, link, nodes: [shop, cloud] }
        });
        View { live }
    }

    /// Something happens now.
    pub(super) fn say(&self, text: &str) {
        // Nobody is served by an error about a terminal that has gone away.
        let _ = match &self.live {
            Some(live) => live.lines.println(format!("· {text}")),
            None => writeln!(std::io::stderr(), "· {text}"),
        };
    }

    /// How both nodes stand at this moment, where nobody sees it live.
    pub(super) async fn tell(&self, admins: &[Caller; 2]) -> anyhow::Result<()> {
        if self.live.is_none() {
            for (admin, node) in admins.iter().zip(NODES) {
                let _ = writeln!(std::io::stderr(), "    {}", Look::at(admin).await?.line(node));
            }
        }
        Ok(())
    }

    /// Shows how both nodes stand, until it is dropped.
    pub(super) async fn watch(&self, admins: &[Caller; 2], links: &Links) -> Infallible {
        let Some(live) = &self.live else { return std::future::pending().await };
        loop {
            let state = if links.are_cut() {
                "══════╳══════  cut"
            } else {
                "═════════════  whole"
            };
            live.link.set_message(format!("link   shop {state}  cloud"));
            for ((admin, node), line) in admins.iter().zip(NODES).zip(&live.nodes) {
                // The shop is being registered, or the node ends: the line stays as it was.
                if let Ok(look) = Look::at(admin).await {
                    line.set_message(look.line(node));
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Clears what was live, for the report.
    pub(super) fn end(&self) {
        if let Some(live) = &self.live {
            let _ = live.lines.clear();
        }
    }
}

fn line() -> ProgressBar {
    let style = ProgressStyle::with_template("  {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new_spinner().with_style(style)
}
