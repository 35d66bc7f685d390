//! What is wrong with a declaration, field by field.

use std::fmt;

/// One thing that is wrong with a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// Path of the field, such as `ports[0].host_port`.
    pub field: String,
    /// What is allowed.
    pub message: String,
}

/// Faults as they are found.
#[derive(Default)]
pub(crate) struct Faults(pub(crate) Vec<FieldFault>);

impl Faults {
    pub(crate) fn unless(&mut self, fine: bool, field: impl Into<String>, message: impl Into<String>) {
        if !fine {
            self.0.push(FieldFault { field: field.into(), message: message.into() });
        }
    }

    /// Whether a number is in its range; the message names both ends.
    pub(crate) fn range<T: PartialOrd + fmt::Display>(&mut self, field: &str, value: &T, least: T, most: T) {
        let fine = (&least..=&most).contains(&value);
        self.unless(fine, field, format!("must be {least} to {most}"));
    }

    /// Whether a list is short enough.
    pub(crate) fn length(&mut self, field: &str, length: usize, most: usize, what: &str) {
        self.unless(length <= most, field, format!("must have at most {most} {what}"));
    }
}
