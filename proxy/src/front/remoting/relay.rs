//! What tools ask of a client, through the proxy.

use std::time::Duration;

use super::request::{Answered, Refusal, Request, success};
use crate::remoting::{Command, request, response};

/// How long a client may take to describe itself, with the stacks of its threads.
const PATIENCE: Duration = Duration::from_secs(10);

/// GET_CONSUMER_RUNNING_INFO: how a consumer is doing, by its own account.
pub(super) async fn running_info(request: Request) -> Answered {
    let (group, client_id) = (request.text("consumerGroup")?, request.text("clientId")?);
    let mut members = request.shared.members.of(group).into_iter();
    let Some(member) = members.find(|member| **member.client_id() == *client_id) else {
        let text = format!("The Consumer <{group}> <{client_id}> not online");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    };
    let asked = Command::request(request::GET_CONSUMER_RUNNING_INFO)
        .field("consumerGroup", group)
        .field("clientId", client_id)
        .field("jstackEnable", request.flag("jstackEnable"));
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
