//! The embedded PostgreSQL as a node sees it: started, restarted, killed, adopted, shared, refused.
//!
//! These tests start real postmasters; each has a directory of its own that unprivileged accounts can enter.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use velox_store::embedded::{EmbeddedError, EmbeddedPostgres};

/// Data directory for [`owner_process`], which is a node only if it is set.
const OWNER_DIR: &str = "VELOX_EMBEDDED_TEST_OWNER";

const LIMIT: Duration = Duration::from_secs(60);

/// Ends the postmaster too where a test fails half-way.
struct DataDir(TempDir);

impl DataDir {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("velox-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("velox-data")
    }

    fn pid_file(&self) -> PathBuf {
        self.path().join("pg/data/postmaster.pid")
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let text = std::fs::read_to_string(self.pid_file()).unwrap_or_default();
        let pid = text.lines().next().and_then(|line| line.parse().ok());
        if let Some(pid) = pid.filter(|pid| is_postmaster_in(*pid, &self.path().join("pg/data"))) {
            let _ = kill_process(process(pid), Signal::QUIT);
        }
    }
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

fn is_postmaster_in(pid: u32, data: &Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
}

async fn connect(postgres: &EmbeddedPostgres) -> PgConnection {
    PgConnection::connect_with(&postgres.connect_options()).await.unwrap()
}

async fn write_row(postgres: &EmbeddedPostgres) {
    let mut connection = connect(postgres).await;
    sqlx::query("CREATE TABLE kept AS SELECT 42 AS n").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn read_row(postgres: &EmbeddedPostgres) -> i32 {
    let mut connection = connect(postgres).await;
    let n = sqlx::query_scalar("SELECT n FROM kept").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    n
}

/// Waits until `done`; says what was waited for if it never comes.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never came: {what}"));
}

#[tokio::test]
async fn a_fresh_start_is_durable_private_and_leaves_nothing_running() {
    let dir = DataDir::new();
    assert!(!EmbeddedPostgres::exists(&dir.path()));
    let postgres = EmbeddedPostgres::start(&dir.path(), None).await.unwrap();
    assert!(EmbeddedPostgres::exists(&dir.path()) && postgres.owned());

    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", ""),
        ("max_connections", "100"),
        ("shared_buffers", "128MB"),
        ("jit", "off"),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("password_encryption", "scram-sha-256"),
    ] {
        let sql = "SELECT current_setting($1)";
        let shown: String = sqlx::query_scalar(sql).bind(setting).fetch_one(&mut connection).await.unwrap();
        assert_eq!(shown, value, "{setting}");
    }
    let database: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await.unwrap();
    assert_eq!(database, "velox");
    connection.close().await.unwrap();

    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("pg/data"), mode("pg/sock"), mode("pg/superuser.pw")), (0o700, 0o700, 0o600));

    let pid = postgres.pid();
    postgres.stop().await.unwrap();
    assert!(!is_postmaster_in(pid, &dir.path().join("pg/data")) && !dir.pid_file().exists());
}

