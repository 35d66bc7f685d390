use domain::{Timestamp, id::InstanceId};
use uuid::Uuid;

use super::*;

fn samples(numbers: std::ops::Range<u64>) -> Vec<InstanceSample> {
    let sample = |n| InstanceSample {
        memory_bytes: Some(n),
        ..InstanceSample::empty(InstanceId::from_uuid(Uuid::nil()), Timestamp::UNIX_EPOCH)
    };
    numbers.map(sample).collect()
}

fn numbers(entries: &[Entry]) -> Vec<u64> {
    let number = |entry: &Entry| match entry {
        Entry::Instance(sample) => sample.memory_bytes,
        Entry::Host(sample) => sample.memory_bytes,
    };
    entries.iter().filter_map(number).collect()
}

#[test]
fn readings_stay_until_they_are_confirmed() {
    let buffer = SampleBuffer::new();
    buffer.push(samples(0..3));
    buffer.push_host(HostSample { memory_bytes: Some(3), ..HostSample::default() });
    buffer.push(samples(4..5));
    assert_eq!(numbers(&buffer.peek(3)), [0, 1, 2]);
    assert_eq!(numbers(&buffer.peek(3)), [0, 1, 2]);
    buffer.confirm(3);
    assert_eq!(numbers(&buffer.peek(3)), [3, 4]);
    assert_eq!(buffer.status(), BufferStatus { waiting: 2, ..BufferStatus::default() });
}

#[test]
fn the_oldest_make_room() {
    let buffer = SampleBuffer::with_capacity(4);
    buffer.push(samples(0..3));
    buffer.push(samples(3..6));
    assert_eq!(numbers(&buffer.peek(9)), [2, 3, 4, 5]);
    assert_eq!(buffer.status(), BufferStatus { waiting: 4, dropped: 2, ..BufferStatus::default() });
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
