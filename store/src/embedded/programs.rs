//! Finds `initdb` and `postgres` on the machine. Never installs or downloads anything.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::EmbeddedError;
use super::home::Account;

/// Where Debian and Ubuntu keep one directory a major version; none of it is on `PATH`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// `postgres --version` reads nothing but itself.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// A directory with both programs.
#[derive(Debug)]
pub(super) struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// The first usable directory; `major` is the version of an existing cluster, which no other can open.
    pub(super) async fn find(
        bin_override: Option<&Path>,
        account: Option<Account>,
        major: Option<&str>,
    ) -> Result<Self, EmbeddedError> {
        for dir in candidates(bin_override) {
            let programs = Self { dir };
            let found = programs.version(account).await;
            if found.is_some() && (major.is_none() || found.as_deref() == major) {
                return Ok(programs);
            }
        }
        Err(EmbeddedError::NoPrograms {
            what: match major {
                Some(major) => format!("the data was made by PostgreSQL {major}, and its programs are not"),
                None => "no PostgreSQL programs (initdb, postgres)".to_owned(),
            },
            places: match bin_override {
                Some(dir) => format!("{} (VELOX_PG_BIN)", dir.display()),
                None => format!("PATH or {DEBIAN}/*/bin"),
            },
            package: major.map_or_else(|| "postgresql".to_owned(), |major| format!("postgresql-{major}")),
        })
    }

    /// A program with nothing of our environment: it holds secrets, and `PG*` variables change what it does.
    pub(super) fn command(&self, program: &str, account: Option<Account>) -> std::process::Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = std::process::Command::new(self.dir.join(program));
        command.env_clear().envs([("LC_ALL", "C"), ("TZ", "UTC"), ("PATH", "/usr/bin:/bin")]);
        command.current_dir("/").stdin(Stdio::null());
        if let Some(Account { uid, gid }) = account {
            // As root, std also drops the supplementary groups.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Major version, or `None` where the account cannot run it. `postgres (PostgreSQL) 15.18 (Debian …)`.
    async fn version(&self, account: Option<Account>) -> Option<String> {
        let mut command = tokio::process::Command::from(self.command("postgres", account));
        let output =
            tokio::time::timeout(VERSION_LIMIT, command.arg("--version").kill_on_drop(true).output());
        let output = output.await.ok()?.ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let digits: String =
            text.split_whitespace().nth(2)?.chars().take_while(char::is_ascii_digit).collect();
        (output.status.success() && !digits.is_empty()).then_some(digits)
    }
}

/// Directories with both programs, best first.
fn candidates(bin_override: Option<&Path>) -> Vec<PathBuf> {
    let dirs = match bin_override {
        Some(dir) => vec![dir.to_owned()],
        None => on_path().into_iter().chain(debian_dirs()).collect(),
    };
    dirs.into_iter().filter_map(|dir| dir.canonicalize().ok()).filter(|dir| has_both(dir)).collect()
}

/// The directories of `PATH`.
pub(crate) fn on_path() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

/// Debian's directories, the newest version first.
pub(crate) fn debian_dirs() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let versions = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut versions: Vec<u32> = versions.collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|version| PathBuf::from(format!("{DEBIAN}/{version}/bin"))).collect()
}

fn has_both(dir: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| {
        std::fs::metadata(dir.join(program)).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
    })
}
