//! Reads what the host as a whole uses, from files of the kernel.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
};

use domain::{
    Timestamp,
    sample::{DiskSample, HostSample, Pressure},
};

use super::net;

/// Most file systems that are told of.
const DISKS_MAX: usize = 8;

/// Where the kernel's files are, and the CPU time at the reading before.
pub(super) struct HostReader {
    proc: PathBuf,
    sys: PathBuf,
    before: Option<CpuTime>,
}

impl Default for HostReader {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), before: None }
    }
}

/// What all CPUs together did since the host started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuTime {
    busy: u64,
    all: u64,
    cpus: u32,
}

impl HostReader {
    /// One whose files are below `root`.
    #[cfg(test)]
    pub(super) fn below(root: &Path) -> Self {
        Self { proc: root.join("proc"), sys: root.join("sys"), before: None }
    }

    /// Reads all but the disks, and how many CPUs there are. Blocks for a moment.
    pub(super) fn read(&mut self, at: Timestamp) -> (HostSample, Option<u32>) {
        let cpu = self.file("stat").as_deref().and_then(cpu_time);
        let cpu_percent = self.before.zip(cpu).and_then(|(before, now)| cpu_percent(before, now));
        self.before = cpu;
        let meminfo = self.file("meminfo").unwrap_or_default();
        let traffic = self.traffic();
        let sample = HostSample {
            at,
            cpu_percent,
            load: self.file("loadavg").as_deref().and_then(load),
            memory_bytes: meminfo_bytes(&meminfo, "MemTotal"),
            memory_available_bytes: meminfo_bytes(&meminfo, "MemAvailable"),
            swap_bytes: meminfo_bytes(&meminfo, "SwapTotal"),
            swap_free_bytes: meminfo_bytes(&meminfo, "SwapFree"),
            network_rx_bytes: traffic.map(|(rx, _)| rx),
            network_tx_bytes: traffic.map(|(_, tx)| tx),
            pressure: self.pressure(),
            ..HostSample::default()
        };
        (sample, cpu.map(|cpu| cpu.cpus))
    }

    fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.proc.join(name)).ok()
    }

    /// Bytes over the interfaces that lead out of the host: those with a device
    /// behind them, so that what passes a bridge, a tunnel or a container's end of a
    /// wire is not counted again. A host that is itself a container has none, and
    /// there it is what the default route goes over. `None` where there is neither.
    fn traffic(&self) -> Option<(u64, u64)> {
        // The first process's network is the host's, also for an agent in a container
        // that sees the host's processes.
        let net =
            |name: &str| self.file(&format!("1/net/{name}")).or_else(|| self.file(&format!("net/{name}")));
        let text = net("dev")?;
        let any = Cell::new(false);
        let count = |counts: bool| {
            any.set(any.get() || counts);
            counts
        };
        let devices = self.sys.join("class/net");
        let totals = net::totals_of(&text, |name| count(devices.join(name).join("device").exists()));
        if any.get() {
            return totals;
        }
        let routes = net("route").unwrap_or_default();
        let totals = net::totals_of(&text, |name| count(net::default_routes(&routes).any(|out| out == name)));
        if any.get() { totals } else { None }
    }

    fn pressure(&self) -> Option<Pressure> {
        let file = |name: &str| self.file(&format!("pressure/{name}"));
        let (cpu, memory, io) = (file("cpu")?, file("memory")?, file("io")?);
        Some(Pressure {
            cpu_some: psi_avg10(&cpu, "some")?,
            memory_some: psi_avg10(&memory, "some")?,
            memory_full: psi_avg10(&memory, "full")?,
            io_some: psi_avg10(&io, "some")?,
            io_full: psi_avg10(&io, "full")?,
        })
    }
}

/// Reads the first lines of `/proc/stat`. Waiting for disks is idling, and time that
/// a hypervisor gave to others was not used here; guests' time is in `user` already.
fn cpu_time(stat: &str) -> Option<CpuTime> {
    let mut lines = stat.lines();
    let mut ticks = [0u64; 8];
    let mut words = lines.next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    for (place, tick) in ticks.iter_mut().enumerate() {
        *tick = match words.next() {
            Some(word) => word.parse().ok()?,
            // Old kernels have fewer columns.
            None if place >= 4 => 0,
            None => return None,
        };
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks;
    let busy = [user, nice, system, irq, softirq].into_iter().try_fold(0, u64::checked_add)?;
    let all = [busy, idle, iowait, steal].into_iter().try_fold(0, u64::checked_add)?;
    let cpus = lines.take_while(|line| line.starts_with("cpu")).count();
    Some(CpuTime { busy, all, cpus: u32::try_from(cpus).ok()? })
}

/// In percent of one core. Against the ticks of all CPUs and not against a clock, so
/// the length of a tick does not matter, and neither does a clock that is set.
#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 52 bits")]
fn cpu_percent(before: CpuTime, now: CpuTime) -> Option<f64> {
    // Idle time may go back a little when a CPU goes away.
    let busy = now.busy.checked_sub(before.busy)?;
    let all = now.all.checked_sub(before.all)?;
    (all > 0 && busy <= all).then(|| busy as f64 * 100.0 * f64::from(now.cpus) / all as f64)
}

fn load(loadavg: &str) -> Option<[f64; 3]> {
    let mut words = loadavg.split_ascii_whitespace().map(|word| word.parse::<f64>().ok().filter(sound));
    Some([words.next()??, words.next()??, words.next()??])
}

fn sound(number: &f64) -> bool {
    number.is_finite() && *number >= 0.0
}

/// A line such as `MemTotal:  24684092 kB`.
fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix(':')?;
        let number: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
        number.checked_mul(1024)
    })
}

/// A line such as `some avg10=0.59 avg60=1.41 avg300=0.53 total=2917745`.
fn psi_avg10(text: &str, kind: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
    let number = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    number.parse::<f64>().ok().filter(sound)
}

/// The file systems that hold these paths, each once. One that cannot be seen is
/// left out. Blocks, on a network file system whose server is away for ever.
pub(super) fn disks(paths: &[PathBuf]) -> Vec<DiskSample> {
    let mut seen = Vec::new();
    let mut disks = Vec::new();
    for path in paths.iter().filter(|path| path.is_absolute()) {
        let Ok(path) = path.canonicalize() else { continue };
        let Ok(status) = rustix::fs::stat(&path) else { continue };
        if seen.contains(&status.st_dev) || disks.len() >= DISKS_MAX {
            continue;
        }
        let Ok(room) = rustix::fs::statvfs(&path) else { continue };
        seen.push(status.st_dev);
        let limited = room.f_files > 0;
        disks.push(DiskSample {
            path: mount_point(&path, status.st_dev).display().to_string(),
            size_bytes: room.f_blocks.saturating_mul(room.f_frsize),
            // What is free to those who are not root: the rest is the kernel's reserve.
            free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
            inodes: limited.then_some(room.f_files),
            inodes_free: limited.then_some(room.f_favail),
        });
    }
    disks
}

/// The topmost directory on the way up that is on the same file system.
fn mount_point(path: &Path, device: u64) -> &Path {
    let same = |path: &&Path| rustix::fs::stat(*path).is_ok_and(|status| status.st_dev == device);
    path.ancestors().take_while(same).last().unwrap_or(path)
}

#[cfg(test)]
mod tests;
