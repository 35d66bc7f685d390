//! The cryptography behind access tokens: Ed25519 by ring, and nothing else.
//!
//! The token library takes its algorithms from a provider that is installed once
//! for the process. Ours knows one algorithm, so a token that names another cannot
//! be verified even if every other check failed.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{Error as SignatureError, Signer, Verifier},
};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // For keys in JWK form, which we neither read nor write.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Installs the provider. The library panics at the first use without one.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if PROVIDER.install_default().is_err() {
            tracing::error!("another provider of token cryptography is installed");
        }
    });
}

struct Ed25519Signer(Ed25519KeyPair);

impl Signer<Vec<u8>> for Ed25519Signer {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignatureError> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for Ed25519Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

struct Ed25519Verifier(Vec<u8>);

impl Verifier<Vec<u8>> for Ed25519Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), SignatureError> {
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        key.verify(message, signature).map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Ed25519Verifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if *algorithm != Algorithm::EdDSA || key.family() != AlgorithmFamily::Ed {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let pair = Ed25519KeyPair::from_pkcs8(key.as_bytes()).map_err(|_| ErrorKind::InvalidEddsaKey)?;
    Ok(Box::new(Ed25519Signer(pair)))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if *algorithm != Algorithm::EdDSA || key.family() != AlgorithmFamily::Ed {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(Ed25519Verifier(key.try_get_as_bytes()?.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_algorithm_signs_or_verifies() {
        for algorithm in [Algorithm::HS256, Algorithm::ES256, Algorithm::RS256, Algorithm::PS256] {
            assert!(signer(&algorithm, &EncodingKey::from_secret(b"key")).is_err());
            assert!(signer(&algorithm, &EncodingKey::from_ed_der(b"key")).is_err());
            assert!(verifier(&algorithm, &DecodingKey::from_secret(b"key")).is_err());
            assert!(verifier(&algorithm, &DecodingKey::from_ed_der(b"key")).is_err());
        }
        assert!(verifier(&Algorithm::EdDSA, &DecodingKey::from_secret(b"key")).is_err());
        assert!(signer(&Algorithm::EdDSA, &EncodingKey::from_ed_der(b"key")).is_err());
    }

    #[test]
    fn installing_twice_does_no_harm() {
        install();
        install();
    }
}
