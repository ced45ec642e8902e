//! The route of a topic: its queues, their servers, and the message types that it accepts.

mod cache;
mod queue_choice;

use std::{collections::HashSet, sync::Arc};

pub(crate) use self::{cache::Routes, queue_choice::QueueChoice};
use crate::{
    error::{Error, ErrorKind},
    message::MessageType,
    options::Endpoints,
};

/// One queue of a topic on a master broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) id: i32,
    pub(crate) broker: Arc<str>,
    pub(crate) endpoints: Endpoints,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) accepts: AcceptedTypes,
}

/// The message types that a topic accepts. Empty means any type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcceptedTypes(Vec<MessageType>);

impl AcceptedTypes {
    pub(crate) fn new(types: Vec<MessageType>) -> Self {
        Self(types)
    }

    /// Checks that the topic accepts messages of a type.
    ///
    /// # Errors
    ///
    /// `TypeMismatch` if it does not.
    pub(crate) fn check(&self, message_type: MessageType) -> Result<(), Error> {
        let Self(types) = self;
        // A topic of type MIXED also accepts these two types, although servers don't list them.
        let mixed = types.len() > 1 && matches!(message_type, MessageType::Priority | MessageType::Lite);
        if types.is_empty() || types.contains(&message_type) || mixed {
            return Ok(());
        }
        let accepted = types.iter().map(|accepted| describe(*accepted)).collect::<Vec<_>>().join(", ");
        let own = describe(message_type);
        let message = format!("the topic takes messages of type {accepted}; this message is of type {own}");
        Err(Error::new(ErrorKind::TypeMismatch, "send", message))
    }
}

/// All queues of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicRoute {
    queues: Vec<Queue>,
}

impl TopicRoute {
    pub(crate) fn new(queues: Vec<Queue>) -> Self {
        Self { queues }
    }

    /// The brokers with a readable queue, each once.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if no queue is readable.
    pub(crate) fn readable_brokers(&self) -> Result<Vec<Arc<str>>, Error> {
        let mut brokers: Vec<_> =
            self.queues.iter().filter(|queue| queue.readable).map(|queue| queue.broker.clone()).collect();
        brokers.sort_unstable();
        brokers.dedup();
        if brokers.is_empty() {
            let message = "the topic has no readable queue";
            return Err(Error::new(ErrorKind::PermissionDenied, "receive", message));
        }
        Ok(brokers)
    }

    /// The servers with a readable queue, each once.
    pub(crate) fn readable_servers(&self) -> Vec<Endpoints> {
        let servers = self.queues.iter().filter(|queue| queue.readable).map(|queue| queue.endpoints.clone());
        let mut known = HashSet::new();
        servers.filter(|server| known.insert(server.clone())).collect()
    }
}

/// The name of a type, and the field that sets it.
fn describe(message_type: MessageType) -> &'static str {
    match message_type {
        MessageType::Normal => "NORMAL",
        MessageType::Fifo => "FIFO (with a message_group)",
        MessageType::Delay => "DELAY (with a deliver_at or a delay)",
        MessageType::Priority => "PRIORITY (with a priority)",
        MessageType::Lite => "LITE (with a lite_topic)",
        MessageType::Transaction => "TRANSACTION (in a transaction)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_topic_forbids_fails_without_a_request() {
        let none = TopicRoute::default();
        for choice in [QueueChoice::RoundRobin(7), QueueChoice::Group("g")] {
            assert_eq!(none.writable(choice).unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        assert_eq!(none.readable_brokers().unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_topic_takes_messages_of_its_types() {
        use MessageType::{Delay, Fifo, Lite, Normal, Priority, Transaction};
        let mixed = [Normal, Fifo, Delay, Transaction];
        for (accepted, message_type, taken) in [
            (&[][..], Fifo, true),
            (&[Normal][..], Normal, true),
            (&[Fifo][..], Normal, false),
            (&[Normal][..], Priority, false),
            (&mixed[..], Transaction, true),
            (&mixed[..], Priority, true),
            (&mixed[..], Lite, true),
            (&mixed[..2], Delay, false),
        ] {
            let checked = AcceptedTypes::new(accepted.to_vec()).check(message_type);
            assert_eq!(checked.is_ok(), taken, "{accepted:?} {message_type:?}");
        }
        let error = AcceptedTypes::new(vec![Fifo]).check(Normal).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TypeMismatch);
        assert_eq!(
            error.message(),
            "the topic takes messages of type FIFO (with a message_group); this message is of type NORMAL"
        );
    }
}
