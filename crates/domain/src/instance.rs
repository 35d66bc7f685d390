//! The life of one instance, as the two daemons agree on it.
//!
//! An instance is one-shot: within an attempt its phase only grows, a restart is
//! a higher `attempt`, a changed spec is a new instance. So two reports can
//! always be ordered, and the later one is simply the greater one. That is what
//! lets an agent send a report twice, or late, without doing harm.
//!
//! Health, ports and back-off are gauges that go both ways; they travel with
//! every report, and among reports of equal progress the higher number wins.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Timestamp, deployment::Transport, id::InstanceId, node::NodeState};

/// What the controller wants of an instance. It holds no in-between states on
/// purpose: only an agent knows whether it is pulling or starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// A container runs.
    Running,
    /// A container may exist, and does not run.
    Stopped,
    /// No container exists. Final: an instance never comes back from it.
    Removed,
}

impl Desired {
    /// The stable text used in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Removed => "removed",
        }
    }

    /// Reads [`Desired::as_str`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Stopped, Self::Removed].into_iter().find(|d| d.as_str() == text)
    }
}

/// How far an attempt has come. The order of the variants is the order of time;
/// a new one goes in its place in time, and gets its own number in the proto.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The node knows of it.
    Assigned,
    /// The image is being fetched.
    Pulling,
    /// The container is being made.
    Creating,
    /// It was told to start.
    Starting,
    /// Its process runs.
    Running,
    /// It was told to stop.
    Stopping,
    /// This attempt is over; [`InstanceStatus::outcome`] says how.
    Ended,
}

impl Phase {
    /// All phases, in the order of time.
    pub const ALL: [Self; 7] = [
        Self::Assigned,
        Self::Pulling,
        Self::Creating,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Ended,
    ];

    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Pulling => "pulling",
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        }
    }

    /// The stable number used in the database, spaced so that a phase can be put
    /// between two others.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Assigned => 10,
            Self::Pulling => 20,
            Self::Creating => 30,
            Self::Starting => 40,
            Self::Running => 50,
            Self::Stopping => 60,
            Self::Ended => 70,
        }
    }

    /// Reads [`Phase::number`] back.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.number() == number)
    }
}

/// Where an instance stands. The order of the fields is the order of comparison:
/// a new attempt beats any phase of the old one, and a container that is gone
/// beats one that merely ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Progress {
    /// Counts starts, from 1.
    pub attempt: u32,
    /// How far this attempt has come.
    pub phase: Phase,
    /// Whether nothing of it is left on the node, for good.
    pub removed: bool,
}

impl Progress {
    /// Where every instance begins.
    pub const FIRST: Self = Self { attempt: 1, phase: Phase::Assigned, removed: false };
}

/// Why an attempt failed, as far as a program can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The registry does not have the image, or nobody may pull it.
    ImageNotFound,
    /// The registry refused the login, or there was none.
    ImageDenied,
    /// Fetching it failed in a way that may pass.
    ImagePullFailed,
    /// The engine refused the container's spec, or the node by its own configuration.
    SpecRefused,
    /// A container that is not ours has the name.
    NameTaken,
    /// The container was made, and would not start.
    StartFailed,
    /// The container was removed by somebody else.
    Vanished,
    /// A liveness probe failed, so it was stopped.
    Unhealthy,
    /// Its writable layer was over its limit, so it was stopped.
    StorageExceeded,
}

impl FailureReason {
    /// Whether the same attempt may succeed later without anybody mending something.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        match self {
            Self::ImageNotFound
            | Self::ImageDenied
            | Self::SpecRefused
            | Self::NameTaken
            | Self::StorageExceeded => false,
            Self::ImagePullFailed | Self::StartFailed | Self::Vanished | Self::Unhealthy => true,
        }
    }

    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ImageNotFound => "image_not_found",
            Self::ImageDenied => "image_denied",
            Self::ImagePullFailed => "image_pull_failed",
            Self::SpecRefused => "spec_refused",
            Self::NameTaken => "name_taken",
            Self::StartFailed => "start_failed",
            Self::Vanished => "vanished",
            Self::Unhealthy => "unhealthy",
            Self::StorageExceeded => "storage_exceeded",
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Outcome {
    /// It was told to, by the agent, and nothing was wrong with it.
    Stopped {
        /// Exit code; `None` where no process had run.
        code: Option<i32>,
    },
    /// Its process ended by itself, or was ended by somebody else.
    Exited {
        /// Exit code; 128 + n for signal n.
        code: i32,
        /// Whether the kernel killed it for memory.
        oom: bool,
    },
    /// It never ran, or its container went away, or the agent stopped it because it did
    /// not work or wrote too much.
    Failed {
        /// For programs.
        reason: FailureReason,
        /// For people; what the engine or registry said.
        message: String,
        /// Exit code of the process that was stopped for it; `None` where none had run, or
        /// its container was gone. 128 + n for signal n.
        #[serde(default)]
        code: Option<i32>,
    },
}

