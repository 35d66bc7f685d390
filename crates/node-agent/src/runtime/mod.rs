//! What the agent wants of a container engine, and nothing else.
//!
//! The reconciler, the sampler and the log streams know this trait only; Docker
//! is one implementation of it and the fake of the tests another. Containers are
//! ours by their labels alone (I3): a name helps the engine refuse a second
//! container for one instance (I2), and proves nothing.
//!
//! No call here has a deadline of its own, and none may be given one that is
//! shorter than what it waits for (a stop waits for its grace): whoever calls
//! bounds it, and drops the future or stream to give up. Dropping must be safe at
//! any moment; the engine may carry out what it was asked all the same, so the
//! caller looks again. A runtime keeps nothing about containers that an answer of the
//! engine does not confirm each time.

pub mod docker;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod given;
mod login;
pub mod upkeep;

use std::{fmt, time::Duration};

use bytes::Bytes;
use domain::{Timestamp, assignment::Assignment, id::InstanceId, instance::FailureReason, plan::Container};
use futures_util::{future::BoxFuture, stream::BoxStream};

pub use given::{Given, GivenFile};
pub use login::{LoginProof, RegistryLogin};

/// Label with the fleet's id. A container without ours is none of our business.
pub const LABEL_FLEET: &str = "automator67.fleet";
/// Label with the node's id. One engine may serve two agents.
pub const LABEL_NODE: &str = "automator67.node";
/// Label with the instance's id.
pub const LABEL_INSTANCE: &str = "automator67.instance";
/// Label with the deployment's id.
pub const LABEL_DEPLOYMENT: &str = "automator67.deployment";
/// Label with the deployment's revision.
pub const LABEL_REVISION: &str = "automator67.revision";

/// Label of what only served to try something out; its value is the node's id.
pub const LABEL_TRIAL: &str = "automator67.trial";

/// The name of an instance's container, the same for its whole life.
#[must_use]
pub fn container_name(instance: InstanceId) -> String {
    format!("a67-{instance}")
}

