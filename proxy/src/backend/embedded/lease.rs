//! Leases on delivered and unsettled messages, with their expiry, and the record format of leases.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64;

use super::binary::{self, Malformed};
use super::clock;
use super::message_groups::{GroupHash, MessageGroups};

/// A lease on a message that was delivered and is not settled. Once `visible_at` has passed, the message may be
/// delivered again. A message that a receive in order has passed over, because its message group was blocked, has a
/// lease with attempt 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// When the message may be delivered again, in ms of [`clock::monotonic`].
    pub(super) visible_at: u64,
    /// How many times the message was delivered to this group.
    pub(super) attempt: u32,
    /// Distinguishes this lease from earlier ones on the same message. Receipt handles of earlier leases are no longer
    /// valid.
    pub(super) token: u64,
    /// Whether the next delivery does not count as another attempt.
    pub(super) uncounted: bool,
    /// Whether the message was delivered in order, so that the lease blocks its message group.
    pub(super) fifo: bool,
    /// The message group, if the message was delivered in order. Leases written by older versions lack it, and block the
    /// whole queue.
    pub(super) group: Option<GroupHash>,
    /// The attempt id of the receive, if it has one and receives in order.
    pub(super) attempt_id: Option<Box<str>>,
}

const UNCOUNTED: u64 = 1;
const FIFO: u64 = 1 << 1;
const HAS_ATTEMPT_ID: u64 = 1 << 2;
/// The record contains the length. Records of older versions do not.
const HAS_LENGTH: u64 = 1 << 3;
const HAS_GROUP: u64 = 1 << 4;

/// The current time by both clocks, in ms.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    wall: u64,
    monotonic: u64,
}

impl ClockReading {
    fn now() -> Self {
        Self { wall: clock::now(), monotonic: clock::monotonic() }
    }
}

impl Lease {
    /// Whether the message may be delivered again.
    pub(super) fn has_expired(&self, now: u64) -> bool {
        self.visible_at <= now
    }

    /// Whether this is the last attempt: the attempts of the message are exhausted once the lease expires, and the
    /// message becomes a dead letter. `max_attempts` is the maximum number of deliveries of a message to the group.
    pub(super) fn is_last_attempt(&self, max_attempts: u32) -> bool {
        !self.uncounted && self.attempt >= max_attempts
    }

    /// Creates the lease of a message that is passed over because its message group is blocked.
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

    /// Whether the message was passed over and not delivered yet.
    pub(super) fn is_passed_over(&self) -> bool {
        self.attempt == 0
    }

    /// Encodes the value to store: flags, expiry by the wall clock, attempt, token, attempt id, remaining time in ms,
    /// message group.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.encode_at(ClockReading::now())
    }

    /// Decodes a stored value. The lease expires after its remaining time at the latest, even if the wall clock was set
    /// back.
    pub(super) fn decode(input: &[u8]) -> Result<Self, Malformed> {
        Self::decode_at(input, ClockReading::now())
    }

    fn encode_at(&self, now: ClockReading) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        let length = self.visible_at.saturating_sub(now.monotonic);
        let since = now.monotonic.saturating_sub(self.visible_at);
        let flag = |flag, on: bool| if on { flag } else { 0 };
        let named = flag(HAS_ATTEMPT_ID, self.attempt_id.is_some());
        let grouped = flag(HAS_GROUP, self.group.is_some());
        let flags = flag(UNCOUNTED, self.uncounted) | flag(FIFO, self.fifo) | named | HAS_LENGTH | grouped;
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

    fn decode_at(mut input: &[u8], now: ClockReading) -> Result<Self, Malformed> {
        let input = &mut input;
        let flags = binary::number(input)?;
        let ends = binary::number(input)?;
        let attempt = u32::try_from(binary::number(input)?).map_err(|_| Malformed)?;
        let token = eight_bytes(input)?;
        let attempt_id = if flags & HAS_ATTEMPT_ID != 0 { Some(binary::text(input)?.into()) } else { None };
        let length = if flags & HAS_LENGTH != 0 { binary::number(input)? } else { u64::MAX };
        let group = if flags & HAS_GROUP != 0 { Some(GroupHash(eight_bytes(input)?)) } else { None };
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

/// The leases of one group on one queue, indexed by offset, expiry, message group and attempt id.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_offset: BTreeMap<u64, Lease>,
    // Times of expiry in ms, and offsets.
    by_time: BTreeSet<(u64, u64)>,
    groups: MessageGroups,
    // Hashes of attempt ids, and offsets.
    by_attempt: BTreeSet<(u64, u64)>,
    passed_over: usize,
    without_group: usize,
}

