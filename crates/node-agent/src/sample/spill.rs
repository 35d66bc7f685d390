//! Moves readings between memory and disk.
//!
//! One task, so that the disk is asked for one thing at a time, and nobody who
//! pushes or takes readings ever waits for it. A disk that fails leaves the buffer
//! in memory, bounded as it is: that is logged once and said in the status, and
//! tried again now and then.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use daemon::Supervisor;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    SampleBuffer,
    buffer::{SPILL_AT, Shared},
    ring::{BYTES_MAX, Disk, Ring, Volume},
};

/// A reading that waited so long in memory goes to disk, so that a crash of the
/// agent costs no more than that while the controller is away.
const SPILL_AFTER: Duration = Duration::from_secs(60);
/// Between two looks at how long readings wait.
const LOOK: Duration = Duration::from_secs(15);
/// After a failure the disk is left alone for so long.
const RETRY: Duration = Duration::from_secs(60);

/// Makes a buffer that outlasts the agent, with its files in `dir`. What an earlier
/// agent left there comes first.
pub(super) fn open(supervisor: &Supervisor, dir: PathBuf) -> SampleBuffer {
    let buffer = SampleBuffer::new();
    keep(supervisor, &buffer, dir, || Box::new(Disk));
    buffer
}

pub(super) fn keep(
    supervisor: &Supervisor,
    buffer: &SampleBuffer,
    dir: PathBuf,
    volume: impl Fn() -> Box<dyn Volume> + Send + 'static,
) {
    let (shared, stop) = (Arc::clone(&buffer.0), supervisor.stop_token());
    drop(supervisor.spawn("readings on disk", async move {
        let mut spill = Spill { shared, dir, volume, ring: None, failed_at: None };
        spill.run(stop).await;
    }));
}

struct Spill<V> {
    shared: Arc<Shared>,
    dir: PathBuf,
    volume: V,
    /// `None` until the directory could be opened, and while a thread has it.
    ring: Option<Ring>,
    failed_at: Option<Instant>,
}

impl<V: Fn() -> Box<dyn Volume> + Send> Spill<V> {
    async fn run(&mut self, stop: CancellationToken) {
        loop {
            self.turn(false).await;
            // Cancel-safe: all only wait; a call that is lost is made up by the next look.
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.shared.work.notified() => {}
                () = sleep(LOOK) => {}
            }
        }
        // What is still in memory is for the next agent.
        self.turn(true).await;
    }

    async fn turn(&mut self, last: bool) {
        if !last && self.failed_at.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        if self.ring.is_none() {
            let (dir, volume) = (self.dir.clone(), (self.volume)());
            match spawn_blocking(move || Ring::open(&dir, volume, BYTES_MAX)).await {
                Ok(Ok(ring)) => {
                    self.shared.lock().stored = ring.stored(0);
                    self.ring = Some(ring);
                }
                Ok(Err(error)) => return self.failed(&error),
                Err(_) => return,
            }
        }
        let mut outcome = self.release().await;
        if outcome.is_ok() {
            outcome = self.spill(last).await;
        }
        self.load().await;
        match outcome {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
    }

    /// Lets a thread work with the ring; `None` where it was lost.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Ring) -> T + Send + 'static,
    ) -> Option<T> {
        let mut ring = self.ring.take()?;
        let done = spawn_blocking(move || {
            let result = work(&mut ring);
            (ring, result)
        });
        // Fails only where the runtime is going down.
        let (ring, result) = done.await.ok()?;
        self.ring = Some(ring);
        Some(result)
    }

    async fn release(&mut self) -> io::Result<()> {
        let confirmed = self.shared.lock().confirmed;
        if !self.ring.as_ref().is_some_and(|ring| ring.is_releasable(confirmed)) {
            return Ok(());
        }
        self.with(move |ring| ring.release(confirmed)).await.unwrap_or(Ok(()))
    }

    async fn spill(&mut self, last: bool) -> io::Result<()> {
        let (entries, first) = {
            let queue = self.shared.lock();
            let waited = queue.since.is_some_and(|since| since.elapsed() >= SPILL_AFTER);
            if !(last || waited || queue.uses_disk() || queue.back.len() >= SPILL_AT) {
                return Ok(());
            }
            // A copy: they can be taken and confirmed while they are being written.
            (queue.back.iter().cloned().collect::<Vec<_>>(), queue.back_first)
        };
        if entries.is_empty() {
            return Ok(());
        }
        let Some(appended) = self.with(move |ring| ring.append(&entries, first)).await else { return Ok(()) };
        let mut queue = self.shared.lock();
        let upto = first + appended.count as u64;
        queue.forget_back(upto);
        if !queue.back.is_empty() {
            queue.since = Some(Instant::now());
        }
        queue.dropped += appended.dropped;
        let confirmed = queue.confirmed;
        queue.stored = self.ring.as_ref().map_or(0, |ring| ring.stored(confirmed));
        drop(queue);
        appended.error.map_or(Ok(()), Err)
    }

    /// Reads the oldest file once all before it has been confirmed.
    async fn load(&mut self) {
        loop {
            {
                let queue = self.shared.lock();
                if !queue.front.is_empty() || queue.stored == 0 {
                    break;
                }
            }
            let Some(Some(loaded)) = self.with(Ring::load).await else { break };
            let mut queue = self.shared.lock();
            queue.dropped += loaded.lost;
            queue.front_first = loaded.end - loaded.entries.len() as u64;
            queue.front = loaded.entries.into();
            if queue.front.is_empty() {
                queue.confirmed = queue.confirmed.max(loaded.end);
            }
            let confirmed = queue.confirmed;
            // Some may have been confirmed while they were on their way to the disk.
            queue.forget_front(confirmed);
            queue.stored = self.ring.as_ref().map_or(0, |ring| ring.stored(confirmed));
        }
        self.shared.fill();
    }

    fn failed(&mut self, error: &io::Error) {
        self.failed_at = Some(Instant::now());
        let mut queue = self.shared.lock();
        if queue.trouble.replace(error.to_string()).is_none() {
            drop(queue);
            tracing::warn!(%error, dir = %self.dir.display(), "readings cannot be kept on disk; they wait in memory");
        }
    }

    fn recovered(&mut self) {
        self.failed_at = None;
        let trouble = self.shared.lock().trouble.take();
        if trouble.is_some() {
            tracing::info!("readings can be kept on disk again");
        }
    }
}

#[cfg(test)]
mod tests;
