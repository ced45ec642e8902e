//! Replies to the requests of other clients. The proxy passes a reply on to the client that waits for it, or to the
//! broker if that client is connected to another proxy. Replies are not stored.

use std::time::{Duration, SystemTime};

use super::answer::{Answered, Refusal, success};
use super::client_connection::ClientConnection;
use super::message::requester;
use super::request::Request;
use super::send;
use crate::layer::OperationKind;
use crate::processor::ReplyCommand;
use crate::remoting::{RemotingCommand, properties, request, response};
use crate::service::names::properties as names;
use crate::service::{Reply, millis};

/// How long the client that waits for a reply may take to accept it.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(3);

/// SEND_REPLY_MESSAGE, SEND_REPLY_MESSAGE_V2.
pub(super) async fn send(request: Request) -> Answered {
    let reply = reply(&request)?;
    let refused = |text: String| {
        let text = format!("push reply message to {} fail: {text}", reply.to);
        Refusal::new(response::SYSTEM_ERROR, text)
    };
    let accepted = match request.shared.members.client(&reply.to) {
        Some(connection) => {
            request.check(OperationKind::Send, &reply.topic, &())?;
            match connection.call(push(&connection, &reply), ACCEPT_TIMEOUT).await {
                Ok(answer) if answer.code == response::SUCCESS => Ok(()),
                Ok(answer) => Err(refused(answer.remark.unwrap_or_default())),
                Err(error) => Err(refused(error.to_string())),
            }
        }
        None => {
            let passed_on = request.run(ReplyCommand { reply: reply.clone() }).await;
            passed_on.map_err(|refusal| refused(refusal.remark))
        }
    };
    accepted.map(|()| send::reply_answer(success(), request.connection.local()))
}

fn reply(request: &Request) -> Result<Reply, Refusal> {
    let header = send::header(request)?;
    let text = send::properties(request);
    let to = requester(text).ok_or_else(|| {
        let text = "reply message properties[REPLY_TO_CLIENT] is null";
        Refusal::new(response::SYSTEM_ERROR, text)
    })?;
    Ok(Reply {
        to: to.to_owned(),
        producer_group: header.producer_group,
        topic: header.topic,
        queue_id: header.queue.map_or(0, |queue| queue.id),
        system_flags: header.system_flags,
        flag: header.flag,
        born_at: header.born_at,
        born_host: request.connection.peer().to_string(),
        properties: text.to_owned(),
        body: request.command.body.clone(),
    })
}

/// PUSH_REPLY_MESSAGE_TO_CLIENT: the request that passes a reply to the client that waits for it.
pub(super) fn push(connection: &ClientConnection, reply: &Reply) -> RemotingCommand {
    let now = millis(SystemTime::now());
    let sent = properties::decode(&reply.properties).filter(|(key, _)| *key != names::PUSH_REPLY_TIME);
    let text = properties::encode(sent.chain([(names::PUSH_REPLY_TIME, now.to_string().as_str())]));
    RemotingCommand::request(request::PUSH_REPLY_MESSAGE_TO_CLIENT)
        .field("bornHost", &reply.born_host)
        // The address of the entry to which the waiting client is connected.
        .field("storeHost", connection.local())
        .field("storeTimestamp", now)
        .field("producerGroup", &reply.producer_group)
        .field("topic", &reply.topic)
        .field("defaultTopic", "TBW102")
        .field("defaultTopicQueueNums", 4)
        .field("queueId", reply.queue_id)
        .field("sysFlag", reply.system_flags)
        .field("bornTimestamp", reply.born_at)
        .field("flag", reply.flag)
        .field("properties", text)
        .field("reconsumeTimes", 0)
        .field("unitMode", false)
        .body(reply.body.clone())
}
