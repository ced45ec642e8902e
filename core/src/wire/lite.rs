//! Builds SyncLiteSubscription requests.

use rocketmq_thin_proto::v2::{self, LiteSubscriptionAction as Action};

/// The server's code for an invalid name of a lite topic.
pub(crate) const ILLEGAL_LITE_TOPIC: i32 = v2::Code::IllegalLiteTopic as i32;

/// The server's code for more lite topics than a consumer may subscribe to.
pub(crate) const LITE_QUOTA_EXCEEDED: i32 = v2::Code::LiteSubscriptionQuotaExceeded as i32;

/// How a request changes the lite topics of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiteChange {
    Add,
    Remove,
    /// The request has the complete set.
    Complete,
}

/// Builds a request that changes which lite topics of `topic` a consumer receives from.
pub(crate) fn build_sync_lite(
    group: v2::Resource,
    topic: v2::Resource,
    change: LiteChange,
    names: &[String],
) -> v2::SyncLiteSubscriptionRequest {
    let action = match change {
        LiteChange::Add => Action::PartialAdd,
        LiteChange::Remove => Action::PartialRemove,
        LiteChange::Complete => Action::CompleteAdd,
    };
    v2::SyncLiteSubscriptionRequest {
        action: action.into(),
        topic: Some(topic),
        group: Some(group),
        lite_topic_set: names.to_vec(),
        version: None,
        offset_option: None,
    }
}
