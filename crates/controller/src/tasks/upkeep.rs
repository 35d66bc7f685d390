//! Small writes in batches, and partitions.

use std::sync::Arc;

use chrono::Utc;
use daemon::BackgroundTask;
use serde::Serialize;

use crate::{error::chain, service::Services};

/// What the last run did.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Status {
    written: usize,
    failed: bool,
}

fn outcome<E: std::error::Error>(what: &'static str, written: usize, result: Result<(), E>) -> Status {
    if let Err(e) = &result {
        tracing::warn!(error = chain(e), "{what} failed");
    }
    Status { written, failed: result.is_err() }
}

/// Writes when nodes were last heard of.
pub(super) struct LastSeen(Arc<Services>);

impl LastSeen {
    pub(super) const fn new(services: Arc<Services>) -> Self {
        Self(services)
    }
}

impl BackgroundTask for LastSeen {
    const NAME: &'static str = "last seen";
    type Status = Status;

    async fn activate(&mut self) -> Status {
        let seen = self.0.heartbeats.take_unwritten();
        if seen.is_empty() {
            return Status::default();
        }
        outcome("writing when nodes were last seen", seen.len(), self.0.store.node_seen(&seen).await)
    }
}

/// Deletes what is too old.
pub(super) struct Retention(Arc<Services>);

impl Retention {
    pub(super) const fn new(services: Arc<Services>) -> Self {
        Self(services)
    }
}

impl BackgroundTask for Retention {
    const NAME: &'static str = "retention";
    type Status = Status;

    async fn activate(&mut self) -> Status {
        let applied = self.0.store.retention_apply().await;
        let written = applied.as_ref().copied().unwrap_or_default();
        outcome("deleting what is too old", written, applied.map(drop))
    }
}

/// Makes the partitions of days and months to come, and drops those that are too old.
pub(super) struct Partitions(Arc<Services>);

impl Partitions {
    pub(super) const fn new(services: Arc<Services>) -> Self {
        Self(services)
    }
}

impl BackgroundTask for Partitions {
    const NAME: &'static str = "partitions";
    type Status = Status;

    async fn activate(&mut self) -> Status {
        let (store, now) = (&self.0.store, Utc::now());
        let readings = outcome("maintaining partitions", 0, store.sample_partitions_maintain(now).await);
        let kept = store.audit_partitions_maintain(now, self.0.settings.audit_retention).await;
        let audit = outcome("maintaining the months of the audit log", 0, kept);
        Status { written: 0, failed: readings.failed || audit.failed }
    }
}
