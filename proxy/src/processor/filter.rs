//! Parses the filter expressions of clients.

use std::sync::Arc;

use super::host_budget::{HostBudget, Reservation};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::service::Filter;

/// A filter as a client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Tags, separated by `||`. An empty text or `*` matches every message.
    Tags(String),
    /// An SQL92 expression over the properties.
    Sql(String),
}

/// The maximum length of an expression, in bytes. Expressions are kept while receives wait, and are evaluated for each
/// message.
const MAX_LENGTH: usize = 64 << 10;

/// How many bytes of memory the filters of waiting requests take at most. The embedded broker has room for more, so
/// that clients with long filters do not fill it.
const MAX_WAITING: usize = 48 << 20;

/// How many bytes of memory a filter may take without being counted. There may be as many waiting receives with short
/// filters as [`super::Limits`] and the backend allow.
const SHORT: usize = 4 << 10;

/// The budget for the filters of waiting requests.
pub(super) fn budget() -> Arc<HostBudget> {
    HostBudget::new(MAX_WAITING)
}

/// Takes the memory of a filter from the budget until the request ends.
///
/// # Errors
/// `Busy` if the host of the client has used up its share, or all clients together the budget.
pub(super) fn hold(
    budget: &Arc<HostBudget>,
    context: &Context,
    filter: &Filter,
) -> Result<Option<Reservation>, Error> {
    let bytes = filter.memory();
    if bytes <= SHORT {
        return Ok(None);
    }
    let taken = budget.take(context.host(), bytes);
    let busy = || Error::new(ErrorKind::Busy, "the long filters of waiting requests take too much memory");
    taken.map(Some).ok_or_else(busy)
}

/// Converts an expression to a filter. SQL is parsed by the backend.
///
/// # Errors
/// `IllegalFilter` for an expression that is too long, an empty SQL expression, or tags that consist only of separators.
pub(super) fn parse(expression: Expression) -> Result<Filter, Error> {
    match expression {
        Expression::Sql(text) | Expression::Tags(text) if text.len() > MAX_LENGTH => {
            let text = format!("the filter expression is longer than {MAX_LENGTH} bytes");
            Err(Error::new(ErrorKind::IllegalFilter, text))
        }
        Expression::Sql(sql) if sql.is_empty() => {
            Err(Error::new(ErrorKind::IllegalFilter, "Expression can't be null! SQL92"))
        }
        Expression::Sql(sql) => Ok(Filter::Sql(sql)),
        Expression::Tags(tags) if tags.is_empty() || tags == "*" => Ok(Filter::All),
        Expression::Tags(tags) if tags.split("||").all(str::is_empty) => {
            Err(Error::new(ErrorKind::IllegalFilter, "subString split error"))
        }
        Expression::Tags(tags) => {
            let names = tags.split("||").map(str::trim).filter(|tag| !tag.is_empty());
            Ok(Filter::Tags(names.map(str::to_owned).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let tags = |names: &[&str]| Some(Filter::Tags(names.iter().map(|name| (*name).to_owned()).collect()));
        for (text, filter) in [
            ("", Some(Filter::All)),
            ("*", Some(Filter::All)),
            ("a", tags(&["a"])),
            (" a || b ", tags(&["a", "b"])),
            ("a||", tags(&["a"])),
            ("*||a", tags(&["*", "a"])),
            ("a|b", tags(&["a|b"])),
            (" || ", tags(&[])),
            ("||", None),
            ("||||", None),
        ] {
            assert_eq!(parse(Expression::Tags(text.to_owned())).ok(), filter, "{text:?}");
        }
        assert!(parse(Expression::Sql(String::new())).is_err());
        for expression in [Expression::Sql, Expression::Tags] {
            assert!(parse(expression("a || ".repeat(10_000))).is_ok());
            assert!(parse(expression("a || ".repeat(20_000))).is_err());
        }
        assert_eq!(parse(Expression::Sql("a >".to_owned())).ok(), Some(Filter::Sql("a >".to_owned())));
    }
}
