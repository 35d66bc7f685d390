//! The loop: waits for whatever comes next, takes note of it, and acts.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use daemon::Backoff;
use domain::{Timestamp, assignment::AssignmentSet, id::InstanceId, node::EngineState, plan};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Settings,
    action::Done,
    engine::{Engine, Happening},
    entry::Entry,
    images::{self, Images},
    outbox::{Outbox, Parcel},
    probing::ProbeDone,
    slots::Slots,
    vital::Leased,
};
use crate::{
    death::Deaths,
    lease::Lease,
    ledger::{Ledger, LedgerError},
    pull::Pulls,
    runtime::{RunningContainer, Runtime},
    secrets::Secrets,
    storage::Sizes,
};

/// What the last transitions may take to reach the disk when the agent stops.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);
/// The calendar jumped if it went so much further, or less far, than time did.
const JUMP: TimeDelta = TimeDelta::seconds(2);
/// Pause after a panic, so that one that comes again at once does not fill the log.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// What the loop is given.
pub(super) struct Parts {
    pub ledger: Ledger,
    pub runtime: Arc<dyn Runtime>,
    pub settings: Settings,
    pub deaths: Deaths,
    pub lease: Lease,
    pub storage: watch::Receiver<Sizes>,
    pub engine_tx: watch::Sender<EngineState>,
    pub running_tx: watch::Sender<Arc<BTreeMap<InstanceId, RunningContainer>>>,
    pub pulls: Pulls,
    pub secrets: Secrets,
    pub stop: CancellationToken,
}

/// Reconciles until it is stopped. A panic costs what was not written down, as a
/// crash of the agent would; then it begins again from the ledger.
pub(super) async fn forever(parts: Parts) {
    while !parts.stop.is_cancelled() {
        match AssertUnwindSafe(run(&parts)).catch_unwind().await {
            Ok(()) => return,
            Err(_) => tracing::error!("reconciling panicked; beginning again from the ledger"),
        }
        let _ = parts.stop.run_until_cancelled(sleep(PANIC_PAUSE)).await;
    }
}

async fn run(parts: &Parts) {
    let mut reconciler = Reconciler::new(parts);
    loop {
        reconciler.settle();
        match reconciler.next().await {
            Woken::Stop => break,
            woken => reconciler.wake(woken),
        }
    }
    reconciler.flush().await;
}

/// Why the loop goes on.
enum Woken {
    Stop,
    Engine(Happening),
    Done(Done),
    Probed(ProbeDone),
    Image(images::Answer),
    Written(Result<u64, LedgerError>),
    Assignments,
    Reached,
    Storage,
    Time,
}

type Commit = BoxFuture<'static, Result<u64, LedgerError>>;

pub(super) struct Reconciler<'a> {
    pub(super) parts: &'a Parts,
    pub(super) engine: Engine,
    pub(super) wanted: Arc<AssignmentSet>,
    pub(super) complete: bool,
    assignments: watch::Receiver<u64>,
    reached: watch::Receiver<u64>,
    pub(super) entries: BTreeMap<InstanceId, Entry>,
    /// To be decided about.
    pub(super) dirty: BTreeSet<InstanceId>,
    pub(super) actions: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Probes under way, one of an instance.
    pub(super) probes: FuturesUnordered<BoxFuture<'static, ProbeDone>>,
    pub(super) images: Images,
    pub(super) storage: watch::Receiver<Sizes>,
    pub(super) leased: Leased,
    pub(super) slots: Slots,
    pub(super) outbox: Outbox,
    commit: Option<(Parcel, Commit)>,
    /// After a failed commit: when to try again.
    commit_after: Option<Instant>,
    commit_backoff: Backoff,
    /// The calendar when the loop last went on, and the time that nobody sets.
    went_on: (Timestamp, Instant),
    /// Counts what makes looks out of date; see [`Entry::changed`].
    pub(super) mark: u64,
    /// Whether what the sampler may measure has to be published anew.
    pub(super) running_changed: bool,
}

