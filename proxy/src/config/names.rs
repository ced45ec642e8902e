//! The names that the configuration may give to entries and clusters.

/// Whether a name is not empty, and consists of letters, digits, `-` and `_`.
pub(super) fn is_valid_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(legal)
}
