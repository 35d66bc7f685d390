//! Pages by key, so that a list that grows while it is read neither skips nor
//! repeats, and the hundredth page costs what the first does.

use std::{fmt, str::FromStr};

use domain::Timestamp;
use uuid::Uuid;

/// Where a page begins: after this row. Opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) at: Timestamp,
    pub(crate) id: Uuid,
}

/// A text that is not a cursor of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a next_cursor of an earlier answer")]
pub struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.at.timestamp_micros(), self.id.simple())
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (at, id) = text.split_once('.').ok_or(InvalidCursor)?;
        let micros = i64::from_str_radix(at, 16).map_err(|_| InvalidCursor)?;
        let at = Timestamp::from_timestamp_micros(micros).ok_or(InvalidCursor)?;
        Ok(Self { at, id: Uuid::parse_str(id).map_err(|_| InvalidCursor)? })
    }
}

/// Rows, and where the next ones begin.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// `None` on the last page.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Makes a page of `limit` out of up to `limit + 1` rows.
    pub(crate) fn cut(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> Cursor) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }

    /// Maps the rows.
    ///
    /// # Errors
    /// With the first failure of `f`.
    pub fn try_map<U, E>(self, f: impl FnMut(T) -> Result<U, E>) -> Result<Page<U>, E> {
        Ok(Page { items: self.items.into_iter().map(f).collect::<Result<_, _>>()?, next: self.next })
    }
}

/// One more than asked for tells whether there is a next page.
pub(crate) fn fetch_limit(limit: usize) -> i64 {
    i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_other_texts_are_refused() {
        let cursor =
            Cursor { at: Timestamp::from_timestamp_micros(1_234_567).unwrap(), id: Uuid::from_u128(7) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", ".", "zz.1", "1.zz", "1"] {
            assert_eq!(bad.parse::<Cursor>(), Err(InvalidCursor), "{bad}");
        }
    }
}
