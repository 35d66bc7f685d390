//! What is published on the host.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{LIST_MAX, fault::Faults};

/// Transport of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// As Docker writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortSpec {
    /// Where the program listens.
    pub container_port: u16,
    /// Where the host listens; `None` lets the node choose, from its own range if
    /// its configuration has one, and the choice is reported.
    pub host_port: Option<u16>,
    /// TCP or UDP.
    pub transport: Transport,
}

pub(super) fn port_faults(ports: &[PortSpec], faults: &mut Faults) {
    faults.length("ports", ports.len(), LIST_MAX, "entries");
    let mut seen = BTreeSet::new();
    let mut inside = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        faults.unless(
            port.container_port != 0,
            format!("ports[{index}].container_port"),
            "must be 1 to 65535",
        );
        faults.unless(
            port.host_port != Some(0),
            format!("ports[{index}].host_port"),
            "must be 1 to 65535, or left out to let the node choose",
        );
        let once = inside.insert((port.container_port, port.transport, port.host_port));
        faults.unless(once, format!("ports[{index}]"), "is there twice");
        if let Some(host) = port.host_port {
            let free = seen.insert((port.transport, host));
            faults.unless(
                free || !once,
                format!("ports[{index}].host_port"),
                format!("{host} is published twice"),
            );
        }
    }
}
