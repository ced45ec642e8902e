//! Determines to which queue a request refers.

use std::collections::BTreeSet;

use super::super::answer::Refusal;
use super::super::request::Request;
use crate::processor::{BrokersCommand, QueueName};
use crate::remoting::response;

/// Returns the broker of the queue to which a request refers. Clients before 4.9.5 don't name it, so their topics must
/// be on a single broker.
pub(in super::super) async fn broker_of(request: &Request, topic: &str) -> Result<String, Refusal> {
    if let Some(named) = request.broker() {
        return Ok(named.to_owned());
    }
    let brokers = BrokersCommand { topic: topic.to_owned() };
    let route = match request.run_uncounted(brokers.clone()).await {
        Ok(route) => route,
        // Normally only the main command is counted. It does not run after this failure, so the lookup is repeated and
        // counted instead.
        Err(_) => request.run(brokers).await?,
    };
    only_broker(topic, route.queues.into_iter().map(|range| range.broker))
}

/// Returns the broker of a topic that is on a single one. A route may name a broker several times.
fn only_broker(topic: &str, brokers: impl Iterator<Item = String>) -> Result<String, Refusal> {
    let mut brokers: BTreeSet<_> = brokers.collect();
    let text = match (brokers.len(), brokers.pop_first()) {
        (1, Some(broker)) => return Ok(broker),
        (0, _) => format!("topic {topic} has no queues"),
        (count, _) => format!(
            "topic {topic} is on {count} brokers, and the request does not name one of them; clients from 4.9.5 on do"
        ),
    };
    Err(Refusal::new(response::SYSTEM_ERROR, text))
}

/// The name of a queue.
pub(super) fn queue_name(topic: &str, broker: String, id: i32) -> QueueName {
    QueueName { topic: topic.to_owned(), broker, id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_a_route_names_several_times_is_one_broker() {
        let only = |brokers: &[&str]| {
            let brokers = brokers.iter().map(|broker| (*broker).to_owned());
            only_broker("t", brokers).map_err(|refusal| refusal.remark)
        };
        assert_eq!(only(&["a", "a"]), Ok("a".to_owned()));
        assert_eq!(only(&[]), Err("topic t has no queues".to_owned()));
        let several = only(&["a", "b", "a"]).expect_err("several brokers");
        assert!(several.starts_with("topic t is on 2 brokers"), "{several}");
    }
}
