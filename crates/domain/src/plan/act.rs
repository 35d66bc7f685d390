//! What a step does to the record: when it begins, and when it comes to nothing.

use super::{
    Doom, Image, Record, Retry, Step, Transition, Wish, delta,
    end::{End, end_attempt},
};
use crate::{
    Timestamp, backoff,
    deployment::PullPolicy,
    instance::{Cause, FailureReason, Outcome, Phase},
};

/// Why a step came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// As far as the engine or registry let us know; `None` where a deadline passed.
    pub reason: Option<FailureReason>,
    /// For people.
    pub message: String,
}

/// Takes note that a step is about to be carried out. The transition, if any, is
/// for people: the step need not wait until it is on disk.
#[must_use]
pub fn begin(wish: &Wish<'_>, record: &Record, step: Step, now: Timestamp) -> (Record, Option<Transition>) {
    let mut record = record.clone();
    if is_towards_run(step)
        && let Some((_, because)) = wish.next_attempt(&record)
    {
        record.begin_attempt(because);
    }
    let transition = match (step, wish) {
        (Step::Pull, Wish::Run(assignment)) => {
            record.reach(Phase::Pulling);
            if record.held.is_some() {
                // Told when it began to wait, and it is still the same pull.
                return (record, None);
            }
            let message = format!("pulling image {}", assignment.spec.image);
            Some(record.transition(record.because.clone(), message, now))
        }
        (Step::Create, _) => {
            record.reach(Phase::Creating);
            None
        }
        (Step::Start, _) => {
            record.reach(Phase::Starting);
            None
        }
        (Step::Stop { grace }, _) if record.phase() == Phase::Running => {
            record.reach(Phase::Stopping);
            record.stopping_for = stopped_for(wish, &record);
            let begins = format!("stopping within {} s", grace.as_secs());
            Some(match (&record.stopping_for, wish) {
                (Some(doom), _) => record.transition(doom.cause(), format!("{begins}: {doom}"), now),
                (None, Wish::Run(_)) => {
                    record.transition(Cause::RestartRequested, format!("{begins}, to restart as asked"), now)
                }
                (None, _) => record.transition(Cause::Assigned, begins, now),
            })
        }
        _ => None,
    };
    (record, transition)
}

/// What a stop that begins now is for, where nobody asked for it. A request comes
/// first: it is carried out by the same stop.
fn stopped_for(wish: &Wish<'_>, record: &Record) -> Option<Doom> {
    match wish {
        Wish::Run(_) if wish.restart_pending(record) => None,
        Wish::Run(_) => record.doom.clone(),
        Wish::Hold(_) => Some(Doom::Lease),
        Wish::Stop(_) | Wish::Remove(_) => None,
    }
}

/// Takes note that a step was carried out: an earlier failure of its kind is past.
#[must_use]
pub fn succeeded(record: &Record) -> Record {
    Record { retry: None, held: None, ..record.clone() }
}

/// Whether a step leads to a container that runs.
pub(super) const fn is_towards_run(step: Step) -> bool {
    matches!(step, Step::CheckImage | Step::Pull | Step::Prepare | Step::Create | Step::Start)
}

/// Takes note that [`Step::Prepare`] went well.
#[must_use]
pub fn prepared(record: &Record) -> Record {
    Record { ready: true, ..succeeded(record) }
}

/// Takes note that a step towards a run could not even begin, because something that
/// it needs has to come from the controller first. That is nobody's failure: the
/// attempt goes on and asks again with growing waits, for as long as it is wanted.
/// What it waits for is told when it begins to, and when it changes.
#[must_use]
pub fn held_up(record: &Record, message: String, now: Timestamp) -> (Record, Option<Transition>) {
    if record.phase() >= Phase::Running {
        return (record.clone(), None);
    }
    let failures = record.retry.map_or(0, |retry| retry.failures).saturating_add(1);
    let wait = backoff::delay(failures.saturating_add(1), record.seed());
    let is_news = record.held.as_ref() != Some(&message);
    let record = Record {
        ready: false,
        retry: Some(Retry { at: now + delta(wait), failures }),
        held: Some(message.clone()),
        ..record.clone()
    };
    let told = is_news.then(|| record.transition(record.because.clone(), message, now));
    (record, told)
}

