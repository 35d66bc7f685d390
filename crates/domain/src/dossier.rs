//! What is kept of an attempt that ended: why, and what was seen of it before.
//!
//! An agent puts it together when a container dies, keeps it on disk, and sends it
//! until the controller has it. It stays with the instance after the container is
//! gone. Of an attempt there is one, and the first one to be stored stays.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, id::InstanceId, instance::Outcome, probe::ProbeResult};

/// Most lines of its output that are kept.
pub const LOG_LINES_MAX: usize = 200;
/// Most bytes of its output that are kept; the oldest lines give way.
pub const LOG_BYTES_MAX: usize = 128 * 1024;
/// How much of its use of memory is kept.
pub const MEMORY_SPAN: std::time::Duration = std::time::Duration::from_secs(300);
/// Most points of its use of memory that are kept: one a second.
pub const MEMORY_POINTS_MAX: usize = 300;

/// What is kept of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dossier {
    /// Whose.
    pub instance_id: InstanceId,
    /// Which of its attempts.
    pub attempt: u32,
    /// When its process ended, by the node's clock.
    pub ended_at: Timestamp,
    /// How: exit code, signal (128 + n) and lack of memory are in it.
    pub outcome: Outcome,
    /// The engine's id of the container.
    pub container_id: Option<String>,
    /// The last lines that it wrote, the oldest first; at most [`LOG_LINES_MAX`].
    pub log: Vec<DossierLine>,
    /// Whether lines were left out that are within [`LOG_LINES_MAX`], or could not be read.
    pub log_cut: bool,
    /// The last results of its probes, the oldest first.
    pub probes: Vec<DossierProbe>,
    /// Its use of memory before the end, the oldest first.
    pub memory: Vec<MemoryPoint>,
    /// The memory limit in force.
    pub memory_limit_bytes: Option<u64>,
}

/// A line that a container wrote.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DossierLine {
    /// When, where the engine said so.
    pub at: Option<Timestamp>,
    /// Whether it went to standard error.
    pub stderr: bool,
    /// What, without the line's end; what is not UTF-8 is replaced.
    pub text: String,
    /// Whether it is only a part of a line that was too long.
    pub partial: bool,
}

impl std::fmt::Debug for DossierLine {
    /// Leaves out the text: programs do write secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DossierLine")
            .field("at", &self.at)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

/// A result of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DossierProbe {
    /// Its place in [`crate::spec::InstanceSpec::probes`].
    pub probe: u32,
    /// What it found.
    pub result: ProbeResult,
}

/// Use of memory at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPoint {
    /// When.
    pub at: Timestamp,
    /// Working set.
    pub bytes: u64,
}
