//! What is in force: users, policies and issuers.

use std::sync::Arc;

use super::acl_index::AclIndex;
use super::token::Issuers;

/// The users, policies and issuers in force.
pub(super) struct AccessState {
    pub(super) acl_index: Arc<AclIndex>,
    pub(super) issuers: Arc<Issuers>,
}
