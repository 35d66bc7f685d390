//! A fleet's CA for tests.

use std::path::Path;

use chrono::{TimeDelta, Utc};
use domain::{
    Timestamp,
    id::{FleetId, NodeId},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use uuid::Uuid;

use super::{Certificate, Identity, NodeKey};

/// A CA, and the one node that its fleet has.
pub(crate) struct TestCa {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    node_id: NodeId,
}

fn moment(at: Timestamp) -> std::time::SystemTime {
    at.into()
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test fleet");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let der = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::from_ca_cert_der(&der, key).unwrap();
        Self { der, issuer, node_id: NodeId::from_uuid(Uuid::now_v7()) }
    }

    pub(crate) fn node_id(&self) -> NodeId {
        self.node_id
    }

    pub(crate) fn certificate(&self) -> Certificate {
        Certificate::from_der(self.der.to_vec()).unwrap()
    }

    /// A token for this fleet.
    pub(crate) fn token(&self, secret: &str) -> String {
        format!("a67e_{secret}.{}", hex(&self.certificate().sha256()))
    }

    /// What a server with this CA shows: its own certificate, then the CA.
    pub(crate) fn server_chain(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![leaf, self.der.clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// Signs a request as the controller does: only its public key counts.
    pub(crate) fn sign_csr(&self, csr: &[u8], node: NodeId, from: Timestamp, to: Timestamp) -> Vec<u8> {
        let csr = CertificateSigningRequestDer::from(csr);
        let mut request = CertificateSigningRequestParams::from_der(&csr).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            vec![SanType::URI(format!("automator67://node/{node}").try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = moment(from).into();
        params.not_after = moment(to).into();
        request.params = params;
        request.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    pub(crate) fn certificate_between(
        &self,
        key: &NodeKey,
        node: NodeId,
        from: Timestamp,
        to: Timestamp,
    ) -> Certificate {
        Certificate::from_der(self.sign_csr(&key.csr_der().unwrap(), node, from, to)).unwrap()
    }

    pub(crate) fn node_certificate(&self, key: &NodeKey, node: NodeId) -> Certificate {
        let now = Utc::now();
        self.certificate_between(key, node, now - TimeDelta::minutes(5), now + TimeDelta::days(90))
    }

    /// The identity of the fleet's node; not on disk.
    pub(crate) fn identity(&self, data_dir: &Path, controller: &str) -> Identity {
        let key = NodeKey::generate().unwrap();
        Identity {
            data_dir: data_dir.to_owned(),
            node_id: self.node_id,
            fleet_id: FleetId::from_uuid(Uuid::nil()),
            node_name: "here".to_owned(),
            controller: controller.to_owned(),
            ca: self.certificate(),
            certificate: self.node_certificate(&key, self.node_id),
            key,
        }
    }

    /// The same, but with a certificate of the given life.
    pub(crate) fn identity_between(
        &self,
        data_dir: &Path,
        controller: &str,
        (from, to): (Timestamp, Timestamp),
    ) -> Identity {
        let mut identity = self.identity(data_dir, controller);
        identity.certificate = self.certificate_between(&identity.key, self.node_id, from, to);
        identity
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
