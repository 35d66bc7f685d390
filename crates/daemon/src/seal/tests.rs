use proptest::prelude::*;

use super::*;

fn master() -> MasterKey {
    MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

proptest! {
    #[test]
    fn what_was_sealed_opens(
        aad in prop::collection::vec(any::<u8>(), 0..40),
        plain in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let key = master().derive("tests");
        let sealed = key.seal(&aad, &plain).unwrap();
        prop_assert_eq!(sealed.len(), plain.len() + HEADER_LEN + 16);
        prop_assert_eq!(KeyId::of(&sealed), Some(key.id()));
        let opened = key.open(&aad, &sealed).unwrap();
        prop_assert_eq!(opened.as_slice(), plain);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(master().derive("tests").open(b"", &bytes).is_err());
    }

    #[test]
    fn other_associated_data_is_refused(
        aad in prop::collection::vec(any::<u8>(), 0..6),
        other in prop::collection::vec(any::<u8>(), 0..6),
    ) {
        prop_assume!(aad != other);
        let key = master().derive("tests");
        let sealed = key.seal(&aad, b"value").unwrap();
        prop_assert_eq!(key.open(&other, &sealed).unwrap_err(), SealError::Refused);
    }
}

#[test]
fn every_change_of_one_byte_is_refused() {
    let key = master().derive("tests");
    let sealed = key.seal(b"place", b"a secret value").unwrap();
    for at in 0..sealed.len() {
        for flip in 1..=u8::MAX {
            let mut changed = sealed.clone();
            changed[at] ^= flip;
            assert!(key.open(b"place", &changed).is_err(), "byte {at} xor {flip:#04x}");
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    let key = master().derive("tests");
    let sealed = key.seal(b"place", b"a secret value").unwrap();
    for length in 0..sealed.len() {
        assert!(key.open(b"place", &sealed[..length]).is_err(), "cut to {length}");
    }
    let longer = [sealed.as_slice(), &[0]].concat();
    assert_eq!(key.open(b"place", &longer).unwrap_err(), SealError::Refused);
}

#[test]
fn the_header_and_the_associated_data_cannot_run_into_each_other() {
    let key = master().derive("tests");
    let sealed = key.seal(b"", b"value").unwrap();
    assert!(key.open(&sealed[..HEADER_LEN], &sealed).is_err());
}

#[test]
fn key_of_another_purpose_or_master_is_refused_by_name() {
    let key = master().derive("tests");
    let sealed = key.seal(b"", b"value").unwrap();
    for other in [master().derive("test"), MasterKey::generate().unwrap().derive("tests")] {
        let error = other.open(b"", &sealed).unwrap_err();
        assert_eq!(error, SealError::OtherKey { sealed_with: key.id(), key: other.id() });
    }
}

#[test]
fn forged_key_id_does_not_make_another_key_fit() {
    let (key, other) = (master().derive("one"), master().derive("two"));
    let mut sealed = key.seal(b"", b"value").unwrap();
    sealed[1..=KEY_ID_LEN].copy_from_slice(&other.id().0);
    assert_eq!(other.open(b"", &sealed).unwrap_err(), SealError::Refused);
}

#[test]
fn the_same_value_is_never_sealed_to_the_same_bytes() {
    let key = master().derive("tests");
    assert_ne!(key.seal(b"", b"value").unwrap(), key.seal(b"", b"value").unwrap());
}

/// A value that another implementation of HKDF and AES-GCM has sealed, or whose
/// sealing it has confirmed (`deploy/test/seal_vectors.py`).
#[derive(serde::Deserialize)]
struct Vector {
    name: String,
    master_key: String,
    purpose: String,
    key_id: String,
    nonce: String,
    associated_data: String,
    plaintext: String,
    sealed: String,
}

/// Bytes for a purpose that is not sealing.
#[derive(serde::Deserialize)]
struct DerivedBytes {
    master_key: String,
    purpose: String,
    bytes: String,
}

#[derive(serde::Deserialize)]
struct Vectors {
    sealed: Vec<Vector>,
    derived: Vec<DerivedBytes>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Pins derivation and format: if this fails, what is sealed on disks and in
/// databases can no longer be opened.
#[test]
fn committed_vectors_open_and_are_made_again_byte_for_byte() {
    let vectors = vectors();
    assert!(vectors.sealed.len() >= 8 && vectors.derived.len() >= 2);
    for vector in vectors.sealed {
        let name = vector.name;
        let key = MasterKey::from_base64(&vector.master_key).unwrap().derive(&vector.purpose);
        let (aad, plain, sealed) =
            (hex(&vector.associated_data), hex(&vector.plaintext), hex(&vector.sealed));
        assert_eq!(key.id().to_string(), vector.key_id, "{name}");
        assert_eq!(key.open(&aad, &sealed).unwrap().as_slice(), plain, "{name}");
        let nonce = hex(&vector.nonce).try_into().unwrap();
        assert_eq!(key.seal_with(nonce, &aad, &plain).unwrap(), sealed, "{name}");
    }
    for vector in vectors.derived {
        let bytes = MasterKey::from_base64(&vector.master_key).unwrap().derive_bytes(&vector.purpose);
        assert_eq!(bytes.as_slice(), hex(&vector.bytes));
    }
}

#[test]
fn every_change_of_one_byte_of_a_committed_vector_is_refused() {
    for vector in vectors().sealed {
        let key = MasterKey::from_base64(&vector.master_key).unwrap().derive(&vector.purpose);
        let (aad, sealed) = (hex(&vector.associated_data), hex(&vector.sealed));
        let refused = |aad: &[u8], sealed: &[u8], what: &str, at: usize| {
            assert!(key.open(aad, sealed).is_err(), "{}: byte {at} of the {what}", vector.name);
        };
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << (at % 8);
            let what = match at {
                0 => "format",
                1..=KEY_ID_LEN => "key id",
                9..HEADER_LEN => "nonce",
                _ => "value",
            };
            refused(&aad, &changed, what, at);
        }
        for at in 0..aad.len() {
            let mut changed = aad.clone();
            changed[at] ^= 1 << (at % 8);
            refused(&changed, &sealed, "associated data", at);
        }
    }
}

#[test]
fn a_key_id_that_was_changed_is_told_from_a_value_that_was() {
    let key = master().derive("tests");
    let sealed = key.seal(b"place", b"a secret value").unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 0x80;
        let error = key.open(b"place", &changed).unwrap_err();
        match at {
            0 => assert_eq!(error, SealError::UnknownFormat(0x81)),
            1..=KEY_ID_LEN => {
                let sealed_with = KeyId::of(&changed).unwrap();
                assert_eq!(error, SealError::OtherKey { sealed_with, key: key.id() });
            }
            _ => assert_eq!(error, SealError::Refused, "byte {at}"),
        }
    }
}

#[test]
fn bytes_are_the_same_for_a_purpose_and_for_no_other() {
    let (one, again) = (master().derive_bytes("tests"), master().derive_bytes("tests"));
    assert_eq!(one, again);
    assert_ne!(one, master().derive_bytes("test"));
    assert_ne!(one, MasterKey::generate().unwrap().derive_bytes("tests"));
}

#[test]
fn format_of_a_later_version_is_named() {
    let key = master().derive("tests");
    let mut sealed = key.seal(b"", b"value").unwrap();
    sealed[0] = 2;
    assert_eq!(key.open(b"", &sealed).unwrap_err(), SealError::UnknownFormat(2));
    assert_eq!(KeyId::of(&sealed), None);
}

#[test]
fn errors_never_show_the_content() {
    let key = master().derive("tests");
    let sealed = key.seal(b"place", b"hunter2-hunter2").unwrap();
    let mut changed = sealed.clone();
    *changed.last_mut().unwrap() ^= 1;
    let errors = [
        key.open(b"elsewhere", &sealed).unwrap_err(),
        key.open(b"place", &changed).unwrap_err(),
        key.open(b"place", b"\x01hunter2").unwrap_err(),
        master().derive("other").open(b"place", &sealed).unwrap_err(),
    ];
    for error in errors {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
