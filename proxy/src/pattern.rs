//! Patterns with `*` for names in the configuration.

/// Whether a text matches a pattern. In the pattern, `*` stands for any number of any characters.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, like) in [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("*", "", true),
            ("pay-*", "pay-eu", true),
            ("pay-*", "repay-eu", false),
            ("*-eu", "pay-eu", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), like, "{pattern} {text}");
        }
    }
}
