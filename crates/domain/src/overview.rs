//! How a deployment as a whole stands: the one word that people see.

use crate::instance::{Desired, Health, InstanceStatus, Outcome, Phase, Presence, State, state};

/// The one word that people see for a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentState {
    /// Every copy is as it should be: healthy, stopped on request, or run to its end.
    Running,
    /// Every copy has run to its end with code 0, and none is started again.
    Completed,
    /// Copies are on their way, and none has failed.
    Progressing,
    /// A copy failed or waits to be tried again, or nobody knows how it is.
    Degraded,
    /// It is on its way out.
    Deleting,
}

impl DeploymentState {
    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Progressing => "progressing",
            Self::Degraded => "degraded",
            Self::Deleting => "deleting",
        }
    }
}

/// A copy as this judgement sees it.
#[derive(Clone, Copy, Debug)]
pub struct Copy<'a> {
    /// What is wanted of it.
    pub desired: Desired,
    /// What is known of it.
    pub status: &'a InstanceStatus,
    /// Whether that is recent.
    pub presence: Presence,
}

impl Copy<'_> {
    /// Whether it works, as far as is known now.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.presence == Presence::Fresh && self.status.health == Health::Healthy
    }

    /// Whether it has run to its end as its policy lets it.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        state(self.status) == State::Completed
    }

    fn is_as_wanted(&self) -> bool {
        let stopped = self.desired == Desired::Stopped && self.status.progress.phase == Phase::Ended;
        self.is_healthy() || self.is_completed() || stopped
    }

    fn is_unwell(&self) -> bool {
        let failed = matches!(state(self.status), State::Failed | State::BackingOff);
        let by_itself = !matches!(self.status.outcome, Some(Outcome::Stopped { .. }));
        (failed && by_itself && self.desired == Desired::Running) || self.presence != Presence::Fresh
    }
}

/// Derives the word that people see. The only place that does. `copies` are those
/// that are not on their way out.
#[must_use]
pub fn deployment_state(replicas: u32, deleting: bool, copies: &[Copy<'_>]) -> DeploymentState {
    let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
    if deleting {
        DeploymentState::Deleting
    } else if copies.iter().any(Copy::is_unwell) {
        DeploymentState::Degraded
    } else if wanted > 0 && copies.len() >= wanted && copies.iter().all(Copy::is_completed) {
        DeploymentState::Completed
    } else if copies.len() >= wanted && copies.iter().all(Copy::is_as_wanted) {
        DeploymentState::Running
    } else {
        DeploymentState::Progressing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Progress;

    fn status(phase: Phase, edit: impl FnOnce(&mut InstanceStatus)) -> InstanceStatus {
        let mut status = InstanceStatus {
            progress: Progress { attempt: 1, phase, removed: false },
            ..InstanceStatus::FIRST
        };
        edit(&mut status);
        status
    }

    fn judged(replicas: u32, copies: &[(Desired, InstanceStatus, Presence)]) -> DeploymentState {
        let copies: Vec<_> = copies
            .iter()
            .map(|(desired, status, presence)| Copy { desired: *desired, status, presence: *presence })
            .collect();
        deployment_state(replicas, false, &copies)
    }

    #[test]
    fn each_kind_of_copy_leads_to_its_word() {
        let healthy =
            (Desired::Running, status(Phase::Running, |s| s.health = Health::Healthy), Presence::Fresh);
        let starting = (Desired::Running, status(Phase::Starting, |_| {}), Presence::Fresh);
        let exited = |code, waits: bool| {
            let ended = status(Phase::Ended, |s| {
                s.outcome = Some(Outcome::Exited { code, oom: false });
                s.backoff_until = waits.then_some(crate::Timestamp::UNIX_EPOCH);
            });
            (Desired::Running, ended, Presence::Fresh)
        };
        let stopped = status(Phase::Ended, |s| s.outcome = Some(Outcome::Stopped { code: Some(0) }));
        let lost = (Desired::Running, healthy.1.clone(), Presence::Lost);
        assert_eq!(judged(0, &[]), DeploymentState::Running);
        assert_eq!(judged(2, std::slice::from_ref(&healthy)), DeploymentState::Progressing);
        assert_eq!(judged(2, &[healthy.clone(), starting]), DeploymentState::Progressing);
        assert_eq!(judged(2, &[healthy.clone(), healthy.clone()]), DeploymentState::Running);
        assert_eq!(judged(2, &[healthy.clone(), exited(1, true)]), DeploymentState::Degraded);
        assert_eq!(judged(2, &[healthy.clone(), exited(1, false)]), DeploymentState::Degraded);
        assert_eq!(judged(1, &[exited(0, false)]), DeploymentState::Completed);
        assert_eq!(judged(1, &[(Desired::Stopped, stopped, Presence::Fresh)]), DeploymentState::Running);
        assert_eq!(judged(2, &[healthy, lost]), DeploymentState::Degraded);
        assert_eq!(deployment_state(1, true, &[]), DeploymentState::Deleting);
    }
}
