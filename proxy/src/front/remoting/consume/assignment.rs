//! QUERY_ASSIGNMENT: which queues a client shall pull, if it lets the server decide.

use serde::{Deserialize, Serialize};

use super::super::request::{Answered, Refusal, Request, json};
use super::locks::MessageQueue;
use super::pops;
use crate::processor::RouteCommand;
use crate::remoting::response;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    client_id: String,
    consumer_group: String,
    #[serde(default)]
    message_model: String,
    #[serde(default)]
    strategy_name: String,
    topic: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    message_queue_assignments: Vec<Assignment>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Assignment {
    message_queue: MessageQueue,
    mode: &'static str,
}

/// QUERY_ASSIGNMENT.
pub(super) async fn query(request: Request) -> Answered {
    let asked: Asked = request.json()?;
    let route = request.run(RouteCommand { topic: asked.topic.clone() }).await?;
    let readable = route.queues.into_iter().filter(|queue| queue.permission.read && queue.replica == 0);
    let mut queues: Vec<_> = readable
        .map(|queue| MessageQueue {
            broker_name: queue.broker,
            queue_id: queue.id,
            topic: asked.topic.clone(),
        })
        .collect();
    let all = asked.message_model == "BROADCASTING"
        || pops(&request.shared, &request.session, &asked.consumer_group);
    if !all {
        // The client falls back to dividing the queues itself.
        if asked.strategy_name != "AVG" {
            let text = format!("the strategy {} is not known to the server", asked.strategy_name);
            return Err(Refusal::new(response::SYSTEM_ERROR, text));
        }
        queues.sort_by(|a, b| (&a.broker_name, a.queue_id).cmp(&(&b.broker_name, b.queue_id)));
        let members = request.shared.members.client_ids(&asked.consumer_group);
        let index = members.iter().position(|id| **id == *asked.client_id);
        let range = index.map_or(0..0, |index| share(queues.len(), members.len(), index));
        queues = queues.drain(range).collect();
    }
    let assignments = queues.into_iter().map(|message_queue| Assignment { message_queue, mode: "PULL" });
    json(&Body { message_queue_assignments: assignments.collect() })
}

/// The part of `queues` that belongs to one of the members: consecutive ones, and one more for each of the first members
/// if they can't be divided (Apache's `AllocateMessageQueueAveragely`).
fn share(queues: usize, members: usize, index: usize) -> std::ops::Range<usize> {
    let (each, more) = (queues / members, queues % members);
    let start = index * each + index.min(more);
    start..start + each + usize::from(index < more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_divided_evenly() {
        for (queues, members, shares) in [
            (8, 3, vec![0..3, 3..6, 6..8]),
            (1, 2, vec![0..1, 1..1]),
            (4, 2, vec![0..2, 2..4]),
            (0, 2, vec![0..0, 0..0]),
        ] {
            let divided: Vec<_> = (0..members).map(|index| share(queues, members, index)).collect();
            assert_eq!(divided, shares, "{queues} {members}");
        }
    }
}
