use domain::{
    Timestamp,
    id::InstanceId,
    sample::{HostSample, InstanceSample},
};
use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

fn entry(n: u64) -> Entry {
    if n.is_multiple_of(7) {
        let reasons = vec!["disk / has 1 % free".into()];
        Entry::Host(Box::new(HostSample { memory_bytes: Some(n), reasons, ..HostSample::default() }))
    } else {
        let sample = InstanceSample::empty(InstanceId::from_uuid(Uuid::nil()), Timestamp::UNIX_EPOCH);
        Entry::Instance(InstanceSample { memory_bytes: Some(n), cpu_percent: Some(1.5), ..sample })
    }
}

fn entries(numbers: std::ops::Range<u64>) -> Vec<Entry> {
    numbers.map(entry).collect()
}

fn number(entry: &Entry) -> u64 {
    match entry {
        Entry::Instance(sample) => sample.memory_bytes.unwrap(),
        Entry::Host(sample) => sample.memory_bytes.unwrap(),
    }
}

fn open(dir: &Path) -> Ring {
    Ring::open(dir, Box::new(Disk), BYTES_MAX).unwrap()
}

/// All that is left, in the order in which it is handed out.
fn drain(ring: &mut Ring) -> Vec<Entry> {
    let mut all = Vec::new();
    while let Some(loaded) = ring.load() {
        all.extend(loaded.entries);
        ring.release(loaded.end).unwrap();
    }
    all
}

fn append(ring: &mut Ring, entries: &[Entry], first: u64) -> u64 {
    let appended = ring.append(entries, first);
    assert!(appended.error.is_none() && appended.count == entries.len(), "{appended:?}");
    appended.dropped
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn readings_come_back_as_they_went_in_their_order_also_for_the_next_agent() {
    let dir = tempfile::tempdir().unwrap();
    let mut ring = open(dir.path());
    append(&mut ring, &entries(0..1500), BASE);
    append(&mut ring, &entries(1500..1600), BASE + 1500);
    assert!(ring.segments.len() > 1 && ring.stored(0) == 1600, "{}", ring.segments.len());
    drop(ring);
    let mut ring = open(dir.path());
    assert_eq!(ring.stored(0), 1600);
    append(&mut ring, &entries(1600..1700), BASE);
    assert_eq!(drain(&mut ring), entries(0..1700));
    assert_eq!(files(&dir), [""; 0].map(PathBuf::from), "what was taken is still there");
}

#[test]
fn what_was_loaded_and_not_confirmed_comes_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut ring = open(dir.path());
    append(&mut ring, &entries(0..10), BASE);
    let loaded = ring.load().unwrap();
    assert_eq!((loaded.end, loaded.lost, ring.stored(0)), (BASE + 10, 0, 0));
    ring.release(BASE + 9).unwrap();
    assert_eq!(drain(&mut open(dir.path())), entries(0..10));
}

#[test]
fn readings_that_were_confirmed_on_their_way_to_the_disk_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut ring = open(dir.path());
    append(&mut ring, &entries(0..10), BASE);
    assert_eq!(ring.stored(BASE + 4), 6);
    ring.release(BASE + 10).unwrap();
    assert_eq!((ring.stored(0), files(&dir).len()), (0, 0));
}

#[test]
fn beyond_the_bound_the_oldest_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 4 * SEGMENT_BYTES;
    let mut ring = Ring::open(dir.path(), Box::new(Disk), limit).unwrap();
    let (mut dropped, total) = (0, 10_000u64);
    for first in (0..total).step_by(100) {
        dropped += append(&mut ring, &entries(first..first + 100), BASE + first);
        let size: u64 = files(&dir).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(size <= limit, "{size}");
    }
    assert!(dropped > 0 && ring.stored(0) == total - dropped, "{dropped}");
    assert_eq!(drain(&mut ring), entries(dropped..total));
}

/// A disk that takes some bytes and then no more, until somebody makes room.
struct Full {
    room: std::sync::Arc<std::sync::Mutex<usize>>,
}

impl Volume for Full {
    fn append(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let mut room = self.room.lock().unwrap();
        if *room >= bytes.len() {
            *room -= bytes.len();
            return file.write_all(bytes);
        }
        let part = bytes.get(..*room).unwrap();
        *room = 0;
        file.write_all(part)?;
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_full_disk_takes_nothing_by_halves_and_what_is_there_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let room = std::sync::Arc::new(std::sync::Mutex::new(usize::MAX));
    let mut ring = Ring::open(dir.path(), Box::new(Full { room: room.clone() }), BYTES_MAX).unwrap();
    append(&mut ring, &entries(0..1000), BASE);
    let kept = ring.stored(0);
    *room.lock().unwrap() = 500;
    let appended = ring.append(&entries(1000..1010), BASE + 1000);
    assert!(appended.error.is_some() && appended.count == 0, "{appended:?}");
    // The oldest file was given up for room that somebody else took.
    assert_eq!(ring.stored(0), kept - appended.dropped);
    *room.lock().unwrap() = usize::MAX;
    append(&mut ring, &entries(1000..1010), BASE + 1000);
    assert_eq!(drain(&mut ring), entries(appended.dropped..1010));
}

#[test]
fn foreign_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    fs::write(dir.path().join("x.samples"), "mine").unwrap();
    let mut ring = open(dir.path());
    append(&mut ring, &entries(0..1), BASE);
    assert_eq!(drain(&mut ring), entries(0..1));
    assert_eq!(files(&dir).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Cut anywhere, or with any bytes changed: what is left comes in its order, and
    /// all that lies before the damage is there.
    #[test]
    fn a_file_torn_at_any_byte_loses_what_lies_behind_and_nothing_else(
        count in 1u64..20, more in 1u64..20,
        at in any::<prop::sample::Index>(), cut: bool, damage in vec(any::<u8>(), 1..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        append(&mut open(dir.path()), &entries(0..count), BASE);
        // The next agent begins a file of its own.
        append(&mut open(dir.path()), &entries(count..count + more), BASE);
        let torn = files(&dir).remove(0);
        let mut bytes = fs::read(&torn).unwrap();
        let at = at.index(bytes.len());
        let ends = records(&bytes).scan(0, |end, r| { *end += HEADER + r.len(); Some(*end) });
        let whole = ends.take_while(|end| *end <= at).count() as u64;
        if cut {
            bytes.truncate(at);
        } else {
            let end = (at + damage.len()).min(bytes.len());
            bytes.splice(at..end, damage);
        }
        fs::write(&torn, &bytes).unwrap();
        let mut ring = open(dir.path());
        let stored = ring.stored(0);
        let left: Vec<u64> = drain(&mut ring).iter().map(number).collect();
        prop_assert_eq!(left.len() as u64, stored);
        prop_assert!(left.is_sorted(), "{left:?}");
        let all_before: Vec<u64> = (0..whole).chain(count..count + more).collect();
        prop_assert!(all_before.iter().all(|n| left.contains(n)), "{left:?} lacks some of {all_before:?}");
    }

    #[test]
    fn any_bytes_are_read_without_a_fault(bytes in vec(any::<u8>(), 0..2000)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("00000000000000000001.samples"), bytes).unwrap();
        let mut ring = open(dir.path());
        append(&mut ring, &entries(0..2), BASE);
        let left = drain(&mut ring);
        prop_assert_eq!(&left[left.len() - 2..], entries(0..2));
    }
}
