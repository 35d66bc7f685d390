//! A node's private key. It never leaves the host.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _};
use zeroize::Zeroizing;

/// A P-256 key. No `Debug`, no `Display`, no `Serialize`.
pub struct NodeKey(KeyPair);

/// Why a key could not be made, read or used. Tells nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeKeyError {
    /// The operating system gave no random bytes.
    #[error("make a key")]
    Make,
    /// The text is not a P-256 key in PKCS #8 PEM.
    #[error("read a key: it must be a P-256 key in PKCS #8 PEM")]
    Malformed,
    /// Signing failed.
    #[error("sign with the node's key")]
    Sign,
}

impl NodeKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// Where there is no randomness; in practice it does not come.
    pub fn generate() -> Result<Self, NodeKeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(|_| NodeKeyError::Make)
    }

    /// Reads a key that [`NodeKey::to_pem`] wrote; other parts of the text, such as
    /// a certificate, are passed over.
    ///
    /// # Errors
    /// When there is none, or one of another kind.
    pub fn from_pem(text: &str) -> Result<Self, NodeKeyError> {
        use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| NodeKeyError::Malformed)?;
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|_| NodeKeyError::Malformed)
    }

    /// Writes the key as PKCS #8 PEM.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// A request for a certificate, in DER, which proves possession of the key and
    /// asks for nothing else: names and extensions are the controller's to choose.
    ///
    /// # Errors
    /// When signing fails.
    pub fn csr_der(&self) -> Result<Vec<u8>, NodeKeyError> {
        let params = CertificateParams::default();
        params.serialize_request(&self.0).map(|csr| csr.der().to_vec()).map_err(|_| NodeKeyError::Sign)
    }

    /// ECDSA with SHA-256, ASN.1, over `message`.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NodeKeyError> {
        self.0.sign(message).map_err(|_| NodeKeyError::Sign)
    }

    /// The public half, as SubjectPublicKeyInfo in DER: what a certificate holds.
    #[must_use]
    pub fn public_key_der(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_pem_even_behind_a_certificate() {
        let key = NodeKey::generate().unwrap();
        let text = format!(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{}",
            key.to_pem().as_str()
        );
        assert_eq!(NodeKey::from_pem(&text).unwrap().public_key_der(), key.public_key_der());
    }

    #[test]
    fn anything_but_a_p256_key_is_refused() {
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        for text in ["", "no key", &other] {
            assert_eq!(NodeKey::from_pem(text).err(), Some(NodeKeyError::Malformed));
        }
    }
}
