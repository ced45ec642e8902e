//! Truncates names and texts of clients for logs and trace records.

/// The maximum number of bytes of a name or a text.
const MAX_TEXT: usize = 255;

/// Truncates a text to [`MAX_TEXT`] bytes, at a character boundary.
pub(super) fn truncate(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
