//! What tools ask of a client, through the proxy.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::json;

use super::admin_stats::{queue_key, stored_at};
use super::request::{Answered, Refusal, Request, success};
use crate::processor::is_blank;
use crate::remoting::{Command, lenient, request, response};

/// How long a client may take to describe itself, with the stacks of its threads, or to consume a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for its positions, where tools wait for 5 s, and how many clients are asked at the same time.
const POSITIONS_PATIENCE: Duration = Duration::from_secs(2);
const ASKED_AT_ONCE: usize = 64;

/// GET_CONSUMER_RUNNING_INFO: how a consumer is doing, by its own account.
pub(super) async fn running_info(request: Request) -> Answered {
    let asked = Command::request(request::GET_CONSUMER_RUNNING_INFO);
    ask(&request, asked.field("jstackEnable", request.flag("jstackEnable"))).await
}

/// CONSUME_MESSAGE_DIRECTLY: has a consumer consume a stored message now, and tells how that went.
pub(super) async fn consume_directly(request: Request) -> Answered {
    let id = request.text("msgId")?;
    // It ends with the position.
    let digits = id.len().checked_sub(16).and_then(|start| id.get(start..));
    let at = digits.and_then(|digits| i64::from_str_radix(digits, 16).ok()).ok_or_else(|| {
        Refusal::new(response::SYSTEM_ERROR, format!("the message id can't be read: {id:.100}"))
    })?;
    let message = stored_at(&request, at).await?;
    let asked = Command::request(request::CONSUME_MESSAGE_DIRECTLY)
        .field("msgId", id)
        .field("brokerName", request.text("brokerName").unwrap_or_default())
        .field("topic", request.text("topic")?)
        .body(message);
    ask(&request, asked).await
}

/// INVOKE_BROKER_TO_GET_CONSUMER_STATUS: where the consumers of a group are in a topic, each by its own account. One that does not
/// answer is left out. Where pulls are pops, a position tells how many messages the client has got, not which.
pub(super) async fn positions(request: Request) -> Answered {
    let (topic, group) = (request.text("topic")?, request.text("group")?);
    let wanted = request.command.text("clientAddr").filter(|id| !is_blank(id));
    let mut members = request.shared.members.of(group);
    members.retain(|member| wanted.is_none_or(|wanted| **member.client_id() == *wanted));
    if members.is_empty() {
        let text = format!("No Any Consumer online in the consumer group: [{group}]");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    }
    let asked = Command::request(request::GET_CONSUMER_STATUS_FROM_CLIENT);
    let asked = asked.field("topic", topic).field("group", group);
    let answers = stream::iter(members).map(|member| {
        let asked = asked.clone();
        async move { (member.client_id().clone(), member.session.call(asked, POSITIONS_PATIENCE).await) }
    });
    let mut answers = answers.buffer_unordered(ASKED_AT_ONCE);
    let mut clients = Vec::new();
    while let Some((client_id, answer)) = answers.next().await {
        let Some(positions) = answer.ok().and_then(|answer| positions_of(&answer)) else { continue };
        clients.push(format!("{}:{{{}}}", json!(*client_id), positions.join(",")));
    }
    let table = clients.join(",");
    Ok(success().body(format!("{{\"consumerTable\":{{{table}}},\"messageQueueTable\":{{}}}}")))
}

/// The entries of a table of positions, as tools read it. `None` if the client did not tell them.
fn positions_of(answer: &Command) -> Option<Vec<String>> {
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
    let body: Body = lenient::from_slice(&answer.body).ok()?;
    let entries = body.message_queue_table.into_iter().map(|(queue, position)| {
        let Queue { topic, broker_name, queue_id } = serde_json::from_str(&queue).ok()?;
        Some(format!("{}:{position}", queue_key(&topic, &broker_name, queue_id)))
    });
    entries.collect()
}

/// Passes a question on to the client that the request names, and its answer back.
async fn ask(request: &Request, asked: Command) -> Answered {
    let (group, client_id) = (request.text("consumerGroup")?, request.text("clientId")?);
    let mut members = request.shared.members.of(group).into_iter();
    let Some(member) = members.find(|member| **member.client_id() == *client_id) else {
        let text = format!("The Consumer <{group}> <{client_id}> not online");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    };
    let asked = asked.field("consumerGroup", group).field("clientId", client_id);
    match member.session.call(asked, PATIENCE).await {
        Ok(Command { code, remark, fields, body, .. }) => {
            Ok(Command { code, remark, fields, body, ..success() })
        }
        Err(error) => {
            let text = format!("the consumer <{group}> <{client_id}>: {error}");
            Err(Refusal::new(response::CONSUME_MSG_TIMEOUT, text))
        }
    }
}
