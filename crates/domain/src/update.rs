//! How the copies of a deployment give way to those of a new revision.
//!
//! Start-first is the rule: a copy that serves is taken away only once a new one is
//! healthy (I8). It is stop-first where the new copies cannot stand beside the old
//! ones: no surge is allowed, the nodes have no room, or a fixed host port is taken by
//! the very copy that is to be replaced.

use serde::{Deserialize, Serialize};

use crate::{deployment::REPLICAS_MAX, spec::Faults};

/// In which manner copies give way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// A few at a time.
    #[default]
    Rolling,
    /// All old ones go before the first new one comes: never two revisions at once.
    Recreate,
}

impl Strategy {
    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Recreate => "recreate",
        }
    }
}

/// How an update goes, and what becomes of one that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatePolicy {
    /// In which manner.
    pub strategy: Strategy,
    /// How many copies more than `replicas` there may be meanwhile.
    pub max_surge: u32,
    /// How many of `replicas` may be missing meanwhile, where new copies cannot stand
    /// beside the old ones. A fixed host port that is in the way counts as 1 at least.
    pub max_unavailable: u32,
    /// Whether an update that fails is taken back; otherwise it is halted as it is.
    pub auto_rollback: bool,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self { strategy: Strategy::Rolling, max_surge: 1, max_unavailable: 0, auto_rollback: true }
    }
}

impl UpdatePolicy {
    pub(crate) fn faults(&self, faults: &mut Faults) {
        faults.range("update.max_surge", &self.max_surge, 0, REPLICAS_MAX);
        faults.range("update.max_unavailable", &self.max_unavailable, 0, REPLICAS_MAX);
        faults.unless(
            self.strategy == Strategy::Recreate || self.max_surge > 0 || self.max_unavailable > 0,
            "update.max_surge",
            "must not be 0 together with update.max_unavailable: nothing could ever be replaced",
        );
    }
}
