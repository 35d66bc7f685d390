//! How copies give way, as it is shown.

use domain::{disconnect::Disconnect, update::UpdatePolicy};
use serde::Serialize;
use utoipa::ToSchema;

/// How copies give way to those of a new revision.
#[derive(Serialize, ToSchema)]
pub struct UpdateView {
    /// `rolling` or `recreate`.
    strategy: &'static str,
    max_surge: u32,
    max_unavailable: u32,
    auto_rollback: bool,
}

/// What becomes of copies on a node that is not heard of.
#[derive(Serialize, ToSchema)]
pub struct DisconnectView {
    /// Since the node's last heartbeat; null: they are never replaced.
    replace_after_seconds: Option<u32>,
    /// `newest` or `oldest`.
    keep: &'static str,
}

impl From<UpdatePolicy> for UpdateView {
    fn from(policy: UpdatePolicy) -> Self {
        let UpdatePolicy { strategy, max_surge, max_unavailable, auto_rollback } = policy;
        Self { strategy: strategy.as_str(), max_surge, max_unavailable, auto_rollback }
    }
}

impl From<Disconnect> for DisconnectView {
    fn from(disconnect: Disconnect) -> Self {
        let Disconnect { replace_after_seconds, keep } = disconnect;
        Self { replace_after_seconds, keep: keep.as_str() }
    }
}
