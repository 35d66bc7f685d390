//! What a container can reach, and by which names it is found.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::fault::Faults;

/// Most networks of one container, and most aliases in one of them.
pub const NETWORKS_MAX: usize = 32;

/// Names that stand for something else than a network that somebody made.
const RESERVED: [&str; 5] = ["bridge", "default", "host", "none", "nat"];

/// How a container is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum Network {
    /// The engine's own bridge, without names.
    #[default]
    Bridge,
    /// The host's network itself. Nodes refuse it unless their own configuration
    /// allows it.
    Host,
    /// Nothing but a loopback interface.
    None,
    /// Networks that exist on the node, in which containers find each other by name.
    Named {
        /// At least one; the first one gives the default route on older engines.
        networks: Vec<NetworkSpec>,
    },
}

/// One network that a container joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The network's name at the engine.
    pub name: String,
    /// Names by which the container is found there, beside its own.
    #[serde(default)]
    pub aliases: Vec<String>,
}

impl Network {
    /// The stable text used in the API.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "none",
            Self::Named { .. } => "named",
        }
    }

    /// The networks that it joins by name; empty but for [`Network::Named`].
    #[must_use]
    pub fn named(&self) -> &[NetworkSpec] {
        match self {
            Self::Named { networks } => networks,
            Self::Bridge | Self::Host | Self::None => &[],
        }
    }

    /// Whether ports can be published on the host.
    #[must_use]
    pub const fn publishes(&self) -> bool {
        matches!(self, Self::Bridge | Self::Named { .. })
    }
}

pub(super) fn network_faults(network: &Network, has_ports: bool, faults: &mut Faults) {
    faults.unless(
        network.publishes() || !has_ports,
        "ports",
        format!("cannot be published with network.mode {}", network.mode()),
    );
    let Network::Named { networks } = network else { return };
    let count = (1..=NETWORKS_MAX).contains(&networks.len());
    faults.unless(count, "network.networks", format!("must have 1 to {NETWORKS_MAX} entries"));
    let mut seen = BTreeSet::new();
    for (index, NetworkSpec { name, aliases }) in networks.iter().enumerate() {
        let field = format!("network.networks[{index}].name");
        let fine = is_engine_name(name);
        faults.unless(
            fine,
            &field,
            "must be 1 to 255 letters, digits, '_', '.' and '-', and begin with a letter or digit",
        );
        let reserved = RESERVED.contains(&name.to_ascii_lowercase().as_str());
        faults.unless(!fine || !reserved, &field, "is a mode, not a network's name; see network.mode");
        faults.unless(seen.insert(name), &field, "is there twice");
        let list = format!("network.networks[{index}].aliases");
        faults.length(&list, aliases.len(), NETWORKS_MAX, "entries");
        for (at, alias) in aliases.iter().enumerate() {
            faults.unless(
                is_alias(alias),
                format!("{list}[{at}]"),
                "must be a host name of 1 to 253 letters, digits, '_', '-' and inner dots",
            );
        }
    }
}

/// Whether a text can be the name of a network or a volume, as the engine has it.
pub(super) fn is_engine_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_alias(text: &str) -> bool {
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// Whether a text can be a container's host name.
pub(super) fn is_hostname(text: &str) -> bool {
    text.len() <= 63 && is_alias(text) && !text.contains('_')
}
