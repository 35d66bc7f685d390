//! How hosts become nodes: tokens, certificates, renewal.

use std::time::Duration;

use domain::{
    Timestamp,
    id::NodeId,
    name::{Labels, Name, labels_fault},
    node::NodeFacts,
};
use store::{audit::Actor, node::NodeEnrol};
use uuid::Uuid;

use super::Services;
use crate::{
    auth::token,
    error::{Error, ErrorKind},
    pki::{CsrError, IssuedCertificate, csr_public_key},
};

/// For how long after its end a certificate can still be renewed.
pub const RENEWAL_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A new enrolment token. Its text is shown once.
pub struct EnrolmentToken {
    /// Names it in lists.
    pub id: Uuid,
    /// What an operator gives to `automator67-agent enrol`.
    pub text: String,
    /// When it stops being good.
    pub expires_at: Timestamp,
}

/// A host's wish to become a node, as it came over the wire.
pub struct EnrolmentRequest {
    /// The secret part of the token.
    pub token: String,
    /// PKCS #10.
    pub csr_der: Vec<u8>,
    /// What the host says of itself.
    pub facts: NodeFacts,
    /// What it would like to be called; empty: its host name.
    pub name: String,
    /// From where it was sent.
    pub address: Option<String>,
}

/// A node, and its certificate.
pub struct Enrolment {
    /// Its id.
    pub node_id: NodeId,
    /// Its name.
    pub name: String,
    /// Its certificate.
    pub certificate_der: Vec<u8>,
    /// When that ends.
    pub not_after: Timestamp,
}

impl Services {
    /// Makes an enrolment token.
    ///
    /// # Errors
    /// When labels, uses or lifetime are out of range.
    pub async fn enrolment_token_create(
        &self,
        labels: Labels,
        uses: u32,
        lifetime: Duration,
        actor: &Actor,
    ) -> Result<EnrolmentToken, Error> {
        if let Some(message) = labels_fault(&labels) {
            return Err(Error::invalid_field("labels", message));
        }
        if !(1..=1000).contains(&uses) {
            return Err(Error::invalid_field("uses", "must be 1 to 1000"));
        }
        if !(60..=30 * 24 * 3600).contains(&lifetime.as_secs()) {
            return Err(Error::invalid_field("expires_in_seconds", "must be 60 to 2592000 (30 days)"));
        }
        let secret = token::Secret::generate(token::Kind::Enrolment).map_err(Error::internal)?;
        let id = Uuid::now_v7();
        let expires_at =
            self.store.enrolment_token_insert(id, &secret.sha256(), &labels, (uses, lifetime), actor).await?;
        let text = token::enrolment_text(&secret, &self.ca.fingerprint_sha256());
        Ok(EnrolmentToken { id, text, expires_at })
    }

    /// Makes a node of a host that has a token.
    ///
    /// # Errors
    /// When the CSR is not one, or the token is not good.
    pub async fn node_enrol(&self, request: EnrolmentRequest) -> Result<Enrolment, Error> {
        let public_key = csr_public_key(&request.csr_der).map_err(bad_csr)?;
        let wish = if request.name.is_empty() { &request.facts.hostname } else { &request.name };
        let name = Name::nearest(wish);
        let enrol = NodeEnrol {
            id: NodeId::from_uuid(Uuid::now_v7()),
            token_sha256: &token::sha256(&request.token),
            key_sha256: &token::sha256_of(&public_key),
            name: &name,
            facts: &request.facts,
            address: request.address.as_deref(),
        };
        let enrolled = self.store.node_enrol(&enrol).await?;
        let issued = self.certificate(enrolled.id, &request.csr_der)?;
        self.store.node_certificate_insert(enrolled.id, &issued.fingerprint, issued.not_after).await?;
        tracing::info!(node.id = %enrolled.id, node.name = enrolled.name, "node enrolled");
        Ok(Enrolment {
            node_id: enrolled.id,
            name: enrolled.name,
            certificate_der: issued.der,
            not_after: issued.not_after,
        })
    }

    /// Issues a further certificate to a node that proves its old key.
    ///
    /// # Errors
    /// When the old certificate is not ours, revoked, or ended too long ago, or the
    /// proof is not one.
    pub async fn node_renew(
        &self,
        old_der: &[u8],
        csr_der: &[u8],
        signature: &[u8],
        address: Option<&str>,
    ) -> Result<Enrolment, Error> {
        let refused = || {
            Error::new(
                ErrorKind::PermissionDenied,
                "renewal_refused",
                "this certificate cannot be renewed; enrol the node again",
            )
        };
        let now = chrono::Utc::now();
        let renewal = self
            .ca
            .verify_renewal(old_der, csr_der, signature, now, RENEWAL_GRACE)
            .map_err(|e| refused().because(e))?;
        if !self.store.node_certificate_is_good(renewal.node, &renewal.fingerprint).await? {
            return Err(refused());
        }
        let issued = self.certificate(renewal.node, csr_der)?;
        let new = (issued.fingerprint.as_slice(), issued.not_after);
        self.store.node_certificate_renew(renewal.node, new, address).await?;
        Ok(Enrolment {
            node_id: renewal.node,
            name: String::new(),
            certificate_der: issued.der,
            not_after: issued.not_after,
        })
    }

    fn certificate(&self, node: NodeId, csr_der: &[u8]) -> Result<IssuedCertificate, Error> {
        let lifetime = self.settings.certificate_lifetime;
        self.ca.sign_agent(csr_der, node, lifetime, chrono::Utc::now()).map_err(bad_csr)
    }
}

fn bad_csr(error: CsrError) -> Error {
    match error {
        CsrError::Pki(_) => Error::internal(error),
        refused => Error::new(ErrorKind::InvalidArgument, "bad_csr", refused.to_string()),
    }
}
