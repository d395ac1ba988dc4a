//! A `velox serve` of our own: a child process on a loopback port that it keeps, with a directory that goes with it.
//!
//! Never here: what is asked of it.

use std::fs::{File, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::caller::Caller;
use super::process;
use crate::measure;

/// A first start makes a PostgreSQL cluster.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// A node drains for 20 s at most; its PostgreSQL gets the rest.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// Longest run of a command.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// Lines of the node's log that an error shows.
const LOG_TAIL: usize = 20;
/// Tries until a port is free.
const PORT_TRIES: usize = 100;

/// How a pod is started, each time.
#[derive(Debug)]
pub struct Launch {
    velox: PathBuf,
    address: SocketAddr,
    admin_key: String,
    variables: Vec<(String, String)>,
    faults: bool,
    arguments: Vec<String>,
    dir: TempDir,
}

/// A process of a node, running or not.
#[derive(Debug)]
pub struct Pod {
    child: Option<Child>,
    launch: Launch,
}

/// Bytes of memory of the node's process, without its PostgreSQL.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// At the moment.
    pub now: u64,
    /// At most, so far.
    pub peak: u64,
}

impl Launch {
    /// Of this program, with an embedded PostgreSQL, an admin key of its own, no rate limit, and with `--chaos`.
    ///
    /// # Errors
    /// Where no directory or no port is to be had.
    pub fn new(velox: &Path) -> Result<Self> {
        // Started by root, PostgreSQL runs as somebody else, who has to pass through here.
        let dir = tempfile::Builder::new()
            .prefix("velox-chaos.")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()?;
        let admin_key = format!("chaos-{:032x}", rand::random::<u128>());
        let launch = Launch {
            velox: velox.to_owned(),
            address: free_address()?,
            admin_key,
            variables: Vec::new(),
            faults: true,
            arguments: Vec::new(),
            dir,
        };
        Ok(launch
            .set("VELOX_RATE_LIMIT_RPS", "1000000")
            .set("VELOX_RATE_LIMIT_BURST", "1000000")
            .set("VELOX_LOG", "warn"))
    }

    /// With this admin key.
    #[must_use]
    pub fn admin_key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.admin_key);
        self
    }

    /// Over this database.
    #[must_use]
    pub fn database(self, url: &str) -> Self {
        self.set("VELOX_DATABASE_URL", url)
    }

    /// With another variable; of the same name the last one counts.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.variables.push((key.to_owned(), value.to_owned()));
        self
    }

    /// As an operator runs it: without `--chaos`.
    #[must_use]
    pub fn without_faults(mut self) -> Self {
        self.faults = false;
        self
    }

    /// With further arguments of `velox serve`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[String]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    /// Where the pod will listen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("node.log")
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn spawn(&self) -> Result<Child> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = self.command();
        command.arg("serve").kill_on_drop(true);
        if self.faults {
            command.arg("--chaos");
        }
        command.args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| self.velox.display().to_string())
    }

    /// The program, with the pod's configuration.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.velox);
        command.current_dir(self.dir.path());
        // What the caller's shell configures is another node's: its database, its peers. Not so where PostgreSQL is.
        let foreign = |key: &str| {
            key != "VELOX_PG_BIN" && ["VELOX_", "OTEL_"].iter().any(|prefix| key.starts_with(prefix))
        };
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_str().is_some_and(foreign)) {
            command.env_remove(key);
        }
        command.env("VELOX_LISTEN", self.address.to_string());
        command.env("VELOX_DATA_DIR", self.data_dir());
        command.env("VELOX_ADMIN_KEY", &self.admin_key);
        command.envs(self.variables.iter().map(|(key, value)| (key, value)));
        command
    }
}

impl Pod {
    /// Starts a pod and waits until it is ready.
    ///
    /// # Errors
    /// What keeps it from getting ready, with the end of its log.
    pub async fn start(launch: Launch) -> Result<Self> {
        let mut pod = Pod::begin(launch)?;
        pod.ready().await?;
        Ok(pod)
    }

