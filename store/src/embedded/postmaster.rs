//! The postmaster as a process: found by its pid file, started, asked, signalled.
//!
//! Whatever is in `postmaster.pid` is believed only after a look at the process: ids are used again, quickly
//! so in containers.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::{Connection as _, PgConnection};

use super::cluster::Cluster;
use super::home::socket_path;
use super::{EmbeddedError, io};

/// Crash recovery replays up to `max_wal_size`; on a slow disk that takes a minute.
const START_LIMIT: Duration = Duration::from_secs(300);
const START_POLL: Duration = Duration::from_millis(20);

/// Pause before `postgres` is tried again while the dead postmaster's backends still hold its memory.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A ready postmaster answers in milliseconds; a stopped process (SIGSTOP) never does.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Fast shutdown: ends sessions, writes a checkpoint.
const FAST_STOP_LIMIT: Duration = Duration::from_secs(10);

/// Immediate shutdown: PostgreSQL itself kills what does not end within 5 s.
const IMMEDIATE_STOP_LIMIT: Duration = Duration::from_secs(6);

/// The log starts anew beyond this size, at a start; one old log is kept.
const LOG_MAX: u64 = 16 * 1024 * 1024;

/// How much of the log an error shows.
const LOG_TAIL: u64 = 2000;

/// The password is not the cluster's: waiting does not help.
const REFUSALS: [&str; 2] = ["28P01", "28000"];

/// What `postgres` says while remains of its dead predecessor are there; gone within moments.
const PASSING: [&str; 2] = ["pre-existing shared memory block", "lock file \""];

/// Whether the postmaster was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Started,
    Adopted,
}

/// A postmaster seen alive. The child is kept to be reaped.
#[derive(Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    data: PathBuf,
    child: Option<Child>,
}

impl Postmaster {
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Looks at the process, and reaps it if it was our child and ended.
    pub(super) fn alive(&mut self) -> bool {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(_))) => false,
            _ => is_postmaster_of(self.pid, &self.data),
        }
    }

    /// Fast shutdown, unwaited.
    pub(super) fn ask_to_end(&mut self) {
        if self.alive()
            && let Err(error) = kill_process(self.pid, Signal::INT)
        {
            tracing::warn!(%error, pid = self.pid(), "embedded PostgreSQL cannot be told to stop");
        }
    }
}

/// Adopts the live postmaster of the cluster or starts one, and waits until it answers. Call it under the gate.
pub(super) async fn ensure_running(cluster: &Cluster) -> Result<(Postmaster, Origin), EmbeddedError> {
    match tokio::time::timeout(START_LIMIT, adopt_or_start(cluster)).await {
        Ok(result) => result,
        // It is left alone: killed in the middle of its recovery it would begin again at the next start.
        Err(_) => Err(EmbeddedError::NotReady { limit: START_LIMIT, log: log_tail(&cluster.log(), 0) }),
    }
}

async fn adopt_or_start(cluster: &Cluster) -> Result<(Postmaster, Origin), EmbeddedError> {
    let data = cluster.home().data();
    let mut child: Option<(Child, u64)> = None;
    let mut asked_blindly = false;
    loop {
        match live_pid(cluster)? {
            Some(pid) => {
                if answers(cluster).await? {
                    let child = child.map(|(child, _)| child).filter(|child| raw(pid) == child.id());
                    let origin = if child.is_some() { Origin::Started } else { Origin::Adopted };
                    return Ok((Postmaster { pid, data, child }, origin));
                }
            }
            None => match child.take() {
                None if asked_blindly => child = Some(spawn(cluster).await?),
                None => {
                    // A node in another container of this volume: its socket can be seen, its process cannot.
                    asked_blindly = true;
                    if let (Some(pid), true) = (named_pid(cluster)?, answers(cluster).await?) {
                        return Ok((Postmaster { pid, data, child: None }, Origin::Adopted));
                    }
                }
                Some((mut running, log_start)) => match running.try_wait().map_err(io(&data))? {
                    None => child = Some((running, log_start)),
                    Some(status) => {
                        let log = log_tail(&cluster.log(), log_start);
                        if !PASSING.iter().any(|text| log.contains(text)) {
                            return Err(EmbeddedError::Exited { status, log });
                        }
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                },
            },
        }
        tokio::time::sleep(START_POLL).await;
    }
}

/// Starts `postgres`; also tells where in the log its words begin.
async fn spawn(cluster: &Cluster) -> Result<(Child, u64), EmbeddedError> {
    cluster.renew_socket_dir()?;
    clear_remains(cluster)?;
    let path = cluster.log();
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_MAX) {
        fs::rename(&path, path.with_extension("log.1")).map_err(io(&path))?;
    }
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(io(&path))?;
    let log_start = log.metadata().map_err(io(&path))?.len();
    let mut command = cluster.postgres().await?;
    command.stdout(log.try_clone().map_err(io(&path))?).stderr(log);
    // Its own group: a terminal's Ctrl-C is the node's to handle, which stops it last.
    let child = command.process_group(0).spawn().map_err(io(Path::new(command.get_program())))?;
    Ok((child, log_start))
}