/// Whether it waits for something of the controller's.
#[must_use]
pub const fn is_held_up(record: &Record) -> bool {
    record.held.is_some()
}

/// Takes note that what it waits for may be there now: it is asked for at once.
#[must_use]
pub fn resumed(record: &Record) -> Record {
    match record.held {
        Some(_) => Record { retry: None, ..record.clone() },
        None => record.clone(),
    }
}

/// Takes note of what [`Step::CheckImage`] found.
#[must_use]
pub fn image_checked(record: &Record, is_here: bool) -> Record {
    let image = if is_here { Image::Here } else { Image::Missing };
    Record { image, ..succeeded(record) }
}

/// Takes note that [`Step::Pull`] went well.
#[must_use]
pub fn image_pulled(record: &Record) -> Record {
    image_checked(record, true)
}

/// Takes note that a step came to nothing: it ends the attempt when the attempt
/// cannot run without it, and else is tried again with back-off.
///
/// Not for an engine that does not answer: that is nobody's failure, and nothing
/// is to be noted (I5).
#[must_use]
pub fn failed(
    wish: &Wish<'_>,
    record: &Record,
    step: Step,
    failure: Failure,
    now: Timestamp,
) -> (Record, Option<Transition>) {
    let mut record = record.clone();
    let reason = match (step, failure.reason) {
        // It was there a moment ago, or was just pulled: fetching it again may help.
        (Step::Create, Some(FailureReason::ImageNotFound)) if may_pull(wish) => {
            FailureReason::ImagePullFailed
        }
        (Step::CheckImage | Step::Pull, reason) => reason.unwrap_or(FailureReason::ImagePullFailed),
        (Step::Prepare | Step::Create | Step::Start, reason) => reason.unwrap_or(FailureReason::StartFailed),
        _ => {
            let failures = record.retry.map_or(0, |retry| retry.failures).saturating_add(1);
            // Never at once: a step that fails by itself fails again.
            let wait = backoff::delay(failures.saturating_add(1), record.seed());
            record.retry = Some(Retry { at: now + delta(wait), failures });
            // Told when it begins, and ever more rarely while it lasts.
            let transition = still_there(step).filter(|_| failures.is_power_of_two()).map(|what| {
                let message = format!("{what}, and is tried again: {}", failure.message);
                record.transition(Cause::Engine, message, now)
            });
            return (record, transition);
        }
    };
    if record.phase() >= Phase::Running {
        return (record, None);
    }
    let end = End {
        message: format!("{}: {}", reason_text(reason), failure.message),
        outcome: Outcome::failed(reason, failure.message),
        cause: Cause::Engine,
        at: now,
    };
    let transition = end_attempt(&mut record, wish, end);
    (record, Some(transition))
}

/// What it means that a step failed after which a container should be gone.
const fn still_there(step: Step) -> Option<&'static str> {
    match step {
        Step::Stop { .. } => Some("the container does not stop"),
        Step::Remove => Some("the container cannot be removed"),
        _ => None,
    }
}

fn may_pull(wish: &Wish<'_>) -> bool {
    wish.assignment().is_some_and(|assignment| assignment.spec.pull != PullPolicy::Never)
}

const fn reason_text(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::ImageNotFound => "the image does not exist",
        FailureReason::ImageDenied => "the registry refused the image",
        FailureReason::ImagePullFailed => "the image could not be fetched",
        FailureReason::SpecRefused => "the container's spec was refused",
        FailureReason::NameTaken => "the container's name is taken",
        FailureReason::StartFailed => "the container could not be started",
        FailureReason::Vanished => "the container went away",
        FailureReason::Unhealthy => "its probe failed",
        FailureReason::StorageExceeded => "its writable layer is over its limit",
    }
}
