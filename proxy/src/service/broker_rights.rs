//! Users and policies that brokers keep.

use std::fmt;

/// All users of a broker, and their policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerRights {
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

/// A policy of a broker, in the broker's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerPolicy {
    /// The user whom it concerns.
    pub user: String,
    /// What it is about, such as `Topic:orders*`.
    pub resource: String,
    /// The actions, such as `Pub`.
    pub actions: Vec<String>,
    /// The addresses and networks that requests come from. Everywhere if it is empty.
    pub from: Vec<String>,
    /// Whether it allows. Otherwise it denies.
    pub allows: bool,
    /// Whether it counts only if no other policy of the user applies.
    pub is_default: bool,
}

impl fmt::Debug for BrokerUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerUser").field("name", &self.name).finish_non_exhaustive()
    }
}
