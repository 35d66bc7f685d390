//! Reads the signing keys again: when somebody says that they changed, and each minute.

use std::sync::Arc;

use daemon::BackgroundTask;
use serde::Serialize;

use crate::service::Services;

pub(super) struct Keys(Arc<Services>);

impl Keys {
    pub(super) const fn new(services: Arc<Services>) -> Self {
        Self(services)
    }
}

/// What the last reading did.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Status {
    keys: usize,
    failed: bool,
}

impl BackgroundTask for Keys {
    const NAME: &'static str = "signing keys";
    type Status = Status;

    async fn activate(&mut self) -> Status {
        let read = self.0.signing_keys_reload().await;
        if let Err(e) = &read {
            tracing::warn!(error = e.chain(), "the signing keys could not be read again");
        }
        Status { keys: self.0.public_keys().len(), failed: read.is_err() }
    }
}
