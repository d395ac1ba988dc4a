//! The demo's directory, with a data directory for each node: made for it, and gone after it.

use anyhow::Context as _;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a PostgreSQL that ends after a failed start may still write into it.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// The directory. Dropped without a word, it is removed as far as that goes at once.
#[derive(Debug)]
pub(super) struct Home(TempDir);

impl Home {
    /// A new one. Our user alone may list it; PostgreSQL, which root runs as another one, may pass.
    pub(super) fn new() -> anyhow::Result<Self> {
        let made = tempfile::Builder::new()
            .prefix("velox-demo.")
            .permissions(Permissions::from_mode(0o711))
            .tempdir();
        Ok(Home(made.context("cannot make a temporary data directory")?))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where a node keeps its data.
    pub(super) fn data_dir(&self, node: &str) -> PathBuf {
        self.0.path().join(node)
    }

    /// Leaves it where it is.
    pub(super) fn keep(self) -> PathBuf {
        self.0.keep()
    }

    /// Removes it with all that is in it.
    pub(super) async fn remove(self) -> anyhow::Result<()> {
        let path = self.0.keep();
        let deadline = Instant::now() + REMOVAL_LIMIT;
        loop {
            match std::fs::remove_dir_all(&path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound && !path.exists() => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}
