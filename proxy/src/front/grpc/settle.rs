//! AckMessage, ChangeInvisibleDuration and ForwardMessageToDeadLetterQueue.

use rocketmq_thin_proto::v2 as pb;

use super::shared::Shared;
use super::{convert, status};
use crate::context::Context;
use crate::error::Error;
use crate::processor::{AckCommand, AckEntry, ChangeInvisibleCommand, ForwardCommand};

pub(super) async fn acknowledge(
    shared: &Shared,
    context: &Context,
    request: pb::AckMessageRequest,
) -> Result<pb::AckMessageResponse, Error> {
    let entries = request.entries.iter().map(|entry| AckEntry {
        handle: entry.receipt_handle.clone(),
        message_id: entry.message_id.clone(),
        lite_topic: entry.lite_topic.clone(),
    });
    let command = AckCommand {
        topic: convert::name(request.topic),
        group: convert::name(request.group),
        entries: entries.collect(),
    };
    let results = shared.processor.run(context, command).await?;
    let statuses = results.iter().map(|result| result.as_ref().map_or_else(status::of, |()| status::ok()));
    let entries = request.entries.into_iter().zip(statuses);
    let entries: Vec<_> = entries
        .map(|(entry, status)| pb::AckMessageResultEntry {
            message_id: entry.message_id,
            receipt_handle: entry.receipt_handle,
            status: Some(status),
        })
        .collect();
    let status = status::of_entries(entries.iter().filter_map(|entry| entry.status.as_ref()));
    Ok(pb::AckMessageResponse { status: Some(status), entries })
}

pub(super) async fn change_invisible(
    shared: &Shared,
    context: &Context,
    request: pb::ChangeInvisibleDurationRequest,
) -> Result<pb::ChangeInvisibleDurationResponse, Error> {
    let command = ChangeInvisibleCommand {
        topic: convert::name(request.topic),
        group: convert::name(request.group),
        entry: AckEntry {
            handle: request.receipt_handle,
            message_id: request.message_id,
            lite_topic: request.lite_topic,
        },
        invisible_ms: convert::millis(request.invisible_duration.as_ref()),
        suspend: request.suspend.unwrap_or_default(),
    };
    let receipt_handle = shared.processor.run(context, command).await?;
    Ok(pb::ChangeInvisibleDurationResponse { status: Some(status::ok()), receipt_handle })
}

pub(super) async fn forward_to_dead_letter(
    shared: &Shared,
    context: &Context,
    request: pb::ForwardMessageToDeadLetterQueueRequest,
) -> Result<pb::ForwardMessageToDeadLetterQueueResponse, Error> {
    let command = ForwardCommand {
        topic: convert::name(request.topic),
        group: convert::name(request.group),
        entry: AckEntry {
            handle: request.receipt_handle,
            message_id: request.message_id,
            lite_topic: request.lite_topic,
        },
    };
    shared.processor.run(context, command).await?;
    // Apache's proxy sends a broker's result code as the text.
    let status = pb::Status { message: "0".to_owned(), ..status::ok() };
    Ok(pb::ForwardMessageToDeadLetterQueueResponse { status: Some(status) })
}
