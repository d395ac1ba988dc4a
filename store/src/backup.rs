//! Backups of a node's database: PostgreSQL's own archives, made and read by `pg_dump` and `pg_restore`.
//!
//! A backup is one consistent look at a database that goes on working. What is restored is another database than the
//! one that was backed up, and its peers know more than it does: see `crate::identity`. Never here: when backups are
//! made, or what of the data directory is no database (the admin key).

mod tools;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use self::tools::Tools;
use crate::{Error, Store, identity};

/// How an archive of `pg_dump`'s custom format begins.
const MAGIC: &[u8; 5] = b"PGDMP";

/// The role under which a node works, and its rights, where the server lets us make them: an archive has no roles, and
/// its rights would name those of another server.
const GRANTS: &str = r"
DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'velox_runtime') THEN
        CREATE ROLE velox_runtime NOLOGIN;
    END IF;
    IF NOT pg_has_role('velox_runtime', 'pg_read_all_stats', 'MEMBER') THEN
        GRANT pg_read_all_stats TO velox_runtime;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation OR insufficient_privilege OR internal_error THEN
        RAISE NOTICE 'role velox_runtime: %', SQLERRM;
END $$;
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'velox_runtime')
       AND pg_has_role('velox_runtime', 'pg_read_all_stats', 'MEMBER') THEN
        GRANT USAGE ON SCHEMA public TO velox_runtime;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO velox_runtime;
        GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO velox_runtime;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO velox_runtime;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO velox_runtime;
        REVOKE UPDATE, DELETE ON events, event_variants FROM velox_runtime;
        GRANT UPDATE (effective) ON event_variants TO velox_runtime;
        REVOKE DELETE ON fiscal_counters, fiscal_sequence_ranges, fiscal_requests, fiscal_consumptions
            FROM velox_runtime;
    END IF;
END $$";

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// The archive.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The node whose database it is.
    pub node_id: String,
    /// Its stores.
    pub stores: i64,
    /// Its events.
    pub events: i64,
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No `pg_dump` and `pg_restore` of the server's version or a later one.
    #[error(
        "no pg_dump and pg_restore of PostgreSQL {major} or later in {places}; install them with `apt-get install \
         postgresql-client`, or name their directory in VELOX_PG_BIN"
    )]
    NoPrograms {
        /// The server's version.
        major: u32,
        /// Where they were looked for.
        places: String,
    },
    /// A file is there already.
    #[error("{0} is there already, and no backup is written over")]
    Exists(String),
    /// The file was not made by `velox backup` or `pg_dump --format=custom`.
    #[error("{0} is no backup of a Velox node")]
    NoBackup(String),
    /// The database to restore into has something in it.
    #[error(
        "the database is not empty ({tables} tables): a backup is restored into a fresh one; make another database \
         and name it in VELOX_DATABASE_URL, or another VELOX_DATA_DIR"
    )]
    NotEmpty {
        /// So many tables and views.
        tables: i64,
    },
    /// A program failed.
    #[error("{program} failed: {text}")]
    Failed {
        /// `pg_dump` or `pg_restore`.
        program: &'static str,
        /// What it said.
        text: String,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: String,
        /// How it failed.
        source: std::io::Error,
    },
    /// The database fails.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        BackupError::Store(error.into())
    }
}

/// Writes the whole database into a new file that only its owner can read, beside whoever works with it. The file is
/// there under its name once it is complete and was read back.
///
/// `bin_override` is the directory of `VELOX_PG_BIN`.
///
/// # Errors
/// See [`BackupError`]; no file is left then.
pub async fn backup(
    options: &PgConnectOptions,
    bin_override: Option<&Path>,
    out: &Path,
) -> Result<Backup, BackupError> {
    if out.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(out.display().to_string()));
    }
    let tools = Tools::find(options, bin_override).await?;
    let partial = Partial::new(out)?;
    tools.dump(&partial.file).await?;
    is_of_a_node(&tools, &partial.path).await?;
    let bytes = partial.keep_as(out)?;
    Ok(Backup { path: out.to_owned(), bytes })
}

