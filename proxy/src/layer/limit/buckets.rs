//! The buckets of one quota, in bounded memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::bucket::{Allowance, Bucket};

/// Buckets of one quota. Names come from clients: who comes when there are so many shares one with the others.
const MAX_BUCKETS: usize = 10_000;
/// Shares of clients in all buckets of one quota.
const MAX_SHARES: usize = 10_000;
/// How often buckets that are full again are looked for, and how often at most if there are too many.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
const SWEEP_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Which bucket: the one of a name, by the name's hash, which has a secret key, or the one that has no name.
pub(super) type Name = Option<u64>;

/// The buckets of one quota.
pub(super) struct Buckets {
    allowance: Arc<Allowance>,
    /// Whether several clients share a bucket.
    shared: bool,
    /// For a quota that has one bucket only, and for all names beyond the bound.
    nameless: Bucket,
    named: FxHashMap<u64, Bucket>,
    shares: usize,
    swept: Instant,
}

impl Buckets {
    pub(super) fn new(allowance: Allowance, shared: bool, now: Instant) -> Self {
        let allowance = Arc::new(allowance);
        let nameless = Bucket::full(&allowance, true, now);
        Self { allowance, shared, nameless, named: FxHashMap::default(), shares: 0, swept: now }
    }

    /// Which bucket is in use for a name from now on, and the number by which it knows a client.
    pub(super) fn ask(&mut self, name: Name, client: u64, now: Instant) -> (Name, u64) {
        let is_full = self.named.len() >= MAX_BUCKETS || self.shares >= MAX_SHARES;
        let wait = if is_full { SWEEP_AT_MOST_EVERY } else { SWEEP_EVERY };
        if now.saturating_duration_since(self.swept) >= wait {
            self.sweep(now);
        }
        let name = name.filter(|name| self.named.contains_key(name) || self.add(*name, now));
        let room = self.shares < MAX_SHARES;
        let bucket = self.get(name);
        let before = bucket.clients();
        let client = bucket.ask(client, room, now);
        let after = bucket.clients();
        self.shares = (self.shares + after).saturating_sub(before);
        (name, client)
    }

    /// The bucket of a name that is in use.
    pub(super) fn get(&mut self, name: Name) -> &mut Bucket {
        name.and_then(|name| self.named.get_mut(&name)).unwrap_or(&mut self.nameless)
    }

    /// Adds a full bucket. Returns whether there was room.
    fn add(&mut self, name: u64, now: Instant) -> bool {
        if self.named.len() >= MAX_BUCKETS {
            return false;
        }
        self.named.insert(name, Bucket::full(&self.allowance, self.shared, now));
        true
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = now;
        self.named.retain(|_, bucket| {
            bucket.forget_clients(now);
            !bucket.is_idle(now)
        });
        self.nameless.forget_clients(now);
        self.shares = self.named.values().map(Bucket::clients).sum::<usize>() + self.nameless.clients();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::limit::quota::{Per, Quota, Rate};

    #[test]
    fn clients_that_are_gone_make_room_for_shares_in_buckets_that_stay() {
        let quota = Quota {
            send_messages_per_second: std::num::NonZeroU64::new(1),
            ..Quota::new("q".to_owned(), Per::Topic)
        };
        let mut now = Instant::now();
        let mut buckets = Buckets::new(Allowance::new(&quota, std::num::NonZeroU32::MIN), true, now);
        let (busy, left) = (Some(1), Some(2));
        for client in 1..=MAX_SHARES as u64 {
            buckets.ask(left, client, now);
        }
        buckets.ask(busy, 1, now);
        let (_, together) = buckets.ask(busy, 7, now);
        assert_ne!(together, 7, "there is no room");
        now += Duration::from_secs(60);
        assert_eq!(buckets.ask(busy, 7, now), (busy, 7));
    }

    #[test]
    fn strangers_names_take_bounded_memory_and_full_buckets_are_forgotten() {
        let quota = Quota {
            send_messages_per_second: std::num::NonZeroU64::new(1),
            ..Quota::new("q".to_owned(), Per::Topic)
        };
        let allowance = Allowance::new(&quota, std::num::NonZeroU32::MIN);
        let mut take = [0.0; Rate::ALL.len()];
        take[Rate::SendMessages as usize] = 1.0;
        let mut now = Instant::now();
        let mut buckets = Buckets::new(allowance, true, now);
        let send = |buckets: &mut Buckets, name: u64, now: Instant| {
            let (name, client) = buckets.ask(Some(name), name, now);
            buckets.get(name).take(client, &take, now);
            name
        };
        let most = MAX_BUCKETS as u64;
        for name in 0..most {
            assert_eq!(send(&mut buckets, name, now), Some(name));
        }
        for name in most..most + 100 {
            assert_eq!(send(&mut buckets, name, now), None, "the others share one");
        }
        assert_eq!((buckets.named.len(), buckets.shares), (MAX_BUCKETS, MAX_SHARES + 1));
        now += Duration::from_secs(60);
        assert_eq!(send(&mut buckets, most, now), Some(most), "there is room again");
        assert_eq!(buckets.named.len(), 1);
        assert!(buckets.shares <= 2, "{}", buckets.shares);
    }
}
