//! Reads what one container uses, from files of the kernel.
//!
//! Where a container's files are is found out once and remembered while it runs, and
//! all files go through one piece of memory: a reading is a handful of system calls
//! and no more.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use domain::Timestamp;
use rustix::fs::{Mode, OFlags};

use super::{
    cgroup::{self, Group, Place, V1},
    net,
};
use crate::runtime::{RunningContainer, Usage};

/// Most bytes of a file that are looked at. The longest, version 2's `memory.stat`,
/// has about two thousand.
const FILE_MAX: usize = 64 * 1024;

/// Where the kernel's files are, and what was found there.
pub(super) struct Reader {
    proc: PathBuf,
    cgroup: PathBuf,
    known: BTreeMap<String, Known>,
    file: TextFile,
}

impl Default for Reader {
    fn default() -> Self {
        Self::at("/proc".into(), "/sys/fs/cgroup".into())
    }
}

/// What was read of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) usage: Usage,
    /// The limit in force.
    pub(super) memory_limit_bytes: Option<u64>,
}

/// The files of one run of a container.
struct Known {
    pid: u32,
    started_at: Timestamp,
    net: PathBuf,
    files: Files,
}

enum Files {
    V1(Box<FilesV1>),
    V2(Box<FilesV2>),
}

struct FilesV1 {
    cpu_usage: PathBuf,
    cpu_stat: Option<PathBuf>,
    memory_usage: PathBuf,
    memory_stat: PathBuf,
    memory_limit: PathBuf,
    memory_oom: PathBuf,
    blocks: Option<PathBuf>,
    pids: Option<PathBuf>,
}

struct FilesV2 {
    cpu_stat: PathBuf,
    memory_usage: PathBuf,
    memory_stat: PathBuf,
    memory_limit: PathBuf,
    memory_events: PathBuf,
    io_stat: PathBuf,
    pids: PathBuf,
}

/// Reads one file after the other into the same memory.
#[derive(Default)]
struct TextFile(Vec<u8>);

impl TextFile {
    fn read(&mut self, path: &Path) -> Option<&str> {
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        self.0.resize(FILE_MAX, 0);
        let mut length = 0;
        while let Some(room) = self.0.get_mut(length..).filter(|room| !room.is_empty()) {
            match rustix::io::read(&file, room) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        std::str::from_utf8(self.0.get(..length)?).ok()
    }

    fn number(&mut self, path: &Path) -> Option<u64> {
        self.read(path).and_then(cgroup::number)
    }
}

impl Reader {
    /// One whose files are below `root`.
    #[cfg(test)]
    pub(super) fn below(root: &Path) -> Self {
        Self::at(root.join("proc"), root.join("cgroup"))
    }

    fn at(proc: PathBuf, cgroup: PathBuf) -> Self {
        Self { proc, cgroup, known: BTreeMap::new(), file: TextFile::default() }
    }

    /// Forgets all containers but those that `keep` wants.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.known.retain(|id, _| keep(id));
    }

    /// Reads a container's figures. `None` where the process is gone, is another
    /// one by now, or its files cannot be seen from here. Blocks, for some tens of
    /// microseconds.
    pub(super) fn read(&mut self, container: &RunningContainer) -> Option<Reading> {
        self.look_up(container)?;
        let Self { known, file, .. } = self;
        let known = known.get(&container.container_id)?;
        // Before the rest: while the group is there afterwards, so was the process.
        let traffic = file.read(&known.net).and_then(net::totals);
        let mut reading = match &known.files {
            Files::V1(files) => files.read(file),
            Files::V2(files) => files.read(file),
        };
        if let Some(reading) = &mut reading {
            reading.usage.network_rx_bytes = traffic.map(|(rx, _)| rx);
            reading.usage.network_tx_bytes = traffic.map(|(_, tx)| tx);
        } else {
            self.known.remove(&container.container_id);
        }
        reading
    }

    /// Reads a container's working set and nothing else.
    pub(super) fn read_memory(&mut self, container: &RunningContainer) -> Option<u64> {
        self.look_up(container)?;
        let Self { known, file, .. } = self;
        let bytes = match &known.get(&container.container_id)?.files {
            Files::V1(files) => files.working_set(file),
            Files::V2(files) => files.working_set(file),
        };
        if bytes.is_none() {
            self.known.remove(&container.container_id);
        }
        bytes
    }

    /// Finds a container's files. Process numbers are used again, and so a group is
    /// only taken where it has the container's own name.
    fn look_up(&mut self, container: &RunningContainer) -> Option<()> {
        let RunningContainer { container_id, pid, started_at, .. } = container;
        if self.known.get(container_id).is_some_and(|k| (k.pid, k.started_at) == (*pid, *started_at)) {
            return Some(());
        }
        let process = self.proc.join(pid.to_string());
        let group = Group::parse(self.file.read(&process.join("cgroup"))?, container_id)?;
        let files = match group {
            Group::V1(places) => Files::V1(Box::new(FilesV1::find(&self.cgroup, &places)?)),
            Group::V2(path) => Files::V2(Box::new(FilesV2::of(&self.cgroup.join(path)))),
        };
        let known = Known { pid: *pid, started_at: *started_at, net: process.join("net/dev"), files };
        self.known.insert(container_id.clone(), known);
        Some(())
    }
}

