//! Judges who is there, and writes transitions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::Utc;
use daemon::BackgroundTask;
use domain::{Timestamp, id::NodeId, node::NodeState, presence};
use serde::Serialize;
use store::StoreError;
use tokio::time::Instant;

use crate::{error::chain, service::Services};

/// How often all nodes' states are read again: nodes appear, and other
/// controllers write too.
const REREAD: Duration = Duration::from_secs(2);

pub(super) struct Presence {
    services: Arc<Services>,
    states: BTreeMap<NodeId, NodeState>,
    read_at: Option<Instant>,
    /// When heartbeats were last looked at; `None` where what they said could not be
    /// written down since.
    looked_at: Option<Timestamp>,
}

impl Presence {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self { services, states: BTreeMap::new(), read_at: None, looked_at: Some(Utc::now()) }
    }

    /// Begins to listen anew where this process may have missed something: it was
    /// stopped for a while, by a signal or with its machine, or had no database.
    fn notice_pause(&mut self) {
        let now = Utc::now();
        let longest = presence::longest_pause(&self.services.settings.presence);
        let pause = self.looked_at.map(|at| (now - at).to_std().unwrap_or_default());
        if pause.is_none_or(|pause| pause > longest) {
            tracing::debug!(
                ?pause,
                "this process was away, so no node is judged until it had time to be heard"
            );
            self.services.heartbeats.listen_anew();
        }
        self.looked_at = Some(now);
    }

    async fn judge(&mut self) -> Result<Status, StoreError> {
        self.notice_pause();
        let heartbeats = &self.services.heartbeats;
        if self.read_at.is_none_or(|at| at.elapsed() >= REREAD) {
            self.states = self.services.store.node_states().await?.into_iter().collect();
            self.read_at = Some(Instant::now());
        }
        let (now, settings) = (Utc::now(), &self.services.settings.presence);
        let mut changed = Vec::new();
        for (node, state) in &self.states {
            let judged =
                presence::judge(*state, heartbeats.last(*node), heartbeats.listening_since(), now, settings);
            if judged != *state {
                changed.push((*node, judged));
            }
        }
        for (node, state) in &changed {
            self.services.store.node_state_set(*node, *state, now).await?;
            tracing::info!(node.id = %node, state = state.as_str(), "node changed its state");
            self.states.insert(*node, *state);
        }
        Ok(Status { nodes: self.states.len(), changed: changed.len(), failed: false })
    }
}

/// What the last judgement did.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Status {
    nodes: usize,
    changed: usize,
    failed: bool,
}

impl BackgroundTask for Presence {
    const NAME: &'static str = "presence";
    type Status = Status;

    async fn activate(&mut self) -> Status {
        match self.judge().await {
            Ok(status) => status,
            Err(e) => {
                if self.looked_at.is_some() {
                    tracing::warn!(error = chain(&e), "presence could not be judged");
                }
                self.read_at = None;
                self.looked_at = None;
                Status { failed: true, ..Status::default() }
            }
        }
    }
}
