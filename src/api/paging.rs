//! Lists: `limit`, `skip` and `count`, the same for every collection.

use axum::http::Uri;

use super::error::{Error, Result};
use super::extract::Query;
use crate::store::Page;

/// Rows when nobody says how many.
pub(super) const LIMIT_DEFAULT: usize = 30;

/// Most rows of one answer; also what a limit of 0 means.
pub(super) const LIMIT_MAX: usize = 200;

/// Which part of a list, or how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Rows.
    Rows(Page),
    /// How many there are behind the first `skip`.
    Count { skip: usize },
}

/// What the query asks of `collection`, a plural.
pub(super) fn asked(uri: &Uri, collection: &str) -> Result<Asked> {
    let query = Query::of(uri);
    let limit = number(query, "limit", collection)?;
    let limit = match limit.map(usize::try_from) {
        None => LIMIT_DEFAULT,
        Some(Ok(0)) => LIMIT_MAX,
        Some(Ok(limit)) if limit <= LIMIT_MAX => limit,
        Some(_) => {
            let value = limit.unwrap_or_default();
            let detail = format!(
                "The value '{value}' is not in the range of 0 to {LIMIT_MAX} for {collection}."
            );
            return Err(Error::query("limit", detail));
        }
    };
    let skip = number(query, "skip", collection)?.unwrap_or(0);
    let Ok(skip) = usize::try_from(skip) else {
        let detail =
            format!("The value '{skip}' is not greater than or equal to 0 for {collection}.");
        return Err(Error::query("skip", detail));
    };
    if query.flag("count")? {
        return Ok(Asked::Count { skip });
    }
    Ok(Asked::Rows(Page { skip, limit }))
}

fn number(query: Query<'_>, name: &str, collection: &str) -> Result<Option<i64>> {
    let Some(text) = query.get(name)? else {
        return Ok(None);
    };
    let number = text.parse().map_err(|_| {
        let detail = format!("The value '{text}' is not an integer for {collection}.");
        Error::query(name, detail)
    })?;
    Ok(Some(number))
}
