//! Readings on their way to the controller.
//!
//! They wait in memory, and go to disk when they wait for long or become many: the
//! controller is away then. The order is kept: what is on disk is older than what
//! was pushed since, and is sent first. Every reading has a number; `front` holds
//! the oldest file's content, `back` what is not on disk yet.
//!
//! Nothing here touches the disk: `spill` moves readings between the two ends.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::sample::{HostSample, InstanceSample};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::Instant};

use super::ring::BASE;

/// Most readings in memory that are not on disk. Without a disk that is a hundred
/// instances at the default period for almost an hour; what a longer absence of the
/// controller costs is the oldest.
const CAPACITY: usize = 10_000;
/// So many in memory, and they go to disk.
pub(super) const SPILL_AT: usize = 2_000;

/// A reading that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Of an instance.
    Instance(InstanceSample),
    /// Of this host.
    Host(Box<HostSample>),
}

/// Holds readings until the controller has them; the oldest are dropped first.
/// Clones share everything. Any number may push, one may take.
#[derive(Clone)]
pub struct SampleBuffer(pub(super) Arc<Shared>);

pub(super) struct Shared {
    /// Held for moving readings only, never across an await.
    queue: Mutex<Queue>,
    filled: Notify,
    /// There is something to do for the disk.
    pub(super) work: Notify,
    capacity: usize,
}

/// How the buffer stands, for who asks at the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BufferStatus {
    /// Readings that the controller does not have yet.
    pub waiting: usize,
    /// How many of them are on disk only.
    pub on_disk: usize,
    /// Readings that were ever dropped for lack of room, or lost on disk.
    pub dropped: u64,
    /// Why readings cannot be written to disk; `None` while they can.
    pub trouble: Option<String>,
}

#[derive(Default)]
pub(super) struct Queue {
    /// Read from disk, where they stay until they are confirmed.
    pub(super) front: VecDeque<Entry>,
    pub(super) front_first: u64,
    /// How many are on disk and in neither of the two.
    pub(super) stored: u64,
    /// Not on disk.
    pub(super) back: VecDeque<Entry>,
    pub(super) back_first: u64,
    /// Since when the oldest in `back` waits.
    pub(super) since: Option<Instant>,
    /// All below have reached the controller.
    pub(super) confirmed: u64,
    /// The number of the first reading that was last handed out.
    peeked: u64,
    pub(super) dropped: u64,
    pub(super) trouble: Option<String>,
}

impl Queue {
    /// Takes away the readings of `front` below a number.
    pub(super) fn forget_front(&mut self, upto: u64) {
        forget(&mut self.front, &mut self.front_first, upto);
    }

    /// Takes away the readings of `back` below a number.
    pub(super) fn forget_back(&mut self, upto: u64) {
        forget(&mut self.back, &mut self.back_first, upto);
        if self.back.is_empty() {
            self.since = None;
        }
    }

    /// What can be handed out now: the oldest, unless those have to be read first.
    fn ready(&self) -> (&VecDeque<Entry>, u64) {
        if self.front.is_empty() && self.stored == 0 {
            (&self.back, self.back_first)
        } else {
            (&self.front, self.front_first)
        }
    }

    /// Whether older readings than those in `back` are on disk.
    pub(super) fn uses_disk(&self) -> bool {
        self.stored > 0 || !self.front.is_empty()
    }
}

fn forget(entries: &mut VecDeque<Entry>, first: &mut u64, upto: u64) {
    let count = usize::try_from(upto.saturating_sub(*first)).unwrap_or(usize::MAX).min(entries.len());
    entries.drain(..count);
    *first += count as u64;
}

impl Default for SampleBuffer {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl SampleBuffer {
    /// An empty buffer of the usual size, in memory only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn with_capacity(capacity: usize) -> Self {
        let queue = Queue { back_first: BASE, ..Queue::default() };
        let (filled, work) = (Notify::new(), Notify::new());
        Self(Arc::new(Shared { queue: Mutex::new(queue), filled, work, capacity }))
    }

    /// Adds readings of instances; where there is no room, the oldest make it.
    pub fn push(&self, samples: Vec<InstanceSample>) {
        self.add(samples.into_iter().map(Entry::Instance));
    }

    /// Adds a reading of the host; where there is no room, the oldest makes it.
    pub fn push_host(&self, sample: HostSample) {
        self.add([Entry::Host(Box::new(sample))].into_iter());
    }

    fn add(&self, entries: impl Iterator<Item = Entry>) {
        let mut queue = self.0.lock();
        queue.back.extend(entries);
        if queue.back.is_empty() {
            return;
        }
        let over = queue.back.len().saturating_sub(self.0.capacity);
        let upto = queue.back_first + over as u64;
        queue.forget_back(upto);
        queue.dropped += over as u64;
        queue.since.get_or_insert_with(Instant::now);
        let work = queue.back.len() >= SPILL_AT || queue.uses_disk();
        drop(queue);
        if work {
            self.0.work.notify_one();
        }
        self.0.filled.notify_one();
    }

    /// How many readings wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.status().waiting
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> BufferStatus {
        let queue = self.0.lock();
        let on_disk = usize::try_from(queue.stored).unwrap_or(usize::MAX);
        BufferStatus {
            waiting: (queue.front.len() + queue.back.len()).saturating_add(on_disk),
            on_disk,
            dropped: queue.dropped,
            trouble: queue.trouble.clone(),
        }
    }

    /// The oldest readings, at most `max`; none while the oldest are being read from
    /// disk. They stay until they are confirmed.
    #[must_use]
    pub fn peek(&self, max: usize) -> Vec<Entry> {
        let mut queue = self.0.lock();
        let (ready, first) = queue.ready();
        let entries = ready.iter().take(max).cloned().collect();
        queue.peeked = first;
        entries
    }

    /// Forgets the first `count` readings of the last [`SampleBuffer::peek`]:
    /// exactly those, even where the buffer has overflowed or has moved readings to
    /// disk in the meantime.
    pub fn confirm(&self, count: usize) {
        let mut queue = self.0.lock();
        let upto = queue.peeked.saturating_add(count as u64);
        queue.confirmed = queue.confirmed.max(upto);
        let used_disk = queue.uses_disk();
        queue.forget_front(upto);
        queue.forget_back(upto);
        drop(queue);
        if used_disk {
            self.0.work.notify_one();
        }
    }

    /// Waits until [`SampleBuffer::peek`] would give a reading.
    pub async fn notified(&self) {
        while self.0.lock().ready().0.is_empty() {
            self.0.filled.notified().await;
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic cannot leave the queue half changed, so a poisoned lock is fine.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits for readings.
    pub(super) fn fill(&self) {
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests;
