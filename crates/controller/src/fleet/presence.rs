//! The last heartbeat of each node that is connected here.
//!
//! Heartbeats touch nothing but this map: no database, no other lock. A task
//! judges them ([`domain::presence`]) and writes transitions.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use chrono::Utc;
use domain::{
    Timestamp,
    id::NodeId,
    node::Heartbeat,
    presence::{self, Hearing, PresenceSettings},
};
use tokio::sync::Notify;

use super::lock;

/// The heartbeats of all nodes. A cheap handle.
#[derive(Clone)]
pub struct Heartbeats {
    // Guards the map; held for single look-ups and inserts only.
    map: Arc<Mutex<BTreeMap<NodeId, Seen>>>,
    // Guards one moment.
    listening_since: Arc<Mutex<Timestamp>>,
    settings: PresenceSettings,
    news: Arc<Notify>,
}

#[derive(Clone, Copy)]
struct Seen {
    beat: Heartbeat,
    /// Whether it is newer than what was last written to the database.
    unwritten: bool,
}

impl Heartbeats {
    /// One that listens from now on.
    #[must_use]
    pub fn new(settings: PresenceSettings) -> Self {
        let listening_since = Arc::new(Mutex::new(Utc::now()));
        Self { map: Arc::default(), listening_since, settings, news: Arc::default() }
    }

    /// Begins to listen anew: this process slept, or could not write down what it heard,
    /// so that silence before now proves nothing.
    pub fn listen_anew(&self) {
        *lock(&self.listening_since) = Utc::now();
    }

    /// Notes a heartbeat, and says whether the node was silent for so long before that
    /// what it runs may have been put elsewhere. The judge is woken when it may change a
    /// node's state.
    pub fn beat(&self, node: NodeId, beat: Heartbeat) -> bool {
        let before = lock(&self.map).insert(node, Seen { beat, unwritten: true });
        let regular = before.is_some_and(|b| {
            b.beat.engine == beat.engine && (beat.received_at - b.beat.received_at).num_seconds() < 3
        });
        if !regular {
            self.news.notify_one();
        }
        let silence = before.map(|b| (beat.received_at - b.beat.received_at).to_std().unwrap_or_default());
        silence.is_some_and(|silence| silence >= self.settings.unreachable_after)
    }

    /// Since when this process has listened without a break.
    #[must_use]
    pub fn listening_since(&self) -> Timestamp {
        *lock(&self.listening_since)
    }

    /// The last heartbeat of a node.
    #[must_use]
    pub fn last(&self, node: NodeId) -> Option<Heartbeat> {
        lock(&self.map).get(&node).map(|seen| seen.beat)
    }

    /// What was heard and not yet written; counts as written from now on.
    #[must_use]
    pub fn take_unwritten(&self) -> Vec<(NodeId, Timestamp)> {
        let mut map = lock(&self.map);
        let unwritten = map.iter_mut().filter(|(_, seen)| seen.unwritten);
        unwritten
            .map(|(node, seen)| {
                seen.unwritten = false;
                (*node, seen.beat.received_at)
            })
            .collect()
    }

    /// Waits for a heartbeat that may change a node's state.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

impl Hearing for Heartbeats {
    fn silent_since(&self, node: NodeId, now: Timestamp) -> Option<Timestamp> {
        let last = self.last(node).map(|beat| beat.received_at);
        presence::silent_since(last, self.listening_since(), now, &self.settings)
    }
}
