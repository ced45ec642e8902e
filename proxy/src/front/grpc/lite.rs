//! SyncLiteSubscription.

use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::offset_option::{OffsetType, Policy};

use super::shared::Shared;
use super::{convert, status};
use crate::context::Context;
use crate::error::Error;
use crate::processor::SyncLiteCommand;
use crate::service::{LiteAction, LiteStart};

pub(super) async fn sync(
    shared: &Shared,
    context: &Context,
    request: pb::SyncLiteSubscriptionRequest,
) -> Result<pb::SyncLiteSubscriptionResponse, Error> {
    let action = pb::LiteSubscriptionAction::try_from(request.action).ok().map(|action| match action {
        pb::LiteSubscriptionAction::PartialAdd => LiteAction::Add,
        pb::LiteSubscriptionAction::PartialRemove => LiteAction::Remove,
        pb::LiteSubscriptionAction::CompleteAdd => LiteAction::Replace,
        pb::LiteSubscriptionAction::CompleteRemove => LiteAction::Clear,
    });
    let command = SyncLiteCommand {
        topic: convert::name(request.topic),
        group: convert::name(request.group),
        action,
        lite_topics: request.lite_topic_set,
        start: request.offset_option.map(|option| option.offset_type.and_then(start)),
    };
    shared.processor.run(context, command).await?;
    Ok(pb::SyncLiteSubscriptionResponse { status: Some(status::ok()) })
}

fn start(option: OffsetType) -> Option<LiteStart> {
    Some(match option {
        OffsetType::Policy(policy) => match Policy::try_from(policy).ok()? {
            Policy::Last => LiteStart::Last,
            Policy::Min => LiteStart::Min,
            Policy::Max => LiteStart::Max,
        },
        OffsetType::Offset(offset) => LiteStart::Offset(offset),
        OffsetType::TailN(count) => LiteStart::Tail(count),
        OffsetType::Timestamp(millis) => LiteStart::Timestamp(millis),
    })
}
