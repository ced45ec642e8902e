//! SendMessage and RecallMessage.

use rocketmq_thin_proto::v2 as pb;

use super::shared::Shared;
use super::{convert, message, status};
use crate::context::Context;
use crate::error::Error;
use crate::processor::{RecallCommand, SendCommand};

/// SendMessage. The answer has one entry per message, in order. (Apache's proxy joins the ids of a batch in a single
/// entry.)
pub(super) async fn send(
    shared: &Shared,
    context: &Context,
    request: pb::SendMessageRequest,
) -> Result<pb::SendMessageResponse, Error> {
    let messages = request.messages.into_iter().map(message::draft).collect();
    let command = SendCommand { messages, types_unknown: false };
    let stored = shared.processor.run(context, command).await?;
    let entries = stored.into_iter().map(|stored| match stored {
        Ok(stored) => pb::SendResultEntry {
            status: Some(status::of_persistence(stored.persistence)),
            transaction_id: stored.transaction_id,
            message_id: stored.message_id,
            offset: stored.queue_offset,
            recall_handle: stored.recall_handle.unwrap_or_default(),
        },
        Err(error) => pb::SendResultEntry { status: Some(status::of(&error)), ..Default::default() },
    });
    let entries: Vec<_> = entries.collect();
    let status = status::of_entries(entries.iter().filter_map(|entry| entry.status.as_ref()));
    Ok(pb::SendMessageResponse { status: Some(status), entries })
}

/// RecallMessage.
pub(super) async fn recall(
    shared: &Shared,
    context: &Context,
    request: pb::RecallMessageRequest,
) -> Result<pb::RecallMessageResponse, Error> {
    let (topic, handle) = (convert::name(request.topic), request.recall_handle);
    let command = RecallCommand { topic, handle, types_unknown: false };
    let message_id = shared.processor.run(context, command).await?;
    Ok(pb::RecallMessageResponse { status: Some(status::ok()), message_id })
}
