use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const LIFETIME: Duration = Duration::from_secs(30 * 86_400);
const GRACE: Duration = Duration::from_secs(30 * 86_400);

fn now() -> Timestamp {
    "2026-03-01T12:00:00.75Z".parse().unwrap()
}

fn ca() -> Ca {
    Ca::generate(now()).unwrap().0
}

fn node() -> NodeId {
    "0195c1a8-7c1e-7000-8000-0123456789ab".parse().unwrap()
}

fn key_of(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

fn key() -> KeyPair {
    key_of(&PKCS_ECDSA_P256_SHA256)
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

fn sign(key: &KeyPair, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let key =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.serialized_der(), &random).unwrap();
    key.sign(&random, message).unwrap().as_ref().to_vec()
}

#[test]
fn an_issued_certificate_names_the_node_and_carries_the_requests_key() {
    let (ca, key) = (ca(), key());
    let issued = ca.sign_agent(&csr(&key), node(), LIFETIME, now()).unwrap();
    assert_eq!(issued.not_after, "2026-03-31T12:00:00Z".parse::<Timestamp>().unwrap());
    assert_eq!(issued.fingerprint, fingerprint_sha256(&issued.der));
    assert_eq!(issued.public_key, key.public_key_raw());
    assert_eq!(csr_public_key(&csr(&key)).unwrap(), issued.public_key);
    assert_eq!(peer_node_id(&issued.der), Some(node()));

    let read = parse(&issued.der).unwrap();
    assert_eq!(read.validity().not_after.timestamp(), issued.not_after.timestamp());
    assert_eq!(read.validity().not_before.timestamp(), now().timestamp() - 300);
    let usage = read.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!read.is_ca());
    read.verify_signature(Some(parse(ca.certificate()).unwrap().public_key())).unwrap();
}

#[test]
fn names_and_powers_in_a_request_are_ignored() {
    let key = key();
    let mut wish = CertificateParams::new(["controller.automator67.internal".to_owned()]).unwrap();
    wish.distinguished_name.push(DnType::CommonName, "controller");
    wish.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wish.subject_alt_names
        .push(SanType::URI("automator67://node/0195c1a8-0000-7000-8000-000000000000".try_into().unwrap()));
    let request = wish.serialize_request(&key).unwrap();
    let issued = ca().sign_agent(request.der(), node(), LIFETIME, now()).unwrap();
    let read = parse(&issued.der).unwrap();
    assert_eq!(peer_node_id(&issued.der), Some(node()));
    assert!(!read.is_ca());
    assert!(!read.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert!(!read.subject().to_string().contains("controller"));
}

#[test]
fn asking_twice_gives_two_certificates() {
    let (ca, request) = (ca(), csr(&key()));
    let one = ca.sign_agent(&request, node(), LIFETIME, now()).unwrap();
    let two = ca.sign_agent(&request, node(), LIFETIME, now()).unwrap();
    assert_ne!(parse(&one.der).unwrap().raw_serial(), parse(&two.der).unwrap().raw_serial());
    assert_ne!(one.fingerprint, two.fingerprint);
}

#[test]
fn other_kinds_of_keys_are_refused() {
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let refused = csr_public_key(&csr(&key_of(algorithm)));
        assert!(matches!(refused, Err(CsrError::WrongKind)), "{refused:?}");
    }
}

#[test]
fn a_request_with_somebody_elses_key_is_refused() {
    let (mine, theirs) = (key(), key());
    let mut request = csr(&mine);
    let (from, to) = (mine.public_key_raw(), theirs.public_key_raw());
    let at = request.windows(from.len()).position(|part| part == from).unwrap();
    request[at..at + to.len()].copy_from_slice(to);
    assert!(matches!(csr_public_key(&request), Err(CsrError::NotItsKey)));
}

#[test]
fn no_changed_byte_of_a_request_gives_another_key() {
    let request = csr(&key());
    let key = csr_public_key(&request).unwrap();
    for at in 0..request.len() {
        let mut changed = request.clone();
        changed[at] ^= 1;
        // What the signature does not cover is the encoding around it.
        if let Ok(read) = csr_public_key(&changed) {
            assert_eq!(read, key, "byte {at}");
        }
    }
}

#[test]
fn cut_lengthened_and_oversized_requests_are_refused() {
    let request = csr(&key());
    for end in 0..request.len() {
        assert!(csr_public_key(&request[..end]).is_err(), "{end} bytes");
    }
    assert!(matches!(csr_public_key(&[&request[..], &[0]].concat()), Err(CsrError::Unreadable)));
    assert!(matches!(csr_public_key(&vec![0x30; CSR_MAX_BYTES + 1]), Err(CsrError::Unreadable)));
}

