//! Credentials: what kinds there are, what may be in them, and what a use of one gets.
//!
//! A credential belongs to a project, has a name, and its value comes in numbered
//! versions that never change. A value is either bytes as they are, or a JSON text,
//! which is kept as it came, byte for byte. A use of one asks for the whole value, or
//! for a part of a JSON value ([`select`]).
//!
//! Nothing here says anything of a value in an error: faults name where and what is
//! allowed.

pub mod json;
pub mod registry;
pub mod select;
mod usage;
mod value;

pub use usage::use_fault;
pub use value::{CredentialValue, RegistryValue, TlsValue, WebhookValue};

use crate::name::{NAME_MAX_BYTES, Name};

/// Most bytes of one value.
pub const VALUE_MAX_BYTES: usize = 256 * 1024;
/// Most credentials of one project.
pub const PER_PROJECT_MAX: u32 = 1_000;
/// How many versions of a credential are kept; older ones that are in use stay too.
pub const VERSIONS_KEPT: u32 = 100;
/// How many values one data key seals: half of what random nonces allow.
pub const SEALED_PER_EPOCH_MAX: i64 = 1 << 31;
/// Longest `NAME=VALUE` and its end that Linux gives a program.
pub const ENV_MAX_BYTES: usize = 128 * 1024;

/// What a credential is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialKind {
    /// A login at a registry of images, chosen by the image's registry.
    Registry,
    /// One value, or structured data.
    Secret,
    /// A certificate and its private key.
    Tls,
    /// An address that is told what happens, and with what it is signed.
    Webhook,
}

impl CredentialKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Registry, Self::Secret, Self::Tls, Self::Webhook];

    /// The name, as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Secret => "secret",
            Self::Tls => "tls",
            Self::Webhook => "webhook",
        }
    }

    /// The kind of that name; `None` for any other text.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How a value is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bytes, as they are.
    Bytes,
    /// A JSON object, as it came.
    Json,
}

impl Form {
    /// The name, as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Json => "json",
        }
    }

    /// The form of that name; `None` for any other text.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Bytes, Self::Json].into_iter().find(|form| form.as_str() == name)
    }
}

/// What is wrong with a credential's name, if anything.
///
/// # Errors
/// With what is allowed.
pub fn name(text: &str) -> Result<Name, String> {
    let name = Name::parse(text).map_err(|e| e.to_string())?;
    if uuid::Uuid::parse_str(name.as_str()).is_ok() {
        return Err("must not look like an id".to_owned());
    }
    debug_assert!(name.as_str().len() <= NAME_MAX_BYTES);
    Ok(name)
}

/// Why a value cannot be an environment variable's. Says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitForEnv {
    /// It is no text.
    #[error("is not UTF-8, and an environment variable must be; take a file")]
    NotText,
    /// It would end in the middle.
    #[error("contains a NUL, where an environment variable would end; take a file")]
    Nul,
    /// No program could be started with it.
    #[error("is too long for an environment variable (128 KiB with its name); take a file")]
    TooLong,
}

/// Whether a value can be that of an environment variable of this name.
///
/// # Errors
/// When no program could be started with it, or it would not see the same value.
pub fn fits_env(name: &str, value: &[u8]) -> Result<(), UnfitForEnv> {
    if value.contains(&0) {
        return Err(UnfitForEnv::Nul);
    }
    std::str::from_utf8(value).map_err(|_| UnfitForEnv::NotText)?;
    // The name, `=`, the value, and a NUL.
    if name.len() + value.len() + 2 > ENV_MAX_BYTES {
        return Err(UnfitForEnv::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_form_is_read_back_from_its_name_and_nothing_else_is_one() {
        for kind in CredentialKind::ALL {
            assert_eq!(CredentialKind::parse(kind.as_str()), Some(kind));
        }
        for form in [Form::Bytes, Form::Json] {
            assert_eq!(Form::parse(form.as_str()), Some(form));
        }
        for other in ["", "Secret", "secrets", "json "] {
            assert!(CredentialKind::parse(other).is_none() && Form::parse(other).is_none());
        }
    }

    #[test]
    fn names_are_those_of_everything_else_and_never_look_like_ids() {
        name("db-password").unwrap();
        for bad in ["", "-a", "DB", "a b", "0193c0de-0000-7000-8000-00000000c0de"] {
            name(bad).unwrap_err();
        }
    }

    #[test]
    fn only_a_text_without_nul_that_is_short_enough_fits_a_variable() {
        fits_env("A", b"").unwrap();
        fits_env("A", "pa$$wörd\n".as_bytes()).unwrap();
        fits_env("A", &vec![b'x'; ENV_MAX_BYTES - 3]).unwrap();
        assert_eq!(fits_env("A", &vec![b'x'; ENV_MAX_BYTES - 2]), Err(UnfitForEnv::TooLong));
        assert_eq!(fits_env("A", b"a\0b"), Err(UnfitForEnv::Nul));
        assert_eq!(fits_env("A", b"\xff"), Err(UnfitForEnv::NotText));
    }
}
