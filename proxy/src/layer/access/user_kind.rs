//! Whether a user is authorized by policies.

use serde::{Deserialize, Serialize};

/// Whether a user is authorized by policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserKind {
    /// The user may do what policies allow.
    #[default]
    Normal,
    /// The user may do everything.
    Super,
}
