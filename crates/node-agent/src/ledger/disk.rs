//! The ledger's files.
//!
//! | file | content |
//! |---|---|
//! | `snapshot` | format (1 byte), then the sealed state and the generation of its journal |
//! | `journal-N` | entries since the snapshot of generation N: length (4 bytes, little endian), then the sealed entry |
//! | `lock` | locked while the ledger is open |
//!
//! A snapshot is replaced atomically and names its journal by generation, so a
//! crash between the two leaves either the old pair or the new one with an empty
//! journal. An entry is sealed under the numbering, its generation and its place,
//! so none can be moved, left out or taken from elsewhere unnoticed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use daemon::{
    files::{create_private_dir, write_atomic},
    seal::{SealError, SealingKey},
};
use domain::id::ReportStreamId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{LedgerError, entry::Entry, state::State};

const FORMAT: u8 = 1;
/// The journal is folded into a new snapshot beyond this length, or the
/// snapshot's own, so that folding never costs more than writing did.
const JOURNAL_MAX: u64 = 1024 * 1024;
const LENGTH: usize = size_of::<u32>();

/// What the ledger asks of a disk. Tests put one in between that is full or breaks.
pub(super) trait Volume: Send {
    fn append(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }
    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }
    fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        write_atomic(path, bytes, 0o600)
    }
}

/// The real one.
pub(super) struct Disk;

impl Volume for Disk {}

pub(super) struct Files {
    dir: PathBuf,
    key: SealingKey,
    volume: Box<dyn Volume>,
    stream: ReportStreamId,
    generation: u64,
    /// `None` where it could not be opened for writing: then all is in doubt.
    journal: Option<File>,
    /// Length and number of entries of the journal, as far as it is good.
    length: u64,
    entries: u64,
    snapshot_at: u64,
    /// What lies behind `length`, or whether anything reached the disk, is unknown.
    in_doubt: bool,
    /// Locked as long as it is open.
    _lock: File,
}

#[derive(Serialize)]
struct SnapshotRef<'a> {
    generation: u64,
    state: &'a State,
}

#[derive(Deserialize)]
struct Snapshot {
    generation: u64,
    state: State,
}

impl Files {
    pub(super) fn open(
        dir: &Path,
        key: SealingKey,
        mut volume: Box<dyn Volume>,
    ) -> Result<(Self, State), LedgerError> {
        create_private_dir(dir).map_err(failed("make", dir))?;
        let lock = lock(dir)?;
        let Snapshot { generation, mut state } = match read_snapshot(dir, &key)? {
            Some(snapshot) => snapshot,
            None => begin(dir, &key, volume.as_mut())?,
        };
        // From here on a disk that takes nothing is no reason not to start: what it
        // holds is known, and that is enough to keep containers alive.
        let path = journal_path(dir, generation);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let (length, entries) = replay(&key, generation, &bytes, &mut state)
            .ok_or_else(|| LedgerError::Newer { path: path.clone() })?;
        // Its name has to last as well as what will be in it.
        let synced = |journal| File::open(dir).and_then(|dir| dir.sync_all()).map(|()| journal);
        let journal = match open_journal(&path).and_then(synced) {
            Ok(journal) => Some(journal),
            Err(error) if takes_nothing(&error) => {
                tell_unwritable(dir, &error);
                None
            }
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let mut files = Self {
            dir: dir.to_owned(),
            key,
            volume,
            stream: state.stream,
            generation,
            in_doubt: journal.is_none(),
            journal,
            length,
            entries,
            snapshot_at: JOURNAL_MAX,
            _lock: lock,
        };
        files.cut_off(bytes.len())?;
        files.remove_leftovers();
        state.index();
        Ok((files, state))
    }

    /// Cuts the journal back to what is good of it.
    fn cut_off(&mut self, found: usize) -> Result<(), LedgerError> {
        let torn = (found as u64).saturating_sub(self.length);
        if torn > 0 {
            tracing::warn!(
                bytes = torn,
                entries = self.entries,
                "ledger journal ends in a torn entry: cut back to the last whole one"
            );
        }
        match self.rewind() {
            Err(error) if takes_nothing(&error) => {
                tell_unwritable(&self.dir, &error);
                self.in_doubt = true;
                Ok(())
            }
            cut => cut.map_err(failed("cut", &journal_path(&self.dir, self.generation))),
        }
    }

    fn rewind(&mut self) -> io::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        self.volume.cut(journal, self.length)?;
        journal.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    /// Appends entries as one write; on return they are durable if `durable`.
    ///
    /// On an error none of them counts, now or when it is opened again.
    pub(super) fn append(&mut self, entries: &[Entry], durable: bool) -> Result<(), LedgerError> {
        let mut bytes = Vec::new();
        for (entry, index) in entries.iter().zip(self.entries..) {
            let aad = entry_aad(self.stream, self.generation, index);
            bytes.extend_from_slice(&frame(&self.key, &aad, entry)?);
        }
        let path = journal_path(&self.dir, self.generation);
        let Some(journal) = &mut self.journal else {
            return Err(failed("open", &path)(io::ErrorKind::ReadOnlyFilesystem.into()));
        };
        if let Err(error) = self.volume.append(journal, &bytes) {
            // A part of it may be there. If it cannot be cut off, nothing may follow it.
            self.in_doubt = self.rewind().is_err();
            return Err(failed("write", &path)(error));
        }
        if durable && let Err(error) = self.volume.sync(journal) {
            // After a failed sync nobody knows what is on the disk, and asking again
            // would say that all is well. Only a new file is certain.
            self.in_doubt = true;
            return Err(failed("sync", &path)(error));
        }
        self.length += bytes.len() as u64;
        self.entries += entries.len() as u64;
        Ok(())
    }

    /// Whether the journal cannot be appended to until a snapshot was written.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Whether the journal is so long that it should be folded.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.length > self.snapshot_at
    }

