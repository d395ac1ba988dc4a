//! The private PostgreSQL of a node without `VELOX_DATABASE_URL`, under `<data_dir>/pg/`.
//!
//! Here: finding the programs, making the cluster once, running its postmaster, sharing it between the node
//! and the command line. Never here: SQL of the system, migrations, pools, reading of configuration.
//!
//! ```text
//! <data_dir>/node.lock        held by `serve` for its lifetime
//! <data_dir>/pg/data/         the cluster
//! <data_dir>/pg/sock/         its socket; in the system's temporary directory where this path is too long
//! <data_dir>/pg/superuser.pw  password of the role `velox`, mode 0600
//! <data_dir>/pg/postgres.log  what PostgreSQL says
//! <data_dir>/pg/start.lock    held while somebody starts or stops the postmaster
//! <data_dir>/pg/users.lock    held, shared, by each process that uses the postmaster
//! ```
//!
//! The postmaster outlives a node that is killed; the next start adopts it. All locks are the kernel's, so a
//! process that dies holds none.

mod cluster;
mod home;
mod lock;
mod postmaster;
pub(crate) mod programs;

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;

use cluster::Cluster;
use home::Home;
use postmaster::{Origin, Postmaster};

/// How often [`EmbeddedPostgres::watch`] looks for the postmaster: one look is two small reads.
const WATCH_PERIOD: Duration = Duration::from_millis(100);

/// Longest pause between two tries to restart it: a full disk is not helped by trying faster.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often a postmaster that dies right after its start is given another chance.
const BRING_UP_TRIES: u32 = 5;

/// A running private PostgreSQL, and this process's part in it.
///
/// Share it by `Arc`: run [`watch`](Self::watch) beside the node, call [`stop`](Self::stop) at its end.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    cluster: Cluster,
    /// Only the node (`serve`) holds it.
    node_lock: Option<File>,
    /// Taken out by whoever leaves, by [`Self::stop`] or by drop.
    user_lock: Mutex<Option<File>>,
    postmaster: Mutex<Postmaster>,
    origin: Origin,
    stopped: watch::Sender<bool>,
}

impl EmbeddedPostgres {
    /// For `serve`: takes the node's lock, then starts the postmaster or adopts the live one of the same
    /// directory. Makes the cluster and the database `velox` where missing. Ready when it returns.
    ///
    /// `bin_override` is the directory of `VELOX_PG_BIN`.
    ///
    /// # Errors
    /// [`EmbeddedError::NodeRunning`] when another node holds the directory, [`EmbeddedError::NoPrograms`]
    /// with the install command, and whatever keeps PostgreSQL from starting, with the end of its log.
    pub async fn start(data_dir: &Path, bin_override: Option<&Path>) -> Result<Self, EmbeddedError> {
        let home = Home::open(data_dir)?;
        let node_lock = lock::node(&home)?;
        Self::open(home, bin_override, Some(node_lock)).await
    }

    /// For commands: uses the postmaster that runs, else starts one. [`stop`](Self::stop) ends it only if
    /// nobody else uses it, so a command never ends a node's.
    ///
    /// # Errors
    /// As [`start`](Self::start), but never `NodeRunning`.
    pub async fn attach_or_start(
        data_dir: &Path,
        bin_override: Option<&Path>,
    ) -> Result<Self, EmbeddedError> {
        Self::open(Home::open(data_dir)?, bin_override, None).await
    }

    /// Whether a cluster was made here before; lets a command refuse a mistyped directory.
    pub fn exists(data_dir: &Path) -> bool {
        data_dir.join("pg/data/PG_VERSION").exists()
    }

    async fn open(
        home: Home,
        bin_override: Option<&Path>,
        node_lock: Option<File>,
    ) -> Result<Self, EmbeddedError> {
        let _gate = lock::gate(&home, lock::START_GATE).await?;
        let user_lock = lock::join_users(&home)?;
        let cluster = Cluster::open(home, bin_override).await?;
        let (postmaster, origin) = Self::bring_up(&cluster).await?;
        tracing::info!(pid = postmaster.pid(), ?origin, log = %cluster.log().display(), "embedded PostgreSQL is ready");
        Ok(Self {
            cluster,
            node_lock,
            user_lock: Mutex::new(Some(user_lock)),
            postmaster: Mutex::new(postmaster),
            origin,
            stopped: watch::Sender::new(false),
        })
    }

