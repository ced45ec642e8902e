//! RocketMQ's SQL92 filters: compares the properties of a message, with three-valued logic.
//!
//! The language has `=` `<>` `<` `>` `<=` `>=` `BETWEEN` `IN` `CONTAINS` `STARTSWITH` `ENDSWITH` `IS NULL` `AND` `OR`
//! `NOT`, numbers, 'strings', `TRUE` and `FALSE`, and comments. The grammar is that of Apache's brokers. It is small
//! and differs from SQL, so a general SQL parser does not fit.
//!
//! Expressions are untrusted and run on every message, so their length, nesting and number of operations are limited. An
//! expression is compiled to a flat list of operations on a stack. Neither evaluation nor dropping recurses.

mod evaluate;
mod instruction;
mod lexer;
mod parser;
mod syntax_error;

use crate::service::Message;
use instruction::Instruction;
pub(super) use syntax_error::SyntaxError;

/// The maximum length of an expression, in bytes.
const MAX_LENGTH: usize = 64 << 10;
/// How many operations cost about as much as decoding a message.
const OPERATIONS_PER_DECODE: usize = 16;
/// How many operations cost about as much as a substring search in a property.
const OPERATIONS_PER_SEARCH: usize = OPERATIONS_PER_DECODE;

/// A compiled expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SqlExpression {
    operations: Vec<Instruction>,
    cost: usize,
}

impl SqlExpression {
    /// Compiles an expression. Text after a complete expression is ignored, as in Apache's brokers.
    ///
    /// # Errors
    /// [`SyntaxError`], also for an expression that is too long, too deeply nested or too complex.
    pub(super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > MAX_LENGTH {
            return Err(SyntaxError(format!("it is longer than {MAX_LENGTH} bytes")));
        }
        let operations = parser::parse(text)?;
        let is_search = |operation: &&Instruction| matches!(operation, Instruction::Search { .. });
        let searches = operations.iter().filter(is_search).count();
        let weight = operations.len() + searches * (OPERATIONS_PER_SEARCH - 1);
        Ok(Self { operations, cost: 1 + weight / OPERATIONS_PER_DECODE })
    }

    /// Whether the expression is true for this message, and not false, unknown, a number or a string.
    pub(super) fn is_true_for(&self, message: &Message) -> bool {
        evaluate::is_true(&self.operations, message)
    }

    /// The cost of an evaluation, in multiples of the cost of decoding a message.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        SqlExpression::parse(text).expect(text).is_true_for(&message)
    }

    #[test]
    fn filters_that_pass() {
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
            "n = 2L AND x BETWEEN 1l AND 9L",
            "n = /* two */ 2 -- more\n AND color = 'red'",
            "color CONTAINS 'e'",
            "color contains 'red'",
            "color NOT CONTAINS 'x'",
            "color STARTSWITH 're'",
            "color NOT STARTSWITH 'ed'",
            "color ENDSWITH 'ed'",
            "color NOT ENDSWITH 're'",
            "color CONTAINS 'e' AND n CONTAINS '2'",
            "KEYS CONTAINS 'k2'",
            "NOT (nope CONTAINS 'a')",
            "NOT nope CONTAINS 'a'",
            "color CONTAINS 'x' = FALSE",
        ] {
            assert!(passes(text), "{text}");
        }
    }

    #[test]
    fn filters_that_do_not_pass() {
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
            "n = 2L AND color = 'blue'",
            "color CONTAINS 'x'",
            "color NOT CONTAINS 'red'",
            "color STARTSWITH 'ed'",
            "color ENDSWITH 're'",
            "nope CONTAINS 'a'",
            "nope NOT CONTAINS 'a'",
            "nope NOT STARTSWITH 'a'",
            "color CONTAINS ''",
            "color NOT CONTAINS ''",
            "2 CONTAINS '2'",
            "2 NOT ENDSWITH '3'",
        ] {
            assert!(!passes(text), "{text}");
        }
    }

    #[test]
    fn invalid_expressions_are_refused() {
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
            "color CONTAINS",
            "color CONTAINS red",
            "color STARTSWITH 1",
            "CONTAINS = 'a'",
            "n = 1 /* open",
        ] {
            assert!(SqlExpression::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        for text in ["(", "NOT ", "- ", "+ ", "n = (", "n IN ('a') AND NOT ("] {
            assert!(SqlExpression::parse(&text.repeat(200)).is_err(), "{text}");
        }
    }

    #[test]
    fn long_chains_are_parsed_or_refused_by_their_size() {
        for (first, more) in [
            ("TRUE", " OR TRUE"),
            ("TRUE", " AND TRUE"),
            ("n = 2", " OR n = 2"),
            ("TRUE", " = TRUE"),
            ("n", " BETWEEN 1 AND 2"),
            ("n", " NOT BETWEEN 1 AND 2"),
            ("n", " IS NOT NULL"),
            ("n", " < 3"),
            ("color IN ('red'", ", 'blue'"),
            ("color CONTAINS 'e'", " OR color CONTAINS 'e'"),
        ] {
            let chain = |length: usize| format!("{first}{})", more.repeat(length));
            let small = SqlExpression::parse(&chain(500)).unwrap_or_else(|error| panic!("{more}: {error}"));
            assert!(small.operations.len() <= 5_000, "{more}");
            small.is_true_for(&Message::default());
            for length in [5_000, 20_000, 1_000_000] {
                assert!(SqlExpression::parse(&chain(length)).is_err(), "{more}");
            }
        }
    }

    #[test]
    fn errors_quote_only_a_part_of_the_expression() {
        let error = SqlExpression::parse(&format!("n IS '{}'", "x".repeat(10_000))).expect_err("not NULL");
        assert!(error.to_string().len() < 200, "{error}");
    }

    #[test]
    fn a_search_costs_as_much_as_a_message() {
        let cost = |text: &str| SqlExpression::parse(text).expect(text).cost();
        assert_eq!(cost("n = 1"), 1);
        assert!(cost(&format!("{}TRUE", "color CONTAINS 'e' OR ".repeat(100))) > 100);
    }

    const WORDS: [&str; 30] = [
        "n",
        "color",
        "TAGS",
        "KEYS",
        "nope",
        "1",
        "2.5",
        "'red'",
        "'it''s'",
        "TRUE",
        "FALSE",
        "NULL",
        "AND",
        "OR",
        "NOT",
        "BETWEEN",
        "IN",
        "IS",
        "(",
        ")",
        ",",
        "=",
        "<>",
        "<",
        ">=",
        "-",
        "CONTAINS",
        "STARTSWITH",
        "ENDSWITH",
        "/**/",
    ];

    proptest! {
        #[test]
        fn any_words_are_parsed_and_evaluated_or_refused(words in prop::collection::vec(0..WORDS.len(), 0..200)) {
            let text: Vec<&str> = words.iter().map(|word| WORDS[*word]).collect();
            if let Ok(expression) = SqlExpression::parse(&text.join(" ")) {
                prop_assert!(expression.operations.len() <= 2 * words.len());
                expression.is_true_for(&Message::default());
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            let _ = SqlExpression::parse(&text);
        }
    }
}
