//! Measured use of resources. A value that could not be read is `None`, never 0.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, id::InstanceId, node::NodeHealth};

/// One reading of one instance's container.
///
/// In JSON a field that is missing is one that could not be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceSample {
    /// Whose.
    pub instance_id: InstanceId,
    /// When it was read, by the node's clock.
    pub at: Timestamp,
    /// CPU time used since the reading before, in percent of one core: 250 means
    /// two and a half cores. `None` on an attempt's first reading.
    pub cpu_percent: Option<f64>,
    /// Working set as `docker stats` shows it: usage without inactive file cache.
    pub memory_bytes: Option<u64>,
    /// The limit in force; `None` when there is none.
    pub memory_limit_bytes: Option<u64>,
    /// Bytes received since the container started, over all its interfaces but
    /// loopback. `None` for host networking.
    pub network_rx_bytes: Option<u64>,
    /// Bytes sent since the container started.
    pub network_tx_bytes: Option<u64>,
    /// Bytes read from block devices since the container started.
    pub block_read_bytes: Option<u64>,
    /// Bytes written to block devices since the container started.
    pub block_write_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Time in which it was held back by its CPU limit, since the container started.
    pub throttled_nanos: Option<u64>,
    /// Processes killed for lack of memory, since the container started.
    pub oom_kills: Option<u64>,
    /// Size of its writable layer, where it was measured.
    pub storage_bytes: Option<u64>,
}

/// One reading of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostSample {
    /// When it was read, by the node's clock.
    pub at: Timestamp,
    /// CPU time used by all, since the reading before, in percent of one core.
    pub cpu_percent: Option<f64>,
    /// Runnable tasks, averaged over one, five and fifteen minutes.
    pub load: Option<[f64; 3]>,
    /// All memory.
    pub memory_bytes: Option<u64>,
    /// What could be had without swapping.
    pub memory_available_bytes: Option<u64>,
    /// All swap; 0 where there is none.
    pub swap_bytes: Option<u64>,
    /// Swap that is not in use.
    pub swap_free_bytes: Option<u64>,
    /// Bytes received since the host started, over all interfaces that lead out of it.
    pub network_rx_bytes: Option<u64>,
    /// Bytes sent since the host started.
    pub network_tx_bytes: Option<u64>,
    /// File systems: the root, the engine's data and the agent's, each once.
    pub disks: Vec<DiskSample>,
    /// Pressure stall information, where the kernel has it.
    pub pressure: Option<Pressure>,
    /// What these figures come to.
    pub health: NodeHealth,
    /// Why it is not healthy, for people.
    pub reasons: Vec<String>,
}

/// One file system of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSample {
    /// Where it is mounted.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// Free, to programs that are not root.
    pub free_bytes: u64,
    /// Files that it can hold; `None` where it has no such limit.
    pub inodes: Option<u64>,
    /// Files that it can still take.
    pub inodes_free: Option<u64>,
}

/// Percent of the last ten seconds in which some or all tasks waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some waited for a CPU.
    pub cpu_some: f64,
    /// Some waited for memory.
    pub memory_some: f64,
    /// All waited for memory.
    pub memory_full: f64,
    /// Some waited for a disk.
    pub io_some: f64,
    /// All waited for a disk.
    pub io_full: f64,
}

impl InstanceSample {
    /// One that says nothing.
    #[must_use]
    pub const fn empty(instance_id: InstanceId, at: Timestamp) -> Self {
        Self {
            instance_id,
            at,
            cpu_percent: None,
            memory_bytes: None,
            memory_limit_bytes: None,
            network_rx_bytes: None,
            network_tx_bytes: None,
            block_read_bytes: None,
            block_write_bytes: None,
            pids: None,
            throttled_nanos: None,
            oom_kills: None,
            storage_bytes: None,
        }
    }

    /// Memory in percent of the limit, where there is one.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 52 bits")]
    pub fn memory_percent(&self) -> Option<f64> {
        match (self.memory_bytes, self.memory_limit_bytes) {
            (Some(used), Some(limit)) if limit > 0 => Some(used as f64 * 100.0 / limit as f64),
            _ => None,
        }
    }
}
