//! Leases: which messages of a queue are out with consumers, until when, and how they are written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::binary::{self, Malformed};

/// One message out with a consumer, or waiting to be delivered again once `visible_at` has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// When it may be delivered again, ms since 1970.
    pub(super) visible_at: u64,
    /// How often it was delivered to this group.
    pub(super) attempt: u32,
    /// Tells this lease from earlier ones of the same message, which settle nothing any more.
    pub(super) token: u64,
    /// The next delivery is not another attempt.
    pub(super) uncounted: bool,
    /// It was delivered in order: what blocks its queue.
    pub(super) fifo: bool,
    /// The receive that brought it, if it named itself and was in order.
    pub(super) attempt_id: Option<Box<str>>,
}

const UNCOUNTED: u64 = 1;
const FIFO: u64 = 1 << 1;
const NAMED: u64 = 1 << 2;

impl Lease {
    /// Whether the message may be delivered again.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.visible_at <= now
    }

    /// The value to store.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        let flag = |flag, on: bool| if on { flag } else { 0 };
        let named = flag(NAMED, self.attempt_id.is_some());
        binary::put_number(&mut out, flag(UNCOUNTED, self.uncounted) | flag(FIFO, self.fifo) | named);
        binary::put_number(&mut out, self.visible_at);
        binary::put_number(&mut out, self.attempt.into());
        out.extend_from_slice(&self.token.to_le_bytes());
        if let Some(attempt_id) = &self.attempt_id {
            binary::put_text(&mut out, attempt_id);
        }
        out
    }

    /// Reads a value.
    pub(super) fn decode(mut input: &[u8]) -> Result<Self, Malformed> {
        let input = &mut input;
        let flags = binary::number(input)?;
        let visible_at = binary::number(input)?;
        let attempt = u32::try_from(binary::number(input)?).map_err(|_| Malformed)?;
        let (token, rest) = input.split_first_chunk::<8>().ok_or(Malformed)?;
        *input = rest;
        let attempt_id = if flags & NAMED != 0 { Some(binary::text(input)?.into()) } else { None };
        Ok(Self {
            visible_at,
            attempt,
            token: u64::from_le_bytes(*token),
            uncounted: flags & UNCOUNTED != 0,
            fifo: flags & FIFO != 0,
            attempt_id,
        })
    }
}

/// The leases of one group on one queue, by offset and by time.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_offset: BTreeMap<u64, Lease>,
    by_time: BTreeSet<(u64, u64)>,
}

impl Leases {
    /// The lease on this message.
    pub(super) fn get(&self, offset: u64) -> Option<&Lease> {
        self.by_offset.get(&offset)
    }

    /// Sets the lease on a message, in place of one it had.
    pub(super) fn set(&mut self, offset: u64, lease: Lease) {
        self.by_time.insert((lease.visible_at, offset));
        if let Some(old) = self.by_offset.insert(offset, lease) {
            let replaced = (old.visible_at, offset);
            if self.by_offset.get(&offset).is_none_or(|new| new.visible_at != old.visible_at) {
                self.by_time.remove(&replaced);
            }
        }
    }

    /// Ends the lease on a message for good.
    pub(super) fn remove(&mut self, offset: u64) {
        if let Some(lease) = self.by_offset.remove(&offset) {
            self.by_time.remove(&(lease.visible_at, offset));
        }
    }

    /// When the next lease runs out, and on which message.
    pub(super) fn next_over(&self) -> Option<(u64, u64)> {
        self.by_time.first().copied()
    }

    /// How many leases have run out, counting no further than `most`.
    pub(super) fn count_over(&self, now: u64, most: usize) -> usize {
        self.by_time.iter().take(most).take_while(|(visible_at, _)| *visible_at <= now).count()
    }

    /// When the first lease after this time runs out.
    pub(super) fn next_after(&self, now: u64) -> Option<u64> {
        self.by_time.range((now.saturating_add(1), 0)..).next().map(|(visible_at, _)| *visible_at)
    }

    /// When the last lease runs out.
    pub(super) fn last_over(&self) -> Option<u64> {
        self.by_time.last().map(|(visible_at, _)| *visible_at)
    }

    /// The highest offset with a lease.
    pub(super) fn last_offset(&self) -> Option<u64> {
        self.by_offset.last_key_value().map(|(offset, _)| *offset)
    }

    /// All leases, by offset.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Lease)> {
        self.by_offset.iter().map(|(offset, lease)| (*offset, lease))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_offset.len()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }
}

/// What a delivery's coordinates say: `queue.offset.token`, the token in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coordinates {
    pub(super) queue: u32,
    pub(super) offset: u64,
    pub(super) token: u64,
}

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:x}", self.queue, self.offset, self.token)
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
        if parts.next().is_some() { Err(Malformed) } else { Ok(Self { queue, offset, token }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leases() -> impl Strategy<Value = Lease> {
        let id = prop::option::of(".*");
        (0u64..1 << 50, 0u32..1 << 20, any::<u64>(), any::<bool>(), any::<bool>(), id).prop_map(
            |(visible_at, attempt, token, uncounted, fifo, id)| Lease {
                visible_at,
                attempt,
                token,
                uncounted,
                fifo,
                attempt_id: id.map(Into::into),
            },
        )
    }

    fn running_until(visible_at: u64) -> Lease {
        Lease { visible_at, attempt: 1, token: 0, uncounted: false, fifo: false, attempt_id: None }
    }

    proptest! {
        #[test]
        fn leases_come_back(lease in leases()) {
            prop_assert_eq!(Lease::decode(&lease.encode()), Ok(lease));
        }

        #[test]
        fn coordinates_come_back(queue in any::<u32>(), offset in any::<u64>(), token in any::<u64>()) {
            let coordinates = Coordinates { queue, offset, token };
            prop_assert_eq!(coordinates.to_string().parse(), Ok(coordinates));
        }

        #[test]
        fn junk_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), text in ".*") {
            let _ = Lease::decode(&bytes);
            let _ = text.parse::<Coordinates>();
        }

        #[test]
        fn both_orders_hold_the_same_leases(
            steps in prop::collection::vec((0u64..8, prop::option::of(0u64..8)), 0..40),
        ) {
            let mut leases = Leases::default();
            let mut model = BTreeMap::new();
            for (offset, visible_at) in steps {
                match visible_at {
                    Some(visible_at) => {
                        leases.set(offset, running_until(visible_at));
                        model.insert(offset, visible_at);
                    }
                    None => {
                        leases.remove(offset);
                        model.remove(&offset);
                    }
                }
                let mut by_time: Vec<_> = model.iter().map(|(offset, at)| (*at, *offset)).collect();
                by_time.sort_unstable();
                prop_assert_eq!(leases.by_time.iter().copied().collect::<Vec<_>>(), by_time);
                let by_offset = leases.iter().map(|(offset, lease)| (offset, lease.visible_at));
            prop_assert!(by_offset.eq(model.iter().map(|(offset, at)| (*offset, *at))));
            }
        }
    }
}
