//! The view that layers have of a request.

use std::fmt;

use strum::{IntoStaticStr, VariantArray};

use crate::context::Context;

/// The properties of a request that layers use. It borrows from the request, so that creating it allocates nothing.
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The kind of the request.
    pub kind: OperationKind,
    /// The client's id, address, namespace, deadline and credentials.
    pub context: &'a Context,
    /// The topics that the request names.
    pub topics: &'a dyn Names,
    /// The consumer groups that the request names.
    pub groups: &'a dyn Names,
    /// The messages that the request carries.
    pub size: Size,
}

impl RequestFacts<'_> {
    /// Whether the request comes from a client, and not from the proxy itself. The proxy acknowledges on behalf of classic
    /// clients, which report consumed messages with their next pull; these acknowledgements count as the client's.
    pub(super) fn is_of_client(&self) -> bool {
        !self.context.is_admitted || self.kind == OperationKind::Acknowledge
    }
}

/// The kind of a request. Metrics and logs use its name in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum OperationKind {
    /// Queries the route of a topic.
    QueryRoute,
    /// Queries the queues to receive from.
    QueryAssignment,
    /// Stores messages.
    Send,
    /// Receives messages by long polling.
    Receive,
    /// Acknowledges deliveries.
    Acknowledge,
    /// Changes a lease.
    ChangeInvisible,
    /// Moves a delivery to the dead-letter topic.
    ForwardToDeadLetter,
    /// Schedules the redelivery of a message that was read by offset.
    SendBack,
    /// Commits or rolls back a half message.
    EndTransaction,
    /// Recalls a delayed message.
    Recall,
    /// Changes the lite topics of a client.
    SyncLite,
    /// Reads a queue by offset, with long polling.
    Pull,
    /// Stores a group's offset.
    UpdateOffset,
    /// Reads a group's offset.
    GetOffset,
    /// Reads an offset of a queue: the first, the last, or that of a time.
    QueryOffset,
    /// Locks queues for one client.
    LockQueues,
    /// Unlocks queues.
    UnlockQueues,
    /// Reports that a client is alive.
    Heartbeat,
    /// Sends a client's settings.
    Register,
    /// Reports that a client closes.
    Terminate,
}

impl OperationKind {
    /// Whether such a request may wait for messages.
    pub(super) fn waits(self) -> bool {
        matches!(self, Self::Receive | Self::Pull)
    }

    /// Whether such a request waits, or begins something that lasts longer than its answer: a stream, or the registration of a
    /// classic client.
    pub(super) fn lasts(self) -> bool {
        self.waits() || matches!(self, Self::Register | Self::Heartbeat)
    }
}

/// A number of messages and the size of their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// The number of messages, or of deliveries to settle.
    pub messages: usize,
    /// The size of all bodies in bytes.
    pub bytes: usize,
    /// The size of the largest body in bytes.
    pub largest: usize,
}

impl Size {
    /// The size of messages with these bodies.
    pub fn of_bodies<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> Self {
        let add = |sum: Self, body: &[u8]| Self {
            messages: sum.messages + 1,
            bytes: sum.bytes + body.len(),
            largest: sum.largest.max(body.len()),
        };
        bodies.fold(Self::default(), add)
    }

    /// A number of messages without their bodies.
    #[must_use]
    pub fn of_messages(messages: usize) -> Self {
        Self { messages, ..Self::default() }
    }
}

/// A list of names of topics or groups.
pub trait Names: Sync {
    /// Calls `visit` with each name, in the request's order. Names may be empty or malformed, and may repeat.
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str));
}

impl Names for String {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        visit(self);
    }
}

/// An empty list.
impl Names for () {
    fn each<'a>(&'a self, _: &mut dyn FnMut(&'a str)) {}
}

impl fmt::Debug for RequestFacts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn all(names: &dyn Names) -> Vec<&str> {
            let mut all = Vec::new();
            names.each(&mut |name| all.push(name));
            all
        }
        let Self { kind, context, topics, groups, size } = self;
        f.debug_struct("RequestFacts")
            .field("kind", kind)
            .field("context", context)
            .field("topics", &all(*topics))
            .field("groups", &all(*groups))
            .field("size", size)
            .finish()
    }
}
