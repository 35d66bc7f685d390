use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use domain::{Timestamp, id::InstanceId, sample::InstanceSample};
use tokio::time::{advance, timeout};
use uuid::Uuid;

use super::*;
use crate::sample::Entry;
use crate::sample::testing::played;

struct Agent {
    buffer: SampleBuffer,
    supervisor: Supervisor,
}

/// A disk that can be full.
#[derive(Clone, Default)]
struct Faulty(Arc<AtomicBool>);

impl Volume for Faulty {
    fn append(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => file.write_all(bytes),
        }
    }
}

impl Agent {
    fn start(dir: &Path) -> Self {
        Self::with(dir, Faulty::default())
    }

    fn with(dir: &Path, disk: Faulty) -> Self {
        let (supervisor, buffer) = (Supervisor::new(tokio::runtime::Handle::current()), SampleBuffer::new());
        keep(&supervisor, &buffer, dir.into(), move || Box::new(disk.clone()));
        Self { buffer, supervisor }
    }

    async fn stop(self) {
        assert!(self.supervisor.shut_down(Duration::from_secs(30)).await);
    }

    /// Waits until the buffer stands as `check` wants it.
    async fn until(&self, check: impl Fn(&SampleBuffer) -> bool) {
        let begun = std::time::Instant::now();
        while !check(&self.buffer) {
            assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain: {:?}", self.buffer.status());
            tokio::task::yield_now().await;
            spawn_blocking(|| ()).await.unwrap();
        }
    }

    /// Takes all that waits, in batches.
    async fn take(&self, count: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        while taken.len() < count {
            timeout(Duration::from_secs(3600), self.buffer.notified()).await.unwrap();
            let batch = self.buffer.peek((count - taken.len()).min(700));
            self.buffer.confirm(batch.len());
            taken.extend(batch.iter().map(|entry| match entry {
                Entry::Instance(sample) => sample.memory_bytes.unwrap(),
                Entry::Host(_) => panic!("no host was read"),
            }));
        }
        taken
    }
}

fn samples(numbers: std::ops::Range<u64>) -> Vec<InstanceSample> {
    let sample = InstanceSample::empty(InstanceId::from_uuid(Uuid::nil()), Timestamp::UNIX_EPOCH);
    numbers.map(|n| InstanceSample { memory_bytes: Some(n), ..sample.clone() }).collect()
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[tokio::test]
async fn few_readings_that_are_taken_never_see_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(dir.path());
    agent.buffer.push(samples(0..50));
    assert_eq!(agent.take(50).await, numbers(0..50));
    agent.stop().await;
    assert_eq!(files(dir.path()), 0);
}

#[tokio::test]
async fn many_readings_go_to_disk_and_come_back_in_their_order_while_more_come() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(dir.path());
    for first in (0..5_000).step_by(100) {
        agent.buffer.push(samples(first..first + 100));
    }
    agent.until(|buffer| buffer.status().on_disk > 0).await;
    let mut taken = agent.take(1_000).await;
    agent.buffer.push(samples(5_000..5_100));
    taken.extend(agent.take(5_100 - taken.len()).await);
    assert_eq!(taken, numbers(0..5_100));
    assert_eq!(agent.buffer.waiting(), 0);
    agent.until(|_| files(dir.path()) == 0).await;
    agent.stop().await;
}

#[tokio::test]
async fn what_waits_when_an_agent_stops_is_the_next_ones_and_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(dir.path());
    agent.buffer.push(samples(0..30));
    let batch = agent.buffer.peek(10);
    agent.buffer.confirm(batch.len());
    agent.stop().await;
    assert_eq!(files(dir.path()), 1);
    let next = Agent::start(dir.path());
    next.until(|buffer| buffer.waiting() == 20).await;
    next.buffer.push(samples(30..40));
    assert_eq!(next.take(30).await, numbers(10..40));
    next.stop().await;
    assert_eq!(files(dir.path()), 0);
}

#[test]
fn a_reading_that_waits_for_a_minute_goes_to_disk() {
    played(async {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path());
        agent.buffer.push(samples(0..3));
        let begun = Instant::now();
        while files(dir.path()) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "it did not");
            advance(Duration::from_secs(1)).await;
            spawn_blocking(|| ()).await.unwrap();
        }
        assert!(begun.elapsed() >= SPILL_AFTER, "{:?}", begun.elapsed());
        agent.until(|buffer| buffer.status().waiting == 3).await;
        // Killed: nothing is stopped in order, and the next agent finds it all the same.
        drop(agent);
        let next = Agent::start(dir.path());
        assert_eq!(next.take(3).await, numbers(0..3));
        next.stop().await;
    });
}

#[tokio::test]
async fn a_batch_that_is_on_its_way_while_it_goes_to_disk_is_confirmed_once() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(dir.path());
    agent.buffer.push(samples(0..100));
    let batch = agent.buffer.peek(60);
    agent.buffer.push(samples(100..2_500));
    agent.until(|buffer| buffer.status().on_disk > 0).await;
    agent.buffer.confirm(batch.len());
    assert_eq!(agent.take(2_440).await, numbers(60..2_500));
    agent.stop().await;
}

#[test]
fn a_full_disk_leaves_readings_in_memory_is_told_and_tried_again() {
    played(async {
        let dir = tempfile::tempdir().unwrap();
        let disk = Faulty::default();
        disk.0.store(true, Ordering::SeqCst);
        let agent = Agent::with(dir.path(), disk.clone());
        agent.buffer.push(samples(0..9_000));
        agent.until(|buffer| buffer.status().trouble.is_some()).await;
        agent.buffer.push(samples(9_000..12_000));
        let status = agent.buffer.status();
        assert_eq!((status.waiting, status.on_disk, status.dropped), (10_000, 0, 2_000));
        disk.0.store(false, Ordering::SeqCst);
        // Not before its time, and then by itself.
        for _ in 0..100 {
            advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
        agent.until(|buffer| buffer.status().trouble.is_none()).await;
        assert_eq!(agent.take(10_000).await, numbers(2_000..12_000));
        agent.stop().await;
    });
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_leaves_readings_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("samples");
    fs::write(&path, "a file is in the way").unwrap();
    let agent = Agent::start(&path);
    agent.buffer.push(samples(0..3_000));
    agent.until(|buffer| buffer.status().trouble.is_some()).await;
    assert_eq!(agent.take(3_000).await, numbers(0..3_000));
    agent.stop().await;
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file is in the way");
}
