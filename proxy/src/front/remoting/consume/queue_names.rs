//! Determines to which queue a request refers.

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
    let mut brokers: Vec<_> = route.queues.into_iter().map(|range| range.broker).collect();
    brokers.dedup();
    match <[String; 1]>::try_from(brokers) {
        Ok([broker]) => Ok(broker),
        Err(brokers) if brokers.is_empty() => {
            Err(Refusal::new(response::SYSTEM_ERROR, format!("topic {topic} has no queues")))
        }
        Err(brokers) => {
            let text = format!(
                "topic {topic} is on {} brokers, and the request does not name one of them; clients from 4.9.5 on do",
                brokers.len()
            );
            Err(Refusal::new(response::SYSTEM_ERROR, text))
        }
    }
}

/// The name of a queue.
pub(super) fn queue_name(topic: &str, broker: String, id: i32) -> QueueName {
    QueueName { topic: topic.to_owned(), broker, id }
}
