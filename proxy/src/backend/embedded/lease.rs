//! Leases: which messages of a queue are delivered and not settled, until when, and how leases are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64;

use super::binary::{self, Malformed};
use super::clock;
use super::message_groups::{GroupHash, MessageGroups};

/// A message that was delivered and is not settled. Once `visible_at` has passed, it may be delivered again. Or a message
/// that a receive in order has passed over because its message group was blocked: its attempt is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// When it may be delivered again, in ms of [`clock::monotonic`].
    pub(super) visible_at: u64,
    /// How often it was delivered to this group.
    pub(super) attempt: u32,
    /// Distinguishes this lease from earlier ones on the same message, which settle nothing any more.
    pub(super) token: u64,
    /// The next delivery does not count as another attempt.
    pub(super) uncounted: bool,
    /// The message was delivered in order, so the lease blocks its message group.
    pub(super) fifo: bool,
    /// Its message group, if it was delivered in order. Leases of older versions do not contain it, and block the whole
    /// queue.
    pub(super) group: Option<GroupHash>,
    /// The attempt id of the receive, if it had one and was in order.
    pub(super) attempt_id: Option<Box<str>>,
}

const UNCOUNTED: u64 = 1;
const FIFO: u64 = 1 << 1;
const NAMED: u64 = 1 << 2;
/// The record contains the length. Records of older versions do not.
const LENGTH: u64 = 1 << 3;
const GROUP: u64 = 1 << 4;

/// The same moment by both clocks, in ms.
#[derive(Clone, Copy, Debug)]
struct Moment {
    wall: u64,
    monotonic: u64,
}

impl Moment {
    fn now() -> Self {
        Self { wall: clock::now(), monotonic: clock::monotonic() }
    }
}

impl Lease {
    /// Whether the message may be delivered again.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.visible_at <= now
    }

    /// Whether the message becomes a dead letter when this lease ends, if it may have this many deliveries.
    pub(super) fn is_last(&self, max_attempts: u32) -> bool {
        !self.uncounted && self.attempt >= max_attempts
    }

    /// A message of a blocked message group that is passed over now.
    pub(super) fn passed_over(group: GroupHash, now: u64) -> Self {
        Self {
            visible_at: now,
            attempt: 0,
            token: 0,
            uncounted: false,
            fifo: true,
            group: Some(group),
            attempt_id: None,
        }
    }

    /// Whether the message was not delivered yet.
    pub(super) fn is_passed_over(&self) -> bool {
        self.attempt == 0
    }

    /// The value to store: flags, end by the wall clock, attempt, token, attempt id, remaining length in ms, message
    /// group.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.encode_at(Moment::now())
    }

    /// Reads a stored value. However the wall clock was set since, the lease ends after its remaining length at the
    /// latest.
    pub(super) fn decode(input: &[u8]) -> Result<Self, Malformed> {
        Self::decode_at(input, Moment::now())
    }

    fn encode_at(&self, now: Moment) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        let length = self.visible_at.saturating_sub(now.monotonic);
        let since = now.monotonic.saturating_sub(self.visible_at);
        let flag = |flag, on: bool| if on { flag } else { 0 };
        let named = flag(NAMED, self.attempt_id.is_some());
        let grouped = flag(GROUP, self.group.is_some());
        let flags = flag(UNCOUNTED, self.uncounted) | flag(FIFO, self.fifo) | named | LENGTH | grouped;
        binary::put_number(&mut out, flags);
        binary::put_number(&mut out, now.wall.saturating_add(length).saturating_sub(since));
        binary::put_number(&mut out, self.attempt.into());
        out.extend_from_slice(&self.token.to_le_bytes());
        if let Some(attempt_id) = &self.attempt_id {
            binary::put_text(&mut out, attempt_id);
        }
        binary::put_number(&mut out, length);
        if let Some(GroupHash(group)) = self.group {
            out.extend_from_slice(&group.to_le_bytes());
        }
        out
    }

    fn decode_at(mut input: &[u8], now: Moment) -> Result<Self, Malformed> {
        let input = &mut input;
        let flags = binary::number(input)?;
        let ends = binary::number(input)?;
        let attempt = u32::try_from(binary::number(input)?).map_err(|_| Malformed)?;
        let token = eight_bytes(input)?;
        let attempt_id = if flags & NAMED != 0 { Some(binary::text(input)?.into()) } else { None };
        let length = if flags & LENGTH != 0 { binary::number(input)? } else { u64::MAX };
        let group = if flags & GROUP != 0 { Some(GroupHash(eight_bytes(input)?)) } else { None };
        let left = ends.saturating_sub(now.wall).min(length);
        let since = now.wall.saturating_sub(ends);
        Ok(Self {
            visible_at: now.monotonic.saturating_add(left).saturating_sub(since),
            attempt,
            token,
            uncounted: flags & UNCOUNTED != 0,
            fifo: flags & FIFO != 0,
            group,
            attempt_id,
        })
    }
}

