//! Builds SyncLiteSubscription requests.

use std::time::{SystemTime, UNIX_EPOCH};

use rocketmq_thin_proto::v2::{
    self, LiteSubscriptionAction as Action,
    offset_option::{OffsetType, Policy},
};

use crate::options::OffsetOption;

/// The server's code for an invalid name of a lite topic.
pub(crate) const ILLEGAL_LITE_TOPIC: i32 = v2::Code::IllegalLiteTopic as i32;

/// The server's code for more lite topics than a consumer may subscribe to.
pub(crate) const LITE_QUOTA_EXCEEDED: i32 = v2::Code::LiteSubscriptionQuotaExceeded as i32;

/// How a request changes the lite topics of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiteChange {
    /// The group starts where this says in lite topics that are new to the consumer.
    Add(Option<OffsetOption>),
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
    let (action, start) = match change {
        LiteChange::Add(start) => (Action::PartialAdd, start),
        LiteChange::Remove => (Action::PartialRemove, None),
        LiteChange::Complete => (Action::CompleteAdd, None),
    };
    v2::SyncLiteSubscriptionRequest {
        action: action.into(),
        topic: Some(topic),
        group: Some(group),
        lite_topic_set: names.to_vec(),
        version: None,
        offset_option: start.map(offset_option),
    }
}

fn offset_option(start: OffsetOption) -> v2::OffsetOption {
    let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
    let offset_type = match start {
        OffsetOption::Last => OffsetType::Policy(Policy::Last.into()),
        OffsetOption::Min => OffsetType::Policy(Policy::Min.into()),
        OffsetOption::Max => OffsetType::Policy(Policy::Max.into()),
        OffsetOption::Offset(offset) => OffsetType::Offset(number(offset)),
        OffsetOption::Tail(messages) => OffsetType::TailN(number(messages)),
        OffsetOption::Timestamp(time) => OffsetType::Timestamp(millis_since_epoch(time)),
    };
    v2::OffsetOption { offset_type: Some(offset_type) }
}

/// The time in milliseconds since 1970; 0 for an earlier time.
fn millis_since_epoch(time: SystemTime) -> i64 {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(millis).unwrap_or(i64::MAX)
}
