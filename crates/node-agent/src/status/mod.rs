//! How the agent stands, for who asks at the host.
//!
//! The running agent writes a small file every few seconds; `automator67-agent
//! status` reads it, and reads who the node is from the identity. Nothing listens
//! for it: a file needs no port and no protocol, and one that grows old says by
//! itself that nobody writes it any more. Its process is in it, so that an agent
//! that was stopped is told apart from one that stands still.
//!
//! The file holds no secret, and is the owner's alone all the same. It is replaced
//! whole, and not made durable: after a crash of the host it describes nothing.
//!
//! | file | what |
//! |---|---|
//! | `keep` | writes it |
//! | `process` | who wrote it, and whether he lives |
//! | `show` | tells people |

mod keep;
mod process;
mod show;

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use domain::{Timestamp, instance::Phase, node::EngineState};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use serde::{Deserialize, Serialize};

pub(crate) use keep::{Sources, keep};
pub use process::Process;
pub use show::{Liveness, Node, liveness, show};

const FILE: &str = "status.json";
/// Where the next one is written.
const SPARE: &str = ".status.json.tmp";

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was written.
    pub written_at: Timestamp,
    /// By whom.
    pub process: Process,
    /// When that process began.
    pub started_at: Timestamp,
    /// The agent's version.
    pub version: String,
    /// Whether the engine answers.
    pub engine: EngineState,
    /// How it stands with the controller.
    pub session: Session,
    /// What last went wrong there, whether or not there is a session again.
    pub last_error: Option<LastError>,
    /// Of the assignments.
    pub revision: u64,
    /// Whether the controller has sent the complete set since the agent began.
    pub complete_received: bool,
    /// How many instances are in each phase; phases without any are left out.
    pub phases: BTreeMap<Phase, usize>,
    /// Reports that the controller does not have yet.
    pub reports_waiting: usize,
    /// Reports that were ever dropped for lack of room.
    pub reports_dropped: u64,
    /// Why what happens cannot be written down, so that it is not reported either; `None`
    /// while it can be.
    #[serde(default)]
    pub ledger_trouble: Option<String>,
    /// Readings that the controller does not have yet.
    pub readings_waiting: usize,
    /// How many of them are on disk only.
    #[serde(default)]
    pub readings_on_disk: usize,
    /// Readings that were ever dropped for lack of room, or lost on disk.
    #[serde(default)]
    pub readings_dropped: u64,
    /// Why readings cannot be kept on disk; `None` while they can.
    #[serde(default)]
    pub readings_trouble: Option<String>,
    /// How many instances are given secrets.
    #[serde(default)]
    pub secrets: usize,
    /// Why files with secrets cannot be put into memory; `None` where they can, or need not be.
    #[serde(default)]
    pub secrets_trouble: Option<String>,
}

/// How an agent stands with its controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Session {
    /// There is a session.
    Up {
        /// Its number.
        epoch: u64,
        /// Since when.
        since: Timestamp,
    },
    /// There is none, and another try is coming.
    Away {
        /// Since when.
        since: Timestamp,
    },
    /// The controller refuses this node.
    Refused {
        /// Since when.
        since: Timestamp,
    },
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// In one line.
    pub reason: String,
}

/// Why a status could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The file is there and cannot be read.
    #[error("read {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is not what an agent of this version writes.
    #[error("understand {}: an agent of another version wrote it", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// What the agent of `data_dir` last wrote; `None` where none ever ran. Blocks.
///
/// # Errors
/// See [`StatusError`].
pub fn read(data_dir: &Path) -> Result<Option<Snapshot>, StatusError> {
    let path = data_dir.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StatusError::Io { path, source }),
    };
    serde_json::from_slice(&text).map(Some).map_err(|source| StatusError::Form { path, source })
}

/// Replaces the file, whole. Not durable on purpose: it is written every few
/// seconds, and waiting for the disk each time would wear out a small host's.
/// Blocks.
///
/// Two files change places, and neither is ever given back: a disk that is full is
/// what somebody will want to read of here, and has no room for another one.
fn write(data_dir: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let (spare, file) = (data_dir.join(SPARE), data_dir.join(FILE));
    let text = serde_json::to_vec_pretty(snapshot)?;
    let mut written = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&spare)?;
    written.write_all(&text)?;
    written.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))?;
    drop(written);
    match renameat_with(CWD, &spare, CWD, &file, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // There is nothing to change places with, or the file system cannot.
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => fs::rename(&spare, &file),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod testing {
    use super::*;

    pub(super) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    pub(super) fn snapshot() -> Snapshot {
        Snapshot {
            written_at: at(0),
            process: Process { pid: 42, start_ticks: 7, boot_id: "boot".into() },
            started_at: at(-7200),
            version: "1.2.3".into(),
            engine: EngineState::Reachable,
            session: Session::Up { epoch: 9, since: at(-3600) },
            last_error: None,
            revision: 17,
            complete_received: true,
            phases: [(Phase::Running, 4), (Phase::Pulling, 1)].into(),
            reports_waiting: 3,
            reports_dropped: 0,
            ledger_trouble: None,
            readings_waiting: 120,
            readings_on_disk: 100,
            readings_dropped: 0,
            readings_trouble: None,
            secrets: 2,
            secrets_trouble: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{testing::snapshot, *};
    use crate::ledger::testing::Mounted;

    #[test]
    fn what_was_written_reads_back_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_none());
        fs::write(dir.path().join(".status.json.tmp"), b"what a crash left").unwrap();
        for revision in [1, 2] {
            let written = Snapshot { revision, ..snapshot() };
            write(dir.path(), &written).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Some(written));
        }
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "one and its spare");
    }

    #[test]
    fn a_file_of_another_version_is_no_status() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"{\"written_at\":1}").unwrap();
        assert!(matches!(read(dir.path()), Err(StatusError::Form { .. })));
    }

    #[test]
    fn a_disk_that_is_really_full_is_told_of() {
        let disk = Mounted::new("1m");
        for revision in [1, 2] {
            write(disk.path(), &Snapshot { revision, ..snapshot() }).unwrap();
        }
        let filler = disk.path().join("filler");
        let full = fs::write(&filler, vec![1; 2 << 20]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        for revision in 3..10 {
            let trouble = Some("no space left on device".repeat(usize::try_from(revision % 3).unwrap()));
            let told = Snapshot { revision, ledger_trouble: trouble, ..snapshot() };
            write(disk.path(), &told).unwrap();
            assert_eq!(read(disk.path()).unwrap(), Some(told));
        }
    }
}
