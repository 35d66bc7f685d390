//! The master keys that this process knows, and what is done with them.
//!
//! Mostly there is one. While the fleet is moved to another master key there are two, and
//! whoever meets something that is sealed with a key that he does not know looks again at
//! where keys come from: so a controller that runs learns of the new key by itself.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use daemon::seal::{DataKeys, KeyError, KeyId, MasterKey, SealError};
use domain::{credential::SEALED_PER_EPOCH_MAX, secret::Secret};
use store::credential::{PURPOSE, Place, Sealed, Sealer, SealerError};
use zeroize::Zeroizing;

use crate::config::Config;

domain::assert_has_not!(MasterKey: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);
domain::assert_has_not!(daemon::seal::SealingKey: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);

/// How often a key that is not known makes us look, at most: anybody who can write to the
/// database can name one.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Where master keys come from.
pub struct KeySource {
    text: Option<Zeroizing<String>>,
    next_text: Option<Zeroizing<String>>,
    path: PathBuf,
}

impl KeySource {
    /// As configured.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            text: config.master_key.clone(),
            next_text: config.master_key_next.clone(),
            path: config.master_key_path(),
        }
    }

    /// Whether keys are given as texts: then files are neither read nor written.
    pub(super) const fn is_text(&self) -> bool {
        self.text.is_some()
    }

    /// The file of the master key.
    #[must_use]
    pub const fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The file of the master key that is about to take over.
    #[must_use]
    pub fn next_path(&self) -> PathBuf {
        self.beside("next")
    }

    /// The file of the master key of before.
    #[must_use]
    pub fn old_path(&self) -> PathBuf {
        self.beside("old")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    /// Where the next key is looked for, for people.
    #[must_use]
    pub fn next_place(&self) -> String {
        if self.is_text() { "A67_MASTER_KEY_NEXT".to_owned() } else { self.next_path().display().to_string() }
    }

    /// The master key.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn present(&self) -> Result<MasterKey, KeyError> {
        self.text.as_ref().map_or_else(|| MasterKey::load(&self.path), |text| MasterKey::from_base64(text))
    }

    /// The one that is about to take over, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next(&self) -> Result<Option<MasterKey>, KeyError> {
        if let Some(text) = &self.next_text {
            return MasterKey::from_base64(text).map(Some);
        }
        if self.is_text() {
            return Ok(None);
        }
        match MasterKey::load(&self.next_path()) {
            Err(KeyError::Missing { .. }) => Ok(None),
            other => other.map(Some),
        }
    }
}

/// A master key, and the data keys that come from it.
pub struct Master {
    id: KeyId,
    key: Arc<MasterKey>,
    credentials: DataKeys,
}

impl Master {
    fn new(key: MasterKey) -> Self {
        let key = Arc::new(key);
        Self { id: key.id(), credentials: DataKeys::new(key.clone(), PURPOSE), key }
    }

    /// Names it, in the database.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        self.id.as_bytes()
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &MasterKey {
        &self.key
    }
}

/// Why something does not open with any key that is known here.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// Nobody here has the key.
    #[error("find the master key with id {0}: it is not among those that are known here")]
    Unknown(String),
    /// It was changed, or belongs elsewhere.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The master keys that are known.
pub struct Keyring {
    source: KeySource,
    known: RwLock<Vec<Arc<Master>>>,
    looked_at: Mutex<Option<Instant>>,
    epoch_bound: i64,
}

impl Keyring {
    /// A ring with a first key; others are looked for where keys come from.
    #[must_use]
    pub fn new(source: KeySource, first: MasterKey) -> Self {
        let known = RwLock::new(vec![Arc::new(Master::new(first))]);
        Self { source, known, looked_at: Mutex::new(None), epoch_bound: SEALED_PER_EPOCH_MAX }
    }

    /// Where its keys come from.
    #[must_use]
    pub const fn source(&self) -> &KeySource {
        &self.source
    }

    fn known(&self) -> Vec<Arc<Master>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes one more key in.
    pub fn add(&self, key: MasterKey) -> Arc<Master> {
        let master = Arc::new(Master::new(key));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.iter().find(|other| other.id == master.id) {
            return same.clone();
        }
        known.push(master.clone());
        master
    }

    /// Reads again where keys come from. What cannot be read is for the log: what needs
    /// it says so itself.
    pub fn look(&self) {
        let found = [self.source.present().map(Some), self.source.next()];
        for key in found {
            match key {
                Ok(Some(key)) => drop(self.add(key)),
                Ok(None) => {}
                Err(e) => tracing::warn!(error = crate::error::chain(&e), "a master key cannot be read"),
            }
        }
    }

