//! What an identity is on disk. Everything here blocks.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use daemon::{
    files::{create_private_dir, write_atomic},
    seal::{KeyError, KeyId, MasterKey, SealingKey},
};
use domain::id::{FleetId, NodeId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Certificate, CertificateError, Identity, NodeKey, NodeKeyError};

const NODE_JSON: &str = "node.json";
const NODE_PEM: &str = "node.pem";
const CA_CRT: &str = "ca.crt";
pub(super) const SEAL_KEY: &str = "seal.key";
/// What the ledger and dossiers are sealed for.
pub(super) const FOR_LEDGER: &str = "agent-ledger";
/// What kept secrets are sealed for.
pub(super) const FOR_SECRETS: &str = "agent-secrets";
/// What is sealed, by name.
const SEALED: [&str; 3] = ["ledger", "dossiers", "secrets"];
const ENROLLING_KEY: &str = "enrolling.key";

/// Why an identity could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// `node.json` is not what an enrolment writes.
    #[error("read {}", path.display())]
    NodeFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A certificate is damaged, or does not belong to the rest.
    #[error("use the certificate in {}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: CertificateError,
    },
    /// A private key is damaged.
    #[error("use the key in {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: NodeKeyError,
    },
    /// The key of the ledger could not be made.
    #[error("make the key of the ledger")]
    LedgerKey(#[source] KeyError),
}

