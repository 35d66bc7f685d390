//! Live sessions: at most one per node, the newest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use domain::id::NodeId;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lock;

/// Requests for streams that may wait for a session to take them. More than
/// that at once means that the session is stuck.
const REQUESTS: usize = 64;

/// What the rest of the process may ask of a session.
#[derive(Clone, Debug)]
pub enum Request {
    /// Have the agent open a stream of log lines.
    Logs {
        /// What it shall call the stream.
        stream_id: Uuid,
        /// Which lines.
        logs: LogsRequest,
    },
}

/// Which lines of an instance's log are wanted.
#[derive(Clone, Debug)]
pub struct LogsRequest {
    /// Whose.
    pub instance_id: domain::id::InstanceId,
    /// Last lines to begin with; `None`: all.
    pub tail: Option<u32>,
    /// Whether to go on as lines come.
    pub follow: bool,
    /// Nothing from before that.
    pub since: Option<domain::Timestamp>,
}

/// The node is not connected here, or its session takes no more requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// It is not connected.
    #[error("the node is not connected")]
    NotConnected,
    /// It is, and has too much to do.
    #[error("the node has too many requests waiting")]
    Busy,
}

struct Link {
    epoch: u64,
    requests: mpsc::Sender<Request>,
    wake: Arc<Notify>,
    evicted: CancellationToken,
}

/// All live sessions of this process. A cheap handle.
#[derive(Clone, Default)]
pub struct Sessions {
    // Guards the map; held for single look-ups and inserts only.
    links: Arc<Mutex<BTreeMap<NodeId, Link>>>,
}

/// A session's own end. Dropping it ends the registration.
pub struct Registration {
    sessions: Sessions,
    node: NodeId,
    epoch: u64,
    /// What the rest of the process asks of it.
    pub requests: mpsc::Receiver<Request>,
    /// The node's assignments may have changed.
    pub wake: Arc<Notify>,
    /// A newer session has taken its place, or the node was revoked.
    pub evicted: CancellationToken,
}

impl Sessions {
    /// Registers a session and ends the older one of the same node. `None` when
    /// this one is itself the older.
    #[must_use]
    pub fn register(&self, node: NodeId, epoch: u64) -> Option<Registration> {
        let (requests, requested) = mpsc::channel(REQUESTS);
        let link = Link { epoch, requests, wake: Arc::default(), evicted: CancellationToken::new() };
        let (wake, evicted) = (link.wake.clone(), link.evicted.clone());
        let mut links = lock(&self.links);
        if links.get(&node).is_some_and(|held| held.epoch > epoch) {
            return None;
        }
        if let Some(older) = links.insert(node, link) {
            older.evicted.cancel();
        }
        drop(links);
        Some(Registration { sessions: self.clone(), node, epoch, requests: requested, wake, evicted })
    }

    /// Has a node's session look at its assignments, if it is connected here.
    pub fn wake(&self, node: NodeId) {
        if let Some(link) = lock(&self.links).get(&node) {
            link.wake.notify_one();
        }
    }

    /// Has every session look at its assignments.
    pub fn wake_all(&self) {
        lock(&self.links).values().for_each(|link| link.wake.notify_one());
    }

    /// Hands a request to a node's session.
    ///
    /// # Errors
    /// When there is none, or it is stuck.
    pub fn request(&self, node: NodeId, request: Request) -> Result<(), NotAsked> {
        let links = lock(&self.links);
        let link = links.get(&node).ok_or(NotAsked::NotConnected)?;
        link.requests.try_send(request).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => NotAsked::Busy,
            mpsc::error::TrySendError::Closed(_) => NotAsked::NotConnected,
        })
    }

    /// How many nodes are connected here.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.links).len()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut links = lock(&self.sessions.links);
        if links.get(&self.node).is_some_and(|held| held.epoch == self.epoch) {
            links.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        Uuid::from_u128(1).into()
    }

    #[test]
    fn a_newer_session_ends_the_older_and_an_older_one_does_not_come_in() {
        let sessions = Sessions::default();
        let first = sessions.register(node(), 1).unwrap();
        let second = sessions.register(node(), 2).unwrap();
        assert!(first.evicted.is_cancelled() && !second.evicted.is_cancelled());
        assert!(sessions.register(node(), 1).is_none());
        drop(first);
        assert_eq!(sessions.count(), 1, "the end of the older one leaves the newer one registered");
        drop(second);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn a_session_that_takes_nothing_is_busy_and_not_a_queue_without_end() {
        let sessions = Sessions::default();
        let logs = LogsRequest { instance_id: Uuid::nil().into(), tail: None, follow: false, since: None };
        let ask = || sessions.request(node(), Request::Logs { stream_id: Uuid::nil(), logs: logs.clone() });
        assert_eq!(ask(), Err(NotAsked::NotConnected));
        let _registration = sessions.register(node(), 1).unwrap();
        for _ in 0..REQUESTS {
            assert_eq!(ask(), Ok(()));
        }
        assert_eq!(ask(), Err(NotAsked::Busy));
    }
}
