//! When to measure, and what two readings say together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use domain::{Timestamp, dossier::MemoryPoint, id::InstanceId, sample::InstanceSample};
use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Recent, SampleBuffer,
    reader::{Reader, Reading},
};
use crate::{
    runtime::{RunningContainer, Runtime},
    storage::Sizes,
};

/// After an instance began to run it is read at once and again after this time,
/// so that its CPU shows before the first period is over.
const SECOND_READING: Duration = Duration::from_secs(2);
/// Where the period is longer, the use of memory alone is read this often, for
/// [`Recent`] and nobody else: thirty points in five minutes show how a process came
/// to die, and cost a fraction of a whole reading each.
const MEMORY_PERIOD: Duration = Duration::from_secs(10);
/// How long an engine may take for one container's figures.
const ENGINE_LIMIT: Duration = Duration::from_secs(5);
/// How many containers the engine is asked about at once.
const ENGINE_PARALLEL: usize = 4;

/// The instances that run, as the reconciler publishes them.
pub type Running = Arc<BTreeMap<InstanceId, RunningContainer>>;

/// The CPU time of a run at a moment.
#[derive(Clone, Copy)]
struct Before {
    started_at: Timestamp,
    at: Instant,
    cpu_nanos: Option<u64>,
}

pub(super) struct Sampler {
    pub(super) reader: Reader,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) buffer: SampleBuffer,
    pub(super) recent: Recent,
    /// Sizes of writable layers, where they are measured.
    pub(super) storage: watch::Receiver<Sizes>,
    pub(super) past: Past,
}

/// What earlier readings said.
#[derive(Default)]
pub(super) struct Past {
    /// The runs that have been seen, whether or not they could be read.
    known: BTreeMap<InstanceId, Timestamp>,
    before: BTreeMap<InstanceId, Before>,
    /// Instances that are to be read a second time soon.
    soon: BTreeMap<InstanceId, Instant>,
}

impl Past {
    /// Says which instances are to be read now, and notes when which come again.
    fn due(
        &mut self,
        running: &BTreeMap<InstanceId, RunningContainer>,
        whole_round: bool,
        now: Instant,
    ) -> Vec<(InstanceId, RunningContainer)> {
        self.before.retain(|id, before| running.get(id).is_some_and(|c| c.started_at == before.started_at));
        self.known.retain(|id, _| running.contains_key(id));
        self.soon.retain(|id, _| running.contains_key(id));

        let mut due: BTreeSet<_> =
            self.soon.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        self.soon.retain(|id, _| !due.contains(id));
        for (id, container) in running {
            if self.known.insert(*id, container.started_at) != Some(container.started_at) {
                due.insert(*id);
                self.soon.insert(*id, now + SECOND_READING);
            }
        }
        running
            .iter()
            .filter(|(id, _)| whole_round || due.contains(*id))
            .map(|(id, container)| (*id, container.clone()))
            .collect()
    }
}

