//! Chooses the queue of a message, and the queue that a receive polls.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::{Queue, TopicRoute};
use crate::error::{Error, ErrorKind};

/// The SipHash key for message groups. All clients use the same key.
const GROUP_HASH_KEY: (u64, u64) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);

/// How the queue of a message is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QueueChoice<'a> {
    /// By round robin. The number is a counter of the caller.
    RoundRobin(usize),
    /// By message group: all messages of a group go to the same queue.
    Group(&'a str),
}

impl TopicRoute {
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

    /// The queue for a receive from `broker`, chosen by round robin with the counter `turn`; `None` if the broker has no
    /// readable queue.
    pub(crate) fn readable_at(&self, broker: &str, turn: usize) -> Option<&Queue> {
        choose(&self.queues, turn, |queue| queue.readable && *queue.broker == *broker)
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
    use crate::{options::Endpoints, route::AcceptedTypes};

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
}
