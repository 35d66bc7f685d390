//! Judges who is there, and writes transitions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::Utc;
use daemon::BackgroundTask;
use domain::{id::NodeId, node::NodeState, presence};
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
}

impl Presence {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self { services, states: BTreeMap::new(), read_at: None }
    }

    async fn judge(&mut self) -> Result<Status, StoreError> {
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
                tracing::debug!(error = chain(&e), "presence could not be judged");
                self.read_at = None;
                Status { failed: true, ..Status::default() }
            }
        }
    }
}
