//! Knowing a controller by the hash of its CA alone.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::certificate::sha256;

/// Accepts a server whose chain holds the CA with a given SHA-256, and whose own
/// certificate that very CA signed for the name that was asked for. Nothing else
/// in the chain counts, and no other root.
#[derive(Debug)]
pub struct PinnedCa {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl PinnedCa {
    /// Pins the CA whose DER has this SHA-256.
    #[must_use]
    pub fn new(sha256: [u8; 32]) -> Self {
        Self { sha256, provider: Arc::new(rustls::crypto::ring::default_provider()) }
    }
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = intermediates
            .iter()
            .find(|certificate| sha256(certificate) == self.sha256)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|e| Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::TestCa;

    fn verdict(pin: &TestCa, server: &TestCa, name: &str) -> Result<(), Error> {
        let (chain, _) = server.server_chain("controller.automator67.internal");
        let [leaf, rest @ ..] = chain.as_slice() else { panic!("a chain has a leaf") };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        PinnedCa::new(pin.certificate().sha256())
            .verify_server_cert(leaf, rest, &name, &[], UnixTime::now())
            .map(|_| ())
    }

    #[test]
    fn only_the_pinned_ca_and_the_right_name_are_accepted() {
        let (ca, other) = (TestCa::new(), TestCa::new());
        let name = "controller.automator67.internal";
        assert_eq!(verdict(&ca, &ca, name), Ok(()));
        assert_eq!(
            verdict(&other, &ca, name),
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
        );
        assert!(verdict(&ca, &ca, "localhost").is_err());
    }

    #[test]
    fn a_leaf_beside_the_pinned_ca_but_signed_by_another_is_refused() {
        let (ca, other) = (TestCa::new(), TestCa::new());
        let name = ServerName::try_from("controller.automator67.internal").unwrap();
        let (chain, _) = other.server_chain("controller.automator67.internal");
        let pinned = [CertificateDer::from(ca.certificate().der().to_vec())];
        let verdict = PinnedCa::new(ca.certificate().sha256()).verify_server_cert(
            &chain[0],
            &pinned,
            &name,
            &[],
            UnixTime::now(),
        );
        assert!(verdict.is_err());
    }
}
