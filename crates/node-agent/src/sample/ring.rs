//! Readings on disk, in files that are written one after the other and deleted
//! from the front. Blocks; the only user is the task in `spill`.
//!
//! A file is named by a growing number and holds records: length (4 bytes, little
//! endian), FNV-1a of what follows (4 bytes), then the reading as JSON. A record is
//! good as a whole or not at all; what lies behind the first bad one of a file is
//! given up, which is what a torn write leaves. An agent never appends to a file of
//! an earlier one. Nothing is synced: after a crash of the host the last readings
//! may be gone, and metrics are not worth a disk's wait.
//!
//! Readings hold figures and ids and no secret, so they are not sealed.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use daemon::files::create_private_dir;

use super::buffer::Entry;

/// Most bytes of all files together: about 90,000 readings, which is 100 instances
/// at the default period for seven hours.
pub(super) const BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A file that has become this long gets no more records.
pub(super) const SEGMENT_BYTES: u64 = 256 * 1024;
/// Most files, however short they are.
const SEGMENTS_MAX: usize = 256;
/// No record is longer; a length beyond it is no length.
const RECORD_MAX: usize = 64 * 1024;
const HEADER: usize = 8;
const SUFFIX: &str = ".samples";

/// The readings that are in files when an agent starts are numbered up to here, and
/// new ones from here on.
pub(super) const BASE: u64 = 1 << 40;

/// What the ring asks of a disk. Tests put one in between that is full.
pub(super) trait Volume: Send {
    fn append(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }
}

/// The real one.
pub(super) struct Disk;

impl Volume for Disk {}

struct Segment {
    index: u64,
    /// The number of its first reading.
    first: u64,
    count: u64,
    bytes: u64,
    /// Whether its readings are in memory as well.
    loaded: bool,
}

impl Segment {
    const fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// What became of an [`Ring::append`].
#[derive(Debug, Default)]
pub(super) struct Appended {
    /// How many are on disk now, from the front.
    pub(super) count: usize,
    /// How many older ones made room for them.
    pub(super) dropped: u64,
    /// Why it were not all.
    pub(super) error: Option<io::Error>,
}

/// The readings of one file.
pub(super) struct Loaded {
    pub(super) entries: Vec<Entry>,
    /// The number behind the last one.
    pub(super) end: u64,
    /// How many of the file could not be read.
    pub(super) lost: u64,
}

pub(super) struct Ring {
    dir: PathBuf,
    volume: Box<dyn Volume>,
    limit: u64,
    segments: VecDeque<Segment>,
    /// The last segment, while it may grow.
    current: Option<File>,
    next_index: u64,
}

impl Ring {
    /// Finds what an earlier agent left in `dir`, and makes the directory where it
    /// is missing.
    pub(super) fn open(dir: &Path, volume: Box<dyn Volume>, limit: u64) -> io::Result<Self> {
        create_private_dir(dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let index = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse::<u64>().ok());
            found.extend(index);
        }
        found.sort_unstable();
        let mut ring = Self {
            dir: dir.to_owned(),
            volume,
            limit,
            segments: VecDeque::new(),
            current: None,
            next_index: found.last().map_or(0, |last| last.saturating_add(1)),
        };
        for index in found {
            // One that cannot be read now cannot be read later either.
            let bytes = fs::read(ring.path(index)).unwrap_or_default();
            let count = records(&bytes).count() as u64;
            if count == 0 {
                let _ = fs::remove_file(ring.path(index));
                continue;
            }
            let bytes = bytes.len() as u64;
            ring.segments.push_back(Segment { index, first: 0, count, bytes, loaded: false });
        }
        let mut end = BASE;
        for segment in ring.segments.iter_mut().rev() {
            segment.first = end.saturating_sub(segment.count);
            end = segment.first;
        }
        Ok(ring)
    }

    fn path(&self, index: u64) -> PathBuf {
        self.dir.join(format!("{index:020}{SUFFIX}"))
    }

    /// How many readings are here and not in memory, but those below `confirmed`.
    pub(super) fn stored(&self, confirmed: u64) -> u64 {
        let unread = self.segments.iter().filter(|segment| !segment.loaded);
        unread.map(|segment| segment.end().saturating_sub(segment.first.max(confirmed))).sum()
    }

    /// Whether [`Ring::release`] would delete something.
    pub(super) fn is_releasable(&self, confirmed: u64) -> bool {
        self.segments.front().is_some_and(|segment| segment.end() <= confirmed)
    }

    /// Deletes files whose readings are all below `confirmed`.
    pub(super) fn release(&mut self, confirmed: u64) -> io::Result<()> {
        while self.is_releasable(confirmed) {
            self.remove_front()?;
        }
        Ok(())
    }