    /// Writes the whole state anew and begins an empty journal.
    pub(super) fn write_snapshot(&mut self, state: &State) -> Result<(), LedgerError> {
        // Where it fails it is tried again only after as much more was written.
        self.snapshot_at = self.length + JOURNAL_MAX;
        let generation = self.generation + 1;
        let path = journal_path(&self.dir, generation);
        let journal = open_journal(&path).map_err(failed("make", &path))?;
        // One of this generation may be left over from an attempt that failed.
        self.volume.cut(&journal, 0).map_err(failed("cut", &path))?;
        let size = save_snapshot(&self.dir, &self.key, self.volume.as_mut(), generation, state)?;
        let old = journal_path(&self.dir, self.generation);
        self.generation = generation;
        self.journal = Some(journal);
        self.length = 0;
        self.entries = 0;
        self.in_doubt = false;
        self.snapshot_at = JOURNAL_MAX.max(size);
        if let Err(error) = fs::remove_file(&old) {
            tracing::debug!(%error, path = %old.display(), "old ledger journal was not removed");
        }
        Ok(())
    }

    /// Removes journals that a crash left behind. They say nothing: the snapshot
    /// that counts names another.
    fn remove_leftovers(&self) {
        let Ok(found) = fs::read_dir(&self.dir) else { return };
        let present = journal_path(&self.dir, self.generation);
        for path in found.flatten().map(|entry| entry.path()) {
            if is_journal(&path) && path != present {
                // What cannot be removed now is found again at the next start.
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn lock(dir: &Path) -> Result<File, LedgerError> {
    let path = dir.join("lock");
    let opened = match OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path) {
        // It is locked all the same.
        Err(error) if takes_nothing(&error) => File::open(&path),
        opened => opened,
    };
    let file = opened.map_err(failed("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LedgerError::InUse { dir: dir.to_owned() }),
        Err(error) => Err(failed("lock", &path)(error.into())),
    }
}

/// Makes the first snapshot.
fn begin(dir: &Path, key: &SealingKey, volume: &mut dyn Volume) -> Result<Snapshot, LedgerError> {
    let stray = fs::read_dir(dir)
        .map_err(failed("read", dir))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| is_journal(path));
    if stray.is_some() {
        let what = "it is missing, and its journal is not".to_owned();
        return Err(LedgerError::Damaged { path: snapshot_path(dir), what });
    }
    let state = State::new(ReportStreamId::from_uuid(Uuid::now_v7()));
    save_snapshot(dir, key, volume, 1, &state)?;
    Ok(Snapshot { generation: 1, state })
}

fn save_snapshot(
    dir: &Path,
    key: &SealingKey,
    volume: &mut dyn Volume,
    generation: u64,
    state: &State,
) -> Result<u64, LedgerError> {
    let plain = serde_json::to_vec(&SnapshotRef { generation, state })
        .map_err(|error| LedgerError::Unwritable(error.to_string()))?;
    let sealed =
        key.seal(SNAPSHOT_AAD, &plain).map_err(|error| LedgerError::Unwritable(error.to_string()))?;
    let bytes = [[FORMAT].as_slice(), &sealed].concat();
    let path = snapshot_path(dir);
    volume.replace(&path, &bytes).map_err(failed("write", &path))?;
    Ok(bytes.len() as u64)
}

fn read_snapshot(dir: &Path, key: &SealingKey) -> Result<Option<Snapshot>, LedgerError> {
    let path = snapshot_path(dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let damaged = |what: String| LedgerError::Damaged { path: path.clone(), what };
    let sealed = match bytes.split_first() {
        Some((&FORMAT, sealed)) => sealed,
        Some((format, _)) if *format > FORMAT => return Err(LedgerError::Newer { path }),
        Some((format, _)) => return Err(damaged(format!("it has no format {format}"))),
        None => return Err(damaged("it is empty".to_owned())),
    };
    let plain = key.open(SNAPSHOT_AAD, sealed).map_err(|source| match source {
        SealError::OtherKey { .. } => LedgerError::OtherKey { dir: dir.to_owned(), source },
        other => damaged(other.to_string()),
    })?;
    // The parser's own message may quote what it read.
    serde_json::from_slice(&plain)
        .map(Some)
        .map_err(|error| damaged(format!("its content is not understood ({:?})", error.classify())))
}

/// Folds the good part of a journal into `state`; says how long it is, and how
/// many entries. `None` where an entry is good and not understood: a newer agent
/// wrote it, and cutting it off would lose what that one has answered for.
fn replay(key: &SealingKey, generation: u64, journal: &[u8], state: &mut State) -> Option<(u64, u64)> {
    let (mut rest, mut entries) = (journal, 0);
    while let Some((plain, behind)) = next_entry(key, state.stream, generation, entries, rest) {
        state.apply(&serde_json::from_slice(&plain).ok()?);
        rest = behind;
        entries += 1;
    }
    Some(((journal.len() - rest.len()) as u64, entries))
}

fn next_entry<'a>(
    key: &SealingKey,
    stream: ReportStreamId,
    generation: u64,
    index: u64,
    bytes: &'a [u8],
) -> Option<(Zeroizing<Vec<u8>>, &'a [u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (sealed, behind) = rest.split_at_checked(length)?;
    let plain = key.open(&entry_aad(stream, generation, index), sealed).ok()?;
    Some((plain, behind))
}

fn frame(key: &SealingKey, aad: &[u8], entry: &Entry) -> Result<Vec<u8>, LedgerError> {
    let unwritable = |error: String| LedgerError::Unwritable(error);
    let plain = serde_json::to_vec(entry).map_err(|error| unwritable(error.to_string()))?;
    let sealed = key.seal(aad, &plain).map_err(|error| unwritable(error.to_string()))?;
    let length = u32::try_from(sealed.len()).map_err(|error| unwritable(error.to_string()))?;
    Ok([length.to_le_bytes().as_slice(), &sealed].concat())
}

const SNAPSHOT_AAD: &[u8] = b"ledger snapshot";

fn entry_aad(stream: ReportStreamId, generation: u64, index: u64) -> Vec<u8> {
    [b"ledger entry".as_slice(), stream.uuid().as_bytes(), &generation.to_le_bytes(), &index.to_le_bytes()]
        .concat()
}

fn snapshot_path(dir: &Path) -> PathBuf {
    dir.join("snapshot")
}

fn journal_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("journal-{generation}"))
}

fn is_journal(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("journal-"))
}

/// Writes go to where the file is rewound to, so it is not opened for appending.
fn open_journal(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Whether a disk reads and does not write.
fn takes_nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), ReadOnlyFilesystem | StorageFull | QuotaExceeded | PermissionDenied)
}

fn tell_unwritable(dir: &Path, error: &io::Error) {
    tracing::error!(
        %error,
        dir = %dir.display(),
        "the ledger can be read and not written: containers are kept alive as it says, and what happens \
         is reported once it can be written"
    );
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io { action, path, source: Arc::new(source) }
}
