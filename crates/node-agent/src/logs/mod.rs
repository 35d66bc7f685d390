//! What an instance's container wrote, as lines.
//!
//! An engine hands out pieces: a line longer than its own buffer (16 KiB in
//! Docker) comes in several, each with its own time, and standard output and
//! error come mixed. Here they become lines again, each stream by itself. A line
//! without an end cannot be waited for without bound, so one of more than
//! [`protocol::LOG_LINE_MAX_BYTES`] is handed out in parts.
//!
//! Nothing runs ahead of its reader: a line is read from the engine when it is
//! asked for, so a slow reader slows the engine's stream and fills nothing here.

mod assemble;

use std::{collections::VecDeque, fmt, sync::Arc};

use bytes::Bytes;
use domain::Timestamp;
use futures_util::{Stream, StreamExt as _, stream};

use crate::runtime::{LogChunk, LogsQuery, Runtime, RuntimeError};
use assemble::Assembler;

/// One line, or one part of a long one.
#[derive(Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When its first byte was written.
    pub at: Timestamp,
    /// Whether it went to standard error.
    pub stderr: bool,
    /// Without its line end. Not necessarily UTF-8, nor is a part's end a
    /// character's.
    pub text: Bytes,
    /// Whether the line goes on in the next one of the same stream.
    pub partial: bool,
}

impl fmt::Debug for LogLine {
    /// Leaves out the text: programs do write secrets (I7).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLine")
            .field("at", &self.at)
            .field("stderr", &self.stderr)
            .field("bytes", &self.text.len())
            .field("partial", &self.partial)
            .finish_non_exhaustive()
    }
}

/// Which lines of which container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsRequest {
    /// The engine's id of the container.
    pub container_id: String,
    /// Which part of its log.
    pub query: LogsQuery,
}

/// Why a log could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("read the log of container {container_id}")]
pub struct LogsError {
    /// The engine's id of the container.
    pub container_id: String,
    /// What the engine said.
    #[source]
    pub source: RuntimeError,
}

/// Reads a container's log. An error is the last item.
pub fn open(
    runtime: &Arc<dyn Runtime>,
    request: &LogsRequest,
) -> impl Stream<Item = Result<LogLine, LogsError>> + Send + use<> {
    let container_id = request.container_id.clone();
    lines(runtime.logs(&request.container_id, &request.query))
        .map(move |line| line.map_err(|source| LogsError { container_id: container_id.clone(), source }))
}

/// Makes lines of the pieces that an engine hands out. An error is the last item.
pub fn lines<S>(pieces: S) -> impl Stream<Item = Result<LogLine, RuntimeError>> + Send + use<S>
where
    S: Stream<Item = Result<LogChunk, RuntimeError>> + Send + Unpin,
{
    let state = (Some(pieces), Assembler::default(), VecDeque::new());
    stream::unfold(state, |(mut pieces, mut assembler, mut ready)| async move {
        loop {
            if let Some(line) = ready.pop_front() {
                return Some((Ok(line), (pieces, assembler, ready)));
            }
            match pieces.as_mut()?.next().await {
                Some(Ok(piece)) => assembler.add(piece, &mut ready),
                Some(Err(error)) => return Some((Err(error), (None, assembler, ready))),
                None => {
                    pieces = None;
                    assembler.finish(&mut ready);
                    if ready.is_empty() {
                        return None;
                    }
                }
            }
        }
    })
}
