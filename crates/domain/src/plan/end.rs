//! How an attempt ended, whether there is a next one, and how that reads.

use std::time::Duration;

use super::{Container, Doom, Record, Transition, Wish, delta};
use crate::{
    Timestamp, backoff,
    deployment::RestartPolicy,
    instance::{Cause, FailureReason, Health, Outcome, Phase},
};

/// The end of an attempt.
pub(super) struct End {
    pub outcome: Outcome,
    pub cause: Cause,
    /// What is said of it; what follows from it is added.
    pub message: String,
    pub at: Timestamp,
}

/// Ends the present attempt and says when the next one is due, if there is one.
pub(super) fn end_attempt(record: &mut Record, wish: &Wish<'_>, end: End) -> Transition {
    let ran = record
        .status
        .started_at
        .filter(|_| record.phase() >= Phase::Running)
        .and_then(|started| (end.at - started).to_std().ok());
    record.status.failures = failures(record.status.failures, &end, ran);
    // Worked out for one that is wanted stopped, too: it may be wanted again before
    // `heed` has made an end by request of it.
    let again = match wish {
        Wish::Run(assignment) | Wish::Hold(assignment) | Wish::Stop(assignment) => {
            has_next(assignment.spec.restart, &end.outcome, record.status.failures)
        }
        Wish::Remove(_) => false,
    };
    let wait = backoff::delay(record.status.failures, record.seed());
    let stopped = matches!(end.outcome, Outcome::Stopped { .. });
    let message = match (stopped || !matches!(wish, Wish::Run(_)), again) {
        (true, _) => end.message,
        (false, false) => format!("{}; it is not started again", end.message),
        (false, true) if wait.is_zero() => format!("{}; it is started again at once", end.message),
        (false, true) => format!("{}; the next attempt is in {:.1} s", end.message, wait.as_secs_f64()),
    };
    record.reach(Phase::Ended);
    let status = &mut record.status;
    status.outcome = Some(end.outcome);
    status.health = Health::Unknown;
    status.ports.clear();
    status.finished_at = Some(end.at);
    status.backoff_until = again.then(|| end.at + delta(wait));
    record.transition(end.cause, message, end.at)
}

/// Failures in a row after this end.
fn failures(before: u32, end: &End, ran: Option<Duration>) -> u32 {
    // One that was stopped for its probe may have run for long without ever having
    // worked: for it counts how long it was healthy, see `vital::probed`.
    let unhealthy = matches!(end.outcome, Outcome::Failed { reason: FailureReason::Unhealthy, .. });
    let worked = !unhealthy && ran.is_some_and(|ran| ran >= backoff::RESET_AFTER);
    let before = if worked { 0 } else { before };
    match (&end.outcome, &end.cause) {
        (Outcome::Stopped { .. }, _) => 0,
        // Somebody's `docker kill` says nothing about the program.
        (Outcome::Exited { .. }, Cause::OutsideSignal { .. }) => before,
        (Outcome::Exited { .. } | Outcome::Failed { .. }, _) => before.saturating_add(1),
    }
}

/// Whether another attempt is made after this one.
fn has_next(policy: RestartPolicy, outcome: &Outcome, failures: u32) -> bool {
    let never_ran = match outcome {
        Outcome::Stopped { .. } => return false,
        Outcome::Failed { reason, .. } if !reason.may_pass() => return false,
        Outcome::Failed { reason: FailureReason::Vanished | FailureReason::Unhealthy, .. }
        | Outcome::Exited { .. } => false,
        Outcome::Failed { .. } => true,
    };
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure { max_retries } => {
            !matches!(outcome, Outcome::Exited { code: 0, .. })
                && max_retries.is_none_or(|most| failures <= most)
        }
        // A program that shall run once has not yet run.
        RestartPolicy::Never => never_ran,
    }
}

/// How the process of a container ended that the agent did not stop.
pub(super) fn exit_of(container: &Container, now: Timestamp) -> End {
    let code = container.exit_code.unwrap_or_default();
    let oom = container.oom_killed && code != 0;
    let (cause, because) = match container.outside_signal {
        _ if oom => (Cause::OutOfMemory, "; the kernel killed it for lack of memory".to_owned()),
        Some(signal) => (
            Cause::OutsideSignal { signal },
            format!("; somebody else sent {} through the engine", signal_name(signal)),
        ),
        None => (Cause::Process, String::new()),
    };
    End {
        outcome: Outcome::Exited { code, oom },
        cause,
        message: format!("ended with {}{because}", exit_text(code)),
        at: container.finished_at.unwrap_or(now),
    }
}

/// How the process of a container ended that the agent stopped.
pub(super) fn stop_of(container: Option<&Container>, cause: Cause, now: Timestamp) -> End {
    let code = container.and_then(|container| container.exit_code);
    End {
        outcome: Outcome::Stopped { code },
        cause,
        message: code
            .map_or_else(|| "stopped".to_owned(), |code| format!("stopped with {}", exit_text(code))),
        at: container.and_then(|container| container.finished_at).unwrap_or(now),
    }
}

/// How an attempt ended that the agent stopped for `doom`. `None` for the container
/// where it is gone.
pub(super) fn doomed(container: Option<&Container>, doom: &Doom, now: Timestamp) -> End {
    let (reason, what) = match doom {
        Doom::Lease => return stop_of(container, doom.cause(), now),
        Doom::Unhealthy { message } => (FailureReason::Unhealthy, message),
        Doom::Storage { message } => (FailureReason::StorageExceeded, message),
    };
    let code = container.and_then(|container| container.exit_code);
    let ended = code.map(|code| format!("; it ended with {}", exit_text(code))).unwrap_or_default();
    End {
        outcome: Outcome::Failed { reason, message: what.clone(), code },
        cause: doom.cause(),
        message: format!("stopped: {what}{ended}"),
        at: container.and_then(|container| container.finished_at).unwrap_or(now),
    }
}

/// Its container is not there although it should be.
pub(super) fn vanished(at: Timestamp) -> End {
    let message = "its container was removed by somebody else";
    End {
        outcome: Outcome::failed(FailureReason::Vanished, message),
        cause: Cause::Outside,
        message: message.to_owned(),
        at,
    }
}

fn exit_text(code: i32) -> String {
    match code.checked_sub(128) {
        Some(signal @ 1..=64) => format!("exit code {code} ({})", signal_name(signal)),
        _ => format!("exit code {code}"),
    }
}

/// A signal as people know it; numbers as on Linux for x86-64 and ARM.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}
