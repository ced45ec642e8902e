//! Request and reply between clients: a reply goes through the proxy to the client that waits for it. It is not stored.

use std::time::{Duration, SystemTime};

use super::request::{Answered, Refusal, Request, success};
use super::send;
use crate::layer::OperationKind;
use crate::remoting::{Command, properties, request, response};
use crate::service::millis;
use crate::service::names::properties as names;

/// How long the waiting client may take to accept a reply.
const PATIENCE: Duration = Duration::from_secs(3);

/// SEND_REPLY_MESSAGE, SEND_REPLY_MESSAGE_V2.
pub(super) async fn send(request: Request) -> Answered {
    let header = send::header(&request)?;
    request.check(OperationKind::Send, &header.topic, &())?;
    let text = send::properties(&request);
    let requester = properties::decode(text).find(|(key, _)| *key == names::REPLY_TO_CLIENT);
    let Some((_, requester)) = requester else {
        let text = "reply message properties[REPLY_TO_CLIENT] is null";
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    };
    let Some(session) = request.shared.members.client(requester) else {
        let text =
            format!("push reply message to requester fail, the client {requester} is not connected here");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    };
    let now = millis(SystemTime::now()).to_string();
    let text = properties::encode(properties::decode(text).chain([(names::PUSH_REPLY_TIME, now.as_str())]));
    let local = request.session.local();
    let push = Command::request(request::PUSH_REPLY_MESSAGE_TO_CLIENT)
        .field("bornHost", request.session.peer())
        // By the entry that the waiting client knows.
        .field("storeHost", session.local())
        .field("storeTimestamp", millis(SystemTime::now()))
        .field("producerGroup", &header.producer_group)
        .field("topic", &header.topic)
        .field("defaultTopic", "TBW102")
        .field("defaultTopicQueueNums", 4)
        .field("queueId", header.queue.as_ref().map_or(0, |queue| queue.id))
        .field("sysFlag", header.system_flags)
        .field("bornTimestamp", header.born_at)
        .field("flag", header.flag)
        .field("properties", text)
        .field("reconsumeTimes", 0)
        .field("unitMode", false)
        .body(request.command.body.clone());
    let answer = session.call(push, PATIENCE).await;
    let refused = |text: String| {
        Refusal::new(response::SYSTEM_ERROR, format!("push reply message to {requester} fail: {text}"))
    };
    match answer {
        Ok(answer) if answer.code == response::SUCCESS => Ok(send::fields(success(), local)),
        Ok(answer) => Err(refused(answer.remark.unwrap_or_default())),
        Err(error) => Err(refused(error.to_string())),
    }
}
