//! The record formats of topics and groups.

use std::time::Duration;

use super::binary::{self, Malformed};
use crate::service::{
    GroupConfig, GroupStart, Permission, RetryPolicy, TopicConfig, TopicKind, millis, time,
};

/// A topic's record: its id, its configuration, and the highest number of queues that it ever had.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TopicRecord {
    pub(super) id: u32,
    pub(super) config: TopicConfig,
    pub(super) most_queues: usize,
}

/// A group's record: its id and its configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GroupRecord {
    pub(super) id: u32,
    pub(super) config: GroupConfig,
}

/// The kinds of topics by the numbers that stand for them in records.
const KINDS: [TopicKind; 9] = [
    TopicKind::Unspecified,
    TopicKind::Normal,
    TopicKind::Fifo,
    TopicKind::Delay,
    TopicKind::Transaction,
    TopicKind::Mixed,
    TopicKind::Priority,
    TopicKind::Lite,
    TopicKind::Undeclared,
];

impl TopicRecord {
    /// Encodes the value. The name is in the key.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        binary::put_number(&mut out, self.id.into());
        let kind = KINDS.iter().position(|kind| *kind == self.config.kind).expect("all kinds are listed");
        binary::put_number(&mut out, kind as u64);
        binary::put_signed(&mut out, self.config.read_queues.into());
        binary::put_signed(&mut out, self.config.write_queues.into());
        let Permission { read, write } = self.config.permission;
        binary::put_number(&mut out, u64::from(read) | u64::from(write) << 1);
        binary::put_number(&mut out, self.most_queues as u64);
        binary::put_number(&mut out, self.config.lite_expiration.is_some().into());
        put_duration(&mut out, self.config.lite_expiration.unwrap_or_default());
        binary::put_number(&mut out, self.config.retention.is_some().into());
        put_duration(&mut out, self.config.retention.unwrap_or_default());
        binary::put_number(&mut out, self.config.retention_bytes.is_some().into());
        binary::put_number(&mut out, self.config.retention_bytes.unwrap_or_default());
        out
    }

    /// Decodes the value.
    pub(super) fn decode(name: &str, mut input: &[u8]) -> Result<Self, Malformed> {
        let input = &mut input;
        let id = narrow(binary::number(input)?)?;
        let kind = KINDS.get(narrow::<usize>(binary::number(input)?)?).ok_or(Malformed)?;
        let read_queues = i32::try_from(binary::signed(input)?).map_err(|_| Malformed)?;
        let write_queues = i32::try_from(binary::signed(input)?).map_err(|_| Malformed)?;
        let permission = binary::number(input)?;
        let permission = Permission { read: permission & 1 != 0, write: permission & 2 != 0 };
        let most_queues = narrow(binary::number(input)?)?;
        // Records of older versions end here or after the next field.
        let lite_expiration = optional(input)?.map(Duration::from_millis);
        let retention = optional(input)?.map(Duration::from_millis);
        let retention_bytes = optional(input)?;
        let config = TopicConfig {
            name: name.to_owned(),
            kind: *kind,
            read_queues,
            write_queues,
            permission,
            lite_expiration,
            retention,
            retention_bytes,
        };
        Ok(Self { id, config, most_queues })
    }
}

impl GroupRecord {
    /// Encodes the value. The name is in the key.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        binary::put_number(&mut out, self.id.into());
        binary::put_number(&mut out, u64::from(self.config.fifo) | u64::from(self.config.consume) << 1);
        binary::put_signed(&mut out, self.config.max_retries.into());
        match &self.config.retry {
            RetryPolicy::Customized(pauses) => {
                binary::put_number(&mut out, 0);
                binary::put_number(&mut out, pauses.len() as u64);
                pauses.iter().for_each(|pause| put_duration(&mut out, *pause));
            }
            RetryPolicy::Exponential { initial, max, multiplier } => {
                binary::put_number(&mut out, 1);
                put_duration(&mut out, *initial);
                put_duration(&mut out, *max);
                binary::put_number(&mut out, multiplier.to_bits().into());
            }
        }
        binary::put_number(&mut out, self.config.lite_bind_topic.is_some().into());
        binary::put_text(&mut out, self.config.lite_bind_topic.as_deref().unwrap_or_default());
        binary::put_signed(&mut out, self.config.lite_quota.into());
        binary::put_number(&mut out, self.config.lite_exclusive.into());
        put_start(&mut out, self.config.start);
        out
    }

    /// Decodes the value.
    pub(super) fn decode(name: &str, mut input: &[u8]) -> Result<Self, Malformed> {
        let input = &mut input;
        let id = narrow(binary::number(input)?)?;
        let flags = binary::number(input)?;
        let max_retries = i32::try_from(binary::signed(input)?).map_err(|_| Malformed)?;
        let retry = match binary::number(input)? {
            0 => {
                let count = binary::number(input)?;
                let pauses = (0..count).map(|_| duration(input)).collect::<Result<_, _>>();
                RetryPolicy::Customized(pauses?)
            }
            1 => RetryPolicy::Exponential {
                initial: duration(input)?,
                max: duration(input)?,
                multiplier: f32::from_bits(narrow(binary::number(input)?)?),
            },
            _ => return Err(Malformed),
        };
        let bound = binary::number(input)? != 0;
        let lite_topic = binary::text(input)?.to_owned();
        let lite_quota = i32::try_from(binary::signed(input)?).map_err(|_| Malformed)?;
        // Records of older versions end here.
        let lite_exclusive = !input.is_empty() && binary::number(input)? != 0;
        let start = if input.is_empty() { GroupStart::Default } else { start(input)? };
        let config = GroupConfig {
            name: name.to_owned(),
            fifo: flags & 1 != 0,
            consume: flags & 2 != 0,
            max_retries,
            retry,
            lite_bind_topic: bound.then_some(lite_topic),
            lite_quota,
            lite_exclusive,
            start,
        };
        Ok(Self { id, config })
    }
}

