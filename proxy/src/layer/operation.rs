use std::fmt;

use crate::context::Context;

/// A request as the layers see it. Borrows from the request: making one allocates nothing.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    /// What the request does.
    pub kind: OperationKind,
    /// The client: its id, address, namespace, deadline, and the credentials it sent.
    pub context: &'a Context,
    /// The topics that the request names.
    pub topics: &'a dyn NamesTopics,
    /// The consumer group that the request names; it may be empty or malformed.
    pub group: Option<&'a str>,
    /// What the request carries.
    pub size: Size,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// An amount of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// How many messages, or deliveries to settle.
    pub messages: usize,
    /// The bytes of their bodies.
    pub bytes: usize,
}

/// Something that names topics.
pub trait NamesTopics: Sync {
    /// Calls `visit` with each topic, in the request's order. Names may be malformed, and may repeat.
    fn each_topic<'a>(&'a self, visit: &mut dyn FnMut(&'a str));
}

impl NamesTopics for String {
    fn each_topic<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        visit(self);
    }
}

/// Names no topic.
impl NamesTopics for () {
    fn each_topic<'a>(&'a self, _: &mut dyn FnMut(&'a str)) {}
}

impl<'a> Operation<'a> {
    /// The topics that the request names, in its order.
    #[must_use]
    pub fn topics(&self) -> Vec<&'a str> {
        let mut topics = Vec::new();
        self.topics.each_topic(&mut |topic| topics.push(topic));
        topics
    }
}

impl fmt::Debug for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, context, group, size, .. } = self;
        f.debug_struct("Operation")
            .field("kind", kind)
            .field("context", context)
            .field("topics", &self.topics())
            .field("group", group)
            .field("size", size)
            .finish()
    }
}
