//! The lexer of SQL92 filters.

use super::syntax_error::SyntaxError;

/// A token of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// The name of a property, or a keyword.
    Word(String),
    Text(String),
    Integer(i64),
    Float(f64),
    /// One of [`SYMBOLS`].
    Symbol(&'static str),
}

/// Operators and punctuation. Longer ones first, since they begin with the shorter ones.
const SYMBOLS: [&str; 13] = ["<>", "!=", "<=", ">=", "=", "<", ">", "(", ")", ",", "+", "-", "*"];

/// Removes the next token from the start of the text. Returns `None` at the end.
pub(super) fn next(text: &mut &str) -> Result<Option<Token>, SyntaxError> {
    skip_blanks_and_comments(text)?;
    let Some(first) = text.chars().next() else { return Ok(None) };
    if first == '\'' {
        return quoted(text).map(Some);
    }
    if first.is_ascii_digit() || (first == '.' && text[1..].starts_with(|c: char| c.is_ascii_digit())) {
        return number(text).map(Some);
    }
    if first.is_ascii_alphabetic() || first == '_' || first == '$' {
        let word = take_while(text, |c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
        return Ok(Some(Token::Word(word.to_owned())));
    }
    for symbol in SYMBOLS {
        if let Some(rest) = text.strip_prefix(symbol) {
            *text = rest;
            return Ok(Some(Token::Symbol(symbol)));
        }
    }
    Err(SyntaxError(format!("unexpected {first:?}")))
}

/// Skips white space and comments: `-- to the end of the line` and `/* between these */`.
fn skip_blanks_and_comments(text: &mut &str) -> Result<(), SyntaxError> {
    loop {
        *text = text.trim_start();
        if let Some(comment) = text.strip_prefix("--") {
            *text = comment.find(['\n', '\r']).map_or("", |end| &comment[end..]);
        } else if let Some(comment) = text.strip_prefix("/*") {
            let Some((_, after)) = comment.split_once("*/") else {
                return Err(SyntaxError("unterminated comment".to_owned()));
            };
            *text = after;
        } else {
            return Ok(());
        }
    }
}

/// Reads a string in single quotes. Two quotes in it stand for one.
fn quoted(text: &mut &str) -> Result<Token, SyntaxError> {
    let mut content = String::new();
    let mut rest = &text[1..];
    loop {
        let Some((part, after)) = rest.split_once('\'') else {
            return Err(SyntaxError("unterminated string".to_owned()));
        };
        content.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                content.push('\'');
                rest = more;
            }
            None => {
                *text = after;
                return Ok(Token::Text(content));
            }
        }
    }
}

fn number(text: &mut &str) -> Result<Token, SyntaxError> {
    let mut exponent = false;
    let digits = take_while(text, |c| {
        let sign = exponent && (c == '+' || c == '-');
        exponent = c == 'e' || c == 'E';
        c.is_ascii_digit() || c == '.' || exponent || sign
    });
    if let Ok(integer) = digits.parse() {
        // As in Java, an integer may end in L.
        *text = text.strip_prefix(['l', 'L']).filter(|_| !digits.starts_with('0')).unwrap_or(text);
        return Ok(Token::Integer(integer));
    }
    digits.parse().map(Token::Float).map_err(|_| SyntaxError(format!("{digits} is not a number")))
}

fn take_while<'a>(text: &mut &'a str, mut wanted: impl FnMut(char) -> bool) -> &'a str {
    let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}
