//! CONSUMER_SEND_MSG_BACK: a client could not consume a message, and wants it to be delivered again later.

use std::time::Instant;

use super::super::position;
use super::super::request::{Answered, Refusal, Request, success};
use super::queue_ledger::Held;
use super::{offsets, pops};
use crate::error::ErrorKind;
use crate::processor::{AckEntry, ChangeCommand, ForwardCommand, QueryOffsetCommand, SendBackCommand};
use crate::remoting::response;
use crate::service::names::retry_topic;
use crate::service::{Whence, delay_level};

/// CONSUMER_SEND_MSG_BACK.
pub(super) async fn send_back(request: Request) -> Answered {
    let (group, log_position) = (request.text("group")?, request.number::<i64>("offset")?);
    let level: i32 = request.number("delayLevel")?;
    let id = request.command.text("originMsgId").filter(|id| !id.is_empty());
    let is_it = |held: &Held| held.log_position == log_position && id.is_none_or(|id| id == held.message_id);
    let ledgers = &request.session.consuming.ledgers;
    let max = request.command.number::<i32>("maxReconsumeTimes").filter(|max| *max >= 0);
    let found = ledgers.lock().find(group, is_it);
    let Some((at, held)) = found else {
        let back = by_offset(&request, (group, id.unwrap_or_default()), log_position, (level, max)).await?;
        return not_held(&request, back).await;
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
        let change = ChangeCommand { group, topic, entry, invisible_ms, suspend: false };
        processor.run(&context, change).await.map(drop)
    };
    match settled {
        // Its lease is over: it is delivered again anyway.
        Ok(()) => {}
        Err(error) if error.kind == ErrorKind::InvalidHandle => {}
        Err(error) => return Err(error.into()),
    }
    ledgers.lock().take(&at, Instant::now(), is_it);
    request.session.consuming.room.notify_waiters();
    Ok(success())
}

/// The same for a message that the client has read by offset.
async fn by_offset(
    request: &Request,
    (group, message_id): (&str, &str),
    log_position: i64,
    (level, max_retries): (i32, Option<i32>),
) -> Result<SendBackCommand, Refusal> {
    let place = position::parts(log_position);
    let topic = match place.in_retry_topic {
        true => retry_topic(group),
        false => request.text("originTopic")?.to_owned(),
    };
    let broker = offsets::broker_of(request, &topic).await?;
    Ok(SendBackCommand {
        queue: offsets::queue_name(&topic, broker, place.queue_id),
        group: group.to_owned(),
        offset: place.offset,
        message_id: message_id.to_owned(),
        level,
        max_retries,
    })
}

/// Sends a message back that is not leased to this client. If its pulls are pops, the lease is over or will be, and the
/// message is delivered again anyway.
async fn not_held(request: &Request, back: SendBackCommand) -> Answered {
    let failed = |text: String| Refusal::new(response::SYSTEM_ERROR, text);
    let unknown = || failed(format!("look message by offset failed, {}", back.offset));
    let sent = if pops(&request.shared, &request.session, &back.group) {
        let end = QueryOffsetCommand { queue: back.queue.clone(), whence: Whence::End };
        let end = request.shared.processor.run(&request.context(), end).await;
        end.map(|end| back.offset < end)
    } else {
        request.shared.processor.run(&request.context(), back.clone()).await.map(|()| true)
    };
    match sent {
        Ok(true) => Ok(success()),
        Ok(false) => Err(unknown()),
        Err(error) if error.kind == ErrorKind::BadRequest => Err(failed(error.message)),
        Err(error) => Err(error.into()),
    }
}