fn put_start(out: &mut Vec<u8>, start: GroupStart) {
    match start {
        GroupStart::Default => binary::put_number(out, 0),
        GroupStart::Earliest => binary::put_number(out, 1),
        GroupStart::Latest => binary::put_number(out, 2),
        GroupStart::Time(at) => {
            binary::put_number(out, 3);
            binary::put_signed(out, millis(at));
        }
    }
}

fn start(input: &mut &[u8]) -> Result<GroupStart, Malformed> {
    Ok(match binary::number(input)? {
        0 => GroupStart::Default,
        1 => GroupStart::Earliest,
        2 => GroupStart::Latest,
        3 => GroupStart::Time(time(binary::signed(input)?)),
        _ => return Err(Malformed),
    })
}

fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    binary::put_number(out, u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
}

fn duration(input: &mut &[u8]) -> Result<Duration, Malformed> {
    binary::number(input).map(Duration::from_millis)
}

/// Reads an optional number. Returns `None` at the end of the record, too.
fn optional(input: &mut &[u8]) -> Result<Option<u64>, Malformed> {
    if input.is_empty() {
        return Ok(None);
    }
    let is_given = binary::number(input)? != 0;
    let number = binary::number(input)?;
    Ok(is_given.then_some(number))
}

fn narrow<T: TryFrom<u64>>(number: u64) -> Result<T, Malformed> {
    T::try_from(number).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retries() -> impl Strategy<Value = RetryPolicy> {
        let ms = || (0u64..1 << 40).prop_map(Duration::from_millis);
        prop_oneof![
            prop::collection::vec(ms(), 0..20).prop_map(RetryPolicy::Customized),
            (ms(), ms(), 1f32..10.0).prop_map(|(initial, max, multiplier)| RetryPolicy::Exponential {
                initial,
                max,
                multiplier
            }),
        ]
    }

    fn starts() -> impl Strategy<Value = GroupStart> {
        prop_oneof![
            Just(GroupStart::Default),
            Just(GroupStart::Earliest),
            Just(GroupStart::Latest),
            (0i64..1 << 45).prop_map(|at| GroupStart::Time(time(at))),
        ]
    }

    proptest! {
        #[test]
        fn topics_are_decoded_as_they_were_encoded(
            id in 0u32..,
            kind in 0..8usize,
            (read_queues, write_queues) in (0i32..99, -1i32..99),
            most_queues in 0..99usize,
            (read, write) in any::<(bool, bool)>(),
            (lite_expiration, retention) in (
                prop::option::of((0u64..1 << 40).prop_map(Duration::from_millis)),
                prop::option::of((0u64..1 << 40).prop_map(Duration::from_millis)),
            ),
            retention_bytes in prop::option::of(0u64..),
        ) {
            let config = TopicConfig {
                name: "t".into(),
                kind: KINDS[kind],
                read_queues,
                write_queues,
                permission: Permission { read, write },
                lite_expiration,
                retention,
                retention_bytes,
            };
            let record = TopicRecord { id, config, most_queues };
            prop_assert_eq!(TopicRecord::decode("t", &record.encode()), Ok(record));
        }

        #[test]
        fn groups_are_decoded_as_they_were_encoded(
            id in 0u32..,
            (fifo, consume) in any::<(bool, bool)>(),
            max_retries in -1i32..99,
            retry in retries(),
            lite_bind_topic in prop::option::of(".*"),
            lite_exclusive in any::<bool>(),
            start in starts(),
        ) {
            let config = GroupConfig {
                name: "g".into(),
                fifo,
                consume,
                max_retries,
                retry,
                lite_bind_topic,
                lite_quota: 7,
                lite_exclusive,
                start,
            };
            let record = GroupRecord { id, config };
            prop_assert_eq!(GroupRecord::decode("g", &record.encode()), Ok(record));
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(junk in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = TopicRecord::decode("t", &junk);
            let _ = GroupRecord::decode("g", &junk);
        }
    }

    #[test]
    fn topics_of_older_versions_are_decoded() {
        // Id 1, LITE, one queue for reading and one for writing, both permissions, one queue ever.
        let record = TopicRecord::decode("t", &[1, 7, 2, 2, 3, 1]).expect("a record");
        assert_eq!((record.config.kind, record.config.lite_expiration), (TopicKind::Lite, None));
    }
}
