//! Names and texts of clients, as logs and records keep them.

/// Bytes of a name or a text. What is longer is cut.
const MAX_TEXT: usize = 255;

/// The text, or as much of it as is kept.
pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
