//! Opaque tokens: random secrets that are kept only as their hash.
//!
//! A token is a prefix that says what it is for, so that a leaked one is recognised
//! by people and by scanners, and 32 random bytes in base64url. The secret has as
//! much entropy as its SHA-256, so a slow hash would add nothing.
//!
//! An enrolment token also carries the SHA-256 of the fleet's CA, which is no
//! secret: `a67e_SECRET.HASH`. The agent keeps that part, and sends only the
//! secret. So the hash is over the secret alone, without its prefix.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::pki::fingerprint_sha256;

const SECRET_BYTES: usize = 32;
/// 32 bytes in base64url without padding.
const SECRET_CHARS: usize = 43;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Acts for an account, in place of a sign-in.
    Api,
    /// Lets someone make an account.
    Invite,
    /// Lets a host become a node.
    Enrolment,
    /// Continues a session, once.
    Refresh,
    /// Gets the tokens of a sign-in at a provider, once.
    Code,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Api, Self::Invite, Self::Enrolment, Self::Refresh, Self::Code];

    /// What tokens of this kind begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Api => "a67_",
            Self::Invite => "a67i_",
            Self::Enrolment => "a67e_",
            Self::Refresh => "a67r_",
            Self::Code => "a67c_",
        }
    }
}

/// Why a token could not be made or read. Says nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The operating system gave no random bytes.
    #[error("get random bytes")]
    Random,
    /// The text is not a token of that kind.
    #[error("read the token: it must begin with {} and have 43 more characters", .0.prefix())]
    Malformed(Kind),
    /// The text is not an enrolment token with the hash of a CA.
    #[error(
        "read the enrolment token: it must look like a67e_SECRET.HASH, where HASH has 64 hexadecimal digits"
    )]
    MalformedEnrolment,
}

/// A token in clear: one that was just made, or one that somebody shows.
pub struct Secret {
    kind: Kind,
    text: Zeroizing<String>,
}

impl Secret {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`TokenError::Random`]; in practice it never comes.
    pub fn generate(kind: Kind) -> Result<Self, TokenError> {
        let mut bytes = Zeroizing::new([0_u8; SECRET_BYTES]);
        SystemRandom::new().fill(&mut *bytes).map_err(|_| TokenError::Random)?;
        Ok(Self { kind, text: Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())) })
    }

    /// Reads a token of a kind.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] for anything else.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, TokenError> {
        let secret = text.strip_prefix(kind.prefix()).ok_or(TokenError::Malformed(kind))?;
        let well_formed = secret.len() == SECRET_CHARS
            && URL_SAFE_NO_PAD
                .decode(secret)
                .map(Zeroizing::new)
                .is_ok_and(|bytes| bytes.len() == SECRET_BYTES);
        if !well_formed {
            return Err(TokenError::Malformed(kind));
        }
        Ok(Self { kind, text: Zeroizing::new(secret.to_owned()) })
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole text with its prefix, to be shown once to whoever asked for it.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}{}", self.kind.prefix(), self.text.as_str()))
    }

    /// What is kept of it.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256_of(self.text.as_bytes())
    }
}

/// What is kept of the token in `text`, with or without its prefix. Text that is no
/// token has a hash too, which is that of no token.
#[must_use]
pub fn sha256(text: &str) -> [u8; 32] {
    let secret = Kind::ALL.iter().find_map(|kind| text.strip_prefix(kind.prefix())).unwrap_or(text);
    sha256_of(secret.as_bytes())
}

/// SHA-256 of any bytes.
#[must_use]
pub fn sha256_of(bytes: &[u8]) -> [u8; 32] {
    fingerprint_sha256(bytes)
}

/// Compares two hashes in a time that does not depend on where they differ.
#[must_use]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// What an operator hands to a new host: the secret, and by which CA the host knows
/// that it speaks to us.
#[must_use]
pub fn enrolment_text(secret: &Secret, ca_sha256: &[u8; 32]) -> String {
    format!("{}.{}", secret.reveal().as_str(), hex(ca_sha256))
}

