//! What may be shown of a certificate in the vault, and whether its key is its own.

use chrono::{DateTime, Utc};
use domain::{Timestamp, credential::TlsValue, spec::FieldFault};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// Names of one certificate that are shown at most.
const NAMES_MAX: usize = 100;

/// What may be shown of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateShown {
    /// Whose it is.
    pub subject: String,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// Who has signed it.
    pub issuer: String,
    /// From when it is good.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

/// Reads a certificate, and makes sure that its key is its own.
///
/// # Errors
/// With the fields that are not as they must be; nothing of the key is said.
pub fn certificate_shown(pair: &TlsValue) -> Result<CertificateShown, Vec<FieldFault>> {
    let fault =
        |field: &str, message: &str| FieldFault { field: field.to_owned(), message: message.to_owned() };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pair.certificate.reveal()).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let shown = chain.as_ref().and_then(|chain| chain.as_slice().iter().next()).and_then(read);
    let key = PrivateKeyDer::from_pem_slice(pair.private_key.reveal()).ok();
    let signing = key.and_then(|key| any_supported_type(&key).ok());
    let mut faults = Vec::new();
    if shown.is_none() {
        faults.push(fault(
            "tls.certificate",
            "must be one or more certificates as PEM, the server's own first",
        ));
    }
    if signing.is_none() {
        faults.push(fault(
            "tls.private_key",
            "must be a private key as PEM: RSA, ECDSA or Ed25519, not encrypted",
        ));
    }
    let (Some(chain), Some(shown), Some(signing)) = (chain, shown, signing) else { return Err(faults) };
    match CertifiedKey::new(chain, signing).keys_match() {
        Ok(()) => Ok(shown),
        Err(_) => Err(vec![fault("tls.private_key", "must be the key of the certificate")]),
    }
}

fn read(der: &CertificateDer<'_>) -> Option<CertificateShown> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let moment = |seconds: i64| DateTime::<Utc>::from_timestamp(seconds, 0);
    let alternative = certificate.subject_alternative_name().ok()?;
    let names = alternative.map(|extension| &extension.value.general_names).into_iter().flatten();
    Some(CertificateShown {
        subject: certificate.subject().to_string(),
        names: names.filter_map(name).take(NAMES_MAX).collect(),
        issuer: certificate.issuer().to_string(),
        not_before: moment(certificate.validity().not_before.timestamp())?,
        not_after: moment(certificate.validity().not_after.timestamp())?,
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use domain::secret::Secret;

    use super::*;

    fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn shown(certificate: &str, key: &str) -> Result<CertificateShown, Vec<String>> {
        let value = TlsValue {
            certificate: Secret::copy_of(certificate.as_bytes()),
            private_key: Secret::copy_of(key.as_bytes()),
        };
        certificate_shown(&value).map_err(|faults| faults.into_iter().map(|fault| fault.field).collect())
    }

    #[test]
    fn names_and_expiry_of_a_certificate_are_shown() {
        let (certificate, key) = pair(&["a.example", "10.0.0.1", "::1"]);
        let shown = shown(&certificate, &key).unwrap();
        assert_eq!(shown.names, ["a.example", "10.0.0.1", "::1"]);
        assert!(shown.not_after > shown.not_before);
    }

    #[test]
    fn a_key_of_another_certificate_and_what_is_no_pem_are_refused() {
        let ((certificate, key), (_, other)) = (pair(&["a.example"]), pair(&["a.example"]));
        assert_eq!(shown(&certificate, &other).unwrap_err(), ["tls.private_key"]);
        assert_eq!(shown("hunter2", "hunter2").unwrap_err(), ["tls.certificate", "tls.private_key"]);
        assert_eq!(shown(&key, &certificate).unwrap_err(), ["tls.certificate", "tls.private_key"]);
    }
}
