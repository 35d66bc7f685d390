//! The keys that sign access tokens, as they lie in the database.

use daemon::seal::{MasterKey, SealingKey};
use domain::id::FleetId;
use store::{Store, fleet::SigningKeyRow};

use super::VaultError;
use crate::auth::jwt::{NewKey, OlderKey, SigningError, SigningKeys};

/// Seals and opens the keys that sign access tokens.
pub struct SigningVault {
    sealing: SealingKey,
    fleet: FleetId,
}

impl SigningVault {
    pub(super) fn new(master: &MasterKey, fleet: FleetId) -> Self {
        Self { sealing: master.derive("signing"), fleet }
    }

    fn aad(&self, kid: &str) -> Vec<u8> {
        format!("signing {} {kid}", self.fleet).into_bytes()
    }

    /// Makes a key.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn make(&self) -> Result<SigningKeyRow, VaultError> {
        let key = NewKey::generate()?;
        let private_key_sealed =
            self.sealing.seal(&self.aad(&key.kid), &key.private_key).map_err(VaultError::Seal)?;
        Ok(SigningKeyRow { kid: key.kid, public_key: key.public_key, private_key_sealed, retired_at: None })
    }

    /// Reads the keys; makes the first.
    pub(super) async fn found(&self, store: &Store) -> Result<SigningKeys, VaultError> {
        if store.signing_key_list().await?.is_empty() {
            store.signing_key_insert(self.make()?, chrono::Utc::now()).await?;
        }
        // Read back: another controller may have made one at the same moment, and then both are good.
        self.load(store).await
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// When there is none, it does not open, or the database is not there.
    pub async fn load(&self, store: &Store) -> Result<SigningKeys, VaultError> {
        let mut rows = store.signing_key_list().await?.into_iter();
        let newest = rows.next().ok_or(SigningError::Key)?;
        let current = self
            .sealing
            .open(&self.aad(&newest.kid), &newest.private_key_sealed)
            .map_err(VaultError::WrongKey)?;
        let older = rows.map(|row| OlderKey { public_key: row.public_key, retires_at: row.retired_at });
        Ok(SigningKeys::new(format!("automator67:{}", self.fleet), &current, older)?)
    }
}
