//! Names and labels that people choose, checked once when they come in.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Longest name, in bytes: what a DNS label may have, because names become
/// host names inside containers.
pub const NAME_MAX_BYTES: usize = 63;
/// Most labels on one node.
pub const LABELS_MAX: usize = 64;

/// A name of a deployment or node: lower-case letters, digits and inner hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to 63 characters: lower-case letters, digits, and hyphens that are neither first nor last"
)]
pub struct InvalidName;

impl Name {
    /// Checks a text and takes it over.
    ///
    /// # Errors
    /// When the text is empty, too long, or has another character.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let inner = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let ends = !text.starts_with('-') && !text.ends_with('-');
        let length = (1..=NAME_MAX_BYTES).contains(&text.len());
        if inner && ends && length { Ok(Self(text)) } else { Err(InvalidName) }
    }

    /// Makes the nearest name to any text, for host names that were never meant
    /// to be names here: `Web_01.example.org` becomes `web-01-example-org`.
    #[must_use]
    pub fn nearest(text: &str) -> Self {
        let mapped: String = text
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
            .take(NAME_MAX_BYTES)
            .collect();
        let trimmed = mapped.trim_matches('-');
        // What reads as an id would never be looked up as a name.
        let reads_as_id = uuid::Uuid::parse_str(trimmed).is_ok();
        Self(match trimmed {
            "" => "node".to_owned(),
            id if reads_as_id => format!("node-{id}"),
            name => name.to_owned(),
        })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Labels of a node: what placement constraints match against.
pub type Labels = BTreeMap<String, String>;

/// Says what is wrong with a set of labels, if anything.
#[must_use]
pub fn labels_fault(labels: &Labels) -> Option<String> {
    if labels.len() > LABELS_MAX {
        return Some(format!("at most {LABELS_MAX} labels are allowed, not {}", labels.len()));
    }
    labels.iter().find_map(|(key, value)| {
        let key_ok = (1..=63).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
        let value_ok = value.len() <= 255 && !value.contains(char::is_control);
        match (key_ok, value_ok) {
            (true, true) => None,
            (false, _) => Some(format!(
                "label key {key:?} must be 1 to 63 characters of letters, digits, '-', '_', '.' and '/'"
            )),
            (_, false) => Some(format!("value of label {key:?} must have at most 255 printable characters")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_with_other_characters_are_refused() {
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"a".repeat(64)] {
            assert_eq!(Name::parse(bad), Err(InvalidName), "{bad:?}");
        }
        assert!(Name::parse("web-1").is_ok());
    }

    proptest! {
        #[test]
        fn the_nearest_name_is_always_a_name(text in ".{0,80}") {
            prop_assert!(Name::parse(Name::nearest(&text).as_str()).is_ok());
        }
    }
}
