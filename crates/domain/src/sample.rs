//! Measured use of resources. A value that could not be read is `None`, never 0.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, id::InstanceId};

/// One reading of one instance's container.
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
}

impl InstanceSample {
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
