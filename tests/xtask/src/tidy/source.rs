//! A file of the checkout and, for Rust, its tokens without comments and test modules.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A file. Its path is relative to the checkout and uses `/`.
#[derive(Debug)]
pub(super) struct Source {
    path: String,
    text: String,
    tokens: Vec<Token>,
}

/// An identifier, a literal or punctuation (`::` is one token), and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Source {
    /// Reads a file. A file that is not UTF-8 is read as empty.
    pub(super) fn read(root: &Path, path: &str) -> Result<Self> {
        let bytes = fs::read(root.join(path)).with_context(|| format!("reading {path}"))?;
        Ok(Self::of(path, &String::from_utf8(bytes).unwrap_or_default()))
    }

    /// A file with this text. Rust that doesn't parse has no tokens; the compiler reports it.
    pub(super) fn of(path: &str, text: &str) -> Self {
        let mut tokens = Vec::new();
        if path.ends_with(".rs") {
            flatten(text.parse().unwrap_or_default(), &mut tokens);
        }
        Self { path: path.to_owned(), text: text.to_owned(), tokens }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The tokens outside `#[cfg(test)] mod …`.
    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The extension without the dot, or an empty text.
    pub(super) fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|extension| extension.to_str()).unwrap_or_default()
    }

    /// Whether the file is in a test folder.
    pub(super) fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.contains("/src/test/")
    }

    /// The lines where this sequence of tokens begins.
    pub(super) fn find(&self, wanted: &[&str]) -> Vec<usize> {
        self.tokens
            .windows(wanted.len())
            .filter(|window| window.iter().zip(wanted).all(|(token, wanted)| token.text == *wanted))
            .map(|window| window[0].line)
            .collect()
    }
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = delimiters(group.delimiter());
                tokens.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
            TokenTree::Ident(ident) if ident == "mod" && follows_cfg_test(tokens) => {
                // Skips the name, and the body or the semicolon, of a test module.
                trees.next();
                trees.next();
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && is_colon(trees.peek()) => {
                trees.next();
                tokens.push(Token { text: "::".to_owned(), line });
            }
            other => tokens.push(Token { text: other.to_string(), line }),
        }
    }
}

fn delimiters(delimiter: Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

fn follows_cfg_test(tokens: &[Token]) -> bool {
    let wanted = ["#", "[", "cfg", "(", "test", ")", "]"];
    tokens.len() >= wanted.len()
        && tokens[tokens.len() - wanted.len()..]
            .iter()
            .zip(wanted)
            .all(|(token, wanted)| token.text == wanted)
}

fn is_colon(tree: Option<&TokenTree>) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_tests_are_not_code() {
        let text = "// std::env\nfn f() { g(\"std::env\"); }\n#[cfg(test)]\nmod tests { use std::env; }\nuse std::env;";
        assert_eq!(Source::of("core/src/a.rs", text).find(&["std", "::", "env"]), [5]);
    }

    #[test]
    fn code_inside_a_macro_call_counts() {
        let source = Source::of("core/src/a.rs", "fn f() {\n  select! { x = crate::front::y() => {} }\n}");
        assert_eq!(source.find(&["crate", "::", "front"]), [2]);
    }
}
