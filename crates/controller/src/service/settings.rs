//! Settings that administrators change while controllers run.

use domain::{Timestamp, orchestrate::loss::Tolerance};
use serde_json::Value;
use store::{audit::Actor, wake::Wake};

use super::{Services, identity::account::Registration};
use crate::error::Error;

/// What the policy of registration is called in the database.
const REGISTRATION: &str = "registration";

/// Who may register, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationPolicy {
    /// What holds.
    pub effective: Registration,
    /// What holds where nobody sets anything.
    pub configured: Registration,
    /// Who set what holds, and when; `None` where it is the configuration.
    pub set: Option<(String, Timestamp)>,
}

/// What the share of the fleet is called that is too much to lose at once.
const MASS_LOSS: &str = "mass_loss_percent";

impl Services {
    /// The share of the fleet, in percent, from which on copies on nodes that were lost at
    /// once are not replaced; 0 for no limit.
    ///
    /// # Errors
    /// When the database is not there, or holds what this version does not know.
    pub async fn mass_loss_percent(&self) -> Result<u32, Error> {
        match self.store.setting_fetch(MASS_LOSS).await? {
            Some(setting) => serde_json::from_value(setting.value).map_err(Error::internal),
            None => Ok(Tolerance::default().mass_loss_percent.unwrap_or_default()),
        }
    }

    /// Sets that share; with `None`, it is the default again.
    ///
    /// # Errors
    /// When it is more than 100, or the database is not there.
    pub async fn mass_loss_percent_set(&self, percent: Option<u32>, actor: &Actor) -> Result<(), Error> {
        if percent.is_some_and(|percent| percent > 100) {
            return Err(Error::invalid_field(MASS_LOSS, "must be 0 to 100, or null"));
        }
        self.store.setting_update(MASS_LOSS, percent.map(Value::from).as_ref(), actor).await?;
        Ok(self.store.wake(Wake::Orchestrate).await?)
    }

    /// Who may register at this moment, whichever controller somebody set it at.
    ///
    /// # Errors
    /// When the database is not there, or holds what this version does not know.
    pub async fn registration(&self) -> Result<RegistrationPolicy, Error> {
        let configured = self.settings.registration;
        let Some(setting) = self.store.setting_fetch(REGISTRATION).await? else {
            return Ok(RegistrationPolicy { effective: configured, configured, set: None });
        };
        let effective = serde_json::from_value(setting.value).map_err(Error::internal)?;
        let set = Some((setting.updated_by, setting.updated_at));
        Ok(RegistrationPolicy { effective, configured, set })
    }

    /// Sets who may register; with `None`, it is as the configuration says again.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn registration_set(&self, policy: Option<Registration>, actor: &Actor) -> Result<(), Error> {
        let value = policy.map(|policy| Value::from(policy.as_str()));
        Ok(self.store.setting_update(REGISTRATION, value.as_ref(), actor).await?)
    }
}
