//! Moving everything to another master key, while controllers run.
//!
//! Each step may be run again, and each leaves behind what the next one needs: a key's
//! file, a row. So whoever is killed at any point is followed by somebody who begins
//! anew and comes to the same end. The order:
//!
//! 1. The next key is there, beside the present one.
//! 2. The database says that everything new is sealed with it.
//! 3. Signing keys and versions of credentials are sealed anew, batch by batch. What was
//!    not yet opens with the old key, what was already with the new one.
//! 4. Nothing is left: the CA's key and the check are sealed anew, in one transaction.
//! 5. The next key's file takes the place of the present one's, which stays as `.old`.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use daemon::seal::{KeyError, MasterKey};
use store::{
    Store,
    audit::Actor,
    credential::rekey::{FleetResealed, VersionAt},
};

use super::{CHECK, KeySource, Keyring, Master, Unlocked, VaultError, aad, signing, unlock};
use crate::config::Config;

/// Versions that are moved in one transaction.
const BATCH: u32 = 100;

/// Why everything is not moved.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// The vault does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Keys are given as texts, and there is no next one.
    #[error(
        "find the next master key: the present one is given as a text, so give the next one as A67_MASTER_KEY_NEXT (32 bytes in base64)"
    )]
    NextTextMissing,
    /// The next key is the present one.
    #[error("use the next master key: it is the present one")]
    Same,
    /// The key of an earlier move is still there.
    #[error(
        "keep the present master key as {path}: there is one of an earlier move; take it away first, and keep it as long as you keep backups from its time"
    )]
    OldKept {
        /// Which file.
        path: String,
    },
    /// Something was sealed with the old key meanwhile, or the CA's key was changed.
    #[error("end the move: something is still sealed with the old key; run it again")]
    Left,
    /// The keys' files cannot be put in their places.
    #[error("put the next master key in its place")]
    Files(#[source] io::Error),
}

impl From<store::StoreError> for RekeyError {
    fn from(error: store::StoreError) -> Self {
        Self::Vault(error.into())
    }
}

impl From<KeyError> for RekeyError {
    fn from(error: KeyError) -> Self {
        Self::Vault(error.into())
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The move is under way.
    Begun,
    /// So many signing keys were moved.
    SigningKeys(usize),
    /// So many versions were moved.
    Versions(usize),
    /// The database knows the new key alone.
    Ended,
    /// The new key's file is in its place, or whoever gives texts has to change them.
    Placed,
}

#[derive(Clone, Copy)]
enum Phase {
    Begin,
    SigningKeys,
    Versions(Option<VersionAt>),
    End,
    Place,
    Done,
}

/// A move, from wherever the last one came to.
pub struct Rekey {
    store: Store,
    ring: Arc<Keyring>,
    fleet: store::fleet::FleetRow,
    from: Arc<Master>,
    to: Arc<Master>,
    phase: Phase,
}

impl Rekey {
    /// Finds the keys; makes the next one if there is none.
    ///
    /// # Errors
    /// When the keys are not those of the fleet, or there is no next one.
    pub async fn new(config: &Config, store: &Store) -> Result<Self, RekeyError> {
        let Unlocked { fleet, ring, master } = unlock(config, store).await?;
        store.seal_with(ring.clone());
        let source = ring.source();
        let next = source.next()?;
        if let Some(next) = next.filter(|next| next.id().as_bytes() == master.id()) {
            // The last one came to its end in the database; only the files are left.
            let from = ring.add(source.present()?);
            let to = ring.add(next);
            if from.id() == to.id() {
                return Err(RekeyError::Same);
            }
            return Ok(Self { store: store.clone(), ring, fleet, from, to, phase: Phase::Place });
        }
        if !source.is_text() {
            old_is_free(source)?;
        }
        let next = match source.next()? {
            Some(next) => next,
            None if source.is_text() => return Err(RekeyError::NextTextMissing),
            None => create_next(source)?,
        };
        let to = ring.add(next);
        if to.id() == master.id() {
            return Err(RekeyError::Same);
        }
        Ok(Self { store: store.clone(), ring, fleet, from: master, to, phase: Phase::Begin })
    }

