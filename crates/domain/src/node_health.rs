//! How well a host is, by its own figures.
//!
//! Each figure is judged by itself against two thresholds, one for getting short
//! and one for having run out, and the host is as bad as its worst figure. A figure
//! that cannot be read is not judged, and neither is one whose threshold is 0.
//!
//! What has once been found short stays so until the figure is better than the
//! threshold by a margin ([`MARGIN`], [`PRESSURE_MARGIN`]), so that a figure that
//! sways around a threshold does not make a transition each time it is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    node::{EngineState, NodeHealth},
    sample::HostSample,
};

/// A figure has to be better than its threshold by this part of it, before it
/// counts as well again.
pub const MARGIN: f64 = 0.2;
/// The same for pressure, which changes within seconds.
pub const PRESSURE_MARGIN: f64 = 0.5;
/// Most reasons that are told.
pub const REASONS_MAX: usize = 16;

/// From where on a host is degraded, and from where on it is failing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// From here on it is degraded; 0: never.
    pub degraded: f64,
    /// From here on it is failing; 0: never.
    pub failing: f64,
}

impl Threshold {
    const fn new(degraded: f64, failing: f64) -> Self {
        Self { degraded, failing }
    }
}

/// What counts as too little or too much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Free space of each file system, below so many percent.
    pub disk_free_percent: Threshold,
    /// Files that each file system can still take, below so many percent.
    pub inodes_free_percent: Threshold,
    /// Memory that could be had without swapping, below so many percent.
    pub memory_available_percent: Threshold,
    /// Time in which all tasks waited for memory, from so many percent on.
    pub memory_pressure_percent: Threshold,
    /// Time in which all tasks waited for a disk, from so many percent on.
    pub io_pressure_percent: Threshold,
    /// Time in which some task waited for a CPU, from so many percent on.
    pub cpu_pressure_percent: Threshold,
    /// Runnable tasks for each CPU, over five minutes, from so many on.
    pub load_per_cpu: Threshold,
}

impl Default for Thresholds {
    /// Room that a host needs for itself, and waiting that people notice: a tenth of
    /// a disk or of memory left is short and 3 percent are as good as nothing; where
    /// all tasks wait for memory during 40 percent of the time the host thrashes. A
    /// busy CPU makes things slow and breaks none, so only a load that no host of
    /// that size digests is failing.
    fn default() -> Self {
        Self {
            disk_free_percent: Threshold::new(10.0, 3.0),
            inodes_free_percent: Threshold::new(10.0, 3.0),
            memory_available_percent: Threshold::new(10.0, 3.0),
            memory_pressure_percent: Threshold::new(10.0, 40.0),
            io_pressure_percent: Threshold::new(40.0, 80.0),
            cpu_pressure_percent: Threshold::new(80.0, 0.0),
            load_per_cpu: Threshold::new(4.0, 16.0),
        }
    }
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The figures.
    pub sample: &'a HostSample,
    /// How many CPUs the host has; `None` where that could not be read.
    pub cpus: Option<u32>,
    /// Whether the engine answers.
    pub engine: EngineState,
    /// Why the agent cannot write down what happens; `None` where it can.
    pub ledger_trouble: Option<&'a str>,
}

/// What was found short in the reading before; empty before the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held(BTreeMap<Subject, NodeHealth>);

/// A judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The worst of all.
    pub health: NodeHealth,
    /// Why it is not healthy, the worst first; at most [`REASONS_MAX`].
    pub reasons: Vec<String>,
    /// For the next judgement.
    pub held: Held,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Engine,
    Ledger,
    DiskSpace(String),
    Inodes(String),
    Memory,
    MemoryPressure,
    IoPressure,
    CpuPressure,
    Load,
}

/// Which way is bad.
#[derive(Clone, Copy)]
enum Bad {
    /// Below the threshold.
    Low,
    /// At the threshold or above.
    High,
}

struct Figure {
    subject: Subject,
    value: f64,
    threshold: Threshold,
    bad: Bad,
    margin: f64,
}

/// Judges a reading of a host. An engine that does not answer is failing by itself:
/// whoever calls says so only once it has been silent for a while. So is an agent that
/// cannot write.
#[must_use]
pub fn health(seen: &Seen<'_>, thresholds: &Thresholds, before: &Held) -> Verdict {
    let mut found: Vec<(NodeHealth, Subject, String)> = Vec::new();
    if seen.engine == EngineState::Unreachable {
        found.push((NodeHealth::Failing, Subject::Engine, "the container engine does not answer".into()));
    }
    if let Some(trouble) = seen.ledger_trouble {
        // What is known of its instances is from before.
        let reason = format!("the agent cannot write down what happens, and so reports nothing: {trouble}");
        found.push((NodeHealth::Failing, Subject::Ledger, reason));
    }
    for figure in figures(seen, thresholds) {
        let held = before.0.get(&figure.subject).copied().unwrap_or_default();
        let (level, crossed) = figure.judge(held);
        if level > NodeHealth::Healthy {
            let reason = figure.reason(crossed);
            found.push((level, figure.subject, reason));
        }
    }
    // Stable: what is equally bad stays in the order in which it was looked at.
    found.sort_by_key(|(level, ..)| std::cmp::Reverse(*level));
    let health = found.first().map(|(level, ..)| *level).unwrap_or_default();
    let reasons = found.iter().take(REASONS_MAX).map(|(.., reason)| reason.clone()).collect();
    let held = Held(found.into_iter().map(|(level, subject, _)| (subject, level)).collect());
    Verdict { health, reasons, held }
}

