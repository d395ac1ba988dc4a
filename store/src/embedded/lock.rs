//! Who may run as the node, who may start or stop the postmaster, who uses it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::home::Home;
use super::{EmbeddedError, io};

/// Longer than the slowest start: whoever holds the gate gives up before those who wait for it.
pub(super) const START_GATE: Duration = Duration::from_secs(330);

/// A node that shuts down has 20 s for all it does.
pub(super) const STOP_GATE: Duration = Duration::from_secs(2);

const GATE_POLL: Duration = Duration::from_millis(25);

/// The node's lock, held until the file is dropped. Never waits.
pub(super) fn node(home: &Home) -> Result<File, EmbeddedError> {
    let path = home.data_dir().join("node.lock");
    let mut file = open(&path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(io(&path))?;
            writeln!(file, "{}", std::process::id()).map_err(io(&path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Only for the message: an unreadable pid is left out.
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            Err(EmbeddedError::NodeRunning { data_dir: home.data_dir().display().to_string(), pid })
        }
        Err(TryLockError::Error(source)) => Err(io(&path)(source)),
    }
}

/// The right to start or stop the postmaster, held until the file is dropped.
pub(super) async fn gate(home: &Home, limit: Duration) -> Result<File, EmbeddedError> {
    let path = home.pg().join("start.lock");
    let file = open(&path)?;
    let wait = async {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(GATE_POLL).await,
                Err(TryLockError::Error(source)) => return Err(io(&path)(source)),
            }
        }
    };
    match tokio::time::timeout(limit, wait).await {
        Ok(done) => done.map(|()| file),
        Err(_) => Err(EmbeddedError::Busy { path: path.display().to_string(), limit }),
    }
}

/// Counts this process among the users. Call it under the gate only: then nobody holds the lock alone and it
/// does not block.
pub(super) fn join_users(home: &Home) -> Result<File, EmbeddedError> {
    let path = home.pg().join("users.lock");
    let file = open(&path)?;
    file.lock_shared().map_err(io(&path))?;
    Ok(file)
}

/// Ends what [`join_users`] began; true if no user is left. Whoever cannot tell says false: a postmaster left
/// running is adopted by the next start, one ended under another process is an outage.
pub(super) fn leave_users(file: File) -> bool {
    file.unlock().is_ok() && file.try_lock().is_ok()
}

fn open(path: &Path) -> Result<File, EmbeddedError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(io(path))
}
