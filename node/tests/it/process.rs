//! `velox` as a process of its own: a node that can be killed, with its embedded PostgreSQL, and commands.
//!
//! What a home's processes leave running ends with it.

use crate::support::{ADMIN, Client, PATIENCE, wait};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use std::fs::{OpenOptions, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Where a node and its data live.
pub(crate) struct Home {
    dir: TempDir,
    address: SocketAddr,
}

/// A node that serves, or is about to.
pub(crate) struct Served {
    child: Child,
    log: PathBuf,
    /// Speaks to it.
    pub(crate) client: Client,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code; none: a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Home {
    /// An empty home that PostgreSQL's account can enter, and a port that is free now.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("velox-it.")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .expect("a directory");
        // Below the range from which the system takes ports for outgoing connections: it stays free while a node
        // is down.
        let address = (0..100)
            .map(|_| SocketAddr::from(([127, 0, 0, 1], rand::random_range(10_000..20_000))))
            .find(|address| TcpListener::bind(address).is_ok());
        Home { dir, address: address.expect("a free port") }
    }

    /// Where its node listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A path in the home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// The postmaster that the data directory names.
    pub(crate) fn postmaster(&self) -> Option<u32> {
        postmaster_of(&self.data_dir())
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str], more: &[(&str, &str)]) -> Ran {
        self.run_within(PATIENCE, arguments, more).await
    }

    /// The same for a command that takes its time.
    pub(crate) async fn run_within(&self, limit: Duration, arguments: &[&str], more: &[(&str, &str)]) -> Ran {
        let output = timeout(limit, self.command(arguments, more).output()).await;
        let output = output.unwrap_or_else(|_| panic!("velox {arguments:?} does not end")).expect("a velox");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Starts `velox serve` and waits until it is ready.
    pub(crate) async fn serve(&self, more: &[(&str, &str)]) -> Served {
        let mut served = self.begin(more);
        served.ready().await;
        served
    }

    /// Starts `velox serve`.
    pub(crate) fn begin(&self, more: &[(&str, &str)]) -> Served {
        let path = self.path("node.log");
        let log = OpenOptions::new().create(true).append(true).open(&path).expect("a log");
        let mut command = self.command(&["serve", "--chaos"], more);
        let child = command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("a velox");
        Served { child, log: path, client: Client::new(format!("http://{}", self.address)) }
    }

    /// The embedded database, as its superuser.
    pub(crate) async fn database(&self) -> PgConnection {
        let pg = self.data_dir().join("pg");
        let password = std::fs::read_to_string(pg.join("superuser.pw")).expect("a password");
        let options = PgConnectOptions::new_without_pgpass().socket(pg.join("sock")).port(5432);
        let options = options.username("velox").password(password.trim()).database("velox");
        PgConnection::connect_with(&options).await.expect("the embedded database")
    }

    /// `velox` with nothing of our environment but the search path.
    fn command(&self, arguments: &[&str], more: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_velox"));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null()).kill_on_drop(true);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("VELOX_LISTEN", self.address.to_string()).env("VELOX_DATA_DIR", self.data_dir());
        command.env("VELOX_ADMIN_KEY", ADMIN);
        command.env("VELOX_RATE_LIMIT_RPS", "100000").env("VELOX_RATE_LIMIT_BURST", "100000");
        command.envs(more.iter().copied());
        command
    }
}

impl Drop for Home {
    /// A killed node leaves its PostgreSQL behind, for the next one to adopt.
    fn drop(&mut self) {
        if let Some(pid) = self.postmaster() {
            let _ = std::process::Command::new("kill").args(["-QUIT", &pid.to_string()]).status();
        }
    }
}

impl Served {
    /// Waits until it is ready.
    pub(crate) async fn ready(&mut self) {
        let ready = async {
            while !self.client.is_ready().await {
                if let Some(status) = self.child.try_wait().expect("a child") {
                    panic!("the node ended with {status}:\n{}", self.log());
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, ready).await.is_err() {
            panic!("the node is not ready:\n{}", self.log());
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("a process that runs")
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("a process to kill");
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = timeout(PATIENCE, self.child.wait()).await;
        status.unwrap_or_else(|_| panic!("the node does not end:\n{}", self.log())).expect("a child")
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// SIGTERM, and its end in order.
    pub(crate) async fn stop(mut self) {
        signal("TERM", self.pid());
        let status = self.ended().await;
        assert!(status.success(), "the node ended with {status}:\n{}", self.log());
    }

    /// What all nodes of this home have written.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Ran {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The same, of a command that has found nothing to complain of.
    pub(crate) fn fine(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

/// Sends a signal, such as `KILL`, to a process.
pub(crate) fn signal(name: &str, pid: u32) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("a kill command").success(), "SIG{name} to {pid}");
}

/// Kills a postmaster and waits until it is gone.
pub(crate) async fn kill_postmaster(home: &Home) -> u32 {
    let pid = home.postmaster().expect("a postmaster");
    signal("KILL", pid);
    wait("the postmaster's end", async || !is_alive(pid)).await;
    pid
}

/// Whether a process lives and is no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Only a live process that works in the cluster: ids are used again.
fn postmaster_of(data_dir: &Path) -> Option<u32> {
    let data = data_dir.join("pg/data");
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    let here = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()? == data.canonicalize().ok()?;
    (here && is_alive(pid)).then_some(pid)
}
