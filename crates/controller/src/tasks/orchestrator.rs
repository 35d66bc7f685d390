//! Plans and judges: see [`store::Store::orchestrate`].

use std::sync::Arc;

use daemon::BackgroundTask;
use serde::Serialize;
use store::StoreError;

use crate::{error::chain, service::Services};

/// Runs a pass whenever something changed, and each second: deadlines pass
/// without anybody announcing them.
pub(super) struct Orchestrator {
    services: Arc<Services>,
    /// Whether the last pass failed, so that an outage is logged once.
    failing: bool,
}

impl Orchestrator {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self { services, failing: false }
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

    async fn activate(&mut self) -> Status {
        match self.services.store.orchestrate().await {
            Ok(done) => {
                self.failing = false;
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
                Status { failed: true, ..Status::default() }
            }
        }
    }
}
