//! Who this node is: its key, its certificate, and the CA that it trusts.
//!
//! A host becomes a node by [`enrol`]: an operator's token carries the SHA-256 of
//! the fleet's CA, so the agent knows its controller before it says anything; the
//! controller signs a certificate for a key that the agent made and never gives
//! away. From then on that certificate is the node. [`renew`] replaces it, with a
//! new key each time, at a third of its life left.
//!
//! In the data directory:
//!
//! | file | what |
//! |---|---|
//! | `node.json` | ids, name, controller; written last, so that its presence means: enrolled |
//! | `node.pem` | certificate and private key, in one file so that no crash pairs one with the other's successor |
//! | `ca.crt` | the only CA that is trusted |
//! | `seal.key` | made with the identity; what the ledger and kept secrets are sealed with is derived from it, and it never leaves the node |
//! | `enrolling.key` | the key of an enrolment that has not ended, so that trying again is the same enrolment |
//!
//! gRPC is no business of this room: the calls are made in [`crate::link`].

mod certificate;
mod enrol;
mod files;
mod key;
mod renew;
mod tls;
mod token;

#[cfg(test)]
pub(crate) mod testing;

use std::path::{Path, PathBuf};

use daemon::seal::{KeyError, SealingKey};
use domain::{
    Timestamp,
    id::{FleetId, NodeId},
};
use zeroize::Zeroizing;

pub use certificate::{Certificate, CertificateError};
pub use enrol::{EnrolError, EnrolOptions, Enrolled, enrol};
pub use files::IdentityError;
pub use key::{NodeKey, NodeKeyError};
pub use renew::{RenewError, Renewal, renew};
pub use tls::PinnedCa;
pub use token::{EnrolmentToken, InvalidToken};

/// An enrolled node, as it is kept in its data directory.
pub struct Identity {
    data_dir: PathBuf,
    node_id: NodeId,
    fleet_id: FleetId,
    node_name: String,
    controller: String,
    ca: Certificate,
    certificate: Certificate,
    key: NodeKey,
}

impl Identity {
    /// Reads the identity in `data_dir`; `None` where no enrolment was completed
    /// there. Blocks.
    ///
    /// # Errors
    /// When files are missing or damaged, or do not belong together.
    pub fn load(data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        files::load(data_dir)
    }

    /// The node's id, as its certificate says it.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The fleet that the node belongs to.
    #[must_use]
    pub fn fleet_id(&self) -> FleetId {
        self.fleet_id
    }

    /// What the controller called the node when it was enrolled.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// Where the controller is: `https://host:port`.
    #[must_use]
    pub fn controller(&self) -> &str {
        &self.controller
    }

    /// Where all this is kept.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The only CA that is trusted.
    #[must_use]
    pub fn ca(&self) -> &Certificate {
        &self.ca
    }

    /// The node's certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whether the certificate has ended, so that no session can be opened with it.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.certificate.not_after()
    }

    /// The node's private key, in PEM.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.to_pem()
    }

    /// The key that the ledger is sealed with, and what else tells of containers. Blocks.
    ///
    /// # Errors
    /// When its file is lost or cannot be read, or others may read it.
    pub fn ledger_key(&self) -> Result<SealingKey, KeyError> {
        files::sealing_key(&self.data_dir, files::FOR_LEDGER)
    }

    /// Where the key is that the others are derived from.
    #[must_use]
    pub fn seal_key_path(&self) -> PathBuf {
        self.data_dir.join(files::SEAL_KEY)
    }

    /// The key that values of secrets are sealed with. Blocks.
    ///
    /// # Errors
    /// As [`Identity::ledger_key`].
    pub fn secrets_key(&self) -> Result<SealingKey, KeyError> {
        files::sealing_key(&self.data_dir, files::FOR_SECRETS)
    }
}
