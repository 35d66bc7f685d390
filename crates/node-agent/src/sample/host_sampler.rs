//! When to read the host, and what becomes of a reading.
//!
//! A task of its own: nothing that a container's reading waits for delays it, and a
//! disk that hangs delays nothing but the figures of disks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::Utc;
use domain::{
    node::EngineState,
    node_health::{self, Held, Seen, Thresholds},
    sample::DiskSample,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until, timeout},
};

use super::{
    SampleBuffer,
    host::{self, HostReader},
};
use crate::{facts, runtime::Runtime};

/// An engine that has not answered for so long counts against the host's health. A
/// restart of the engine is shorter, and so is the agent's own start.
const ENGINE_GRACE: Duration = Duration::from_secs(10);
/// How long file systems may take to say how full they are. One that takes longer
/// is asked no more until it has answered, and its figures are left out.
const DISKS_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct HostSampler {
    pub(super) reader: HostReader,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) buffer: SampleBuffer,
    pub(super) thresholds: Thresholds,
    /// The agent's own directory.
    pub(super) data_dir: PathBuf,
    /// The engine's, once it has said so.
    pub(super) engine_dir: Option<PathBuf>,
    pub(super) held: Held,
    pub(super) disks: Option<JoinHandle<Vec<DiskSample>>>,
}

impl HostSampler {
    pub(super) fn new(
        reader: HostReader,
        runtime: Arc<dyn Runtime>,
        buffer: SampleBuffer,
        (thresholds, data_dir): (Thresholds, PathBuf),
    ) -> Self {
        let held = Held::default();
        Self { reader, runtime, buffer, thresholds, data_dir, engine_dir: None, held, disks: None }
    }

    /// Reads at once, each period, when the engine has been silent for too long or is
    /// back, and when the ledger begins to fail or works again. Ends when whoever watches the engine has gone.
    pub(super) async fn run(
        mut self,
        mut engine: watch::Receiver<EngineState>,
        mut period: watch::Receiver<Duration>,
        mut ledger: watch::Receiver<Option<String>>,
    ) {
        let began = Instant::now();
        let mut silent_since = (*engine.borrow() == EngineState::Unreachable).then_some(began);
        let mut told_silent = false;
        let mut next = began;
        loop {
            let now = Instant::now();
            match *engine.borrow_and_update() {
                EngineState::Reachable => silent_since = None,
                EngineState::Unreachable => {
                    silent_since.get_or_insert(now);
                }
            }
            let is_silent = silent_since.is_some_and(|since| now >= since + ENGINE_GRACE);
            if now >= next || is_silent != told_silent {
                told_silent = is_silent;
                let trouble = ledger.borrow_and_update().clone();
                self.measure(is_silent, trouble.as_deref()).await;
                next = now + *period.borrow_and_update();
            }
            let grace = silent_since.filter(|_| !told_silent).map(|since| since + ENGINE_GRACE);
            let wake = grace.map_or(next, |grace| grace.min(next));
            // Cancel-safe: all of them only wait.
            tokio::select! {
                changed = engine.changed() => if changed.is_err() { return },
                // Without a sender the period stays as it is. A shorter one counts from now.
                Ok(()) = period.changed() => next = next.min(Instant::now() + *period.borrow_and_update()),
                // Told at once, and when it is over. Without a sender it stays as it is.
                Ok(()) = ledger.changed() => next = Instant::now(),
                () = sleep_until(wake) => {}
            }
        }
    }

    async fn measure(&mut self, engine_is_silent: bool, ledger_trouble: Option<&str>) {
        if self.engine_dir.is_none() && !engine_is_silent {
            let info = facts::ask_engine(self.runtime.as_ref()).await;
            self.engine_dir = info.and_then(|info| info.data_dir).map(PathBuf::from);
        }
        let disks = self.disks().await;
        let mut reader = std::mem::take(&mut self.reader);
        // Fails only where the runtime is going down.
        let Ok((reader, (mut sample, cpus))) = spawn_blocking(move || {
            let read = reader.read(Utc::now());
            (reader, read)
        })
        .await
        else {
            return;
        };
        self.reader = reader;
        sample.disks = disks;
        let engine = if engine_is_silent { EngineState::Unreachable } else { EngineState::Reachable };
        let seen = Seen { sample: &sample, cpus, engine, ledger_trouble };
        let verdict = node_health::health(&seen, &self.thresholds, &self.held);
        (sample.health, sample.reasons, self.held) = (verdict.health, verdict.reasons, verdict.held);
        self.buffer.push_host(sample);
    }

    async fn disks(&mut self) -> Vec<DiskSample> {
        let paths: Vec<PathBuf> =
            [Some(PathBuf::from("/")), self.engine_dir.clone(), Some(self.data_dir.clone())]
                .into_iter()
                .flatten()
                .collect();
        let asked = self.disks.get_or_insert_with(|| spawn_blocking(move || host::disks(&paths)));
        match timeout(DISKS_LIMIT, asked).await {
            Ok(answer) => {
                self.disks = None;
                answer.unwrap_or_default()
            }
            Err(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
