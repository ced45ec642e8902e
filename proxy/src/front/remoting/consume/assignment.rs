//! QUERY_ASSIGNMENT: which queues a client shall pull, if it lets the server decide, and SET_MESSAGE_REQUEST_MODE: whether it
//! shall pop instead.
//!
//! The modes are soft state of this proxy. A client that is told to pull gets the same messages, as its pulls are pops.

use std::collections::{BTreeSet, HashSet};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::super::request::{Answered, Refusal, Request, json, success};
use super::is_told_to_be_alone;
use super::ledger::GroupTopic;
use super::locks::MessageQueue;
use crate::processor::RouteCommand;
use crate::remoting::response;
use crate::service::names::RETRY_PREFIX;

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

/// Groups and topics that are popped.
const MAX_MODES: usize = 10_000;
/// In place of a queue, for all queues of a broker.
const ALL_QUEUES: i32 = -1;

/// Which groups pop, and from which topics.
#[derive(Default)]
pub(in super::super) struct RequestModes(Mutex<HashSet<GroupTopic>>);

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
    let mut popped = request.shared.modes.0.lock();
    let at = GroupTopic { group, topic };
    if mode != "POP" {
        popped.remove(&at);
    } else if popped.len() < MAX_MODES {
        popped.insert(at);
    } else {
        return Err(Refusal::new(response::SYSTEM_BUSY, "too many groups and topics have a mode"));
    }
    Ok(success())
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
    let at = GroupTopic { group: asked.consumer_group.clone(), topic: asked.topic.clone() };
    if request.shared.modes.0.lock().contains(&at) {
        let brokers: BTreeSet<_> = queues.into_iter().map(|queue| queue.broker_name).collect();
        let assignments = brokers.into_iter().map(|broker_name| Assignment {
            message_queue: MessageQueue { broker_name, queue_id: ALL_QUEUES, topic: asked.topic.clone() },
            mode: "POP",
        });
        return json(&Body { message_queue_assignments: assignments.collect() });
    }
    let all = asked.message_model == "BROADCASTING"
        || is_told_to_be_alone(&request.shared, &request.session, &asked.consumer_group);
    if !all {
        // The client falls back to dividing the queues itself.
        if asked.strategy_name != "AVG" {
            let text = format!("the strategy {} is not known to the server", asked.strategy_name);
            return Err(Refusal::new(response::SYSTEM_ERROR, text));
        }
        queues.sort_by(|a, b| (&a.broker_name, a.queue_id).cmp(&(&b.broker_name, b.queue_id)));
        let members = request.shared.members.client_ids(&asked.consumer_group);
        let index = members.iter().position(|id| **id == *asked.client_id);
        // An answer without a list changes nothing. The client may have a new connection, on which no heartbeat has come yet.
        let Some(index) = index else { return Ok(success().body("{}")) };
        queues = queues.drain(share(queues.len(), members.len(), index)).collect();
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
