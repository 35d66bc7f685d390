//! What the agent must not forget, on disk: what it was told to run, what it
//! remembers of each instance, and the reports that its controller does not have
//! yet.
//!
//! A snapshot, and a journal of what came after it. One thread owns the files.
//! Callers queue what they want remembered; the thread writes everything that is
//! queued in one go, asks the disk to keep it, and only then changes the state
//! that everybody reads and answers the callers. So many instances that change
//! together cost one write, what is read is never ahead of the disk, and no async
//! thread waits for a disk.
//!
//! Everything is sealed with the node's own key: environment variables of
//! containers are in here (I7).
//!
//! The trap: a caller that drops its future has not taken anything back. What was
//! queued may still be written.

mod disk;
mod entry;
mod owner;
mod state;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use daemon::seal::{SealError, SealingKey};
use domain::{
    assignment::{Applied, AssignmentDelta, AssignmentSet},
    id::{InstanceId, ReportStreamId},
    instance::{Phase, Report},
    plan::{Record, Transition},
};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::state::weight;
use self::{
    owner::{Owner, Request},
    state::State,
};

/// Most reports that are kept. Beyond it the oldest one that is not the latest of
/// its instance is dropped, which loses a step of a story and never its end.
pub const REPORTS_MAX: usize = 10_000;
/// Most bytes of them, each counted as `REPORT_BYTES` and its texts. The same goes first.
pub const REPORTS_MAX_BYTES: usize = 8 * 1024 * 1024;
/// What a report takes beside its texts, about.
const REPORT_BYTES: usize = 400;
/// The longest text of a report; what is longer is cut.
const TEXT_MAX_BYTES: usize = 4096;

/// Requests that may wait for the owner; more make their callers wait.
const QUEUE: usize = 1024;

/// The agent's memory. Cheap to clone; all clones are one ledger, and the last one
/// that goes closes it.
#[derive(Clone)]
pub struct Ledger {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

/// What the owner publishes.
struct Shared {
    /// Guards the state as it is on disk. Only the owner writes, and never while
    /// it waits for the disk.
    state: RwLock<State>,
    /// Not on disk: files that went back in time would speak of a set that is too old.
    complete_received: AtomicBool,
    assignments_changed: watch::Sender<u64>,
    reports_changed: watch::Sender<u64>,
    trouble: watch::Sender<Option<String>>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        // The fold does not panic half-way: the state behind a poisoned lock is whole.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the ledger could not be opened or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has it open.
    #[error("open ledger {}: another agent uses it", dir.display())]
    InUse {
        /// Where it is.
        dir: PathBuf,
    },
    /// It was sealed with another key. Nothing was changed.
    #[error("open ledger {}: it is sealed with another key", dir.display())]
    OtherKey {
        /// Where it is.
        dir: PathBuf,
        /// Which keys.
        #[source]
        source: SealError,
    },
    /// Its snapshot cannot be read. Nothing was changed.
    #[error("read ledger snapshot {}: {what}; without it the agent would begin with nothing", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A newer agent wrote it. Nothing was changed.
    #[error("read ledger file {}: a newer agent wrote it; run that version again", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// The files could not be read or written.
    #[error("{action} ledger file {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// What was to be written could not be made ready. A bug, or no random numbers.
    #[error("prepare a ledger entry: {0}")]
    Unwritable(String),
    /// It was closed.
    #[error("use a ledger that is closed")]
    Closed,
}

/// A change of what is remembered of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// Of which.
    pub instance_id: InstanceId,
    /// What is remembered from now on; `None` forgets it.
    pub record: Option<Record>,
}

impl Ledger {
    /// Opens the ledger in `dir`, or begins a new one there. Blocks.
    ///
    /// A journal whose end was torn by a crash is cut back to its last whole entry:
    /// what was torn had never been answered for.
    ///
    /// # Errors
    /// On any error nothing on disk has changed, except that `dir` may have been made.
    pub fn open(dir: &Path, key: SealingKey) -> Result<Self, LedgerError> {
        let (disk, state) = disk::Files::open(dir, key, Box::new(disk::Disk))?;
        Self::start(disk, state)
    }

