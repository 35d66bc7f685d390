//! Reads what one container uses, from files of the kernel.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    cgroup::{self, Group},
    net,
};
use crate::runtime::{RunningContainer, Usage};

/// Where the kernel's files are.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    proc: PathBuf,
    cgroup: PathBuf,
}

impl Default for Reader {
    fn default() -> Self {
        Self { proc: "/proc".into(), cgroup: "/sys/fs/cgroup".into() }
    }
}

/// What was read of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) usage: Usage,
    /// The limit in force.
    pub(super) memory_limit_bytes: Option<u64>,
}

impl Reader {
    /// One whose files are below `root`.
    #[cfg(test)]
    pub(super) fn below(root: &std::path::Path) -> Self {
        Self { proc: root.join("proc"), cgroup: root.join("cgroup") }
    }

    /// Reads a container's figures. `None` where the process is gone, is another
    /// one by now, or its files cannot be seen from here. Blocks, for some tens of
    /// microseconds.
    pub(super) fn read(&self, container: &RunningContainer) -> Option<Reading> {
        let process = self.proc.join(container.pid.to_string());
        let groups = fs::read_to_string(process.join("cgroup")).ok()?;
        // Process numbers are used again; a group's name is the container's own.
        let mut reading = match Group::parse(&groups, &container.container_id)? {
            Group::V1 { cpu, memory } => self.read_v1(&cpu, &memory)?,
            Group::V2(path) => self.read_v2(&path)?,
        };
        let traffic = fs::read_to_string(process.join("net/dev")).ok().as_deref().and_then(net::totals);
        reading.usage.network_rx_bytes = traffic.map(|(rx, _)| rx);
        reading.usage.network_tx_bytes = traffic.map(|(_, tx)| tx);
        Some(reading)
    }

    fn read_v1(&self, cpu: &Path, memory: &Path) -> Option<Reading> {
        // Mounted under both controllers' names; the short one is a link that not
        // every host has.
        let hierarchies =
            ["cpuacct", "cpu,cpuacct", "cpuacct,cpu"].map(|name| self.cgroup.join(name).join(cpu));
        let cpu = hierarchies.into_iter().find(|path| path.is_dir())?;
        let memory = self.cgroup.join("memory").join(memory);
        let file = |path: PathBuf| fs::read_to_string(path).ok();
        let stat = file(memory.join("memory.stat"))?;
        Some(Reading {
            usage: Usage {
                cpu_nanos: file(cpu.join("cpuacct.usage")).as_deref().and_then(cgroup::number),
                memory_bytes: cgroup::working_set(
                    &file(memory.join("memory.usage_in_bytes"))?,
                    &stat,
                    "total_inactive_file",
                ),
                ..Usage::default()
            },
            memory_limit_bytes: file(memory.join("memory.limit_in_bytes")).as_deref().and_then(cgroup::limit),
        })
    }

    fn read_v2(&self, path: &Path) -> Option<Reading> {
        let group = self.cgroup.join(path);
        let file = |name: &str| fs::read_to_string(group.join(name)).ok();
        let stat = file("memory.stat")?;
        Some(Reading {
            usage: Usage {
                cpu_nanos: file("cpu.stat").as_deref().and_then(cgroup::cpu_nanos),
                memory_bytes: cgroup::working_set(&file("memory.current")?, &stat, "inactive_file"),
                ..Usage::default()
            },
            memory_limit_bytes: file("memory.max").as_deref().and_then(cgroup::limit),
        })
    }
}

#[cfg(test)]
mod tests {
    use domain::Timestamp;

    use super::*;

    const DEV: &str = "Inter-|\n face |bytes\n  eth0: 10 0 0 0 0 0 0 0 20 0 0 0 0 0 0 0\n";

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn container() -> RunningContainer {
        RunningContainer {
            container_id: "0a1b".into(),
            pid: 42,
            started_at: Timestamp::UNIX_EPOCH,
            memory_limit_bytes: None,
        }
    }

    fn expected() -> Reading {
        Reading {
            usage: Usage {
                cpu_nanos: Some(5_000),
                memory_bytes: Some(60),
                network_rx_bytes: Some(10),
                network_tx_bytes: Some(20),
            },
            memory_limit_bytes: Some(4096),
        }
    }

    #[test]
    fn a_container_under_version_1_is_read() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("proc/42/cgroup", "3:memory:/docker/0a1b\n2:cpu,cpuacct:/docker/0a1b\n"),
                ("proc/42/net/dev", DEV),
                ("cgroup/cpuacct/docker/0a1b/cpuacct.usage", "5000\n"),
                ("cgroup/memory/docker/0a1b/memory.stat", "total_inactive_file 40\n"),
                ("cgroup/memory/docker/0a1b/memory.usage_in_bytes", "100\n"),
                ("cgroup/memory/docker/0a1b/memory.limit_in_bytes", "4096\n"),
            ],
        );
        assert_eq!(Reader::below(dir.path()).read(&container()), Some(expected()));
    }

    #[test]
    fn a_container_under_version_2_is_read() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("proc/42/cgroup", "0::/system.slice/docker-0a1b.scope\n"),
                ("proc/42/net/dev", DEV),
                ("cgroup/system.slice/docker-0a1b.scope/cpu.stat", "usage_usec 5\n"),
                ("cgroup/system.slice/docker-0a1b.scope/memory.stat", "inactive_file 40\n"),
                ("cgroup/system.slice/docker-0a1b.scope/memory.current", "100\n"),
                ("cgroup/system.slice/docker-0a1b.scope/memory.max", "4096\n"),
            ],
        );
        assert_eq!(Reader::below(dir.path()).read(&container()), Some(expected()));
    }

    #[test]
    fn a_process_number_that_another_one_uses_by_now_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("proc/42/cgroup", "0::/other\n"),
                ("cgroup/other/memory.stat", ""),
                ("cgroup/other/memory.current", "1"),
            ],
        );
        assert_eq!(Reader::below(dir.path()).read(&container()), None);
    }

    #[test]
    fn a_process_that_is_gone_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Reader::below(dir.path()).read(&container()), None);
    }
}