#[derive(Serialize, Deserialize)]
struct NodeFile {
    node_id: NodeId,
    fleet_id: FleetId,
    node_name: String,
    controller: String,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> IdentityError + use<> {
    let path = path.to_owned();
    move |source| IdentityError::Io { path, source }
}

fn read(path: &Path) -> Result<Zeroizing<String>, IdentityError> {
    fs::read_to_string(path).map(Zeroizing::new).map_err(io_at(path))
}

fn read_opt(path: &Path) -> Result<Option<Zeroizing<String>>, IdentityError> {
    match read(path) {
        Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn certificate_at(path: &Path) -> impl Fn(CertificateError) -> IdentityError + use<> {
    let path = path.to_owned();
    move |source| IdentityError::Certificate { path: path.clone(), source }
}

/// Reads what [`commit`] wrote.
pub(super) fn load(data_dir: &Path) -> Result<Option<Identity>, IdentityError> {
    let path = data_dir.join(NODE_JSON);
    let Some(text) = read_opt(&path)? else { return Ok(None) };
    let file: NodeFile =
        serde_json::from_str(&text).map_err(|source| IdentityError::NodeFile { path, source })?;

    let ca_path = data_dir.join(CA_CRT);
    let ca = Certificate::from_pem(&read(&ca_path)?).map_err(certificate_at(&ca_path))?;
    let pem_path = data_dir.join(NODE_PEM);
    let pem = read(&pem_path)?;
    let certificate = Certificate::from_pem(&pem).map_err(certificate_at(&pem_path))?;
    let key =
        NodeKey::from_pem(&pem).map_err(|source| IdentityError::Key { path: pem_path.clone(), source })?;
    certificate.check(file.node_id, &key.public_key_der(), &ca).map_err(certificate_at(&pem_path))?;
    Ok(Some(Identity {
        data_dir: data_dir.to_owned(),
        node_id: file.node_id,
        fleet_id: file.fleet_id,
        node_name: file.node_name,
        controller: file.controller,
        ca,
        certificate,
        key,
    }))
}

/// Keeps a new identity. Its last step makes it one: a crash before that leaves
/// the host as it was, with the key that it tries again with.
pub(super) fn commit(identity: &Identity) -> Result<(), IdentityError> {
    let dir = identity.data_dir.as_path();
    create_private_dir(dir).map_err(io_at(dir))?;
    make_seal_key(dir).map_err(IdentityError::LedgerKey)?;
    let ca_path = dir.join(CA_CRT);
    write_atomic(&ca_path, identity.ca.to_pem().as_bytes(), 0o644).map_err(io_at(&ca_path))?;
    write_certificate(dir, &identity.certificate, &identity.key)?;
    let file = NodeFile {
        node_id: identity.node_id,
        fleet_id: identity.fleet_id,
        node_name: identity.node_name.clone(),
        controller: identity.controller.clone(),
    };
    let path = dir.join(NODE_JSON);
    let text = serde_json::to_vec_pretty(&file)
        .map_err(|source| IdentityError::NodeFile { path: path.clone(), source })?;
    write_atomic(&path, &text, 0o644).map_err(io_at(&path))?;
    // What is left of the enrolment is only a second copy of the key.
    let _ = fs::remove_file(dir.join(ENROLLING_KEY));
    Ok(())
}

/// Puts a certificate and its key in the place of the ones before, both at once.
pub(super) fn write_certificate(
    dir: &Path,
    certificate: &Certificate,
    key: &NodeKey,
) -> Result<(), IdentityError> {
    let path = dir.join(NODE_PEM);
    let text = Zeroizing::new(format!("{}{}", certificate.to_pem(), key.to_pem().as_str()));
    write_atomic(&path, text.as_bytes(), 0o600).map_err(io_at(&path))
}

/// The key of an enrolment: the one that an earlier try left, or a new one that
/// is on disk before anybody is told of it.
pub(super) fn enrolling_key(dir: &Path) -> Result<NodeKey, IdentityError> {
    create_private_dir(dir).map_err(io_at(dir))?;
    let path = dir.join(ENROLLING_KEY);
    let broken = |source| IdentityError::Key { path: path.clone(), source };
    if let Some(text) = read_opt(&path)? {
        return NodeKey::from_pem(&text).map_err(broken);
    }
    let key = NodeKey::generate().map_err(broken)?;
    write_atomic(&path, key.to_pem().as_bytes(), 0o600).map_err(io_at(&path))?;
    Ok(key)
}

/// A key of one purpose. What is sealed here cannot be opened with a new master key,
/// so none is made in the place of one that is lost: [`mend`] does, when the host is
/// enrolled again.
pub(super) fn sealing_key(dir: &Path, purpose: &str) -> Result<SealingKey, KeyError> {
    Ok(MasterKey::load(&dir.join(SEAL_KEY))?.derive(purpose))
}

/// The master key; made where there is none.
fn make_seal_key(dir: &Path) -> Result<MasterKey, KeyError> {
    let path = dir.join(SEAL_KEY);
    match MasterKey::load(&path) {
        Err(KeyError::Missing { .. }) => MasterKey::create(&path),
        other => other,
    }
}

/// Puts aside what a key sealed that is lost or was replaced, and makes a new key where
/// there is none. Says where it was put; `None` where nothing was wrong.
pub(super) fn mend(dir: &Path) -> Result<Option<PathBuf>, IdentityError> {
    let lost = match MasterKey::load(&dir.join(SEAL_KEY)) {
        Ok(master) => {
            let key = master.derive(FOR_LEDGER).id();
            let snapshot = fs::read(dir.join(SEALED[0]).join("snapshot")).unwrap_or_default();
            // One byte says the format.
            snapshot.get(1..).and_then(KeyId::of).is_some_and(|sealed_with| sealed_with != key)
        }
        Err(KeyError::Missing { .. } | KeyError::MalformedFile { .. }) => true,
        Err(error) => return Err(IdentityError::LedgerKey(error)),
    };
    if !lost {
        return Ok(None);
    }
    let aside = dir.join(format!("sealed-with-lost-key-{}", chrono::Utc::now().format("%Y%m%dT%H%M%S")));
    create_private_dir(&aside).map_err(io_at(&aside))?;
    let broken = matches!(MasterKey::load(&dir.join(SEAL_KEY)), Err(KeyError::MalformedFile { .. }));
    for name in SEALED.into_iter().chain(broken.then_some(SEAL_KEY)) {
        let path = dir.join(name);
        match fs::rename(&path, aside.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at(&path)(error)),
            _ => {}
        }
    }
    make_seal_key(dir).map_err(IdentityError::LedgerKey)?;
    Ok(Some(aside))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::identity::testing::TestCa;

    #[test]
    fn an_identity_reads_back_and_only_its_owner_can_read_the_keys() {
        let (dir, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
        let data_dir = dir.path().join("agent");
        let kept = ca.identity(&data_dir, "https://127.0.0.1:1");
        commit(&kept).unwrap();
        let read = load(&data_dir).unwrap().unwrap();
        assert_eq!(read.node_id(), kept.node_id());
        assert_eq!(read.certificate(), kept.certificate());
        assert_eq!(read.key_pem(), kept.key_pem());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data_dir), 0o700);
        assert_eq!(mode(&data_dir.join(NODE_PEM)), 0o600);
        assert_eq!(mode(&data_dir.join(SEAL_KEY)), 0o600);
        assert!(!data_dir.join(ENROLLING_KEY).exists());
    }

    #[test]
    fn without_the_last_file_there_is_no_identity() {
        let (dir, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
        assert!(load(dir.path()).unwrap().is_none());
        commit(&ca.identity(dir.path(), "https://127.0.0.1:1")).unwrap();
        fs::remove_file(dir.path().join(NODE_JSON)).unwrap();
        assert!(load(dir.path()).unwrap().is_none());
    }

    #[test]
    fn a_certificate_with_another_ones_key_is_an_error() {
        let (dir, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
        let identity = ca.identity(dir.path(), "https://127.0.0.1:1");
        commit(&identity).unwrap();
        write_certificate(dir.path(), identity.certificate(), &NodeKey::generate().unwrap()).unwrap();
        assert!(matches!(
            load(dir.path()).err(),
            Some(IdentityError::Certificate { source: CertificateError::OtherKey, .. })
        ));
    }

    #[test]
    fn a_second_try_enrols_with_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let first = enrolling_key(dir.path()).unwrap();
        let second = enrolling_key(dir.path()).unwrap();
        assert_eq!(first.public_key_der(), second.public_key_der());
    }

    #[test]
    fn keys_stay_the_same_are_apart_by_purpose_and_are_not_made_anew_when_lost() {
        let dir = tempfile::tempdir().unwrap();
        make_seal_key(dir.path()).unwrap();
        let key = |purpose| sealing_key(dir.path(), purpose);
        let sealed = key(FOR_LEDGER).unwrap().seal(b"x", b"text").unwrap();
        assert_eq!(key(FOR_LEDGER).unwrap().open(b"x", &sealed).unwrap().as_slice(), b"text");
        assert!(key(FOR_SECRETS).unwrap().open(b"x", &sealed).is_err());
        fs::remove_file(dir.path().join(SEAL_KEY)).unwrap();
        assert!(matches!(key(FOR_LEDGER).err(), Some(KeyError::Missing { .. })));
        assert!(!dir.path().join(SEAL_KEY).exists());
    }

    #[test]
    fn what_a_lost_key_sealed_is_put_aside_with_a_new_key_and_nothing_else_is_touched() {
        let (dir, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
        let identity = ca.identity(dir.path(), "https://127.0.0.1:1");
        commit(&identity).unwrap();
        assert_eq!(mend(dir.path()).unwrap(), None);
        let key_file = dir.path().join(SEAL_KEY);
        let spoil: [fn(&Path); 3] = [
            |path| fs::remove_file(path).unwrap(),
            |path| fs::write(path, "no key").unwrap(),
            |path| {
                fs::remove_file(path).unwrap();
                MasterKey::create(path).unwrap();
            },
        ];
        for spoil in spoil {
            let sealed = sealing_key(dir.path(), FOR_LEDGER).unwrap().seal(b"x", b"text").unwrap();
            fs::create_dir_all(dir.path().join("ledger")).unwrap();
            fs::write(dir.path().join("ledger/snapshot"), [&[1], sealed.as_slice()].concat()).unwrap();
            assert_eq!(mend(dir.path()).unwrap(), None);
            spoil(&key_file);
            let aside = mend(dir.path()).unwrap().unwrap();
            assert!(aside.join("ledger/snapshot").exists() && !dir.path().join("ledger").exists());
            assert!(sealing_key(dir.path(), FOR_LEDGER).is_ok());
            assert_eq!(load(dir.path()).unwrap().unwrap().node_id(), identity.node_id());
            fs::remove_dir_all(aside).unwrap();
        }
    }
}
