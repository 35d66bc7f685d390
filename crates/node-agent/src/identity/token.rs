//! What an operator hands to a new host.

use std::str::FromStr;

use zeroize::Zeroizing;

const PREFIX: &str = "a67e_";

/// An enrolment token: `a67e_<secret>.<SHA-256 of the fleet's CA, in hexadecimal>`.
///
/// The second part is no secret; it is how the agent knows the controller before
/// it says anything. No `Debug`, because of the first.
pub struct EnrolmentToken {
    secret: Zeroizing<String>,
    ca_sha256: [u8; 32],
}

/// Why a text is not a token. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the token: it must look like a67e_SECRET.HASH, where HASH has 64 hexadecimal digits")]
pub struct InvalidToken;

impl EnrolmentToken {
    /// What the controller asks for.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// SHA-256 of the fleet's CA certificate, in DER.
    #[must_use]
    pub fn ca_sha256(&self) -> [u8; 32] {
        self.ca_sha256
    }
}

impl FromStr for EnrolmentToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let (secret, hash) =
            text.trim().strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')).ok_or(InvalidToken)?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if secret.is_empty() || secret.len() > 128 || !secret.bytes().all(allowed) {
            return Err(InvalidToken);
        }
        let ca_sha256 = from_hex(hash).ok_or(InvalidToken)?;
        Ok(Self { secret: Zeroizing::new(secret.to_owned()), ca_sha256 })
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::hex;
    use proptest::prelude::*;

    #[test]
    fn a_token_is_taken_apart() {
        let hash = "0f".repeat(32);
        let token: EnrolmentToken = format!(" a67e_c2VjcmV0_-.{hash}\n").parse().unwrap();
        assert_eq!(token.secret(), "c2VjcmV0_-");
        assert_eq!(hex(&token.ca_sha256()), hash);
    }

    #[test]
    fn what_is_not_a_token_is_refused() {
        let hash = "0f".repeat(32);
        for bad in [
            String::new(),
            "a67e_secret".into(),
            format!("secret.{hash}"),
            format!("a67e_.{hash}"),
            format!("a67e_se cret.{hash}"),
            format!("a67e_secret.{hash}0"),
            format!("a67e_secret.+f{}", &hash[2..]),
            format!("a67e_secret.{}", "é".repeat(32)),
        ] {
            assert!(bad.parse::<EnrolmentToken>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,100}") {
            let _ = text.parse::<EnrolmentToken>();
            let _ = format!("a67e_x.{text}").parse::<EnrolmentToken>();
        }
    }
}
