//! What the engine says of an instance's container.

use std::net::IpAddr;

use crate::{Timestamp, instance::PublishedPort};

/// What the engine said of an instance when it was last asked.
///
/// There is no variant for an engine that does not answer: then there is no
/// `Seen` at all, and nothing is observed (I5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It answered, and has no container of this instance.
    Absent,
    /// It has one.
    Present(Container),
}

impl Seen {
    /// The container, where there is one.
    #[must_use]
    pub const fn container(&self) -> Option<&Container> {
        match self {
            Self::Absent => None,
            Self::Present(container) => Some(container),
        }
    }

    /// Whether a process of it may be alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.container().is_some_and(|container| container.status.is_alive())
    }
}

impl From<Option<Container>> for Seen {
    fn from(container: Option<Container>) -> Self {
        container.map_or(Self::Absent, Self::Present)
    }
}

/// A container's state, in the engine's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerStatus {
    /// Made, and never started; or told to start, and the start failed.
    Created,
    /// Its process runs.
    Running,
    /// Its process exists and is frozen.
    Paused,
    /// The engine itself is about to start it again.
    Restarting,
    /// Its process ended.
    Exited,
    /// Its removal failed half-way.
    Dead,
    /// It is being removed.
    Removing,
}

impl ContainerStatus {
    /// Whether a process of it may be alive, so that it has to be stopped before
    /// it can be removed.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Restarting => true,
            Self::Created | Self::Exited | Self::Dead | Self::Removing => false,
        }
    }
}

/// An instance's container as the engine describes it.
///
/// The identity of a run is `started_at`: the engine sets it anew with each
/// start, and it survives everything but the container's removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub container_id: String,
    /// Its state.
    pub status: ContainerStatus,
    /// When its process last started, at the engine's full precision; `None`
    /// when it never did.
    pub started_at: Option<Timestamp>,
    /// When its process last ended; `None` while it runs, or when it never did.
    pub finished_at: Option<Timestamp>,
    /// How its process last ended; 128 + n for signal n. `None` while it runs, or
    /// when it never did.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed one of its processes for lack of memory.
    pub oom_killed: bool,
    /// What the engine says went wrong with it; empty where nothing did.
    pub error: String,
    /// The engine's id of its image.
    pub image_id: Option<String>,
    /// Ports as really published; empty while it does not run.
    pub ports: Vec<PublishedPort>,
    /// A signal that somebody else sent it through the engine and that may have
    /// ended it. The engine does not keep this: whoever listens to its events
    /// fills it in.
    pub outside_signal: Option<i32>,
    /// The process's id on the host, while it runs.
    pub pid: Option<u32>,
    /// Where its ports are reached from the host, the likeliest first; empty while it
    /// does not run, and where it has no network.
    pub addresses: Vec<IpAddr>,
}
