//! Values that a browser keeps for us, and cannot change.
//!
//! A signed value is `VALUE.MAC`, both in base64url: HMAC-SHA256 over the cookie's
//! name and the value, so that what was signed for one cookie is worth nothing in
//! another. It is not encrypted: the browser may read it. When it ends is for the
//! value itself, or for what it points at, to say.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

/// Signs what cookies hold. The same on every controller of a fleet, and over
/// restarts, for it comes from the master key.
pub struct CookieKey(hmac::Key);

impl CookieKey {
    /// Makes it of a secret.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The text to keep in the cookie `name`: letters, digits, `-`, `_` and one `.`,
    /// whatever the value is.
    #[must_use]
    pub fn sign(&self, name: &str, value: &str) -> String {
        let value = URL_SAFE_NO_PAD.encode(value);
        let mac = hmac::sign(&self.0, &signed(name, &value));
        format!("{value}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    /// The value in a text that [`CookieKey::sign`] gave for the same name; nothing
    /// for any other text. Compares in constant time.
    #[must_use]
    pub fn verify(&self, name: &str, text: &str) -> Option<String> {
        let (value, mac) = text.split_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        hmac::verify(&self.0, &signed(name, value), &mac).ok()?;
        String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()
    }
}

/// What is signed. The name's length comes first, so that name and value cannot run
/// into each other.
fn signed(name: &str, value: &str) -> Vec<u8> {
    [&(name.len() as u64).to_be_bytes(), name.as_bytes(), value.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> CookieKey {
        CookieKey::new(&[7; 32])
    }

    proptest! {
        #[test]
        fn what_was_signed_is_read_back_and_fits_into_a_cookie(name in "[a-z_]{1,12}", value in any::<String>()) {
            let text = key().sign(&name, &value);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
            prop_assert_eq!(key().verify(&name, &text), Some(value));
        }

        #[test]
        fn a_change_of_any_byte_is_refused(value in ".{0,20}", other in any::<char>()) {
            let text = key().sign("flow", &value);
            for at in 0..text.len() {
                let changed: String =
                    text.chars().enumerate().map(|(n, c)| if n == at { other } else { c }).collect();
                if changed != text {
                    prop_assert_eq!(key().verify("flow", &changed), None);
                }
                let cut: String = text.chars().take(at).collect();
                prop_assert_eq!(key().verify("flow", &cut), None);
            }
        }

        #[test]
        fn what_was_signed_for_another_name_or_by_another_key_is_refused(
            name in "[a-z]{1,6}", other in "[a-z]{1,6}", value in ".{0,20}",
        ) {
            prop_assume!(name != other);
            let text = key().sign(&name, &value);
            prop_assert_eq!(key().verify(&other, &text), None);
            prop_assert_eq!(CookieKey::new(&[8; 32]).verify(&name, &text), None);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in any::<String>(), parts in "[A-Za-z0-9_-]{0,60}[.][A-Za-z0-9_-]{0,60}") {
            prop_assert_eq!(key().verify("flow", &text), None);
            prop_assert_eq!(key().verify("flow", &parts), None);
        }
    }

    #[test]
    fn name_and_value_cannot_run_into_each_other() {
        let text = key().sign("ab", "");
        let forged = format!("{}{text}", "b");
        assert_eq!(key().verify("a", &forged), None);
    }
}
