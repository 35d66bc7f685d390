//! What an agent does next about one instance.
//!
//! An instance has one container for its whole life, named after it and started
//! again in place. The engine's own restart policy is always `no`: the agent is
//! the supervisor, because only it knows about back-off, about requests to
//! restart, and about who else meddled.
//!
//! The identity of a run is the engine's `started_at`. A [`Record`] remembers the
//! one that it last accounted for, so an agent that comes back after a crash can
//! tell a run that it knows from one that began meanwhile, without having written
//! down what it was about to do. There is one exception: a restart that a user
//! asked for must happen once. So [`heed`] says when its note has to be on disk
//! before the next step may be taken.
//!
//! The loop around it:
//!
//! 1. look at the engine, then [`observe`]: what has happened; and with what is found
//!    out beside that, [`probed`] and [`measured`]: whether it works, and whether it
//!    has to end although it is wanted;
//! 2. [`heed`]: what the wish means for an instance at rest;
//! 3. [`decide`]: what to do now; [`begin`] it, carry it out, and look again, or
//!    tell [`failed`].
//!
//! All of it is pure, and repeating any of it changes nothing. What a caller must
//! not do is call [`observe`] when the engine did not answer (I5), or anything
//! while a step of the same instance is under way.

mod act;
mod container;
mod decide;
mod end;
mod heed;
mod observe;
#[cfg(test)]
mod tests;
mod vital;

pub use act::{
    Failure, begin, failed, held_up, image_checked, image_pulled, is_held_up, prepared, resumed, succeeded,
};
pub use container::{Container, ContainerStatus, Seen};
pub use decide::{decide, hold_back};
pub use heed::{Heeded, heed};
pub use observe::observe;
pub use vital::{identified, jumped, measured, probed, unprobed};

use std::{fmt, time::Duration};

use chrono::TimeDelta;

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    assignment::Assignment,
    backoff,
    id::InstanceId,
    instance::{Cause, Desired, Health, InstanceStatus, Outcome, Phase},
};

/// Grace for a container whose spec is not known any more.
const GRACE_UNKNOWN: Duration = Duration::from_secs(10);

/// What an agent remembers of an instance, in its ledger.
///
/// It needs to be written down only together with the transitions that changed
/// it: what it says beyond them can be found out again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of which.
    pub instance_id: InstanceId,
    /// All that is known, as it is reported.
    pub status: InstanceStatus,
    /// The engine's `started_at` of the run that was last accounted for.
    pub last_started: Option<Timestamp>,
    /// Why the present attempt was begun.
    pub because: Cause,
    /// Why the present attempt is being stopped, where nobody asked for it. Written
    /// down with the stop's beginning, so that the next agent, too, knows how the
    /// attempt ended.
    #[serde(default)]
    stopping_for: Option<Doom>,
    /// Since when its probes have found it healthy; `None` while they have not.
    #[serde(default)]
    healthy_since: Option<Timestamp>,
    /// Why the present run has to end although it is wanted. An agent that comes back
    /// finds it out anew: what it remembers of a program may be true no longer.
    #[serde(skip)]
    doom: Option<Doom>,
    /// Whether none of the declared probes can be carried out.
    #[serde(skip)]
    unprobed: bool,
    /// How much further than time the calendar went since the present run began. An agent
    /// that comes back does not know.
    #[serde(skip)]
    jumped: TimeDelta,
    /// What is known of its image; found out anew by each attempt that makes a
    /// container, and by each agent.
    #[serde(skip)]
    image: Image,
    /// Whether what it is given is at hand; found out anew by each attempt, and by
    /// each agent.
    #[serde(skip)]
    ready: bool,
    /// A step that failed without ending the attempt, and is tried again.
    #[serde(skip)]
    retry: Option<Retry>,
    /// What the next step waits for, where that is nobody's failure, as it was last told.
    #[serde(skip)]
    held: Option<String>,
}

