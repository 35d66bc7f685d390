//! The authority itself: its key, its certificate, and what both kinds of
//! certificates have in common.

use std::time::{Duration, SystemTime};

use chrono::DurationRound;
use domain::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::{Zeroize, Zeroizing};

use super::fingerprint_sha256;

const DAY: Duration = Duration::from_secs(86_400);
/// How long the CA is valid. Enrolled agents pin it, so it outlives the fleet.
const CA_LIFETIME: Duration = Duration::from_secs(20 * 365 * 86_400);
/// How far the clocks of agents may be behind ours.
pub(super) const BACKDATE: Duration = DAY;

/// Why the authority could not be made, loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The operating system gave no random bytes.
    #[error("get random bytes")]
    Random,
    /// The moment cannot be written into a certificate.
    #[error("write {0} into a certificate")]
    Time(Timestamp),
    /// The stored certificate is not one of a CA.
    #[error("load the fleet's CA: {0}")]
    Certificate(&'static str),
    /// The stored key is not the certificate's.
    #[error("load the fleet's CA: the key does not belong to the certificate")]
    ForeignKey,
    /// The certificate library refused.
    #[error("make a certificate")]
    Certify(#[from] rcgen::Error),
    /// The TLS library refused.
    #[error("prepare TLS")]
    Tls(#[from] rustls::Error),
    /// The certificate cannot be a root of trust.
    #[error("prepare the verification of client certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What to keep of a new CA. Without the key no agent can ever be enrolled again;
/// whoever has it can enrol one.
pub struct CaMaterial {
    /// The certificate. Not secret.
    pub cert_der: Vec<u8>,
    /// The private key, PKCS #8.
    pub key_der: Zeroizing<Vec<u8>>,
}

/// A fleet's certificate authority, ready to sign.
pub struct Ca {
    der: CertificateDer<'static>,
    not_after: Timestamp,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a new authority, for a new fleet.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate(now: Timestamp) -> Result<(Self, CaMaterial), PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        // A name of its own: two authorities of one name would be told apart only by
        // a failing signature, which reads like an attack.
        let [a, b, c, d, ..] = fingerprint_sha256(key.public_key_raw());
        let name = format!("Automator67 fleet CA {a:02x}{b:02x}{c:02x}{d:02x}");
        let mut params = params(now, BACKDATE, CA_LIFETIME, &name)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        let material = CaMaterial {
            cert_der: certificate.der().to_vec(),
            key_der: Zeroizing::new(key.serialized_der().to_vec()),
        };
        Ok((Self::from_parts(&material.cert_der, &material.key_der)?, material))
    }

    /// Takes up an authority that was kept.
    ///
    /// # Errors
    /// When the certificate is not that of a CA, or the key is another's.
    pub fn from_parts(cert_der: &[u8], key_der: &[u8]) -> Result<Self, PkiError> {
        let (rest, certificate) = X509Certificate::from_der(cert_der)
            .map_err(|_| PkiError::Certificate("the certificate cannot be read"))?;
        if !rest.is_empty() {
            return Err(PkiError::Certificate("there is more behind the certificate"));
        }
        if !certificate.is_ca() {
            return Err(PkiError::Certificate("the certificate is not a CA's"));
        }
        let not_after = Timestamp::from_timestamp(certificate.validity().not_after.timestamp(), 0)
            .ok_or(PkiError::Certificate("the certificate's end cannot be read"))?;
        let pkcs8 = PrivatePkcs8KeyDer::from(key_der);
        let mut key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256)?;
        if key.public_key_raw() != &*certificate.public_key().subject_public_key.data {
            key.zeroize();
            return Err(PkiError::ForeignKey);
        }
        let der = CertificateDer::from(cert_der.to_vec());
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { der, not_after, issuer })
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// What an enrolment token carries, so that an agent knows us before it says
    /// anything.
    #[must_use]
    pub fn fingerprint_sha256(&self) -> [u8; 32] {
        fingerprint_sha256(&self.der)
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The end of a certificate that should live for `lifetime`: never after the
    /// authority's own.
    pub(super) fn end_of(&self, now: Timestamp, lifetime: Duration) -> Result<Timestamp, PkiError> {
        Ok(end(now, lifetime)?.min(self.not_after))
    }
}

/// A moment `after` now, in whole seconds, as certificates have them.
fn end(now: Timestamp, after: Duration) -> Result<Timestamp, PkiError> {
    let whole = now.duration_trunc(chrono::TimeDelta::seconds(1)).map_err(|_| PkiError::Time(now))?;
    let after = chrono::TimeDelta::from_std(after).map_err(|_| PkiError::Time(now))?;
    whole.checked_add_signed(after).ok_or(PkiError::Time(now))
}

/// What all our certificates share. The serial number is random: the library's own
/// would be the same again for the same key.
pub(super) fn params(
    now: Timestamp,
    backdate: Duration,
    lifetime: Duration,
    common_name: &str,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.not_before = SystemTime::from(now - backdate).into();
    params.not_after = SystemTime::from(end(now, lifetime)?).into();
    let mut serial = [0_u8; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| PkiError::Random)?;
    let [first, ..] = &mut serial;
    // Positive, and of full length whatever the other bits are.
    *first = (*first & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00.75Z".parse().unwrap()
    }

    #[test]
    fn an_authority_that_was_kept_is_the_same_again() {
        let (ca, material) = Ca::generate(now()).unwrap();
        let again = Ca::from_parts(&material.cert_der, &material.key_der).unwrap();
        assert_eq!(ca.fingerprint_sha256(), again.fingerprint_sha256());
        assert_eq!(ca.fingerprint_sha256(), fingerprint_sha256(&material.cert_der));
        assert_eq!(again.certificate().as_ref(), &material.cert_der[..]);
    }

    #[test]
    fn two_authorities_are_never_the_same() {
        let (a, _) = Ca::generate(now()).unwrap();
        let (b, _) = Ca::generate(now()).unwrap();
        assert_ne!(a.fingerprint_sha256(), b.fingerprint_sha256());
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let (_, a) = Ca::generate(now()).unwrap();
        let (_, b) = Ca::generate(now()).unwrap();
        assert!(matches!(Ca::from_parts(&a.cert_der, &b.key_der), Err(PkiError::ForeignKey)));
    }

    #[test]
    fn what_is_not_an_authority_is_refused() {
        let (ca, material) = Ca::generate(now()).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let leaf = params(now(), BACKDATE, DAY, "leaf").unwrap().signed_by(&key, ca.issuer()).unwrap();
        for (cert, key) in [
            (leaf.der().to_vec(), key.serialized_der().to_vec()),
            (Vec::new(), material.key_der.to_vec()),
            (b"garbage".to_vec(), material.key_der.to_vec()),
            ([material.cert_der.clone(), vec![0]].concat(), material.key_der.to_vec()),
            (material.cert_der.clone(), b"garbage".to_vec()),
        ] {
            assert!(Ca::from_parts(&cert, &key).is_err());
        }
    }

    #[test]
    fn no_certificate_outlives_the_authority() {
        let (ca, _) = Ca::generate(now()).unwrap();
        let late = now() + CA_LIFETIME - DAY;
        assert_eq!(ca.end_of(late, 30 * DAY).unwrap(), ca.not_after);
        assert_eq!(ca.end_of(now(), DAY).unwrap(), "2026-03-02T12:00:00Z".parse::<Timestamp>().unwrap());
        assert!(ca.end_of(now(), Duration::MAX).is_err());
    }
}
