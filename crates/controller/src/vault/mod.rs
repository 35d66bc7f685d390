//! What is sealed, and the master keys that seal it.
//!
//! Every sealing key is derived from one master key, by purpose, and every sealed
//! value is bound to what it is and whose, so that it opens nowhere else. The
//! fleet's row holds a known text sealed by the master key: a wrong key is found
//! at the start, before it does harm, and a new one is never made over old data.
//!
//! Credentials are sealed inside the store's transactions, by the [`Keyring`]: one data
//! key per epoch, and the store counts. [`rekey`] moves everything to another master
//! key while controllers run; [`verify`] opens everything once.

mod certificate;
mod keyring;
pub mod rekey;
mod signing;
pub mod verify;

use std::sync::Arc;

pub use certificate::{CertificateShown, certificate_shown};
pub use keyring::{KeySource, Keyring, Master, RingError};
pub use signing::SigningVault;

use daemon::seal::{KeyError, MasterKey, SealError, SealingKey};
use domain::id::FleetId;
use store::{Store, StoreError, fleet::FleetRow};
use uuid::Uuid;

use crate::{
    auth::{
        cookie::CookieKey,
        jwt::{SigningError, SigningKeys},
    },
    config::Config,
    pki::{Ca, PkiError},
};

const CHECK: &[u8] = b"automator67 master key";

/// Why the vault does not open.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is data, and no key for it.
    #[error(
        "open the vault: the database was made with a master key, and {place} has none; put the key back"
    )]
    KeyMissing {
        /// Where it was looked for.
        place: String,
    },
    /// The key is not the one that the data was sealed with.
    #[error("open the vault: the master key is not the one that this database was made with")]
    WrongKey(#[source] RingError),
    /// A move to another key is under way, and that one is not here.
    #[error(
        "open the vault: it is being moved to another master key, and {place} does not have it; put it there, or run `vault rekey` where it is"
    )]
    NextKeyMissing {
        /// Where it was looked for.
        place: String,
    },
    /// The key cannot be read or made.
    #[error("open the vault")]
    Key(#[from] KeyError),
    /// Something could not be sealed.
    #[error("seal a key")]
    Seal(#[source] SealError),
    /// The key that everything is sealed with now is not here.
    #[error("seal a key")]
    Ring(#[source] RingError),
    /// The database does not answer as it should.
    #[error("read the fleet")]
    Store(#[from] StoreError),
    /// The CA cannot be made or read.
    #[error("load the fleet's CA")]
    Pki(#[from] PkiError),
    /// The signing keys cannot be made or read.
    #[error("load the signing keys")]
    Signing(#[from] SigningError),
}

/// What the vault holds for this process.
pub struct Opened {
    /// Which fleet this is.
    pub fleet_id: FleetId,
    /// Its CA.
    pub ca: Ca,
    /// Signs what cookies hold.
    pub cookies: CookieKey,
    /// Seals what belongs to sign-ins under way.
    pub flows: SealingKey,
    /// The keys that sign access tokens.
    pub keys: SigningKeys,
    /// Opens them again when they change.
    pub signing: SigningVault,
}

/// Opens the vault; on an empty database makes everything that is in it. Several
/// controllers may do it at once, with one key: one founds, all use what it made. From
/// here on the store seals and opens credentials.
///
/// # Errors
/// When the key is missing, wrong or unreadable, or the database is not there.
pub async fn open(config: &Config, store: &Store) -> Result<Opened, VaultError> {
    let Unlocked { fleet, ring, master } = unlock(config, store).await?;
    let (_, ca_key) =
        ring.open("ca", &aad("ca", fleet.id()), &fleet.ca_key_sealed).map_err(VaultError::WrongKey)?;
    let ca = Ca::from_parts(&fleet.ca_certificate_der, &ca_key)?;
    let signing = SigningVault::new(ring.clone(), fleet.id());
    let keys = signing.found(store).await?;
    let cookies = CookieKey::new(&master.key().derive_bytes("cookies"));
    let flows = master.key().derive("oauth");
    store.seal_with(ring);
    Ok(Opened { fleet_id: fleet.id(), ca, cookies, flows, keys, signing })
}

/// The keys, known to be those of the fleet.
pub(crate) struct Unlocked {
    pub(crate) fleet: FleetRow,
    pub(crate) ring: Arc<Keyring>,
    /// The one that the fleet's check is sealed with.
    pub(crate) master: Arc<Master>,
}

/// Finds the keys, and makes sure that they are those of the fleet.
pub(crate) async fn unlock(config: &Config, store: &Store) -> Result<Unlocked, VaultError> {
    let fleet = store.fleet_fetch().await?;
    let source = KeySource::of(config);
    let first = master_key(&source, fleet.is_some())?;
    let fleet = match fleet {
        Some(fleet) => fleet,
        None => store.fleet_found(new_fleet(&first)?).await?,
    };
    let next = source.next()?;
    let ring = Arc::new(Keyring::new(source, first));
    if let Some(next) = next {
        ring.add(next);
    }
    let (master, _) = ring
        .open("check", &aad("check", fleet.id()), &fleet.master_key_check)
        .map_err(VaultError::WrongKey)?;
    store.master_key_note(master.id()).await?;
    if let Some(check) = store.rekey_state().await?.next_key_check {
        let missing = |_| VaultError::NextKeyMissing { place: ring.source().next_place() };
        ring.open("check", &aad("check", fleet.id()), &check).map_err(missing)?;
    }
    Ok(Unlocked { fleet, ring, master })
}

/// What a value of the fleet's own is bound to.
fn aad(what: &str, fleet: FleetId) -> Vec<u8> {
    format!("{what} {fleet}").into_bytes()
}

fn master_key(source: &KeySource, there_is_data: bool) -> Result<MasterKey, VaultError> {
    match source.present() {
        Err(KeyError::Missing { .. }) if there_is_data => {
            Err(VaultError::KeyMissing { place: source.path().display().to_string() })
        }
        Err(KeyError::Missing { path }) => {
            tracing::info!(path = %path.display(), "a master key was made; keep a copy of it elsewhere");
            Ok(MasterKey::create(&path)?)
        }
        other => Ok(other?),
    }
}

fn new_fleet(master: &MasterKey) -> Result<FleetRow, VaultError> {
    let id = FleetId::from_uuid(Uuid::now_v7());
    let seal =
        |what: &str, plain: &[u8]| master.derive(what).seal(&aad(what, id), plain).map_err(VaultError::Seal);
    let (_, material) = Ca::generate(chrono::Utc::now())?;
    let ca_key_sealed = seal("ca", &material.key_der)?;
    let seals_with = master.id().as_bytes().to_vec();
    Ok(FleetRow::new(id, seal("check", CHECK)?, material.cert_der, ca_key_sealed, seals_with))
}