/// Fills an empty database from a backup, brings it up to this program's migrations and gives it an incarnation of its
/// own. In one transaction up to the migrations, so that a failure leaves it empty.
///
/// # Errors
/// See [`BackupError`].
pub async fn restore(
    store: &Store,
    options: &PgConnectOptions,
    bin_override: Option<&Path>,
    from: &Path,
) -> Result<Restored, BackupError> {
    let mut head = [0; MAGIC.len()];
    let mut file = File::open(from).map_err(io(from))?;
    match file.read_exact(&mut head) {
        Ok(()) if head == *MAGIC => {}
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(io(from)(error)),
        _ => return Err(BackupError::NoBackup(from.display().to_string())),
    }
    let tools = Tools::find(options, bin_override).await?;
    is_of_a_node(&tools, from).await?;
    let mut connection = PgConnection::connect_with(options).await?;
    is_empty(&mut connection).await?;
    tools.restore(from).await?;
    // First of all: whatever happens from here on, nobody takes this for the database that was backed up.
    sqlx::query!("UPDATE node_identity SET incarnation = gen_random_uuid()").execute(&mut connection).await?;
    sqlx::raw_sql(GRANTS).execute(&mut connection).await?;
    store.migrate().await?;
    let mut transaction = connection.begin().await?;
    identity::renew(&mut transaction).await?;
    // So that the next look takes this database as it is and not for yet another one.
    sqlx::query!("UPDATE node_identity SET database_id = NULL").execute(&mut *transaction).await?;
    transaction.commit().await?;
    store.notice_restore().await?;
    let restored = sqlx::query_as!(
        Restored,
        r#"SELECT node_id, (SELECT count(*) FROM stores) AS "stores!", (SELECT count(*) FROM events) AS "events!"
           FROM node_identity"#
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(restored)
}

/// Whether an archive can be read and holds what a node has. Its data are not unpacked.
async fn is_of_a_node(tools: &Tools, archive: &Path) -> Result<(), BackupError> {
    let list = tools.list(archive).await?;
    let holds = |table: &str| list.lines().any(|line| line.contains(&format!(" TABLE DATA public {table} ")));
    if ["node_identity", "events", "_sqlx_migrations"].into_iter().all(holds) {
        Ok(())
    } else {
        Err(BackupError::NoBackup(archive.display().to_string()))
    }
}

async fn is_empty(connection: &mut PgConnection) -> Result<(), BackupError> {
    let tables = sqlx::query_scalar!(
        r#"SELECT count(*) AS "tables!" FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname !~ '^(pg_|information_schema$)'
             AND NOT EXISTS (SELECT 1 FROM pg_depend d
                             WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"#
    )
    .fetch_one(connection)
    .await?;
    if tables == 0 { Ok(()) } else { Err(BackupError::NotEmpty { tables }) }
}

/// A file that goes unless it is kept.
struct Partial {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Partial {
    /// Beside `out`, so that it is renamed and not copied.
    fn new(out: &Path) -> Result<Self, BackupError> {
        let mut name = out.as_os_str().to_owned();
        name.push(format!(".{:08x}.partial", rand::random::<u32>()));
        let path = PathBuf::from(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io(&path))?;
        Ok(Partial { path, file, kept: false })
    }

    /// Gives it its name once the disk has it; answers its size.
    fn keep_as(mut self, out: &Path) -> Result<u64, BackupError> {
        self.file.sync_all().map_err(io(&self.path))?;
        std::fs::rename(&self.path, out).map_err(io(out))?;
        self.kept = true;
        let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io(dir))?;
        Ok(self.file.metadata().map_err(io(out))?.len())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // Where this fails, the name says what it is.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BackupError + use<> {
    let path = path.display().to_string();
    move |source| BackupError::Io { path, source }
}