    /// Starts a pod without waiting for it.
    ///
    /// # Errors
    /// Where the program cannot be started.
    pub fn begin(launch: Launch) -> Result<Self> {
        Ok(Pod { child: Some(launch.spawn()?), launch })
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// Where it ends instead, or is not ready after a minute; with the end of its log.
    pub async fn ready(&mut self) -> Result<()> {
        let (started, admin) = (measure::now(), self.admin());
        let mut last = String::new();
        while started.elapsed() < READY_LIMIT {
            if let Some(status) = self.child.as_mut().context("it does not run")?.try_wait()? {
                self.child = None;
                bail!("the node ended with {status}\n{}", self.log_tail());
            }
            match admin.call("GET", "/readyz", "").await {
                Ok(reply) if reply.status == 200 => return Ok(()),
                Ok(reply) => last = format!("{}: {}", reply.status, reply.text),
                Err(error) => last = format!("{error:#}"),
            }
            sleep(POLL).await;
        }
        bail!("the node is not ready after {} s ({last})\n{}", READY_LIMIT.as_secs(), self.log_tail())
    }

    /// Where it listens, also after a restart.
    pub fn address(&self) -> SocketAddr {
        self.launch.address
    }

    /// Calls it as its admin.
    pub fn admin(&self) -> Caller {
        Caller::new(self.launch.address, &self.launch.admin_key)
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.launch.data_dir()
    }

    /// The process id of its embedded PostgreSQL, where that runs.
    pub fn postmaster(&self) -> Option<u32> {
        process::postmaster(&self.data_dir())
    }

    /// SIGKILL to its embedded PostgreSQL, and the end of that. A pod that runs starts it again.
    ///
    /// # Errors
    /// Where none runs, or it does not end.
    pub fn kill_postgres(&self) -> Result<()> {
        let pid = self.postmaster().context("no embedded PostgreSQL runs")?;
        process::signal(pid, Signal::KILL)?;
        process::gone(pid)
    }

    /// How to reach the database of its embedded PostgreSQL.
    ///
    /// # Errors
    /// Where none runs.
    pub(crate) fn database(&self) -> Result<sqlx::postgres::PgConnectOptions> {
        crate::database::embedded(&self.data_dir())
    }

    /// Runs a command of the node's program beside it, such as `verify --json`.
    ///
    /// # Errors
    /// Where it cannot be started or takes more than a minute.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.launch.command();
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let ran = timeout(COMMAND_LIMIT, command.output()).await;
        Ok(ran.with_context(|| arguments.join(" "))??)
    }

    /// Its process id; none: it does not run.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// Sets a variable for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.launch.variables.push((key.to_owned(), value.to_owned()));
    }

    /// What it wrote, in all its runs.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.launch.log()).unwrap_or_default()).into_owned()
    }

    /// The end of that.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    /// How much memory it has.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn memory(&self) -> Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running()?))?;
        Memory::read(&status).context("no memory figures in the process's status")
    }

    /// SIGKILL. Its embedded PostgreSQL lives on, as after any crash; the next start takes it over, or the pod's drop
    /// ends it.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.take().context("the node does not run")?.kill().await.context("the node's process")
    }

    /// SIGSTOP: it stands still and keeps its connections, until [`Pod::resume`].
    ///
    /// # Errors
    /// Where it does not run, as the next ones.
    pub fn pause(&self) -> Result<()> {
        process::pause(self.running()?)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn resume(&self) -> Result<()> {
        process::signal(self.running()?, Signal::CONT)
    }

    /// SIGTERM, without waiting; see [`Pod::ended`].
    ///
    /// # Errors
    /// Where it does not run.
    pub fn terminate(&self) -> Result<()> {
        process::signal(self.running()?, Signal::TERM)
    }

    /// Waits for the end of its process.
    ///
    /// # Errors
    /// Where it does not end in 40 s: it is killed then.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the node does not run")?;
        match timeout(STOP_LIMIT, child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                child.kill().await?;
                bail!("the node did not stop in {} s\n{}", STOP_LIMIT.as_secs(), self.log_tail())
            }
        }
    }

    /// SIGTERM, as an operator stops it, and its end. One that is paused goes on for it.
    ///
    /// # Errors
    /// Where it does not end in order and in time.
    pub async fn stop(&mut self) -> Result<()> {
        self.terminate()?;
        self.resume()?;
        let status = self.ended().await?;
        ensure!(status.success(), "the node ended with {status}\n{}", self.log_tail());
        Ok(())
    }

    /// Starts it again at its old address, with its old data, and waits until it is ready.
    ///
    /// # Errors
    /// Where it runs, or does not get ready.
    pub async fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the node runs already");
        self.child = Some(self.launch.spawn()?);
        self.ready().await
    }

    fn running(&self) -> Result<u32> {
        self.pid().context("the node does not run")
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // First the node, which would start its PostgreSQL again.
        if let Some(child) = &mut self.child {
            // It has ended where this fails.
            let _ = child.start_kill();
        }
        process::end_postmaster(&self.data_dir());
    }
}

impl Memory {
    /// From `/proc/PID/status`.
    fn read(status: &str) -> Option<Self> {
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kibibytes * 1024)
        };
        Some(Memory { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

/// Free a moment ago, and below the range from which the system takes ports for outgoing connections: it stays free
/// while its server is down.
pub(super) fn free_address() -> Result<SocketAddr> {
    (0..PORT_TRIES)
        .map(|_| SocketAddr::from(([127, 0, 0, 1], rand::random_range(10_000..32_000))))
        .find(|address| TcpListener::bind(address).is_ok())
        .context("no port is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status_of_a_process() {
        let memory =
            Memory::read("Name:\tvelox\nVmHWM:\t   81920 kB\nVmRSS:\t   40960 kB\n").expect("figures");
        assert_eq!((memory.now, memory.peak), (40 << 20, 80 << 20));
        assert!(Memory::read("Name:\tvelox\n").is_none());
    }
}
