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
    if let Some(since) = query.since {
        // The engine takes whole seconds here; the rest is left out below.
        options = options.since(i32::try_from(since.timestamp()).unwrap_or(i32::MAX));
    }
    let since = query.since;
    docker.logs(&container_id, Some(options.build())).boxed().filter_map(move |item| async move {
        match item {
            Ok(output) => Some(Ok(chunk(output))).filter(|chunk| is_wanted(chunk, since)),
            Err(error) => Some(Err(Failure::of(&error).unexpected())),
        }
    })
}

fn is_wanted(chunk: &Result<LogChunk, RuntimeError>, since: Option<Timestamp>) -> bool {
    match (chunk, since) {
        (Ok(LogChunk { at: Some(at), .. }), Some(since)) => *at >= since,
        _ => true,
    }
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
    fn text_without_a_time_is_kept_as_it_is() {
        for text in ["no time here\n", "\n", "", "2026 x"] {
            let read = chunk(LogOutput::StdOut { message: Bytes::copy_from_slice(text.as_bytes()) });
            assert_eq!((read.at, read.bytes.as_ref()), (None, text.as_bytes()));
        }
    }
}
