//! AES-256-GCM for what must not lie about in clear.
//!
//! A [`MasterKey`] seals nothing itself. From it come [`SealingKey`]s, one per
//! purpose (HKDF-SHA256), so that what was sealed for one purpose cannot be
//! opened as another. What is sealed is bound to the associated data of the
//! caller: where it belongs, which version it is. A sealed value says which key
//! it needs, so that keys can be changed one value at a time.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | format, 1 |
//! | 8 | key id |
//! | 12 | nonce, random |
//! | the rest | ciphertext and tag (16) |
//!
//! The nonce is random, so one key must not seal more than 2^32 values
//! (NIST SP 800-38D, 8.3). Keys and what is opened are wiped from memory when
//! dropped, except for the expanded key inside the cipher, which its library
//! does not wipe.

use std::fmt;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{self, HKDF_SHA256},
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::{Zeroize as _, Zeroizing};

mod master;

pub use master::{KeyError, MasterKey};

const FORMAT: u8 = 1;
const KEY_ID_LEN: usize = 8;
const KEY_LEN: usize = 32;
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// Names a [`SealingKey`] without telling anything about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KEY_ID_LEN]);

impl KeyId {
    /// The key that `sealed` needs, where it is of a format known here.
    #[must_use]
    pub fn of(sealed: &[u8]) -> Option<Self> {
        Some(Header::split(sealed).ok()?.0.key_id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why something could not be sealed or opened. None of them tells anything of
/// the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The operating system gave no random bytes.
    #[error("get random bytes")]
    Random,
    /// The value is longer than the cipher can take (64 GiB).
    #[error("seal a value of this length")]
    TooLong,
    /// There are too few bytes to be a sealed value.
    #[error("open a sealed value that is cut short")]
    TooShort,
    /// The value was sealed in a format of a later version.
    #[error("open a sealed value of unknown format {0}")]
    UnknownFormat(u8),
    /// The value was sealed with another key.
    #[error("open a value sealed with key {sealed_with} by key {key}")]
    OtherKey {
        /// The key it needs.
        sealed_with: KeyId,
        /// The key it was tried with.
        key: KeyId,
    },
    /// The value was changed, or was sealed with other associated data.
    #[error("open a sealed value: it was changed, or belongs elsewhere")]
    Refused,
}

/// Seals and opens values of one purpose. See [`MasterKey::derive`].
pub struct SealingKey {
    id: KeyId,
    key: LessSafeKey,
    random: SystemRandom,
}

impl SealingKey {
    /// The name that is put into what this key seals.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Encrypts `plain`, bound to `aad`: it opens only with the same one. Sealing
    /// the same value again gives different bytes.
    ///
    /// # Errors
    ///
    /// [`SealError::Random`] and [`SealError::TooLong`]; in practice neither comes.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::Random)?;
        let header = Header { key_id: self.id, nonce };
        let bound = header.bind(aad);
        let mut sealed = header.to_bytes().to_vec();
        // Room for the tag at once: growing would leave a copy of the plain value behind.
        sealed.reserve_exact(plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(plain);
        let (_, text) = sealed.split_at_mut(HEADER_LEN);
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), text)
            .map_err(|_| {
                text.zeroize();
                SealError::TooLong
            })?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Decrypts what [`SealingKey::seal`] gave for the same `aad`.
    ///
    /// # Errors
    ///
    /// Everything but the exact value sealed with this key and this `aad` is
    /// refused; [`SealError::OtherKey`] says which key to look for.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (header, text) = Header::split(sealed)?;
        if header.key_id != self.id {
            return Err(SealError::OtherKey { sealed_with: header.key_id, key: self.id });
        }
        let bound = header.bind(aad);
        let mut plain = Zeroizing::new(text.to_vec());
        let length = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(header.nonce), Aad::from(bound), &mut plain)
            .map_err(|_| SealError::Refused)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

struct Header {
    key_id: KeyId,
    nonce: [u8; NONCE_LEN],
}

impl Header {
    fn split(sealed: &[u8]) -> Result<(Self, &[u8]), SealError> {
        let (&[format], rest) = sealed.split_first_chunk().ok_or(SealError::TooShort)?;
        if format != FORMAT {
            return Err(SealError::UnknownFormat(format));
        }
        let (&key_id, rest) = rest.split_first_chunk().ok_or(SealError::TooShort)?;
        let (&nonce, text) = rest.split_first_chunk().ok_or(SealError::TooShort)?;
        Ok((Self { key_id: KeyId(key_id), nonce }, text))
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&[FORMAT], self.key_id.0.as_slice(), &self.nonce].concat()
    }

    /// What the cipher authenticates: the header, of fixed length, then the
    /// caller's data, so that the two cannot run into each other.
    fn bind(&self, aad: &[u8]) -> Vec<u8> {
        [self.to_bytes().as_slice(), aad].concat()
    }
}

/// A length for HKDF to expand to.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Derives the key for one purpose and its id from `master`. The two come from
/// different `info`, so that the id, which is public, tells nothing of the key.
fn derive(master: &[u8; KEY_LEN], purpose: &str) -> Result<SealingKey, ring::error::Unspecified> {
    let root = hkdf::Salt::new(HKDF_SHA256, b"seal/1").extract(master);
    let expand = |info: &[&[u8]], into: &mut [u8]| root.expand(info, Length(into.len()))?.fill(into);
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    expand(&[b"key/", purpose.as_bytes()], bytes.as_mut_slice())?;
    let mut id = [0; KEY_ID_LEN];
    expand(&[b"id/", purpose.as_bytes()], &mut id)?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes.as_slice())?);
    Ok(SealingKey { id: KeyId(id), key, random: SystemRandom::new() })
}

/// Derives bytes for a purpose other than sealing from `master`: by an `info` of
/// its own, so that they are never those of a [`SealingKey`].
fn derive_bytes(
    master: &[u8; KEY_LEN],
    purpose: &str,
) -> Result<Zeroizing<[u8; KEY_LEN]>, ring::error::Unspecified> {
    let root = hkdf::Salt::new(HKDF_SHA256, b"seal/1").extract(master);
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    root.expand(&[b"bytes/", purpose.as_bytes()], Length(KEY_LEN))?.fill(bytes.as_mut_slice())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
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

    /// Pins derivation and format: if this fails, what is sealed on disks and in
    /// databases can no longer be opened. The value was computed by another
    /// implementation of HKDF and AES-GCM.
    #[test]
    fn values_sealed_by_earlier_versions_open() {
        let key = master().derive("tests");
        assert_eq!(key.id().to_string(), "e2aa4d9662cb20bf");
        let sealed: Vec<u8> = (0..SEALED.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&SEALED[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(key.open(b"place", &sealed).unwrap().as_slice(), b"a secret value");
    }

    const SEALED: &str = "01e2aa4d9662cb20bf6465666768696a6b6c6d6e6ff98efe1834465df17ef5c13a145e722de59a7b95df15d94368333cc510cb";

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
}
