//! Forgets limits that nobody is near any more.

use std::sync::Arc;

use daemon::BackgroundTask;
use serde::Serialize;

use crate::{error::chain, service::Services};

/// Statements in one run: more than a flood from very many addresses leaves in a minute.
const ROUNDS: u32 = 20;

/// What the last run did.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Status {
    forgotten: usize,
    failed: bool,
}

/// Deletes rows of empty buckets.
pub(super) struct Limits(Arc<Services>);

impl Limits {
    pub(super) const fn new(services: Arc<Services>) -> Self {
        Self(services)
    }
}

impl BackgroundTask for Limits {
    const NAME: &'static str = "limits";
    type Status = Status;

    async fn activate(&mut self) -> Status {
        let mut status = Status::default();
        for _ in 0..ROUNDS {
            match self.0.store.limit_forget_empty().await {
                Ok(0) => break,
                Ok(some) => status.forgotten += some,
                Err(e) => {
                    tracing::warn!(error = chain(&e), "forgetting limits failed");
                    status.failed = true;
                    break;
                }
            }
        }
        status
    }
}
