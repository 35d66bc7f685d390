//! What is sealed, and the master key that seals it.
//!
//! Every sealing key is derived from one master key, by purpose, and every sealed
//! value is bound to what it is and whose, so that it opens nowhere else. The
//! fleet's row holds a known text sealed by the master key: a wrong key is found
//! at the start, before it does harm, and a new one is never made over old data.

mod signing;

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
    WrongKey(#[source] SealError),
    /// The key cannot be read or made.
    #[error("open the vault")]
    Key(#[from] KeyError),
    /// Something could not be sealed.
    #[error("seal a key")]
    Seal(#[source] SealError),
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
/// controllers may do it at once, with one key: one founds, all use what it made.
///
/// # Errors
/// When the key is missing, wrong or unreadable, or the database is not there.
pub async fn open(config: &Config, store: &Store) -> Result<Opened, VaultError> {
    let fleet = store.fleet_fetch().await?;
    let master = master_key(config, fleet.is_some())?;
    let fleet = match fleet {
        Some(fleet) => fleet,
        None => store.fleet_found(new_fleet(&master)?).await?,
    };
    let aad = |what: &str| format!("{what} {}", fleet.id()).into_bytes();
    master.derive("check").open(&aad("check"), &fleet.master_key_check).map_err(VaultError::WrongKey)?;
    let ca_key = master.derive("ca").open(&aad("ca"), &fleet.ca_key_sealed).map_err(VaultError::WrongKey)?;
    let ca = Ca::from_parts(&fleet.ca_certificate_der, &ca_key)?;
    let signing = SigningVault::new(&master, fleet.id());
    let keys = signing.found(store).await?;
    let cookies = CookieKey::new(&master.derive_bytes("cookies"));
    Ok(Opened { fleet_id: fleet.id(), ca, cookies, flows: master.derive("oauth"), keys, signing })
}

fn master_key(config: &Config, there_is_data: bool) -> Result<MasterKey, VaultError> {
    if let Some(text) = &config.master_key {
        return Ok(MasterKey::from_base64(text)?);
    }
    let path = config.master_key_path();
    match MasterKey::load(&path) {
        Err(KeyError::Missing { .. }) if there_is_data => {
            Err(VaultError::KeyMissing { place: path.display().to_string() })
        }
        Err(KeyError::Missing { .. }) => {
            tracing::info!(path = %path.display(), "a master key was made; keep a copy of it elsewhere");
            Ok(MasterKey::create(&path)?)
        }
        other => Ok(other?),
    }
}

fn new_fleet(master: &MasterKey) -> Result<FleetRow, VaultError> {
    let id = FleetId::from_uuid(Uuid::now_v7());
    let seal = |what: &str, plain: &[u8]| {
        master.derive(what).seal(format!("{what} {id}").as_bytes(), plain).map_err(VaultError::Seal)
    };
    let (_, material) = Ca::generate(chrono::Utc::now())?;
    let ca_key_sealed = seal("ca", &material.key_der)?;
    Ok(FleetRow::new(id, seal("check", CHECK)?, material.cert_der, ca_key_sealed))
}
