//! Conversions of names, times, durations and filters between the wire and the processor.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use rocketmq_thin_proto::v2 as pb;

use crate::processor::Expression;
use crate::service;

/// The name of a resource. Empty if it is absent.
pub(super) fn name(resource: Option<pb::Resource>) -> String {
    resource.map(|resource| resource.name).unwrap_or_default()
}

/// The valid seconds of a `google.protobuf.Timestamp`: the years 1 to 9999. Clients can't read others. (With Apache's
/// proxy, one invalid timestamp fails all messages of an answer.)
const SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// The valid seconds of a `google.protobuf.Duration`: ten thousand years.
const DURATION_SECONDS: RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;
const NANOS: RangeInclusive<i32> = 0..=999_999_999;

/// The milliseconds of a duration, rounded towards zero. 0 if it is absent, `i64::MIN` if it is invalid, which every
/// check refuses.
pub(super) fn millis(duration: Option<&prost_types::Duration>) -> i64 {
    let Some(prost_types::Duration { seconds, nanos }) = duration else { return 0 };
    let same_sign = *seconds == 0 || *nanos == 0 || (*seconds < 0) == (*nanos < 0);
    if !DURATION_SECONDS.contains(seconds) || !NANOS.contains(&nanos.saturating_abs()) || !same_sign {
        return i64::MIN;
    }
    seconds * 1000 + i64::from(*nanos) / 1_000_000
}

/// The milliseconds since the Unix epoch. `None` if the timestamp is invalid.
pub(super) fn timestamp_millis(timestamp: prost_types::Timestamp) -> Option<i64> {
    let valid = SECONDS.contains(&timestamp.seconds) && NANOS.contains(&timestamp.nanos);
    valid.then(|| timestamp.seconds * 1000 + i64::from(timestamp.nanos) / 1_000_000)
}

/// A time for the wire. A time out of range becomes the nearest valid one.
pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let millis = service::millis(time);
    prost_types::Timestamp {
        seconds: millis.div_euclid(1000).clamp(*SECONDS.start(), *SECONDS.end()),
        // Rounded to milliseconds, as Apache's proxy does.
        nanos: millis.rem_euclid(1000) as i32 * 1_000_000,
    }
}

/// A duration for the wire.
pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

/// A filter from the wire. Every type except SQL means tags.
pub(super) fn expression(filter: Option<pb::FilterExpression>) -> Expression {
    let filter = filter.unwrap_or_default();
    match filter.r#type() {
        pb::FilterType::Sql => Expression::Sql(filter.expression),
        pb::FilterType::Tag | pb::FilterType::Unspecified => Expression::Tags(filter.expression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_timestamps_are_read() {
        for (seconds, nanos, millis) in [
            (0, 0, Some(0)),
            (-1, 999_000_000, Some(-1)),
            (253_402_300_799, 999_999_999, Some(253_402_300_799_999)),
            (253_402_300_800, 0, None),
            (-62_135_596_801, 0, None),
            (1 << 60, 0, None),
            (0, -1, None),
            (0, 1_000_000_000, None),
        ] {
            let timestamp = prost_types::Timestamp { seconds, nanos };
            assert_eq!(timestamp_millis(timestamp), millis, "{seconds} {nanos}");
        }
    }

    #[test]
    fn every_time_becomes_a_valid_timestamp() {
        for (millis, seconds, nanos) in [
            (-1, -1, 999_000_000),
            (1_500, 1, 500_000_000),
            (i64::MAX, 253_402_300_799, 807_000_000),
            (-i64::MAX, -62_135_596_800, 193_000_000),
        ] {
            assert_eq!(
                timestamp(service::time(millis)),
                prost_types::Timestamp { seconds, nanos },
                "{millis}"
            );
        }
    }

    #[test]
    fn an_invalid_duration_is_out_of_every_range() {
        for (seconds, nanos, expected) in [
            (1, 500_000_000, 1_500),
            (-1, -500_000_000, -1_500),
            (1, -1, i64::MIN),
            (0, 2_000_000_000, i64::MIN),
            (1 << 60, 0, i64::MIN),
        ] {
            let duration = prost_types::Duration { seconds, nanos };
            assert_eq!(millis(Some(&duration)), expected, "{seconds} {nanos}");
        }
    }
}
