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
//! Keys are 32 bytes and key ids 8 bytes of HKDF-SHA256 with the salt `seal/1`, the
//! master key as input, and as info `key/PURPOSE` and `id/PURPOSE`. The cipher
//! authenticates the 21 bytes before the ciphertext, followed by the caller's data.
//! `seal/vectors.json` has examples, which a test of another implementation opens
//! and makes as well.
//!
//! The nonce is random, so one key must not seal more than 2^32 values
//! (NIST SP 800-38D, 8.3). Whoever may come near that number takes [`DataKeys`],
//! one key per *epoch*, and counts. Keys and what is opened are wiped from memory when
//! dropped, except for the expanded key inside the cipher, which its library
//! does not wipe.

use std::fmt;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{self, HKDF_SHA256},
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::{Zeroize as _, Zeroizing};

mod epoch;
mod master;
#[cfg(test)]
mod tests;

pub use epoch::DataKeys;
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

    /// Its bytes, to be kept beside what the key seals.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
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
        self.seal_with(nonce, aad, plain)
    }

    /// Seals under a nonce, which must not have been used with this key.
    fn seal_with(&self, nonce: [u8; NONCE_LEN], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
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