/// The directory of a group, under either name of its hierarchy.
fn directory(root: &Path, place: &Place) -> Option<PathBuf> {
    place.mounts.iter().map(|mount| root.join(mount).join(&place.path)).find(|path| path.is_dir())
}

impl FilesV1 {
    fn find(root: &Path, places: &V1) -> Option<Self> {
        let memory = directory(root, &places.memory)?;
        let other = |place: &Option<Place>| place.as_ref().and_then(|place| directory(root, place));
        // The first counts whatever passes the block layer, with what was made inside;
        // kernels before 4.20 have only the second. The third, of an older scheduler,
        // is for kernels without throttling.
        let blocks = other(&places.blkio).and_then(|dir| {
            let names = [
                "blkio.throttle.io_service_bytes_recursive",
                "blkio.throttle.io_service_bytes",
                "blkio.io_service_bytes_recursive",
            ];
            names.map(|name| dir.join(name)).into_iter().find(|path| path.exists())
        });
        Some(Self {
            cpu_usage: directory(root, &places.cpuacct)?.join("cpuacct.usage"),
            cpu_stat: other(&places.cpu).map(|dir| dir.join("cpu.stat")),
            memory_usage: memory.join("memory.usage_in_bytes"),
            memory_stat: memory.join("memory.stat"),
            memory_limit: memory.join("memory.limit_in_bytes"),
            memory_oom: memory.join("memory.oom_control"),
            blocks,
            pids: other(&places.pids).map(|dir| dir.join("pids.current")),
        })
    }

    fn working_set(&self, file: &mut TextFile) -> Option<u64> {
        let usage = file.number(&self.memory_usage)?;
        cgroup::working_set(usage, file.read(&self.memory_stat)?, "total_inactive_file")
    }

    fn read(&self, file: &mut TextFile) -> Option<Reading> {
        let memory_bytes = self.working_set(file)?;
        let blocks = self.blocks.as_deref().and_then(|path| file.read(path)).map(cgroup::blkio_bytes);
        Some(Reading {
            usage: Usage {
                cpu_nanos: file.number(&self.cpu_usage),
                memory_bytes: Some(memory_bytes),
                block_read_bytes: blocks.map(|(read, _)| read),
                block_write_bytes: blocks.map(|(_, written)| written),
                pids: self.pids.as_deref().and_then(|path| file.number(path)),
                throttled_nanos: self
                    .cpu_stat
                    .as_deref()
                    .and_then(|path| cgroup::value(file.read(path)?, "throttled_time")),
                oom_kills: file.read(&self.memory_oom).and_then(|text| cgroup::value(text, "oom_kill")),
                ..Usage::default()
            },
            memory_limit_bytes: file.read(&self.memory_limit).and_then(cgroup::limit),
        })
    }
}

impl FilesV2 {
    fn of(group: &Path) -> Self {
        Self {
            cpu_stat: group.join("cpu.stat"),
            memory_usage: group.join("memory.current"),
            memory_stat: group.join("memory.stat"),
            memory_limit: group.join("memory.max"),
            memory_events: group.join("memory.events"),
            io_stat: group.join("io.stat"),
            pids: group.join("pids.current"),
        }
    }

    fn working_set(&self, file: &mut TextFile) -> Option<u64> {
        let usage = file.number(&self.memory_usage)?;
        cgroup::working_set(usage, file.read(&self.memory_stat)?, "inactive_file")
    }

    fn read(&self, file: &mut TextFile) -> Option<Reading> {
        let memory_bytes = self.working_set(file)?;
        let cpu = file.read(&self.cpu_stat);
        let (cpu_nanos, throttled_nanos) =
            (cpu.and_then(cgroup::cpu_nanos), cpu.and_then(cgroup::throttled_nanos));
        let blocks = file.read(&self.io_stat).map(cgroup::io_stat_bytes);
        Some(Reading {
            usage: Usage {
                cpu_nanos,
                memory_bytes: Some(memory_bytes),
                block_read_bytes: blocks.map(|(read, _)| read),
                block_write_bytes: blocks.map(|(_, written)| written),
                pids: file.number(&self.pids),
                throttled_nanos,
                oom_kills: file.read(&self.memory_events).and_then(|text| cgroup::value(text, "oom_kill")),
                ..Usage::default()
            },
            memory_limit_bytes: file.read(&self.memory_limit).and_then(cgroup::limit),
        })
    }
}

#[cfg(test)]
mod tests;
