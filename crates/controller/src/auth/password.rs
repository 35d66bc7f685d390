//! What may be a password, and the type that carries one.
//!
//! Length is what makes a password strong, so there is a lower bound and no rule
//! about kinds of characters (NIST SP 800-63B, 5.1.1.2). What many people choose is
//! refused. The upper bound is bcrypt's: it looks at 72 bytes, and a longer one
//! would be cut without a word.

use std::{collections::HashSet, sync::LazyLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

mod hasher;
mod threads;

pub use hasher::{COSTS, HashError, Hasher, Verdict};

/// Fewest bytes of a new password.
pub const MIN_BYTES: usize = 12;
/// Most bytes of any password.
pub const MAX_BYTES: usize = 72;
/// Fewest different characters of a new password.
const MIN_DIFFERENT: usize = 5;
/// Random bytes in a password that we make ourselves.
const GENERATED_BYTES: usize = 18;

/// Long passwords that are in every attacker's list, in lower case. Shorter ones
/// are refused for their length.
static COMMON: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("password/common.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
});

/// Why a password is not accepted for an account. The text says what is allowed and
/// nothing of the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    /// Too few bytes.
    #[error("must have at least 12 bytes")]
    TooShort,
    /// More bytes than are looked at.
    #[error("must have at most 72 bytes")]
    TooLong,
    /// A NUL, after which some programs would stop reading.
    #[error("must not contain the character NUL")]
    Nul,
    /// Too few different characters.
    #[error("must have at least 5 different characters")]
    Monotonous,
    /// On the list of what many people choose.
    #[error("is one that many people choose; take another")]
    Common,
}

/// A password as someone typed it. Accepts any text: what is not allowed for a new
/// one may still be tried at sign-in, and then simply does not match.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password over.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Makes one of 24 random letters, digits, hyphens and underscores.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate() -> Result<Self, HashError> {
        let mut bytes = Zeroizing::new([0_u8; GENERATED_BYTES]);
        SystemRandom::new().fill(&mut *bytes).map_err(|_| HashError::Random)?;
        Ok(Self::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
    }

    /// The text, to be shown once to whoever asked us to make it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Says why this may not become the password of an account, if so.
    #[must_use]
    pub fn fault(&self) -> Option<PasswordFault> {
        if let Some(fault) = self.unusable() {
            return Some(fault);
        }
        if self.0.len() < MIN_BYTES {
            return Some(PasswordFault::TooShort);
        }
        if self.0.chars().collect::<HashSet<_>>().len() < MIN_DIFFERENT {
            return Some(PasswordFault::Monotonous);
        }
        let lower = Zeroizing::new(self.0.to_lowercase());
        // A mark or two at the end is what people add when asked for one.
        let bare = lower.trim_end_matches(|c: char| !c.is_alphanumeric());
        (COMMON.contains(lower.as_str()) || COMMON.contains(bare)).then_some(PasswordFault::Common)
    }

    /// Says why no account can have this password, if so: it is not one that
    /// hashing could tell from all others.
    fn unusable(&self) -> Option<PasswordFault> {
        if self.0.len() > MAX_BYTES {
            Some(PasswordFault::TooLong)
        } else if self.0.contains('\0') {
            // bcrypt ends a shorter password with a NUL and begins again, so
            // `a` and `a NUL a` are the same to it.
            Some(PasswordFault::Nul)
        } else {
            None
        }
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &str) -> Option<PasswordFault> {
        Password::new(text).fault()
    }

    #[test]
    fn length_is_counted_in_bytes_and_both_bounds_are_allowed() {
        assert_eq!(fault("abcdefghijk"), Some(PasswordFault::TooShort));
        assert_eq!(fault("twelve bytes"), None);
        assert_eq!(fault(&"abcdef".repeat(12)), None);
        assert_eq!(fault(&format!("{}x", "abcdef".repeat(12))), Some(PasswordFault::TooLong));
        assert_eq!(fault(&"äöüßé".repeat(8)), Some(PasswordFault::TooLong));
    }

    #[test]
    fn few_different_characters_are_refused() {
        assert_eq!(fault("aaaaaaaaaaaaaaaa"), Some(PasswordFault::Monotonous));
        assert_eq!(fault("1234123412341234"), Some(PasswordFault::Monotonous));
    }

    #[test]
    fn common_passwords_are_refused_in_any_case_and_with_a_mark_at_the_end() {
        for common in
            ["password1234", "Password1234", "PASSWORD1234!", "qwertyuiop123", "correcthorsebatterystaple"]
        {
            assert_eq!(fault(common), Some(PasswordFault::Common), "{common}");
        }
    }

    #[test]
    fn the_list_holds_only_what_no_other_rule_refuses() {
        assert!(COMMON.len() > 100);
        for common in COMMON.iter() {
            assert_eq!(fault(common), Some(PasswordFault::Common), "{common}");
            assert_eq!(*common, common.to_lowercase());
        }
    }

    #[test]
    fn a_nul_is_refused() {
        assert_eq!(fault("correct\0horse battery"), Some(PasswordFault::Nul));
    }

    #[test]
    fn a_generated_password_is_always_acceptable_and_never_the_same() {
        let made: HashSet<String> =
            (0..100).map(|_| Password::generate().unwrap().reveal().to_owned()).collect();
        assert_eq!(made.len(), 100);
        assert!(made.iter().all(|text| text.len() == 24 && fault(text).is_none()));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_has_12_to_72_bytes(text in ".{0,80}") {
            if fault(&text).is_none() {
                prop_assert!((MIN_BYTES..=MAX_BYTES).contains(&text.len()));
            }
        }
    }
}
