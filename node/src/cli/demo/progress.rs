//! What the demo is doing, for a person who waits: on standard error, where that is a terminal.

use std::io::{IsTerminal, Write};

/// Where progress is told.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Progress { shown: std::io::stderr().is_terminal() }
    }

    /// One line, at once.
    pub(super) fn say(&self, text: &str) {
        if self.shown {
            // Nobody is served by an error about a terminal that has gone away.
            let _ = writeln!(std::io::stderr(), "· {text}");
        }
    }
}
