//! Whether a use can be served by a value.

use super::{Form, fits_env, select::select};
use crate::{
    secret::Secret,
    spec::{SecretTarget, SecretUse},
};

/// What is wrong with a use of this value, if anything: the field of the use, and why.
/// Says nothing of the value.
#[must_use]
pub fn use_fault(used: &SecretUse, form: Form, value: &Secret) -> Option<(&'static str, String)> {
    let part = match select(form, value, used.key.as_deref()) {
        Ok(part) => part,
        Err(e) => return Some(("key", e.to_string())),
    };
    match &used.target {
        SecretTarget::File { .. } => None,
        SecretTarget::Env { name } => {
            fits_env(name, part.reveal()).err().map(|e| ("as.env", format!("gets a value that {e}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    fn used(key: Option<&str>, target: SecretTarget) -> SecretUse {
        SecretUse { key: key.map(str::to_owned), ..SecretUse::new(Name::parse("db").unwrap(), target) }
    }

    fn env() -> SecretTarget {
        SecretTarget::Env { name: "DB".to_owned() }
    }

    fn fault(used: &SecretUse, form: Form, value: &[u8]) -> Option<&'static str> {
        use_fault(used, form, &Secret::copy_of(value)).map(|(field, message)| {
            assert!(!message.contains("hunter2"), "{message}");
            field
        })
    }

    #[test]
    fn a_file_takes_any_bytes_and_a_variable_only_text() {
        let (file, variable) = (used(None, SecretTarget::file("/run/db")), used(None, env()));
        for value in [&b""[..], b"hunter2\n", b"$hunter2"] {
            assert_eq!(
                (fault(&file, Form::Bytes, value), fault(&variable, Form::Bytes, value)),
                (None, None)
            );
        }
        for value in [&b"hunter2\0"[..], b"hunter2\xff"] {
            assert_eq!(fault(&file, Form::Bytes, value), None);
            assert_eq!(fault(&variable, Form::Bytes, value), Some("as.env"));
        }
    }

    #[test]
    fn only_the_part_that_is_asked_for_has_to_fit() {
        let value = br#"{"user":"hunter2","nul":"hunter2\u0000"}"#;
        assert_eq!(fault(&used(Some("user"), env()), Form::Json, value), None);
        assert_eq!(fault(&used(Some("nul"), env()), Form::Json, value), Some("as.env"));
        assert_eq!(fault(&used(Some("other"), env()), Form::Json, value), Some("key"));
        assert_eq!(fault(&used(Some("user"), env()), Form::Bytes, value), Some("key"));
    }
}
