use std::fmt;

use strum::{IntoStaticStr, VariantArray};

use crate::context::Context;

/// A request as the layers see it. Borrows from the request: making one allocates nothing.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    /// What the request does.
    pub kind: OperationKind,
    /// The client: its id, address, namespace, deadline, and the credentials it sent.
    pub context: &'a Context,
    /// The topics that the request names.
    pub topics: &'a dyn Names,
    /// The consumer groups that the request names.
    pub groups: &'a dyn Names,
    /// What the request carries.
    pub size: Size,
}

impl Operation<'_> {
    /// Whether a client has asked for it. What a classic client has consumed, it tells by its next pull: the proxy acknowledges
    /// it in the client's name.
    pub(super) fn is_of_client(&self) -> bool {
        !self.context.is_admitted || self.kind == OperationKind::Acknowledge
    }
}

/// What a request does. Its name is the text of metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum OperationKind {
    /// Asks for the route of a topic.
    QueryRoute,
    /// Asks for the queues to receive from.
    QueryAssignment,
    /// Stores messages.
    Send,
    /// Waits for messages.
    Receive,
    /// Acknowledges deliveries.
    Acknowledge,
    /// Changes a lease.
    ChangeInvisible,
    /// Moves a delivery to the dead-letter topic.
    ForwardToDeadLetter,
    /// Has a message that was read by offset read again.
    SendBack,
    /// Commits a half message, or rolls it back.
    EndTransaction,
    /// Recalls a delayed message.
    Recall,
    /// Changes the lite topics of a client.
    SyncLite,
    /// Reads a queue by offset, and waits.
    Pull,
    /// Stores a group's offset.
    UpdateOffset,
    /// Asks for a group's offset.
    GetOffset,
    /// Asks for an offset of a queue.
    QueryOffset,
    /// Locks queues for one client.
    LockQueues,
    /// Ends such locks.
    UnlockQueues,
    /// Reports that a client is alive.
    Heartbeat,
    /// Sends a client's settings.
    Register,
    /// Reports that a client closes.
    Terminate,
}

impl OperationKind {
    /// Whether it waits for messages.
    pub(super) fn waits(self) -> bool {
        matches!(self, Self::Receive | Self::Pull)
    }
}

/// An amount of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// How many messages, or deliveries to settle.
    pub messages: usize,
    /// The bytes of their bodies.
    pub bytes: usize,
    /// The bytes of the largest body.
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

    /// So many messages whose bodies do not travel.
    #[must_use]
    pub fn of_messages(messages: usize) -> Self {
        Self { messages, ..Self::default() }
    }
}

/// Something that names topics, or groups.
pub trait Names: Sync {
    /// Calls `visit` with each name, in the request's order. Names may be empty or malformed, and may repeat.
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str));
}

impl Names for String {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        visit(self);
    }
}

/// Names nothing.
impl Names for () {
    fn each<'a>(&'a self, _: &mut dyn FnMut(&'a str)) {}
}

impl fmt::Debug for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn all(names: &dyn Names) -> Vec<&str> {
            let mut all = Vec::new();
            names.each(&mut |name| all.push(name));
            all
        }
        let Self { kind, context, topics, groups, size } = self;
        f.debug_struct("Operation")
            .field("kind", kind)
            .field("context", context)
            .field("topics", &all(*topics))
            .field("groups", &all(*groups))
            .field("size", size)
            .finish()
    }
}
