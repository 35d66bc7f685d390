//! The verdict on a creation, an update, a rollback or a scale.
//!
//! It succeeds when all copies are as the revision wants them and no others are left
//! that could be heard of. It fails when a new copy will not come up by itself, or when
//! nothing gets better for the deadline. What a failure means depends on what was done
//! by then: `failed_kept_old` is said only where no copy that served was taken away, and
//! `rolled_back` only once the copies of the revision before are all healthy again.

use super::{
    Judgement, OperationKind, OperationView, Subject, Then, Verdict, count, hopeless, is_up, overdue,
};
use crate::{Timestamp, instance::Desired};

/// What is particular about an operation that brings a revision about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutView {
    /// Whether copies must be replaced for it.
    pub replaces_copies: bool,
    /// Whether a failure is taken back.
    pub auto_rollback: bool,
    /// How many copies of other revisions it has taken away.
    pub replaced: u32,
    /// Why it is being taken back, where it is.
    pub reverting: Option<String>,
    /// Who or what halted it, where somebody did.
    pub paused: Option<String>,
}

pub(super) fn judge(
    operation: &OperationView,
    subjects: &[Subject],
    pending: Option<&str>,
    now: Timestamp,
) -> Judgement {
    let kept = || subjects.iter().filter(|s| s.desired != Desired::Removed && !s.lost);
    let new: Vec<_> = kept().filter(|s| s.current).collect();
    let up = count(new.iter().filter(|s| s.heard && is_up(s.desired, &s.status)).count());
    let rollout = Rollout {
        operation,
        done: up.min(operation.total),
        // Copies that are still to go, where somebody can say whether they have gone.
        left: kept().count().saturating_sub(operation.total as usize)
            + subjects
                .iter()
                .filter(|s| s.desired == Desired::Removed && s.heard && !s.status.progress.removed)
                .count(),
        old: kept().filter(|s| !s.current).count(),
        pending,
        now,
    };
    match &operation.rollout.reverting {
        Some(why) => rollout.reverting(&new, why),
        None => rollout.going(&new),
    }
}

struct Rollout<'a> {
    operation: &'a OperationView,
    done: u32,
    left: usize,
    old: usize,
    pending: Option<&'a str>,
    now: Timestamp,
}

