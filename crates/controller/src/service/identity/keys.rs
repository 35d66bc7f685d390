//! The keys that sign access tokens, as this controller knows them now.
//!
//! They lie in the database, sealed, so that a restart ends no session and all
//! controllers sign and believe alike. Who changes them wakes the others; each also
//! reads them again from time to time, and when a token names a key that it does not
//! know, which may be a new one.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use chrono::Utc;
use store::audit::Actor;

use super::{Services, bad_token};
use crate::{
    auth::jwt::{JwtError, PublicKey, SigningKeys, Verified},
    error::Error,
    vault::{SigningVault, VaultError},
};

/// How often a token with an unknown key makes us look, at most: anybody can send one.
const LOOK_PERIOD: Duration = Duration::from_secs(5);
/// How much longer than its tokens an old key is believed: a controller that was not
/// told goes on signing with it until it looks again by itself.
const MARGIN: Duration = Duration::from_secs(120);
/// Longest overlap that can be asked for.
const OVERLAP_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Keys that can change while they are used.
pub struct Keys {
    current: RwLock<Arc<SigningKeys>>,
    vault: SigningVault,
    /// Held while they are read, so that what was read first is not kept last.
    reading: tokio::sync::Mutex<()>,
    looked_at: Mutex<Option<Instant>>,
}

impl Keys {
    /// Begins with keys that were just read.
    #[must_use]
    pub fn new(keys: SigningKeys, vault: SigningVault) -> Self {
        Self {
            current: RwLock::new(Arc::new(keys)),
            vault,
            reading: tokio::sync::Mutex::new(()),
            looked_at: Mutex::new(None),
        }
    }

    /// The keys as they are known now.
    #[must_use]
    pub fn current(&self) -> Arc<SigningKeys> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is time to look for a key that somebody names.
    fn is_look_due(&self, now: Instant) -> bool {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked_at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_PERIOD);
        if due {
            *looked_at = Some(now);
        }
        due
    }
}

fn vault_error(error: VaultError) -> Error {
    match error {
        VaultError::Store(error) => error.into(),
        error => Error::internal(error),
    }
}

impl Services {
    /// Reads the signing keys again, and forgets what was believed by the old ones.
    ///
    /// # Errors
    /// When the database is not there. Then the keys stay as they were.
    pub async fn signing_keys_reload(&self) -> Result<(), Error> {
        let keys = &self.identity.keys;
        let _reading = keys.reading.lock().await;
        let read = keys.vault.load(&self.store).await.map_err(vault_error)?;
        *keys.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        self.identity.callers.forget();
        Ok(())
    }

    /// Makes a new signing key, and gives its id. Tokens that older keys have signed are
    /// good for `overlap`; when left out, for as long as such a token can last.
    ///
    /// # Errors
    /// When the overlap is longer than 366 days, or the database is not there.
    pub async fn signing_key_rotate(
        &self,
        overlap: Option<Duration>,
        actor: &Actor,
    ) -> Result<String, Error> {
        let overlap = overlap.unwrap_or(self.settings.access_token_ttl + MARGIN);
        if overlap > OVERLAP_MAX {
            return Err(Error::invalid_field("overlap_hours", "must be 0 to 8784 (366 days)"));
        }
        let made = self.identity.keys.vault.make(&self.store).await.map_err(vault_error)?;
        let (row, master_key) = (&made.row, made.master_key());
        self.store.signing_key_rotate(row, master_key, Utc::now() + overlap, actor).await?;
        self.signing_keys_reload().await?;
        Ok(made.row.kid)
    }

    /// The public keys by which access tokens are believed now.
    #[must_use]
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.identity.keys.current().public_keys(Utc::now())
    }

    /// Verifies an access token; whether its session still is, is not asked.
    pub(super) async fn access_token_verify(&self, text: &str) -> Result<Verified, Error> {
        let verify = || self.identity.keys.current().verify(text, Utc::now());
        let mut verified = verify();
        if verified == Err(JwtError::UnknownKey) && self.identity.keys.is_look_due(Instant::now()) {
            self.signing_keys_reload().await?;
            verified = verify();
        }
        verified.map_err(|e| bad_token().because(e))
    }
}
