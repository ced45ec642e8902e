//! The buckets of one quota, in bounded memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::bucket::{Allowance, Bucket};

/// The maximum number of buckets of one quota. Names come from clients, so that their number must be bounded: further
/// names use a common bucket.
const MAX_BUCKETS: usize = 10_000;
/// The maximum number of shares of clients in all buckets of one quota.
const MAX_SHARES: usize = 10_000;
/// How often idle buckets are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How often idle buckets are removed while there are too many.
const MIN_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The key of a bucket: the keyed hash of a name, or `None` for the common bucket.
pub(super) type BucketKey = Option<u64>;

/// A client's share in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShareKey {
    pub(super) bucket: BucketKey,
    /// The keyed hash of the client.
    pub(super) client: u64,
}

/// The buckets of one quota.
pub(super) struct Buckets {
    allowance: Arc<Allowance>,
    /// Whether several clients share a bucket.
    shared: bool,
    /// The bucket of a quota that is not divided by names, and of names for which there is no room.
    common: Bucket,
    named: FxHashMap<u64, Bucket>,
    /// The number of shares in all buckets.
    shares: usize,
    swept: Instant,
}

impl Buckets {
    pub(super) fn new(allowance: Allowance, shared: bool, now: Instant) -> Self {
        let allowance = Arc::new(allowance);
        let common = Bucket::full(&allowance, true, now);
        Self { allowance, shared, common, named: FxHashMap::default(), shares: 0, swept: now }
    }

    /// Changes the limits. Buckets keep the tokens that they have, up to the new capacity.
    pub(super) fn set_allowance(&mut self, allowance: Allowance, now: Instant) {
        self.allowance = Arc::new(allowance);
        for bucket in self.named.values_mut().chain([&mut self.common]) {
            bucket.set_allowance(&self.allowance, now);
        }
    }

    /// Selects a share and its bucket. Creates both if there is room; otherwise the client shares those of others.
    pub(super) fn select(&mut self, wanted: ShareKey, now: Instant) -> ShareKey {
        let ShareKey { bucket: name, client } = wanted;
        let is_full = self.named.len() >= MAX_BUCKETS || self.shares >= MAX_SHARES;
        let wait = if is_full { MIN_SWEEP_INTERVAL } else { SWEEP_INTERVAL };
        if now.saturating_duration_since(self.swept) >= wait {
            self.sweep(now);
        }
        let name = name.filter(|name| self.named.contains_key(name) || self.add(*name, now));
        let has_room = self.shares < MAX_SHARES;
        let bucket = self.get(name);
        let before = bucket.clients();
        let client = bucket.register(client, has_room, now);
        let after = bucket.clients();
        self.shares = (self.shares + after).saturating_sub(before);
        ShareKey { bucket: name, client }
    }

    /// The bucket with this key.
    pub(super) fn get(&mut self, name: BucketKey) -> &mut Bucket {
        name.and_then(|name| self.named.get_mut(&name)).unwrap_or(&mut self.common)
    }

    /// Adds a full bucket. Returns `false` if there is no room.
    fn add(&mut self, name: u64, now: Instant) -> bool {
        if self.named.len() >= MAX_BUCKETS {
            return false;
        }
        self.named.insert(name, Bucket::full(&self.allowance, self.shared, now));
        true
    }

    /// Removes idle buckets and inactive clients.
    fn sweep(&mut self, now: Instant) {
        self.swept = now;
        self.named.retain(|_, bucket| {
            bucket.remove_inactive_clients(now);
            !bucket.is_idle(now)
        });
        self.common.remove_inactive_clients(now);
        self.shares = self.named.values().map(Bucket::clients).sum::<usize>() + self.common.clients();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::limit::quota::{Per, Quota, Rate};

    #[test]
    fn inactive_clients_make_room_for_shares_in_other_buckets() {
        let quota = Quota {
            send_messages_per_second: std::num::NonZeroU64::new(1),
            ..Quota::new("q".to_owned(), Per::Topic)
        };
        let mut now = Instant::now();
        let mut buckets = Buckets::new(Allowance::new(&quota, std::num::NonZeroU32::MIN), true, now);
        let (busy, left) = (Some(1), Some(2));
        for client in 1..=MAX_SHARES as u64 {
            buckets.select(ShareKey { bucket: left, client }, now);
        }
        buckets.select(ShareKey { bucket: busy, client: 1 }, now);
        let wanted = ShareKey { bucket: busy, client: 7 };
        assert_ne!(buckets.select(wanted, now).client, 7, "there is no room");
        now += Duration::from_secs(60);
        assert_eq!(buckets.select(wanted, now), wanted);
    }

    #[test]
    fn names_of_clients_take_bounded_memory_and_full_buckets_are_removed() {
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
            let share = buckets.select(ShareKey { bucket: Some(name), client: name }, now);
            buckets.get(share.bucket).take(share.client, &take, now);
            share.bucket
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
