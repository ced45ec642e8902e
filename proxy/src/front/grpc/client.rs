//! Heartbeat and NotifyClientTermination.

use std::pin::pin;

use rocketmq_thin_proto::v2 as pb;

use super::{Shared, convert, status};
use crate::context::Context;
use crate::error::Error;
use crate::layer::Operation;

pub(super) async fn heartbeat(
    shared: &Shared,
    context: &Context,
    request: pb::HeartbeatRequest,
) -> Result<pb::HeartbeatResponse, Error> {
    let group = convert::name(request.group);
    let work = pin!(shared.processor.heartbeat(context, &group));
    shared.layers.run(context, Operation::Heartbeat, work).await?;
    Ok(pb::HeartbeatResponse { status: Some(status::ok()) })
}

pub(super) async fn terminate(
    shared: &Shared,
    context: &Context,
    request: pb::NotifyClientTerminationRequest,
) -> Result<pb::NotifyClientTerminationResponse, Error> {
    let group = convert::name(request.group);
    let work = pin!(shared.processor.terminate(context, &group));
    shared.layers.run(context, Operation::Terminate, work).await?;
    Ok(pb::NotifyClientTerminationResponse { status: Some(status::ok()) })
}
