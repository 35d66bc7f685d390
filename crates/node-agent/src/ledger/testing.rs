//! A disk that fails, for tests here and of those who write to a ledger.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use daemon::seal::{MasterKey, SealingKey};

use super::{Ledger, LedgerError};

/// The same key each time.
pub(crate) fn key() -> SealingKey {
    MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap().derive("ledger tests")
}

/// What a disk does wrong.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Writes half, then says that it is full; cutting still works.
    Full,
    /// Nothing can be written, cut or replaced.
    ReadOnly,
    /// Writes, and cannot say whether it kept it.
    SyncFails,
}

#[derive(Clone, Default)]
pub(crate) struct FaultyDisk {
    fault: Arc<Mutex<Fault>>,
    /// A sync waits while a test holds it.
    pub(super) gate: Arc<Mutex<()>>,
    pub(super) syncs: Arc<AtomicUsize>,
}

impl FaultyDisk {
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
    fn is(&self, faults: &[Fault]) -> bool {
        faults.contains(&self.fault.lock().unwrap())
    }
    pub(crate) fn open(&self, dir: &Path) -> Result<Ledger, LedgerError> {
        let (disk, state) = super::disk::Files::open(dir, key(), Box::new(self.clone()))?;
        Ledger::start(disk, state)
    }
}

impl super::disk::Volume for FaultyDisk {
    fn append(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if self.is(&[Fault::Full]) {
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.is(&[Fault::ReadOnly]) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        file.write_all(bytes)
    }
    fn sync(&mut self, file: &File) -> io::Result<()> {
        if self.is(&[Fault::SyncFails]) {
            return Err(io::Error::other("input/output error"));
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        drop(self.gate.lock());
        file.sync_data()
    }
    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        if self.is(&[Fault::ReadOnly]) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        file.set_len(length)
    }
    fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if !self.is(&[Fault::None]) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        daemon::files::write_atomic(path, bytes, 0o600)
    }
}

/// A mounted file system of its own, taken away at the end.
pub(crate) struct Mounted(tempfile::TempDir);

impl Mounted {
    pub(crate) fn new(size: &str) -> Self {
        let mounted = Self(tempfile::tempdir().unwrap());
        mounted.run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        mounted
    }
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
    pub(crate) fn remount(&self, how: &str) {
        self.run("mount", &["-o", &format!("remount,{how}")]);
    }
    fn run(&self, program: &str, arguments: &[&str]) {
        let done = std::process::Command::new(program).args(arguments).arg(self.path()).output().unwrap();
        assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
