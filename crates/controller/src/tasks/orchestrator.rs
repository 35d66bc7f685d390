//! Plans and judges: see [`store::Store::orchestrate`].

use std::{sync::Arc, time::Duration};

use daemon::BackgroundTask;
use domain::Timestamp;
use serde::Serialize;
use store::StoreError;

use crate::{error::chain, service::Services};

/// Runs a pass whenever something changed, at the moment at which a copy on a silent
/// node is to be replaced, and each second: deadlines pass without anybody announcing
/// them.
pub(super) struct Orchestrator {
    services: Arc<Services>,
    /// Whether the last pass failed, so that an outage is logged once.
    failing: bool,
    /// When there is something to do again, if nothing happens before.
    due: Option<Timestamp>,
}

impl Orchestrator {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self { services, failing: false, due: None }
    }
}

/// What the last pass did.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Status {
    placed: usize,
    removed: usize,
    judged: usize,
    open: usize,
    failed: bool,
}

impl BackgroundTask for Orchestrator {
    const NAME: &'static str = "orchestrator";
    type Status = Status;

    fn due_in(&self) -> Option<Duration> {
        // Never at once: what is due already and was not done waits for something else.
        let wait = (self.due? - chrono::Utc::now()).to_std().unwrap_or_default();
        Some(wait.max(Duration::from_millis(50)))
    }

    async fn activate(&mut self) -> Status {
        match self.services.store.orchestrate(&self.services.heartbeats).await {
            Ok(done) => {
                self.failing = false;
                self.due = done.due;
                if done.placed + done.removed + done.judged > 0 {
                    tracing::info!(
                        placed = done.placed,
                        removed = done.removed,
                        judged = done.judged,
                        open = done.open,
                        "orchestrated"
                    );
                }
                Status {
                    placed: done.placed,
                    removed: done.removed,
                    judged: done.judged,
                    open: done.open,
                    failed: false,
                }
            }
            Err(e) => {
                let outage = matches!(e, StoreError::Unavailable(_));
                if !(outage && self.failing) {
                    tracing::error!(error = chain(&e), "orchestration failed");
                }
                self.failing = true;
                self.due = None;
                Status { failed: true, ..Status::default() }
            }
        }
    }
}