    fn start(disk: disk::Files, state: State) -> Result<Self, LedgerError> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            assignments_changed: watch::Sender::new(state.assignments.revision),
            reports_changed: watch::Sender::new(state.last_seq),
            trouble: watch::Sender::new(None),
            complete_received: AtomicBool::new(false),
            state: RwLock::new(state),
        });
        let owner = Owner::new(disk, shared.clone(), queue);
        // Its own thread and not a blocking task: it lives as long as the ledger, and
        // ends when the last sender of requests goes.
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || owner.run())
            .map_err(|error| LedgerError::Unwritable(error.to_string()))?;
        Ok(Self { requests, shared })
    }

    /// What this node is told to run.
    #[must_use]
    pub fn assignments(&self) -> Arc<AssignmentSet> {
        self.shared.read().assignments.clone()
    }

    /// Whether a complete set has come since this was opened. Before that, a container
    /// without an assignment is not known to be unwanted: what is on disk may be old.
    #[must_use]
    pub fn complete_received(&self) -> bool {
        self.shared.complete_received.load(Ordering::Acquire)
    }

    /// The revision of the assignments, and a wake-up whenever they change.
    #[must_use]
    pub fn assignments_changed(&self) -> watch::Receiver<u64> {
        self.shared.assignments_changed.subscribe()
    }

    /// Takes over a complete set. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written; then nothing changed.
    pub async fn assignments_replace(&self, complete: AssignmentSet) -> Result<Applied, LedgerError> {
        self.ask(|answer| Request::Replace(complete, answer)).await
    }

    /// Takes over a delta, whole or not at all. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written; then nothing changed.
    pub async fn assignments_apply(&self, delta: AssignmentDelta) -> Result<Applied, LedgerError> {
        self.ask(|answer| Request::Apply(delta, answer)).await
    }

    /// The numbering that reports are counted in.
    #[must_use]
    pub fn report_stream_id(&self) -> ReportStreamId {
        self.shared.read().stream
    }

    /// At most `max` unacknowledged reports above `seq`, in order. Numbers are
    /// missing where reports had to be dropped.
    #[must_use]
    pub fn reports_after(&self, seq: u64, max: usize) -> Vec<Report> {
        let from = seq.saturating_add(1);
        self.shared.read().reports.range(from..).take(max).map(|(_, report)| report.clone()).collect()
    }

    /// How many reports were ever dropped because too many waited.
    #[must_use]
    pub fn reports_dropped(&self) -> u64 {
        self.shared.read().dropped
    }

    /// Up to which number the controller has said that it has the reports.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.read().acknowledged
    }

    /// How many reports the controller does not have yet.
    #[must_use]
    pub fn reports_waiting(&self) -> usize {
        self.shared.read().reports.len()
    }

    /// The revision of the assignments, and how many of their instances are in each
    /// phase; phases without any are left out.
    #[must_use]
    pub fn phases(&self) -> (u64, BTreeMap<Phase, usize>) {
        let state = self.shared.read();
        let mut counts = BTreeMap::new();
        for id in state.assignments.assignments.keys() {
            let phase = state.records.get(id).map_or(Phase::Assigned, |record| record.status.progress.phase);
            *counts.entry(phase).or_insert(0) += 1;
        }
        (state.assignments.revision, counts)
    }

    /// The number of the last report, and a wake-up with each new one.
    #[must_use]
    pub fn reports_changed(&self) -> watch::Receiver<u64> {
        self.shared.reports_changed.subscribe()
    }

    /// Why nothing can be written, in one line; `None` while it can be. Meanwhile what
    /// happens is neither reported nor remembered.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.shared.trouble.subscribe()
    }

    /// Forgets the reports up to and including `seq`: the controller has them.
    ///
    /// A number above any that was given out means that the disk lost some that
    /// were sent: the reports that wait are then numbered anew, above it.
    ///
    /// Not necessarily durable when it returns: a report that is sent again does no
    /// harm (I4).
    ///
    /// # Errors
    /// When it could not be written; then nothing changed.
    pub async fn acknowledge(&self, seq: u64) -> Result<(), LedgerError> {
        self.ask(|answer| Request::Acknowledge(seq, answer)).await
    }

    /// Begins a session with a controller that has the reports up to and including
    /// `acknowledged`. As [`Ledger::acknowledge`], but where that is less than it had
    /// before (its database went back to a backup), how each instance stands is
    /// reported anew: what told of it is forgotten here.
    ///
    /// # Errors
    /// When it could not be written; then nothing changed.
    pub async fn resume(&self, acknowledged: u64) -> Result<(), LedgerError> {
        self.ask(|answer| Request::Resume(acknowledged, answer)).await
    }

    /// What is remembered of one instance. There is something of each that was ever
    /// assigned, until it is forgotten.
    #[must_use]
    pub fn record(&self, instance: InstanceId) -> Option<Record> {
        self.shared.read().records.get(&instance).cloned()
    }

    /// What is remembered of each instance.
    #[must_use]
    pub fn records(&self) -> BTreeMap<InstanceId, Record> {
        self.shared.read().records.clone()
    }

    /// Remembers changes, and numbers what happened as reports; all or nothing,
    /// and durable when it returns. Answers the number of the last report.
    ///
    /// # Errors
    /// When it could not be written; then nothing changed.
    pub async fn commit(
        &self,
        changes: Vec<RecordChange>,
        transitions: Vec<Transition>,
    ) -> Result<u64, LedgerError> {
        self.ask(|answer| Request::Commit { changes, transitions, answer }).await
    }

    /// Writes out what is queued and closes the files. Later calls fail with
    /// [`LedgerError::Closed`]; what is known can still be read.
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.requests.send(Request::Close(answer)).await.is_ok() {
            // An owner that is gone has closed its files, too.
            let _ = closed.await;
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(owner::Answer<T>) -> Request) -> Result<T, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| LedgerError::Closed)?;
        answered.await.map_err(|_| LedgerError::Closed)?
    }
}