impl Record {
    /// Of an instance that nothing is known about yet.
    #[must_use]
    pub const fn new(instance_id: InstanceId) -> Self {
        Self {
            instance_id,
            status: InstanceStatus::FIRST,
            last_started: None,
            because: Cause::Assigned,
            stopping_for: None,
            healthy_since: None,
            doom: None,
            unprobed: false,
            jumped: TimeDelta::zero(),
            image: Image::Unknown,
            ready: false,
            retry: None,
            held: None,
        }
    }

    /// Of an instance that this agent is told about for the first time.
    ///
    /// Restarts that were asked for before are none of its business: either nothing
    /// runs yet, or an agent that has lost its memory finds what ran before, and that
    /// is not to be restarted because of it (I10).
    #[must_use]
    pub fn of(assignment: &Assignment) -> Self {
        let mut record = Self::new(assignment.instance_id);
        record.status.restart_generation = assignment.restart_generation;
        record
    }

    /// Whether nothing is known yet, not even an assignment.
    #[must_use]
    pub fn is_new(&self) -> bool {
        *self == Self::new(self.instance_id)
    }

    const fn phase(&self) -> Phase {
        self.status.progress.phase
    }

    /// Moves on within the attempt; never back.
    fn reach(&mut self, phase: Phase) {
        self.status.progress.phase = self.status.progress.phase.max(phase);
    }

    fn begin_attempt(&mut self, because: Cause) {
        let status = &mut self.status;
        status.progress.attempt = status.progress.attempt.saturating_add(1);
        status.progress.phase = Phase::Assigned;
        status.outcome = None;
        status.health = Health::Unknown;
        status.started_at = None;
        status.finished_at = None;
        status.backoff_until = None;
        status.ports.clear();
        self.because = because;
        self.stopping_for = None;
        self.healthy_since = None;
        self.doom = None;
        self.unprobed = false;
        self.image = Image::Unknown;
        self.ready = false;
        self.held = None;
    }

    /// Whether it is healthy by having run for a while: nothing else can tell.
    const fn is_judged_by_time(&self, assignment: &Assignment) -> bool {
        self.unprobed || assignment.spec.probes.is_empty()
    }

    /// When the present run, where it is judged by time, will have lasted long enough.
    fn healthy_at(&self, assignment: &Assignment) -> Option<Timestamp> {
        self.status.started_at.map(|started| started + delta(assignment.spec.min_healthy()) + self.jumped)
    }

    fn transition(&self, cause: Cause, message: impl Into<String>, at: Timestamp) -> Transition {
        Transition {
            instance_id: self.instance_id,
            status: self.status.clone(),
            cause,
            message: message.into(),
            at,
        }
    }

    /// Spreads the waits of different instances.
    const fn seed(&self) -> u64 {
        self.instance_id.uuid().as_u64_pair().1
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Image {
    #[default]
    Unknown,
    Missing,
    Here,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Retry {
    at: Timestamp,
    failures: u32,
}

/// Why a run is ended by its agent although a user wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Doom {
    /// A liveness probe failed more often than its retries allow.
    Unhealthy {
        /// What the probe found.
        message: String,
    },
    /// Its writable layer is over its limit.
    Storage {
        /// By how much.
        message: String,
    },
    /// The controller gave no word for longer than it may run without.
    Lease,
}

impl Doom {
    const fn cause(&self) -> Cause {
        match self {
            Self::Unhealthy { .. } => Cause::Probe,
            Self::Storage { .. } => Cause::Storage,
            Self::Lease => Cause::LeaseExpired,
        }
    }
}

impl fmt::Display for Doom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unhealthy { message } | Self::Storage { message } => f.write_str(message),
            Self::Lease => f.write_str("the controller gave no word for too long"),
        }
    }
}

/// Something that happened to an instance and is to be reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// To whom.
    pub instance_id: InstanceId,
    /// All that is known after it.
    pub status: InstanceStatus,
    /// What brought it about.
    pub cause: Cause,
    /// One sentence for the timeline.
    pub message: String,
    /// When it happened, by the node's clock.
    pub at: Timestamp,
}

