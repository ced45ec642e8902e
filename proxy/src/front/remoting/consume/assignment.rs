//! QUERY_ASSIGNMENT, by which a client lets the server assign its queues, and SET_MESSAGE_REQUEST_MODE, which decides
//! whether the clients of a group pull or pop.
//!
//! The modes are soft state of this proxy. If a mode is lost, clients pull and get the same messages, as their pulls
//! are pops.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::answer::{Answered, Refusal, json, success};
use super::super::request::{Request, check_names};
use super::consume_mode::is_listed_alone;
use super::ledger::GroupTopic;
use super::locks::MessageQueue;
use crate::processor::RouteCommand;
use crate::remoting::response;
use crate::service::names::RETRY_PREFIX;

/// The body of QUERY_ASSIGNMENT.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssignmentQuery {
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

/// The queue id that means all queues of a broker.
const ALL_QUEUES: i32 = -1;

/// The body of SET_MESSAGE_REQUEST_MODE.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestMode {
    topic: String,
    consumer_group: String,
    mode: String,
}

/// SET_MESSAGE_REQUEST_MODE.
pub(in super::super) fn set_request_mode(request: &Request) -> Answered {
    let RequestMode { topic, consumer_group: group, mode } = request.json()?;
    if topic.starts_with(RETRY_PREFIX) {
        return Err(Refusal::new(response::NO_PERMISSION, "retry topic is not allowed to set mode"));
    }
    check_names([&*group, &*topic])?;
    if !request.shared.modes.set_pop(GroupTopic { group, topic }, mode == "POP") {
        return Err(Refusal::new(response::SYSTEM_BUSY, "too many groups and topics have the mode POP"));
    }
    Ok(success())
}

/// QUERY_ASSIGNMENT.
pub(super) async fn query(request: Request) -> Answered {
    let query: AssignmentQuery = request.json()?;
    let route = request.run(RouteCommand { topic: query.topic.clone() }).await?;
    let readable = route.queues.into_iter().filter(|queue| queue.permission.read && queue.replica == 0);
    let mut queues: Vec<_> = readable
        .map(|queue| MessageQueue {
            broker_name: queue.broker,
            queue_id: queue.id,
            topic: query.topic.clone(),
        })
        .collect();
    let at = GroupTopic { group: query.consumer_group.clone(), topic: query.topic.clone() };
    if request.shared.modes.is_pop(&at) {
        let brokers: BTreeSet<_> = queues.into_iter().map(|queue| queue.broker_name).collect();
        let assignments = brokers.into_iter().map(|broker_name| Assignment {
            message_queue: MessageQueue { broker_name, queue_id: ALL_QUEUES, topic: query.topic.clone() },
            mode: "POP",
        });
        return json(&Body { message_queue_assignments: assignments.collect() });
    }
    let gets_all = query.message_model == "BROADCASTING"
        || is_listed_alone(&request.shared, &request.connection, &query.consumer_group);
    if !gets_all {
        // After a refusal, the client divides the queues itself.
        if query.strategy_name != "AVG" {
            let text = format!("the strategy {} is not supported; expected AVG", query.strategy_name);
            return Err(Refusal::new(response::SYSTEM_ERROR, text));
        }
        queues.sort_by(|a, b| (&a.broker_name, a.queue_id).cmp(&(&b.broker_name, b.queue_id)));
        let members = request.shared.members.client_ids(&query.consumer_group);
        let index = members.iter().position(|id| **id == *query.client_id);
        // An answer without a list leaves the client's queues as they are. The client may have sent no heartbeat yet on
        // a new connection.
        let Some(index) = index else { return Ok(success().body("{}")) };
        queues = queues.drain(share(queues.len(), members.len(), index)).collect();
    }
    let assignments = queues.into_iter().map(|message_queue| Assignment { message_queue, mode: "PULL" });
    json(&Body { message_queue_assignments: assignments.collect() })
}

/// The range of queues for the member with this index. If the queues can't be divided evenly, the first members get one
/// more (Apache's `AllocateMessageQueueAveragely`).
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
