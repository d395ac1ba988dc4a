//! `pg_dump` and `pg_restore`, told where the database is without a secret in their arguments.
//!
//! Never here: what is in an archive.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::process::Command;

use super::{BackupError, io};
use crate::embedded::programs::{debian_dirs, on_path};

/// Longest wait of a dump for tables that are being changed.
const LOCK_WAIT: &str = "--lock-wait-timeout=60s";

/// Both programs, and a database.
pub(super) struct Tools {
    dir: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    database: String,
}

impl Tools {
    /// The first programs that know the server's version.
    pub(super) async fn find(
        options: &PgConnectOptions,
        bin_override: Option<&Path>,
    ) -> Result<Self, BackupError> {
        let connection = PgConnection::connect_with(options).await?;
        let version = connection.server_version_num();
        connection.close().await?;
        let major = version.unwrap_or(0) / 10_000;
        let dirs = match bin_override {
            Some(dir) => vec![dir.to_owned()],
            // Debian's programs on PATH are scripts that choose a version by what else is on the machine.
            None => debian_dirs().into_iter().chain(on_path()).collect(),
        };
        let mut found = Vec::new();
        for dir in dirs.iter().filter(|dir| dir.join("pg_restore").is_file()) {
            found.extend(version_of(&dir.join("pg_dump")).await.map(|version| (version, dir.clone())));
        }
        if let Some(dir) = nearest(found, major) {
            return Ok(Tools {
                dir,
                environment: environment(options),
                database: options.get_database().unwrap_or(options.get_username()).to_owned(),
            });
        }
        let places = match bin_override {
            Some(dir) => format!("{} (VELOX_PG_BIN)", dir.display()),
            None => "PATH or /usr/lib/postgresql/*/bin".to_owned(),
        };
        Err(BackupError::NoPrograms { major, places })
    }

    /// Writes the database into a file.
    pub(super) async fn dump(&self, file: &File) -> Result<(), BackupError> {
        let file = file.try_clone().map_err(io(Path::new("the archive")))?;
        let mut command = self.command("pg_dump");
        // Owners and rights name roles that another server does not have.
        command.args(["--format=custom", "--no-owner", "--no-privileges", LOCK_WAIT]).stdout(file);
        run("pg_dump", command).await.map(drop)
    }

    /// Fills the database from a file, wholly or not at all.
    pub(super) async fn restore(&self, from: &Path) -> Result<(), BackupError> {
        let mut command = self.command("pg_restore");
        command.args(["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]);
        command.arg("--dbname").arg(&self.database).stdin(File::open(from).map_err(io(from))?);
        run("pg_restore", command).await.map(drop)
    }

    /// What a file holds, a line an object.
    pub(super) async fn list(&self, archive: &Path) -> Result<String, BackupError> {
        let mut command = self.command("pg_restore");
        command.arg("--list").stdin(File::open(archive).map_err(io(archive))?);
        run("pg_restore", command).await
    }

    fn command(&self, program: &str) -> Command {
        let mut command = bare(&self.dir.join(program));
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// The first of the oldest version that knows the server: an archive of a newer one is nothing to programs of the
/// server's own, and a newer `pg_restore` may set what the server does not know.
fn nearest(found: Vec<(u32, PathBuf)>, major: u32) -> Option<PathBuf> {
    found
        .into_iter()
        .filter(|(version, _)| *version >= major)
        .min_by_key(|(version, _)| *version)
        .map(|(_, dir)| dir)
}

/// A program with nothing of our environment: it holds secrets, and `PG*` variables change what it does.
fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs([("LC_ALL", "C"), ("TZ", "UTC"), ("PATH", "/usr/bin:/bin")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(program: &'static str, mut command: Command) -> Result<String, BackupError> {
    let child = command.spawn().map_err(io(Path::new(program)))?;
    let output = child.wait_with_output().await.map_err(io(Path::new(program)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = if lines.is_empty() { output.status.to_string() } else { lines.join("; ") };
    Err(BackupError::Failed { program, text })
}

/// Major version: `pg_dump (PostgreSQL) 15.18 (Debian …)`.
async fn version_of(program: &Path) -> Option<u32> {
    let text = run("pg_dump", {
        let mut command = bare(program);
        command.arg("--version");
        command
    });
    let text = text.await.ok()?;
    text.split_whitespace().nth(2)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// libpq's variables for a database. The driver shows its password, and where its certificates are, in a URL alone.
fn environment(options: &PgConnectOptions) -> Vec<(&'static str, OsString)> {
    let url = options.to_url_lossy();
    let mut environment: Vec<(&'static str, OsString)> = vec![
        ("PGPORT", options.get_port().to_string().into()),
        ("PGUSER", options.get_username().into()),
        ("PGDATABASE", options.get_database().unwrap_or(options.get_username()).into()),
        ("PGAPPNAME", "velox-backup".into()),
        ("PGCONNECT_TIMEOUT", "10".into()),
        match options.get_socket() {
            Some(socket) => ("PGHOST", socket.as_os_str().to_owned()),
            None => ("PGHOST", options.get_host().into()),
        },
    ];
    if let Some(password) = url.password() {
        environment
            .push(("PGPASSWORD", percent_decode_str(password).decode_utf8_lossy().into_owned().into()));
    }
    for (key, value) in url.query_pairs() {
        let variable = match &*key {
            "sslmode" => "PGSSLMODE",
            "sslrootcert" => "PGSSLROOTCERT",
            "sslcert" => "PGSSLCERT",
            "sslkey" => "PGSSLKEY",
            _ => continue,
        };
        // The driver says of a certificate whether it is a file; others cannot be handed over.
        let value = if key == "sslmode" { Some(&*value) } else { value.strip_prefix("file: ") };
        environment.extend(value.map(|value| (variable, OsString::from(value))));
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr as _;

    fn of(url: &str) -> Vec<(&'static str, String)> {
        let options = PgConnectOptions::from_str(url).expect("a URL");
        let text = |(key, value): (_, OsString)| (key, value.into_string().expect("UTF-8"));
        environment(&options).into_iter().map(text).collect()
    }

    #[test]
    fn a_url_becomes_variables_with_its_password_as_it_is() {
        let found =
            of("postgres://us%40er:p%23a%20ss@db.example:5433/shop?sslmode=verify-full&sslrootcert=/ca.pem");
        for expected in [
            ("PGHOST", "db.example"),
            ("PGPORT", "5433"),
            ("PGUSER", "us@er"),
            ("PGDATABASE", "shop"),
            ("PGPASSWORD", "p#a ss"),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "/ca.pem"),
        ] {
            let expected = (expected.0, expected.1.to_owned());
            assert!(found.contains(&expected), "{expected:?} in {found:?}");
        }
    }

    #[test]
    fn of_several_versions_the_servers_own_is_taken_else_the_next() {
        let found =
            || ["17", "15", "16", "14"].map(|v| (v.parse().expect("a version"), PathBuf::from(v))).into();
        for (major, taken) in [(15, Some("15")), (13, Some("14")), (17, Some("17")), (18, None)] {
            assert_eq!(nearest(found(), major), taken.map(PathBuf::from), "{major}");
        }
    }

    #[test]
    fn a_socket_is_the_host() {
        let found = of("postgres://velox@%2Frun%2Fpg:5432/velox");
        assert!(found.contains(&("PGHOST", "/run/pg".to_owned())), "{found:?}");
    }
}
