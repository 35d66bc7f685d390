//! What a container wrote.

use bollard::{Docker, container::LogOutput, query_parameters::LogsOptionsBuilder};
use bytes::Bytes;
use domain::Timestamp;
use futures_util::{Stream, StreamExt as _};

use super::failure::Failure;
use crate::runtime::{LogChunk, LogsQuery, RuntimeError};

/// Reads a container's log, oldest first.
pub(super) fn read(
    docker: Docker,
    container_id: String,
    query: LogsQuery,
) -> impl Stream<Item = Result<LogChunk, RuntimeError>> + Send {
    let tail = query.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let mut options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .timestamps(true)
        .follow(query.follow)
        .tail(&tail);
    // The engine takes whole seconds here; the rest is left out below.
    if let Some(since) = query.since {
        options = options.since(whole_seconds(since.timestamp()));
    }
    if let Some(until) = query.until {
        options = options.until(whole_seconds(until.timestamp().saturating_add(1)));
    }
    let (since, until) = (query.since, query.until);
    docker.logs(&container_id, Some(options.build())).boxed().filter_map(move |item| async move {
        match item {
            Ok(output) => Some(chunk(output)).filter(|chunk| is_wanted(chunk, since, until)).map(Ok),
            Err(error) => Some(Err(Failure::of(&error).unexpected())),
        }
    })
}

/// A moment as the engine takes it. 0 would mean none to it.
fn whole_seconds(seconds: i64) -> i32 {
    i32::try_from(seconds.clamp(1, i64::from(i32::MAX))).unwrap_or(i32::MAX)
}

/// What came without a time may be of a later run, so it is not for who asks for an end.
fn is_wanted(chunk: &LogChunk, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    let Some(at) = chunk.at else { return until.is_none() };
    since.is_none_or(|since| at >= since) && until.is_none_or(|until| at <= until)
}

fn chunk(output: LogOutput) -> LogChunk {
    let stderr = matches!(output, LogOutput::StdErr { .. });
    let bytes = output.into_bytes();
    match stamped(&bytes) {
        Some((at, start)) => LogChunk { at: Some(at), stderr, bytes: bytes.slice(start..) },
        None => LogChunk { at: None, stderr, bytes },
    }
}

/// The time that the engine put in front, and where the text begins.
fn stamped(bytes: &Bytes) -> Option<(Timestamp, usize)> {
    let end = bytes.iter().take(64).position(|b| *b == b' ')?;
    let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
    Some((chrono::DateTime::parse_from_rfc3339(text).ok()?.to_utc(), end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_time_is_taken_off_the_text() {
        let message = Bytes::from_static(b"2026-01-02T03:04:05.000000006Z hello there\n");
        let read = chunk(LogOutput::StdErr { message });
        assert!(read.stderr);
        assert_eq!(read.at.unwrap().timestamp_subsec_nanos(), 6);
        assert_eq!(read.bytes.as_ref(), b"hello there\n");
    }

    #[test]
    fn what_was_written_before_or_after_the_time_asked_for_is_left_out_to_the_nanosecond() {
        let at = |nanos| Timestamp::from_timestamp(1_800_000_000, nanos).unwrap();
        let wanted = |nanos| {
            let chunk = LogChunk { at: Some(at(nanos)), stderr: false, bytes: Bytes::new() };
            is_wanted(&chunk, Some(at(100)), Some(at(200)))
        };
        assert_eq!([99, 100, 200, 201].map(wanted), [false, true, true, false]);
        let unstamped = LogChunk { at: None, stderr: false, bytes: Bytes::new() };
        assert!(is_wanted(&unstamped, Some(at(100)), None) && !is_wanted(&unstamped, None, Some(at(200))));
    }

    #[test]
    fn a_moment_is_never_sent_as_what_means_none() {
        assert_eq!([i64::MIN, -1, 0, 1, i64::MAX].map(whole_seconds), [1, 1, 1, 1, i32::MAX]);
    }

    #[test]
    fn text_without_a_time_is_kept_as_it_is() {
        for text in ["no time here\n", "\n", "", "2026 x"] {
            let read = chunk(LogOutput::StdOut { message: Bytes::copy_from_slice(text.as_bytes()) });
            assert_eq!((read.at, read.bytes.as_ref()), (None, text.as_bytes()));
        }
    }
}