impl<'a> Reconciler<'a> {
    fn new(parts: &'a Parts) -> Self {
        let mut assignments = parts.ledger.assignments_changed();
        // What changes from here on wakes; what is there is read now.
        assignments.mark_unchanged();
        let records = parts.ledger.records();
        let mut reconciler = Self {
            engine: Engine::new(parts.runtime.clone(), parts.settings.clone(), parts.engine_tx.clone()),
            wanted: Arc::default(),
            complete: false,
            assignments,
            reached: parts.secrets.reachable(),
            entries: records.into_iter().map(|(id, record)| (id, Entry::new(record))).collect(),
            dirty: BTreeSet::new(),
            actions: FuturesUnordered::new(),
            probes: FuturesUnordered::new(),
            images: Images::new(),
            storage: parts.storage.clone(),
            leased: Leased::default(),
            slots: Slots::new(parts.settings.max_parallel_actions),
            outbox: Outbox::default(),
            commit: None,
            commit_after: None,
            commit_backoff: Backoff::new(parts.settings.retry.0, parts.settings.retry.1),
            went_on: ((parts.settings.clock)(), Instant::now()),
            mark: 0,
            running_changed: false,
            parts,
        };
        reconciler.assignments_changed();
        reconciler
    }

    /// Decides about everything that changed, until nothing is left to decide now.
    fn settle(&mut self) {
        while let Some(instance) = self.dirty.pop_first().or_else(|| self.slots.next()) {
            self.advance(instance);
        }
        self.begin_commit();
        if std::mem::take(&mut self.running_changed) {
            self.publish_running();
        }
    }