impl Sampler {
    /// Measures until whoever publishes what runs has gone.
    pub(super) async fn run(
        mut self,
        mut running: watch::Receiver<Running>,
        mut period: watch::Receiver<Duration>,
    ) {
        let (mut last_round, mut last_memory) = (Instant::now(), Instant::now());
        loop {
            let now = Instant::now();
            let containers = Arc::clone(&running.borrow_and_update());
            let each = *period.borrow_and_update();
            let whole_round = now >= last_round + each;
            if whole_round {
                (last_round, last_memory) = (now, now);
                self.forget(&containers);
            }
            let due = self.past.due(&containers, whole_round, now);
            self.measure(due).await;
            let memory_too = each > MEMORY_PERIOD;
            if memory_too && now >= last_memory + MEMORY_PERIOD {
                last_memory = now;
                self.measure_memory(&containers).await;
            }

            let next_round = last_round + *period.borrow();
            let mut next = self.past.soon.values().copied().min().map_or(next_round, |s| s.min(next_round));
            if memory_too {
                next = next.min(last_memory + MEMORY_PERIOD);
            }
            // Cancel-safe: all three only wait.
            tokio::select! {
                changed = running.changed() => if changed.is_err() { return },
                // Without a sender the period stays as it is.
                Ok(()) = period.changed() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Forgets what is known of containers that run no more.
    fn forget(&mut self, running: &BTreeMap<InstanceId, RunningContainer>) {
        let ids: BTreeSet<&str> = running.values().map(|container| container.container_id.as_str()).collect();
        self.reader.retain(|id| ids.contains(id));
        self.recent.prune(Utc::now(), |id| running.contains_key(&id));
    }

    /// Reads the use of memory of all, where that can be read from files.
    async fn measure_memory(&mut self, running: &Running) {
        if running.is_empty() {
            return;
        }
        let (mut reader, containers) = (std::mem::take(&mut self.reader), Arc::clone(running));
        let read = move || {
            let point = |(id, container): (&InstanceId, &RunningContainer)| {
                let bytes = reader.read_memory(container)?;
                Some((*id, MemoryPoint { at: Utc::now(), bytes }))
            };
            let points: Vec<_> = containers.iter().filter_map(point).collect();
            (reader, points)
        };
        // Fails only where the runtime is going down.
        let Ok((reader, points)) = spawn_blocking(read).await else { return };
        self.reader = reader;
        self.recent.push_points(points);
    }

    async fn measure(&mut self, due: Vec<(InstanceId, RunningContainer)>) {
        if due.is_empty() {
            return;
        }
        let mut reader = std::mem::take(&mut self.reader);
        let read = move || {
            let stamped = |(id, container): (InstanceId, RunningContainer)| {
                let reading = reader.read(&container);
                (id, container, reading, Utc::now(), Instant::now())
            };
            let read = due.into_iter().map(stamped).collect::<Vec<_>>();
            (reader, read)
        };
        // Fails only where the runtime is going down.
        let Ok((reader, read)) = spawn_blocking(read).await else { return };
        self.reader = reader;
        let mut samples = Vec::with_capacity(read.len());
        let mut unread = Vec::new();
        for (id, container, reading, at, instant) in read {
            match reading {
                Some(reading) => samples.push(self.sample(id, &container, reading, at, instant)),
                None => unread.push((id, container)),
            }
        }
        self.keep(samples);
        self.ask_engine(unread).await;
    }

    async fn ask_engine(&mut self, unread: Vec<(InstanceId, RunningContainer)>) {
        let runtime = Arc::clone(&self.runtime);
        let ask = |(id, container): (InstanceId, RunningContainer)| {
            let runtime = Arc::clone(&runtime);
            async move {
                let usage = timeout(ENGINE_LIMIT, runtime.usage(&container.container_id)).await.ok()?.ok()?;
                Some((id, container, usage, Utc::now(), Instant::now()))
            }
        };
        let answers = stream::iter(unread).map(ask).buffer_unordered(ENGINE_PARALLEL);
        let answers: Vec<_> = answers.filter_map(std::future::ready).collect().await;
        let samples = answers.into_iter().map(|(id, container, usage, at, instant)| {
            let memory_limit_bytes = container.memory_limit_bytes;
            self.sample(id, &container, Reading { usage, memory_limit_bytes }, at, instant)
        });
        let samples = samples.collect();
        self.keep(samples);
    }

    fn keep(&self, samples: Vec<InstanceSample>) {
        self.recent.push(&samples);
        self.buffer.push(samples);
    }

    fn sample(
        &mut self,
        instance_id: InstanceId,
        container: &RunningContainer,
        reading: Reading,
        at: Timestamp,
        instant: Instant,
    ) -> InstanceSample {
        let Reading { usage, memory_limit_bytes } = reading;
        let now = Before { started_at: container.started_at, at: instant, cpu_nanos: usage.cpu_nanos };
        let past = self.past.before.insert(instance_id, now);
        let cpu_percent = past.and_then(|before| cpu_percent(&before, &now));
        InstanceSample {
            instance_id,
            at,
            cpu_percent,
            memory_bytes: usage.memory_bytes,
            memory_limit_bytes,
            network_rx_bytes: usage.network_rx_bytes,
            network_tx_bytes: usage.network_tx_bytes,
            block_read_bytes: usage.block_read_bytes,
            block_write_bytes: usage.block_write_bytes,
            pids: usage.pids,
            throttled_nanos: usage.throttled_nanos,
            oom_kills: usage.oom_kills,
            storage_bytes: self.storage.borrow().get(&instance_id).copied(),
        }
    }
}

/// CPU time between two readings of one run, in percent of one core.
#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 52 bits")]
fn cpu_percent(before: &Before, now: &Before) -> Option<f64> {
    if before.started_at != now.started_at {
        return None;
    }
    let used = now.cpu_nanos?.checked_sub(before.cpu_nanos?)?;
    let passed = now.at.checked_duration_since(before.at)?.as_nanos();
    (passed > 0).then(|| used as f64 * 100.0 / passed as f64)
}

#[cfg(test)]
mod tests;