    fn is_look_due(&self) -> bool {
        let now = Instant::now();
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked_at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_PERIOD);
        if due {
            *looked_at = Some(now);
        }
        due
    }

    /// What `find` finds among the known keys, after another look if need be.
    fn find<T>(&self, find: impl Fn(&Arc<Master>) -> Option<T>) -> Option<T> {
        let among = || self.known().iter().find_map(&find);
        among().or_else(|| {
            if !self.is_look_due() {
                return None;
            }
            self.look();
            among()
        })
    }

    /// The master key of that name.
    ///
    /// # Errors
    /// [`RingError::Unknown`].
    pub fn master(&self, id: &[u8]) -> Result<Arc<Master>, RingError> {
        self.find(|master| (master.id() == id).then(|| master.clone()))
            .ok_or_else(|| RingError::Unknown(hex(id)))
    }

    /// Opens what was sealed for a purpose that has one key, with whichever master key
    /// it was sealed; says which that is.
    ///
    /// # Errors
    /// When no key that is known fits, or it was changed.
    pub fn open(
        &self,
        purpose: &str,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<(Arc<Master>, Zeroizing<Vec<u8>>), RingError> {
        let wanted = KeyId::of(sealed);
        let found = self.find(|master| {
            let key = master.key.derive(purpose);
            (Some(key.id()) == wanted).then(|| (master.clone(), key))
        });
        match found {
            Some((master, key)) => Ok((master, key.open(aad, sealed)?)),
            // Says what is wrong with it, where it is not even a sealed value.
            None if wanted.is_none() => {
                let first = self.known().into_iter().next();
                let opened = first.map(|master| master.key.derive(purpose).open(aad, sealed));
                let error = opened.and_then(Result::err).unwrap_or(SealError::TooShort);
                Err(error.into())
            }
            None => Err(RingError::Unknown(wanted.map(|id| id.to_string()).unwrap_or_default())),
        }
    }
}

impl Sealer for Keyring {
    fn epoch_bound(&self) -> i64 {
        self.epoch_bound
    }

    fn seal(
        &self,
        master_key: &[u8],
        epoch: u32,
        place: Place,
        value: &Secret,
    ) -> Result<Vec<u8>, SealerError> {
        let master = self.master(master_key)?;
        Ok(master.credentials.of(epoch).seal(place.to_string().as_bytes(), value.reveal())?)
    }

    fn open(&self, place: Place, sealed: &Sealed) -> Result<Secret, SealerError> {
        let master = self.master(&sealed.master_key)?;
        let opened = master.credentials.of(sealed.epoch).open(place.to_string().as_bytes(), &sealed.bytes)?;
        Ok(Secret::from_zeroizing(opened))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn ring(dir: &std::path::Path) -> Keyring {
        let config = Config { data_dir: dir.to_owned(), ..Config::default() };
        let source = KeySource::of(&config);
        let first = match source.present() {
            Ok(key) => key,
            Err(_) => MasterKey::create(source.path()).unwrap(),
        };
        Keyring::new(source, first)
    }

    fn place(project: u128, credential: u128, version: u32) -> Place {
        Place {
            project_id: Uuid::from_u128(project).into(),
            credential_id: Uuid::from_u128(credential).into(),
            version,
        }
    }

    fn sealed(ring: &Keyring, place: Place, epoch: u32, value: &[u8]) -> Sealed {
        let master_key = ring.known()[0].id().to_vec();
        let bytes = ring.seal(&master_key, epoch, place, &Secret::copy_of(value)).unwrap();
        Sealed { master_key, epoch, bytes }
    }

    #[test]
    fn a_value_opens_in_its_place_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, here) = (ring(dir.path()), place(1, 2, 3));
        for value in [&b""[..], b"\xff\0", b"pa$$\n"] {
            let sealed = sealed(&ring, here, 1, value);
            assert_eq!(Sealer::open(&ring, here, &sealed).ok().unwrap().reveal(), value);
            for elsewhere in [place(9, 2, 3), place(1, 9, 3), place(1, 2, 9)] {
                assert!(Sealer::open(&ring, elsewhere, &sealed).is_err());
            }
            assert!(Sealer::open(&ring, here, &Sealed { epoch: 2, ..sealed.clone() }).is_err());
            assert!(Sealer::open(&ring, here, &Sealed { master_key: vec![0; 8], ..sealed }).is_err());
        }
    }

    #[test]
    fn every_change_of_one_byte_is_refused_and_nothing_of_the_value_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, here) = (ring(dir.path()), place(1, 2, 3));
        let sealed = sealed(&ring, here, 1, b"hunter2");
        for at in 0..sealed.bytes.len() {
            let mut changed = sealed.clone();
            changed.bytes[at] ^= 1;
            let error = Sealer::open(&ring, here, &changed).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "byte {at}");
        }
        for at in 0..sealed.master_key.len() {
            let mut changed = sealed.clone();
            changed.master_key[at] ^= 1;
            assert!(Sealer::open(&ring, here, &changed).is_err(), "byte {at} of the key's id");
        }
    }

    #[test]
    fn a_ring_that_runs_learns_of_a_new_key_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (running, here) = (ring(dir.path()), place(1, 2, 3));
        let before = sealed(&running, here, 1, b"before");
        let next = MasterKey::create(&running.source().next_path()).unwrap();
        let id = next.id();
        let other = ring(dir.path());
        other.look();
        let value = Secret::copy_of(b"after");
        let bytes = other.seal(id.as_bytes(), 1, here, &value).unwrap();
        let after = Sealed { master_key: id.as_bytes().to_vec(), epoch: 1, bytes };
        assert_eq!(Sealer::open(&running, here, &after).ok().unwrap().reveal(), b"after");
        assert_eq!(Sealer::open(&running, here, &before).ok().unwrap().reveal(), b"before");
        assert!(running.seal(id.as_bytes(), 1, here, &value).is_ok());
    }
}
