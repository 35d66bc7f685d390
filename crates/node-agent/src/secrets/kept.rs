//! Sealed answers of the controller, one file for each instance.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | format, 1 |
//! | then, for each login and value: 1 | what it is: 0 a value, 1 a login |
//! | 4 | its place among the instance's secrets, little endian |
//! | 4 | length of what follows, little endian |
//! | the rest | sealed |
//!
//! Each is bound to node, instance, place, credential, version and key, so none can be
//! moved, and one that belongs to another use does not open. A file that is torn or
//! cannot be opened is as good as none: whoever needs it asks the controller.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    path::PathBuf,
};

use daemon::{
    files::{create_private_dir, write_atomic},
    seal::SealingKey,
};
use domain::{
    assignment::Assignment,
    id::{CredentialId, InstanceId, NodeId},
    secret::Secret,
    spec::{LIST_MAX, SecretUse},
};
use zeroize::Zeroizing;

use super::INSTANCE_MAX_BYTES;
use crate::runtime::{LoginProof, RegistryLogin};

const FORMAT: u8 = 1;
const VALUE: u8 = 0;
const LOGIN: u8 = 1;
/// Largest file that is read: all values, and what they are wrapped in.
const FILE_MAX_BYTES: usize = INSTANCE_MAX_BYTES + 64 * 1024 + LIST_MAX * 64;

pub(super) struct Kept {
    dir: PathBuf,
    key: SealingKey,
    node: NodeId,
}

impl Kept {
    pub(super) const fn new(dir: PathBuf, key: SealingKey, node: NodeId) -> Self {
        Self { dir, key, node }
    }

    /// Puts an answer in the place of the one before. On return it is durable.
    pub(super) fn write(
        &self,
        assignment: &Assignment,
        values: &[Secret],
        login: Option<&RegistryLogin>,
    ) -> io::Result<()> {
        let instance = assignment.instance_id;
        let mut bytes = vec![FORMAT];
        let mut add = |kind, index: usize, aad: &[u8], plain: &[u8]| {
            let sealed = self.key.seal(aad, plain).map_err(io::Error::other)?;
            let number = |n: usize| u32::try_from(n).map_err(io::Error::other);
            bytes.push(kind);
            bytes.extend_from_slice(&number(index)?.to_le_bytes());
            bytes.extend_from_slice(&number(sealed.len())?.to_le_bytes());
            bytes.extend_from_slice(&sealed);
            io::Result::Ok(())
        };
        if let (Some(login), Some(credential)) = (login, assignment.registry_credential)
            && let Some(plain) = pack(login)
        {
            add(LOGIN, 0, &self.login_aad(instance, credential), &plain)?;
        }
        for (index, (secret, value)) in assignment.spec.secrets.iter().zip(values).enumerate() {
            add(VALUE, index, &self.value_aad(instance, index, secret), value.reveal())?;
        }
        create_private_dir(&self.dir)?;
        write_atomic(&self.path(instance), &bytes, 0o600)
    }

    /// The values for these secrets, where all of them are kept and open.
    pub(super) fn values(&self, instance: InstanceId, secrets: &[SecretUse]) -> Option<Vec<Secret>> {
        let bytes = self.read(instance)?;
        let mut values = records(&bytes)?.into_iter().filter(|record| record.kind == VALUE);
        let open = |(index, secret): (usize, &SecretUse)| {
            let record = values.next().filter(|record| record.index == index)?;
            let plain = self.key.open(&self.value_aad(instance, index, secret), record.sealed).ok()?;
            Some(Secret::from_zeroizing(plain))
        };
        let opened: Option<Vec<_>> = secrets.iter().enumerate().map(open).collect();
        if opened.is_none() {
            tracing::warn!(instance.id = %instance, "what is kept of an instance's secrets cannot be opened; they are asked for again");
        }
        opened
    }

