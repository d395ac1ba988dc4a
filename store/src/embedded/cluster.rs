//! One PostgreSQL cluster on disk: made once, its password, its settings, how to reach it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection as _, PgConnection};

use super::home::{Account, Home, PORT, give, private_dir};
use super::programs::Programs;
use super::{EmbeddedError, io};

/// The superuser's name.
const ROLE: &str = "velox";

/// Another session made the same database a moment before.
const DUPLICATE_DATABASE: &str = "42P04";

/// What the node depends on. Given on the command line, so that no `ALTER SYSTEM` undoes it.
const SETTINGS: [&str; 16] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "max_connections=100",
    "shared_buffers=128MB",
    "max_wal_size=1GB",
    "autovacuum=on",
    // Queue tables turn over completely within seconds.
    "autovacuum_naptime=10s",
    // Short statements only: compiling them costs more than it saves.
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "logging_collector=off",
    "log_destination=stderr",
    "log_line_prefix=%m [%p] %q%a ",
];

/// The cluster under one [`Home`].
#[derive(Debug)]
pub(super) struct Cluster {
    home: Home,
    account: Option<Account>,
    bin_override: Option<PathBuf>,
    socket_dir: PathBuf,
    password: String,
}

impl Cluster {
    /// Makes the cluster where there is none. Call it under the gate.
    pub(super) async fn open(home: Home, bin_override: Option<&Path>) -> Result<Self, EmbeddedError> {
        let account = home.account()?;
        if let Some(account) = account {
            home.let_in(account)?;
        }
        let socket_dir = home.socket_dir(account)?;
        let bin_override = bin_override.map(Path::to_owned);
        let mut cluster = Self { home, account, bin_override, socket_dir, password: String::new() };
        if !cluster.home.data().exists() {
            cluster.init().await?;
        }
        let path = cluster.password_file();
        cluster.password = match fs::read_to_string(&path) {
            Ok(text) => text.trim_end().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(EmbeddedError::NoPassword { path: path.display().to_string() });
            }
            Err(error) => return Err(io(&path)(error)),
        };
        Ok(cluster)
    }

    /// Works beside the final name and renames at the end, so that a kill in between leaves no half cluster.
    async fn init(&self) -> Result<(), EmbeddedError> {
        let programs = self.programs().await?;
        let fresh = self.home.pg().join("data.new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(io(&fresh))?;
        }
        private_dir(&fresh, self.account)?;
        let password = format!("{:032x}", rand::random::<u128>());
        write_secret(&self.password_file(), &password, None)?;
        let copy = self.home.pg().join("initdb.pw");
        write_secret(&copy, &password, self.account)?;

        let mut command = tokio::process::Command::from(programs.command("initdb", self.account));
        command.arg("--pgdata").arg(&fresh).arg("--pwfile").arg(&copy);
        command.args(["--username", ROLE, "--encoding", "UTF8", "--locale", "C", "--data-checksums"]);
        command.args(["--auth", "scram-sha-256"]).kill_on_drop(true);
        let output = command.output().await.map_err(io(&fresh));
        fs::remove_file(&copy).map_err(io(&copy))?;
        let output = output?;
        if !output.status.success() {
            return Err(EmbeddedError::InitDb(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        fs::rename(&fresh, self.home.data()).map_err(io(&fresh))?;
        let pg = self.home.pg();
        File::open(pg).and_then(|dir| dir.sync_all()).map_err(io(pg))
    }

    /// The programs that fit the cluster; looked up at each start, so that an upgrade of them is seen.
    async fn programs(&self) -> Result<Programs, EmbeddedError> {
        let major = fs::read_to_string(self.home.data().join("PG_VERSION")).ok();
        Programs::find(self.bin_override.as_deref(), self.account, major.as_deref().map(str::trim)).await
    }

    /// `postgres`, ready to be spawned.
    pub(super) async fn postgres(&self) -> Result<Command, EmbeddedError> {
        let mut command = self.programs().await?.command("postgres", self.account);
        command
            .arg("-D")
            .arg(self.home.data())
            .arg("-p")
            .arg(PORT.to_string())
            .arg("-k")
            .arg(&self.socket_dir);
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        Ok(command)
    }

    pub(super) async fn create_database(&self) -> Result<(), EmbeddedError> {
        let mut connection = PgConnection::connect_with(&self.options("postgres")).await?;
        let known: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'velox')")
                .fetch_one(&mut connection)
                .await?;
        if !known {
            let made = sqlx::query("CREATE DATABASE velox TEMPLATE template0").execute(&mut connection).await;
            let code = made.as_ref().err().and_then(|error| error.as_database_error()?.code());
            if code.as_deref() != Some(DUPLICATE_DATABASE) {
                made?;
            }
        }
        connection.close().await?;
        Ok(())
    }

    pub(super) fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket_dir)
            .port(PORT)
            .username(ROLE)
            .password(&self.password)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    pub(super) fn url(&self, database: &str) -> String {
        let socket_dir = percent_encoded(self.socket_dir.as_os_str().as_encoded_bytes());
        format!("postgres://{ROLE}:{}@{socket_dir}:{PORT}/{database}", self.password)
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The socket's directory again, where somebody cleaned up the temporary directory.
    pub(super) fn renew_socket_dir(&self) -> Result<(), EmbeddedError> {
        private_dir(&self.socket_dir, self.account)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.home.pg().join("postgres.log")
    }

    fn password_file(&self) -> PathBuf {
        self.home.pg().join("superuser.pw")
    }
}

fn write_secret(path: &Path, secret: &str, account: Option<Account>) -> Result<(), EmbeddedError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(io(path))?;
    file.write_all(secret.as_bytes()).and_then(|()| file.sync_all()).map_err(io(path))?;
    give(path, account)
}

/// Everything but RFC 3986's unreserved characters.
fn percent_encoded(bytes: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    bytes.iter().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_fits_into_a_url() {
        assert_eq!(percent_encoded("/a b/ü".as_bytes()), "%2Fa%20b%2F%C3%BC");
        let url = format!("postgres://velox:pw@{}:5432/velox", percent_encoded(b"/Var/my data/sock"));
        let options: PgConnectOptions = url.parse().unwrap();
        assert_eq!(options.get_socket().unwrap(), Path::new("/Var/my data/sock"));
        assert_eq!((options.get_port(), options.get_database()), (5432, Some("velox")));
    }
}
