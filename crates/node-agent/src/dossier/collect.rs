//! Puts dossiers together.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use daemon::Backoff;
use domain::{
    Timestamp,
    dossier::{Dossier, DossierLine, MEMORY_SPAN, MemoryPoint},
};
use futures_util::{Stream, StreamExt as _, future::ready};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    Dossiers, Timing,
    tail::Tail,
    window::{Runs, Window},
};
use crate::{
    death::Death,
    logs,
    runtime::{LogChunk, LogsQuery, Runtime, RuntimeError, RuntimeErrorKind},
    sample::Recent,
};

/// Logs that are read at once.
const PARALLEL: usize = 4;
/// Deaths that wait for their log to be read; more than that wait where they are told.
const WAITING_MAX: usize = 256;
/// How many of the engine's pieces are asked for first: enough for the lines that are
/// kept, and for what the next run may have written meanwhile.
const PIECES: u32 = 1000;
/// How often the window is looked at again because another run began meanwhile.
const LOOKS: usize = 4;

#[derive(Clone)]
pub(super) struct Collector(Arc<Inner>);

struct Inner {
    runtime: Arc<dyn Runtime>,
    recent: Recent,
    dossiers: Dossiers,
    timing: Timing,
    /// Held for looking up and noting only, never across an await.
    runs: Mutex<Runs>,
}

/// A death, with what would be gone by the time that its log is read.
struct Case {
    death: Death,
    memory: Vec<MemoryPoint>,
}

impl Collector {
    pub(super) fn new(runtime: Arc<dyn Runtime>, recent: Recent, dossiers: Dossiers, timing: Timing) -> Self {
        Self(Arc::new(Inner { runtime, recent, dossiers, timing, runs: Mutex::default() }))
    }

    /// Works until it is asked to stop, or until nobody can tell of deaths any more.
    /// Then what is known is kept, without the logs that cannot be read quickly.
    pub(super) async fn run(self, mut deaths: mpsc::Receiver<Death>, stop: CancellationToken) {
        let (mut waiting, mut reading) = (VecDeque::<Case>::new(), JoinSet::new());
        let (mut open, mut ends_at) = (true, None);
        let enough = CancellationToken::new();
        while open || !waiting.is_empty() || !reading.is_empty() {
            while reading.len() < PARALLEL
                && let Some(case) = waiting.pop_front()
            {
                let work = Arc::clone(&self.0).look_into(case, enough.clone());
                reading.spawn(work.in_current_span());
            }
            // Cancel-safe: a death that loses stays in its channel, a task in its set, and
            // the others only wait.
            tokio::select! {
                death = deaths.recv(), if open && waiting.len() < WAITING_MAX => match death {
                    Some(death) => waiting.push_back(self.0.open_case(death)),
                    None => open = false,
                },
                Some(done) = reading.join_next() => if let Err(error) = done {
                    tracing::error!(%error, "a dossier was lost");
                },
                () = stop.cancelled(), if ends_at.is_none() => {
                    // What is in the channel by now is still taken.
                    deaths.close();
                    ends_at = Some(Instant::now() + self.0.timing.stop);
                }
                () = sleep_until(ends_at.unwrap_or_else(Instant::now)),
                    if ends_at.is_some() && !enough.is_cancelled() => enough.cancel(),
            }
        }
    }
}