impl Rollout<'_> {
    fn judged(&self, verdict: Option<Verdict>, message: String, then: Then) -> Judgement {
        Judgement { done: self.done, total: self.operation.total, verdict, message, then }
    }

    fn is_complete(&self) -> bool {
        self.done >= self.operation.total
    }

    fn is_overdue(&self) -> bool {
        overdue(self.operation, self.done, self.now)
    }

    fn standing(&self) -> String {
        let mut text = format!("{} of {} are healthy", self.done, self.operation.total);
        if self.operation.kind != OperationKind::DeploymentCreate && self.old > 0 {
            text.push_str(&format!(", {} old ones are still there", self.old));
        }
        if let Some(why) = self.pending {
            text.push_str(&format!("; {why}"));
        }
        text
    }

    fn going(&self, new: &[&Subject]) -> Judgement {
        if self.is_complete() {
            let all = format!("all {} instances are as asked for", self.done);
            return match self.left + self.old {
                0 => self.judged(Some(Verdict::Succeeded), all, Then::Stable),
                left if self.is_overdue() => {
                    let message = format!("{all}, but {left} that are to go are still there");
                    self.judged(Some(Verdict::Succeeded), message, Then::Stable)
                }
                left => self.judged(None, format!("{all}; {left} are to go"), Then::Nothing),
            };
        }
        if let Some(who) = &self.operation.rollout.paused {
            return self.judged(None, format!("paused ({who}): {}", self.standing()), Then::Nothing);
        }
        let fault = new.iter().find_map(|s| hopeless(s)).or_else(|| self.late());
        match fault {
            Some(why) => self.failed(why),
            None => self.judged(None, self.standing(), Then::Nothing),
        }
    }

    fn late(&self) -> Option<String> {
        let seconds = self.operation.deadline.as_secs();
        self.is_overdue().then(|| format!("no progress for {seconds} s: {}", self.standing()))
    }

    fn failed(&self, why: String) -> Judgement {
        let RolloutView { replaces_copies, auto_rollback, replaced, .. } = self.operation.rollout;
        if !replaces_copies {
            return self.judged(Some(Verdict::Failed), why, Then::Nothing);
        }
        let kept = replaced == 0;
        match (kept, auto_rollback) {
            (true, true) => {
                let message = format!("{why}. No copy that was there before was touched");
                self.judged(Some(Verdict::FailedKeptOld), message, Then::Revert(why))
            }
            (true, false) => {
                let message =
                    format!("{why}. No copy that was there before was touched; the new ones are left");
                self.judged(Some(Verdict::FailedKeptOld), message, Then::Halt(why))
            }
            (false, true) => {
                let message = format!("going back, because {why}");
                self.judged(None, message, Then::Revert(why))
            }
            (false, false) => {
                let message = format!("{why}. {replaced} copies were replaced before; all is left as it is");
                self.judged(Some(Verdict::Failed), message, Then::Halt(why))
            }
        }
    }

    fn reverting(&self, new: &[&Subject], why: &str) -> Judgement {
        if self.is_complete() {
            let message = format!("all {} copies are as before again. It failed because {why}", self.done);
            return self.judged(Some(Verdict::RolledBack), message, Then::Stable);
        }
        match new.iter().find_map(|s| hopeless(s)).or_else(|| self.late()) {
            Some(fault) => {
                let message = format!("it failed because {why}, and could not be taken back: {fault}");
                self.judged(Some(Verdict::Failed), message, Then::Nothing)
            }
            None => {
                let message = format!("going back, because {why}: {}", self.standing());
                self.judged(None, message, Then::Nothing)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        instance::{FailureReason, Outcome, Phase},
        operation::tests::{healthy, operation, subject},
    };
    use chrono::TimeDelta;

    fn update(replaced: u32, auto_rollback: bool) -> OperationView {
        let mut view = operation(OperationKind::DeploymentUpdate, 2);
        view.rollout =
            RolloutView { replaces_copies: true, auto_rollback, replaced, ..RolloutView::default() };
        view
    }

    fn old() -> Subject {
        Subject { current: false, ..healthy() }
    }

    fn broken() -> Subject {
        subject(Phase::Ended, |s| {
            s.status.outcome = Some(Outcome::failed(FailureReason::ImageNotFound, "no such image"));
        })
    }

    fn judged(operation: &OperationView, subjects: &[Subject], seconds: i64) -> (Option<Verdict>, Then) {
        let judgement = judge(operation, subjects, None, Timestamp::UNIX_EPOCH + TimeDelta::seconds(seconds));
        (judgement.verdict, judgement.then)
    }

    #[test]
    fn an_update_succeeds_when_the_old_copies_are_gone_as_well() {
        let going = subject(Phase::Stopping, |s| s.desired = Desired::Removed);
        let unheard = Subject { heard: false, ..going.clone() };
        let two = [healthy(), healthy()];
        let with = |more: Subject| [two.to_vec(), vec![more]].concat();
        assert_eq!(judged(&update(2, true), &two, 1), (Some(Verdict::Succeeded), Then::Stable));
        assert_eq!(judged(&update(2, true), &with(old()), 1), (None, Then::Nothing));
        assert_eq!(judged(&update(2, true), &with(going.clone()), 1), (None, Then::Nothing));
        assert_eq!(judged(&update(2, true), &with(unheard), 1).0, Some(Verdict::Succeeded));
        let stalled = OperationView { done: 2, ..update(2, true) };
        assert_eq!(judged(&stalled, &with(going), 61).0, Some(Verdict::Succeeded), "all is as asked for");
    }

    #[test]
    fn what_is_on_a_lost_or_silent_node_does_not_count_as_healthy() {
        for away in [Subject { lost: true, ..healthy() }, Subject { heard: false, ..healthy() }] {
            assert_eq!(judged(&update(0, true), &[healthy(), away], 1).0, None);
        }
    }

    #[test]
    fn a_failure_is_called_what_it_is() {
        let all = [old(), old(), broken()];
        let cases = [
            (0, true, Some(Verdict::FailedKeptOld), "revert"),
            (0, false, Some(Verdict::FailedKeptOld), "halt"),
            (1, true, None, "revert"),
            (1, false, Some(Verdict::Failed), "halt"),
        ];
        for (replaced, auto, verdict, then) in cases {
            let (got, what) = judged(&update(replaced, auto), &all, 1);
            let what = match what {
                Then::Revert(_) => "revert",
                Then::Halt(_) => "halt",
                _ => "nothing",
            };
            assert_eq!((got, what), (verdict, then), "{replaced} {auto}");
        }
    }

    #[test]
    fn no_progress_is_a_failure_too_unless_somebody_paused_it() {
        let slow = [old(), old(), subject(Phase::Pulling, |_| {})];
        assert_eq!(judged(&update(0, true), &slow, 59).0, None);
        assert_eq!(judged(&update(0, true), &slow, 60).0, Some(Verdict::FailedKeptOld));
        let mut paused = update(0, true);
        paused.rollout.paused = Some("by ann".into());
        assert_eq!(judged(&paused, &slow, 600), (None, Then::Nothing));
    }

    #[test]
    fn it_is_rolled_back_only_once_the_old_copies_are_all_healthy_again() {
        let mut back = update(1, true);
        back.rollout.reverting = Some("the new one crashed".into());
        assert_eq!(judged(&back, &[healthy(), subject(Phase::Starting, |_| {})], 1).0, None);
        assert_eq!(judged(&back, &[healthy(), healthy()], 1), (Some(Verdict::RolledBack), Then::Stable));
        assert_eq!(judged(&back, &[healthy(), broken()], 1), (Some(Verdict::Failed), Then::Nothing));
        assert_eq!(judged(&back, &[healthy()], 600).0, None, "one more is healthy than before");
        let stalled = OperationView { done: 1, ..back };
        assert_eq!(judged(&stalled, &[healthy()], 60).0, Some(Verdict::Failed));
    }

    #[test]
    fn a_scale_down_waits_for_the_surplus_and_one_up_that_fails_changes_nothing_back() {
        let scale = operation(OperationKind::DeploymentScale, 1);
        let going = subject(Phase::Stopping, |s| s.desired = Desired::Removed);
        assert_eq!(judged(&scale, &[healthy(), healthy()], 1).0, None);
        assert_eq!(judged(&scale, &[healthy(), going], 1).0, None);
        assert_eq!(judged(&scale, &[healthy()], 1).0, Some(Verdict::Succeeded));
        let up = operation(OperationKind::DeploymentScale, 2);
        assert_eq!(judged(&up, &[healthy(), broken()], 1), (Some(Verdict::Failed), Then::Nothing));
    }
}
