//! What the engine refused, kept apart from what it did not answer.

use std::error::Error as _;

use bollard::errors::Error;
use domain::instance::FailureReason;

use crate::runtime::{RuntimeError, RuntimeErrorKind};

/// Longest message that is passed on. Some engines append whole log files.
const MESSAGE_MAX_CHARS: usize = 500;

/// Why a call did not do what it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// The engine answered with an error; nobody has said yet what it means here.
    Answered { status: u16, message: String },
    /// The engine did not answer, or nothing that can be read.
    Unanswered(RuntimeError),
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            // Written by a proxy, or by an engine that is on its way up or down.
            Error::DockerResponseServerError { status_code: 502..=504, .. } => {
                Self::Unanswered(unreachable(error))
            }
            // It speaks another version by now.
            Error::DockerResponseServerError { status_code: 400, message }
                if message.starts_with("client version ") =>
            {
                Self::Unanswered(unreachable(error))
            }
            Error::DockerResponseServerError { status_code, message } => {
                Self::Answered { status: *status_code, message: message.clone() }
            }
            Error::DockerStreamError { error } => Self::Answered { status: 500, message: error.clone() },
            Error::RequestTimeoutError => Self::Unanswered(RuntimeError::new(
                RuntimeErrorKind::Timeout,
                "the engine does not answer in time",
            )),
            other => Self::Unanswered(unreachable(other)),
        }
    }

    /// Whether a container is in Podman's own state between running and exited.
    pub(super) fn is_between(&self) -> bool {
        matches!(self, Self::Unanswered(error) if error.message.contains("unknown variant `stopped`"))
    }

    /// Whether the name of a container that was to be made is another's. Podman says so
    /// with the code of a failure of its own.
    pub(super) fn is_name_taken(&self) -> bool {
        match self {
            Self::Answered { status: 409, .. } => true,
            Self::Answered { status: 500, message } => {
                message.contains("the container name") && message.contains("is already in use")
            }
            _ => false,
        }
    }

    #[cfg(test)]
    fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unanswered(error) if error.kind == RuntimeErrorKind::Unreachable)
    }

    /// For calls that an engine in good order does not refuse: what it says about
    /// the containers is then as unknown as if it had said nothing.
    pub(super) fn unexpected(self) -> RuntimeError {
        match self {
            Self::Unanswered(error) => error,
            Self::Answered { status: 404, message } => {
                RuntimeError::new(RuntimeErrorKind::NotFound, trimmed(&message))
            }
            Self::Answered { message, .. } => RuntimeError::unreachable(trimmed(&message)),
        }
    }

    /// For calls that an engine may well refuse, which then means `reason`; a
    /// container that is gone is no refusal.
    pub(super) fn or_refused(self, reason: FailureReason) -> RuntimeError {
        match self {
            Self::Answered { status: 404, .. } | Self::Unanswered(_) => self.unexpected(),
            Self::Answered { message, .. } => RuntimeError::refused(reason, trimmed(&message)),
        }
    }
}

/// An engine that cannot be talked to. Says the innermost reason: the outer ones
/// are all 'client error'.
pub(super) fn unreachable(error: &Error) -> RuntimeError {
    let mut message = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        message = inner.to_string();
        next = inner.source();
    }
    if let Error::HyperLegacyError { err } = error {
        message = innermost(err);
    }
    RuntimeError::unreachable(format!("the engine cannot be reached: {}", trimmed(&message)))
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

/// A message in one line of bearable length, fit for a database and a terminal.
pub(super) fn trimmed(message: &str) -> String {
    let words = message.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE_MAX_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status_code: u16, message: &str) -> Failure {
        Failure::of(&Error::DockerResponseServerError { status_code, message: message.into() })
    }

    #[test]
    fn what_a_proxy_says_is_no_answer_of_the_engine() {
        for status in [502, 503, 504] {
            assert!(answered(status, "bad gateway").is_unreachable());
        }
        assert!(answered(400, "client version 1.53 is too new. Maximum is 1.41").is_unreachable());
        assert!(!answered(400, "invalid mount").is_unreachable());
    }

    #[test]
    fn a_refusal_means_what_the_call_says_and_a_missing_container_is_none() {
        let refused = answered(500, "port is already\nallocated").or_refused(FailureReason::StartFailed);
        assert_eq!(refused, RuntimeError::refused(FailureReason::StartFailed, "port is already allocated"));
        let gone = answered(404, "No such container: x").or_refused(FailureReason::StartFailed);
        assert_eq!(gone.kind, RuntimeErrorKind::NotFound);
        assert_eq!(answered(500, "broken").unexpected().kind, RuntimeErrorKind::Unreachable);
    }

    #[test]
    fn podmans_word_for_a_name_that_is_taken_is_heard_and_so_is_dockers() {
        let podmans = "container create: creating container storage: the container name \"a67-1\" is already in \
                       use by 0a47. You have to remove that container to be able to reuse that name";
        assert!(answered(500, podmans).is_name_taken() && answered(409, "Conflict").is_name_taken());
        assert!(!answered(500, "port is already in use").is_name_taken());
        assert!(!answered(404, podmans).is_name_taken());
    }

    #[test]
    fn messages_become_one_short_line() {
        assert_eq!(trimmed(" a\n\tb\0c "), "a b c");
        let long = trimmed(&"ä".repeat(1000));
        assert_eq!(long.chars().count(), MESSAGE_MAX_CHARS + 1);
    }
}
