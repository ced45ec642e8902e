//! Why a text is not a valid SQL92 filter.

/// Why a text is not a valid expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse the consumer's subscription failed: {0}")]
pub(in super::super) struct SyntaxError(pub(super) String);
