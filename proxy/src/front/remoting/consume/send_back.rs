//! CONSUMER_SEND_MSG_BACK: a client could not consume a message, and wants it to be delivered again later.

use std::time::Instant;

use super::super::delay_level;
use super::super::request::{Answered, Refusal, Request, success};
use super::queue_ledger::Held;
use crate::error::ErrorKind;
use crate::processor::{AckEntry, ChangeCommand, ForwardCommand};
use crate::remoting::response;

/// The delay level of a first retry, if the client leaves the choice to the server. Later ones are longer.
const FIRST_LEVEL: i32 = 3;

/// CONSUMER_SEND_MSG_BACK.
pub(super) async fn send_back(request: Request) -> Answered {
    let (group, log_position) = (request.text("group")?, request.number::<i64>("offset")?);
    let level: i32 = request.number("delayLevel")?;
    let id = request.command.text("originMsgId").filter(|id| !id.is_empty());
    let is_it = |held: &Held| held.log_position == log_position && id.is_none_or(|id| id == held.message_id);
    let ledgers = &request.session.consuming.ledgers;
    let Some((at, held)) = ledgers.lock().find(group, is_it) else {
        let text = format!("look message by offset failed, {log_position}");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    };
    let retried = held.attempt - 1;
    let max = request.command.number::<i32>("maxReconsumeTimes").filter(|max| *max >= 0);
    let exhausted = max.is_some_and(|max| retried >= max);
    let entry = AckEntry { handle: held.handle, message_id: held.message_id, lite_topic: None };
    let (group, topic) = (at.group.clone(), at.topic.clone());
    let context = request.context();
    let processor = &request.shared.processor;
    let settled = if level < 0 || exhausted {
        processor.run(&context, ForwardCommand { group, topic, entry }).await
    } else {
        let level = if level == 0 { FIRST_LEVEL.saturating_add(retried) } else { level };
        let pause = delay_level::duration(level).unwrap_or_default();
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
