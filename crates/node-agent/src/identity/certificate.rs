//! An X.509 certificate, as far as an agent looks into it.

use domain::{Timestamp, id::NodeId};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What comes before the node's id in its certificate.
const NODE_URI: &str = "automator67://node/";

/// A certificate that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    public_key_der: Vec<u8>,
    node_id: Option<NodeId>,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be read.
    #[error("read a certificate")]
    Malformed,
    /// It does not name the node that it is for.
    #[error("accept a certificate that names another node, or none")]
    OtherNode,
    /// It is for another key.
    #[error("accept a certificate for another key")]
    OtherKey,
    /// The fleet's CA did not sign it.
    #[error("accept a certificate that the fleet's CA did not sign")]
    OtherIssuer,
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When it is not one, or bytes follow it.
    pub fn from_der(der: Vec<u8>) -> Result<Self, CertificateError> {
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|_| CertificateError::Malformed)?;
        let moment = |t: x509_parser::time::ASN1Time| {
            Timestamp::from_timestamp(t.timestamp(), 0).ok_or(CertificateError::Malformed)
        };
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let (not_before, not_after) =
            (moment(parsed.validity().not_before)?, moment(parsed.validity().not_after)?);
        let public_key_der = parsed.public_key().raw.to_vec();
        let node_id = node_id(&parsed);
        Ok(Self { der, not_before, not_after, public_key_der, node_id })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| CertificateError::Malformed)?;
        Self::from_der(der.to_vec())
    }

    /// Its bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its bytes as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    /// SHA-256 of its bytes: how a token names the fleet's CA.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.der)
    }

    /// When it begins to be good.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// When it ends.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The node that it names; `None` in a CA.
    #[must_use]
    pub fn node_id(&self) -> Option<NodeId> {
        self.node_id
    }

    /// The bare public key, as signatures are checked with it.
    #[cfg(test)]
    pub(crate) fn public_key_bits(&self) -> Vec<u8> {
        let (_, parsed) = X509Certificate::from_der(&self.der).unwrap();
        parsed.public_key().subject_public_key.data.to_vec()
    }

    /// Checks that it is what this node can use: for this node, for its key, by
    /// its CA. Whether it is still good is another question.
    ///
    /// # Errors
    /// With the first thing that does not fit.
    pub fn check(&self, node: NodeId, public_key_der: &[u8], ca: &Self) -> Result<(), CertificateError> {
        if self.public_key_der != public_key_der {
            return Err(CertificateError::OtherKey);
        }
        if self.node_id != Some(node) {
            return Err(CertificateError::OtherNode);
        }
        let parse = |der| X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed);
        let ((_, own), (_, issuer)) = (parse(&self.der)?, parse(&ca.der)?);
        own.verify_signature(Some(issuer.public_key())).map_err(|_| CertificateError::OtherIssuer)
    }
}

fn node_id(certificate: &X509Certificate<'_>) -> Option<NodeId> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(NODE_URI)?.parse().ok(),
        _ => None,
    })
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    hash.copy_from_slice(digest.as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{NodeKey, testing::TestCa};

    #[test]
    fn a_certificate_for_another_node_key_or_ca_is_refused() {
        let (ca, other) = (TestCa::new(), TestCa::new());
        let (key, other_key) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        let certificate = ca.node_certificate(&key, ca.node_id());
        let check = |node, key: &NodeKey, ca: &TestCa| {
            certificate.check(node, &key.public_key_der(), &ca.certificate())
        };
        assert_eq!(check(ca.node_id(), &key, &ca), Ok(()));
        assert_eq!(check(other.node_id(), &key, &ca), Err(CertificateError::OtherNode));
        assert_eq!(check(ca.node_id(), &other_key, &ca), Err(CertificateError::OtherKey));
        assert_eq!(check(ca.node_id(), &key, &other), Err(CertificateError::OtherIssuer));
    }

    #[test]
    fn pem_reads_back() {
        let certificate = TestCa::new().certificate();
        assert_eq!(Certificate::from_pem(&certificate.to_pem()), Ok(certificate));
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        let mut long = TestCa::new().certificate().der().to_vec();
        long.push(0);
        for der in [vec![], vec![0x30, 0x03], long] {
            assert_eq!(Certificate::from_der(der), Err(CertificateError::Malformed));
        }
    }
}
