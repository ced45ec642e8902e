//! Which messages a receive wants.

use bytes::Bytes;

use super::binary::Malformed;
use super::codec;
use super::sql::Expression;
use crate::service::{Filter, ServiceError, ServiceErrorKind};

/// A filter that is ready to be asked.
pub(super) enum Matcher {
    /// Everything passes.
    All,
    /// One of these tags.
    Tags(Vec<String>),
    /// The expression is true.
    Sql(Expression),
}

impl Matcher {
    /// Makes a filter ready.
    pub(super) fn new(filter: Filter) -> Result<Self, ServiceError> {
        Ok(match filter {
            Filter::All => Self::All,
            Filter::Tags(tags) => Self::Tags(tags),
            Filter::Sql(text) => {
                let parsed = Expression::parse(&text);
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
            Self::Tags(tags) => {
                Ok(codec::tag(message)?.is_some_and(|tag| tags.iter().any(|wanted| wanted == tag)))
            }
            Self::Sql(expression) => Ok(expression.is_true_for(&codec::decode(message)?.message)),
        }
    }
}