    /// Where keys come from.
    #[must_use]
    pub fn source(&self) -> &KeySource {
        self.ring.source()
    }

    /// Does the next step; `None` when there is none any more.
    ///
    /// # Errors
    /// With the first thing that does not open, or when the database is not there. What
    /// was done stays done.
    pub async fn step(&mut self, actor: &Actor) -> Result<Option<Step>, RekeyError> {
        let (step, next) = match self.phase {
            Phase::Begin => {
                let sealing = self.to.key().derive("check");
                let check = sealing.seal(&aad("check", self.fleet.id()), CHECK).map_err(VaultError::Seal)?;
                self.store.rekey_begin(self.from.id(), self.to.id(), &check, actor).await?;
                (Step::Begun, Phase::SigningKeys)
            }
            Phase::SigningKeys => (Step::SigningKeys(self.signing_keys().await?), Phase::Versions(None)),
            Phase::Versions(after) => match self.store.rekey_batch(after, BATCH).await? {
                Some((moved, last)) => (Step::Versions(moved), Phase::Versions(Some(last))),
                None => (Step::Versions(0), Phase::End),
            },
            Phase::End => {
                self.end(actor).await?;
                (Step::Ended, Phase::Place)
            }
            Phase::Place => {
                if !self.source().is_text() {
                    place(self.source()).map_err(RekeyError::Files)?;
                }
                (Step::Placed, Phase::Done)
            }
            Phase::Done => return Ok(None),
        };
        self.phase = next;
        Ok(Some(step))
    }

    async fn signing_keys(&self) -> Result<usize, RekeyError> {
        let sealing = self.to.key().derive(signing::PURPOSE);
        let mut moved = 0;
        for row in self.store.signing_key_list_all().await? {
            let place = signing::aad(self.fleet.id(), &row.kid);
            let (master, key) = self
                .ring
                .open(signing::PURPOSE, &place, &row.private_key_sealed)
                .map_err(VaultError::WrongKey)?;
            if master.id() != self.to.id() {
                let sealed = sealing.seal(&place, &key).map_err(VaultError::Seal)?;
                self.store.signing_key_reseal(&row, &sealed).await?;
                moved += 1;
            }
        }
        Ok(moved)
    }

    async fn end(&self, actor: &Actor) -> Result<(), RekeyError> {
        let place = aad("ca", self.fleet.id());
        let before = self.fleet.ca_key_sealed.clone();
        let (_, key) = self.ring.open("ca", &place, &before).map_err(VaultError::WrongKey)?;
        let ca_key_sealed = self.to.key().derive("ca").seal(&place, &key).map_err(VaultError::Seal)?;
        let resealed = FleetResealed { ca_key_before: before, ca_key_sealed };
        if self.store.rekey_finish(self.to.id(), &resealed, actor).await? {
            return Ok(());
        }
        Err(RekeyError::Left)
    }
}

/// Makes the next key, for whoever may read the present one.
fn create_next(source: &KeySource) -> Result<MasterKey, RekeyError> {
    let owner = fs::metadata(source.path()).map_err(RekeyError::Files)?;
    let path = source.next_path();
    let key = MasterKey::create(&path)?;
    let made = fs::metadata(&path).map_err(RekeyError::Files)?;
    if (made.uid(), made.gid()) != (owner.uid(), owner.gid()) {
        std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).map_err(RekeyError::Files)?;
    }
    Ok(key)
}

/// Whether the present key can be kept as the old one: there is none, or it is the same
/// file, left by a move that was killed at the last moment.
fn old_is_free(source: &KeySource) -> Result<(), RekeyError> {
    let old = source.old_path();
    match (inode(&old), inode(source.path())) {
        (Ok(old), Ok(present)) if old == present => Ok(()),
        (Err(e), _) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(RekeyError::OldKept { path: old.display().to_string() }),
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Puts the next key in the place of the present one, which gets another name first: at
/// each moment there is a file of the present key's name, and both keys are there.
fn place(source: &KeySource) -> io::Result<()> {
    let (present, next, old) = (source.path(), source.next_path(), source.old_path());
    match fs::hard_link(present, &old) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && inode(&old)? == inode(present)? => {}
        other => other?,
    }
    fs::rename(&next, present)?;
    let parent = present.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