    /// The login of this credential, where it is kept and opens.
    pub(super) fn login(&self, instance: InstanceId, credential: CredentialId) -> Option<RegistryLogin> {
        let bytes = self.read(instance)?;
        let record = records(&bytes)?.into_iter().find(|record| record.kind == LOGIN)?;
        unpack(&self.key.open(&self.login_aad(instance, credential), record.sealed).ok()?)
    }

    /// Of whom there are files.
    pub(super) fn instances(&self) -> BTreeSet<InstanceId> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return BTreeSet::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    pub(super) fn remove(&self, instance: InstanceId) {
        let path = self.path(instance);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            // Found again at the next look.
            tracing::warn!(%error, path = %path.display(), "kept secrets were not removed");
        }
    }

    fn path(&self, instance: InstanceId) -> PathBuf {
        self.dir.join(instance.to_string())
    }

    fn read(&self, instance: InstanceId) -> Option<Vec<u8>> {
        let file = File::open(self.path(instance)).ok()?;
        let mut bytes = Vec::new();
        file.take(FILE_MAX_BYTES as u64).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn aad(&self, kind: &str, instance: InstanceId) -> Vec<u8> {
        [kind.as_bytes(), self.node.uuid().as_bytes(), instance.uuid().as_bytes()].concat()
    }

    fn value_aad(&self, instance: InstanceId, index: usize, secret: &SecretUse) -> Vec<u8> {
        let mut aad = self.aad("secret", instance);
        aad.extend_from_slice(&(index as u64).to_le_bytes());
        if let Some(resolved) = &secret.resolved {
            aad.extend_from_slice(resolved.credential_id.uuid().as_bytes());
            aad.extend_from_slice(&resolved.version.to_le_bytes());
        }
        // Whether there is a key, and then the key: it comes last, so none reads as another.
        aad.push(secret.key.is_some().into());
        aad.extend_from_slice(secret.key.as_deref().unwrap_or_default().as_bytes());
        aad
    }

    fn login_aad(&self, instance: InstanceId, credential: CredentialId) -> Vec<u8> {
        let mut aad = self.aad("login", instance);
        aad.extend_from_slice(credential.uuid().as_bytes());
        aad
    }
}

struct Record<'a> {
    kind: u8,
    index: usize,
    sealed: &'a [u8],
}

/// What a file holds; `None` where it is not whole.
fn records(bytes: &[u8]) -> Option<Vec<Record<'_>>> {
    let (&format, mut rest) = bytes.split_first()?;
    if format != FORMAT {
        return None;
    }
    let mut records = Vec::new();
    while let Some((&kind, behind)) = rest.split_first() {
        let (index, behind) = behind.split_first_chunk::<4>()?;
        let (length, behind) = behind.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (sealed, behind) = behind.split_at_checked(length)?;
        let index = usize::try_from(u32::from_le_bytes(*index)).ok()?;
        records.push(Record { kind, index, sealed });
        rest = behind;
    }
    Some(records)
}

/// Server and name, each behind its length, and the password; `None` for a login that
/// never comes from a controller.
fn pack(login: &RegistryLogin) -> Option<Zeroizing<Vec<u8>>> {
    let LoginProof::Password { username, password } = &login.proof else { return None };
    let length = login.server.len() + username.len() + password.len() + 8;
    let mut packed = Zeroizing::new(Vec::with_capacity(length));
    for text in [&login.server, username] {
        packed.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
        packed.extend_from_slice(text.as_bytes());
    }
    packed.extend_from_slice(password.as_bytes());
    Some(packed)
}

fn unpack(packed: &[u8]) -> Option<RegistryLogin> {
    let mut rest = packed;
    let mut text = || {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (text, behind) = behind.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        rest = behind;
        std::str::from_utf8(text).ok().map(str::to_owned)
    };
    let (server, username) = (text()?, text()?);
    let password = Zeroizing::new(std::str::from_utf8(rest).ok()?.to_owned());
    Some(RegistryLogin { server, proof: LoginProof::Password { username, password } })
}