    /// A postmaster that is killed on its way up is an outage like any other.
    async fn bring_up(cluster: &Cluster) -> Result<(Postmaster, Origin), EmbeddedError> {
        let mut tries = 1;
        loop {
            let once = async {
                let found = postmaster::ensure_running(cluster).await?;
                cluster.create_database().await.map(|()| found)
            };
            match once.await {
                Err(error) if tries < BRING_UP_TRIES && error.may_pass() => {
                    tries += 1;
                    tracing::warn!(%error, "embedded PostgreSQL went away while starting");
                }
                other => return other,
            }
        }
    }

    /// How to connect to the database `velox`, as its superuser, by the unix socket. Stays valid over
    /// restarts of the postmaster.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.cluster.options("velox")
    }

    /// The same for external tools (`psql`, `pg_dump`). Contains the password: hand it over by environment,
    /// never as an argument, and never log it.
    pub fn url(&self) -> String {
        self.cluster.url("velox")
    }

    /// Process id of the postmaster: another one after each restart.
    pub fn pid(&self) -> u32 {
        locked(&self.postmaster).pid()
    }

    /// Whether [`stop`](Self::stop) is meant to end the postmaster: true for the node, and for a command
    /// that started it (unless another process has joined since).
    pub fn owned(&self) -> bool {
        self.node_lock.is_some() || matches!(self.origin, Origin::Started)
    }

    /// Where PostgreSQL writes its log.
    pub fn log(&self) -> PathBuf {
        self.cluster.log()
    }

    /// Restarts the postmaster, on the same socket, each time it is gone. Returns after [`stop`](Self::stop).
    /// A failure is logged and tried again without end: an outage is waited out.
    pub async fn watch(&self) {
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            // The sender is `self`'s, so this ends by `stop` alone; it also cuts a restart short.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            never = self.keep_running() => never,
        }
    }

    async fn keep_running(&self) -> ! {
        let mut pause = WATCH_PERIOD;
        loop {
            tokio::time::sleep(pause).await;
            if locked(&self.postmaster).alive() {
                pause = WATCH_PERIOD;
                continue;
            }
            tracing::warn!(pid = self.pid(), "embedded PostgreSQL is gone, restarting it");
            match self.revive().await {
                Ok(origin) => tracing::info!(pid = self.pid(), ?origin, "embedded PostgreSQL is back"),
                Err(error) => {
                    pause = (pause * 2).min(RESTART_PAUSE_MAX);
                    tracing::error!(%error, retry_in = ?pause, "embedded PostgreSQL cannot be restarted");
                }
            }
        }
    }

    async fn revive(&self) -> Result<Origin, EmbeddedError> {
        let _gate = lock::gate(self.cluster.home(), lock::START_GATE).await?;
        let (postmaster, origin) = postmaster::ensure_running(&self.cluster).await?;
        *locked(&self.postmaster) = postmaster;
        Ok(origin)
    }

    /// Leaves the postmaster and ends it if that is this process's part: always for the node, for a command
    /// only if it is the last one here. Fast shutdown, after 10 s an immediate one. Close the pools before.
    /// A second call does nothing.
    ///
    /// # Errors
    /// [`EmbeddedError::NotStopping`] when it lives on after both signals.
    pub async fn stop(&self) -> Result<(), EmbeddedError> {
        if self.stopped.send_replace(true) {
            return Ok(());
        }
        let is_node = self.node_lock.is_some();
        let limit = if is_node { lock::STOP_GATE } else { lock::START_GATE };
        let _gate = match lock::gate(self.cluster.home(), limit).await {
            // Ended all the same: whoever is starting it learns so by its exit.
            Err(EmbeddedError::Busy { .. }) if is_node => None,
            other => Some(other?),
        };
        if self.may_end() {
            postmaster::stop(&self.cluster).await?;
            locked(&self.postmaster).alive(); // reaps the child
        }
        Ok(())
    }

    /// Leaves the users; tells whether the postmaster is ours to end. Under the gate nobody can join meanwhile.
    fn may_end(&self) -> bool {
        let alone = locked(&self.user_lock).take().is_none_or(lock::leave_users);
        self.node_lock.is_some() || alone
    }
}

