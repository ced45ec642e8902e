//! Small conversions between wire types and the rules' types.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq_thin_proto::v2 as pb;

use crate::processor::Expression;

/// A resource's name; empty where there is none.
pub(super) fn name(resource: Option<pb::Resource>) -> String {
    resource.map(|resource| resource.name).unwrap_or_default()
}

/// Milliseconds of a duration, rounded down; absent: zero.
pub(super) fn millis(duration: Option<&prost_types::Duration>) -> i64 {
    duration.map_or(0, |duration| {
        duration.seconds.saturating_mul(1000).saturating_add(i64::from(duration.nanos) / 1_000_000)
    })
}

/// Milliseconds since 1970.
pub(super) fn timestamp_millis(timestamp: prost_types::Timestamp) -> i64 {
    timestamp.seconds.saturating_mul(1000).saturating_add(i64::from(timestamp.nanos) / 1_000_000)
}

/// A time, to the millisecond. What lies before 1970 or beyond the clock's range is 1970.
pub(super) fn time(timestamp: prost_types::Timestamp) -> SystemTime {
    let millis = u64::try_from(timestamp_millis(timestamp)).unwrap_or_default();
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

/// A time on the wire.
pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        // Clients see milliseconds, as from Apache's proxy.
        nanos: since.subsec_millis().cast_signed() * 1_000_000,
    }
}

/// A duration on the wire.
pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

/// A filter; every type but SQL means tags.
pub(super) fn expression(filter: Option<pb::FilterExpression>) -> Expression {
    let filter = filter.unwrap_or_default();
    match filter.r#type() {
        pb::FilterType::Sql => Expression::Sql(filter.expression),
        pb::FilterType::Tag | pb::FilterType::Unspecified => Expression::Tags(filter.expression),
    }
}
