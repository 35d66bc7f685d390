//! Lists in pages.

use serde::{Deserialize, Serialize};
use store::{Cursor, Page};
use utoipa::{IntoParams, ToSchema};

use crate::error::Error;

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 500;

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Most items, 1 to 500; 50 when left out.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl PageQuery {
    /// Reads it.
    pub(super) fn read(&self) -> Result<(Option<Cursor>, usize), Error> {
        read(self.limit, self.cursor.as_deref())
    }
}

pub(super) fn read(limit: Option<u32>, cursor: Option<&str>) -> Result<(Option<Cursor>, usize), Error> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Error::invalid_field("limit", format!("must be 1 to {LIMIT_MAX}")));
    }
    let cursor = cursor
        .map(str::parse)
        .transpose()
        .map_err(|e: store::InvalidCursor| Error::invalid_field("cursor", e.to_string()))?;
    Ok((cursor, usize::try_from(limit).unwrap_or(usize::MAX)))
}

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub struct PageView<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// Where the next page begins; null on the last.
    pub next_cursor: Option<String>,
}

impl<T> PageView<T> {
    /// Makes views of rows.
    pub(super) fn of<R>(page: Page<R>, view: impl FnMut(R) -> T) -> Self {
        Self {
            items: page.items.into_iter().map(view).collect(),
            next_cursor: page.next.map(|c| c.to_string()),
        }
    }
}
