//! Where a topic's queues are.

mod table;

use std::sync::Arc;

pub(crate) use table::Routes;

use crate::{
    error::{Error, ErrorKind},
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
    /// Whether it accepts normal messages.
    pub(crate) takes_normal: bool,
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

    /// The queue for a request with normal messages, chosen by round robin with the number `turn`.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if no queue is writable; `TypeMismatch` if the topic is for messages of another type and
    /// the server asked clients to check this.
    pub(crate) fn writable(&self, turn: usize, check_type: bool) -> Result<&Queue, Error> {
        let queue = choose(&self.queues, turn, |queue| queue.writable).ok_or_else(|| {
            Error::new(ErrorKind::PermissionDenied, "send", "the topic has no writable queue")
        })?;
        if check_type && !queue.takes_normal {
            return Err(Error::new(
                ErrorKind::TypeMismatch,
                "send",
                "the topic takes messages of another type than normal",
            ));
        }
        Ok(queue)
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

    /// The queue for a receive from `broker`, chosen by round robin with the number `turn`; `None` if the broker has no
    /// readable queue.
    pub(crate) fn readable_at(&self, broker: &str, turn: usize) -> Option<&Queue> {
        choose(&self.queues, turn, |queue| queue.readable && *queue.broker == *broker)
    }
}

/// The suitable queue at position `turn`, counted round and round.
fn choose(queues: &[Queue], turn: usize, suitable: impl Fn(&Queue) -> bool) -> Option<&Queue> {
    let count = queues.iter().filter(|queue| suitable(queue)).count();
    queues.iter().filter(|queue| suitable(queue)).nth(turn.checked_rem(count)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(id: i32, readable: bool, writable: bool) -> Queue {
        let endpoints = Endpoints::from_iter([]);
        Queue { id, broker: "b".into(), endpoints, readable, writable, takes_normal: id != 9 }
    }

    #[test]
    fn queues_are_chosen_by_round_robin_among_those_that_allow_it() {
        let route = TopicRoute::new(vec![
            queue(0, true, false),
            queue(1, false, true),
            queue(2, true, true),
            queue(3, false, false),
        ]);
        let writable: Vec<_> = (0..4).map(|turn| route.writable(turn, true).unwrap().id).collect();
        let readable: Vec<_> = (0..4).map(|turn| route.readable_at("b", turn).unwrap().id).collect();
        assert_eq!(route.readable_brokers().unwrap(), ["b".into()]);
        assert_eq!(route.readable_at("another", 0), None);
        assert_eq!((writable, readable), (vec![1, 2, 1, 2], vec![0, 2, 0, 2]));
    }

    #[test]
    fn what_the_topic_forbids_fails_without_a_request() {
        let none = TopicRoute::default();
        assert_eq!(none.writable(7, true).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(none.readable_brokers().unwrap_err().kind(), ErrorKind::PermissionDenied);
        let fifo = TopicRoute::new(vec![queue(9, true, true)]);
        assert_eq!(fifo.writable(0, true).unwrap_err().kind(), ErrorKind::TypeMismatch);
        assert!(fifo.writable(0, false).is_ok());
    }
}