/// Ends the cluster's postmaster, whoever started it. Call it under the gate.
pub(super) async fn stop(cluster: &Cluster) -> Result<(), EmbeddedError> {
    let Some(pid) = live_pid(cluster)? else {
        return Ok(());
    };
    for (signal, limit) in [(Signal::INT, FAST_STOP_LIMIT), (Signal::QUIT, IMMEDIATE_STOP_LIMIT)] {
        if let Err(errno) = kill_process(pid, signal)
            && errno != rustix::io::Errno::SRCH
        {
            return Err(io(&cluster.home().data())(errno.into()));
        }
        let gone = async {
            while is_postmaster_of(pid, &cluster.home().data()) {
                tokio::time::sleep(START_POLL).await;
            }
        };
        if tokio::time::timeout(limit, gone).await.is_ok() {
            return Ok(());
        }
        tracing::warn!(pid = raw(pid), ?signal, ?limit, "embedded PostgreSQL does not stop");
    }
    Err(EmbeddedError::NotStopping { pid: raw(pid) })
}

/// The postmaster named by the cluster's pid file, if it lives.
fn live_pid(cluster: &Cluster) -> Result<Option<Pid>, EmbeddedError> {
    let data = cluster.home().data();
    Ok(named_pid(cluster)?.filter(|pid| is_postmaster_of(*pid, &data)))
}

/// What the pid file says; nothing while it is written.
fn named_pid(cluster: &Cluster) -> Result<Option<Pid>, EmbeddedError> {
    let path = pid_file(cluster);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(&path)(error)),
    }
}

/// Clears what would keep PostgreSQL from starting though nothing runs: sockets, whose lock files may name a
/// process id that somebody else has by now, and a pid file that does so or that a power cut left empty. A pid
/// file of a dead process stays: PostgreSQL needs it to find backends that outlived their postmaster.
fn clear_remains(cluster: &Cluster) -> Result<(), EmbeddedError> {
    let socket = socket_path(cluster.socket_dir());
    remove_if_there(&socket.with_added_extension("lock"))?;
    remove_if_there(&socket)?;
    if named_pid(cluster)?.is_none_or(|pid| test_kill_process(pid).is_ok()) {
        remove_if_there(&pid_file(cluster))?;
    }
    Ok(())
}

fn pid_file(cluster: &Cluster) -> PathBuf {
    cluster.home().data().join("postmaster.pid")
}

/// Whether `pid` is a live process that works in `data`, as every postmaster does. Without `/proc` any live
/// process passes; the question by SQL then decides.
fn is_postmaster_of(pid: Pid, data: &Path) -> bool {
    if matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)) {
        return false;
    }
    if !Path::new("/proc/self/stat").exists() {
        return true;
    }
    let process = PathBuf::from(format!("/proc/{}", raw(pid)));
    // `123 (name) S …`; the name may hold anything, so the state is searched from the end. Z and X are dead,
    // and kept only until a parent reaps them.
    let dead = fs::read_to_string(process.join("stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()))
        .is_none_or(|state| matches!(state, 'Z' | 'X'));
    !dead && same_file(&process.join("cwd"), data)
}

/// Whether both paths lead to one file; a directory may have several names (links, mounts).
fn same_file(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

/// Whether it takes our password and serves this very directory.
async fn answers(cluster: &Cluster) -> Result<bool, EmbeddedError> {
    let ask = async {
        let mut connection = PgConnection::connect_with(&cluster.options("postgres")).await?;
        let directory: String =
            sqlx::query_scalar("SELECT current_setting('data_directory')").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(same_file(Path::new(&directory), &cluster.home().data()))
    };
    match tokio::time::timeout(ANSWER_LIMIT, ask).await {
        Ok(Ok(ours)) => Ok(ours),
        Ok(Err(error)) => {
            let code = error.as_database_error().and_then(|error| error.code());
            if code.is_some_and(|code| REFUSALS.contains(&code.as_ref())) {
                Err(error.into())
            } else {
                Ok(false)
            }
        }
        Err(_) => Ok(false),
    }
}

/// The end of the log, from `start` on; what cannot be read is told instead, for this goes into an error.
fn log_tail(path: &Path, start: u64) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(LOG_TAIL))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|error: std::io::Error| format!("{}: {error}", path.display()))
}

fn remove_if_there(path: &Path) -> Result<(), EmbeddedError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

fn raw(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
