//! When to measure, and what two readings say together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use daemon::Supervisor;
use domain::{Timestamp, id::InstanceId, sample::InstanceSample};
use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use super::{
    SampleBuffer,
    reader::{Reader, Reading},
};
use crate::runtime::{RunningContainer, Runtime};

/// After an instance began to run it is read at once and again after this time,
/// so that its CPU shows before the first period is over.
const SECOND_READING: Duration = Duration::from_secs(2);
/// How long an engine may take for one container's figures.
const ENGINE_LIMIT: Duration = Duration::from_secs(5);
/// How many containers the engine is asked about at once.
const ENGINE_PARALLEL: usize = 4;

/// The instances that run, as the reconciler publishes them.
pub type Running = Arc<BTreeMap<InstanceId, RunningContainer>>;

/// Starts to measure all that is in `running`, each `period`, and what has just
/// been started at once. Asks `runtime` only where the kernel's files cannot be seen.
pub fn start(
    supervisor: &Supervisor,
    running: watch::Receiver<Running>,
    runtime: Arc<dyn Runtime>,
    period: watch::Receiver<Duration>,
) -> SampleBuffer {
    let buffer = SampleBuffer::new();
    let sampler = Sampler::new(Reader::default(), runtime, buffer.clone());
    let stop = supervisor.stop_token();
    supervisor.spawn("sampler", async move {
        // Cancel-safe: a reading that is cut short is no reading.
        tokio::select! {
            () = stop.cancelled() => {}
            () = sampler.run(running, period) => {}
        }
    });
    buffer
}

/// The CPU time of a run at a moment.
#[derive(Clone, Copy)]
struct Before {
    started_at: Timestamp,
    at: Instant,
    cpu_nanos: Option<u64>,
}

struct Sampler {
    reader: Reader,
    runtime: Arc<dyn Runtime>,
    buffer: SampleBuffer,
    /// The runs that have been seen, whether or not they could be read.
    known: BTreeMap<InstanceId, Timestamp>,
    before: BTreeMap<InstanceId, Before>,
    /// Instances that are to be read a second time soon.
    soon: BTreeMap<InstanceId, Instant>,
}

impl Sampler {
    fn new(reader: Reader, runtime: Arc<dyn Runtime>, buffer: SampleBuffer) -> Self {
        let (known, before, soon) = Default::default();
        Self { reader, runtime, buffer, known, before, soon }
    }

    /// Measures until whoever publishes what runs has gone.
    async fn run(mut self, mut running: watch::Receiver<Running>, mut period: watch::Receiver<Duration>) {
        let mut last_round = Instant::now();
        loop {
            let now = Instant::now();
            let containers = Arc::clone(&running.borrow_and_update());
            let next_round = last_round + *period.borrow_and_update();
            let whole_round = now >= next_round;
            if whole_round {
                last_round = now;
            }
            let due = self.due(&containers, whole_round, now);
            self.measure(due).await;

            let next_round = last_round + *period.borrow();
            let next = self.soon.values().copied().min().map_or(next_round, |soon| soon.min(next_round));
            // Cancel-safe: all three only wait.
            tokio::select! {
                changed = running.changed() => if changed.is_err() { return },
                // Without a sender the period stays as it is.
                Ok(()) = period.changed() => {}
                () = sleep_until(next) => {}
            }
        }
    }

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

    async fn measure(&mut self, due: Vec<(InstanceId, RunningContainer)>) {
        if due.is_empty() {
            return;
        }
        let reader = self.reader.clone();
        let read = move || {
            let stamped = |(id, container): (InstanceId, RunningContainer)| {
                let reading = reader.read(&container);
                (id, container, reading, Utc::now(), Instant::now())
            };
            due.into_iter().map(stamped).collect::<Vec<_>>()
        };
        // Fails only where the runtime is going down.
        let Ok(read) = spawn_blocking(read).await else { return };
        let mut samples = Vec::with_capacity(read.len());
        let mut unread = Vec::new();
        for (id, container, reading, at, instant) in read {
            match reading {
                Some(reading) => samples.push(self.sample(id, &container, reading, at, instant)),
                None => unread.push((id, container)),
            }
        }
        self.buffer.push(samples);
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
        let cpu_percent = self.before.get(&instance_id).and_then(|before| cpu_percent(before, &now));
        self.before.insert(instance_id, now);
        InstanceSample {
            instance_id,
            at,
            cpu_percent,
            memory_bytes: usage.memory_bytes,
            memory_limit_bytes,
            network_rx_bytes: usage.network_rx_bytes,
            network_tx_bytes: usage.network_tx_bytes,
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
