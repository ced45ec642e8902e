//! PullMessage, UpdateOffset, GetOffset and QueryOffset, which Apache's proxy does not serve. The answer to a pull is a
//! stream of a status, the messages, and the offset of the next pull.

use bytes::Bytes;
use futures::stream;
use http::Response;
use http_body::Frame;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::pull_message_response::Content;
use tonic::Code;

use super::message::BodyDigest;
use super::shared::Shared;
use super::wire::{self, Body, Packer};
use super::{convert, message, status};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::front::port::Charge;
use crate::processor::{GetOffsetCommand, PullCommand, QueryOffsetCommand, QueueName, UpdateOffsetCommand};
use crate::service::{Delivery, PullOutcome, Pulled, Whence, time};

pub(super) async fn pull(
    shared: &Shared,
    context: Context,
    request: pb::PullMessageRequest,
    mut charge: Charge,
) -> Response<Body> {
    let pulled = shared.processor.run(&context, command(request)).await;
    let Pulled { outcome, next_offset, .. } = match pulled {
        Ok(pulled) => pulled,
        Err(error) => return frames(std::iter::once(Content::Status(status::of(&error))), charge),
    };
    let (status, messages) = match outcome {
        PullOutcome::Messages(messages) if !messages.is_empty() => (status::ok(), messages),
        PullOutcome::Messages(_) | PullOutcome::Nothing => {
            (status_of(pb::Code::MessageNotFound, "no new message"), Vec::new())
        }
        PullOutcome::OffsetIllegal => {
            (status_of(pb::Code::IllegalOffset, "the offset is not in the queue"), Vec::new())
        }
    };
    let (messages, next_offset) = fitting(messages, next_offset, &mut charge);
    let message = |delivery| message::delivered(delivery, None, BodyDigest::Md5);
    let messages = messages.into_iter().map(move |delivery| Content::Message(message(delivery)));
    let parts = std::iter::once(Content::Status(status)).chain(messages);
    frames(parts.chain([Content::NextOffset(next_offset)]), charge)
}

/// As many of these messages as the connection may hold, at least one, and the offset of the first message after them.
fn fitting(mut messages: Vec<Delivery>, next_offset: i64, charge: &mut Charge) -> (Vec<Delivery>, i64) {
    let count = charge.add_fitting(messages.iter().map(|delivery| message::size_hint(&delivery.message)));
    let left_out = messages.get(count).map(|delivery| delivery.queue_offset);
    messages.truncate(count);
    (messages, left_out.unwrap_or(next_offset))
}

/// An answer of these parts. They are packed into frames when the connection can send them. Until then, `charge` counts
/// their memory.
fn frames(parts: impl Iterator<Item = Content> + Send + 'static, charge: Charge) -> Response<Body> {
    let mut parts = Some(parts.peekable());
    wire::streaming(stream::iter(std::iter::from_fn(move || {
        let _held = &charge;
        let remaining = parts.as_mut()?;
        if remaining.peek().is_none() {
            parts = None;
            return Some(wire::trailers(Code::Ok, ""));
        }
        let mut packer = Packer::new(1024);
        while !packer.is_full() {
            let Some(content) = remaining.next() else { break };
            packer.push(&pb::PullMessageResponse { content: Some(content) });
        }
        Some::<Frame<Bytes>>(packer.finish())
    })))
}

fn status_of(code: pb::Code, message: &str) -> pb::Status {
    pb::Status { code: code.into(), message: message.to_owned() }
}

fn command(request: pb::PullMessageRequest) -> PullCommand {
    PullCommand {
        queue: queue(request.message_queue),
        group: convert::name(request.group),
        offset: request.offset,
        batch_size: request.batch_size,
        expression: convert::expression(request.filter_expression),
        polling_ms: convert::millis(request.long_polling_timeout.as_ref()),
    }
}

fn queue(queue: Option<pb::MessageQueue>) -> QueueName {
    let queue = queue.unwrap_or_default();
    QueueName {
        topic: convert::name(queue.topic),
        broker: queue.broker.map(|broker| broker.name).unwrap_or_default(),
        id: queue.id,
    }
}

pub(super) async fn update_offset(
    shared: &Shared,
    context: &Context,
    request: pb::UpdateOffsetRequest,
) -> Result<pb::UpdateOffsetResponse, Error> {
    let command = UpdateOffsetCommand {
        queue: queue(request.message_queue),
        group: convert::name(request.group),
        offset: request.offset,
    };
    shared.processor.run(context, command).await?;
    Ok(pb::UpdateOffsetResponse { status: Some(status::ok()) })
}

pub(super) async fn get_offset(
    shared: &Shared,
    context: &Context,
    request: pb::GetOffsetRequest,
) -> Result<pb::GetOffsetResponse, Error> {
    let command =
        GetOffsetCommand { queue: queue(request.message_queue), group: convert::name(request.group) };
    let offset = shared.processor.run(context, command).await?;
    Ok(pb::GetOffsetResponse { status: Some(status::ok()), offset })
}

pub(super) async fn query_offset(
    shared: &Shared,
    context: &Context,
    request: pb::QueryOffsetRequest,
) -> Result<pb::QueryOffsetResponse, Error> {
    let invalid = || Error::new(ErrorKind::BadRequest, "the timestamp is missing or out of range");
    let whence = match request.query_offset_policy() {
        pb::QueryOffsetPolicy::Beginning => Whence::Beginning,
        pb::QueryOffsetPolicy::End => Whence::End,
        pb::QueryOffsetPolicy::Timestamp => {
            let millis = request.timestamp.and_then(convert::timestamp_millis);
            Whence::Time(time(millis.ok_or_else(invalid)?))
        }
    };
    let command = QueryOffsetCommand { queue: queue(request.message_queue), whence };
    let offset = shared.processor.run(context, command).await?;
    Ok(pb::QueryOffsetResponse { status: Some(status::ok()), offset })
}
