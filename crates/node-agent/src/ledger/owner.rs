//! The thread that owns the files.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use chrono::Utc;
use domain::{
    assignment::{Applied, AssignmentDelta, AssignmentSet},
    instance::{Outcome, Progress, Report},
    plan::Transition,
};
use tokio::sync::{mpsc, oneshot};

use super::{LedgerError, RecordChange, Shared, TEXT_MAX_BYTES, disk::Files, entry::Entry};

/// Most requests that are written together. Bounds how long the first of them waits.
const BATCH: usize = 256;

pub(super) type Answer<T> = oneshot::Sender<Result<T, LedgerError>>;

/// What callers ask for.
pub(super) enum Request {
    Replace(AssignmentSet, Answer<Applied>),
    Apply(AssignmentDelta, Answer<Applied>),
    Acknowledge(u64, Answer<()>),
    Resume(u64, Answer<()>),
    Commit { changes: Vec<RecordChange>, transitions: Vec<Transition>, answer: Answer<u64> },
    Close(oneshot::Sender<()>),
}

/// An answer that is given once the disk has spoken.
enum Pending {
    Applied(Applied, Answer<Applied>),
    Number(u64, Answer<u64>),
    Done(Answer<()>),
}

impl Pending {
    /// Callers that went away are no fault.
    fn give(self, outcome: Result<(), LedgerError>) {
        match self {
            Self::Applied(applied, answer) => drop(answer.send(outcome.map(|()| applied))),
            Self::Number(number, answer) => drop(answer.send(outcome.map(|()| number))),
            Self::Done(answer) => drop(answer.send(outcome)),
        }
    }
}

pub(super) struct Owner {
    disk: Files,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Request>,
    /// Whether the last write failed, which is told once.
    failing: bool,
}

/// Requests that are written together, judged as if those before them were done.
struct Batch {
    assignments: Arc<AssignmentSet>,
    complete_received: bool,
    last_seq: u64,
    entries: Vec<Entry>,
    pending: Vec<Pending>,
    /// Whether anybody relies on it: an acknowledgement alone may be lost.
    durable: bool,
}

impl Owner {
    pub(super) fn new(disk: Files, shared: Arc<Shared>, queue: mpsc::Receiver<Request>) -> Self {
        let failing = disk.is_in_doubt();
        Self { disk, shared, queue, failing }
    }

    /// Works until it is closed, or nobody is left who could ask for anything.
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let mut requests = vec![first];
            while requests.len() < BATCH
                && let Ok(next) = self.queue.try_recv()
            {
                requests.push(next);
            }
            if let Some(closed) = self.serve(requests) {
                // Nobody may find the files in use once they were told that they are closed.
                drop(self);
                let _ = closed.send(());
                return;
            }
        }
    }

    /// Writes one batch. Answers whom to tell when a request was to close; what was
    /// queued behind that one is refused.
    fn serve(&mut self, requests: Vec<Request>) -> Option<oneshot::Sender<()>> {
        let mut batch = self.begin();
        let mut closed = None;
        for request in requests {
            match request {
                Request::Close(answer) => {
                    closed = Some(answer);
                    break;
                }
                // It changes the numbering, so what comes after has to be judged by what it left.
                Request::Acknowledge(seq, answer) if seq > batch.last_seq => {
                    self.write(batch);
                    self.write_alone(Entry::Acknowledged(seq), answer);
                    batch = self.begin();
                }
                Request::Resume(seq, answer) => {
                    self.write(batch);
                    // What it has is what it had: nothing is to be written, which matters where
                    // nothing can be.
                    if seq == self.shared.read().acknowledged {
                        Pending::Done(answer).give(Ok(()));
                        batch = self.begin();
                        continue;
                    }
                    let entry = self.restate(seq).unwrap_or(Entry::Acknowledged(seq));
                    self.write_alone(entry, answer);
                    batch = self.begin();
                }
                request => batch.judge(request),
            }
        }
        self.write(batch);
        if closed.is_none() && self.disk.wants_snapshot() {
            let state = self.shared.read();
            if let Err(error) = self.disk.write_snapshot(&state) {
                // The journal is whole, and grows on until there is room.
                tracing::warn!(%error, source = error_source(&error), "ledger could not be compacted");
            }
        }
        closed
    }

    fn begin(&self) -> Batch {
        let state = self.shared.read();
        Batch {
            assignments: state.assignments.clone(),
            complete_received: self.shared.complete_received.load(Ordering::Acquire),
            last_seq: state.last_seq,
            entries: Vec::new(),
            pending: Vec::new(),
            durable: false,
        }
    }

    fn write_alone(&mut self, entry: Entry, answer: Answer<()>) {
        let batch = self.begin();
        self.write(Batch {
            entries: vec![entry],
            pending: vec![Pending::Done(answer)],
            durable: true,
            ..batch
        });
    }

    /// How everything stands, for a controller that has gone back to `acknowledged`;
    /// `None` for one that has not.
    fn restate(&self, acknowledged: u64) -> Option<Entry> {
        let state = self.shared.read();
        if acknowledged >= state.acknowledged {
            return None;
        }
        tracing::warn!(
            acknowledged,
            before = state.acknowledged,
            "the controller has gone back to an earlier state and is told anew how things stand"
        );
        let told = state.records.values().filter(|record| record.status.progress != Progress::FIRST);
        let reports = told.zip(state.last_seq.saturating_add(1)..).map(|(record, seq)| Report {
            seq,
            instance_id: record.instance_id,
            status: record.status.clone(),
            cause: record.because.clone(),
            message: "told anew, as it stands".to_owned(),
            at: Utc::now(),
        });
        Some(Entry::Restated { acknowledged, reports: reports.collect() })
    }

    fn write(&mut self, batch: Batch) {
        let outcome = if batch.entries.is_empty() {
            Ok(())
        } else {
            let written = self.mend().and_then(|()| self.disk.append(&batch.entries, batch.durable));
            if written.is_ok() {
                self.publish(&batch.entries);
            }
            written
        };
        if !batch.entries.is_empty() {
            self.tell(outcome.as_ref().err());
        }
        for pending in batch.pending {
            pending.give(outcome.clone());
        }
    }

    /// Tells the log when writing begins to fail, and when it works again: whoever
    /// asked tries again, for as long as it takes.
    fn tell(&mut self, error: Option<&LedgerError>) {
        match error {
            Some(error) if !self.failing => {
                tracing::error!(
                    %error,
                    source = error_source(error),
                    "ledger cannot be written: what happens is reported once it can be; trying again"
                );
            }
            Some(error) => {
                tracing::debug!(%error, source = error_source(error), "ledger still cannot be written");
            }
            None if self.failing => tracing::info!("ledger is written again"),
            None => {}
        }
        self.failing = error.is_some();
        let trouble = error.map(|error| match error_source(error) {
            Some(source) => format!("failed to {error}: {source}"),
            None => format!("failed to {error}"),
        });
        self.shared.trouble.send_if_modified(|told| {
            let news = *told != trouble;
            *told = trouble;
            news
        });
    }

    /// After a failure that left the journal in doubt, begins a new one.
    fn mend(&mut self) -> Result<(), LedgerError> {
        if !self.disk.is_in_doubt() {
            return Ok(());
        }
        let state = self.shared.read();
        self.disk.write_snapshot(&state)
    }

    fn publish(&self, entries: &[Entry]) {
        let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        let (assignments, last_seq) = (state.assignments.clone(), state.last_seq);
        for entry in entries {
            state.apply(entry);
        }
        let changed = !Arc::ptr_eq(&assignments, &state.assignments);
        let (revision, seq) = (state.assignments.revision, state.last_seq);
        if entries.iter().any(|entry| matches!(entry, Entry::Replaced(_))) {
            self.shared.complete_received.store(true, Ordering::Release);
        }
        // Whoever is woken must find the new state.
        drop(state);
        if changed {
            self.shared.assignments_changed.send_replace(revision);
        }
        if seq != last_seq {
            self.shared.reports_changed.send_replace(seq);
        }
    }
}

