//! Pieces into lines.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use chrono::Utc;
use domain::Timestamp;
use protocol::LOG_LINE_MAX_BYTES;

use super::LogLine;
use crate::runtime::LogChunk;

/// Puts lines together, of both streams. Holds at most one unfinished line of each.
#[derive(Default)]
pub(super) struct Assembler {
    out: Unfinished,
    err: Unfinished,
}

#[derive(Default)]
struct Unfinished {
    text: BytesMut,
    /// When its first byte was written; `None` while there is no line at hand.
    at: Option<Timestamp>,
}

impl Assembler {
    /// Takes a piece, and adds what became ready to `lines`.
    pub(super) fn add(&mut self, chunk: LogChunk, lines: &mut VecDeque<LogLine>) {
        let LogChunk { at, stderr, bytes } = chunk;
        let line = if stderr { &mut self.err } else { &mut self.out };
        let mut rest = bytes.as_ref();
        while let Some((head, tail)) = split_line(rest) {
            line.append(head, at, stderr, lines);
            lines.push_back(line.take(at, stderr, false));
            rest = tail;
        }
        if !rest.is_empty() {
            line.append(rest, at, stderr, lines);
        }
    }

    /// Hands out what has no line end and gets none any more.
    pub(super) fn finish(&mut self, lines: &mut VecDeque<LogLine>) {
        for (line, stderr) in [(&mut self.out, false), (&mut self.err, true)] {
            if line.at.is_some() {
                lines.push_back(line.take(None, stderr, false));
            }
        }
    }
}

impl Unfinished {
    /// Adds text, and hands out a part whenever there is one byte more than fits:
    /// a line of exactly the limit is whole.
    fn append(
        &mut self,
        mut text: &[u8],
        at: Option<Timestamp>,
        stderr: bool,
        lines: &mut VecDeque<LogLine>,
    ) {
        self.at = self.at.or(at).or_else(|| Some(Utc::now()));
        while let Some((head, tail)) = text.split_at_checked(LOG_LINE_MAX_BYTES - self.text.len()) {
            if tail.is_empty() {
                break;
            }
            self.text.extend_from_slice(head);
            lines.push_back(self.take(at, stderr, true));
            self.at = at.or_else(|| Some(Utc::now()));
            text = tail;
        }
        self.text.extend_from_slice(text);
    }

    fn take(&mut self, at: Option<Timestamp>, stderr: bool, partial: bool) -> LogLine {
        let mut text: Bytes = self.text.split().freeze();
        if !partial && text.last() == Some(&b'\r') {
            text.truncate(text.len() - 1);
        }
        LogLine { at: self.at.take().or(at).unwrap_or_else(Utc::now), stderr, text, partial }
    }
}

/// What comes before the first line end, and what after it.
fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|b| *b == b'\n')?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn chunk(seconds: i64, stderr: bool, text: impl AsRef<[u8]>) -> LogChunk {
        LogChunk { at: Some(at(seconds)), stderr, bytes: Bytes::copy_from_slice(text.as_ref()) }
    }

    fn lines(chunks: Vec<LogChunk>) -> Vec<LogLine> {
        let (mut assembler, mut lines) = (Assembler::default(), VecDeque::new());
        for chunk in chunks {
            assembler.add(chunk, &mut lines);
        }
        assembler.finish(&mut lines);
        lines.into()
    }

    fn line(seconds: i64, stderr: bool, text: &str) -> LogLine {
        LogLine { at: at(seconds), stderr, text: Bytes::copy_from_slice(text.as_bytes()), partial: false }
    }

    #[test]
    fn pieces_of_a_line_become_one_line_with_the_time_of_the_first() {
        let got =
            lines(vec![chunk(1, false, "one, "), chunk(2, true, "error\n"), chunk(3, false, "two\nthree")]);
        assert_eq!(got, [line(2, true, "error"), line(1, false, "one, two"), line(3, false, "three")]);
    }

    #[test]
    fn empty_lines_are_kept_and_line_ends_of_terminals_are_taken_off() {
        let got = lines(vec![chunk(1, false, "\n\r\na\r\n")]);
        assert_eq!(got, [line(1, false, ""), line(1, false, ""), line(1, false, "a")]);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_whole_and_one_byte_more_makes_two_parts() {
        let text = "x".repeat(LOG_LINE_MAX_BYTES);
        let whole = lines(vec![chunk(1, false, format!("{text}\n"))]);
        assert_eq!(
            whole.iter().map(|l| (l.text.len(), l.partial)).collect::<Vec<_>>(),
            [(text.len(), false)]
        );
        let split = lines(vec![chunk(1, false, format!("{text}y\n"))]);
        let parts: Vec<_> = split.iter().map(|l| (l.text.len(), l.partial)).collect();
        assert_eq!(parts, [(text.len(), true), (1, false)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_the_pieces(
            text in prop::collection::vec(prop_oneof![9 => 32u8..127, 1 => Just(b'\n')], 0..400),
            cuts in prop::collection::vec(1usize..40, 1..60),
        ) {
            let mut chunks = Vec::new();
            let mut rest = text.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk(1, false, head));
                rest = tail;
            }
            let got: Vec<Vec<u8>> = lines(chunks).into_iter().map(|l| l.text.to_vec()).collect();
            let mut expected: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(got, expected);
        }
    }
}
