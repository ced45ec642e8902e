//! Reads header values.

use axum::http::{HeaderMap, HeaderName};

use super::problem::Problem;

/// The text of a header. `None` if the request has no such header.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes());
    text.map(Some).map_err(|_| Problem::bad_request(format!("the header {name} is not UTF-8")))
}

/// The media type in a content type, without parameters, in lower case.
pub(super) fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
