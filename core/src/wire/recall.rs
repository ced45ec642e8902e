//! Builds RecallMessage requests, and reads their results.

use rocketmq_thin_proto::v2;

use crate::{error::Error, rpc::CallContext};

pub(crate) fn build_recall(topic: v2::Resource, handle: &str) -> v2::RecallMessageRequest {
    v2::RecallMessageRequest { topic: Some(topic), recall_handle: handle.to_owned() }
}

/// Returns the id of the recalled message.
pub(crate) fn process_recall(
    call: &CallContext,
    response: v2::RecallMessageResponse,
) -> Result<String, Error> {
    call.check(response.status.as_ref())?;
    Ok(response.message_id)
}