fn eight_bytes(input: &mut &[u8]) -> Result<u64, Malformed> {
    let (bytes, rest) = input.split_first_chunk().ok_or(Malformed)?;
    *input = rest;
    Ok(u64::from_le_bytes(*bytes))
}

/// The leases of one group on one queue, by offset, by end, by message group and by attempt id.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_offset: BTreeMap<u64, Lease>,
    by_time: BTreeSet<(u64, u64)>,
    groups: MessageGroups,
    // By the hash of the attempt id.
    by_attempt: BTreeSet<(u64, u64)>,
    passed_over: usize,
    without_group: usize,
}

impl Leases {
    /// The lease on this message.
    pub(super) fn get(&self, offset: u64) -> Option<&Lease> {
        self.by_offset.get(&offset)
    }

    /// Sets or removes the lease on a message. Returns the one that it had.
    pub(super) fn replace(&mut self, offset: u64, lease: Option<Lease>) -> Option<Lease> {
        let old = self.by_offset.remove(&offset);
        if let Some(old) = &old {
            self.by_time.remove(&(old.visible_at, offset));
            self.passed_over -= usize::from(old.is_passed_over());
            match old.group {
                Some(group) => self.groups.remove(group, offset, old.visible_at),
                None => self.without_group -= 1,
            }
            if let Some(attempt_id) = &old.attempt_id {
                self.by_attempt.remove(&(hash(attempt_id), offset));
            }
        }
        if let Some(new) = lease {
            self.by_time.insert((new.visible_at, offset));
            self.passed_over += usize::from(new.is_passed_over());
            match new.group {
                Some(group) => self.groups.insert(group, offset, new.visible_at),
                None => self.without_group += 1,
            }
            if let Some(attempt_id) = &new.attempt_id {
                self.by_attempt.insert((hash(attempt_id), offset));
            }
            self.by_offset.insert(offset, new);
        }
        old
    }

    /// The message groups.
    pub(super) fn groups(&self) -> &MessageGroups {
        &self.groups
    }

    /// Whether the message group of a lease is not known.
    pub(super) fn has_unknown_group(&self) -> bool {
        self.without_group > 0
    }

    /// How many messages were delivered and are not settled.
    pub(super) fn delivered(&self) -> usize {
        self.by_offset.len() - self.passed_over
    }

    /// How many messages wait behind others of their message group.
    pub(super) fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// The messages that receives with this attempt id have got and that are not settled, in order.
    pub(super) fn of_attempt(&self, attempt_id: &str) -> impl Iterator<Item = (u64, &Lease)> {
        let hash = hash(attempt_id);
        let offsets = self.by_attempt.range((hash, 0)..=(hash, u64::MAX)).map(|(_, offset)| *offset);
        let leases = offsets.filter_map(|offset| Some((offset, self.get(offset)?)));
        leases.filter(move |(_, lease)| lease.attempt_id.as_deref() == Some(attempt_id))
    }

    /// The lease that ends first.
    pub(super) fn first_to_end(&self) -> Option<LeaseEnd> {
        let (at, offset) = *self.by_time.first()?;
        Some(LeaseEnd { at, offset })
    }