/// Takes an enrolment token apart.
///
/// # Errors
/// [`TokenError::MalformedEnrolment`] for anything else.
pub fn parse_enrolment(text: &str) -> Result<(Secret, [u8; 32]), TokenError> {
    let malformed = TokenError::MalformedEnrolment;
    let (secret, hash) = text.trim().split_once('.').ok_or(malformed)?;
    let secret = Secret::parse(Kind::Enrolment, secret).map_err(|_| malformed)?;
    Ok((secret, from_hex(hash).ok_or(malformed)?))
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_back_as_its_own_kind_and_no_other() {
        for kind in Kind::ALL {
            let made = Secret::generate(kind).unwrap();
            let text = made.reveal();
            assert_eq!(text.len(), kind.prefix().len() + SECRET_CHARS);
            let read = Secret::parse(kind, &text).unwrap();
            assert_eq!((read.kind(), read.sha256()), (kind, made.sha256()));
            for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
                assert_eq!(Secret::parse(other, &text).err(), Some(TokenError::Malformed(other)));
            }
        }
    }

    #[test]
    fn no_two_tokens_are_the_same() {
        let made: std::collections::HashSet<_> =
            (0..100).map(|_| Secret::generate(Kind::Api).unwrap().sha256()).collect();
        assert_eq!(made.len(), 100);
    }

    #[test]
    fn the_hash_is_the_same_with_and_without_the_prefix() {
        let made = Secret::generate(Kind::Enrolment).unwrap();
        let text = made.reveal();
        assert_eq!(sha256(&text), made.sha256());
        assert_eq!(sha256(text.strip_prefix("a67e_").unwrap()), made.sha256());
        // FIPS 180-2, appendix B.1.
        assert_eq!(hex(&sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn an_enrolment_token_carries_the_authority() {
        let (made, ca) = (Secret::generate(Kind::Enrolment).unwrap(), [0x0f; 32]);
        let text = enrolment_text(&made, &ca);
        assert_eq!(text, format!("{}.{}", made.reveal().as_str(), "0f".repeat(32)));
        let (secret, authority) = parse_enrolment(&format!(" {text}\n")).unwrap();
        assert_eq!((secret.sha256(), authority), (made.sha256(), ca));
    }

    #[test]
    fn what_is_not_an_enrolment_token_is_refused() {
        let secret = Secret::generate(Kind::Enrolment).unwrap().reveal();
        let api = Secret::generate(Kind::Api).unwrap().reveal();
        let hash = "0f".repeat(32);
        for text in [
            String::new(),
            ".".to_owned(),
            secret.to_string(),
            format!("{}.{hash}", api.as_str()),
            format!("{}.{}", secret.as_str(), &hash[1..]),
            format!("{}.{}g", secret.as_str(), &hash[1..]),
            format!("{}.+{}", secret.as_str(), &hash[1..]),
            format!("{}x.{hash}", secret.as_str()),
        ] {
            assert_eq!(parse_enrolment(&text).err(), Some(TokenError::MalformedEnrolment));
        }
    }

    #[test]
    fn hashes_are_the_same_only_when_all_of_them_is() {
        let one = sha256("one");
        assert!(same(&one, &sha256("one")));
        assert!(!same(&one, &sha256("two")));
        assert!(!same(&one, &one[..31]));
    }

    proptest! {
        #[test]
        fn other_text_is_refused_and_never_panics(text in "(a67_|a67e_|a67i_)?.{0,60}") {
            for kind in Kind::ALL {
                if let Ok(read) = Secret::parse(kind, &text) {
                    let revealed = read.reveal();
                    prop_assert_eq!(revealed.as_str(), text.as_str());
                }
            }
            prop_assert!(parse_enrolment(&text).is_err());
        }

        #[test]
        fn a_token_is_its_prefix_and_32_bytes_written_in_their_one_way(body in "[A-Za-z0-9_-]{42,44}") {
            let bytes = URL_SAFE_NO_PAD.decode(&body).unwrap_or_default();
            let is_one = bytes.len() == SECRET_BYTES && URL_SAFE_NO_PAD.encode(&bytes) == body;
            for kind in Kind::ALL {
                let text = format!("{}{body}", kind.prefix());
                prop_assert_eq!(Secret::parse(kind, &text).is_ok(), is_one);
                for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
                    prop_assert!(Secret::parse(other, &text).is_err());
                }
            }
        }

        #[test]
        fn what_differs_in_a_character_is_another_token_or_none(at in 0..SECRET_CHARS, other in any::<char>()) {
            let made = Secret::generate(Kind::Refresh).unwrap();
            let at = at + Kind::Refresh.prefix().len();
            let changed: String =
                made.reveal().chars().enumerate().map(|(n, c)| if n == at { other } else { c }).collect();
            prop_assume!(changed != *made.reveal());
            let read = Secret::parse(Kind::Refresh, &changed).map(|read| read.sha256());
            prop_assert!(read != Ok(made.sha256()));
            prop_assert!(!same(&sha256(&changed), &made.sha256()));
        }

        #[test]
        fn an_enrolment_token_is_taken_apart_as_it_was_put_together(ca in any::<[u8; 32]>(), cut in 0..112_usize) {
            let made = Secret::generate(Kind::Enrolment).unwrap();
            let text = enrolment_text(&made, &ca);
            let (secret, authority) = parse_enrolment(&text).unwrap();
            prop_assert_eq!((secret.sha256(), authority), (made.sha256(), ca));
            prop_assert!(parse_enrolment(&text[..cut]).is_err());
        }
    }
}
