//! What tools ask of a client, through the proxy.

use std::time::Duration;

use super::admin_stats::stored_at;
use super::request::{Answered, Refusal, Request, success};
use crate::remoting::{Command, request, response};

/// How long a client may take to describe itself, with the stacks of its threads, or to consume a message.
const PATIENCE: Duration = Duration::from_secs(10);

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