impl Leases {
    /// Returns the lease on a message.
    pub(super) fn get(&self, offset: u64) -> Option<&Lease> {
        self.by_offset.get(&offset)
    }

    /// Sets or removes the lease on a message. Returns its previous lease.
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

    /// The message groups of the leases.
    pub(super) fn groups(&self) -> &MessageGroups {
        &self.groups
    }

    /// Whether the message group of any lease is unknown.
    pub(super) fn has_unknown_group(&self) -> bool {
        self.without_group > 0
    }

    /// The number of messages that were delivered and are not settled.
    pub(super) fn delivered(&self) -> usize {
        self.by_offset.len() - self.passed_over
    }

    /// The number of messages that wait for their first delivery behind others of their message group.
    pub(super) fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// The leases that receives with this attempt id have taken, in order of offset.
    pub(super) fn of_attempt(&self, attempt_id: &str) -> impl Iterator<Item = (u64, &Lease)> {
        let hash = hash(attempt_id);
        let offsets = self.by_attempt.range((hash, 0)..=(hash, u64::MAX)).map(|(_, offset)| *offset);
        let leases = offsets.filter_map(|offset| Some((offset, self.get(offset)?)));
        leases.filter(move |(_, lease)| lease.attempt_id.as_deref() == Some(attempt_id))
    }

    /// The lease that expires first.
    pub(super) fn first_to_expire(&self) -> Option<LeaseEnd> {
        let (at, offset) = *self.by_time.first()?;
        Some(LeaseEnd { at, offset })
    }

    /// Counts expired leases, up to `max`.
    pub(super) fn count_expired(&self, now: u64, max: usize) -> usize {
        self.by_time.iter().take(max).take_while(|(visible_at, _)| *visible_at <= now).count()
    }

    /// The leases that expired after `from` and not after `to`. Empty if `to` is earlier than `from`.
    pub(super) fn expired_within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Lease)> {
        let later = self.by_time.range((from.saturating_add(1), 0)..);
        let ended = later.take_while(move |(visible_at, _)| *visible_at <= to);
        ended.filter_map(|(_, offset)| Some((*offset, self.get(*offset)?)))
    }

    /// The leases of receives in order that stopped blocking their message group after `from` and not after `to`, because
    /// all running leases of the message group had expired then. The first number is that time, the second the offset.
    pub(super) fn unblocked_within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64, &Lease)> {
        let is_one_group = self.has_unknown_group();
        let last = self.last_end().filter(|end| is_one_group && *end > from && *end <= to);
        let all = last.into_iter().flat_map(|end| self.by_offset.iter().map(move |lease| (end, lease)));
        let groups = (!is_one_group).then(|| self.groups.unblocked_within(from, to)).into_iter().flatten();
        let of_group = |(end, group)| {
            let leases =
                self.groups.offsets(group).filter_map(|offset| self.by_offset.get_key_value(&offset));
            // Those that were passed over come last.
            leases.take_while(|(_, lease)| !lease.is_passed_over()).map(move |lease| (end, lease))
        };
        let unblocked = all.chain(groups.flat_map(of_group));
        unblocked.filter(|(_, (_, lease))| lease.fifo).map(|(end, (offset, lease))| (end, *offset, lease))
    }

    /// When the next lease expires after this time.
    pub(super) fn next_expiry_after(&self, now: u64) -> Option<u64> {
        self.by_time.range((now.saturating_add(1), 0)..).next().map(|(visible_at, _)| *visible_at)
    }

    /// Whether all leases have expired. True if there are no leases.
    pub(super) fn all_expired(&self, now: u64) -> bool {
        self.last_end().is_none_or(|last| last <= now)
    }

    /// When the last lease expires. `None` without leases.
    pub(super) fn last_end(&self) -> Option<u64> {
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

    /// Whether there are no leases.
    pub(super) fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }
}

fn hash(attempt_id: &str) -> u64 {
    xxh3_64(attempt_id.as_bytes())
}

/// The expiry of the lease on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LeaseEnd {
    /// In ms of [`clock::monotonic`].
    pub(super) at: u64,
    pub(super) offset: u64,
}

