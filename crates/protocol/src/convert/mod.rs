//! Checked conversions between the wire and [`domain`], both ways.
//!
//! From the wire is `TryFrom<proto::X>`, to the wire is `From<&X>`, and the two
//! are each other's inverse. Nothing is guessed: a message that is missing where
//! the domain needs one, an enum value that this version does not know, an id
//! that is none, a number that does not fit are all errors that name the field,
//! as a path from the message that was converted (`assignments[3].spec.limits`).
//! No error shows a value that could be a secret.
//!
//! What is merely unwise, such as a limit of no memory, is not judged here; that
//! is the business of [`domain::deployment::DeploymentSpec::validate`].

mod assignment;
mod dossier;
mod facts;
mod probe;
mod report;
mod sample;
mod secrets;
mod spec;
mod time;

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

pub use facts::{engine_state, engine_state_number};
pub use probe::probe_result_message;
pub use time::{duration, duration_message, timestamp, timestamp_message};

/// What is wrong with one field of a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field} {problem}")]
pub struct ConvertError {
    /// Path from the message that was converted, such as `spec.ports[0].host_port`.
    pub field: String,
    /// What is the matter.
    pub problem: Problem,
}

/// What can be the matter with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A message or a choice that must be there is not.
    Missing,
    /// An enum's number that this version does not know, or the unspecified one.
    UnknownValue(i32),
    /// The text is not a UUID.
    NotUuid,
    /// The text is not a name.
    NotName,
    /// The number, moment or time does not fit what it stands for.
    OutOfRange,
    /// The same id came before.
    Duplicate,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::UnknownValue(number) => write!(f, "has the unknown value {number}"),
            Self::NotUuid => f.write_str("is not a UUID"),
            Self::NotName => f.write_str("is not a name"),
            Self::OutOfRange => f.write_str("is out of range"),
            Self::Duplicate => f.write_str("is there twice"),
        }
    }
}

impl ConvertError {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self { field: field.into(), problem }
    }

    /// The same fault, seen from the message that has the faulty one in `outer`.
    #[must_use]
    pub fn within(self, outer: impl fmt::Display) -> Self {
        Self { field: format!("{outer}.{}", self.field), ..self }
    }
}

/// Reads an id.
///
/// # Errors
/// When the text is not a UUID.
pub fn id<T: FromStr>(field: &str, text: &str) -> Result<T, ConvertError> {
    text.parse().map_err(|_| ConvertError::new(field, Problem::NotUuid))
}

/// Takes a message that must be there.
///
/// # Errors
/// When it is not.
pub fn required<T>(field: &str, message: Option<T>) -> Result<T, ConvertError> {
    message.ok_or_else(|| ConvertError::new(field, Problem::Missing))
}

/// Converts a message that must be there, so that its faults are named from outside.
fn inner<P, T>(field: &str, message: Option<P>) -> Result<T, ConvertError>
where
    T: TryFrom<P, Error = ConvertError>,
{
    T::try_from(required(field, message)?).map_err(|e| e.within(field))
}

/// Converts a repeated field; a fault names its place.
fn each<P, T>(field: &str, messages: Vec<P>) -> Result<Vec<T>, ConvertError>
where
    T: TryFrom<P, Error = ConvertError>,
{
    let convert =
        |(index, message)| T::try_from(message).map_err(|e| e.within(format_args!("{field}[{index}]")));
    messages.into_iter().enumerate().map(convert).collect()
}

fn port(field: &str, number: u32) -> Result<u16, ConvertError> {
    u16::try_from(number).map_err(|_| ConvertError::new(field, Problem::OutOfRange))
}

/// An enum's number that has no meaning here.
fn unknown(field: &str, number: i32) -> ConvertError {
    ConvertError::new(field, Problem::UnknownValue(number))
}
