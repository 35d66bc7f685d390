//! Texts of programs, registries and engines, as PostgreSQL can hold them.
//!
//! Neither its text nor its JSON knows NUL, and refuses the whole statement. What
//! an agent says again until it is taken over would then never be.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use crate::StoreError;

/// A value as JSON that can be stored: NUL becomes the sign for what cannot be shown.
///
/// # Errors
/// When it has no JSON; `what` names it.
pub(crate) fn json<T: Serialize>(value: &T, what: &'static str) -> Result<Value, StoreError> {
    let mut value = serde_json::to_value(value).map_err(|e| StoreError::corrupt(what, e))?;
    mend(&mut value);
    Ok(value)
}

/// A text that can be stored, likewise.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

fn mend(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = plain(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(mend),
        Value::Object(fields) => fields.values_mut().for_each(mend),
        _ => {}
    }
}