impl Outcome {
    /// One that never ran, or of which nothing is left.
    #[must_use]
    pub fn failed(reason: FailureReason, message: impl Into<String>) -> Self {
        Self::Failed { reason, message: message.into(), code: None }
    }

    /// The code that its process ended with, where there was one.
    #[must_use]
    pub const fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Stopped { code } | Self::Failed { code, .. } => *code,
            Self::Exited { code, .. } => Some(*code),
        }
    }

    /// The number of the signal that ended its process, if one did. Told by the code:
    /// a program that exits with 128 + n by itself looks the same.
    #[must_use]
    pub const fn signal(&self) -> Option<i32> {
        match self.exit_code() {
            Some(code @ 129..=192) => Some(code - 128),
            _ => None,
        }
    }
}

/// A gauge, apart from the phase: it goes both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing is known, or it does not run.
    #[default]
    Unknown,
    /// It runs, and has not yet proved itself.
    Starting,
    /// It passed its readiness probe; without one, it ran for `min_healthy_seconds`.
    Healthy,
    /// A probe failed.
    Unhealthy,
}

impl Health {
    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// A port as it is really published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Inside the container.
    pub container_port: u16,
    /// On the host.
    pub host_port: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

/// All that is known of an instance, as its agent last said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Where it stands.
    pub progress: Progress,
    /// How the present attempt ended; `None` before that.
    pub outcome: Option<Outcome>,
    /// Whether it works.
    pub health: Health,
    /// Attempts in a row that failed; 0 after one that ran long enough.
    pub failures: u32,
    /// The restart request last carried out; see [`crate::assignment::Assignment`].
    pub restart_generation: u32,
    /// The engine's id of its container, while there is one.
    pub container_id: Option<String>,
    /// The engine's id of the image that it runs.
    pub image_id: Option<String>,
    /// The same image as its registry names it, `sha256:…`; `None` for one that came
    /// from no registry.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// Whether its writable layer is over its limit.
    #[serde(default)]
    pub storage_exceeded: bool,
    /// Ports as published; empty while it does not run.
    pub ports: Vec<PublishedPort>,
    /// When the present attempt's process started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The next attempt waits until then.
    pub backoff_until: Option<Timestamp>,
}

impl InstanceStatus {
    /// What is known of an instance that its node has not yet heard of.
    pub const FIRST: Self = Self {
        progress: Progress::FIRST,
        outcome: None,
        health: Health::Unknown,
        failures: 0,
        restart_generation: 0,
        container_id: None,
        image_id: None,
        image_digest: None,
        storage_exceeded: false,
        ports: Vec::new(),
        started_at: None,
        finished_at: None,
        backoff_until: None,
    };
}

/// Why a transition happened. Events keep it, so that the timeline can say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Cause {
    /// The assignment asked for it.
    Assigned,
    /// A user asked for a restart.
    RestartRequested,
    /// The restart policy, after the attempt before ended.
    RestartPolicy,
    /// The process ended by itself.
    Process,
    /// Somebody else sent a signal through the engine.
    OutsideSignal {
        /// Its number.
        signal: i32,
    },
    /// Somebody else started, stopped or removed the container.
    Outside,
    /// The kernel, for lack of memory.
    OutOfMemory,
    /// The engine or registry refused.
    Engine,
    /// Time passed: healthy after `min_healthy_seconds`.
    Time,
    /// A probe passed or failed.
    Probe,
    /// Its writable layer grew over its limit, or shrank below it.
    Storage,
    /// The node had no word of the controller for `stop_after_seconds`.
    LeaseExpired,
}

/// One numbered statement of an agent about one of its instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Grows by one with each report of a ledger, from 1.
    pub seq: u64,
    /// About whom.
    pub instance_id: InstanceId,
    /// All that is known now.
    pub status: InstanceStatus,
    /// What brought this transition about.
    pub cause: Cause,
    /// One sentence for the timeline.
    pub message: String,
    /// When it happened, by the node's clock; not when it was sent.
    pub at: Timestamp,
}

/// What is stored of an instance: the greatest report so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The number of the report it came from; 0 before the first.
    pub seq: u64,
    /// What that report said.
    pub status: InstanceStatus,
}

impl Standing {
    /// Before the first report.
    pub const FIRST: Self = Self { seq: 0, status: InstanceStatus::FIRST };

    /// Folds in a report that may be a duplicate, late, or out of order.
    #[must_use]
    pub fn merge(self, report: &Report) -> Self {
        if (report.status.progress, report.seq) > (self.status.progress, self.seq) {
            Self { seq: report.seq, status: report.status.clone() }
        } else {
            self
        }
    }
}