/// A container engine, seen through one node's labels.
///
/// `container_id` is always one that this engine gave: taken from a [`Container`].
/// Every answer about a container is read after the fact by inspecting it, so that
/// it carries the engine's own times.
pub trait Runtime: Send + Sync + 'static {
    /// Asks whether the engine answers at all. Must be cheap.
    fn ping(&self) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Asks what the engine is.
    fn info(&self) -> BoxFuture<'_, Result<EngineInfo, RuntimeError>>;

    /// Lists all containers of this fleet and node, running or not, as inspected now:
    /// what the engine's own list shows to be unchanged since the last call may be taken
    /// from there. At most one per instance: where several carry
    /// an instance's label (an image committed from a container inherits them),
    /// the one with [`container_name`] wins, then the oldest. One that goes away
    /// while it is being inspected is left out.
    fn list(&self) -> BoxFuture<'_, Result<Vec<(InstanceId, Container)>, RuntimeError>>;

    /// Finds an instance's container by its labels, so that one that somebody
    /// renamed is still found.
    fn inspect(&self, instance: InstanceId) -> BoxFuture<'_, Result<Option<Container>, RuntimeError>>;

    /// What the engine knows of an image that it holds, by its name or id; `None`
    /// when it does not hold it.
    fn image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Option<ImageInfo>, RuntimeError>>;

    /// Fetches an image, with a login for its registry or without. Yields an item
    /// with each sign of life, and ends when the image is there. An error is the last
    /// item, its kind `Refused` with `ImageNotFound`, `ImageDenied` or
    /// `ImagePullFailed`, or with `SpecRefused` where this node takes nothing from
    /// that registry. Dropping the stream ends the pull at the engine too.
    ///
    /// For [`crate::pull::Pulls`], which sees to it that an image is fetched once at
    /// a time.
    fn pull(
        &self,
        image: &str,
        login: Option<RegistryLogin>,
    ) -> BoxStream<'static, Result<PullSign, RuntimeError>>;

    /// Makes an instance's container without starting it: restart policy `no`,
    /// the five labels, [`container_name`]. Where the name is taken by a container
    /// with our labels of this very instance, that one is the answer (I2); by any
    /// other, `Refused(NameTaken)`. `given` is added to what the spec says; no error
    /// shows it.
    fn create_given<'a>(
        &'a self,
        assignment: &'a Assignment,
        given: &'a Given,
    ) -> BoxFuture<'a, Result<Container, RuntimeError>>;

    /// As [`Runtime::create_given`], of an instance that is given nothing.
    fn create<'a>(&'a self, assignment: &'a Assignment) -> BoxFuture<'a, Result<Container, RuntimeError>> {
        self.create_given(assignment, Given::NONE)
    }

    /// Starts a container. One that runs already is a success.
    fn start<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<Container, RuntimeError>>;

    /// Sends the stop signal, and kills what is left after `grace`. Answers when
    /// the process has ended; one that does not run is a success. `None` when the
    /// container is gone.
    fn stop<'a>(
        &'a self,
        container_id: &'a str,
        grace: Duration,
    ) -> BoxFuture<'a, Result<Option<Container>, RuntimeError>>;

    /// Removes a container with its anonymous volumes, by force. One that is gone
    /// is a success.
    fn remove<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// What happens to our containers, from `since` on (the engine remembers a
    /// few hundred events), else from now on, and endless: an end or an error
    /// means that the connection is lost. The engine has accepted the
    /// subscription by the time of the first item, which is
    /// [`EngineEvent::Subscribed`].
    fn events(&self, since: Option<Timestamp>) -> BoxStream<'static, Result<EngineEvent, RuntimeError>>;

    /// What a container wrote, oldest first.
    fn logs(
        &self,
        container_id: &str,
        query: &LogsQuery,
    ) -> BoxStream<'static, Result<LogChunk, RuntimeError>>;

    /// What a running container uses, by the engine's own measuring. Slow (an
    /// engine may take a second or two): for hosts whose cgroup files the agent
    /// cannot read.
    fn usage<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<Usage, RuntimeError>>;

    /// Runs a command in a running container, as the container's own user, without
    /// a shell, and waits for its end until `deadline` has passed.
    ///
    /// No engine can end a command again: one that has not ended by then, or that
    /// writes without end, goes on, and the answer says so. Whoever calls is to ask
    /// [`Runtime::exec_is_running`] before the next one, or they pile up.
    ///
    /// `NotFound` where there is no such container or it does not run,
    /// `Refused(SpecRefused)` where this node runs no commands, any other `Refused`
    /// where the command cannot be started, `Timeout` where the engine did not begin
    /// it by `deadline`; it may still do so.
    fn exec<'a>(
        &'a self,
        container_id: &'a str,
        command: &'a [String],
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Executed, RuntimeError>>;

    /// Whether a command that [`Runtime::exec`] left behind still runs. One that
    /// the engine knows nothing of does not.
    fn exec_is_running<'a>(&'a self, exec_id: &'a str) -> BoxFuture<'a, Result<bool, RuntimeError>>;
}

/// Most of a command's output that is kept.
pub const EXEC_OUTPUT_MAX: usize = 4096;

/// A command that was run in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The engine's id of this one run of it.
    pub exec_id: String,
    /// How it ended; `None` where it has not.
    pub exit_code: Option<i32>,
    /// What it wrote to standard output and standard error, as it came: the first
    /// [`EXEC_OUTPUT_MAX`] bytes.
    pub output: Bytes,
}

/// An image that an engine holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// The engine's id of it.
    pub id: String,
    /// `sha256:…` as its registry names it; `None` for one that came from none.
    pub digest: Option<String>,
    /// `Healthcheck.Test` of its configuration; empty where it has none.
    pub health_test: Vec<String>,
    /// `Shell` of its configuration; empty where it has none.
    pub shell: Vec<String>,
}

/// What the engine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// The API version negotiated with it, such as `1.41`.
    pub api_version: String,
    /// Such as `overlay2`.
    pub storage_driver: Option<String>,
    /// 1 or 2.
    pub cgroup_version: Option<u32>,
    /// Where it keeps its data, on its own file system.
    pub data_dir: Option<String>,
}

