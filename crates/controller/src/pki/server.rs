//! Our own side of every handshake: a server certificate that is made in memory
//! and made again long before it ends.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use chrono::Utc;
use domain::Timestamp;
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    Ca, PkiError, SERVER_NAME,
    ca::{self, BACKDATE},
};

/// How long a server certificate lives: below the 398 days that some TLS libraries
/// allow at most.
const LIFETIME: Duration = Duration::from_secs(397 * 86_400);
/// How old one may become before the next handshake makes another.
const RENEW_AFTER: Duration = Duration::from_secs(30 * 86_400);

impl Ca {
    /// Makes a server certificate with a fresh key. The chain is the leaf and the
    /// authority, so that an agent that knows only the fingerprint finds both.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn server_chain(
        &self,
        now: Timestamp,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = ca::params(now, BACKDATE, LIFETIME, SERVER_NAME)?;
        params.not_after = std::time::SystemTime::from(self.end_of(now, LIFETIME)?).into();
        params.subject_alt_names = vec![SanType::DnsName(SERVER_NAME.try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, self.issuer())?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((vec![leaf.der().clone(), self.certificate().clone()], key.into()))
    }
}

/// The current server certificate, for rustls.
pub struct ServerIdentity {
    ca: Arc<Ca>,
    provider: Arc<CryptoProvider>,
    /// Guards the certificate in use and when it was made. Held only to read or to
    /// exchange them, never over making a new one.
    current: RwLock<(Arc<CertifiedKey>, Timestamp)>,
}

impl ServerIdentity {
    /// Makes the first certificate.
    ///
    /// # Errors
    /// As [`Ca::server_chain`].
    pub fn new(ca: Arc<Ca>, provider: Arc<CryptoProvider>, now: Timestamp) -> Result<Self, PkiError> {
        let first = certified(&ca, &provider, now)?;
        Ok(Self { ca, provider, current: RwLock::new((first, now)) })
    }

    /// The certificate to show at `now`, a new one if the last has aged. If none can
    /// be made the old one goes on; it is still valid for most of a year.
    fn at(&self, now: Timestamp) -> Arc<CertifiedKey> {
        let (current, made) = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        if now < made + RENEW_AFTER {
            return current;
        }
        match certified(&self.ca, &self.provider, now) {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = (new.clone(), now);
                new
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "failed to renew the server certificate"
                );
                current
            }
        }
    }
}

fn certified(ca: &Ca, provider: &CryptoProvider, now: Timestamp) -> Result<Arc<CertifiedKey>, PkiError> {
    let (chain, key) = ca.server_chain(now)?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, provider)?))
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(Utc::now()))
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_server_certificate_is_kept_for_a_while_and_then_made_anew() {
        let start = Utc::now();
        let ca = Arc::new(Ca::generate(start).unwrap().0);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = ServerIdentity::new(ca.clone(), provider, start).unwrap();
        let first = identity.at(start);
        assert!(Arc::ptr_eq(&first, &identity.at(start + 29 * DAY)));
        let second = identity.at(start + 31 * DAY);
        assert_ne!(first.cert, second.cert);
        assert!(Arc::ptr_eq(&second, &identity.at(start + 60 * DAY)));
        assert_eq!(second.cert.last(), Some(ca.certificate()));
    }
}