/// Whether what is known of an instance is recent; derived from its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Its node reports.
    Fresh,
    /// Its node is overdue, or its engine does not answer: as last seen.
    Stale,
    /// Its node is unreachable: nobody knows.
    Lost,
}

impl Presence {
    /// Derives it.
    #[must_use]
    pub const fn of(node: NodeState) -> Self {
        match node {
            NodeState::Ready => Self::Fresh,
            NodeState::Enrolled | NodeState::Suspect | NodeState::EngineUnreachable => Self::Stale,
            NodeState::Unreachable => Self::Lost,
        }
    }

    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Lost => "lost",
        }
    }
}

/// The one word that people see for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its node has not yet begun.
    Assigned,
    /// The image is being fetched.
    Pulling,
    /// The container is being made or started.
    Starting,
    /// It runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// It ended and will be started again.
    BackingOff,
    /// It was stopped on request.
    Stopped,
    /// It ended by itself with code 0 and is not started again.
    Completed,
    /// It ended badly and is not started again.
    Failed,
    /// Nothing of it is left.
    Removed,
}

impl State {
    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Pulling => "pulling",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::BackingOff => "backing_off",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Derives the word that people see. The only place that does.
#[must_use]
pub fn state(status: &InstanceStatus) -> State {
    if status.progress.removed {
        return State::Removed;
    }
    match (status.progress.phase, &status.outcome) {
        (Phase::Assigned, _) => State::Assigned,
        (Phase::Pulling, _) => State::Pulling,
        (Phase::Creating | Phase::Starting, _) => State::Starting,
        (Phase::Running, _) => State::Running,
        (Phase::Stopping, _) => State::Stopping,
        (Phase::Ended, Some(Outcome::Stopped { .. })) => State::Stopped,
        (Phase::Ended, _) if status.backoff_until.is_some() => State::BackingOff,
        (Phase::Ended, Some(Outcome::Exited { code: 0, .. })) => State::Completed,
        (Phase::Ended, _) => State::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn report() -> impl Strategy<Value = Report> {
        (1u64..20, 1u32..4, 0usize..7, any::<bool>(), 0u32..3).prop_map(
            |(seq, attempt, phase, removed, failures)| Report {
                seq,
                instance_id: InstanceId::from_uuid(Uuid::nil()),
                status: InstanceStatus {
                    progress: Progress { attempt, phase: Phase::ALL[phase], removed },
                    failures,
                    ..InstanceStatus::FIRST
                },
                cause: Cause::Assigned,
                message: String::new(),
                at: Timestamp::UNIX_EPOCH,
            },
        )
    }

    /// A ledger never says two different things under one number.
    fn numbered(reports: Vec<Report>) -> Vec<Report> {
        let mut by_seq = std::collections::BTreeMap::new();
        for report in reports {
            by_seq.entry(report.seq).or_insert(report);
        }
        by_seq.into_values().collect()
    }

    proptest! {
        #[test]
        fn reports_may_come_twice_and_in_any_order(
            (once, shuffled) in prop::collection::vec(report(), 1..12).prop_map(numbered).prop_flat_map(|reports| {
                let doubled = [reports.clone(), reports.clone()].concat();
                (Just(reports), Just(doubled).prop_shuffle())
            }),
        ) {
            let expected = once.iter().fold(Standing::FIRST, |at, r| at.merge(r));
            let got = shuffled.iter().fold(Standing::FIRST, |at, r| at.merge(r));
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn progress_never_goes_back(reports in prop::collection::vec(report(), 1..12)) {
            let mut at = Standing::FIRST;
            for report in &reports {
                let before = at.status.progress;
                at = at.merge(report);
                prop_assert!(at.status.progress >= before);
            }
        }
    }

    #[test]
    fn phase_numbers_keep_the_order_of_time_and_read_back() {
        for pair in Phase::ALL.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].number() < pair[1].number());
        }
        assert!(Phase::ALL.into_iter().all(|p| Phase::from_number(p.number()) == Some(p)));
    }

    #[test]
    fn a_crashed_instance_that_waits_is_backing_off_and_one_that_does_not_has_failed() {
        let mut status = InstanceStatus {
            progress: Progress { attempt: 1, phase: Phase::Ended, removed: false },
            outcome: Some(Outcome::Exited { code: 1, oom: false }),
            backoff_until: Some(Timestamp::UNIX_EPOCH),
            ..InstanceStatus::FIRST
        };
        assert_eq!(state(&status), State::BackingOff);
        status.backoff_until = None;
        assert_eq!(state(&status), State::Failed);
        status.outcome = Some(Outcome::Exited { code: 0, oom: false });
        assert_eq!(state(&status), State::Completed);
        status.outcome = Some(Outcome::Stopped { code: Some(0) });
        assert_eq!(state(&status), State::Stopped);
    }
}