impl Inner {
    fn runs(&self) -> MutexGuard<'_, Runs> {
        // Nothing in there panics half-way.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_case(&self, death: Death) -> Case {
        self.runs().note(&death);
        let from = death.ended_at - MEMORY_SPAN;
        let from = death.started_at.map_or(from, |started| started.max(from));
        let mut memory = self.recent.memory(death.instance_id);
        memory.retain(|point| (from..=death.ended_at).contains(&point.at));
        Case { death, memory }
    }

    async fn look_into(self: Arc<Self>, case: Case, enough: CancellationToken) {
        let Case { death, memory } = case;
        let (log, log_cut) = self.log(&death, &enough).await;
        let (instance, attempt, lines) = (death.instance_id, death.attempt, log.len());
        let dossier = Dossier {
            instance_id: instance,
            attempt,
            ended_at: death.ended_at,
            outcome: death.outcome,
            container_id: death.container_id,
            log,
            log_cut,
            probes: death.probes,
            memory,
            memory_limit_bytes: death.memory_limit_bytes,
        };
        self.dossiers.keep(dossier).await;
        tracing::debug!(instance.id = %instance, attempt, lines, log_cut, "what is known of an attempt that ended is kept");
    }

    /// The last lines, and whether some are missing.
    async fn log(&self, death: &Death, enough: &CancellationToken) -> (Vec<DossierLine>, bool) {
        let Some(container_id) = &death.container_id else { return (Vec::new(), true) };
        let mut tail = Tail::default();
        // Cancel-safe: what was read so far is in `tail`.
        let read = tokio::select! {
            read = timeout(self.timing.log, self.read_log(death, container_id, &mut tail)) => read.ok(),
            () = enough.cancelled() => None,
        };
        let missing = match read {
            Some(Ok(missing)) => missing,
            Some(Err(error)) => {
                let instance = death.instance_id;
                tracing::debug!(instance.id = %instance, %error, "the log of an attempt that ended cannot be read");
                true
            }
            None => {
                tracing::warn!(instance.id = %death.instance_id, "the log of an attempt that ended was not read in time");
                true
            }
        };
        let (lines, cut) = tail.finish();
        (lines, cut || missing)
    }

    /// Reads the lines of the run that ended into `tail`, and says whether they cannot
    /// be told from others. Tries again while the engine is out of reach.
    async fn read_log(&self, death: &Death, id: &str, tail: &mut Tail) -> Result<bool, RuntimeError> {
        let mut backoff = Backoff::new(self.timing.retry.0, self.timing.retry.1);
        loop {
            match self.try_log(death, id, tail).await {
                Err(error) if error.kind == RuntimeErrorKind::Unreachable => {
                    sleep(backoff.next_delay()).await;
                }
                other => return other,
            }
        }
    }

    async fn try_log(&self, death: &Death, id: &str, tail: &mut Tail) -> Result<bool, RuntimeError> {
        let mut present = self.present_run(death).await?;
        for _ in 0..LOOKS {
            let Some(window) = self.runs().window(death, present) else { return Ok(true) };
            *tail = Tail::default();
            self.read_window(id, window, tail).await?;
            // A run that began meanwhile narrows the window, and may have been read.
            if present.is_none() {
                present = self.present_run(death).await?;
            }
            if self.runs().window(death, present) == Some(window) {
                return Ok(false);
            }
        }
        *tail = Tail::default();
        Ok(true)
    }

    /// When the run began that the engine shows now, if that is a later one.
    async fn present_run(&self, death: &Death) -> Result<Option<Timestamp>, RuntimeError> {
        let container = self.runtime.inspect(death.instance_id).await?;
        Ok(container.and_then(|c| c.started_at).filter(|started| Some(*started) > death.started_at))
    }

    /// Reads what lies in `window`: first the end of the log, and only where that does
    /// not reach back far enough all of it. If that fails or takes too long, what the
    /// end had stays in `tail`.
    async fn read_window(&self, id: &str, window: Window, tail: &mut Tail) -> Result<(), RuntimeError> {
        let (mut pieces_seen, mut reached_back) = (0, false);
        let query = LogsQuery { tail: Some(PIECES), ..LogsQuery::default() };
        let pieces = self.runtime.logs(id, &query).filter(|piece| {
            let Ok(piece) = piece else { return ready(true) };
            pieces_seen += 1;
            reached_back |= piece.at.is_some_and(|at| at < window.from);
            ready(piece.at.is_some_and(|at| window.holds(at)))
        });
        fill(pieces, tail).await?;
        if tail.is_full() || reached_back || pieces_seen < PIECES {
            return Ok(());
        }
        let query = LogsQuery { since: Some(window.from), until: Some(window.until), ..LogsQuery::default() };
        let mut whole = Tail::default();
        if tail.is_empty() {
            // Then what has been read by the deadline is better than nothing.
            return fill(self.runtime.logs(id, &query), tail).await;
        }
        fill(self.runtime.logs(id, &query), &mut whole).await?;
        *tail = whole;
        Ok(())
    }
}

async fn fill<S>(pieces: S, tail: &mut Tail) -> Result<(), RuntimeError>
where
    S: Stream<Item = Result<LogChunk, RuntimeError>> + Send + Unpin,
{
    let mut lines = std::pin::pin!(logs::lines(pieces));
    while let Some(line) = lines.next().await {
        tail.add(&line?);
    }
    Ok(())
}
