//! The last lines of a log, within bounds, whatever the log is like.

use std::collections::VecDeque;

use domain::dossier::{DossierLine, LOG_BYTES_MAX, LOG_LINES_MAX};

use crate::logs::LogLine;

/// Most bytes that are kept of one line: its beginning. So a line of 10 MB costs the
/// others no more than its share.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024;

/// Takes lines in and holds the last of them: at most [`LOG_LINES_MAX`], and at most
/// [`LOG_BYTES_MAX`] of text.
#[derive(Default)]
pub(super) struct Tail {
    lines: VecDeque<DossierLine>,
    bytes: usize,
    /// Whole lines that came, kept or not.
    count: usize,
    /// Whether the last part of standard output, and of standard error, is to go on.
    out_goes_on: bool,
    err_goes_on: bool,
}

impl Tail {
    /// Takes a line, or a part of one.
    pub(super) fn add(&mut self, line: &LogLine) {
        let goes_on = if line.stderr { &mut self.err_goes_on } else { &mut self.out_goes_on };
        let is_first_part = !std::mem::replace(goes_on, line.partial);
        if !is_first_part {
            return;
        }
        let head = line.text.get(..LINE_BYTES_MAX).unwrap_or(&line.text);
        let partial = line.partial || head.len() < line.text.len();
        let text = text_of(head, partial);
        self.bytes += text.len();
        self.count += 1;
        self.lines.push_back(DossierLine { at: Some(line.at), stderr: line.stderr, text, partial });
        while self.lines.len() > LOG_LINES_MAX || self.bytes > LOG_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.text.len();
        }
    }

    /// Whether there were more lines than are ever kept, so that none before the first
    /// that came would be.
    pub(super) fn is_full(&self) -> bool {
        self.count > LOG_LINES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines, the oldest first, and whether there were more within [`LOG_LINES_MAX`].
    pub(super) fn finish(self) -> (Vec<DossierLine>, bool) {
        let cut = self.lines.len() < self.count.min(LOG_LINES_MAX);
        (self.lines.into(), cut)
    }
}

/// Bytes as text of at most [`LINE_BYTES_MAX`]; what is no UTF-8 is replaced, which
/// takes up to three times the room.
fn text_of(bytes: &[u8], is_cut: bool) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if is_cut && text.ends_with(char::REPLACEMENT_CHARACTER) {
        // Most likely half of a character.
        text.pop();
    }
    text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn part(text: impl Into<Bytes>, stderr: bool, partial: bool) -> LogLine {
        LogLine { at: Timestamp::UNIX_EPOCH, stderr, text: text.into(), partial }
    }

    fn tail(lines: impl IntoIterator<Item = LogLine>) -> (Vec<DossierLine>, bool) {
        let mut tail = Tail::default();
        lines.into_iter().for_each(|line| tail.add(&line));
        tail.finish()
    }

    #[test]
    fn of_many_lines_the_last_two_hundred_are_kept_and_nothing_was_cut() {
        let (lines, cut) = tail((0..300).map(|n| part(format!("line {n}"), false, false)));
        assert_eq!((lines.len(), cut), (200, false));
        assert_eq!((lines[0].text.as_str(), lines[199].text.as_str()), ("line 100", "line 299"));
    }

    #[test]
    fn of_a_long_line_the_beginning_is_kept_once_and_marked_and_the_other_stream_goes_on() {
        let long = "x".repeat(protocol::LOG_LINE_MAX_BYTES);
        let parts = (0..160).map(|n| part(long.clone(), false, n < 159));
        let between = [part("before", false, false)].into_iter().chain(parts.clone().take(80));
        let lines = between
            .chain([part("error", true, false)])
            .chain(parts.skip(80))
            .chain([part("after", false, false)]);
        let (lines, cut) = tail(lines);
        let shown: Vec<_> = lines.iter().map(|l| (l.text.len(), l.stderr, l.partial)).collect();
        assert_eq!(
            shown,
            [(6, false, false), (LINE_BYTES_MAX, false, true), (5, true, false), (5, false, false)]
        );
        assert!(!cut);
    }

    #[test]
    fn when_room_runs_out_the_oldest_lines_give_way_and_that_is_said() {
        let line = "y".repeat(10_000);
        let (lines, cut) = tail((0..100).map(|_| part(line.clone(), false, false)));
        assert_eq!((lines.len(), cut), (LOG_BYTES_MAX / 10_000, true));
    }

    #[test]
    fn a_character_that_was_cut_in_half_is_left_out() {
        let (lines, _) = tail([part("é".repeat(LINE_BYTES_MAX), false, false)]);
        assert_eq!((lines[0].text.len(), lines[0].partial), (LINE_BYTES_MAX, true));
        let odd = format!("a{}", "é".repeat(LINE_BYTES_MAX));
        let (lines, _) = tail([part(odd, false, false)]);
        assert!(lines[0].text.len() == LINE_BYTES_MAX - 1 && lines[0].text.ends_with('é'));
    }

    proptest! {
        #[test]
        fn whatever_comes_no_more_is_held_than_allowed(
            lines in prop::collection::vec((0usize..70_000, any::<u8>(), any::<bool>(), any::<bool>()), 0..60),
        ) {
            let mut tail = Tail::default();
            for (length, byte, stderr, partial) in lines {
                tail.add(&part(vec![byte; length], stderr, partial));
                let held: usize = tail.lines.iter().map(|line| line.text.len()).sum();
                prop_assert!(held <= LOG_BYTES_MAX && held == tail.bytes);
                prop_assert!(tail.lines.iter().all(|line| line.text.len() <= LINE_BYTES_MAX));
            }
        }
    }
}
