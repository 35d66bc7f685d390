//! What to do now.

use super::{ContainerStatus, Image, Record, Seen, Step, Wish, act::is_towards_run, is_over};
use crate::{
    Timestamp,
    assignment::Assignment,
    deployment::PullPolicy,
    instance::{Health, Phase},
    spec::StorageExceeded,
};

/// Says the next step towards what is wanted.
///
/// Total, and stable: asked again without anything having happened, it says the
/// same, or that the wait is over. `record` must have been through
/// [`super::observe`] with the same `seen`, and through [`super::heed`].
#[must_use]
pub fn decide(wish: &Wish<'_>, record: &Record, seen: &Seen, now: Timestamp) -> Step {
    let step = match wish {
        Wish::Run(assignment) => to_run(wish, assignment, record, seen, now),
        Wish::Stop(_) | Wish::Hold(_) => match seen {
            Seen::Present(container) if container.status.is_alive() => Step::Stop { grace: wish.grace() },
            _ => Step::Nothing,
        },
        Wish::Remove(assignment) => match seen {
            Seen::Absent if assignment.is_none() => Step::Forget,
            Seen::Absent => Step::Nothing,
            Seen::Present(container) => match container.status {
                ContainerStatus::Removing => Step::Nothing,
                status if status.is_alive() => Step::Stop { grace: wish.grace() },
                _ => Step::Remove,
            },
        },
    };
    hold_back(record, step, now)
}

/// Puts a step off while an earlier one that failed is still to be waited for.
/// [`decide`] does so by itself; this is for a look that is due for other reasons.
#[must_use]
pub fn hold_back(record: &Record, step: Step, now: Timestamp) -> Step {
    match record.retry {
        // What only waits for its start can be looked at, and removed.
        Some(_) if record.held.is_some() && !is_towards_run(step) => step,
        Some(retry) if acts(step) && !is_over(retry.at, now) => Step::WaitUntil(retry.at),
        _ => step,
    }
}

/// Whether a step asks something of the engine.
const fn acts(step: Step) -> bool {
    !matches!(step, Step::Nothing | Step::WaitUntil(_) | Step::Forget)
}

fn to_run(wish: &Wish<'_>, assignment: &Assignment, record: &Record, seen: &Seen, now: Timestamp) -> Step {
    if record.status.progress.removed {
        return Step::Nothing;
    }
    if let Seen::Present(container) = seen {
        let unwanted_run = wish.restart_pending(record)
            || record.phase() == Phase::Stopping
            || (record.phase() == Phase::Running && record.doom.is_some());
        match container.status {
            status if status.is_alive() && unwanted_run => return Step::Stop { grace: wish.grace() },
            ContainerStatus::Running | ContainerStatus::Paused => {
                return until_healthy(assignment, record, now);
            }
            ContainerStatus::Restarting | ContainerStatus::Removing => return Step::Nothing,
            ContainerStatus::Created | ContainerStatus::Exited | ContainerStatus::Dead => {}
        }
    }
    if record.phase() == Phase::Ended {
        match wish.next_attempt(record) {
            None => return Step::Nothing,
            Some((due, _)) if !is_over(due, now) => return Step::WaitUntil(due),
            Some(_) => {}
        }
    }
    match seen.container().map(|container| container.status) {
        None => once_ready(to_create(assignment.spec.pull, record), assignment, record),
        Some(ContainerStatus::Dead) => Step::Remove,
        // Started in place it would only be stopped again.
        Some(_) if is_full(assignment, record) => Step::Remove,
        Some(_) => once_ready(Step::Start, assignment, record),
    }
}

/// The step, or the one before it where something that it needs is not at hand: a
/// container's variables when it is made, its files whenever it is started.
fn once_ready(step: Step, assignment: &Assignment, record: &Record) -> Step {
    let needed = match step {
        Step::Create => !assignment.spec.secrets.is_empty(),
        Step::Start => assignment.spec.has_secret_files(),
        _ => false,
    };
    // What the attempt before had at hand may be gone.
    let ready = record.ready && record.phase() != Phase::Ended;
    if needed && !ready { Step::Prepare } else { step }
}

fn to_create(policy: PullPolicy, record: &Record) -> Step {
    // What the attempt before found out may be true no longer.
    let known = if record.phase() == Phase::Ended { Image::Unknown } else { record.image };
    match (policy, known) {
        (PullPolicy::Never, _) | (_, Image::Here) => Step::Create,
        (PullPolicy::Missing, Image::Unknown) => Step::CheckImage,
        (PullPolicy::Missing, Image::Missing) | (PullPolicy::Always, _) => Step::Pull,
    }
}

/// Whether its container is one that is stopped for what it has written.
fn is_full(assignment: &Assignment, record: &Record) -> bool {
    record.status.storage_exceeded && assignment.spec.limits.storage_exceeded == StorageExceeded::Stop
}

/// It is called healthy only by a look at the engine after its time was up: it
/// may have ended a moment before.
fn until_healthy(assignment: &Assignment, record: &Record, now: Timestamp) -> Step {
    match (record.status.health, record.healthy_at(assignment)) {
        (Health::Starting, Some(due)) if record.is_judged_by_time(assignment) => {
            if due <= now {
                Step::Inspect
            } else {
                Step::WaitUntil(due)
            }
        }
        _ => Step::Nothing,
    }
}
