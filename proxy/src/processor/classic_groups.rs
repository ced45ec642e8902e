//! The groups of a client of the remoting protocol.

use std::collections::BTreeSet;

/// The groups of a client of the remoting protocol.
#[derive(Clone, Debug, Default)]
pub(super) struct ClassicGroups {
    pub(super) producers: BTreeSet<String>,
    pub(super) consumers: BTreeSet<String>,
    /// Whether the client has sent a request to which other clients reply.
    pub(super) awaits_replies: bool,
}

impl ClassicGroups {
    /// The consumer groups as one text, for administrators.
    pub(super) fn consumers(&self) -> String {
        self.consumers.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}
