//! The keys that sign access tokens, as they lie in the database.

use std::sync::Arc;

use domain::id::FleetId;
use store::{Store, fleet::SigningKeyRow};

use super::{Keyring, Master, VaultError};
use crate::auth::jwt::{NewKey, OlderKey, SigningError, SigningKeys};

/// What they are sealed for.
pub(super) const PURPOSE: &str = "signing";

/// What one is bound to.
pub(super) fn aad(fleet: FleetId, kid: &str) -> Vec<u8> {
    format!("signing {fleet} {kid}").into_bytes()
}

/// Seals and opens the keys that sign access tokens.
pub struct SigningVault {
    ring: Arc<Keyring>,
    fleet: FleetId,
}

/// A new key, and the master key that it is sealed with.
pub struct Made {
    /// As it is stored.
    pub row: SigningKeyRow,
    master: Arc<Master>,
}

impl Made {
    /// Names the master key.
    #[must_use]
    pub fn master_key(&self) -> &[u8] {
        self.master.id()
    }
}

impl SigningVault {
    pub(super) fn new(ring: Arc<Keyring>, fleet: FleetId) -> Self {
        Self { ring, fleet }
    }

    /// Makes a key, sealed with whatever the fleet is sealed with now.
    ///
    /// # Errors
    /// When the operating system gives no random bytes, or the database is not there.
    pub async fn make(&self, store: &Store) -> Result<Made, VaultError> {
        let seals_with = store.rekey_state().await?.seals_with.unwrap_or_default();
        let master = self.ring.master(&seals_with).map_err(VaultError::Ring)?;
        let key = NewKey::generate()?;
        let sealing = master.key().derive(PURPOSE);
        let private_key_sealed =
            sealing.seal(&aad(self.fleet, &key.kid), &key.private_key).map_err(VaultError::Seal)?;
        let row =
            SigningKeyRow { kid: key.kid, public_key: key.public_key, private_key_sealed, retired_at: None };
        Ok(Made { row, master })
    }

    /// Reads the keys; makes the first.
    pub(super) async fn found(&self, store: &Store) -> Result<SigningKeys, VaultError> {
        if store.signing_key_list().await?.is_empty() {
            let made = self.make(store).await?;
            store.signing_key_insert(made.row, made.master.id(), chrono::Utc::now()).await?;
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
        let (_, current) = self
            .ring
            .open(PURPOSE, &aad(self.fleet, &newest.kid), &newest.private_key_sealed)
            .map_err(VaultError::WrongKey)?;
        let older = rows.map(|row| OlderKey { public_key: row.public_key, retires_at: row.retired_at });
        Ok(SigningKeys::new(format!("automator67:{}", self.fleet), &current, older)?)
    }
}
