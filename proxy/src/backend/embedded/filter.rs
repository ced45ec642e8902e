//! The compiled filter of a receive.

use bytes::Bytes;

use super::binary::Malformed;
use super::codec;
use super::sql::SqlExpression;
use crate::service::{Filter, ServiceError, ServiceErrorKind};

/// A compiled filter.
pub(super) enum Matcher {
    /// Passes every message.
    All,
    /// Passes messages with one of these tags, which are sorted.
    Tags(Vec<String>),
    /// Passes messages for which the expression is true.
    Sql(SqlExpression),
}

impl Matcher {
    /// Compiles a filter.
    ///
    /// # Errors
    /// `IllegalFilter`.
    pub(super) fn new(filter: Filter) -> Result<Self, ServiceError> {
        Ok(match filter {
            Filter::All => Self::All,
            Filter::Tags(mut tags) => {
                tags.sort_unstable();
                tags.dedup();
                Self::Tags(tags)
            }
            Filter::Sql(text) => {
                let parsed = SqlExpression::parse(&text);
                Self::Sql(
                    parsed.map_err(|e| ServiceError::new(ServiceErrorKind::IllegalFilter, e.to_string()))?,
                )
            }
        })
    }

    /// Whether a stored message passes.
    pub(super) fn passes(&self, message: &Bytes) -> Result<bool, Malformed> {
        match self {
            Self::All => Ok(true),
            Self::Tags(tags) => Ok(codec::tag(message)?
                .is_some_and(|tag| tags.binary_search_by(|wanted| wanted.as_str().cmp(tag)).is_ok())),
            Self::Sql(expression) => Ok(expression.is_true_for(&codec::decode(message)?.message)),
        }
    }

    /// The cost of filtering a message: 1, or more for a complex expression.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::All | Self::Tags(_) => 1,
            Self::Sql(expression) => expression.cost(),
        }
    }
}