/// What is wanted of an instance, as far as this agent knows.
#[derive(Clone, Copy, Debug)]
pub enum Wish<'a> {
    /// A container shall run.
    Run(&'a Assignment),
    /// A container shall run, and does not until the controller gives a word again.
    Hold(&'a Assignment),
    /// A container may exist and shall not run.
    Stop(&'a Assignment),
    /// No container shall exist. `None` when the instance is no longer this
    /// node's business, so that it can be forgotten afterwards.
    Remove(Option<&'a Assignment>),
}

impl<'a> Wish<'a> {
    /// Reads it from the assignments. `None` when nothing may be concluded: there
    /// is no assignment, and no complete set of them has come since the agent started
    /// (`complete_received`), so it may simply not have been told yet.
    #[must_use]
    pub fn of(assignment: Option<&'a Assignment>, complete_received: bool) -> Option<Self> {
        match assignment {
            Some(assignment) => Some(match assignment.desired {
                Desired::Running => Self::Run(assignment),
                Desired::Stopped => Self::Stop(assignment),
                Desired::Removed => Self::Remove(Some(assignment)),
            }),
            None => complete_received.then_some(Self::Remove(None)),
        }
    }

    /// The same, `lease_age` after the controller's last word: one that may not run
    /// without it for so long is held.
    #[must_use]
    pub fn under_lease(self, lease_age: Duration) -> Self {
        match self {
            Self::Run(assignment) if is_overdue(assignment, lease_age) => Self::Hold(assignment),
            wish => wish,
        }
    }

    /// What is to run, or not to.
    #[must_use]
    pub const fn assignment(&self) -> Option<&'a Assignment> {
        match self {
            Self::Run(assignment) | Self::Hold(assignment) | Self::Stop(assignment) => Some(assignment),
            Self::Remove(assignment) => *assignment,
        }
    }

    fn grace(&self) -> Duration {
        self.assignment().map_or(GRACE_UNKNOWN, |assignment| assignment.spec.stop_grace())
    }

    /// Whether a user asked for a restart that has not been carried out.
    fn restart_pending(&self, record: &Record) -> bool {
        matches!(self, Self::Run(assignment) if assignment.restart_generation > record.status.restart_generation)
    }

    /// When the next attempt is due, and why there is one. `None` when there is
    /// none, or the present attempt is not over.
    fn next_attempt(&self, record: &Record) -> Option<(Timestamp, Cause)> {
        let (Self::Run(_), Phase::Ended, false) = (self, record.phase(), record.status.progress.removed)
        else {
            return None;
        };
        match record.status.outcome {
            // It was stopped on request, and is wanted again.
            Some(Outcome::Stopped { .. }) => Some((Timestamp::MIN_UTC, Cause::Assigned)),
            _ => record.status.backoff_until.map(|until| (until, Cause::RestartPolicy)),
        }
    }
}

fn is_overdue(assignment: &Assignment, lease_age: Duration) -> bool {
    assignment.spec.stop_after().is_some_and(|most| lease_age > most)
}

/// What to do about an instance now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as wanted, or only something that happens can change it.
    Nothing,
    /// Ask again then; nothing is to be done before, unless something happens.
    WaitUntil(Timestamp),
    /// Look at it: what it would be judged by is out of date.
    Inspect,
    /// Ask the engine whether it holds the image.
    CheckImage,
    /// Fetch the image.
    Pull,
    /// Have at hand what the container is given: values of secrets.
    Prepare,
    /// Make the container.
    Create,
    /// Start the container.
    Start,
    /// Stop the container.
    Stop {
        /// Between the stop signal and the kill.
        grace: Duration,
    },
    /// Remove the container.
    Remove,
    /// Drop the record: nothing of the instance is left, and nobody wants it.
    Forget,
}

/// A wait as a time difference; the waits here are all short.
fn delta(wait: Duration) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(wait).unwrap_or(chrono::TimeDelta::MAX)
}

/// Whether a wait until `until` is over. One that is longer than any wait that is
/// ever given out counts as over: the clock was set back.
fn is_over(until: Timestamp, now: Timestamp) -> bool {
    until <= now || until - now > delta(backoff::LIMIT)
}