#[tokio::test]
async fn root_gives_up_its_rights() {
    let dir = DataDir::new();
    let postgres = EmbeddedPostgres::start(&dir.path(), None).await.unwrap();
    let us = rustix::process::geteuid().as_raw();
    let owner = std::fs::metadata(format!("/proc/{}", postgres.pid())).unwrap().uid();
    let cluster = std::fs::metadata(dir.path().join("pg/data")).unwrap().uid();
    assert_eq!(owner, cluster);
    assert_eq!(owner == us, us != 0, "runs as {owner}, started by {us}");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn root_says_which_directory_keeps_postgres_out() {
    let dir = DataDir::new();
    std::fs::set_permissions(dir.0.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let result = EmbeddedPostgres::start(&dir.path(), None).await;
    if rustix::process::geteuid().is_root() {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(&format!("chmod o+x {}", dir.0.path().display())), "{message}");
    } else {
        result.unwrap().stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_restart_keeps_the_data() {
    let dir = DataDir::new();
    let first = EmbeddedPostgres::start(&dir.path(), None).await.unwrap();
    write_row(&first).await;
    let url = first.url();
    first.stop().await.unwrap();
    first.stop().await.unwrap();
    drop(first);

    let second = EmbeddedPostgres::start(&dir.path(), None).await.unwrap();
    assert_eq!((read_row(&second).await, second.url()), (42, url));
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_kill_of_the_postmaster_is_recovered_while_the_node_runs() {
    let dir = DataDir::new();
    let postgres = EmbeddedPostgres::start(&dir.path(), None).await.unwrap();
    write_row(&postgres).await;
    let pool = sqlx::PgPool::connect_with(postgres.connect_options()).await.unwrap();

    let beside = async {
        for _ in 0..3 {
            let before = postgres.pid();
            kill_process(process(before), Signal::KILL).unwrap();
            until("a new postmaster", async || postgres.pid() != before).await;
            // The pool of before: its dead connections are replaced without anybody's help.
            until("the pool works", async || sqlx::query("SELECT n FROM kept").execute(&pool).await.is_ok())
                .await;
        }
        assert_eq!(read_row(&postgres).await, 42);
        pool.close().await;
        postgres.stop().await.unwrap();
    };
    tokio::join!(postgres.watch(), beside);
    assert!(!dir.pid_file().exists());
}

/// Not a test of its own: the process that [`a_kill_of_the_node_leaves_a_postmaster_to_adopt`] kills.
#[tokio::test]
async fn owner_process() {
    let Some(dir) = std::env::var_os(OWNER_DIR) else {
        return;
    };
    let postgres = EmbeddedPostgres::start(Path::new(&dir), None).await.unwrap();
    write_row(&postgres).await;
    std::fs::write(Path::new(&dir).join("ready"), "").unwrap();
    postgres.watch().await;
}

async fn start_owner(dir: &DataDir) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["owner_process", "--exact", "--nocapture"]).env(OWNER_DIR, dir.path());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    until("the other node is up", async || dir.path().join("ready").exists()).await;
    child
}

#[tokio::test]
async fn a_kill_of_the_node_leaves_a_postmaster_to_adopt() {
    let dir = DataDir::new();
    let mut owner = start_owner(&dir).await;

    let refused = EmbeddedPostgres::start(&dir.path(), None).await.unwrap_err();
    assert!(
        matches!(refused, EmbeddedError::NodeRunning { pid: Some(pid), .. } if pid == owner.id()),
        "{refused}"
    );

    let guest = EmbeddedPostgres::attach_or_start(&dir.path(), None).await.unwrap();
    let pid = guest.pid();
    assert!(!guest.owned());
    guest.stop().await.unwrap();
    assert!(is_postmaster_in(pid, &dir.path().join("pg/data")), "a command ended the node's postmaster");

    owner.kill().unwrap();
    owner.wait().unwrap();
    let adopter = EmbeddedPostgres::start(&dir.path(), None).await.unwrap();
    assert_eq!((adopter.pid(), adopter.owned(), read_row(&adopter).await), (pid, true, 42));
    adopter.stop().await.unwrap();
    assert!(!is_postmaster_in(pid, &dir.path().join("pg/data")));
}

#[tokio::test]
async fn the_last_of_several_commands_ends_what_the_first_started() {
    let dir = DataDir::new();
    let path = dir.path();
    let both = tokio::join!(
        EmbeddedPostgres::attach_or_start(&path, None),
        EmbeddedPostgres::attach_or_start(&path, None)
    );
    let (one, other) = (both.0.unwrap(), both.1.unwrap());
    let pid = one.pid();
    assert_eq!(pid, other.pid());
    assert_ne!(one.owned(), other.owned());
    one.stop().await.unwrap();
    assert!(is_postmaster_in(pid, &path.join("pg/data")));
    connect(&other).await.close().await.unwrap();
    other.stop().await.unwrap();
    assert!(!is_postmaster_in(pid, &path.join("pg/data")));
}

#[tokio::test]
async fn a_pid_file_that_names_somebody_else_or_nobody_does_not_hurt() {
    let dir = DataDir::new();
    EmbeddedPostgres::start(&dir.path(), None).await.unwrap().stop().await.unwrap();
    let data = dir.path().join("pg/data");
    let owner = std::fs::metadata(&data).unwrap();

    // The same account's process, which PostgreSQL itself would take for its predecessor.
    let mut command = Command::new("sleep");
    std::os::unix::process::CommandExt::uid(&mut command, owner.uid());
    let mut stranger = command.arg("600").stdin(Stdio::null()).spawn().unwrap();
    let stale =
        |pid: u32| format!("{pid}\n{}\n1\n5432\n{}\n\n  1 1\nready   \n", data.display(), data.display());
    for text in [stale(stranger.id()), stale(4_194_303), String::new()] {
        std::fs::write(dir.pid_file(), text).unwrap();
        let lock = dir.path().join("pg/sock/.s.PGSQL.5432.lock");
        std::fs::write(&lock, format!("{}\n", stranger.id())).unwrap();
        for file in [dir.pid_file(), lock] {
            std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        EmbeddedPostgres::start(&dir.path(), None).await.unwrap().stop().await.unwrap();
    }
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_long_path_gets_its_socket_elsewhere_and_keeps_it() {
    let dir = DataDir::new();
    let path = dir.path().join("a-directory-name-long-enough".repeat(4));
    let first = EmbeddedPostgres::start(&path, None).await.unwrap();
    let socket_dir = first.connect_options().get_socket().unwrap().clone();
    assert!(!socket_dir.starts_with(&path));
    assert_eq!(std::fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    first.stop().await.unwrap();
    drop(first);

    // Temporary directories are cleaned now and then.
    std::fs::remove_dir_all(&socket_dir).unwrap();
    let second = EmbeddedPostgres::start(&path, None).await.unwrap();
    assert_eq!(second.connect_options().get_socket(), Some(&socket_dir));
    connect(&second).await.close().await.unwrap();
    second.stop().await.unwrap();
    std::fs::remove_dir_all(socket_dir).unwrap();
}

#[tokio::test]
async fn an_interrupted_initdb_is_made_anew() {
    let dir = DataDir::new();
    let half = dir.path().join("pg/data.new");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    let postgres = EmbeddedPostgres::start(&dir.path(), None).await.unwrap();
    connect(&postgres).await.close().await.unwrap();
    postgres.stop().await.unwrap();
    assert!(!half.exists());
}

#[tokio::test]
async fn missing_programs_are_told_with_the_command_that_installs_them() {
    let dir = DataDir::new();
    let empty = dir.0.path().join("no-programs");
    std::fs::create_dir(&empty).unwrap();
    let message = EmbeddedPostgres::start(&dir.path(), Some(&empty)).await.unwrap_err().to_string();
    assert!(message.contains("`apt-get install postgresql`"), "{message}");
    assert!(message.contains(&format!("{} (VELOX_PG_BIN)", empty.display())), "{message}");
}

#[tokio::test]
async fn a_cluster_of_another_version_is_not_opened() {
    let dir = DataDir::new();
    EmbeddedPostgres::start(&dir.path(), None).await.unwrap().stop().await.unwrap();
    std::fs::write(dir.path().join("pg/data/PG_VERSION"), "9\n").unwrap();
    let message = EmbeddedPostgres::start(&dir.path(), None).await.unwrap_err().to_string();
    assert!(message.contains("made by PostgreSQL 9") && message.contains("postgresql-9"), "{message}");
}
