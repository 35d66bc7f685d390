//! How copies give way, and what becomes of those on nodes that are not heard of.

use domain::{
    disconnect::{Disconnect, Keep, REPLACE_AFTER_SECONDS},
    spec::InstanceSpec,
    update::{Strategy, UpdatePolicy},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::Error;

/// How copies give way to those of a new revision.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateCreate {
    /// `rolling`: a few at a time; `recreate`: all old ones go before the first new one
    /// comes. `rolling` when left out.
    #[serde(default)]
    strategy: StrategyCreate,
    /// How many copies more than `replicas` there may be meanwhile; 1 when left out.
    max_surge: Option<u32>,
    /// How many of `replicas` may be missing meanwhile, where new copies cannot stand
    /// beside the old ones; 0 when left out. A fixed host port that is in the way counts
    /// as 1.
    max_unavailable: Option<u32>,
    /// Whether an update that fails is taken back; `true` when left out. Otherwise it is
    /// halted as it is.
    auto_rollback: Option<bool>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StrategyCreate {
    #[default]
    Rolling,
    Recreate,
}

/// What becomes of copies on a node that is not heard of.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DisconnectCreate {
    /// `after`: they are placed elsewhere after a while; `never`. When left out: `never`
    /// for copies with named volumes or paths of the host, else `after`.
    replace: Option<ReplaceCreate>,
    /// With `after`: seconds since the node's last heartbeat; 10 when left out, and with
    /// `stop_after_seconds` the least that is safe.
    replace_after_seconds: Option<u32>,
    /// Which of two copies stays when the node is back: `newest` or `oldest`; `newest`
    /// when left out.
    #[serde(default)]
    keep: KeepCreate,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ReplaceCreate {
    After,
    Never,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum KeepCreate {
    #[default]
    Newest,
    Oldest,
}

impl UpdateCreate {
    pub(super) fn read(&self) -> UpdatePolicy {
        let defaults = UpdatePolicy::default();
        UpdatePolicy {
            strategy: match self.strategy {
                StrategyCreate::Rolling => Strategy::Rolling,
                StrategyCreate::Recreate => Strategy::Recreate,
            },
            max_surge: self.max_surge.unwrap_or(defaults.max_surge),
            max_unavailable: self.max_unavailable.unwrap_or(defaults.max_unavailable),
            auto_rollback: self.auto_rollback.unwrap_or(defaults.auto_rollback),
        }
    }
}

impl DisconnectCreate {
    pub(super) fn read(&self, instance: &InstanceSpec) -> Result<Disconnect, Error> {
        let defaults = Disconnect::default_for(instance);
        let keep = match self.keep {
            KeepCreate::Newest => Keep::Newest,
            KeepCreate::Oldest => Keep::Oldest,
        };
        let replace_after_seconds = match (self.replace, self.replace_after_seconds) {
            (Some(ReplaceCreate::Never), Some(_)) => {
                let message = "goes with replace: after only";
                return Err(Error::invalid_field("disconnect.replace_after_seconds", message));
            }
            (Some(ReplaceCreate::Never), None) => None,
            (_, Some(seconds)) => Some(seconds),
            (None, None) => defaults.replace_after_seconds,
            (Some(ReplaceCreate::After), None) => {
                let least = domain::disconnect::fence(instance).map(|fence| fence.as_secs());
                Some(least.and_then(|least| u32::try_from(least).ok()).unwrap_or(REPLACE_AFTER_SECONDS))
            }
        };
        Ok(Disconnect { replace_after_seconds, keep })
    }
}