/// A sign of life of a pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullSign {
    /// What it is about: a layer, or once the tag.
    pub id: Option<String>,
    /// What the engine says, for people.
    pub status: String,
    /// Bytes of the layer at hand that are done, where the engine says so.
    pub current_bytes: Option<u64>,
    /// Size of the layer at hand, where the engine says so.
    pub total_bytes: Option<u64>,
}

/// Something that the engine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// From here on nothing is missed. Comes once, first.
    Subscribed,
    /// Something happened to one of our containers.
    Container(ContainerEvent),
}

/// Something that happened to one of our containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    /// To whose.
    pub instance_id: InstanceId,
    /// To which.
    pub container_id: String,
    /// What.
    pub kind: EventKind,
    /// When, by the engine's clock.
    pub at: Timestamp,
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Its process started.
    Started,
    /// Its process ended.
    Died,
    /// It was sent a signal through the engine, by us or by somebody else.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// It was removed.
    Destroyed,
    /// Its process was frozen.
    Paused,
    /// Its process goes on.
    Unpaused,
    /// Anything else that may have changed its state (created, renamed…).
    Other,
}

/// Which part of a container's log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsQuery {
    /// Only that many lines to begin with; `None` means all.
    pub tail: Option<u32>,
    /// Only what was written then or later.
    pub since: Option<Timestamp>,
    /// Only what was written until then.
    pub until: Option<Timestamp>,
    /// Goes on with what will be written, until the container ends.
    pub follow: bool,
}

/// A piece of a container's log, as the engine hands it out: not necessarily a
/// whole line, nor UTF-8.
#[derive(Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// When it was written; `None` where the engine did not say.
    pub at: Option<Timestamp>,
    /// Whether it went to standard error.
    pub stderr: bool,
    /// What was written, with its line end where it has one.
    pub bytes: Bytes,
}

impl fmt::Debug for LogChunk {
    /// Leaves out what was written: programs do write secrets (I7).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogChunk")
            .field("at", &self.at)
            .field("stderr", &self.stderr)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// Totals of one running container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since its start.
    pub cpu_nanos: Option<u64>,
    /// Working set: usage without inactive file cache.
    pub memory_bytes: Option<u64>,
    /// Received since its start.
    pub network_rx_bytes: Option<u64>,
    /// Sent since its start.
    pub network_tx_bytes: Option<u64>,
    /// Read from block devices since its start.
    pub block_read_bytes: Option<u64>,
    /// Written to block devices since its start.
    pub block_write_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Time in which its CPU limit held it back, since its start.
    pub throttled_nanos: Option<u64>,
    /// Processes killed for lack of memory, since its start.
    pub oom_kills: Option<u64>,
}

/// What the sampler needs to know of a container that runs. The reconciler
/// publishes these, so that measuring asks the engine nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningContainer {
    /// The engine's id.
    pub container_id: String,
    /// Its process's id on the host. The process may be gone by the time that it
    /// is looked up, and the number in use by another: check its cgroup.
    pub pid: u32,
    /// When its process started: readings of different runs do not belong together.
    pub started_at: Timestamp,
    /// The memory limit in force, by its spec; `None` where the spec is unknown.
    pub memory_limit_bytes: Option<u64>,
}

/// Why the engine did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// What follows from it.
    pub kind: RuntimeErrorKind,
    /// For people: what the engine or registry said, or what the connection did.
    pub message: String,
}

/// What follows from a [`RuntimeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeErrorKind {
    /// The engine cannot be talked to: no socket, refused, reset. Nothing is
    /// known about its containers (I5).
    Unreachable,
    /// A deadline passed. The engine may still do what it was asked.
    Timeout,
    /// It answered, and refused.
    Refused(FailureReason),
    /// It answered: it has no such container.
    NotFound,
    /// It was not asked: something that the step needs has to come from the controller
    /// first. Nobody's failure.
    HeldUp,
}

impl RuntimeError {
    /// An error of `kind` that says `message`.
    pub fn new(kind: RuntimeErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The engine cannot be talked to.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(RuntimeErrorKind::Unreachable, message)
    }

    /// The engine refused.
    pub fn refused(reason: FailureReason, message: impl Into<String>) -> Self {
        Self::new(RuntimeErrorKind::Refused(reason), message)
    }
}
