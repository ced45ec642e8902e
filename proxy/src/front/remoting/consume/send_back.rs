//! CONSUMER_SEND_MSG_BACK, by which a client returns a message that it could not consume, to be delivered again later.

use std::time::Instant;

use super::super::answer::{Answered, Refusal, success};
use super::super::log_position;
use super::super::request::Request;
use super::consume_mode::pull_is_pop;
use super::queue_ledger::HeldMessage;
use super::queue_names::{broker_of, queue_name};
use crate::error::ErrorKind;
use crate::processor::{
    AckEntry, ChangeInvisibleCommand, ForwardCommand, QueryOffsetCommand, SendBackCommand,
};
use crate::remoting::response;
use crate::service::names::retry_topic;
use crate::service::{Whence, delay_level};

/// CONSUMER_SEND_MSG_BACK.
pub(super) async fn send_back(request: Request) -> Answered {
    let (group, log_position) = (request.text("group")?, request.number::<i64>("offset")?);
    let level: i32 = request.number("delayLevel")?;
    let id = request.command.text("originMsgId").filter(|id| !id.is_empty());
    let matches =
        |held: &HeldMessage| held.log_position == log_position && id.is_none_or(|id| id == held.message_id);
    let ledgers = &request.connection.consumer_state.ledgers;
    let max = request.optional_number::<i32>("maxReconsumeTimes")?.filter(|max| *max >= 0);
    let found = ledgers.lock().find(group, matches);
    let Some((at, held)) = found else {
        let returned =
            ReturnedMessage { group, id: id.unwrap_or_default(), log_position, level, max_retries: max };
        let command = send_back_command(&request, returned).await?;
        return send_back_unleased(&request, command).await;
    };
    let retried = held.attempt - 1;
    let exhausted = max.is_some_and(|max| retried >= max);
    let entry = AckEntry { handle: held.handle, message_id: held.message_id, lite_topic: None };
    let (group, topic) = (at.group.clone(), at.topic.clone());
    let context = request.context();
    let processor = &request.shared.processor;
    let settled = if level < 0 || exhausted {
        processor.run(&context, ForwardCommand { group, topic, entry }).await
    } else {
        let pause = delay_level::duration(delay_level::for_retry(level, retried)).unwrap_or_default();
        let invisible_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        let change = ChangeInvisibleCommand { group, topic, entry, invisible_ms, suspend: false };
        processor.run(&context, change).await.map(drop)
    };
    match settled {
        // The lease has expired, so the message is delivered again anyway.
        Ok(()) => {}
        Err(error) if error.kind == ErrorKind::InvalidHandle => {}
        Err(error) => return Err(error.into()),
    }
    ledgers.lock().take(&at, Instant::now(), matches);
    request.connection.consumer_state.settled.notify_waiters();
    Ok(success())
}

/// What a client says of a message that it returns.
struct ReturnedMessage<'a> {
    group: &'a str,
    /// Empty if the client does not say it.
    id: &'a str,
    log_position: i64,
    level: i32,
    max_retries: Option<i32>,
}

/// The command to send back a message that the client has read by offset.
async fn send_back_command(
    request: &Request,
    returned: ReturnedMessage<'_>,
) -> Result<SendBackCommand, Refusal> {
    let ReturnedMessage { group, id, log_position, level, max_retries } = returned;
    let position = log_position::decode(log_position);
    let topic = match position.in_retry_topic {
        true => retry_topic(group),
        false => request.text("originTopic")?.to_owned(),
    };
    let broker = broker_of(request, &topic).await?;
    Ok(SendBackCommand {
        queue: queue_name(&topic, broker, position.queue_id),
        group: group.to_owned(),
        offset: position.offset,
        message_id: id.to_owned(),
        level,
        max_retries,
    })
}

/// Sends back a message that the ledgers of this connection do not contain. If pulls are pops in the group, its lease
/// expires, and the message is delivered again anyway.
async fn send_back_unleased(request: &Request, command: SendBackCommand) -> Answered {
    let failed = |text: String| Refusal::new(response::SYSTEM_ERROR, text);
    let not_found = || failed(format!("look message by offset failed, {}", command.offset));
    let sent = if pull_is_pop(&request.shared, &request.connection, &command.group) {
        let end = QueryOffsetCommand { queue: command.queue.clone(), whence: Whence::End };
        let end = request.shared.processor.run(&request.context(), end).await;
        end.map(|end| command.offset < end)
    } else {
        request.shared.processor.run(&request.context(), command.clone()).await.map(|()| true)
    };
    match sent {
        Ok(true) => Ok(success()),
        Ok(false) => Err(not_found()),
        Err(error) if error.kind == ErrorKind::BadRequest => Err(failed(error.message)),
        Err(error) => Err(error.into()),
    }
}
