//! Requests of tools that the proxy passes on to a connected client.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::json;

use super::admin_stats::{message_at, queue_key};
use super::answer::{Answered, Refusal, success};
use super::request::Request;
use crate::front::json_values;
use crate::processor::is_blank;
use crate::remoting::{RemotingCommand, lenient, request, response};

/// How long a client may take to collect its running info, which may include the stacks of its threads, or to consume a
/// message.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to return its positions. Tools wait for 5 s.
const POSITIONS_TIMEOUT: Duration = Duration::from_secs(2);
/// How many clients are queried at the same time.
const MAX_CONCURRENT_QUERIES: usize = 64;

/// GET_CONSUMER_RUNNING_INFO: the statistics that a consumer has of itself.
pub(super) async fn running_info(request: Request) -> Answered {
    let query = RemotingCommand::request(request::GET_CONSUMER_RUNNING_INFO);
    relay(&request, query.field("jstackEnable", request.flag("jstackEnable"))).await
}

/// CONSUME_MESSAGE_DIRECTLY: has a consumer consume a stored message now. Answers with the result.
pub(super) async fn consume_directly(request: Request) -> Answered {
    let id = request.text("msgId")?;
    // The id ends with the log position of the message.
    let digits = id.len().checked_sub(16).and_then(|start| id.get(start..));
    let at = digits.and_then(|digits| i64::from_str_radix(digits, 16).ok()).ok_or_else(|| {
        Refusal::new(
            response::SYSTEM_ERROR,
            format!("invalid message id {id:.100}; expected one that ends with 16 hexadecimal digits"),
        )
    })?;
    let message = message_at(&request, at).await?;
    let query = RemotingCommand::request(request::CONSUME_MESSAGE_DIRECTLY)
        .field("msgId", id)
        .field("brokerName", request.text("brokerName").unwrap_or_default())
        .field("topic", request.text("topic")?)
        .body(message);
    relay(&request, query).await
}

/// INVOKE_BROKER_TO_GET_CONSUMER_STATUS: the positions of a group's consumers in a topic, as each of them reports them.
/// A consumer that does not answer is left out. The position of a consumer whose pulls are pops counts the messages
/// that it has received.
pub(super) async fn positions(request: Request) -> Answered {
    let (topic, group) = (request.text("topic")?, request.text("group")?);
    let wanted = request.command.text("clientAddr").filter(|id| !is_blank(id));
    let mut members = request.shared.members.of(group);
    members.retain(|member| wanted.is_none_or(|wanted| **member.client_id() == *wanted));
    if members.is_empty() {
        let text = format!("No Any Consumer online in the consumer group: [{group}]");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    }
    let query = RemotingCommand::request(request::GET_CONSUMER_STATUS_FROM_CLIENT);
    let query = query.field("topic", topic).field("group", group);
    let answers = stream::iter(members).map(|member| {
        let query = query.clone();
        async move { (member.client_id().clone(), member.connection.call(query, POSITIONS_TIMEOUT).await) }
    });
    let mut answers = answers.buffer_unordered(MAX_CONCURRENT_QUERIES);
    let mut clients = Vec::new();
    while let Some((client_id, answer)) = answers.next().await {
        let Some(positions) = answer.ok().and_then(|answer| positions_of(&answer, request.max_fields)) else {
            continue;
        };
        clients.push(format!("{}:{{{}}}", json!(*client_id), positions.join(",")));
    }
    let table = clients.join(",");
    Ok(success().body(format!("{{\"consumerTable\":{{{table}}},\"messageQueueTable\":{{}}}}")))
}

/// The entries of a table of positions, in the format of tools. `None` if the client's answer can't be read, or has
/// more than `max_values` values.
fn positions_of(answer: &RemotingCommand, max_values: usize) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        #[serde(default)]
        message_queue_table: BTreeMap<String, i64>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Queue {
        topic: String,
        broker_name: String,
        queue_id: i32,
    }
    if json_values::count(&answer.body) > max_values {
        return None;
    }
    let body: Body = lenient::from_slice(&answer.body).ok()?;
    let entries = body.message_queue_table.into_iter().map(|(queue, position)| {
        let Queue { topic, broker_name, queue_id } = serde_json::from_str(&queue).ok()?;
        Some(format!("{}:{position}", queue_key(&topic, &broker_name, queue_id)))
    });
    entries.collect()
}

/// Sends a query to the client that the request names, and returns the client's answer.
async fn relay(request: &Request, query: RemotingCommand) -> Answered {
    let (group, client_id) = (request.text("consumerGroup")?, request.text("clientId")?);
    let mut members = request.shared.members.of(group).into_iter();
    let Some(member) = members.find(|member| **member.client_id() == *client_id) else {
        let text = format!("The Consumer <{group}> <{client_id}> not online");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    };
    let query = query.field("consumerGroup", group).field("clientId", client_id);
    match member.connection.call(query, CLIENT_TIMEOUT).await {
        Ok(RemotingCommand { code, remark, fields, body, .. }) => {
            Ok(RemotingCommand { code, remark, fields, body, ..success() })
        }
        Err(error) => {
            let text = format!("the consumer <{group}> <{client_id}>: {error}");
            Err(Refusal::new(response::CONSUME_MSG_TIMEOUT, text))
        }
    }
}
