//! Users and policies of Apache's brokers.

use std::fmt;

/// All users of a broker, and their policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerAcl {
    /// The users.
    pub users: Vec<BrokerUser>,
    /// The policies, in no order.
    pub policies: Vec<BrokerPolicy>,
}

/// A user of a broker.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUser {
    /// The name, which is also the access key.
    pub name: String,
    /// The secret key.
    pub secret: String,
    /// Whether the user may do everything.
    pub is_super: bool,
    /// Whether the user may do anything at all.
    pub is_enabled: bool,
}

/// A policy of a broker, with the broker's names of resources and actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerPolicy {
    /// The user to whom the policy applies.
    pub user: String,
    /// The resource, such as `Topic:orders*`.
    pub resource: String,
    /// The actions, such as `Pub`.
    pub actions: Vec<String>,
    /// The addresses and networks of the requests to which the policy applies. If empty, it applies to all.
    pub from: Vec<String>,
    /// Whether the policy allows or denies.
    pub allows: bool,
    /// Whether the policy applies only if no other policy of the user does.
    pub is_default: bool,
}

impl fmt::Debug for BrokerUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerUser").field("name", &self.name).finish_non_exhaustive()
    }
}
