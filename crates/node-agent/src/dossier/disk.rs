//! The files of dossiers.
//!
//! | name | content |
//! |---|---|
//! | `NUMBER-INSTANCE-ATTEMPT` | format (1 byte), then the sealed dossier |
//! | `set-aside/` | what could not be opened: torn, changed, or sealed with another key |
//!
//! Each is written atomically and bound to its instance and attempt. Numbers grow, so
//! names are in the order in which attempts ended. Files of other names are not ours
//! and are left alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use daemon::{
    files::{create_private_dir, write_atomic},
    seal::SealingKey,
};
use domain::{dossier::Dossier, id::InstanceId};

const FORMAT: u8 = 1;
const SET_ASIDE: &str = "set-aside";
/// Most files that are set aside; the oldest give way.
const SET_ASIDE_MAX: usize = 8;

/// Which dossier: of which attempt of whom.
pub(super) type Key = (InstanceId, u32);

/// What dossiers ask of a disk. Tests put one in between that is full.
pub(super) trait Volume: Send {
    fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        write_atomic(path, bytes, 0o600)
    }
}

/// The real one.
pub(super) struct Disk;

impl Volume for Disk {}

/// A file that was found.
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) key: Key,
    pub(super) bytes: u64,
}

pub(super) struct Files {
    dir: PathBuf,
    key: SealingKey,
    volume: Box<dyn Volume>,
}

impl Files {
    /// Opens the directory, makes it where it is missing, and says what is in it, in
    /// the order of numbers. Nothing is read yet.
    pub(super) fn open(
        dir: &Path,
        key: SealingKey,
        volume: Box<dyn Volume>,
    ) -> io::Result<(Self, Vec<Found>)> {
        create_private_dir(dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.ends_with(".tmp") {
                // Half written when the agent died. What cannot be removed does no harm.
                let _ = fs::remove_file(entry.path());
                continue;
            }
            let Some((number, key)) = parse(&name) else {
                if name != SET_ASIDE {
                    tracing::warn!(path = %entry.path().display(), "a file among the dossiers is none");
                }
                continue;
            };
            if let Ok(metadata) = entry.metadata()
                && metadata.is_file()
            {
                found.push(Found { number, key, bytes: metadata.len() });
            }
        }
        found.sort_unstable_by_key(|found| found.number);
        Ok((Self { dir: dir.to_owned(), key, volume }, found))
    }

    /// Writes a dossier and says how long its file is. On return it is durable.
    pub(super) fn write(&mut self, number: u64, dossier: &Dossier) -> io::Result<u64> {
        let key = (dossier.instance_id, dossier.attempt);
        let plain = serde_json::to_vec(dossier)?;
        let sealed = self.key.seal(&aad(key), &plain).map_err(io::Error::other)?;
        let bytes = [[FORMAT].as_slice(), &sealed].concat();
        self.volume.replace(&self.path(number, key), &bytes)?;
        Ok(bytes.len() as u64)
    }

    /// Reads one back. Where it cannot be opened it is set aside, and there is none.
    pub(super) fn read(&self, number: u64, key: Key) -> Option<Dossier> {
        let path = self.path(number, key);
        let why = match fs::read(&path) {
            Ok(bytes) => match self.unseal(key, &bytes) {
                Ok(dossier) => return Some(dossier),
                Err(why) => why,
            },
            Err(error) => error.to_string(),
        };
        tracing::warn!(path = %path.display(), why, "a dossier cannot be read; it is set aside");
        self.set_aside(&path);
        None
    }

    fn unseal(&self, key: Key, bytes: &[u8]) -> Result<Dossier, String> {
        let sealed = match bytes.split_first() {
            Some((&FORMAT, sealed)) => sealed,
            Some((format, _)) => return Err(format!("its format {format} is of a later version")),
            None => return Err("it is empty".to_owned()),
        };
        let plain = self.key.open(&aad(key), sealed).map_err(|error| error.to_string())?;
        // The parser's own message may quote what it read.
        let read: Dossier = serde_json::from_slice(&plain)
            .map_err(|error| format!("its content is not understood ({:?})", error.classify()))?;
        Ok(read)
    }

    /// Removes one. One that cannot be removed is found again at the next start, and
    /// sent again, which does no harm.
    pub(super) fn remove(&self, number: u64, key: Key) {
        let path = self.path(number, key);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, path = %path.display(), "a dossier was not removed");
        }
    }

    fn set_aside(&self, path: &Path) {
        let aside = self.dir.join(SET_ASIDE);
        let moved = create_private_dir(&aside).and_then(|()| match path.file_name() {
            Some(name) => fs::rename(path, aside.join(name)),
            None => Ok(()),
        });
        if let Err(error) = moved {
            tracing::debug!(%error, path = %path.display(), "a dossier was not set aside");
        }
        let Ok(entries) = fs::read_dir(&aside) else { return };
        let mut held: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        held.sort_unstable();
        for old in held.iter().take(held.len().saturating_sub(SET_ASIDE_MAX)) {
            // Tried again when the next one is set aside.
            let _ = fs::remove_file(old);
        }
    }

    fn path(&self, number: u64, (instance, attempt): Key) -> PathBuf {
        self.dir.join(format!("{number:020}-{instance}-{attempt}"))
    }
}

fn parse(name: &str) -> Option<(u64, Key)> {
    let (number, rest) = name.split_at_checked(20)?;
    let (instance, attempt) = rest.strip_prefix('-')?.rsplit_once('-')?;
    Some((number.parse().ok()?, (instance.parse().ok()?, attempt.parse().ok()?)))
}

fn aad((instance, attempt): Key) -> Vec<u8> {
    [b"dossier".as_slice(), instance.uuid().as_bytes(), &attempt.to_le_bytes()].concat()
}
