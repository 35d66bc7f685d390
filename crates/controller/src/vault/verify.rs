//! Opening everything that is sealed, once, to know that it can be.

use store::{
    Store,
    credential::{Sealer, rekey::SealedVersion},
};

use super::{Unlocked, VaultError, aad, signing, unlock};
use crate::config::Config;

/// Versions that are looked at in one go.
const BATCH: u32 = 200;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Versions of credentials that open.
    pub versions: usize,
    /// Signing keys that open.
    pub signing_keys: usize,
    /// What does not open: what it is, with name and id, and why. Nothing of its content.
    pub failures: Vec<String>,
}

/// Opens everything: the fleet's check, its CA's key, every signing key, every version of
/// every credential. What belongs to sign-ins under way lapses by itself and is left out.
///
/// # Errors
/// When the keys are not those of the fleet, or the database is not there.
pub async fn verify(config: &Config, store: &Store) -> Result<Report, VaultError> {
    let Unlocked { fleet, ring, .. } = unlock(config, store).await?;
    let mut report = Report::default();
    let mut failed = |what: String, error: &(dyn std::error::Error + 'static)| {
        report.failures.push(format!("{what} does not open: {}", crate::error::chain(error)));
    };
    if let Err(e) = ring.open("ca", &aad("ca", fleet.id()), &fleet.ca_key_sealed) {
        failed("the CA's key".to_owned(), &e);
    }
    for row in store.signing_key_list_all().await? {
        match ring.open(signing::PURPOSE, &signing::aad(fleet.id(), &row.kid), &row.private_key_sealed) {
            Ok(_) => report.signing_keys += 1,
            Err(e) => report.failures.push(format!(
                "signing key {} does not open: {}",
                row.kid,
                crate::error::chain(&e)
            )),
        }
    }
    let mut after = None;
    loop {
        let page = store.credential_version_list_sealed(after, BATCH).await?;
        let Some(last) = page.as_slice().iter().last().map(|v| (v.place.credential_id, v.place.version))
        else {
            return Ok(report);
        };
        after = Some(last);
        for SealedVersion { name, place, sealed } in page {
            match ring.as_ref().open_version(place, &sealed) {
                Ok(()) => report.versions += 1,
                Err(why) => report.failures.push(format!(
                    "credential {name} ({}), version {}, does not open: {why}",
                    place.credential_id, place.version
                )),
            }
        }
    }
}

impl super::Keyring {
    /// Whether a version opens; what it holds is wiped at once.
    fn open_version(
        &self,
        place: store::credential::Place,
        sealed: &store::credential::Sealed,
    ) -> Result<(), String> {
        Sealer::open(self, place, sealed).map(drop).map_err(|e| crate::error::chain(e.as_ref()))
    }
}
