//! Heartbeat and NotifyClientTermination.

use rocketmq_thin_proto::v2 as pb;

use super::shared::Shared;
use super::{convert, status};
use crate::context::Context;
use crate::error::Error;
use crate::processor::{HeartbeatCommand, TerminateCommand};

pub(super) async fn heartbeat(
    shared: &Shared,
    context: &Context,
    request: pb::HeartbeatRequest,
) -> Result<pb::HeartbeatResponse, Error> {
    let command = HeartbeatCommand { group: convert::name(request.group) };
    shared.processor.run(context, command).await?;
    Ok(pb::HeartbeatResponse { status: Some(status::ok()) })
}

pub(super) async fn terminate(
    shared: &Shared,
    context: &Context,
    request: pb::NotifyClientTerminationRequest,
) -> Result<pb::NotifyClientTerminationResponse, Error> {
    let command = TerminateCommand { group: convert::name(request.group) };
    shared.processor.run(context, command).await?;
    Ok(pb::NotifyClientTerminationResponse { status: Some(status::ok()) })
}
