//! What a node needs to know in order to run one copy: the container's spec.
//!
//! A spec is stored with each revision and in each agent's ledger, so a field that
//! is added later has a default, which means what specs without it have meant so
//! far. That may be another one than the default of new declarations.
//!
//! [`policy`] is the other side: what a node's own configuration refuses, whatever
//! the controller says.

mod fault;
mod limits;
mod log;
mod networks;
pub mod policy;
mod ports;
mod secrets;
mod security;
mod stop;
mod validate;
mod volumes;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

pub(crate) use fault::Faults;
pub use fault::FieldFault;
pub use limits::{
    BYTES_MAX, Limits, MEMORY_MIN_BYTES, STORAGE_MIN_BYTES, StorageExceeded, ULIMITS, UNLIMITED, Ulimit,
};
pub use log::LogSpec;
pub use networks::{NETWORKS_MAX, Network, NetworkSpec};
pub use ports::{PortSpec, Transport};
pub use secrets::{ID_MAX, Resolved, SECRET_MAX_BYTES, SECRET_MODE, SecretTarget, SecretUse};
pub use security::{CAPABILITIES, Device, Security, capability, reaches_host};
pub use stop::{RestartPolicy, is_signal, signal_name};
pub use validate::OWN_LABELS;
pub use volumes::{PATH_MAX_BYTES, Volume};

use crate::{name::Labels, probe::ProbeSpec};

/// Most of env, command and entrypoint of one spec together.
pub const TEXT_MAX_BYTES: usize = 256 * 1024;
/// Most entries of any list: environment variables, ports, arguments, volumes.
pub const LIST_MAX: usize = 256;

macro_rules! names_only {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub BTreeMap<String, String>);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_set().entries(self.0.keys()).finish()
            }
        }
    };
}

names_only! {
    /// Environment variables of a container. `Debug` shows names only, because
    /// people do put passwords here.
    Env
}

names_only! {
    /// Options of something that we know nothing of. `Debug` shows names only: one
    /// of them may be a token.
    Options
}

/// When an image is fetched from its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Before each attempt that makes a container.
    Always,
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Never: it must be there.
    Never,
}

/// What a node needs to know in order to run one copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Image reference, as `docker pull` takes it.
    pub image: String,
    /// Replaces the image's entrypoint; empty keeps it.
    pub entrypoint: Vec<String>,
    /// Replaces the image's command; empty keeps it.
    pub command: Vec<String>,
    /// Added to the image's environment.
    pub env: Env,
    /// Replaces the image's working directory.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// Replaces the image's user: name or number, with or without `:group`.
    #[serde(default)]
    pub user: Option<String>,
    /// Put onto the container, beside our own.
    #[serde(default)]
    pub labels: Labels,
    /// The container's host name; `None` makes it the deployment's name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Ports to publish on the host.
    pub ports: Vec<PortSpec>,
    /// What it is connected to.
    #[serde(default)]
    pub network: Network,
    /// What is mounted into it.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Values of credentials that it is given.
    #[serde(default)]
    pub secrets: Vec<SecretUse>,
    /// Devices of the host that it may use.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// What it may do.
    #[serde(default)]
    pub security: Security,
    /// Enforced limits.
    pub limits: Limits,
    /// Limits of each of its processes; the engine's own where left out.
    #[serde(default)]
    pub ulimits: Vec<Ulimit>,
    /// What becomes of its output.
    #[serde(default)]
    pub log: LogSpec,
    /// Whether the engine puts an init process before the program, which reaps
    /// what the program leaves behind and passes signals on.
    #[serde(default)]
    pub init: bool,
    /// What happens when it ends by itself.
    pub restart: RestartPolicy,
    /// When to fetch the image.
    pub pull: PullPolicy,
    /// What asks it to end; `None` keeps the image's, which is `SIGTERM` mostly.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and the kill.
    pub stop_grace_seconds: u32,
    /// Seconds of running after which it counts as healthy, there being no probe.
    pub min_healthy_seconds: u32,
    /// How to find out whether it works.
    #[serde(default)]
    pub probes: Vec<ProbeSpec>,
    /// Seconds without a word of the controller after which its node stops it;
    /// `None` lets it run for ever.
    #[serde(default)]
    pub stop_after_seconds: Option<u32>,
}

impl InstanceSpec {
    /// A spec with defaults for all but the image.
    #[must_use]
    pub fn of_image(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            env: Env::default(),
            working_dir: None,
            user: None,
            labels: Labels::new(),
            hostname: None,
            ports: Vec::new(),
            network: Network::default(),
            volumes: Vec::new(),
            secrets: Vec::new(),
            devices: Vec::new(),
            security: Security::default(),
            limits: Limits::default(),
            ulimits: Vec::new(),
            log: LogSpec::default(),
            init: false,
            restart: RestartPolicy::default(),
            pull: PullPolicy::default(),
            stop_signal: None,
            stop_grace_seconds: 10,
            min_healthy_seconds: 1,
            probes: Vec::new(),
            stop_after_seconds: None,
        }
    }

    /// See [`InstanceSpec::min_healthy_seconds`].
    #[must_use]
    pub fn min_healthy(&self) -> Duration {
        Duration::from_secs(u64::from(self.min_healthy_seconds))
    }

    /// See [`InstanceSpec::stop_after_seconds`].
    #[must_use]
    pub fn stop_after(&self) -> Option<Duration> {
        self.stop_after_seconds.map(|seconds| Duration::from_secs(u64::from(seconds)))
    }

    /// See [`InstanceSpec::stop_grace_seconds`].
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        Duration::from_secs(u64::from(self.stop_grace_seconds))
    }

    /// Host ports that the user fixed, which no two instances of a node can share.
    pub fn fixed_host_ports(&self) -> impl Iterator<Item = (Transport, u16)> + '_ {
        self.ports.iter().filter_map(|port| port.host_port.map(|host| (port.transport, host)))
    }
}