    /// How many leases are over, up to `max`.
    pub(super) fn count_over(&self, now: u64, max: usize) -> usize {
        self.by_time.iter().take(max).take_while(|(visible_at, _)| *visible_at <= now).count()
    }

    /// The leases that ended after `from`, up to `to`. None if `to` is earlier: others may have looked after the caller read
    /// the clock.
    pub(super) fn ended_within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Lease)> {
        let later = self.by_time.range((from.saturating_add(1), 0)..);
        let ended = later.take_while(move |(visible_at, _)| *visible_at <= to);
        ended.filter_map(|(_, offset)| Some((*offset, self.get(*offset)?)))
    }

    /// When the next lease ends that ends after this time.
    pub(super) fn next_end_after(&self, now: u64) -> Option<u64> {
        self.by_time.range((now.saturating_add(1), 0)..).next().map(|(visible_at, _)| *visible_at)
    }

    /// Whether all leases are over. True if there are none.
    pub(super) fn all_over(&self, now: u64) -> bool {
        self.last_end().is_none_or(|last| last <= now)
    }

    fn last_end(&self) -> Option<u64> {
        self.by_time.last().map(|(visible_at, _)| *visible_at)
    }

    /// The highest offset with a lease.
    pub(super) fn last_offset(&self) -> Option<u64> {
        self.by_offset.last_key_value().map(|(offset, _)| *offset)
    }

    /// The leases, in order of offset.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Lease)> {
        self.by_offset.iter().map(|(offset, lease)| (*offset, lease))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }
}

fn hash(attempt_id: &str) -> u64 {
    xxh3_64(attempt_id.as_bytes())
}

/// When the lease on a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LeaseEnd {
    /// Ms of [`clock::monotonic`].
    pub(super) at: u64,
    pub(super) offset: u64,
}

/// The coordinates of a delivery: `queue.offset.token.topic`, the token in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coordinates {
    pub(super) queue: u32,
    pub(super) offset: u64,
    pub(super) token: u64,
    /// The topic's id, which another topic of the same name does not have. Older versions did not include it.
    pub(super) topic: Option<u32>,
}

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:x}", self.queue, self.offset, self.token)?;
        self.topic.map_or(Ok(()), |topic| write!(f, ".{topic}"))
    }
}

impl FromStr for Coordinates {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(Malformed);
        let queue = part()?.parse().map_err(|_| Malformed)?;
        let offset = part()?.parse().map_err(|_| Malformed)?;
        let token = u64::from_str_radix(part()?, 16).map_err(|_| Malformed)?;
        let topic = parts.next().map(|topic| topic.parse().map_err(|_| Malformed)).transpose()?;
        if parts.next().is_some() { Err(Malformed) } else { Ok(Self { queue, offset, token, topic }) }
    }
}