fn figures(seen: &Seen<'_>, thresholds: &Thresholds) -> Vec<Figure> {
    let sample = seen.sample;
    let mut figures = Vec::new();
    let mut low = |subject, value: Option<f64>, threshold| {
        figures.extend(value.map(|value| Figure {
            subject,
            value,
            threshold,
            bad: Bad::Low,
            margin: MARGIN,
        }));
    };
    for disk in &sample.disks {
        let space = percent(Some(disk.free_bytes), Some(disk.size_bytes));
        low(Subject::DiskSpace(disk.path.clone()), space, thresholds.disk_free_percent);
        let inodes = percent(disk.inodes_free, disk.inodes);
        low(Subject::Inodes(disk.path.clone()), inodes, thresholds.inodes_free_percent);
    }
    let memory = percent(sample.memory_available_bytes, sample.memory_bytes);
    low(Subject::Memory, memory, thresholds.memory_available_percent);
    let mut high = |subject, value: Option<f64>, threshold, margin| {
        figures.extend(value.map(|value| Figure { subject, value, threshold, bad: Bad::High, margin }));
    };
    if let Some(pressure) = sample.pressure {
        let margin = PRESSURE_MARGIN;
        let (memory, io, cpu) = (pressure.memory_full, pressure.io_full, pressure.cpu_some);
        high(Subject::MemoryPressure, Some(memory), thresholds.memory_pressure_percent, margin);
        high(Subject::IoPressure, Some(io), thresholds.io_pressure_percent, margin);
        high(Subject::CpuPressure, Some(cpu), thresholds.cpu_pressure_percent, margin);
    }
    let load = sample.load.zip(seen.cpus.filter(|cpus| *cpus > 0));
    let load = load.map(|([_, five, _], cpus)| five / f64::from(cpus));
    high(Subject::Load, load, thresholds.load_per_cpu, MARGIN);
    figures
}

#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 52 bits")]
fn percent(part: Option<u64>, whole: Option<u64>) -> Option<f64> {
    match (part, whole) {
        (Some(part), Some(whole)) if whole > 0 => Some(part as f64 * 100.0 / whole as f64),
        _ => None,
    }
}

impl Figure {
    /// How bad it is, and the threshold that says so.
    fn judge(&self, held: NodeHealth) -> (NodeHealth, f64) {
        let Threshold { degraded, failing } = self.threshold;
        for (level, threshold) in [(NodeHealth::Failing, failing), (NodeHealth::Degraded, degraded)] {
            if threshold > 0.0 && self.beyond(threshold, held >= level) {
                return (level, threshold);
            }
        }
        (NodeHealth::Healthy, 0.0)
    }

    /// Whether it is on the bad side; `was` moves the border into the good one.
    fn beyond(&self, threshold: f64, was: bool) -> bool {
        let margin = if was { self.margin } else { 0.0 };
        match self.bad {
            Bad::Low => self.value < threshold * (1.0 + margin),
            Bad::High => self.value >= threshold * (1.0 - margin),
        }
    }

    fn reason(&self, threshold: f64) -> String {
        let value = self.value;
        match &self.subject {
            Subject::Engine | Subject::Ledger => String::new(),
            Subject::DiskSpace(path) => {
                format!("disk {path} has {value:.1} % free (short below {threshold} %)")
            }
            Subject::Inodes(path) => {
                format!("disk {path} has {value:.1} % of its inodes free (short below {threshold} %)")
            }
            Subject::Memory => format!("{value:.1} % of memory is available (short below {threshold} %)"),
            Subject::MemoryPressure => {
                format!("all tasks waited for memory {value:.1} % of the time (too long from {threshold} %)")
            }
            Subject::IoPressure => {
                format!("all tasks waited for disks {value:.1} % of the time (too long from {threshold} %)")
            }
            Subject::CpuPressure => {
                format!("tasks waited for a CPU {value:.1} % of the time (too long from {threshold} %)")
            }
            Subject::Load => format!("the load is {value:.1} for each CPU (too high from {threshold})"),
        }
    }
}

#[cfg(test)]
mod tests;
