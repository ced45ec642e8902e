//! ChangeInvisibleDuration.

use std::time::Duration;

use rocketmq_thin_proto::v2;

use crate::{error::Error, rpc::Origin};

/// A request that hides a delivery for `invisible` from now.
pub(crate) fn build_change(
    group: v2::Resource,
    topic: v2::Resource,
    delivery: (String, String),
    invisible: Duration,
) -> v2::ChangeInvisibleDurationRequest {
    let (message_id, receipt_handle) = delivery;
    v2::ChangeInvisibleDurationRequest {
        group: Some(group),
        topic: Some(topic),
        receipt_handle,
        invisible_duration: Some(super::duration(invisible)),
        message_id,
        lite_topic: None,
        suspend: None,
    }
}

/// The new handle; empty when the old one stays good.
pub(crate) fn process_change(
    origin: &Origin,
    response: v2::ChangeInvisibleDurationResponse,
) -> Result<String, Error> {
    origin.check(response.status.as_ref())?;
    Ok(response.receipt_handle)
}
