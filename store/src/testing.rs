//! Databases for tests: a fresh, migrated one for each, on the server that `./dev test` starts.
//!
//! Never here: fixtures of events or rows; those belong to the tests that read them.

use std::fmt::Write as _;
use std::str::FromStr as _;

use sha2::{Digest as _, Sha256};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};

/// Superuser's URL of the throw-away server.
const SERVER_URL: &str = "VELOX_TEST_DATABASE_URL";

/// Key of the advisory lock under which a template is built: test processes start at the same moment.
const TEMPLATE_LOCK: i64 = 0x7665_6c6f_785f_7470;

/// A database of its own for one test; gone after it.
///
/// All methods panic on failure: there is nothing a test could do about it.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    server: PgConnectOptions,
    url: String,
    dropped: bool,
}

impl TestDatabase {
    /// Copies the template with these migrations, which the first caller builds.
    ///
    /// # Panics
    /// If the server is not there (run the tests by `./dev test`) or a migration fails.
    pub async fn create(migrator: &Migrator) -> Self {
        let server_url = server_url();
        let server = PgConnectOptions::from_str(&server_url).expect("a PostgreSQL URL");
        let mut admin = PgConnection::connect_with(&server).await.unwrap_or_else(|error| {
            panic!("no test database server at {SERVER_URL} ({error}): run `./dev test`");
        });
        let template = template(&mut admin, &server, migrator).await;
        Self::copy(admin, &template, server, &server_url).await
    }

    /// A database with nothing in it.
    ///
    /// # Panics
    /// If the server is not there.
    pub async fn create_empty() -> Self {
        let server_url = server_url();
        let server = PgConnectOptions::from_str(&server_url).expect("a PostgreSQL URL");
        let admin = PgConnection::connect_with(&server).await.expect("the test database server");
        Self::copy(admin, "template0", server, &server_url).await
    }

    async fn copy(
        mut admin: PgConnection,
        template: &str,
        server: PgConnectOptions,
        server_url: &str,
    ) -> Self {
        let name = format!("velox_test_{:016x}", rand::random::<u64>());
        run(&mut admin, format!(r#"CREATE DATABASE "{name}" TEMPLATE "{template}""#)).await;
        admin.close().await.expect("a clean goodbye");
        let url = with_database(server_url, &name);
        Self { name, server, url, dropped: false }
    }

    /// How to connect to it, as superuser.
    pub fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    /// The same as a URL, for a node under test.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A small pool on it.
    ///
    /// # Panics
    /// If the server is gone.
    pub async fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(5)
            .connect_with(self.options())
            .await
            .expect("the test's database")
    }

    /// Drops the database now, whoever is still connected.
    ///
    /// # Panics
    /// If the server is gone.
    pub async fn close(mut self) {
        self.dropped = true;
        drop_database(&self.server, &self.name).await.expect("the test's database can be dropped");
    }
}

impl Drop for TestDatabase {
    /// Best effort: the server is thrown away anyway, but a thousand databases would fill its disk.
    fn drop(&mut self) {
        if self.dropped {
            return;
        }
        let (server, name) = (self.server.clone(), self.name.clone());
        // Its own thread: this one may be inside a runtime, which cannot be blocked on.
        let work = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(drop_database(&server, &name)))
        });
        match work.join() {
            Ok(Ok(Ok(()))) => {}
            other => eprintln!("test database {} is left behind: {other:?}", self.name),
        }
    }
}

/// The name of the finished template for `migrator`, built here if it is not there.
async fn template(admin: &mut PgConnection, server: &PgConnectOptions, migrator: &Migrator) -> String {
    let name = template_name(migrator);
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut *admin)
        .await
        .expect("the lock");
    // The flag is set last: without it, whoever built the template died over it.
    let finished = sqlx::query_scalar("SELECT datistemplate FROM pg_database WHERE datname = $1");
    let finished: Option<bool> =
        finished.bind(&name).fetch_optional(&mut *admin).await.expect("the list of databases");
    if finished != Some(true) {
        run(admin, format!(r#"DROP DATABASE IF EXISTS "{name}" WITH (FORCE)"#)).await;
        run(admin, format!(r#"CREATE DATABASE "{name}" TEMPLATE template0"#)).await;
        let mut fresh =
            PgConnection::connect_with(&server.clone().database(&name)).await.expect("the template");
        migrator.run(&mut fresh).await.expect("the migrations apply to an empty database");
        fresh.close().await.expect("a clean goodbye");
        // A template with a session on it cannot be copied.
        run(admin, format!(r#"ALTER DATABASE "{name}" WITH IS_TEMPLATE true ALLOW_CONNECTIONS false"#)).await;
    }
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(TEMPLATE_LOCK).execute(admin).await.expect("the lock");
    name
}

/// Names the exact set of migrations: a changed one gets a new template.
fn template_name(migrator: &Migrator) -> String {
    let mut hash = Sha256::new();
    for migration in migrator.iter() {
        hash.update(migration.version.to_be_bytes());
        hash.update(&migration.checksum);
    }
    let mut name = String::from("velox_template_");
    for byte in &hash.finalize()[..8] {
        write!(name, "{byte:02x}").expect("a String takes it");
    }
    name
}

async fn drop_database(server: &PgConnectOptions, name: &str) -> Result<(), sqlx::Error> {
    let mut admin = PgConnection::connect_with(server).await?;
    admin.execute(AssertSqlSafe(format!(r#"DROP DATABASE IF EXISTS "{name}" WITH (FORCE)"#))).await?;
    admin.close().await
}

/// Only for statements that take no parameters; all names are made here.
async fn run(connection: &mut PgConnection, sql: String) {
    if let Err(error) = connection.execute(AssertSqlSafe(sql.as_str())).await {
        panic!("{sql}: {error}");
    }
}

/// `url` with another database: what stands between the authority's `/` and the `?`.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..].find('/').map_or(base.len(), |at| authority + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &base[..end])
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration that it could come from")]
fn server_url() -> String {
    std::env::var(SERVER_URL)
        .unwrap_or_else(|_| panic!("{SERVER_URL} is not set: run `./dev test`, which starts a server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_database_of_a_url() {
        let expected = "postgres://u:p@h:5432/new";
        for url in ["postgres://u:p@h:5432/old", "postgres://u:p@h:5432/", "postgres://u:p@h:5432"] {
            assert_eq!(with_database(url, "new"), expected);
        }
        let socket = with_database("postgres://u@%2Ftmp:1/a?sslmode=disable", "b");
        assert_eq!(socket, "postgres://u@%2Ftmp:1/b?sslmode=disable");
    }
}