    /// Deletes the oldest file; says how many readings are lost by that.
    fn remove_front(&mut self) -> io::Result<u64> {
        let Some(segment) = self.segments.front() else { return Ok(0) };
        match fs::remove_file(self.path(segment.index)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let lost = if segment.loaded { 0 } else { segment.count };
        self.segments.pop_front();
        if self.segments.is_empty() {
            self.current = None;
        }
        Ok(lost)
    }

    /// Appends readings, of which the first has the number `first`. On an error
    /// those that are not on disk are still the caller's.
    pub(super) fn append(&mut self, entries: &[Entry], first: u64) -> Appended {
        let mut appended = Appended::default();
        while let Some(rest) = entries.get(appended.count..).filter(|rest| !rest.is_empty()) {
            let number = first + appended.count as u64;
            let mut written = self.append_some(rest, number);
            if matches!(&written, Err(error) if error.kind() == io::ErrorKind::StorageFull) {
                // The oldest make room. Once: who else fills the disk may fill that too.
                if let Ok(lost) = self.remove_front() {
                    appended.dropped += lost;
                    written = self.append_some(rest, number);
                }
            }
            match written {
                Ok(count) => appended.count += count,
                Err(error) => {
                    appended.error = Some(error);
                    break;
                }
            }
        }
        while self.segments.len() > 1
            && (self.segments.len() > SEGMENTS_MAX
                || self.segments.iter().map(|s| s.bytes).sum::<u64>() > self.limit)
        {
            match self.remove_front() {
                Ok(lost) => appended.dropped += lost,
                Err(error) => {
                    appended.error.get_or_insert(error);
                    break;
                }
            }
        }
        appended
    }

    /// Appends as many as the present file takes, at least one.
    fn append_some(&mut self, entries: &[Entry], first: u64) -> io::Result<usize> {
        if self.current.is_none() || self.segments.back().is_none_or(|s| s.bytes >= SEGMENT_BYTES || s.loaded)
        {
            self.begin(first)?;
        }
        let (Some(file), Some(segment)) = (self.current.as_mut(), self.segments.back_mut()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let room = SEGMENT_BYTES.saturating_sub(segment.bytes);
        let (mut bytes, mut count) = (Vec::new(), 0);
        for entry in entries {
            if count > 0 && bytes.len() as u64 >= room {
                break;
            }
            encode(entry, &mut bytes)?;
            count += 1;
        }
        if let Err(error) = self.volume.append(file, &bytes) {
            // What reached the disk of it is cut off, or lies in a file that gets no more.
            let kept = file.set_len(segment.bytes).is_ok();
            if !kept || segment.count == 0 {
                self.current = None;
            }
            if segment.count == 0 {
                let path = self.dir.join(format!("{:020}{SUFFIX}", segment.index));
                let _ = fs::remove_file(path);
                self.segments.pop_back();
            }
            return Err(error);
        }
        segment.bytes += bytes.len() as u64;
        segment.count += count as u64;
        Ok(count)
    }

    fn begin(&mut self, first: u64) -> io::Result<()> {
        self.current = None;
        let index = self.next_index;
        let made = OpenOptions::new().append(true).create_new(true).mode(0o600).open(self.path(index))?;
        self.next_index += 1;
        self.current = Some(made);
        self.segments.push_back(Segment { index, first, count: 0, bytes: 0, loaded: false });
        Ok(())
    }

    /// Reads the oldest file that is not in memory yet. A file that cannot be read
    /// gives no readings, and counts as lost.
    pub(super) fn load(&mut self) -> Option<Loaded> {
        let position = self.segments.iter().position(|segment| !segment.loaded)?;
        let path = self.segments.get(position).map(|segment| self.path(segment.index))?;
        let segment = self.segments.get_mut(position)?;
        segment.loaded = true;
        let bytes = fs::read(path).unwrap_or_default();
        let entries: Vec<Entry> = records(&bytes).filter_map(|r| serde_json::from_slice(r).ok()).collect();
        // Of a file that changed under our hands no more than was there before.
        let count = usize::try_from(segment.count).unwrap_or(usize::MAX);
        let entries: Vec<Entry> = entries.into_iter().take(count).collect();
        let lost = segment.count - entries.len() as u64;
        Some(Loaded { entries, end: segment.end(), lost })
    }
}

fn encode(entry: &Entry, into: &mut Vec<u8>) -> io::Result<()> {
    let start = into.len();
    into.extend_from_slice(&[0; HEADER]);
    serde_json::to_writer(&mut *into, entry)?;
    let record = into.get(start + HEADER..).unwrap_or_default();
    let length = u32::try_from(record.len()).map_err(io::Error::other)?;
    let check = fnv1a(record);
    let header = [length.to_le_bytes(), check.to_le_bytes()].concat();
    if let Some(place) = into.get_mut(start..start + HEADER) {
        place.copy_from_slice(&header);
    }
    Ok(())
}

/// The good records of a file, up to the first bad one.
fn records(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (check, tail) = tail.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|l| *l <= RECORD_MAX)?;
        let (record, tail) = tail.split_at_checked(length)?;
        if fnv1a(record) != u32::from_le_bytes(*check) {
            return None;
        }
        rest = tail;
        Some(record)
    })
}

/// Tells a record that was torn from one that was not; no defence against people.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests;
