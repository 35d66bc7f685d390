//! Streams of data that somebody waits for: who asked, and who may answer.
//!
//! A reader expects a stream from one node under an id that it makes up; the
//! node's agent then attaches to it with a call of its own. The channel between
//! the two is short, so a slow reader slows the agent and nothing else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use domain::{Timestamp, id::NodeId};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::lock;

/// Lines between agent and reader.
const LINES: usize = 64;
/// Streams that are waited for at once; each is a reader with an open request.
const STREAMS_MAX: usize = 1024;

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the engine got it.
    pub at: Option<Timestamp>,
    /// Whether it came on the error output.
    pub stderr: bool,
    /// Without line end; not necessarily UTF-8.
    pub text: Bytes,
    /// Whether the line goes on in the next one.
    pub partial: bool,
}

/// What comes over a stream: lines, or why there are no more.
pub type Item = Result<LogLine, String>;

struct Expected {
    node: NodeId,
    items: mpsc::Sender<Item>,
}

/// All streams that are waited for in this process. A cheap handle.
#[derive(Clone, Default)]
pub struct Streams {
    // Guards the map; held for single look-ups and inserts only.
    expected: Arc<Mutex<BTreeMap<Uuid, Expected>>>,
}

/// A reader's end. Dropping it tells the agent that nobody reads any more.
pub struct Expectation {
    streams: Streams,
    /// What the agent shall call the stream.
    pub id: Uuid,
    /// What it sends. Closed when it is complete.
    pub items: mpsc::Receiver<Item>,
}

impl Streams {
    /// Expects a stream from a node. `None` when too many are expected already.
    #[must_use]
    pub fn expect(&self, node: NodeId) -> Option<Expectation> {
        let (sender, items) = mpsc::channel(LINES);
        // Not version 7: the id is what lets the agent in, and must not be guessed.
        let id = Uuid::new_v4();
        let mut expected = lock(&self.expected);
        if expected.len() >= STREAMS_MAX {
            return None;
        }
        expected.insert(id, Expected { node, items: sender });
        drop(expected);
        Some(Expectation { streams: self.clone(), id, items })
    }

    /// Lets a node attach to a stream that is expected of it; once.
    #[must_use]
    pub fn attach(&self, id: Uuid, node: NodeId) -> Option<mpsc::Sender<Item>> {
        let mut expected = lock(&self.expected);
        if expected.get(&id).is_some_and(|e| e.node == node) {
            expected.remove(&id).map(|e| e.items)
        } else {
            None
        }
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        lock(&self.streams.expected).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_attached_once_and_by_the_node_it_is_expected_of() {
        let (streams, node, other) =
            (Streams::default(), Uuid::from_u128(1).into(), Uuid::from_u128(2).into());
        let expectation = streams.expect(node).unwrap();
        assert!(streams.attach(expectation.id, other).is_none());
        assert!(streams.attach(expectation.id, node).is_some());
        assert!(streams.attach(expectation.id, node).is_none());
    }

    #[test]
    fn a_reader_that_went_away_is_not_waited_for() {
        let (streams, node) = (Streams::default(), Uuid::from_u128(1).into());
        let expectation = streams.expect(node).unwrap();
        let (id, sender) = (expectation.id, streams.attach(expectation.id, node).unwrap());
        drop(expectation);
        assert!(sender.is_closed() && streams.attach(id, node).is_none());
    }
}
