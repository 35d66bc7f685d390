//! Bytes that nobody may see by accident.
//!
//! A [`Secret`] cannot be printed, logged, serialised or copied, is compared in a time
//! that does not depend on what it holds, and is wiped from memory when it is dropped.
//! The one way to its content is [`Secret::reveal`], so whoever looks for places where
//! secrets could leak looks for that word.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret value: any bytes, text or not, none included.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes bytes over; nobody else keeps them.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Takes over bytes that are wiped already.
    #[must_use]
    pub const fn from_zeroizing(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Copies bytes of somebody who has to wipe them himself.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }

    /// The bytes: for sealing, for whom they are meant, and for nothing that is written down.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes there are. That alone tells a lot of a short secret: it is for
    /// limits, not for people.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether both hold the same. The time that takes depends on nothing but their lengths.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

/// From a text. What the reader of JSON keeps of a text with escapes in it is not
/// wiped; see `docs/SECURITY.md`.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::copy_of(text.as_bytes()))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Secret, E> {
                Ok(Secret::new(text.into_bytes()))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Fails to compile if a type has a trait that it must not have.
///
/// A function with two candidates cannot be chosen: where the type has the trait, both
/// of the implementations below fit, and the compiler asks for an annotation.
#[macro_export]
macro_rules! assert_has_not {
    ($type:ty: $($trait:path),+ $(,)?) => {$(
        const _: fn() = || {
            struct Has;
            trait Ambiguous<A> {
                fn choose() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $trait> Ambiguous<Has> for T {}
            let _ = <$type as Ambiguous<_>>::choose;
        };
    )+};
}

assert_has_not!(Secret: fmt::Debug, fmt::Display, serde::Serialize, Clone, PartialEq, AsRef<[u8]>, std::ops::Deref);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_the_same_when_every_byte_is() {
        let one = Secret::copy_of(b"hunter2");
        assert!(one.is_same_as(&Secret::copy_of(b"hunter2")));
        for other in [&b""[..], b"hunter", b"hunter3", b"Hunter2", b"hunter2\n"] {
            assert!(!one.is_same_as(&Secret::copy_of(other)));
        }
        assert!(Secret::new(Vec::new()).is_same_as(&Secret::copy_of(b"")));
    }

    #[test]
    fn a_text_is_read_byte_for_byte_and_anything_else_is_refused_without_being_quoted() {
        let read: Secret = serde_json::from_str(r#""pa$$ \u00fc\n\"""#).unwrap();
        assert_eq!(read.reveal(), "pa$$ ü\n\"".as_bytes());
        for other in ["4711", "[4711]", "{\"4711\":1}", "null"] {
            let error = serde_json::from_str::<Secret>(other).err().unwrap();
            assert!(error.is_data(), "{other}");
        }
    }
}
