//! What a wish means for an instance at rest.

use super::{
    Record, Seen, Transition, Wish,
    end::{end_attempt, stop_of},
};
use crate::{
    Timestamp,
    instance::{Cause, Outcome, Phase},
};

/// What [`heed`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Heeded {
    /// What is to be remembered from now on.
    pub record: Record,
    /// What is to be reported, if anything.
    pub transition: Option<Transition>,
    /// Whether the record has to be on disk before the next step is taken.
    /// Otherwise a crash in between would carry a user's request out twice.
    pub durable_first: bool,
}

/// Takes note of a wish that needs no step of the engine's: that a restart which
/// a user asked for begins now, or that an attempt which is over shall stay so.
///
/// Does nothing while the container runs: then [`super::decide`] stops it first.
pub fn heed(wish: &Wish<'_>, record: &Record, seen: &Seen, now: Timestamp) -> Heeded {
    let unchanged = || Heeded { record: record.clone(), transition: None, durable_first: false };
    if seen.is_alive() || record.status.progress.removed {
        return unchanged();
    }
    match wish {
        Wish::Run(assignment) if wish.restart_pending(record) => {
            begin_restart(record, assignment.restart_generation, now)
        }
        Wish::Stop(_) => match stay_stopped(wish, record, now) {
            Some((record, transition)) => {
                Heeded { record, transition: Some(transition), durable_first: false }
            }
            None => unchanged(),
        },
        // One that is held is as it is: what has ended is not to be begun anew because
        // the controller was away.
        Wish::Run(_) | Wish::Hold(_) | Wish::Remove(_) => unchanged(),
    }
}

/// From here on the request counts as carried out: whatever starts the container
/// next is the restart.
fn begin_restart(record: &Record, generation: u32, now: Timestamp) -> Heeded {
    let mut record = record.clone();
    if record.phase() == Phase::Ended {
        record.begin_attempt(Cause::RestartRequested);
    }
    record.because = Cause::RestartRequested;
    record.retry = None;
    record.status.restart_generation = generation;
    record.status.failures = 0;
    let transition = record.transition(Cause::RestartRequested, "starting anew, as asked", now);
    Heeded { record, transition: Some(transition), durable_first: true }
}

/// Makes an end by request out of whatever it was, so that it is started again
/// when it is wanted again, whatever its restart policy says.
fn stay_stopped(wish: &Wish<'_>, record: &Record, now: Timestamp) -> Option<(Record, Transition)> {
    let mut record = record.clone();
    let transition = match (record.phase(), &record.status.outcome) {
        (Phase::Ended, Some(Outcome::Stopped { .. })) => return None,
        (Phase::Ended, outcome) => {
            let code = outcome.as_ref().and_then(Outcome::exit_code);
            record.status.outcome = Some(Outcome::Stopped { code });
            record.status.failures = 0;
            record.status.backoff_until = None;
            record.transition(Cause::Assigned, "stopped: it is not started again", now)
        }
        _ => end_attempt(&mut record, wish, stop_of(None, Cause::Assigned, now)),
    };
    Some((record, transition))
}
