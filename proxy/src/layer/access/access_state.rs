//! What is in force: users, policies and issuers.

use std::sync::Arc;

use super::rules::Rules;
use super::token::Issuers;

/// The users, policies and issuers in force.
pub(super) struct AccessState {
    pub(super) rules: Arc<Rules>,
    pub(super) issuers: Arc<Issuers>,
}
