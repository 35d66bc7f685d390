//! Which part of a value a use gets.
//!
//! Without a key it is the whole value. With one, the value must be JSON: the key is
//! the name of a member at the top, or a JSON Pointer (RFC 6901) when it begins with
//! `/`. A text gives its own bytes; everything else gives its JSON, as it was written.

use serde_json::value::RawValue;

use super::{
    Form,
    json::{Elements, Members, Shape, shape},
};
use crate::secret::Secret;

/// Longest key.
pub const KEY_MAX_BYTES: usize = 1024;

/// Why a key selects nothing. Shows the key, which is part of a declaration, and
/// nothing of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectFault {
    /// The value is not JSON.
    #[error("selects nothing: the credential has one value and no keys")]
    NoKeys,
    /// There is no such member or element.
    #[error("selects nothing: there is no such key in the credential")]
    Unknown,
    /// It begins with `/` and is no pointer.
    #[error("must be the name of a member, or a JSON pointer such as /database/password")]
    Malformed,
}

/// Selects a part of a value.
///
/// # Errors
/// When there is none.
pub fn select(form: Form, value: &Secret, key: Option<&str>) -> Result<Secret, SelectFault> {
    let Some(key) = key else { return Ok(Secret::copy_of(value.reveal())) };
    if form == Form::Bytes {
        return Err(SelectFault::NoKeys);
    }
    let whole: &RawValue = serde_json::from_slice(value.reveal()).map_err(|_| SelectFault::Unknown)?;
    let selected = match key.strip_prefix('/') {
        None => step(whole, key),
        Some(path) => path.split('/').try_fold(whole, |at, token| step(at, &unescape(token)?)),
    }?;
    if selected.get().starts_with('"') {
        return serde_json::from_str(selected.get()).map_err(|_| SelectFault::Unknown);
    }
    Ok(Secret::copy_of(selected.get().as_bytes()))
}

/// One step down: by name into an object, by number into an array.
fn step<'a>(at: &'a RawValue, token: &str) -> Result<&'a RawValue, SelectFault> {
    let found = match shape(at).ok_or(SelectFault::Unknown)? {
        Shape::Object(Members(members)) => {
            members.into_iter().find(|(name, _)| name == token).map(|(_, member)| member)
        }
        Shape::Array(Elements(elements)) => index(token).and_then(|at| elements.get(at).copied()),
        Shape::Text(_) | Shape::Plain => None,
    };
    found.ok_or(SelectFault::Unknown)
}

/// An array's index as RFC 6901 writes it: digits without a leading zero.
fn index(token: &str) -> Option<usize> {
    let digits = !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit());
    if !digits || (token.len() > 1 && token.starts_with('0')) { None } else { token.parse().ok() }
}

/// `~1` is `/` and `~0` is `~`; any other `~` is a fault.
fn unescape(token: &str) -> Result<String, SelectFault> {
    let mut parts = token.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (with, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', part.get(1..)),
            Some(b'1') => ('/', part.get(1..)),
            _ => return Err(SelectFault::Malformed),
        };
        text.push(with);
        text.push_str(rest.unwrap_or_default());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selected(value: &str, key: Option<&str>) -> Result<String, SelectFault> {
        let part = select(Form::Json, &Secret::copy_of(value.as_bytes()), key)?;
        Ok(String::from_utf8(part.reveal().to_vec()).unwrap())
    }

    const VALUE: &str = r#"{ "password" : "pa$$ \"\u00e9\n", "port":5432.0, "on": true, "none":null,
        "list": [ 1,  {"a/b":"slash"} , "x" ], "a~b": {"":"empty"}, "/p": "odd" }"#;

    #[test]
    fn a_text_gives_its_own_bytes_and_everything_else_its_json() {
        for (key, part) in [
            ("password", "pa$$ \"é\n"),
            ("port", "5432.0"),
            ("on", "true"),
            ("none", "null"),
            ("list", "[ 1,  {\"a/b\":\"slash\"} , \"x\" ]"),
            ("/list/1", "{\"a/b\":\"slash\"}"),
            ("/list/1/a~1b", "slash"),
            ("/list/0", "1"),
            ("/list/2", "x"),
            ("/a~0b/", "empty"),
            ("a~b", "{\"\":\"empty\"}"),
            ("/~1p", "odd"),
        ] {
            assert_eq!(selected(VALUE, Some(key)).as_deref(), Ok(part), "{key}");
        }
        assert_eq!(selected(VALUE, None).as_deref(), Ok(VALUE), "the whole is as it came");
    }

    #[test]
    fn what_is_not_there_is_not_selected() {
        for key in [
            "",
            "Password",
            "password ",
            "/",
            "/p",
            "/list/3",
            "/list/01",
            "/list/-",
            "/list/+1",
            "/port/0",
            "/password/0",
        ] {
            assert_eq!(selected(VALUE, Some(key)), Err(SelectFault::Unknown), "{key}");
        }
        for key in ["/a~b", "/a~", "/~2"] {
            assert_eq!(selected(VALUE, Some(key)), Err(SelectFault::Malformed), "{key}");
        }
        let bytes = Secret::copy_of(b"{\"a\":1}");
        assert_eq!(select(Form::Bytes, &bytes, Some("a")).err(), Some(SelectFault::NoKeys));
    }

    proptest! {
        #[test]
        fn every_value_of_bytes_is_given_as_it_is(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let secret = Secret::new(bytes.clone());
            let whole = select(Form::Bytes, &secret, None).unwrap();
            prop_assert_eq!(whole.reveal(), bytes);
        }

        #[test]
        fn a_text_survives_json_byte_for_byte(text in any::<String>(), name in any::<String>()) {
            let value = serde_json::json!({ &name: { "inner": text } }).to_string();
            let pointer = format!("/{}/inner", name.replace('~', "~0").replace('/', "~1"));
            prop_assert_eq!(selected(&value, Some(&pointer)), Ok(text));
        }

        #[test]
        fn any_key_on_any_text_is_answered(value in any::<String>(), key in any::<String>()) {
            let _ = selected(&value, Some(&key));
        }
    }
}
