//! The route of a topic: its queues, their servers, and which queue gets a message.

mod table;

use std::{collections::HashSet, hash::Hasher, sync::Arc};

use siphasher::sip::SipHasher24;
pub(crate) use table::Routes;

use crate::{
    error::{Error, ErrorKind},
    message::MessageType,
    options::Endpoints,
};

/// The SipHash key for message groups. All clients use the same key.
const GROUP_HASH_KEY: (u64, u64) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);

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

/// How the queue of a message is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QueueChoice<'a> {
    /// By round robin. The number is a counter of the caller.
    RoundRobin(usize),
    /// By message group: all messages of a group go to the same queue.
    Group(&'a str),
}

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

    /// Chooses the queue for a send.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if no queue is writable.
    pub(crate) fn writable(&self, choice: QueueChoice<'_>) -> Result<&Queue, Error> {
        let turn = match choice {
            QueueChoice::RoundRobin(turn) => turn,
            QueueChoice::Group(group) => {
                let writable = self.queues.iter().filter(|queue| queue.writable).count();
                group_hash(group).rem_euclid(writable.max(1) as i64) as usize
            }
        };
        choose(&self.queues, turn, |queue| queue.writable)
            .ok_or_else(|| Error::new(ErrorKind::PermissionDenied, "send", "the topic has no writable queue"))
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

    /// The queue for a receive from `broker`, chosen by round robin with the counter `turn`; `None` if the broker has no
    /// readable queue.
    pub(crate) fn readable_at(&self, broker: &str, turn: usize) -> Option<&Queue> {
        choose(&self.queues, turn, |queue| queue.readable && *queue.broker == *broker)
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

/// The hash of a message group. All clients choose the queue by it, so that several producers agree.
fn group_hash(group: &str) -> i64 {
    let (first, second) = GROUP_HASH_KEY;
    let mut hasher = SipHasher24::new_with_keys(first, second);
    hasher.write(group.as_bytes());
    hasher.finish() as i64
}

/// The suitable queue at position `turn` modulo their number; `None` if there is none.
fn choose(queues: &[Queue], turn: usize, suitable: impl Fn(&Queue) -> bool) -> Option<&Queue> {
    let count = queues.iter().filter(|queue| suitable(queue)).count();
    queues.iter().filter(|queue| suitable(queue)).nth(turn.checked_rem(count)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(id: i32, readable: bool, writable: bool) -> Queue {
        let endpoints = Endpoints::from_iter([]);
        let accepts = AcceptedTypes::new(Vec::new());
        Queue { id, broker: "b".into(), endpoints, readable, writable, accepts }
    }

    #[test]
    fn queues_are_chosen_by_round_robin_among_those_that_allow_it() {
        let route = TopicRoute::new(vec![
            queue(0, true, false),
            queue(1, false, true),
            queue(2, true, true),
            queue(3, false, false),
        ]);
        let writable: Vec<_> =
            (0..4).map(|turn| route.writable(QueueChoice::RoundRobin(turn)).unwrap().id).collect();
        let readable: Vec<_> = (0..4).map(|turn| route.readable_at("b", turn).unwrap().id).collect();
        assert_eq!(route.readable_brokers().unwrap(), ["b".into()]);
        assert_eq!(route.readable_at("another", 0), None);
        assert_eq!((writable, readable), (vec![1, 2, 1, 2], vec![0, 2, 0, 2]));
    }

    #[test]
    fn what_the_topic_forbids_fails_without_a_request() {
        let none = TopicRoute::default();
        for choice in [QueueChoice::RoundRobin(7), QueueChoice::Group("g")] {
            assert_eq!(none.writable(choice).unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        assert_eq!(none.readable_brokers().unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_message_group_has_one_queue() {
        // The published value of SipHash-2-4 for no input.
        assert_eq!(group_hash(""), 0x726f_db47_dd0e_0e31);
        let route = TopicRoute::new((0..7).map(|id| queue(id, true, id != 3)).collect());
        for group in ["", "g", "another group", "ü"] {
            let ids: Vec<_> = (0..3).map(|_| route.writable(QueueChoice::Group(group)).unwrap().id).collect();
            assert!(ids[0] != 3 && ids.iter().all(|id| *id == ids[0]), "{group}: {ids:?}");
        }
        // Its remainder by the six writable queues is 3.
        assert_eq!(route.writable(QueueChoice::Group("")).unwrap().id, 4);
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