#[cfg(test)]
impl Lease {
    /// A first delivery, not in order, until this time.
    pub(super) fn until(visible_at: u64) -> Self {
        Self {
            visible_at,
            attempt: 1,
            token: 0,
            uncounted: false,
            fifo: false,
            group: None,
            attempt_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leases() -> impl Strategy<Value = Lease> {
        let (group, id) = (prop::option::of(any::<u64>()), prop::option::of(".*"));
        (0u64..1 << 50, 0u32..1 << 20, any::<u64>(), any::<bool>(), any::<bool>(), group, id).prop_map(
            |(visible_at, attempt, token, uncounted, fifo, group, id)| Lease {
                visible_at,
                attempt,
                token,
                uncounted,
                fifo,
                group: group.map(GroupHash),
                attempt_id: id.map(Into::into),
            },
        )
    }

    const NOW: Moment = Moment { wall: 1 << 49, monotonic: 1 << 48 };

    proptest! {
        #[test]
        fn leases_come_back(lease in leases()) {
            prop_assert_eq!(Lease::decode_at(&lease.encode_at(NOW), NOW), Ok(lease));
        }

        #[test]
        fn coordinates_come_back(
            queue in any::<u32>(),
            offset in any::<u64>(),
            token in any::<u64>(),
            topic in prop::option::of(any::<u32>()),
        ) {
            let coordinates = Coordinates { queue, offset, token, topic };
            prop_assert_eq!(coordinates.to_string().parse(), Ok(coordinates));
        }

        #[test]
        fn junk_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), text in ".*") {
            let _ = Lease::decode(&bytes);
            let _ = text.parse::<Coordinates>();
        }

        #[test]
        fn all_orders_hold_the_same_leases(
            steps in prop::collection::vec((0u64..8, prop::option::of(0u64..8), 0u64..3), 0..40),
        ) {
            let mut leases = Leases::default();
            let mut model = BTreeMap::new();
            for (offset, visible_at, group) in steps {
                match visible_at {
                    Some(visible_at) => {
                        let attempt_id = (group > 0).then(|| group.to_string().into());
                        let group = (group > 0).then_some(GroupHash(group));
                        let lease = Lease { group, attempt_id, ..Lease::until(visible_at) };
                        leases.replace(offset, Some(lease));
                        model.insert(offset, visible_at);
                    }
                    None => {
                        leases.replace(offset, None);
                        model.remove(&offset);
                    }
                }
                let mut by_time: Vec<_> = model.iter().map(|(offset, at)| (*at, *offset)).collect();
                by_time.sort_unstable();
                prop_assert_eq!(leases.by_time.iter().copied().collect::<Vec<_>>(), by_time);
                let by_offset = leases.iter().map(|(offset, lease)| (offset, lease.visible_at));
                prop_assert!(by_offset.eq(model.iter().map(|(offset, at)| (*offset, *at))));
                let mut found = leases.without_group;
                for group in 1..3 {
                    let offsets: Vec<_> = leases.groups.offsets(GroupHash(group)).collect();
                    found += offsets.len();
                    let last = offsets.iter().map(|offset| model[offset]).max();
                    prop_assert_eq!(last.is_some_and(|last| last <= 4), leases.groups.is_free(GroupHash(group), 4));
                    let attempt_id = group.to_string();
                    let of_attempt: Vec<_> = leases.of_attempt(&attempt_id).map(|(offset, _)| offset).collect();
                    prop_assert_eq!(of_attempt, offsets);
                }
                prop_assert_eq!(found, model.len());
            }
        }
    }

    #[test]
    fn leases_end_within_a_time_that_may_be_empty() {
        let mut leases = Leases::default();
        for at in [1, 2, 3] {
            leases.replace(at, Some(Lease::until(at)));
        }
        let within = |from, to| leases.ended_within(from, to).map(|(offset, _)| offset).collect::<Vec<_>>();
        assert_eq!(within(0, 2), [1, 2]);
        assert_eq!(within(2, u64::MAX), [3]);
        for (from, to) in [(2, 2), (3, 1), (u64::MAX, 0)] {
            assert!(within(from, to).is_empty(), "{from} {to}");
        }
    }

    #[test]
    fn a_stored_lease_ends_in_time_however_the_wall_clock_was_set() {
        const HOUR: u64 = 3_600_000;
        let stored = Lease::until(NOW.monotonic + 60_000).encode_at(NOW);
        // The process starts again ten seconds later, and its monotonic clock with it.
        for (wall, left) in [(NOW.wall + 10_000, 50_000), (NOW.wall + 10_000 - HOUR, 60_000), (0, 60_000)] {
            let loaded = Lease::decode_at(&stored, Moment { wall, monotonic: wall + HOUR }).expect("a lease");
            assert_eq!(loaded.visible_at, wall + HOUR + left, "{wall}");
        }
        let later = Moment { wall: NOW.wall + HOUR, monotonic: NOW.monotonic };
        assert!(Lease::decode_at(&stored, later).expect("a lease").is_over(NOW.monotonic));
    }

    #[test]
    fn a_lease_of_an_older_version_is_read() {
        let mut stored = Vec::new();
        for number in [FIFO, NOW.wall + 500, 3] {
            binary::put_number(&mut stored, number);
        }
        stored.extend_from_slice(&7u64.to_le_bytes());
        let lease = Lease::decode_at(&stored, NOW).expect("a lease");
        assert_eq!((lease.visible_at, lease.attempt, lease.token), (NOW.monotonic + 500, 3, 7));
    }
}
