//! The PostgreSQL server under a node: how to reach the embedded one from outside, and databases of our own.
//!
//! Never here: the statements that are measured.

use std::path::Path;

use anyhow::{Context as _, Result};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};

/// The role and the database of an embedded PostgreSQL.
const EMBEDDED: &str = "velox";

/// The migrations, for the floor's own database.
static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// How to reach the database of a node's embedded PostgreSQL.
///
/// # Errors
/// Where none runs in that data directory, or the caller may not read its password.
pub(crate) fn embedded(data_dir: &Path) -> Result<PgConnectOptions> {
    let pg = data_dir.join("pg");
    let read = |name: &str| {
        let path = pg.join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let password = read("superuser.pw")?;
    let options = reached_by(&read("data/postmaster.pid")?).context("postmaster.pid names no socket")?;
    Ok(options.username(EMBEDDED).password(password.trim()).database(EMBEDDED))
}

/// Line 4 of PostgreSQL's lock file is the port, line 5 the socket's directory, line 6 an address.
fn reached_by(lock_file: &str) -> Option<PgConnectOptions> {
    let lines: Vec<&str> = lock_file.lines().map(str::trim).collect();
    let options = PgConnectOptions::new_without_pgpass().port(lines.get(3)?.parse().ok()?);
    let options = options.ssl_mode(PgSslMode::Disable);
    match (lines.get(4).copied().unwrap_or_default(), lines.get(5).copied().unwrap_or_default()) {
        ("", "") => None,
        ("", "*") => Some(options.host("127.0.0.1")),
        ("", address) => Some(options.host(address)),
        (socket, _) => Some(options.socket(socket)),
    }
}

/// A database of our own on a server, dropped by [`Scratch::drop`].
#[derive(Debug)]
pub(crate) struct Scratch {
    server: PgConnectOptions,
    name: String,
}

impl Scratch {
    /// Makes an empty database.
    pub(crate) async fn create(server: &PgConnectOptions, name: String) -> Result<Self> {
        let mut connection = server.connect().await.context("the server of the database")?;
        // The name is ours: letters, digits and underscores.
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
        connection.close().await?;
        Ok(Scratch { server: server.clone(), name })
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    /// As a URL, for a node.
    pub(crate) fn url(&self) -> String {
        self.options().to_url_lossy().to_string()
    }

    pub(crate) async fn migrate(&self) -> Result<()> {
        let mut connection = self.options().connect().await?;
        MIGRATOR.run(&mut connection).await.context("migrations")?;
        Ok(connection.close().await?)
    }

    pub(crate) async fn drop(self) -> Result<()> {
        let mut connection: PgConnection = self.server.connect().await?;
        connection.execute(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name))).await?;
        Ok(connection.close().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_names_the_socket_else_an_address() {
        let file =
            |socket: &str, address: &str| format!("1\n/d\n17\n5433\n{socket}\n{address}\n  77 0\nready   \n");
        let options = reached_by(&file("/d/sock", "")).expect("reachable");
        assert_eq!(options.get_port(), 5433);
        assert_eq!(options.get_socket().map(|path| path.as_path()), Some(Path::new("/d/sock")));
        assert_eq!(reached_by(&file("", "127.0.0.1")).expect("reachable").get_host(), "127.0.0.1");
        assert!(reached_by(&file("", "")).is_none());
        assert!(reached_by("1\n/d\n").is_none());
    }
}
