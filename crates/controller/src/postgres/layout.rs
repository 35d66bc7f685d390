//! The directories and files around a cluster, and who may touch them.
//!
//! ```text
//! DATA_DIR/            ours; searchable for the cluster's account
//!   lock               held by the process that runs the cluster
//!   postgres.log       written by the server through a descriptor that we open
//!   cluster/           PostgreSQL's data directory, its account's alone
//!   cluster.new-N/     one that is being made; removed at the next start
//!   run/               the socket, its account's alone
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::FlockOperation;

use super::{
    EmbeddedError,
    account::{self, Account},
};

/// The port in the socket's name. No port is ever opened.
const PORT: u16 = 5432;
/// Longest path of a socket that we trust to fit: Linux allows 107 bytes.
const SOCKET_PATH_MAX_BYTES: usize = 100;
/// A log beyond this is put aside at the next start.
const LOG_MAX_BYTES: u64 = 10 * 1024 * 1024;
/// How long to wait for the lock. A command such as `admin` holds it for a moment
/// only; another controller holds it for good.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// How long programs that lost their controller may still add files.
const REMOVE_DEADLINE: Duration = Duration::from_secs(10);

/// Where everything of one cluster is. The directory is absolute and free of links.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
}

impl Layout {
    /// Makes the directory if it is missing, and checks that `account` can pass.
    pub(super) fn prepare(dir: &Path, account: Option<Account>) -> Result<Self, EmbeddedError> {
        let failed = |source| EmbeddedError::io("make", dir, source);
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mode = if account.is_some() { 0o711 } else { 0o700 };
        match DirBuilder::new().mode(mode).create(dir) {
            // The umask may have taken bits away that the account needs.
            Ok(()) => set_mode(dir, mode).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed(source)),
        }
        let layout = Self { dir: fs::canonicalize(dir).map_err(failed)? };
        match account.and_then(|account| Some((account, account::closed_ancestor(account, &layout.dir)?))) {
            Some((account, closed)) => Err(EmbeddedError::Unreachable { path: closed, uid: account.uid }),
            None => Ok(layout),
        }
    }

    /// The layout around a directory that is already there; `None` if it is not.
    pub(super) fn existing(dir: &Path) -> Option<Self> {
        Some(Self { dir: fs::canonicalize(dir).ok()? })
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    fn lock_file(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Takes the lock, for as long as the answer lives. The kernel frees it when
    /// this process dies, however it dies.
    pub(super) fn lock(&self) -> Result<File, EmbeddedError> {
        let path = self.lock_file();
        let failed = |source| EmbeddedError::io("lock", &path, source);
        let mut options = OpenOptions::new();
        let file =
            options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        let started = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < LOCK_WAIT => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(EmbeddedError::AlreadyRunning { path: self.dir.clone() });
                }
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }

    /// Whether another process, or another handle of this one, holds the lock.
    pub(super) fn is_locked(&self) -> bool {
        File::open(self.lock_file()).is_ok_and(|file| {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)
                == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }

    /// Removes what a crash in the middle of making a cluster has left. The programs
    /// that were making it may just be ending, and still add files.
    pub(super) fn remove_half_made(&self) -> Result<(), EmbeddedError> {
        let failed = |source| EmbeddedError::io("clean", &self.dir, source);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_string_lossy().starts_with("cluster.new-") {
                continue;
            }
            let started = Instant::now();
            while let Err(source) = fs::remove_dir_all(entry.path()) {
                if started.elapsed() > REMOVE_DEADLINE {
                    return Err(failed(source));
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Where the socket goes: beside the cluster, or under `/tmp` when the path of
    /// the socket would not fit into the kernel's structure.
    pub(super) fn socket_dir(&self, uid: u32) -> PathBuf {
        let beside = self.dir.join("run");
        if socket_in(&beside).as_os_str().len() <= SOCKET_PATH_MAX_BYTES {
            return beside;
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, self.dir.as_os_str().as_encoded_bytes());
        let short: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        PathBuf::from(format!("/tmp/a67-{uid}-{short}"))
    }

    /// Opens the server's log for appending; a large one is first put aside.
    pub(super) fn open_log(&self) -> Result<File, EmbeddedError> {
        let path = self.log();
        let failed = |source| EmbeddedError::io("open", &path, source);
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_MAX_BYTES) {
            fs::rename(&path, self.dir.join("postgres.log.1")).map_err(failed)?;
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)
    }

    /// The end of the server's log, for an error that would say nothing without it.
    pub(super) fn log_tail(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.reverse();
        lines.join(" | ")
    }
}

/// The socket's own path in its directory.
pub(super) fn socket_in(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

/// Makes a directory that only `account` can enter, or checks that it is one.
///
/// In `/tmp` anyone may have made it first. A link, or a directory of somebody
/// else, is refused: its owner could put another socket in place of ours.
pub(super) fn private_dir(dir: &Path, account: Option<Account>) -> Result<(), EmbeddedError> {
    let failed = |source| EmbeddedError::io("make", dir, source);
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(failed(source)),
    }
    let own = rustix::process::geteuid().as_raw();
    let meta = fs::symlink_metadata(dir).map_err(failed)?;
    let wanted = account.map_or(own, |account| account.uid);
    if !meta.is_dir() || (meta.uid() != wanted && meta.uid() != own) {
        return Err(EmbeddedError::NotPrivate { path: dir.to_owned(), wanted });
    }
    if let Some(account) = account
        && meta.uid() != account.uid
    {
        std::os::unix::fs::lchown(dir, Some(account.uid), Some(account.gid)).map_err(failed)?;
    }
    if meta.mode() & 0o777 != 0o700 {
        set_mode(dir, 0o700).map_err(failed)?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::prepare(&dir.path().join("postgres"), None).unwrap();
        (dir, layout)
    }

    #[test]
    fn a_lock_excludes_a_second_holder_and_ends_with_the_first() {
        let (_dir, layout) = layout();
        assert!(!layout.is_locked());
        let held = layout.lock().unwrap();
        assert!(layout.is_locked());
        assert!(matches!(layout.lock(), Err(EmbeddedError::AlreadyRunning { .. })));
        drop(held);
        assert!(!layout.is_locked());
        layout.lock().unwrap();
    }

    #[test]
    fn a_log_beyond_ten_megabytes_is_put_aside() {
        let (_dir, layout) = layout();
        fs::write(layout.log(), "small").unwrap();
        layout.open_log().unwrap();
        assert_eq!(fs::read(layout.log()).unwrap(), b"small");
        OpenOptions::new().write(true).open(layout.log()).unwrap().set_len(LOG_MAX_BYTES + 1).unwrap();
        layout.open_log().unwrap();
        assert_eq!(fs::metadata(layout.log()).unwrap().len(), 0);
        assert_eq!(fs::metadata(layout.dir.join("postgres.log.1")).unwrap().len(), LOG_MAX_BYTES + 1);
    }

    #[test]
    fn a_socket_path_that_fits_stays_beside_the_cluster_and_a_longer_one_moves() {
        let room = SOCKET_PATH_MAX_BYTES - "/run/.s.PGSQL.5432".len();
        let fits = Layout { dir: PathBuf::from(format!("/{}", "a".repeat(room - 1))) };
        assert_eq!(fits.socket_dir(7), fits.dir.join("run"));
        let longer = Layout { dir: PathBuf::from(format!("/{}", "a".repeat(room))) };
        let moved = longer.socket_dir(7);
        assert!(moved.to_str().unwrap().starts_with("/tmp/a67-7-"), "{moved:?}");
        assert_ne!(moved, Layout { dir: PathBuf::from(format!("/{}", "b".repeat(room))) }.socket_dir(7));
    }

    #[test]
    fn a_private_directory_is_ours_alone_and_never_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made");
        private_dir(&made, None).unwrap();
        set_mode(&made, 0o777).unwrap();
        private_dir(&made, None).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&made, &link).unwrap();
        assert!(matches!(private_dir(&link, None), Err(EmbeddedError::NotPrivate { .. })));
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(private_dir(&dir.path().join("file"), None), Err(EmbeddedError::NotPrivate { .. })));
    }

    #[test]
    fn a_directory_of_somebody_else_is_not_private() {
        if !rustix::process::geteuid().is_root() {
            // Only root can make a directory that belongs to somebody else; `/` does.
            assert!(matches!(private_dir(Path::new("/"), None), Err(EmbeddedError::NotPrivate { .. })));
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(4711), None).unwrap();
        let account = Account { uid: 65534, gid: 65534 };
        assert!(matches!(private_dir(dir.path(), Some(account)), Err(EmbeddedError::NotPrivate { .. })));
    }

    #[test]
    fn a_half_made_cluster_that_still_grows_is_removed_once_it_does_not() {
        let (_dir, layout) = layout();
        let half = layout.dir.join("cluster.new-1");
        fs::create_dir_all(&half).unwrap();
        let until = Instant::now() + Duration::from_millis(200);
        let maker = thread::spawn(move || {
            for n in 0_u64.. {
                // Fails once the directory is gone.
                if Instant::now() > until || fs::create_dir_all(half.join(format!("{n}/x"))).is_err() {
                    return;
                }
            }
        });
        layout.remove_half_made().unwrap();
        maker.join().unwrap();
        layout.remove_half_made().unwrap();
        assert!(!layout.dir.join("cluster.new-1").exists());
    }

    #[test]
    fn half_made_clusters_are_removed_and_nothing_else() {
        let (_dir, layout) = layout();
        for name in ["cluster.new-1/base", "cluster.new-22", "cluster/base", "run"] {
            fs::create_dir_all(layout.dir.join(name)).unwrap();
        }
        layout.remove_half_made().unwrap();
        let mut left: Vec<_> = fs::read_dir(&layout.dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["cluster", "run"]);
    }
}
