//! Where consumption starts.

use std::time::SystemTime;

/// Where a group starts in a lite topic that a consumer subscribes to. Servers store the position, which all consumers of
/// the group share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetOption {
    /// At the first message that the group has not consumed.
    Last,
    /// At the first message.
    Min,
    /// After the last message.
    Max,
    /// At this offset.
    Offset(u64),
    /// This many messages before the first one that the group has not consumed.
    Tail(u64),
    /// At the first message that was stored at this time or later. Apache's brokers ignore this.
    Timestamp(SystemTime),
}
