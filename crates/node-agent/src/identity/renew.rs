//! A new certificate, with a new key, in the place of the one that is about to end.

use domain::Timestamp;

use super::{
    Certificate, CertificateError, Identity, IdentityError, NodeKey, NodeKeyError, enrol::blocking, files,
};
use crate::link::enrolment::{self, CallError};

/// When a certificate is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// From then on: when a third of its life is left.
    pub due: Timestamp,
}

impl Renewal {
    /// Says when.
    #[must_use]
    pub fn of(certificate: &Certificate) -> Self {
        let life = certificate.not_after() - certificate.not_before();
        Self { due: certificate.not_after() - life / 3 }
    }
}

/// Why a certificate was not replaced. The old one is as good as it was.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The node is revoked or removed, or its certificate ended too long ago: the
    /// host has to be enrolled anew.
    #[error("renew the certificate: the controller refused ({message})")]
    Denied {
        /// What the controller said.
        message: String,
    },
    /// The call failed.
    #[error("renew the certificate")]
    Call(#[source] CallError),
    /// What the controller signed cannot be used.
    #[error("use the renewed certificate")]
    Certificate(#[source] CertificateError),
    /// The new key could not be made, or the old one not be used.
    #[error("sign the request for a new certificate")]
    Key(#[from] NodeKeyError),
    /// The new certificate could not be kept.
    #[error("keep the renewed certificate")]
    Files(#[from] IdentityError),
}

/// Gets and keeps a new certificate for `identity`, and answers the identity with
/// it. Works past the old one's end too, as long as the controller allows it:
/// what proves the node is a signature of the old key.
///
/// # Errors
/// See [`RenewError`]. Nothing has changed then.
pub async fn renew(identity: &Identity) -> Result<Identity, RenewError> {
    let key = NodeKey::generate()?;
    let csr_der = key.csr_der()?;
    let signature = identity.key.sign(&csr_der)?;
    let der = enrolment::renew(identity, csr_der, signature).await.map_err(|e| match e {
        CallError::Denied { message } => RenewError::Denied { message },
        other => RenewError::Call(other),
    })?;
    let certificate = Certificate::from_der(der)
        .and_then(|c| c.check(identity.node_id, &key.public_key_der(), &identity.ca).map(|()| c))
        .map_err(RenewError::Certificate)?;
    let renewed = Identity {
        data_dir: identity.data_dir.clone(),
        node_id: identity.node_id,
        fleet_id: identity.fleet_id,
        node_name: identity.node_name.clone(),
        controller: identity.controller.clone(),
        ca: identity.ca.clone(),
        certificate,
        key,
    };
    let write = move || {
        files::write_certificate(&renewed.data_dir, &renewed.certificate, &renewed.key).map(|()| renewed)
    };
    Ok(blocking(write).await?)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::identity::testing::TestCa;

    #[test]
    fn renewal_is_due_when_a_third_of_the_life_is_left() {
        let ca = TestCa::new();
        let key = NodeKey::generate().unwrap();
        let start = Timestamp::from_timestamp(1_800_000_000, 0).unwrap();
        let certificate = ca.certificate_between(&key, ca.node_id(), start, start + TimeDelta::days(90));
        assert_eq!(Renewal::of(&certificate).due, start + TimeDelta::days(60));
    }
}
