//! How far a user's mutation has come, and its verdict.
//!
//! An operation is never told that it succeeded: it is judged by what the agents
//! have reported, again and again, until the verdict is clear. So it survives a
//! crash of either side, and says what is true and not what was tried.

mod drain;
mod rollout;

use serde::{Deserialize, Serialize};

pub use rollout::RolloutView;

use crate::{
    Timestamp,
    id::InstanceId,
    instance::{Desired, Health, InstanceStatus, Outcome, Phase},
};

/// Failures in a row after which a new instance is called a crash loop.
pub const CRASH_LOOP_FAILURES: u32 = 5;

/// What a user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// All copies of a deployment shall run and be healthy.
    DeploymentCreate,
    /// All copies of a deployment shall be as a new revision says.
    DeploymentUpdate,
    /// All copies of a deployment shall be as an earlier revision said.
    DeploymentRollback,
    /// There shall be more copies of a deployment, or fewer.
    DeploymentScale,
    /// Nothing of a deployment shall be left.
    DeploymentDelete,
    /// One instance shall be started anew.
    InstanceRestart,
    /// One instance shall not run.
    InstanceStop,
    /// One instance shall run.
    InstanceStart,
    /// Nothing that can be moved shall be left on a node.
    NodeDrain,
}

impl OperationKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::DeploymentCreate,
        Self::DeploymentUpdate,
        Self::DeploymentRollback,
        Self::DeploymentScale,
        Self::DeploymentDelete,
        Self::InstanceRestart,
        Self::InstanceStop,
        Self::InstanceStart,
        Self::NodeDrain,
    ];

    /// The stable text used in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeploymentCreate => "deployment_create",
            Self::DeploymentUpdate => "deployment_update",
            Self::DeploymentRollback => "deployment_rollback",
            Self::DeploymentScale => "deployment_scale",
            Self::DeploymentDelete => "deployment_delete",
            Self::InstanceRestart => "instance_restart",
            Self::InstanceStop => "instance_stop",
            Self::InstanceStart => "instance_start",
            Self::NodeDrain => "node_drain",
        }
    }

    /// Reads [`OperationKind::as_str`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How an operation ended (I9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// What was asked for is so.
    Succeeded,
    /// It is not so, and what was there before still is.
    FailedKeptOld,
    /// It was so in part, and was taken back.
    RolledBack,
    /// It is not so.
    Failed,
    /// Somebody ended it, or a newer operation took its place.
    Cancelled,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Succeeded, Self::FailedKeptOld, Self::RolledBack, Self::Failed, Self::Cancelled];

    /// The stable text used in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::FailedKeptOld => "failed_kept_old",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads [`Verdict::as_str`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == text)
    }
}

/// An instance that an operation is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Whom.
    pub instance_id: InstanceId,
    /// The name of its node, for messages.
    pub node: String,
    /// What is wanted of it now.
    pub desired: Desired,
    /// What is known of it.
    pub status: InstanceStatus,
    /// Whether it is like the copies of its deployment's present revision.
    pub current: bool,
    /// Whether its node is not heard of for so long that it is replaced elsewhere.
    pub lost: bool,
    /// Whether its node is heard of, and its engine answers.
    pub heard: bool,
    /// Whether a drain leaves it where it is, since its data is on its node.
    pub stays: bool,
}

/// An operation as the judge sees it.
#[derive(Clone, Debug)]
pub struct OperationView {
    /// What was asked for.
    pub kind: OperationKind,
    /// How many instances it is about: replicas at its start, or 1.
    pub total: u32,
    /// The restart request it made, for those about one instance.
    pub restart_generation: u32,
    /// How many were done when it was last judged.
    pub done: u32,
    /// When `done` last grew, or else when it began.
    pub progressed_at: Timestamp,
    /// Without progress for that long, it fails.
    pub deadline: std::time::Duration,
    /// For those about the revision of a deployment.
    pub rollout: RolloutView,
}

/// What the judge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How many instances are as asked for.
    pub done: u32,
    /// Of how many.
    pub total: u32,
    /// `None` while it is open.
    pub verdict: Option<Verdict>,
    /// Where it stands, in one sentence.
    pub message: String,
    /// What is to be done about it.
    pub then: Then,
}

/// What is to be done about an operation besides writing down how it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    #[default]
    Nothing,
    /// Its deployment goes back to the revision before, for this reason.
    Revert(String),
    /// Its deployment is left as it is, for this reason: nothing more gives way.
    Halt(String),
    /// Its deployment's present revision is good from now on.
    Stable,
    /// Its node is not drained any more.
    EndDrain,
}

/// Judges an operation by what is known of its instances.
///
/// `subjects` are the instances it is about that still exist: for a deployment,
/// those of it that are not released; for an instance, that one, or none when it
/// is gone. `pending` says why instances could not be placed, where that is so.
#[must_use]
pub fn judge(
    operation: &OperationView,
    subjects: &[Subject],
    pending: Option<&str>,
    now: Timestamp,
) -> Judgement {
    match operation.kind {
        OperationKind::DeploymentCreate
        | OperationKind::DeploymentUpdate
        | OperationKind::DeploymentRollback
        | OperationKind::DeploymentScale => rollout::judge(operation, subjects, pending, now),
        OperationKind::DeploymentDelete => judge_delete(operation, subjects, now),
        OperationKind::InstanceRestart | OperationKind::InstanceStop | OperationKind::InstanceStart => {
            judge_instance(operation, subjects, now)
        }
        OperationKind::NodeDrain => drain::judge(operation, subjects, pending, now),
    }
}