impl Drop for EmbeddedPostgres {
    /// Without a [`stop`](Self::stop) (an error on the way up, a panic) the postmaster is told to end, unwaited.
    fn drop(&mut self) {
        if !*self.stopped.borrow() && self.owned() && self.may_end() {
            locked(&self.postmaster).ask_to_end();
        }
    }
}

/// No guard here is held over anything that can leave the value half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no private PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No directory with `initdb` and `postgres`, or none of the version that made the cluster.
    #[error(
        "{what} in {places}; install it with `apt-get install {package}` (Debian, Ubuntu), name its directory in \
         VELOX_PG_BIN, or set VELOX_DATABASE_URL to use a PostgreSQL of your own"
    )]
    NoPrograms {
        /// What was looked for.
        what: String,
        /// Where it was looked for.
        places: String,
        /// Debian's package that has it.
        package: String,
    },
    /// Another `serve` owns the data directory.
    #[error("another velox node{} already runs on {data_dir}", .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    NodeRunning {
        /// The data directory.
        data_dir: String,
        /// The other node's process, if it could be read.
        pid: Option<u32>,
    },
    /// Another process starts or stops the postmaster for too long.
    #[error("waited {} s for another process that starts or stops PostgreSQL (lock {path})", .limit.as_secs())]
    Busy {
        /// The lock file.
        path: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Started by root, and there is no account to run PostgreSQL as.
    #[error(
        "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it as"
    )]
    NoUser,
    /// Started by root, and the other account cannot reach the data directory.
    #[error(
        "started by root, PostgreSQL runs as user id {uid}, which cannot enter {dir}: `chmod o+x {dir}`, or set \
         VELOX_DATA_DIR to a place like /var/lib/velox"
    )]
    NotEnterable {
        /// The directory without the right to enter.
        dir: String,
        /// Who was to enter it.
        uid: u32,
    },
    /// The cluster belongs to another account.
    #[error("{path} belongs to user id {owner}: run velox as that user or as root")]
    ForeignOwner {
        /// The cluster.
        path: String,
        /// Its owner.
        owner: u32,
    },
    /// The cluster is there, its password is not.
    #[error(
        "{path} is missing: the password of the embedded PostgreSQL stands there; bring it back from a backup"
    )]
    NoPassword {
        /// The password file.
        path: String,
    },
    /// `initdb` failed; nothing of it is left behind.
    #[error("initdb failed: {0}")]
    InitDb(String),
    /// `postgres` ended at once.
    #[error("postgres ended with {status}: {log}")]
    Exited {
        /// Its exit status.
        status: ExitStatus,
        /// What it logged.
        log: String,
    },
    /// `postgres` runs and does not answer.
    #[error("postgres does not answer after {} s: {log}", .limit.as_secs())]
    NotReady {
        /// How long was waited.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
    /// `postgres` survived both shutdown signals.
    #[error("postgres (pid {pid}) did not stop")]
    NotStopping {
        /// The postmaster.
        pid: u32,
    },
    /// It runs and refuses us.
    #[error("the embedded PostgreSQL refuses: {0}")]
    Refused(#[from] sqlx::Error),
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: String,
        /// How it failed.
        source: std::io::Error,
    },
}

impl EmbeddedError {
    /// Whether the postmaster died of somebody else's signal, or under a connection.
    fn may_pass(&self) -> bool {
        match self {
            Self::Exited { status, .. } => status.signal().is_some(),
            Self::Refused(error) => !matches!(error, sqlx::Error::Database(_)),
            _ => false,
        }
    }
}

/// An `io::Error` with the path it is about.
fn io(path: &Path) -> impl FnOnce(std::io::Error) -> EmbeddedError + use<> {
    let path = path.display().to_string();
    move |source| EmbeddedError::Io { path, source }
}
