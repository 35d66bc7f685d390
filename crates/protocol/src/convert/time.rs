//! Moments and lengths of time.

use std::time::Duration;

use domain::Timestamp;

use super::{ConvertError, Problem, required};

/// First second of the year 1, and last of the year 9999: what
/// `google.protobuf.Timestamp` allows.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const NANOS_MAX: u32 = 999_999_999;

/// Reads a moment that must be there.
///
/// # Errors
/// When it is missing, or not within the years 1 to 9999.
pub fn timestamp(field: &str, message: Option<prost_types::Timestamp>) -> Result<Timestamp, ConvertError> {
    let message = required(field, message)?;
    let out_of_range = || ConvertError::new(field, Problem::OutOfRange);
    let nanos = u32::try_from(message.nanos).ok().filter(|n| *n <= NANOS_MAX).ok_or_else(out_of_range)?;
    if !SECONDS.contains(&message.seconds) {
        return Err(out_of_range());
    }
    Timestamp::from_timestamp(message.seconds, nanos).ok_or_else(out_of_range)
}

/// Reads a moment that may be absent.
///
/// # Errors
/// As [`timestamp`], but for a missing one.
pub(super) fn timestamp_opt(
    field: &str,
    message: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, ConvertError> {
    message.map(|at| timestamp(field, Some(at))).transpose()
}

/// Writes a moment. A leap second becomes the last nanosecond before it, because
/// the wire has no place for it; one outside the years 1 to 9999 becomes the
/// nearest inside.
#[must_use]
pub fn timestamp_message(at: &Timestamp) -> prost_types::Timestamp {
    let seconds = at.timestamp().clamp(*SECONDS.start(), *SECONDS.end());
    let nanos = at.timestamp_subsec_nanos().min(NANOS_MAX);
    prost_types::Timestamp { seconds, nanos: i32::try_from(nanos).unwrap_or_default() }
}

/// Reads a length of time that must be there.
///
/// # Errors
/// When it is missing, negative, or its nanoseconds are more than a second.
pub fn duration(field: &str, message: Option<prost_types::Duration>) -> Result<Duration, ConvertError> {
    let message = required(field, message)?;
    let seconds = u64::try_from(message.seconds).ok();
    let nanos = u32::try_from(message.nanos).ok().filter(|n| *n <= NANOS_MAX);
    match (seconds, nanos) {
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(ConvertError::new(field, Problem::OutOfRange)),
    }
}

/// Writes a length of time; one that does not fit becomes the longest that does.
#[must_use]
pub fn duration_message(length: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or_default(),
    }
}