fn overdue(operation: &OperationView, done: u32, now: Timestamp) -> bool {
    done <= operation.done
        && (now - operation.progressed_at).to_std().is_ok_and(|age| age >= operation.deadline)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Why an instance will not come up by itself, if so.
fn hopeless(subject: &Subject) -> Option<String> {
    let status = &subject.status;
    let ended = status.progress.phase == Phase::Ended;
    let place = format!("instance {} on {}", subject.instance_id, subject.node);
    match &status.outcome {
        Some(Outcome::Failed { reason, message, .. }) if ended && !reason.may_pass() => {
            Some(format!("{place}: {}: {message}", reason.as_str()))
        }
        Some(Outcome::Failed { message, .. }) if status.failures >= CRASH_LOOP_FAILURES => {
            Some(format!("{place} failed {} times in a row: {message}", status.failures))
        }
        Some(Outcome::Exited { code, .. }) if status.failures >= CRASH_LOOP_FAILURES => Some(format!(
            "{place} crash-loops: it ended {} times in a row, last with exit code {code}",
            status.failures
        )),
        Some(Outcome::Exited { code, oom }) if ended && status.backoff_until.is_none() && *code != 0 => {
            let why = if *oom { ", out of memory" } else { "" };
            Some(format!("{place} ended with exit code {code}{why} and is not restarted"))
        }
        _ => None,
    }
}

/// Whether an instance does what is wanted of it: healthy, or run to its end
/// where its policy lets it end. One that its user has stopped counts, too.
pub(crate) fn is_up(desired: Desired, status: &InstanceStatus) -> bool {
    let completed = status.progress.phase == Phase::Ended
        && status.backoff_until.is_none()
        && matches!(status.outcome, Some(Outcome::Exited { code: 0, .. }));
    let stopped = desired == Desired::Stopped && status.progress.phase == Phase::Ended;
    (status.progress.phase == Phase::Running && status.health == Health::Healthy) || completed || stopped
}

fn judge_delete(operation: &OperationView, subjects: &[Subject], now: Timestamp) -> Judgement {
    let left: Vec<_> = subjects.iter().filter(|s| !s.status.progress.removed).collect();
    let total = operation.total.max(count(left.len()));
    let done = total - count(left.len());
    let judged = |verdict, message| Judgement { done, total, verdict, message, then: Then::Nothing };
    let Some(first) = left.first() else {
        return judged(Some(Verdict::Succeeded), format!("all {total} instances are gone"));
    };
    let waiting = format!("{done} of {total} are gone; waiting for node {}", first.node);
    if overdue(operation, done, now) {
        return judged(
            Some(Verdict::Failed),
            format!(
                "no progress for {} s: {waiting}, which removes the rest when it is back",
                operation.deadline.as_secs()
            ),
        );
    }
    judged(None, waiting)
}

fn judge_instance(operation: &OperationView, subjects: &[Subject], now: Timestamp) -> Judgement {
    let judged =
        |done, verdict, message: String| Judgement { done, total: 1, verdict, message, then: Then::Nothing };
    let Some(subject) = subjects.first().filter(|s| s.desired != Desired::Removed) else {
        return judged(0, Some(Verdict::Cancelled), "the instance was removed".into());
    };
    let status = &subject.status;
    let wanted =
        if operation.kind == OperationKind::InstanceStop { Desired::Stopped } else { Desired::Running };
    if subject.desired != wanted {
        return judged(0, Some(Verdict::Cancelled), "a newer request took its place".into());
    }
    let seen = status.restart_generation >= operation.restart_generation;
    let so = match operation.kind {
        OperationKind::InstanceStop => {
            status.progress.phase == Phase::Ended && status.backoff_until.is_none()
        }
        _ => seen && is_up(subject.desired, status),
    };
    if so {
        return judged(
            1,
            Some(Verdict::Succeeded),
            format!("the instance is {}", crate::instance::state(status)),
        );
    }
    if let Some(why) = hopeless(subject).filter(|_| seen && wanted == Desired::Running) {
        return judged(0, Some(Verdict::Failed), why);
    }
    let waiting =
        format!("the instance is {}; waiting for node {}", crate::instance::state(status), subject.node);
    if overdue(operation, 0, now) {
        return judged(
            0,
            Some(Verdict::Failed),
            format!("no progress for {} s: {waiting}", operation.deadline.as_secs()),
        );
    }
    judged(0, None, waiting)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::instance::{FailureReason, Progress};
    use chrono::TimeDelta;
    use std::time::Duration;
    use uuid::Uuid;

    pub(super) fn operation(kind: OperationKind, total: u32) -> OperationView {
        OperationView {
            kind,
            total,
            restart_generation: 0,
            done: 0,
            progressed_at: Timestamp::UNIX_EPOCH,
            deadline: Duration::from_secs(60),
            rollout: RolloutView::default(),
        }
    }

    pub(super) fn subject(phase: Phase, edit: impl FnOnce(&mut Subject)) -> Subject {
        let mut subject = Subject {
            instance_id: InstanceId::from_uuid(Uuid::nil()),
            node: "n1".into(),
            desired: Desired::Running,
            status: InstanceStatus {
                progress: Progress { attempt: 1, phase, removed: false },
                ..InstanceStatus::FIRST
            },
            current: true,
            lost: false,
            heard: true,
            stays: false,
        };
        edit(&mut subject);
        subject
    }

    pub(super) fn healthy() -> Subject {
        subject(Phase::Running, |s| s.status.health = Health::Healthy)
    }

    fn verdict(operation: &OperationView, subjects: &[Subject], seconds: i64) -> Option<Verdict> {
        judge(operation, subjects, None, Timestamp::UNIX_EPOCH + TimeDelta::seconds(seconds)).verdict
    }

    #[test]
    fn a_creation_succeeds_only_when_all_copies_are_healthy() {
        let op = operation(OperationKind::DeploymentCreate, 2);
        assert_eq!(verdict(&op, &[healthy(), subject(Phase::Running, |_| {})], 1), None);
        assert_eq!(verdict(&op, &[healthy(), healthy()], 1), Some(Verdict::Succeeded));
        assert_eq!(verdict(&operation(OperationKind::DeploymentCreate, 0), &[], 0), Some(Verdict::Succeeded));
    }

    #[test]
    fn a_creation_fails_at_once_where_nothing_can_mend_it_and_by_deadline_elsewhere() {
        let op = operation(OperationKind::DeploymentCreate, 1);
        let missing = |reason| {
            subject(Phase::Ended, |s| {
                s.status.outcome = Some(Outcome::failed(reason, "no such image"));
                s.status.backoff_until = reason.may_pass().then_some(Timestamp::UNIX_EPOCH);
            })
        };
        assert_eq!(verdict(&op, &[missing(FailureReason::ImageNotFound)], 1), Some(Verdict::Failed));
        assert_eq!(verdict(&op, &[missing(FailureReason::ImagePullFailed)], 1), None);
        assert_eq!(verdict(&op, &[missing(FailureReason::ImagePullFailed)], 60), Some(Verdict::Failed));
    }

    #[test]
    fn a_crash_loop_fails_a_creation_before_its_deadline() {
        let op = operation(OperationKind::DeploymentCreate, 1);
        let looping = |failures| {
            subject(Phase::Ended, |s| {
                s.status.outcome = Some(Outcome::Exited { code: 1, oom: false });
                s.status.backoff_until = Some(Timestamp::UNIX_EPOCH);
                s.status.failures = failures;
            })
        };
        assert_eq!(verdict(&op, &[looping(CRASH_LOOP_FAILURES - 1)], 1), None);
        assert_eq!(verdict(&op, &[looping(CRASH_LOOP_FAILURES)], 1), Some(Verdict::Failed));
    }

    #[test]
    fn progress_pushes_the_deadline_back() {
        let op = OperationView { done: 0, ..operation(OperationKind::DeploymentCreate, 3) };
        let now = Timestamp::UNIX_EPOCH + TimeDelta::seconds(90);
        let judgement = judge(&op, &[healthy()], None, now);
        assert_eq!((judgement.done, judgement.verdict), (1, None));
    }

    #[test]
    fn a_deletion_succeeds_when_every_node_said_that_nothing_is_left() {
        let op = operation(OperationKind::DeploymentDelete, 2);
        let gone = subject(Phase::Ended, |s| s.status.progress.removed = true);
        let stopping = subject(Phase::Stopping, |_| {});
        assert_eq!(verdict(&op, &[gone.clone(), stopping.clone()], 1), None);
        assert_eq!(verdict(&op, std::slice::from_ref(&gone), 1), Some(Verdict::Succeeded));
        assert_eq!(verdict(&op, &[gone, stopping], 61), None, "one of two was progress");
    }

    #[test]
    fn a_restart_is_judged_by_the_request_that_was_carried_out_not_by_what_ran_before() {
        let op = OperationView { restart_generation: 2, ..operation(OperationKind::InstanceRestart, 1) };
        assert_eq!(verdict(&op, &[healthy()], 1), None);
        let mut restarted = healthy();
        restarted.status.restart_generation = 2;
        assert_eq!(verdict(&op, &[restarted], 1), Some(Verdict::Succeeded));
    }

    #[test]
    fn a_stop_that_was_taken_back_is_cancelled() {
        let op = operation(OperationKind::InstanceStop, 1);
        assert_eq!(verdict(&op, &[healthy()], 1), Some(Verdict::Cancelled));
        let stopping = subject(Phase::Stopping, |s| s.desired = Desired::Stopped);
        assert_eq!(verdict(&op, std::slice::from_ref(&stopping), 1), None);
        assert_eq!(verdict(&op, &[], 1), Some(Verdict::Cancelled));
    }
}
