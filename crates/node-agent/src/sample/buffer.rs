//! Readings on their way to the controller.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::sample::InstanceSample;
use tokio::sync::Notify;

/// Most readings that wait. At the default period that is a hundred instances for
/// almost an hour; what a longer absence of the controller costs is the oldest.
const CAPACITY: usize = 10_000;

/// Holds readings until the controller has them; the oldest are dropped first.
/// Clones share everything. Any number may push, one may take.
#[derive(Clone)]
pub struct SampleBuffer(Arc<Shared>);

struct Shared {
    /// Held for moving readings only, never across an await.
    queue: Mutex<Queue>,
    filled: Notify,
    capacity: usize,
}

#[derive(Default)]
struct Queue {
    samples: VecDeque<InstanceSample>,
    /// How many have left the front, so that a reading has a number for good.
    gone: u64,
    /// The number of the first reading that was last handed out.
    peeked: u64,
}

impl Queue {
    fn drop_front(&mut self, count: usize) {
        let dropped = self.samples.drain(..count.min(self.samples.len())).count();
        self.gone += dropped as u64;
    }
}

impl Default for SampleBuffer {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl SampleBuffer {
    /// An empty buffer of the usual size.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with_capacity(capacity: usize) -> Self {
        Self(Arc::new(Shared { queue: Mutex::default(), filled: Notify::new(), capacity }))
    }

    /// Adds readings; where there is no room, the oldest make it.
    pub fn push(&self, samples: Vec<InstanceSample>) {
        if samples.is_empty() {
            return;
        }
        let mut queue = self.lock();
        queue.samples.extend(samples);
        let over = queue.samples.len().saturating_sub(self.0.capacity);
        queue.drop_front(over);
        drop(queue);
        self.0.filled.notify_one();
    }

    /// The oldest readings, at most `max`. They stay until they are confirmed.
    #[must_use]
    pub fn peek(&self, max: usize) -> Vec<InstanceSample> {
        let mut queue = self.lock();
        queue.peeked = queue.gone;
        queue.samples.iter().take(max).cloned().collect()
    }

    /// Forgets the first `count` readings of the last [`SampleBuffer::peek`]:
    /// exactly those, even where the buffer has overflowed in the meantime.
    pub fn confirm(&self, count: usize) {
        let mut queue = self.lock();
        let upto = queue.peeked.saturating_add(count as u64);
        let left = usize::try_from(upto.saturating_sub(queue.gone)).unwrap_or(usize::MAX);
        queue.drop_front(left);
    }

    /// Waits until there is a reading.
    pub async fn notified(&self) {
        while self.lock().samples.is_empty() {
            self.0.filled.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic cannot leave the queue half changed, so a poisoned lock is fine.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use domain::{Timestamp, id::InstanceId};
    use uuid::Uuid;

    use super::*;

    fn samples(numbers: std::ops::Range<u64>) -> Vec<InstanceSample> {
        let sample = |n| InstanceSample {
            instance_id: InstanceId::from_uuid(Uuid::nil()),
            at: Timestamp::UNIX_EPOCH,
            cpu_percent: None,
            memory_bytes: Some(n),
            memory_limit_bytes: None,
            network_rx_bytes: None,
            network_tx_bytes: None,
        };
        numbers.map(sample).collect()
    }

    fn numbers(samples: &[InstanceSample]) -> Vec<u64> {
        samples.iter().filter_map(|s| s.memory_bytes).collect()
    }

    #[test]
    fn readings_stay_until_they_are_confirmed() {
        let buffer = SampleBuffer::new();
        buffer.push(samples(0..5));
        assert_eq!(numbers(&buffer.peek(3)), [0, 1, 2]);
        assert_eq!(numbers(&buffer.peek(3)), [0, 1, 2]);
        buffer.confirm(3);
        assert_eq!(numbers(&buffer.peek(3)), [3, 4]);
    }

    #[test]
    fn the_oldest_make_room() {
        let buffer = SampleBuffer::with_capacity(4);
        buffer.push(samples(0..3));
        buffer.push(samples(3..6));
        assert_eq!(numbers(&buffer.peek(9)), [2, 3, 4, 5]);
    }

    #[test]
    fn confirming_after_an_overflow_takes_nothing_that_was_not_handed_out() {
        let buffer = SampleBuffer::with_capacity(4);
        buffer.push(samples(0..4));
        assert_eq!(numbers(&buffer.peek(3)), [0, 1, 2]);
        buffer.push(samples(4..6));
        buffer.confirm(3);
        assert_eq!(numbers(&buffer.peek(9)), [3, 4, 5]);
    }

    #[tokio::test]
    async fn a_reading_wakes_whoever_waits() {
        let buffer = SampleBuffer::new();
        let waiting = buffer.clone();
        let ((), ()) =
            tokio::join!(async move { waiting.notified().await }, async { buffer.push(samples(0..1)) });
        buffer.notified().await;
    }
}