/// A node with a certificate, and a renewal that it asks for.
struct Asker {
    ca: Ca,
    key: KeyPair,
    issued: IssuedCertificate,
    request: Vec<u8>,
    signature: Vec<u8>,
}

impl Asker {
    fn new() -> Self {
        let (ca, key) = (ca(), key());
        let issued = ca.sign_agent(&csr(&key), node(), LIFETIME, now()).unwrap();
        let request = csr(&super::tests::key());
        let signature = sign(&key, &request);
        Self { ca, key, issued, request, signature }
    }

    fn ask_at(&self, at: Timestamp) -> Result<Renewal, RenewalError> {
        self.ca.verify_renewal(&self.issued.der, &self.request, &self.signature, at, GRACE)
    }
}

#[test]
fn a_node_proves_itself_by_its_old_key() {
    let asker = Asker::new();
    let renewal = asker.ask_at(now()).unwrap();
    assert_eq!(renewal.node, node());
    assert_eq!(renewal.fingerprint, asker.issued.fingerprint);
    assert_eq!(renewal.public_key, asker.key.public_key_raw());
    let renewed = asker.ca.sign_agent(&asker.request, renewal.node, LIFETIME, now()).unwrap();
    assert_eq!(peer_node_id(&renewed.der), Some(node()));
}

#[test]
fn a_certificate_renews_until_the_grace_is_over_and_not_after() {
    let asker = Asker::new();
    let end = asker.issued.not_after;
    assert!(asker.ask_at(end + DAY).is_ok());
    assert!(asker.ask_at(end + GRACE).is_ok());
    assert_eq!(asker.ask_at(end + GRACE + Duration::from_secs(1)), Err(RenewalError::Ended(end)));
}

#[test]
fn a_renewal_by_another_key_or_over_another_request_is_refused() {
    let mut asker = Asker::new();
    asker.signature = sign(&key(), &asker.request);
    assert_eq!(asker.ask_at(now()), Err(RenewalError::NotItsKey));
    asker.signature = sign(&asker.key, &csr(&key()));
    assert_eq!(asker.ask_at(now()), Err(RenewalError::NotItsKey));
    asker.signature = Vec::new();
    assert_eq!(asker.ask_at(now()), Err(RenewalError::NotItsKey));
}

#[test]
fn a_certificate_of_another_fleet_does_not_renew() {
    let mut asker = Asker::new();
    asker.ca = ca();
    assert_eq!(asker.ask_at(now()), Err(RenewalError::NotOurs));
}

#[test]
fn our_own_certificates_that_are_not_a_nodes_do_not_renew() {
    let (ca, key) = (ca(), key());
    let request = csr(&super::tests::key());
    let signature = sign(&key, &request);
    let node_uri = || SanType::URI(format!("{NODE_URI}{}", node()).try_into().unwrap());
    type Change = fn(&mut CertificateParams);
    let variants: [(&str, Change); 4] = [
        ("without client authentication", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
        ("of a CA", |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        ("with two names", |params| {
            params.subject_alt_names.push(SanType::DnsName("a.b".try_into().unwrap()))
        }),
        ("without a node", |params| {
            params.subject_alt_names = vec![SanType::URI("automator67://nodes/1".try_into().unwrap())];
        }),
    ];
    for (what, change) in variants {
        let mut params = ca::params(now(), BACKDATE, LIFETIME, "x").unwrap();
        params.subject_alt_names = vec![node_uri()];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let old = params.signed_by(&key, ca.issuer()).unwrap();
        let answer = ca.verify_renewal(old.der(), &request, &signature, now(), GRACE);
        assert_eq!(answer, Err(RenewalError::NotOurs), "{what}");
        assert_eq!(peer_node_id(old.der()), None, "{what}");
    }
}

#[test]
fn no_changed_byte_of_an_old_certificate_gives_another_node_or_key() {
    let mut asker = Asker::new();
    let whole = asker.issued.der.clone();
    let mut accepted = 0;
    for at in 0..whole.len() {
        asker.issued.der = whole.clone();
        asker.issued.der[at] ^= 1;
        if let Ok(renewal) = asker.ask_at(now()) {
            accepted += 1;
            assert_eq!((renewal.node, &renewal.public_key), (node(), &asker.issued.public_key), "byte {at}");
        }
    }
    assert!(accepted < 5, "{accepted} changes outside of what is signed");
}

proptest! {
    #[test]
    fn garbage_is_refused_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(csr_public_key(&bytes).is_err());
        prop_assert_eq!(peer_node_id(&bytes), None);
        prop_assert!(ca().verify_renewal(&bytes, &bytes, &bytes, now(), GRACE).is_err());
    }
}
