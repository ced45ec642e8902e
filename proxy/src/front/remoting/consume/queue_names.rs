//! The name of the queue that a request means.

use super::super::answer::Refusal;
use super::super::request::Request;
use crate::processor::{BrokersCommand, QueueName};
use crate::remoting::response;

/// The broker of a queue. Older clients don't name it, so their topics must be on a single broker.
pub(in super::super) async fn broker_of(request: &Request, topic: &str) -> Result<String, Refusal> {
    if let Some(named) = request.broker() {
        return Ok(named.to_owned());
    }
    let brokers = BrokersCommand { topic: topic.to_owned() };
    let route = match request.run_uncounted(brokers.clone()).await {
        Ok(route) => route,
        // Again, and counted this time: the request ends here, so its main command does not run and is not counted.
        Err(_) => request.run(brokers).await?,
    };
    let mut brokers: Vec<_> = route.queues.into_iter().map(|range| range.broker).collect();
    brokers.dedup();
    match <[String; 1]>::try_from(brokers) {
        Ok([broker]) => Ok(broker),
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