impl Batch {
    fn judge(&mut self, request: Request) {
        match request {
            Request::Replace(complete, answer) => {
                let applied = self.replace(complete);
                self.pending.push(Pending::Applied(applied, answer));
            }
            Request::Apply(delta, answer) => {
                let applied = Arc::make_mut(&mut self.assignments).apply(&delta);
                if applied == Applied::Yes {
                    self.keep(Entry::changed(delta));
                }
                self.pending.push(Pending::Applied(applied, answer));
            }
            Request::Acknowledge(seq, answer) => {
                self.entries.push(Entry::Acknowledged(seq));
                self.pending.push(Pending::Done(answer));
            }
            Request::Commit { changes, transitions, answer } => {
                if !changes.is_empty() || !transitions.is_empty() {
                    let reports = transitions.into_iter().map(|transition| self.number(transition)).collect();
                    let records =
                        changes.into_iter().map(|change| (change.instance_id, change.record)).collect();
                    self.keep(Entry::Committed { records, reports });
                }
                self.pending.push(Pending::Number(self.last_seq, answer));
            }
            // Served apart.
            Request::Resume(..) | Request::Close(_) => {}
        }
    }

    fn replace(&mut self, complete: AssignmentSet) -> Applied {
        let applied = Arc::make_mut(&mut self.assignments).replace(complete);
        // The same set again says one thing more, when it is the first to be complete.
        if applied == Applied::Yes || !self.complete_received {
            self.complete_received = true;
            self.keep(Entry::Replaced(self.assignments.as_ref().clone()));
        }
        applied
    }

    fn number(&mut self, transition: Transition) -> Report {
        self.last_seq = self.last_seq.saturating_add(1);
        bounded(Report {
            seq: self.last_seq,
            instance_id: transition.instance_id,
            status: transition.status,
            cause: transition.cause,
            message: transition.message,
            at: transition.at,
        })
    }

    fn keep(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.durable = true;
    }
}

/// With its texts cut to what a report may carry.
fn bounded(mut report: Report) -> Report {
    cut(&mut report.message);
    if let Some(Outcome::Failed { message, .. }) = &mut report.status.outcome {
        cut(message);
    }
    report
}

fn cut(text: &mut String) {
    if text.len() > TEXT_MAX_BYTES {
        text.truncate(text.floor_char_boundary(TEXT_MAX_BYTES));
        text.push('…');
    }
}

fn error_source(error: &LedgerError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}
