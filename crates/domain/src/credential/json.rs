//! JSON that is kept as it came: read in place, never taken apart.
//!
//! Parts of a text are borrowed from it, so nothing of a secret is copied but what is
//! asked for, and numbers, spaces and the order of members stay as they were written.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// How deep a value may be nested.
const DEPTH_MAX: usize = 64;

/// Why a text is not taken as structured data. Says nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// It is not JSON, or has a text that is not Unicode.
    #[error("must be JSON")]
    NotJson,
    /// It is JSON, and not an object.
    #[error("must be a JSON object")]
    NotAnObject,
    /// Readers differ in which of two members they take.
    #[error("must not have two members of one name in an object")]
    Duplicate,
    /// It is nested too deeply.
    #[error("must not be nested more than 64 deep")]
    TooDeep,
}

/// The members of an object, in their order.
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    members.push((key, map.next_value()?));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Members)
    }
}

/// A member's name, borrowed where it is written without escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Text).map(Key)
    }
}

/// The elements of an array.
pub(super) struct Elements<'a>(pub(super) Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Vec<&'de RawValue>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(Array).map(Elements)
    }
}

/// What a value is, as far as it matters here: by its first character.
pub(super) enum Shape<'a> {
    Object(Members<'a>),
    Array(Elements<'a>),
    Text(&'a RawValue),
    /// A number, `true`, `false` or `null`.
    Plain,
}

/// Looks into a value.
pub(super) fn shape(raw: &RawValue) -> Option<Shape<'_>> {
    let text = raw.get();
    Some(match text.bytes().next()? {
        b'{' => Shape::Object(serde_json::from_str(text).ok()?),
        b'[' => Shape::Array(serde_json::from_str(text).ok()?),
        b'"' => Shape::Text(raw),
        _ => Shape::Plain,
    })
}

/// Whether a text can be kept as structured data.
///
/// # Errors
/// With the first thing that is wrong.
pub fn check_object(text: &[u8]) -> Result<(), JsonFault> {
    let raw: &RawValue = serde_json::from_slice(text).map_err(|_| JsonFault::NotJson)?;
    if !raw.get().starts_with('{') {
        return Err(JsonFault::NotAnObject);
    }
    check(raw, DEPTH_MAX)
}

fn check(raw: &RawValue, depth_left: usize) -> Result<(), JsonFault> {
    match shape(raw).ok_or(JsonFault::NotJson)? {
        Shape::Plain => Ok(()),
        Shape::Text(raw) => {
            // Wiped again: a text with escapes is put together for this look.
            let read = serde_json::from_str::<crate::secret::Secret>(raw.get());
            read.map(drop).map_err(|_| JsonFault::NotJson)
        }
        _ if depth_left == 0 => Err(JsonFault::TooDeep),
        Shape::Array(Elements(elements)) => {
            elements.into_iter().try_for_each(|element| check(element, depth_left - 1))
        }
        Shape::Object(Members(members)) => {
            let mut names = std::collections::BTreeSet::new();
            if !members.iter().all(|(name, _)| names.insert(name)) {
                return Err(JsonFault::Duplicate);
            }
            members.iter().try_for_each(|(_, member)| check(member, depth_left - 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_taken_however_it_is_written() {
        for fine in ["{}", " {\"a\" : 1.0e400 , \"b\":[1,\n{\"c\":null}]}\n", "{\"\":\"\\u00e9\"}"] {
            check_object(fine.as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_is_no_object_or_is_read_in_two_ways_is_refused() {
        use JsonFault::{Duplicate, NotAnObject, NotJson, TooDeep};
        let deep = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        check_object(deep(DEPTH_MAX - 1).as_bytes()).unwrap();
        for (bad, fault) in [
            ("", NotJson),
            ("{", NotJson),
            ("{} {}", NotJson),
            ("{'a':1}", NotJson),
            ("[1]", NotAnObject),
            ("\"a\"", NotAnObject),
            ("{\"a\":1,\"a\":1}", Duplicate),
            ("{\"a\":1,\"\\u0061\":1}", Duplicate),
            ("{\"x\":[{\"a\":1,\"b\":2,\"a\":3}]}", Duplicate),
            ("{\"a\":\"\\ud800\"}", NotJson),
            (deep(DEPTH_MAX).as_str(), TooDeep),
            (deep(100_000).as_str(), TooDeep),
        ] {
            assert_eq!(check_object(bad.as_bytes()), Err(fault), "{}", &bad[..bad.len().min(40)]);
        }
        assert_eq!(check_object(b"{\"a\":\"\xff\"}"), Err(NotJson));
    }
}
