//! The directories of the private PostgreSQL and the account that owns them.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::{EmbeddedError, io};

/// PostgreSQL refuses to run as root; these accounts are tried in order.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// Longest socket path in bytes: the kernels' limits are 107 (Linux) and 103 (macOS).
const SOCKET_PATH_MAX: usize = 100;

/// The port only names the socket: the directory is ours alone, so it is always free.
pub(super) const PORT: u16 = 5432;

/// An account to run PostgreSQL as, where it is not our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// `<data_dir>`, made absolute, and `<data_dir>/pg`.
#[derive(Debug)]
pub(super) struct Home {
    data_dir: PathBuf,
    pg: PathBuf,
}

impl Home {
    /// Makes both directories where missing.
    pub(super) fn open(data_dir: &Path) -> Result<Self, EmbeddedError> {
        fs::create_dir_all(data_dir).map_err(io(data_dir))?;
        // PostgreSQL is started in `/`, so no path may be relative.
        let data_dir = data_dir.canonicalize().map_err(io(data_dir))?;
        let pg = data_dir.join("pg");
        DirBuilder::new().recursive(true).mode(0o700).create(&pg).map_err(io(&pg))?;
        Ok(Self { data_dir, pg })
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(super) fn pg(&self) -> &Path {
        &self.pg
    }

    /// The cluster itself.
    pub(super) fn data(&self) -> PathBuf {
        self.pg.join("data")
    }

    /// The account to run as: `None` is our own. An existing cluster's owner stays its owner.
    pub(super) fn account(&self) -> Result<Option<Account>, EmbeddedError> {
        let us = rustix::process::geteuid().as_raw();
        let data = self.data();
        let cluster = fs::metadata(&data).ok().map(|meta| Account { uid: meta.uid(), gid: meta.gid() });
        match (us, cluster) {
            (0, Some(owner)) if owner.uid != 0 => Ok(Some(owner)),
            (0, _) => {
                let passwd = Path::new("/etc/passwd");
                let text = fs::read_to_string(passwd).map_err(io(passwd))?;
                unprivileged_account(&text).map(Some).ok_or(EmbeddedError::NoUser)
            }
            (us, Some(owner)) if owner.uid != us => {
                Err(EmbeddedError::ForeignOwner { path: data.display().to_string(), owner: owner.uid })
            }
            _ => Ok(None),
        }
    }

    /// Sees to it that `account` can walk down to `pg/`. Rights are added to our own two directories (what is
    /// secret in them is a file of mode 0600), never to those above.
    pub(super) fn let_in(&self, account: Account) -> Result<(), EmbeddedError> {
        for dir in self.pg.ancestors().collect::<Vec<_>>().into_iter().rev() {
            let meta = fs::metadata(dir).map_err(io(dir))?;
            if may_enter(&meta, account) {
                continue;
            }
            if !dir.starts_with(&self.data_dir) {
                return Err(EmbeddedError::NotEnterable { dir: dir.display().to_string(), uid: account.uid });
            }
            let mode = Permissions::from_mode((meta.mode() & 0o7777) | 0o011);
            fs::set_permissions(dir, mode).map_err(io(dir))?;
        }
        Ok(())
    }

    /// Directory of the unix socket, the same at each start: `pg/sock`, or, where that path is too long for a
    /// socket, one in the system's temporary directory whose name is kept in `pg/socket_dir`.
    pub(super) fn socket_dir(&self, account: Option<Account>) -> Result<PathBuf, EmbeddedError> {
        let own = self.pg.join("sock");
        if socket_path(&own).as_os_str().len() <= SOCKET_PATH_MAX {
            private_dir(&own, account)?;
            return Ok(own);
        }
        let note = self.pg.join("socket_dir");
        // The second line keeps a copy of the data directory off the original's socket.
        let place = format!("\n{}", self.pg.display());
        let known = fs::read_to_string(&note).unwrap_or_default();
        // A name that is not ours any more was taken after a clean-up of the temporary directory.
        if let Some(known) = known.strip_suffix(&place).map(PathBuf::from)
            && private_dir(&known, account).is_ok()
        {
            return Ok(known);
        }
        let fresh = temp_root(account).join(format!("velox-{:016x}", rand::random::<u64>()));
        private_dir(&fresh, account)?;
        fs::write(&note, format!("{}{place}", fresh.display())).map_err(io(&note))?;
        Ok(fresh)
    }
}

/// The socket (and, with `.lock` behind it, its lock file) in `dir`.
pub(super) fn socket_path(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

/// Makes `dir` with mode 0700 for `account`, or checks that it is exactly that.
pub(super) fn private_dir(dir: &Path, account: Option<Account>) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => give(dir, account)?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io(dir)(error)),
    }
    let meta = fs::symlink_metadata(dir).map_err(io(dir))?;
    let owner = account.map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
    if meta.is_dir() && meta.uid() == 0 && owner != 0 {
        // Left by a run that was killed between making and giving it.
        give(dir, account)?;
    } else if !meta.is_dir() || meta.uid() != owner {
        return Err(EmbeddedError::ForeignOwner { path: dir.display().to_string(), owner: meta.uid() });
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(io(dir))
}

/// Hands a file or directory to `account`.
pub(super) fn give(path: &Path, account: Option<Account>) -> Result<(), EmbeddedError> {
    match account {
        Some(Account { uid, gid }) => chown(path, Some(uid), Some(gid)).map_err(io(path)),
        None => Ok(()),
    }
}

/// The first of [`ACCOUNTS`] in the text of `/etc/passwd`; never one with root's id.
fn unprivileged_account(passwd: &str) -> Option<Account> {
    let find = |name: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then_some(())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            (uid != 0).then_some(Account { uid, gid })
        })
    };
    ACCOUNTS.into_iter().find_map(find)
}

/// The kernel's rule for directories. Supplementary groups do not count: PostgreSQL is started without.
fn may_enter(meta: &Metadata, account: Account) -> bool {
    let bit = match () {
        () if meta.uid() == account.uid => 0o100,
        () if meta.gid() == account.gid => 0o010,
        () => 0o001,
    };
    meta.mode() & bit != 0
}

/// The system's temporary directory if it serves (a private `TMPDIR` of root does not), else `/tmp`.
fn temp_root(account: Option<Account>) -> PathBuf {
    let temp = std::env::temp_dir();
    let short = socket_path(&temp.join("velox-0123456789abcdef")).as_os_str().len() <= SOCKET_PATH_MAX;
    let open = account.is_none_or(|account| {
        temp.ancestors().all(|dir| fs::metadata(dir).is_ok_and(|meta| may_enter(&meta, account)))
    });
    if short && open && temp.is_absolute() { temp } else { PathBuf::from("/tmp") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_postgres_and_never_takes_root() {
        let nobody = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";
        assert_eq!(unprivileged_account(nobody), Some(Account { uid: 65534, gid: 65533 }));
        let both = format!("{nobody}postgres:x:101:104::/:/bin/bash\n");
        assert_eq!(unprivileged_account(&both), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(unprivileged_account("postgres:x:0:0::/:/bin/sh\n"), None);
        assert_eq!(unprivileged_account("postgres\n\nnobody:x:y:z\n"), None);
    }
}
