//! Converts searches of stored messages, and their results, between the wire and the backend.

use std::time::{Duration, SystemTime};

use rocketmq_thin_proto::thin as pb;
use tonic::Status;

use super::admin_stats::time;
use super::convert;
use crate::service::{
    BodyEncoding, DeadLetterOrigin, Delay, Delivery, Message, ReadMessage, ReadPage, ReadQueue, WantedMessage,
};

pub(super) fn read_to_wire(read: ReadQueue) -> pb::ReadMessagesRequest {
    let (id, key) = match read.wanted {
        WantedMessage::Any => (None, None),
        WantedMessage::Id(id) => (Some(id), None),
        WantedMessage::Key(key) => (None, Some(key)),
    };
    pb::ReadMessagesRequest {
        topic: read.topic,
        broker: read.broker,
        queue_id: read.queue_id,
        offset: read.offset,
        max_messages: i32::try_from(read.max).unwrap_or(i32::MAX),
        max_body_bytes: u32::try_from(read.max_body).unwrap_or(u32::MAX),
        from: read.from.map(convert::timestamp),
        to: read.to.map(convert::timestamp),
        id,
        key,
        lite_topic: read.lite_topic,
    }
}

pub(super) fn read(request: pb::ReadMessagesRequest) -> Result<ReadQueue, Status> {
    let max = usize::try_from(request.max_messages).ok().filter(|max| *max > 0);
    Ok(ReadQueue {
        topic: request.topic,
        lite_topic: request.lite_topic,
        broker: request.broker,
        queue_id: request.queue_id,
        offset: request.offset,
        max: max.ok_or_else(|| Status::invalid_argument("max_messages must be positive"))?,
        max_body: request.max_body_bytes as usize,
        from: checked_time("from", request.from)?,
        to: checked_time("to", request.to)?,
        wanted: match (request.id, request.key) {
            (None, None) => WantedMessage::Any,
            (Some(id), None) => WantedMessage::Id(id),
            (None, Some(key)) => WantedMessage::Key(key),
            (Some(_), Some(_)) => {
                return Err(Status::invalid_argument("id and key exclude each other"));
            }
        },
    })
}

/// A time in a request. `None` if it is absent.
///
/// # Errors
/// `InvalidArgument` if it is out of range.
pub(super) fn checked_time(
    name: &str,
    timestamp: Option<prost_types::Timestamp>,
) -> Result<Option<SystemTime>, Status> {
    let invalid = timestamp.is_some_and(|timestamp| convert::timestamp_millis(timestamp).is_none());
    match invalid {
        true => Err(Status::invalid_argument(format!("{name} is not a valid time"))),
        false => Ok(time(timestamp)),
    }
}

pub(super) fn page_to_wire(page: ReadPage) -> pb::ReadMessagesResponse {
    pb::ReadMessagesResponse {
        messages: page.messages.into_iter().map(message_to_wire).collect(),
        next_offset: page.next_offset,
        looked_at: page.looked_at.cast_signed(),
        finished: page.finished,
    }
}

pub(super) fn page(page: pb::ReadMessagesResponse) -> ReadPage {
    ReadPage {
        messages: page.messages.into_iter().map(message).collect(),
        next_offset: page.next_offset,
        looked_at: page.looked_at.cast_unsigned(),
        finished: page.finished,
    }
}

fn message_to_wire(read: ReadMessage) -> pb::StoredMessage {
    let ReadMessage { delivery, broker, body_bytes } = read;
    let Delivery { message, topic, queue_id, queue_offset, stored_at, .. } = delivery;
    let (origin_topic, origin_id) =
        message.dead_letter_origin.map(|origin| (origin.topic, origin.message_id)).unzip();
    pb::StoredMessage {
        topic,
        broker,
        queue_id,
        offset: queue_offset,
        stored_at: Some(convert::timestamp(stored_at)),
        born_at: message.born_at.map(convert::timestamp),
        born_host: message.born_host,
        id: message.id,
        tag: message.tag,
        keys: message.keys,
        properties: message.properties.into_iter().collect(),
        message_group: message.group,
        deliver_at: match message.delay {
            Some(Delay::Until(at)) => Some(convert::timestamp(at)),
            Some(Delay::Unknown) | None => None,
        },
        priority: message.priority,
        lite_topic: message.lite_topic,
        trace_context: message.trace_context,
        origin_topic,
        origin_id,
        body: message.body.to_vec(),
        body_bytes: body_bytes as u64,
        gzip: message.body_encoding == BodyEncoding::Gzip,
    }
}

fn message(stored: pb::StoredMessage) -> ReadMessage {
    let mut properties: Vec<_> = stored.properties.into_iter().collect();
    properties.sort();
    let origin = stored.origin_topic.zip(stored.origin_id);
    let message = Message {
        id: stored.id,
        delay: time(stored.deliver_at).map(Delay::Until),
        group: stored.message_group,
        priority: stored.priority,
        lite_topic: stored.lite_topic,
        tag: stored.tag,
        keys: stored.keys,
        properties,
        body: stored.body.into(),
        body_encoding: if stored.gzip { BodyEncoding::Gzip } else { BodyEncoding::Identity },
        born_at: time(stored.born_at),
        born_host: stored.born_host,
        trace_context: stored.trace_context,
        dead_letter_origin: origin.map(|(topic, message_id)| DeadLetterOrigin { topic, message_id }),
        ..Message::default()
    };
    let delivery = Delivery {
        message,
        topic: stored.topic,
        queue_id: stored.queue_id,
        queue_offset: stored.offset,
        stored_at: time(stored.stored_at).unwrap_or(SystemTime::UNIX_EPOCH),
        store_host: String::new(),
        attempt: 0,
        attempts_of_others: 0,
        received_at: SystemTime::UNIX_EPOCH,
        invisible: Duration::ZERO,
        coordinates: String::new(),
    };
    let body_bytes = usize::try_from(stored.body_bytes).unwrap_or(usize::MAX);
    ReadMessage { delivery, broker: stored.broker, body_bytes }
}
