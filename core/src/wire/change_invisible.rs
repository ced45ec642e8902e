//! Builds ChangeInvisibleDuration requests, and reads their results.

use std::time::Duration;

use rocketmq_thin_proto::v2;

use crate::{error::Error, message::LeasedMessage, rpc::CallContext};

/// A change of one delivery's invisible time.
pub(crate) struct ChangeInvisibleRequest<'a> {
    pub(crate) message: &'a LeasedMessage,
    pub(crate) handle: String,
    /// How long the delivery is hidden, from now.
    pub(crate) invisible: Duration,
    /// Asks the server not to count this delivery as an attempt. Servers before 5.5.0 ignore it, and later ones ignore
    /// it for FIFO groups.
    pub(crate) suspend: bool,
}

pub(crate) fn build_change_invisible(
    group: v2::Resource,
    topic: v2::Resource,
    change: ChangeInvisibleRequest<'_>,
) -> v2::ChangeInvisibleDurationRequest {
    let ChangeInvisibleRequest { message, handle, invisible, suspend } = change;
    v2::ChangeInvisibleDurationRequest {
        group: Some(group),
        topic: Some(topic),
        receipt_handle: handle,
        invisible_duration: Some(super::duration(invisible)),
        message_id: message.message_id.clone(),
        lite_topic: message.lite_topic.clone(),
        suspend: suspend.then_some(true),
    }
}

/// Returns the new receipt handle; empty if the old one stays valid.
pub(crate) fn process_change_invisible(
    call: &CallContext,
    response: v2::ChangeInvisibleDurationResponse,
) -> Result<String, Error> {
    call.check(response.status.as_ref())?;
    Ok(response.receipt_handle)
}
