//! RocketMQ's SQL92 filters: comparisons of a message's properties, with three-valued logic.
//!
//! `=` `<>` `<` `>` `<=` `>=` `BETWEEN` `IN` `IS NULL` `AND` `OR` `NOT`, numbers, 'texts', `TRUE` and `FALSE`. The
//! grammar is that of Apache's brokers, which is too small, and too much of its own, for a general SQL parser.

mod evaluate;
mod lexer;
mod parser;

use crate::service::Message;

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expression(Node);

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse the consumer's subscription failed: {0}")]
pub(super) struct SyntaxError(String);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Property(String),
    Constant(Value),
    Compare(Comparison, Box<Node>, Box<Node>),
    In(Box<Node>, Vec<String>),
    IsNull(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negative(Box<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Expression {
    /// Parses an expression. What follows a complete expression is passed over, as Apache's brokers do.
    pub(super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        parser::parse(text).map(Self)
    }

    /// Whether it is true for this message; neither false nor unknown nor no truth value at all.
    pub(super) fn is_true_for(&self, message: &Message) -> bool {
        evaluate::evaluate(&self.0, message) == Value::Bool(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(text: &str) -> bool {
        let property = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let message = Message {
            tag: Some("t".to_owned()),
            keys: vec!["k1".to_owned(), "k2".to_owned()],
            properties: vec![
                property("n", "2"),
                property("x", "2.5"),
                property("color", "red"),
                property("on", "true"),
            ],
            ..Message::default()
        };
        Expression::parse(text).expect(text).is_true_for(&message)
    }

    #[test]
    fn what_is_true() {
        for text in [
            "n = 2",
            "n > 1",
            "n >= 2 AND n <= 2",
            "n < 2.5",
            "x = 2.5",
            "n <> 3",
            "color = 'red'",
            "color <> 'blue'",
            "n BETWEEN 1 AND 2",
            "n NOT BETWEEN 3 AND 4",
            "color IN ('green', 'red')",
            "color NOT IN ('green', 'blue')",
            "nope IS NULL",
            "n IS NOT NULL",
            "NOT (n = 3)",
            "not n = 3",
            "TRUE",
            "on = TRUE",
            "n = 3 OR color = 'red' AND n = 2",
            "(n = 2 OR n = 3) AND color = 'red'",
            "TAGS = 't'",
            "KEYS = 'k1 k2'",
            "nope = 1 OR TRUE",
            "-n = -2",
            "n > -1",
            "x > n",
            "n = 2 -- and what follows",
        ] {
            assert!(passes(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_true() {
        for text in [
            "n = 3",
            "color = 'it''s'",
            "nope = 1",
            "NOT (nope = 1)",
            "nope <> 1",
            "nope IN ('a')",
            "nope NOT IN ('a')",
            "color > 1",
            "n",
            "n + 1",
            "color LIKE 'r%'",
            "color",
            "FALSE",
            "nope = 1 AND TRUE",
            "n BETWEEN 2.1 AND 9",
        ] {
            assert!(!passes(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression() {
        for text in [
            "",
            "n >",
            "> 1",
            "(n = 1",
            "n = 'open",
            "n IN ()",
            "n BETWEEN 1",
            "n IS 1",
            "color > 'a'",
            "AND",
            "n IN (1)",
        ] {
            assert!(Expression::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(Expression::parse(&"(".repeat(100_000)).is_err());
        assert!(Expression::parse(&"NOT ".repeat(100_000)).is_err());
    }
}
