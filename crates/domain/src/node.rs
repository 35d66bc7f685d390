//! A Docker host with an agent: what it is, what it can hold, how it stands.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What an agent says of its host. Told at enrolment and at each session's start,
/// and again when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFacts {
    /// The kernel's host name.
    pub hostname: String,
    /// As in `/etc/os-release`, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// As Rust names it: `x86_64`, `aarch64`.
    pub architecture: String,
    /// CPUs of the host, in thousandths.
    pub cpu_millis: u64,
    /// Memory of the host.
    pub memory_bytes: u64,
    /// Size of the file system that holds the engine's data.
    pub disk_bytes: u64,
    /// Free space on it.
    pub disk_free_bytes: u64,
    /// Docker Engine's version; `None` while it does not answer.
    pub engine_version: Option<String>,
    /// The API version negotiated with it.
    pub engine_api_version: Option<String>,
    /// Such as `overlay2`.
    pub storage_driver: Option<String>,
    /// 1 or 2.
    pub cgroup_version: Option<u32>,
    /// The agent's own version.
    pub agent_version: String,
    /// The address under which published ports are reached, as the agent sees it.
    pub address: Option<String>,
    /// What becomes of storage limits here; `None` while it is not known.
    pub storage_limit: Option<StorageLimit>,
}

/// What becomes of [`crate::spec::Limits::storage_bytes`] on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageLimit {
    /// The engine's storage driver keeps containers within it; found out by trying.
    Enforced,
    /// The agent measures the writable layer now and then.
    Measured,
}

impl StorageLimit {
    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Measured => "measured",
        }
    }
}

/// How well a node is, by its own figures. The order is that of badness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeHealth {
    /// Nothing is short.
    #[default]
    Healthy,
    /// Something is getting short: what runs there may get slow.
    Degraded,
    /// Something has run out, or is about to: what runs there may fail.
    Failing,
}

impl NodeHealth {
    /// The stable text used in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }

    /// Reads [`NodeHealth::as_str`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Healthy, Self::Degraded, Self::Failing].into_iter().find(|health| health.as_str() == text)
    }
}

/// Whether the engine on a node answers its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    /// It answered the last call.
    Reachable,
    /// It did not. What was last seen of its containers stays as it was (I5).
    Unreachable,
}

/// How a node stands. Only transitions are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Enrolled, and never yet heard of.
    Enrolled,
    /// Heartbeats come, and the engine answers.
    Ready,
    /// A heartbeat is overdue.
    Suspect,
    /// Overdue by more than `node.unreachable_after`.
    Unreachable,
    /// The agent answers and Docker does not.
    EngineUnreachable,
}

impl NodeState {
    /// The stable text used in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Ready => "ready",
            Self::Suspect => "suspect",
            Self::Unreachable => "unreachable",
            Self::EngineUnreachable => "engine_unreachable",
        }
    }

    /// Reads [`NodeState::as_str`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Enrolled, Self::Ready, Self::Suspect, Self::Unreachable, Self::EngineUnreachable]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// One heartbeat, as the controller keeps it in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// When it arrived, by the controller's clock.
    pub received_at: Timestamp,
    /// What the agent said of its engine.
    pub engine: EngineState,
    /// The assignment revision that the agent has on disk.
    pub assignment_revision: u64,
}