    async fn next(&mut self) -> Woken {
        let wake = self.next_wake();
        let time = async {
            match wake {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        // Every arm polls what `self` keeps, or a wake-up whose reason is looked up anew,
        // so a lost race loses nothing.
        tokio::select! {
            biased;
            () = self.parts.stop.cancelled() => Woken::Stop,
            written = maybe_commit(&mut self.commit) => Woken::Written(written),
            Some(done) = self.actions.next(), if !self.actions.is_empty() => Woken::Done(done),
            Some(done) = self.probes.next(), if !self.probes.is_empty() => Woken::Probed(done),
            answer = self.images.next() => Woken::Image(answer),
            // Fails only when the ledger is gone, which holds its sender: we hold the ledger.
            Ok(()) = self.assignments.changed() => Woken::Assignments,
            // Fails only when there is no link any more: then nobody is reached.
            Ok(()) = self.reached.changed() => Woken::Reached,
            // Fails only when nobody measures any more: then there is nothing to wait for.
            Ok(()) = self.storage.changed() => Woken::Storage,
            happening = self.engine.next(self.mark) => Woken::Engine(happening),
            () = time => Woken::Time,
        }
    }

    /// After a jump of the calendar all is decided anew: what was to be waited for until
    /// some time of the calendar may be over, or days away.
    fn heed_jump(&mut self) {
        let now = ((self.parts.settings.clock)(), Instant::now());
        let (calendar, steady) = std::mem::replace(&mut self.went_on, now);
        let jumped = (now.0 - calendar) - TimeDelta::from_std(now.1 - steady).unwrap_or(TimeDelta::MAX);
        if jumped.abs() > JUMP {
            tracing::info!(seconds = jumped.num_seconds(), "the calendar jumped: all is decided anew");
            for (id, entry) in &mut self.entries {
                entry.record = plan::jumped(&entry.record, jumped);
                self.dirty.insert(*id);
            }
        }
    }

    fn wake(&mut self, woken: Woken) {
        self.heed_jump();
        match woken {
            Woken::Stop => {}
            Woken::Engine(happening) => self.engine_says(happening),
            Woken::Done(done) => self.action_ended(done),
            Woken::Probed(done) => self.probe_ended(done),
            Woken::Image(answer) => self.image_answered(answer),
            Woken::Storage => self.storage_measured(),
            Woken::Written(written) => self.commit_ended(written),
            Woken::Assignments => self.assignments_changed(),
            Woken::Reached => self.controller_reached(),
            Woken::Time => self.time_passed(),
        }
    }

    /// How long until something has to be decided about though nothing may happen.
    fn next_wake(&self) -> Option<Duration> {
        let now = (self.parts.settings.clock)();
        let entry = self.entries.values().flat_map(|entry| [entry.wake, entry.probe_at]).flatten().min();
        let entry = entry.map(|at| (at - now).to_std().unwrap_or(Duration::ZERO));
        let until = |at: Instant| at.saturating_duration_since(Instant::now());
        let commit = self.commit_after.map(until);
        let image = self.images.wake().map(until);
        let lease = self.leased.wake(self.parts.lease.age());
        [entry, commit, image, lease].into_iter().flatten().min()
    }

    fn time_passed(&mut self) {
        let now = (self.parts.settings.clock)();
        for (id, entry) in &mut self.entries {
            // Cleared also where nothing can be decided now: whatever lets it be decided
            // later asks again, and a time that is past must not keep the loop awake.
            let probe = entry.probe_at.take_if(|at| *at <= now);
            if entry.wake.take_if(|at| *at <= now).or(probe).is_some() {
                self.dirty.insert(*id);
            }
        }
        self.dirty.extend(self.images.time_passed());
        self.leases_passed();
    }

    fn begin_commit(&mut self) {
        if self.commit.is_some() || self.commit_after.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.commit_after = None;
        if let Some(parcel) = self.outbox.take() {
            let (changes, transitions) = parcel.contents();
            let ledger = self.parts.ledger.clone();
            let commit = async move { ledger.commit(changes, transitions).await }.boxed();
            self.commit = Some((parcel, commit));
        }
    }

    fn commit_ended(&mut self, written: Result<u64, LedgerError>) {
        let Some((parcel, _)) = self.commit.take() else { return };
        match written {
            Ok(_) => {
                self.commit_backoff.reset();
                self.outbox.written();
                let waiting = self.entries.iter().filter(|(_, entry)| entry.barrier.is_some());
                self.dirty.extend(waiting.map(|(id, _)| *id));
            }
            Err(error) => {
                // The ledger tells the log once.
                tracing::debug!(%error, "what happened could not be written down; trying again");
                self.outbox.put_back(parcel);
                self.commit_after = Some(Instant::now() + self.commit_backoff.next_delay());
            }
        }
    }

    fn publish_running(&self) {
        let limit = |id| self.wanted.assignments.get(id).map(|a| a.spec.limits.memory_bytes);
        let running: BTreeMap<_, _> = self
            .entries
            .iter()
            .filter_map(|(id, entry)| entry.running(limit(id)).map(|running| (*id, running)))
            .collect();
        self.parts.running_tx.send_if_modified(|published| {
            let changed = **published != running;
            if changed {
                *published = Arc::new(running);
            }
            changed
        });
    }

    /// Writes down what is not written yet. What is under way at the engine is left
    /// to it: the next agent finds out what came of it.
    async fn flush(mut self) {
        let rest = async {
            if let Some((parcel, commit)) = self.commit.take() {
                match commit.await {
                    Ok(_) => self.outbox.written(),
                    Err(_) => self.outbox.put_back(parcel),
                }
            }
            let Some(parcel) = self.outbox.take() else { return Ok(0) };
            let (changes, transitions) = parcel.contents();
            self.parts.ledger.commit(changes, transitions).await
        };
        match timeout(FLUSH_DEADLINE, rest).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last of what happened could not be written down"),
            Err(_) => tracing::error!("the last of what happened could not be written down in time"),
        }
    }
}

async fn maybe_commit(commit: &mut Option<(Parcel, Commit)>) -> <Commit as Future>::Output {
    match commit {
        Some((_, commit)) => commit.await,
        None => std::future::pending().await,
    }
}
