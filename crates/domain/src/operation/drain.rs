//! The verdict on a drain: whether a node is free of all that can be moved.

use super::{Judgement, OperationView, Subject, Then, Verdict, count};
use crate::{Timestamp, instance::Desired};

pub(super) fn judge(
    operation: &OperationView,
    subjects: &[Subject],
    pending: Option<&str>,
    now: Timestamp,
) -> Judgement {
    let there = |s: &&Subject| !(s.desired == Desired::Removed && s.status.progress.removed);
    let (stay, left): (Vec<&Subject>, Vec<&Subject>) =
        subjects.iter().filter(there).partition(|s| s.stays && s.desired != Desired::Removed);
    let total = operation.total.max(count(left.len() + stay.len()));
    let done = total - count(left.len() + stay.len());
    let judged = |verdict, message, then| Judgement { done, total, verdict, message, then };
    match (left.len(), stay.len()) {
        (0, 0) => {
            let message = format!("all {total} instances are elsewhere or gone");
            return judged(Some(Verdict::Succeeded), message, Then::EndDrain);
        }
        (0, stay) => {
            let message =
                format!("{stay} instances stay, since their data is on this node; the rest is elsewhere");
            return judged(Some(Verdict::Failed), message, Then::EndDrain);
        }
        _ => {}
    }
    let waiting = match pending {
        Some(why) => format!("{done} of {total} are elsewhere or gone; {why}"),
        None => format!("{done} of {total} are elsewhere or gone"),
    };
    if (now - operation.progressed_at).to_std().is_ok_and(|age| age >= operation.deadline)
        && done <= operation.done
    {
        let message = format!("no progress for {} s: {waiting}", operation.deadline.as_secs());
        return judged(Some(Verdict::Failed), message, Then::EndDrain);
    }
    judged(None, waiting, Then::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        instance::Phase,
        operation::{
            OperationKind,
            tests::{healthy, operation, subject},
        },
    };
    use chrono::TimeDelta;

    fn judged(subjects: &[Subject], seconds: i64) -> (u32, Option<Verdict>, Then) {
        let now = Timestamp::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let judgement = judge(&operation(OperationKind::NodeDrain, 2), subjects, None, now);
        (judgement.done, judgement.verdict, judgement.then)
    }

    #[test]
    fn a_drain_is_over_when_its_agent_said_that_nothing_is_left() {
        let going = subject(Phase::Stopping, |s| s.desired = Desired::Removed);
        let gone = subject(Phase::Ended, |s| {
            s.desired = Desired::Removed;
            s.status.progress.removed = true;
        });
        assert_eq!(judged(&[healthy(), going.clone()], 1), (0, None, Then::Nothing));
        assert_eq!(judged(&[gone.clone(), going], 1), (1, None, Then::Nothing));
        assert_eq!(judged(&[gone], 1), (2, Some(Verdict::Succeeded), Then::EndDrain));
    }

    #[test]
    fn a_drain_that_cannot_end_says_so_and_moves_nothing_more() {
        let stays = Subject { stays: true, ..healthy() };
        assert_eq!(judged(&[stays], 1), (1, Some(Verdict::Failed), Then::EndDrain));
        assert_eq!(judged(&[healthy(), healthy()], 60), (0, Some(Verdict::Failed), Then::EndDrain));
    }
}
