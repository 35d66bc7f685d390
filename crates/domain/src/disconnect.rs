//! What becomes of the copies on a node that is not heard of.
//!
//! After `replace_after` a copy is placed elsewhere. The node may well be alive and
//! only cut off, so there may be two copies until it is back; then one of them goes.
//! Who cannot have two sets `stop_after_seconds`: the node stops the copy by itself
//! when it has had no word of the controller for that long, and the controller
//! replaces it only once that has surely happened (I6).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    spec::{Faults, InstanceSpec, Volume},
};

/// Seconds after the last heartbeat at which copies are replaced, by default.
pub const REPLACE_AFTER_SECONDS: u32 = 10;

/// What a node may take to end a copy once its lease is over, besides the copy's own
/// grace: a look each second, an engine that is slow, clocks that differ by a
/// thousandth.
pub const FENCE_MARGIN: Duration = Duration::from_secs(20);

/// Which of two copies stays when a lost node is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The one that was made in its place.
    #[default]
    Newest,
    /// The one that was there first.
    Oldest,
}

impl Keep {
    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
        }
    }
}

/// What becomes of the copies on a node that is not heard of. The default replaces
/// nothing, which is what declarations from before there was a choice have meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnect {
    /// Seconds after the node's last heartbeat at which a copy is placed elsewhere;
    /// `None` never does.
    pub replace_after_seconds: Option<u32>,
    /// Which copy stays when the node is back.
    #[serde(default)]
    pub keep: Keep,
}

impl Disconnect {
    /// What holds where the user does not say: 10 seconds; never for copies with data
    /// on their node; for fenced ones, as soon as it is safe.
    #[must_use]
    pub fn default_for(instance: &InstanceSpec) -> Self {
        let replace_after_seconds = match fence(instance) {
            _ if has_local_volumes(instance) => None,
            Some(fence) => Some(u32::try_from(fence.as_secs()).unwrap_or(u32::MAX)),
            None => Some(REPLACE_AFTER_SECONDS),
        };
        Self { replace_after_seconds, keep: Keep::Newest }
    }

    /// When a copy is to be replaced whose node is silent since then; `None` for never.
    /// Not before the lease of a fenced copy is surely over, whatever the policy says.
    #[must_use]
    pub fn replace_at(&self, instance: &InstanceSpec, silent_since: Timestamp) -> Option<Timestamp> {
        let wanted = Duration::from_secs(u64::from(self.replace_after_seconds?));
        Some(silent_since + wanted.max(fence(instance).unwrap_or_default()))
    }

    pub(crate) fn faults(&self, instance: &InstanceSpec, faults: &mut Faults) {
        const FIELD: &str = "disconnect.replace_after_seconds";
        if let Some(seconds) = self.replace_after_seconds {
            faults.range(FIELD, &seconds, 0, 31_536_000);
            if let Some(fence) = fence(instance) {
                let least = fence.as_secs();
                faults.unless(
                    u64::from(seconds) >= least,
                    FIELD,
                    format!(
                        "must be at least {least} with this stop_after_seconds and stop_grace_seconds: before, \
                         the copy on the lost node may still be alive"
                    ),
                );
            }
        }
        faults.unless(
            self.keep == Keep::Newest || instance.stop_after_seconds.is_none(),
            "disconnect.keep",
            "must be newest with stop_after_seconds: the older copy must not come back beside the newer one",
        );
    }
}

/// How long after a node's last word a fenced copy on it has surely ended.
#[must_use]
pub fn fence(instance: &InstanceSpec) -> Option<Duration> {
    instance.stop_after().map(|lease| lease + lease / 1000 + instance.stop_grace() + FENCE_MARGIN)
}

/// Whether copies keep data on their node that one elsewhere would not have.
#[must_use]
pub fn has_local_volumes(instance: &InstanceSpec) -> bool {
    instance.volumes.iter().any(|volume| matches!(volume, Volume::Named { .. } | Volume::Bind { .. }))
}
