//! Signals to processes that we have started, and whether they live.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long a killed PostgreSQL may take to be gone, and a paused process to stand still.
const LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(2);

/// Sends a signal.
pub(super) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(pid, signal).with_context(|| format!("{signal:?} to process {}", pid.as_raw_nonzero()))
}

/// SIGSTOP, until it has come to each of the process's threads: on another core one may work on for a while.
pub(super) fn pause(pid: u32) -> Result<()> {
    signal(pid, Signal::STOP)?;
    let threads = format!("/proc/{pid}/task");
    let still = || -> Result<bool> {
        for thread in std::fs::read_dir(&threads)? {
            if state(&thread?.path()) != Some('T') {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let mut waited = Duration::ZERO;
    while !still()? {
        ensure!(waited < LIMIT, "process {pid} does not stand still");
        std::thread::sleep(POLL);
        waited += POLL;
    }
    Ok(())
}

/// Waits for the end of a killed process.
pub(super) fn gone(pid: u32) -> Result<()> {
    let mut waited = Duration::ZERO;
    while is_alive(pid) {
        ensure!(waited < LIMIT, "process {pid} does not end");
        std::thread::sleep(POLL);
        waited += POLL;
    }
    Ok(())
}

/// Whether a process lives and is no zombie.
pub(super) fn is_alive(pid: u32) -> bool {
    state(Path::new(&format!("/proc/{pid}"))).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The letter of a process or thread, such as R for one that runs.
fn state(proc: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(proc.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The embedded PostgreSQL of a data directory. Only a live process that works in it: ids are used again.
pub(super) fn postmaster(data_dir: &Path) -> Option<u32> {
    let data = data_dir.join("pg/data");
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    let here = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()? == data.canonicalize().ok()?;
    (here && is_alive(pid)).then_some(pid)
}

/// Ends the embedded PostgreSQL of a node that has been killed, which outlives it.
pub(super) fn end_postmaster(data_dir: &Path) {
    let Some(pid) = postmaster(data_dir) else { return };
    // It has gone by itself where this fails.
    let _ = signal(pid, Signal::QUIT);
    let _ = gone(pid);
}