/// The coordinates of a delivery: `queue.offset.token.topic.group.until`, the token and the time in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coordinates {
    pub(super) queue: u32,
    pub(super) offset: u64,
    pub(super) token: u64,
    /// The id of the topic. A later topic of the same name has another id. `None` in handles of older versions.
    pub(super) topic: Option<u32>,
    /// The id of the group, as for the topic.
    pub(super) group: Option<u32>,
    /// When the lease expires, in ms of [`clock::monotonic`]. `None` in handles of older versions.
    pub(super) until: Option<u64>,
}

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:x}", self.queue, self.offset, self.token)?;
        // There is no group without a topic, and no time without a group.
        let (Some(topic), group) = (self.topic, self.group) else { return Ok(()) };
        write!(f, ".{topic}")?;
        let Some(group) = group else { return Ok(()) };
        write!(f, ".{group}")?;
        self.until.map_or(Ok(()), |until| write!(f, ".{until:x}"))
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
        let mut id = || parts.next().map(|id| id.parse().map_err(|_| Malformed)).transpose();
        let (topic, group) = (id()?, id()?);
        let until =
            parts.next().map(|until| u64::from_str_radix(until, 16).map_err(|_| Malformed)).transpose()?;
        if parts.next().is_some() {
            return Err(Malformed);
        }
        Ok(Self { queue, offset, token, topic, group, until })
    }
}

#[cfg(test)]
impl Lease {
    /// Creates the lease of a first delivery, not in order, that expires at this time.
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

    const NOW: ClockReading = ClockReading { wall: 1 << 49, monotonic: 1 << 48 };

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
            ids in prop::option::of((any::<u32>(), prop::option::of((any::<u32>(), prop::option::of(any::<u64>()))))),
        ) {
            let (topic, rest) = (ids.map(|(topic, _)| topic), ids.and_then(|(_, rest)| rest));
            let (group, until) = (rest.map(|(group, _)| group), rest.and_then(|(_, until)| until));
            let coordinates = Coordinates { queue, offset, token, topic, group, until };
            prop_assert_eq!(coordinates.to_string().parse(), Ok(coordinates));
        }

        #[test]
        fn junk_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), text in ".*") {
            let _ = Lease::decode(&bytes);
            let _ = text.parse::<Coordinates>();
        }

        #[test]
        fn all_indexes_contain_the_same_leases(
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
                    prop_assert_eq!(last.is_some_and(|last| last <= 4), leases.groups.is_unblocked(GroupHash(group), 4));
                    let attempt_id = group.to_string();
                    let of_attempt: Vec<_> = leases.of_attempt(&attempt_id).map(|(offset, _)| offset).collect();
                    prop_assert_eq!(of_attempt, offsets);
                }
                prop_assert_eq!(found, model.len());
            }
        }
    }

    #[test]
    fn leases_that_expired_within_a_range_are_found() {
        let mut leases = Leases::default();
        for at in [1, 2, 3] {
            leases.replace(at, Some(Lease::until(at)));
        }
        let within = |from, to| leases.expired_within(from, to).map(|(offset, _)| offset).collect::<Vec<_>>();
        assert_eq!(within(0, 2), [1, 2]);
        assert_eq!(within(2, u64::MAX), [3]);
        for (from, to) in [(2, 2), (3, 1), (u64::MAX, 0)] {
            assert!(within(from, to).is_empty(), "{from} {to}");
        }
    }

    #[test]
    fn a_stored_lease_expires_in_time_after_the_wall_clock_was_set() {
        const HOUR: u64 = 3_600_000;
        let stored = Lease::until(NOW.monotonic + 60_000).encode_at(NOW);
        // The process restarts ten seconds later with a new monotonic clock.
        for (wall, left) in [(NOW.wall + 10_000, 50_000), (NOW.wall + 10_000 - HOUR, 60_000), (0, 60_000)] {
            let loaded =
                Lease::decode_at(&stored, ClockReading { wall, monotonic: wall + HOUR }).expect("a lease");
            assert_eq!(loaded.visible_at, wall + HOUR + left, "{wall}");
        }
        let later = ClockReading { wall: NOW.wall + HOUR, monotonic: NOW.monotonic };
        assert!(Lease::decode_at(&stored, later).expect("a lease").has_expired(NOW.monotonic));
    }

    #[test]
    fn leases_of_older_versions_are_decoded() {
        let mut stored = Vec::new();
        for number in [FIFO, NOW.wall + 500, 3] {
            binary::put_number(&mut stored, number);
        }
        stored.extend_from_slice(&7u64.to_le_bytes());
        let lease = Lease::decode_at(&stored, NOW).expect("a lease");
        assert_eq!((lease.visible_at, lease.attempt, lease.token), (NOW.monotonic + 500, 3, 7));
    }
}
