//! Settings that administrators change while controllers run.

use domain::Timestamp;
use serde_json::Value;
use store::audit::Actor;

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

impl Services {
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
