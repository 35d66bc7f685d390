//! The account that the cluster belongs to.
//!
//! PostgreSQL refuses to run as root. So a root controller runs it under an
//! unprivileged account; any other controller runs it under its own.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::EmbeddedError;

/// Accounts to try, in this order, when nothing is configured and no cluster exists.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// A user and its primary group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Decides which account the programs run under. `None` means: our own, without
/// any change of identity.
///
/// An existing cluster stays with its owner when nothing is configured. So the
/// answer does not change because a package added a `postgres` account.
pub(super) fn choose(configured: Option<&str>, cluster: &Path) -> Result<Option<Account>, EmbeddedError> {
    let own = rustix::process::geteuid().as_raw();
    let owner = match fs::symlink_metadata(cluster) {
        Ok(meta) => Some(Account { uid: meta.uid(), gid: meta.gid() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(EmbeddedError::io("read the owner of", cluster, source)),
    };
    let wanted = configured
        .map(|name| look_up(name).ok_or_else(|| EmbeddedError::UnknownUser { name: name.to_owned() }))
        .transpose()?;
    decide(own, wanted, owner, || CANDIDATES.iter().find_map(|name| look_up(name)), cluster)
}

/// The rules of [`choose`], without the system.
fn decide(
    own: u32,
    wanted: Option<Account>,
    owner: Option<Account>,
    usual: impl FnOnce() -> Option<Account>,
    cluster: &Path,
) -> Result<Option<Account>, EmbeddedError> {
    let foreign =
        |owner: u32, wanted: u32| EmbeddedError::ForeignCluster { path: cluster.to_owned(), owner, wanted };
    if own != 0 {
        return match (wanted.map(|w| w.uid), owner.map(|o| o.uid)) {
            (Some(wanted), _) if wanted != own => Err(EmbeddedError::CannotSwitchUser { own, wanted }),
            (_, Some(owner)) if owner != own => Err(foreign(owner, own)),
            _ => Ok(None),
        };
    }
    let account = match (wanted, owner) {
        (Some(wanted), Some(owner)) if wanted.uid != owner.uid => return Err(foreign(owner.uid, wanted.uid)),
        (Some(wanted), _) => wanted,
        (None, Some(owner)) => owner,
        (None, None) => usual().ok_or(EmbeddedError::NoUser)?,
    };
    if account.uid == 0 { Err(EmbeddedError::RootUser) } else { Ok(Some(account)) }
}

/// Finds an account by name: in `/etc/passwd`, then through `getent`, which also
/// asks the directory services that the host uses.
fn look_up(name: &str) -> Option<Account> {
    let file = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find_line(&file, name).or_else(|| {
        // An option-like name must not reach getent as an option.
        let answer =
            Command::new("getent").args(["passwd", "--", name]).stdin(Stdio::null()).output().ok()?;
        find_line(&String::from_utf8_lossy(&answer.stdout), name)
    })
}

fn find_line(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { uid, gid })
    })
}

/// Names the first directory on the way to `path` that `account` may not pass
/// through, judged by the mode bits.
pub(super) fn closed_ancestor(account: Account, path: &Path) -> Option<PathBuf> {
    path.ancestors().find_map(|dir| {
        let meta = fs::metadata(dir).ok()?;
        let bit = if meta.uid() == account.uid {
            0o100
        } else if meta.gid() == account.gid {
            0o010
        } else {
            0o001
        };
        (meta.mode() & bit == 0).then(|| dir.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Account = Account { uid: 0, gid: 0 };
    const A: Account = Account { uid: 101, gid: 104 };
    const B: Account = Account { uid: 65534, gid: 65534 };

    fn decided(own: u32, wanted: Option<Account>, owner: Option<Account>) -> Result<Option<Account>, String> {
        decide(own, wanted, owner, || Some(B), Path::new("/c")).map_err(|e| e.to_string())
    }

    #[test]
    fn root_takes_the_configured_account_then_the_owner_then_the_usual_one() {
        assert_eq!(decided(0, Some(A), None), Ok(Some(A)));
        assert_eq!(decided(0, Some(A), Some(A)), Ok(Some(A)));
        assert_eq!(decided(0, None, Some(A)), Ok(Some(A)));
        assert_eq!(decided(0, None, None), Ok(Some(B)));
    }

    #[test]
    fn the_programs_never_run_as_root() {
        assert!(decided(0, Some(ROOT), None).unwrap_err().contains("root"));
        assert!(decided(0, None, Some(ROOT)).unwrap_err().contains("root"));
    }

    #[test]
    fn a_cluster_of_another_account_is_refused() {
        assert!(decided(0, Some(A), Some(B)).unwrap_err().contains("65534"));
        assert!(decided(101, None, Some(B)).unwrap_err().contains("65534"));
    }

    #[test]
    fn without_root_there_is_no_other_account() {
        assert_eq!(decided(101, None, None), Ok(None));
        assert_eq!(decided(101, Some(A), Some(A)), Ok(None));
        assert!(decided(101, Some(B), None).unwrap_err().contains("root"));
    }

    #[test]
    fn a_passwd_line_is_found_by_its_whole_name() {
        let file = "postgresql:x:7:8::/:/bin/false\npostgres:x:101:104:comment:/var:/bin/sh\nbroken:x\n";
        assert_eq!(find_line(file, "postgres"), Some(A));
        assert_eq!(find_line(file, "postgre"), None);
        assert_eq!(find_line(file, "broken"), None);
    }
}
