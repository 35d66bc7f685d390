//! The fleet's certificate authority, and the TLS that rests on it.
//!
//! Each fleet has one CA, made once and kept by the controller. It signs two kinds
//! of certificates. A *server* certificate is made in memory for each controller
//! process, always for the one name [`SERVER_NAME`]: agents check the chain against
//! the CA whose fingerprint came with their enrolment token, so it does not matter
//! under which address they reach us. A *node* certificate carries a node id as a
//! URI and is all that an agent needs to be known.
//!
//! From a certificate request only the public key is taken. What a node is called
//! and what it may do is never the asker's choice.
//!
//! Revocation is not here: a certificate says who someone is, and the store says
//! whether that node may still come in. All keys are P-256.

mod agent;
mod ca;
mod server;
mod tls;

pub use self::{
    agent::{CsrError, IssuedCertificate, Renewal, RenewalError, csr_public_key, peer_node_id},
    ca::{Ca, CaMaterial, PkiError},
    server::ServerIdentity,
    tls::{incoming, server_config},
};

/// The DNS name in every server certificate, whatever host an agent dials.
pub const SERVER_NAME: &str = "controller.automator67.internal";

/// SHA-256 of a certificate's DER, by which certificates are pinned and told apart.
#[must_use]
pub fn fingerprint_sha256(der: &[u8]) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    // The digest has exactly as many bytes as the array.
    for (to, from) in fingerprint.iter_mut().zip(ring::digest::digest(&ring::digest::SHA256, der).as_ref()) {
        *to = *from;
    }
    fingerprint
}
