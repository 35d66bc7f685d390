//! Certificates of nodes: asked for, issued, renewed and read.

use std::time::{Duration, SystemTime};

use domain::{Timestamp, id::NodeId};
use rcgen::{
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SubjectPublicKeyInfo,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::GeneralName,
    oid_registry::OID_SIG_ECDSA_WITH_SHA256,
    prelude::{FromDer, X509Certificate},
};

use super::{Ca, PkiError, ca, fingerprint_sha256};

/// What comes before the node id in a certificate's URI.
const NODE_URI: &str = "automator67://node/";
/// How far an agent's clock may be behind ours when it gets its certificate.
const BACKDATE: Duration = Duration::from_secs(300);
/// Largest request that is looked at; ours have some 250 bytes.
const CSR_MAX_BYTES: usize = 16 * 1024;

/// Why a certificate request is refused. The caller is at fault in all of them but
/// the last.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// Not PKCS #10, or with something behind it.
    #[error("read the certificate request")]
    Unreadable,
    /// The asker does not have the key.
    #[error("verify the certificate request: it is not signed by its own key")]
    NotItsKey,
    /// Another kind of key.
    #[error("use the key of the certificate request: it must be ECDSA P-256, signed with SHA-256")]
    WrongKind,
    /// We could not sign.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// Why a renewal is refused. In all of them the agent has to enrol again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewalError {
    /// The old certificate is not one.
    #[error("read the old certificate")]
    Unreadable,
    /// The old certificate was not issued by this fleet to a node.
    #[error("accept the old certificate: this fleet did not issue it to a node")]
    NotOurs,
    /// It ended too long ago.
    #[error("accept the old certificate: it ended at {0}, too long ago")]
    Ended(Timestamp),
    /// The asker does not have the old key.
    #[error("verify the renewal: it is not signed by the old certificate's key")]
    NotItsKey,
}

/// A certificate that was just issued to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The certificate.
    pub der: Vec<u8>,
    /// When it ends.
    pub not_after: Timestamp,
    /// SHA-256 of `der`.
    pub fingerprint: [u8; 32],
    /// The node's public key, as [`csr_public_key`] gives it.
    pub public_key: Vec<u8>,
}

/// What an accepted renewal tells about who asks. Whether that node may still come
/// in is for the store to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The node that the old certificate names.
    pub node: NodeId,
    /// SHA-256 of the old certificate as it was sent. The few bytes around what we
    /// signed can be encoded in other ways, so an unknown one is not yet a forgery.
    pub fingerprint: [u8; 32],
    /// The old public key, as [`csr_public_key`] gives it.
    pub public_key: Vec<u8>,
}

/// Checks a certificate request and gives its public key: the 65 bytes of the
/// uncompressed point. By it an agent that asks twice is known again.
///
/// # Errors
/// See [`CsrError`].
pub fn csr_public_key(csr_der: &[u8]) -> Result<Vec<u8>, CsrError> {
    Ok(checked_key(csr_der)?.der_bytes().to_vec())
}

/// The key of a request that is signed by that key. Names, extensions and
/// attributes in it are not looked at.
fn checked_key(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, CsrError> {
    if csr_der.len() > CSR_MAX_BYTES {
        return Err(CsrError::Unreadable);
    }
    let (rest, csr) = X509CertificationRequest::from_der(csr_der).map_err(|_| CsrError::Unreadable)?;
    if !rest.is_empty() {
        return Err(CsrError::Unreadable);
    }
    let spki = SubjectPublicKeyInfo::from_der(csr.certification_request_info.subject_pki.raw)
        .map_err(|_| CsrError::WrongKind)?;
    if spki.algorithm() != &PKCS_ECDSA_P256_SHA256
        || csr.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256
    {
        return Err(CsrError::WrongKind);
    }
    csr.verify_signature().map_err(|_| CsrError::NotItsKey)?;
    Ok(spki)
}

impl Ca {
    /// Issues a certificate for `node` to whoever holds the key of the request.
    ///
    /// Pure but for the serial number: asked twice it issues two certificates, both
    /// valid. The caller has decided before that this key may be this node.
    ///
    /// # Errors
    /// See [`CsrError`].
    pub fn sign_agent(
        &self,
        csr_der: &[u8],
        node: NodeId,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<IssuedCertificate, CsrError> {
        let key = checked_key(csr_der)?;
        let not_after = self.end_of(now, lifetime)?;
        let mut params = ca::params(now, BACKDATE, lifetime, &node.to_string())?;
        params.not_after = SystemTime::from(not_after).into();
        let uri = format!("{NODE_URI}{node}").try_into().map_err(PkiError::from)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, self.issuer()).map_err(PkiError::from)?;
        Ok(IssuedCertificate {
            fingerprint: fingerprint_sha256(certificate.der()),
            der: certificate.der().to_vec(),
            not_after,
            public_key: key.der_bytes().to_vec(),
        })
    }

    /// Checks that a renewal comes from the node that the old certificate names:
    /// we issued it, it ended no longer than `grace` ago, and `signature` (ECDSA
    /// P-256 with SHA-256, ASN.1) over the bytes of the new request is by its key.
    ///
    /// The request itself is checked by [`Ca::sign_agent`].
    ///
    /// # Errors
    /// See [`RenewalError`].
    pub fn verify_renewal(
        &self,
        old_cert_der: &[u8],
        csr_der: &[u8],
        signature: &[u8],
        now: Timestamp,
        grace: Duration,
    ) -> Result<Renewal, RenewalError> {
        let old = parse(old_cert_der).ok_or(RenewalError::Unreadable)?;
        let ours = parse(self.certificate()).ok_or(RenewalError::NotOurs)?;
        old.verify_signature(Some(ours.public_key())).map_err(|_| RenewalError::NotOurs)?;
        let node = node_of(&old).ok_or(RenewalError::NotOurs)?;
        let ended = Timestamp::from_timestamp(old.validity().not_after.timestamp(), 0)
            .ok_or(RenewalError::Unreadable)?;
        if now.signed_duration_since(ended).to_std().is_ok_and(|since| since > grace) {
            return Err(RenewalError::Ended(ended));
        }
        let public_key = old.public_key().subject_public_key.data.to_vec();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &public_key)
            .verify(csr_der, signature)
            .map_err(|_| RenewalError::NotItsKey)?;
        Ok(Renewal { node, fingerprint: fingerprint_sha256(old_cert_der), public_key })
    }
}

/// The node that a client certificate names. Only for one that TLS has verified:
/// this reads it and checks no signature.
#[must_use]
pub fn peer_node_id(cert_der: &[u8]) -> Option<NodeId> {
    node_of(&parse(cert_der)?)
}

fn parse(cert_der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = X509Certificate::from_der(cert_der).ok()?;
    rest.is_empty().then_some(certificate)
}

/// The node id of a certificate that is for a node and nothing else: one name, in
/// the one way we write it, for authenticating clients.
fn node_of(certificate: &X509Certificate<'_>) -> Option<NodeId> {
    let usage = certificate.extended_key_usage().ok()??;
    let names = certificate.subject_alternative_name().ok()??;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return None };
    let node: NodeId = uri.strip_prefix(NODE_URI)?.parse().ok()?;
    let canonical = *uri == format!("{NODE_URI}{node}");
    (canonical && usage.value.client_auth && !certificate.is_ca()).then_some(node)
}

#[cfg(test)]
mod tests;
